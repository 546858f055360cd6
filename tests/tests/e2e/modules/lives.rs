//! Loading, stopping, removing, measuring.

use std::time::Instant;

use runner_tests::scratch::Scratch;
use runner_tests::wait::eventually;
use runner_tests::{Runner, proc};
use serde_json::{Value, json};

use super::{LONG, Version, load, message, runner};

const PLUGIN: &str = "managed@1-0-0";

fn names(runner: &Runner) -> Vec<String> {
    let modules = runner.modules();
    let name = |module: &Value| module["name"].as_str().unwrap_or_default().to_owned();
    modules.iter().map(name).collect()
}

/// Processes that a hung run has started.
fn sleepers(runner: &Runner) -> Vec<u32> {
    let all = proc::descendants(runner.pid()).into_iter();
    all.filter(|pid| proc::command(*pid).contains("1234"))
        .collect()
}

#[test]
fn one_file_is_two_plugins_under_two_names() {
    let folder = Scratch::new();
    let runner = runner(&folder);
    let elsewhere = Scratch::new();
    let nameless = Version {
        name: "",
        ..Version::default()
    };
    let path = nameless.write(elsewhere.path(), "worker");
    for (name, args) in [("one", json!(["a b", 1])), ("two", json!([]))] {
        let module = load(
            &runner,
            &json!({"target": path, "name": name, "args": args}),
        );
        assert_eq!(module["plugins"], json!([format!("{name}@1-0-0")]));
        assert_eq!(
            (&module["state"], &module["args"]),
            (&json!("RUNNING"), &args)
        );
        assert_eq!(module["origin"], "administrator");
        let task = runner.run_well(&format!("{name}@1-0-0"), &[]);
        let log = task["log"].as_str().unwrap_or_default();
        assert!(log.contains(&args.to_string().replace(',', ", ")), "{log}");
    }
    // With other arguments, and under the name that it has.
    let changed = runner.ask("POST", "/modules/two/reload", Some(&json!({"args": [3]})));
    assert_eq!(changed.expect(200).json()["args"], json!([3]));
    let log = runner.run_well("two@1-0-0", &[])["log"].clone();
    assert!(log.as_str().is_some_and(|log| log.contains("[3]")), "{log}");

    // A module may give itself a name, unless it was given one.
    let own = Version {
        name: "",
        instance: "chosen",
        ..Version::default()
    };
    let path = own.write(elsewhere.path(), "file");
    assert_eq!(load(&runner, &json!({"target": path}))["name"], "chosen");
    let given = load(&runner, &json!({"target": path, "name": "given"}));
    assert_eq!(
        (&given["name"], &given["plugins"]),
        (&json!("given"), &json!(["given@1-0-0"]))
    );
    let taken = message(
        runner.ask("POST", "/modules/", Some(&json!({"target": path}))),
        422,
    );
    assert!(
        taken.contains("\"chosen\", which another module has"),
        "{taken}"
    );
}

#[test]
fn a_module_is_stopped_started_and_removed() {
    let folder = Scratch::new();
    Version::default().write(folder.path(), "managed");
    let runner = runner(&folder);
    runner
        .ask("POST", "/modules/managed/start", None)
        .expect(409);
    let task = runner.submit(PLUGIN, &[("sleep", "1")]);
    let ended = runner
        .ask("POST", "/modules/managed/stop", None)
        .expect(200)
        .json();
    assert_eq!(
        ended,
        json!({"killed": 0}),
        "what was running had the time to end"
    );
    runner.successful(runner.task(task));
    let module = runner.module("managed");
    assert_eq!(
        (&module["state"], &module["reason"]),
        (&json!("EXITED"), &json!("stopped"))
    );
    assert_eq!(
        (&module["plugins"], &module["processes"]),
        (&json!([]), &json!([]))
    );
    runner
        .post_form(&format!("/plugins/{PLUGIN}/process/"), &[])
        .expect(404);
    runner
        .ask("POST", "/modules/managed/stop", None)
        .expect(409);
    runner
        .ask("POST", "/modules/managed/ping", None)
        .expect(409);

    runner
        .ask("POST", "/modules/managed/start", None)
        .expect(200);
    runner.run_well(PLUGIN, &[]);
    runner.ask("DELETE", "/modules/managed/", None).expect(200);
    runner.ask("DELETE", "/modules/managed/", None).expect(404);
    assert!(names(&runner).is_empty());
    // By its name, it is found in its folder again.
    load(&runner, &json!({"target": "managed"}));
    runner.run_well(PLUGIN, &[]);
}

#[test]
fn a_hung_module_is_gone_at_the_deadline_with_all_that_it_started() {
    let folder = Scratch::new();
    Version::default().write(folder.path(), "managed");
    let runner = runner(&folder);
    let task = runner.submit(PLUGIN, &[("hang", "on")]);
    eventually("a hung run", LONG, || {
        (!sleepers(&runner).is_empty()).then_some(())
    });
    let pids = sleepers(&runner);
    let begin = Instant::now();
    let removed = runner
        .ask("DELETE", "/modules/managed/?deadline=0.5", None)
        .expect(200);
    assert!(begin.elapsed() < LONG / 4, "{:?}", begin.elapsed());
    assert_eq!(removed.json(), json!({"killed": 1}));
    assert!(proc::wait_until_gone(&pids, LONG).is_empty());
    assert!(names(&runner).is_empty());
    let log = runner.failed(&runner.finished(task));
    assert!(log.contains("managed@1-0-0"), "{log}");
}

#[test]
fn a_load_that_is_in_progress_is_given_up_by_a_removal() {
    let folder = Scratch::new();
    let runner = runner(&folder);
    let elsewhere = Scratch::new();
    let slow = Version {
        start: 8.0,
        ..Version::default()
    };
    let path = slow.write(elsewhere.path(), "slow");
    std::thread::scope(|scope| {
        let loading =
            scope.spawn(|| runner.ask("POST", "/modules/", Some(&json!({"target": path}))));
        eventually("a load", LONG, || {
            let modules = runner.modules();
            modules
                .first()
                .is_some_and(|module| module["state"] == "INIT")
                .then_some(())
        });
        let twice = message(
            runner.ask("POST", "/modules/", Some(&json!({"target": path}))),
            409,
        );
        assert!(twice.contains("is being loaded"), "{twice}");
        let begin = Instant::now();
        runner.ask("DELETE", "/modules/slow/", None).expect(200);
        assert!(begin.elapsed().as_secs() < 6, "{:?}", begin.elapsed());
        let refused = message(loading.join().expect("an answer"), 422);
        assert!(refused.contains("removed or stopped while"), "{refused}");
    });
    assert!(names(&runner).is_empty());
}

#[test]
fn modules_that_need_each_other_come_in_order_and_do_not_go_before() {
    let folder = Scratch::new();
    let module = |name: &str, manifest: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).expect("a folder is made");
        std::fs::write(
            path.join("plugin.toml"),
            format!("entry = \"run\"\n{manifest}"),
        )
        .expect("a manifest");
        let version = Version {
            name: "",
            ..Version::default()
        };
        version.write(&path, "run");
    };
    module("a-user", "requires = [\"solver\"]");
    module("fast", "provides = [\"solver\"]\nload_priority = 200");
    module("slow", "provides = [\"solver\"]");
    module("lost", "requires = [\"nobody\"]");
    module("round", "requires = [\"about\"]");
    module("about", "after = [\"round\"]");
    module("needy", "needs-env = [\"NOT_SET_ANYWHERE\"]");
    let runner = runner(&folder);
    for (name, state, reason) in [
        ("a-user", "RUNNING", ""),
        ("fast", "RUNNING", ""),
        ("slow", "EXITED", "the module fast provides solver"),
        ("lost", "EXITED", "it requires \"nobody\""),
        ("round", "EXITED", "round -> about -> round"),
        ("about", "EXITED", "about -> round -> about"),
        ("needy", "EXITED", "NOT_SET_ANYWHERE"),
    ] {
        let module = runner.module(name);
        let why = module["reason"].as_str().unwrap_or_default();
        assert_eq!(module["state"], state, "{module:#}");
        assert!(why.contains(reason), "{why}");
    }
    let needed = message(runner.ask("DELETE", "/modules/fast/", None), 409);
    assert!(needed.contains("is required by a-user"), "{needed}");
    runner.ask("DELETE", "/modules/a-user/", None).expect(200);
    runner.ask("DELETE", "/modules/fast/", None).expect(200);
    let missing = message(
        runner.ask("POST", "/modules/", Some(&json!({"target": "a-user"}))),
        422,
    );
    assert!(missing.contains("it requires \"solver\""), "{missing}");
    runner.ask("POST", "/modules/slow/start", None).expect(200);
    load(&runner, &json!({"target": "a-user"}));
}

#[test]
fn runs_and_processes_are_counted() {
    let folder = Scratch::new();
    Version::default().write(folder.path(), "managed");
    let runner = runner(&folder);
    assert!(
        runner.module("managed")["idleSeconds"].is_null()
            || runner.module("managed")["idleSeconds"].is_u64()
    );
    runner
        .ask("DELETE", "/modules/managed/stats", None)
        .expect(204);
    for _ in 0..3 {
        runner.run_well(PLUGIN, &[]);
    }
    let stats = runner
        .ask("GET", "/modules/managed/stats", None)
        .expect(200)
        .json();
    assert_eq!(
        (&stats["succeeded"], &stats["failed"]),
        (&json!(3), &json!(0))
    );
    let pong = runner
        .ask("POST", "/modules/managed/ping", None)
        .expect(200)
        .json();
    assert!(
        pong["milliseconds"].as_f64().is_some_and(|time| time > 0.0),
        "{pong}"
    );
    let usage = runner
        .ask("GET", "/modules/managed/rusage", None)
        .expect(200)
        .json();
    let hosts = usage["hosts"].as_array().expect("hosts");
    let host = hosts
        .iter()
        .find(|host| host["pid"] == pong["pid"])
        .expect("the one that answered");
    assert!(
        host["resident"]
            .as_u64()
            .is_some_and(|bytes| bytes > 100_000),
        "{host}"
    );
    let module = runner
        .ask("GET", "/modules/managed/", None)
        .expect(200)
        .json();
    assert!(module["idleSeconds"].is_u64(), "{module:#}");
    assert_eq!(module["queued"], 0);
    runner
        .ask("DELETE", "/modules/managed/stats", None)
        .expect(204);
    let stats = runner
        .ask("GET", "/modules/managed/stats", None)
        .expect(200)
        .json();
    assert_eq!(stats["succeeded"], 0);
}
