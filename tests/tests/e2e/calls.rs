//! Plugins that call plugins.

use std::time::Duration;

use runner_tests::http::Request;
use runner_tests::{Runner, wait};
use serde_json::Value;

fn runner() -> Runner {
    Runner::builder()
        .plugins(["stable_plugins/demo", "tests/fixtures/e2e"])
        .env("CONCURRENCY", 1)
        .start()
}

fn listed(runner: &Runner, query: &str) -> Vec<Value> {
    let page = runner.get(&format!("/tasks/?{query}")).expect(200).json();
    page["tasks"].as_array().expect("tasks").clone()
}

#[test]
fn a_chain_of_calls_ends_with_one_slot() {
    let runner = runner();
    for bottom in [
        "hello-world",
        "hello-world-python",
        "hello-world-exec@v0-2-1",
    ] {
        let task = runner.run_well(
            "nested@1-0-0",
            &[("depth", "5"), ("then", bottom), ("_label", bottom)],
        );
        let text = runner.output(&task, "out.txt");
        let text = String::from_utf8(text).expect("text");
        assert!(text.starts_with("output of task "), "{text}");
        let label = bottom.replace('@', "%40");
        assert_eq!(
            listed(&runner, &format!("label={label}")).len(),
            7,
            "labels go along"
        );
    }
}

#[test]
fn a_plugin_that_calls_itself_for_ever_is_stopped_and_the_next_task_works() {
    let runner = runner();
    let log = runner.run_badly("endless@1-0-0", &[]);
    assert!(log.contains("more than 16 deep"), "{log}");
    let first = log.lines().next().unwrap_or_default();
    assert!(first.ends_with("endless is not called"), "{first}");
    assert!(
        !log.contains('\\') && log.len() < 8192,
        "a chain of failures can be read, {} bytes",
        log.len()
    );
    assert_eq!(listed(&runner, "plugin=endless").len(), 17);
    assert!(listed(&runner, "status=PENDING").is_empty());
    runner.run_well("hello-world@v0-2-1", &[("inputStr", "x")]);
}

#[test]
fn the_steps_of_a_called_task_are_shown_by_its_caller() {
    let runner = runner();
    let caller = runner.submit("patient@1-0-0", &[]);
    let shown = runner.wait_for(caller, "shows a step", |task| task["steps"].is_array());
    let log = shown["log"].as_str().expect("a log");
    assert!(
        log.contains(
            "first: the parameters for hello-world@v0-2-1 are wrong: inputStr: Not a valid string."
        ),
        "{log}"
    );
    assert!(
        log.contains("second: there is no plugin \"no such plugin\" to call"),
        "{log}"
    );
    assert_eq!(shown["status"], "PENDING");
    let step = &shown["steps"][0];
    assert_eq!(step["cleared"], false);
    let page = runner
        .get(&runner.path_of(step["uiHref"].as_str().expect("a page")))
        .expect(200);
    assert!(page.text().contains("from the caller"));
    // Others are not held up by those that wait.
    runner.run_well("hello-world@v0-2-1", &[("inputStr", "x")]);
    let href = runner.path_of(step["href"].as_str().expect("a link"));
    runner.post_form(&href, &[("inputStr", "y")]).expect(303);
    let ended = runner.successful(runner.finished(caller));
    assert_eq!(ended["steps"][0]["cleared"], true);
    assert!(
        ended["log"]
            .as_str()
            .is_some_and(|log| log.ends_with("2 outputs")),
        "{ended}"
    );
}

#[test]
fn cancelling_a_caller_cancels_what_it_called() {
    let runner = runner();
    let caller = runner.submit("patient@1-0-0", &[]);
    runner.wait_for(caller, "shows a step", |task| task["steps"].is_array());
    runner
        .send(&Request::post(&format!("/tasks/{caller}/cancel")))
        .expect(200);
    wait::eventually("nothing is left to do", Duration::from_secs(10), || {
        listed(&runner, "status=PENDING").is_empty().then_some(())
    });
    let called = listed(&runner, "plugin=hello-world-multi-step");
    assert_eq!(called[0]["state"], "cancelled");
    runner.run_well("hello-world@v0-2-1", &[("inputStr", "x")]);
}

#[test]
fn callers_and_called_survive_a_kill() {
    let mut runner = runner();
    let caller = runner.submit("patient@1-0-0", &[]);
    runner.wait_for(caller, "shows a step", |task| task["steps"].is_array());
    runner.kill9();
    runner.restart();
    // The caller's run was lost and begins again: it calls again, and the step of that call is submitted.
    let shown = runner.wait_for(caller, "shows another step", |task| {
        task["steps"]
            .as_array()
            .is_some_and(|steps| steps.len() == 2)
    });
    let href = runner.path_of(shown["steps"][1]["href"].as_str().expect("a link"));
    runner.post_form(&href, &[("inputStr", "y")]).expect(303);
    runner.successful(runner.finished(caller));
}
