//! Plugins that cannot be loaded: the reason is told, and the others work.

use std::sync::OnceLock;

use runner_tests::Runner;
use serde_json::Value;

use crate::shared::HELLO;

/// Seconds that a description may take.
const DESCRIBE_TIMEOUT: u32 = 5;

/// A runner with all bad plugins, and good ones beside them.
pub(super) fn bad() -> &'static Runner {
    static RUNNER: OnceLock<Runner> = OnceLock::new();
    RUNNER.get_or_init(|| {
        Runner::builder()
            .plugins(["stable_plugins/demo", "tests/fixtures/bad"])
            .env("DESCRIBE_TIMEOUT", DESCRIBE_TIMEOUT)
            .env("CONCURRENCY", 4)
            .start()
    })
}

/// Checks that a module is not loaded; gives the reason.
#[track_caller]
fn exited(name: &str) -> String {
    let module = bad().module(name);
    assert_eq!(module["state"], "EXITED", "{module:#}");
    let reason = module["reason"].as_str().unwrap_or_default().to_owned();
    assert!(!reason.is_empty(), "no reason: {module:#}");
    reason
}

#[test]
fn a_module_that_raises_is_told_with_its_error() {
    let reason = exited("bad_import");
    assert!(reason.contains("This module cannot be loaded."), "{reason}");
}

#[test]
fn a_module_that_exits_is_told_with_its_status() {
    let reason = exited("bad_import_exits");
    assert!(reason.contains('4'), "{reason}");
}

#[test]
fn a_module_that_hangs_is_told_with_the_limit() {
    let reason = exited("bad_import_hangs");
    assert!(
        reason.contains(&format!("{DESCRIBE_TIMEOUT} s")),
        "{reason}"
    );
}

#[test]
fn a_module_that_talks_garbage_is_told_with_what_it_said() {
    let reason = exited("bad_garbage_first");
    assert!(reason.contains("What is it that you want?"), "{reason}");
}

#[test]
fn of_two_modules_with_one_identity_one_is_loaded() {
    let runner = bad();
    let (good, other) = (
        runner.module("hello_world_python"),
        runner.module("bad_identity"),
    );
    let is_exited = |module: &Value| module["state"] == "EXITED";
    assert_ne!(is_exited(&good), is_exited(&other), "{good:#}\n{other:#}");
    let (loser, winner) = if is_exited(&good) {
        (good, other)
    } else {
        (other, good)
    };
    let reason = loser["reason"].as_str().unwrap_or_default();
    let name = winner["name"].as_str().unwrap_or_default();
    assert!(
        reason.contains("hello-world-python@v0-2-1"),
        "it names what both claim: {reason}"
    );
    assert!(
        reason.contains(name),
        "it names {name:?}, which has it: {reason}"
    );
    runner
        .get("/plugins/hello-world-python@v0-2-1/")
        .expect(200);
}

#[test]
fn the_reasons_stand_in_the_log_too() {
    let runner = bad();
    for text in [
        "This module cannot be loaded.",
        "bad_import_hangs",
        "bad_identity",
    ] {
        let log = runner.stderr().replace('-', "_");
        if !log.contains(&text.replace('-', "_")) {
            runner.fail(&format!("{text:?} is not in the log"));
        }
    }
}

#[test]
fn the_others_are_loaded_and_work() {
    let runner = bad();
    let list = runner.get("/plugins/").expect(200).json();
    let listed = list["plugins"].as_array().cloned().unwrap_or_default();
    let names: Vec<_> = listed
        .iter()
        .filter_map(|plugin| plugin["name"].as_str())
        .collect();
    for name in [
        "hello-world",
        "hello-world-exec",
        "hello-world-multi-step",
        "bad-exit",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    for name in [
        "bad-import",
        "bad-import-exits",
        "bad-import-hangs",
        "bad-garbage-first",
    ] {
        assert!(!names.contains(&name), "{names:?}");
    }
    runner.run_well(HELLO, &[("inputStr", "x")]);
}
