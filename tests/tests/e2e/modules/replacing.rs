//! A newer version takes the place of an older one.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use runner_tests::Runner;
use runner_tests::scratch::Scratch;
use runner_tests::wait::eventually;
use serde_json::json;

use super::{LONG, Version, message, replace, runner};

const PLUGIN: &str = "managed@1-0-0";

fn reload(runner: &Runner) -> runner_tests::http::Response {
    runner.ask("POST", "/modules/managed/reload", None)
}

#[test]
fn under_load_no_request_fails_and_no_task_is_lost() {
    const VERSIONS: usize = 6;
    let folder = Scratch::new();
    Version::default().write(folder.path(), "managed");
    let runner = runner(&folder);
    let is_over = AtomicBool::new(false);
    let mut tasks = Vec::new();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut tasks = Vec::new();
                    while !is_over.load(Ordering::Relaxed) {
                        let batch = [(); 4].map(|()| runner.submit(PLUGIN, &[("sleep", "0.01")]));
                        for task in batch {
                            runner.finished(task);
                        }
                        tasks.extend(batch);
                    }
                    tasks
                })
            })
            .collect();
        for version in 1..=VERSIONS {
            let mark = format!("version-{version}");
            let uuid = runner.module("managed")["uuid"].clone();
            if version == VERSIONS / 2 {
                replace(
                    folder.path(),
                    "managed",
                    "#!/bin/sh\necho broken >&2\nexit 3\n",
                );
                let refused = message(reload(&runner), 422);
                assert!(refused.contains("broken"), "{refused}");
                let module = runner.module("managed");
                assert_eq!(
                    (&module["state"], &module["uuid"]),
                    (&json!("RUNNING"), &uuid)
                );
                assert!(
                    module["refused"]
                        .as_str()
                        .is_some_and(|why| why.contains("broken"))
                );
            }
            let newer = Version {
                mark: &mark,
                ..Version::default()
            };
            newer.write(folder.path(), "managed");
            let module = reload(&runner).expect(200).json();
            assert_eq!(module["state"], "RUNNING");
            assert_ne!(module["uuid"], uuid);
            assert!(module["refused"].is_null());
            // What is submitted from here on is done by the newer version.
            let task = runner.run_well(PLUGIN, &[]);
            assert!(
                task["log"].as_str().is_some_and(|log| log.contains(&mark)),
                "{task:#}"
            );
        }
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            tasks.extend(client.join().expect("no request fails"));
        }
    });
    let mut marks = BTreeSet::new();
    for task in &tasks {
        let task = runner.successful(runner.finished(*task));
        let log = task["log"].as_str().unwrap_or_default();
        marks.insert(log.split_whitespace().next().unwrap_or_default().to_owned());
    }
    assert!(
        tasks.len() > VERSIONS && marks.len() > 2,
        "{} tasks, {marks:?}",
        tasks.len()
    );
    // The replaced ones have ended, and nothing of them is shown any more.
    eventually("one load", LONG, || {
        (runner.modules().len() == 1).then_some(())
    });
}

#[test]
fn what_runs_goes_on_with_the_version_it_began_with() {
    let folder = Scratch::new();
    let path = Version::default().write(folder.path(), "managed");
    let runner = runner(&folder);
    let task = runner.submit(PLUGIN, &[("sleep", "2")]);
    eventually("a run", LONG, || {
        let module = runner.module("managed");
        let processes = module["processes"].as_array()?.clone();
        processes
            .iter()
            .any(|process| process["task"] == json!(task))
            .then_some(())
    });
    let newer = Version {
        mark: "second",
        ..Version::default()
    };
    newer.write(folder.path(), "managed");
    reload(&runner).expect(200);
    let states: Vec<_> = runner
        .modules()
        .iter()
        .map(|module| module["state"].clone())
        .collect();
    assert_eq!(states, ["RUNNING", "FINALIZING"]);
    let log = runner.successful(runner.finished(task))["log"].clone();
    assert!(
        log.as_str().is_some_and(|log| log.contains("first")),
        "{log}"
    );
    // Without its file it cannot be reloaded, and runs on.
    std::fs::remove_file(&path).expect("the file is removed");
    let refused = message(reload(&runner), 422);
    assert!(refused.contains("No such file"), "{refused}");
    runner.run_well(PLUGIN, &[]);
}

#[test]
fn a_task_of_several_steps_goes_on_with_a_version_of_the_same_identity_only() {
    let folder = Scratch::new();
    Version::default().write(folder.path(), "managed");
    let runner = runner(&folder);
    let wait = |task| {
        runner.wait_for(task, "waiting", |task| {
            !task["steps"].as_array().is_none_or(Vec::is_empty)
        })
    };
    let tasks = [(); 2].map(|()| runner.submit(PLUGIN, &[("ask", "on")]));
    let steps = tasks.map(|task| {
        wait(task)["steps"][0]["href"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    });
    let newer = Version {
        mark: "second",
        ..Version::default()
    };
    newer.write(folder.path(), "managed");
    reload(&runner).expect(200);
    runner.post_form(&steps[0], &[]).expect(303);
    let log = runner.successful(runner.finished(tasks[0]))["log"].clone();
    let log = log.as_str().unwrap_or_default();
    assert!(log.contains("first") && log.contains("second"), "{log}");
    assert!(log.contains("has changed since its last run"), "{log}");
    let module = runner.task(tasks[0])["module"].clone();
    assert_eq!(
        (&module["changed"], module["runs"].as_array().map(Vec::len)),
        (&json!(true), Some(2))
    );

    let other = Version {
        version: "2.0.0",
        ..Version::default()
    };
    other.write(folder.path(), "managed");
    reload(&runner).expect(200);
    eventually("the end of the older version", LONG, || {
        (runner.modules().len() == 1).then_some(())
    });
    let page = steps[1].replace("-process/", "-ui/");
    let refused = message(runner.get(&page), 409);
    assert!(
        refused.contains("not loaded any more") && refused.contains("managed@2-0-0"),
        "{refused}"
    );
    // It can never be done: the task fails, and says why.
    runner.post_form(&steps[1], &[]).expect(303);
    let log = runner.failed(&runner.finished(tasks[1]));
    assert!(
        log.contains("managed@1-0-0") && log.contains("managed@2-0-0 took its place"),
        "{log}"
    );
}

#[test]
fn a_step_waits_while_its_module_is_stopped() {
    let folder = Scratch::new();
    Version::default().write(folder.path(), "managed");
    let runner = runner(&folder);
    let task = runner.submit(PLUGIN, &[("ask", "on")]);
    let waiting = runner.wait_for(task, "waiting", |task| {
        !task["steps"].as_array().is_none_or(Vec::is_empty)
    });
    let step = waiting["steps"][0]["href"].as_str().unwrap_or_default();
    runner
        .ask("POST", "/modules/managed/stop", None)
        .expect(200);
    let refused = message(runner.post_form(step, &[]), 409);
    assert!(
        refused.contains("it can go on when it is again"),
        "{refused}"
    );
    assert_eq!(runner.task(task)["state"], "waiting");
    runner
        .ask("POST", "/modules/managed/start", None)
        .expect(200);
    runner.post_form(step, &[]).expect(303);
    runner.successful(runner.finished(task));
}

#[test]
fn tasks_that_wait_are_done_before_their_version_ends() {
    let folder = Scratch::new();
    Version::default().write(folder.path(), "managed");
    let runner = Runner::builder()
        .plugins([folder.path()])
        .env("CONCURRENCY", 1)
        .start();
    let tasks: Vec<_> = (0..6)
        .map(|_| runner.submit(PLUGIN, &[("sleep", "0.3")]))
        .collect();
    let newer = Version {
        version: "2.0.0",
        ..Version::default()
    };
    newer.write(folder.path(), "managed");
    reload(&runner).expect(200);
    for task in tasks {
        runner.successful(runner.finished(task));
    }
    runner.run_well("managed@2-0-0", &[]);
}

#[test]
fn of_two_reloads_at_once_one_is_told_of_the_other() {
    let folder = Scratch::new();
    Version::default().write(folder.path(), "managed");
    let runner = runner(&folder);
    let slow = Version {
        start: 2.0,
        ..Version::default()
    };
    slow.write(folder.path(), "managed");
    let mut statuses: Vec<u16> = std::thread::scope(|scope| {
        let reloads: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| reload(&runner).status))
            .collect();
        reloads
            .into_iter()
            .map(|one| one.join().expect("an answer"))
            .collect()
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
}

#[test]
fn with_refuse_a_task_is_run_by_what_it_was_made_for_only() {
    let folder = Scratch::new();
    Version::default().write(folder.path(), "managed");
    let runner = Runner::builder()
        .plugins([folder.path()])
        .env("MODULE_MISMATCH", "refuse")
        .start();
    let task = runner.submit(PLUGIN, &[("ask", "on")]);
    let waiting = runner.wait_for(task, "waiting", |task| {
        !task["steps"].as_array().is_none_or(Vec::is_empty)
    });
    let newer = Version {
        mark: "second",
        ..Version::default()
    };
    newer.write(folder.path(), "managed");
    reload(&runner).expect(200);
    let step = waiting["steps"][0]["href"].as_str().unwrap_or_default();
    runner.post_form(step, &[]).expect(303);
    let log = runner.failed(&runner.finished(task));
    assert!(log.contains("MODULE_MISMATCH is refuse"), "{log}");
    runner.run_well(PLUGIN, &[]);
}
