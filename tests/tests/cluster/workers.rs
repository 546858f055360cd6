//! Workers that are killed, halted, or stopped in order.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use runner_tests::{eventually, proc};
use serde_json::Value;

use crate::audit;
use crate::held::Held;
use crate::load::{Load, PAUSE};
use crate::site::{CONCURRENCY, LEASE, Site, on_all_databases};

on_all_databases!(one_of_two_workers_is_killed);
on_all_databases!(all_workers_are_killed_and_new_ones_come);

fn one_of_two_workers_is_killed(site: &Site) {
    let server = site.server();
    let (mut first, second) = (site.worker(), site.worker());
    let load = Load::default();
    load.submit(&server, 200);
    load.wait_for_ended(&server, 30);
    let below = audit::below(&[first.pid()]);
    first.kill9();
    audit::gone(&below);
    load.submit(&server, 20);
    load.settle(&server);
    audit::load(site, &server, &load);
    audit::strays_of_killed(site, 1);
    audit::end(server, vec![second]);
}

fn all_workers_are_killed_and_new_ones_come(site: &Site) {
    let server = site.server();
    let mut workers = [site.worker(), site.worker()];
    let load = Load::default();
    load.submit(&server, 200);
    load.wait_for_ended(&server, 30);
    let below = audit::below(&workers.each_ref().map(|worker| worker.pid()));
    workers.iter_mut().for_each(|worker| worker.kill9());
    audit::gone(&below);
    load.submit(&server, 20);
    workers.iter_mut().for_each(|worker| worker.restart());
    load.settle(&server);
    audit::load(site, &server, &load);
    audit::strays_of_killed(site, 2);
    audit::end(server, workers.into());
}

#[test]
fn a_run_whose_end_got_lost_begins_again() {
    let site = Site::postgres();
    let server = site.server();
    let worker = site.worker();
    let held = Held::new();
    let task = held.submit(&server, "gate@1-0-0", &[("_runAt", "2099-01-01T00:00:00Z")]);
    // As if the worker had begun it, and had forgotten it since.
    site.database.rows(&format!(
        "UPDATE tasks SET state = 'running', run_at = NULL, \
         holder = (SELECT id FROM workers WHERE kind = 'worker') WHERE id = {task}"
    ));
    held.arrived();
    held.open();
    server.successful(server.finished(task));
    let run = site
        .database
        .number(&format!("SELECT run FROM tasks WHERE id = {task}"));
    assert_eq!(run, 2);
    audit::end(server, vec![worker]);
}

#[test]
fn what_killed_workers_left_in_the_store_is_swept_when_nobody_is_at_work_on_it() {
    let site = Site::postgres();
    let server = site.server();
    let worker = site.worker();
    let load = Load::default();
    load.submit(&server, 20);
    load.settle(&server);
    let keys = [
        "0/0/0123456789ab00000000000000000000",
        "tmp/0123456789ab00000000000000000001",
    ];
    for key in keys {
        let path = site.files().join(key);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
        std::fs::write(path, "x").expect("it can be written");
    }
    assert_eq!(audit::strays(&site).len(), 2);
    // Others may be about to name them.
    let mut second = site.server();
    second.terminate();
    assert_eq!(audit::strays(&site).len(), 2);
    audit::load(&site, &server, &load);
    audit::end(server, vec![worker]);
    let alone = site.process().start();
    eventually("the sweep", Duration::from_secs(10), || {
        audit::strays(&site).is_empty().then_some(())
    });
    audit::load(&site, &alone, &load);
}

#[test]
fn late_writes_of_a_worker_that_was_halted_change_nothing() {
    let site = Site::postgres();
    let server = site.server();
    let mut first = site.worker();
    let held = Held::new();
    let tasks: Vec<_> = (0..CONCURRENCY)
        .map(|n| held.submit(&server, "gate@1-0-0", &[("text", &format!("gate {n}"))]))
        .collect();
    tasks.iter().for_each(|_| held.arrived());
    for task in &tasks {
        // Written as running, so that its holder is known.
        server.wait_for(*task, "running", |task| task["state"] == "running");
    }
    let load = Load::default();
    load.submit(&server, 100);
    first.halt();
    let mut second = site.worker();
    tasks.iter().for_each(|_| held.arrived());
    held.open();
    load.settle(&server);
    for (n, task) in tasks.iter().enumerate() {
        let task = server.successful(server.finished(*task));
        assert_eq!(server.only_output(&task).2, format!("gate {n}").as_bytes());
    }
    let recorded = everything(&site);
    assert!(second.terminate().success());
    first.go_on();
    // All slots of the first one are free again when it has run as many at once.
    let again = Held::new();
    let after: Vec<_> = (0..CONCURRENCY)
        .map(|_| again.submit(&server, "gate@1-0-0", &[]))
        .collect();
    after.iter().for_each(|_| again.arrived());
    again.open();
    for task in after {
        server.successful(server.finished(task));
    }
    let now = everything(&site);
    for row in recorded {
        assert!(now.contains(&row), "changed afterwards: {row:?}");
    }
    audit::load(&site, &server, &load);
    audit::strays_of_killed(&site, 0);
    if first.status().is_some() {
        first.fail("it did not survive");
    }
    audit::end(server, vec![first]);
}

/// Tasks and files as they are recorded.
fn everything(site: &Site) -> Vec<Vec<String>> {
    let tasks =
        "SELECT id, state, run, version, holder, log_length, output_count, finished_at FROM tasks";
    let files = "SELECT id, task, file_key, name, digest FROM files";
    [tasks, files]
        .iter()
        .flat_map(|sql| site.database.rows(sql))
        .collect()
}

#[test]
fn a_worker_that_is_told_to_stop_ends_what_is_short_and_hands_back_the_rest() {
    let site = Site::postgres();
    // So long that nobody could have waited for the end of a lease.
    let process = || site.process().env("WORKER_LEASE", 60);
    let server = process().server().start();
    let mut first = process().env("SHUTDOWN_GRACE", 1.5).start_worker();
    let held = Held::new();
    let long: Vec<_> = (1..CONCURRENCY)
        .map(|n| held.submit(&server, "gate@1-0-0", &[("text", &format!("gate {n}"))]))
        .collect();
    long.iter().for_each(|_| held.arrived());
    let short = server.submit(PAUSE, &[("marker", "short"), ("millis", "600")]);
    server.wait_for(short, "running", |task| {
        task["log"]
            .as_str()
            .is_some_and(|log| log.contains("begins"))
    });
    let queued = server.submit(PAUSE, &[("marker", "queued"), ("millis", "0")]);
    let second = process().env("CONCURRENCY", 8).start_worker();
    server.successful(server.finished(queued));
    let below = audit::below(&[first.pid()]);
    let begin = Instant::now();
    assert!(first.terminate().success());
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(4), "it took {took:?} to stop");
    let begin = Instant::now();
    long.iter().for_each(|_| held.arrived());
    let idle = begin.elapsed();
    assert!(
        idle < Duration::from_secs(1),
        "it took {idle:?} until another worker ran what was handed back"
    );
    audit::gone(&below);
    let short = server.successful(server.finished(short));
    assert_eq!(
        short["attempts"],
        Value::Null,
        "it ended within the grace: {short:#}"
    );
    held.open();
    for task in long {
        let task = server.successful(server.finished(task));
        assert_eq!(
            task["attempts"],
            Value::Null,
            "handing back is no loss: {task:#}"
        );
    }
    audit::nothing_is_stuck(&site);
    audit::queue_is_empty(&site);
    audit::strays_of_killed(&site, 0);
    audit::end(server, vec![second]);
}

#[test]
fn a_task_whose_worker_dies_each_time_is_given_up_and_says_so() {
    let site = Site::postgres();
    let server = site.server();
    let held = Held::new();
    let task = held.submit(&server, "family@1-0-0", &[]);
    for _ in 0..=3 {
        let mut worker = site.worker();
        held.arrived();
        let below = audit::below(&[worker.pid()]);
        worker.kill9();
        audit::gone(&below);
    }
    let worker = site.worker();
    let ended = server.finished(task);
    let log = server.failed(&ended);
    assert!(
        log.contains("ended 4 times") && log.contains("not tried again"),
        "{log}"
    );
    assert!(
        !held.arrived_within(Duration::from_millis(500)),
        "it is not run any more"
    );
    // It can be run once more when somebody says so.
    let retry = format!("/tasks/{task}/retry");
    server.post_form(&retry, &[]).expect(200);
    held.arrived();
    held.open();
    server.successful(server.finished(task));
    audit::nothing_is_stuck(&site);
    audit::queue_is_empty(&site);
    audit::end(server, vec![worker]);
}

#[test]
fn a_plugin_that_is_not_repeatable_is_not_run_again_when_its_worker_dies() {
    let mut site = Site::postgres();
    let plugins = crate::manifests::once();
    site.plugins.push(plugins.path().to_owned());
    let server = site.server();
    let mut worker = site.worker();
    let held = Held::new();
    let task = held.submit(&server, "once@1-0-0", &[]);
    held.arrived();
    let below = audit::below(&[worker.pid()]);
    worker.kill9();
    audit::gone(&below);
    let worker = site.worker();
    let log = server.failed(&server.finished(task));
    assert!(log.contains("not repeatable"), "{log}");
    assert!(
        !held.arrived_within(Duration::from_millis(500)),
        "it is not run again"
    );
    audit::end(server, vec![worker]);
}

#[test]
fn a_halted_server_and_a_halted_worker_are_taken_over_and_come_back() {
    let site = Site::postgres();
    let (server, halted) = (site.server(), site.server());
    let (first, second) = (site.worker(), site.worker());
    let load = Load::default();
    load.submit(&halted, 100);
    halted.signal(Signal::SIGSTOP);
    first.halt();
    load.submit(&server, 50);
    load.settle(&server);
    halted.signal(Signal::SIGCONT);
    first.go_on();
    let known = |pid: u32| {
        let sql = format!("SELECT stopped_at FROM workers WHERE pid = {pid}");
        let rows = site.database.rows(&sql);
        rows.iter().any(|row| row[0].is_empty())
    };
    for pid in [halted.pid(), first.pid()] {
        eventually("a sign of life", Duration::from_secs(3 * LEASE), || {
            (known(pid) && proc::alive(pid)).then_some(())
        });
    }
    load.submit(&halted, 20);
    load.settle(&server);
    audit::load(&site, &server, &load);
    drop(halted);
    audit::end(server, vec![first, second]);
}
