//! What the runner connects to for those who need a token.

use std::time::Duration;

use runner_tests::{HookServer, Reply, Request, Runner};

use super::{required, send, token};

/// The end of a task of the plugin `gate`, which fetches its parameter.
fn fetched(runner: &Runner, url: &str) -> serde_json::Value {
    let user = token("user");
    let submit = Request::post("/plugins/gate@1-0-0/process/").form(&[("url", url)]);
    let task = runner.accepted(&send(runner, submit, &user));
    let get = || Request::get(&format!("/tasks/{task}/?wait=5"));
    let ended = runner_tests::wait::poll(Duration::from_secs(30), || {
        let task = send(runner, get(), &user).expect(200).json();
        (task["status"] != "PENDING").then_some(task)
    });
    ended.unwrap_or_else(|| runner.fail("the task did not end"))
}

#[test]
fn near_addresses_are_refused_but_for_exceptions() {
    let server = HookServer::with(|_| Reply::file("text/plain", "open"));
    let near = server.url("/gate");
    let refusing = required().env("ALLOWED_NETWORKS", "10.0.0.0/8").start();
    let task = fetched(&refusing, &near);
    let log = task["log"].as_str().unwrap_or_default();
    assert_eq!(task["status"], "FAILURE", "{task:#}");
    assert!(
        log.contains("is refused") && log.contains("ALLOWED_NETWORKS"),
        "{log}"
    );
    assert!(server.next_within(Duration::ZERO).is_none(), "it was asked");
    let task = fetched(super::runner(), &near);
    assert_eq!(task["status"], "SUCCESS", "{task:#}");
}
