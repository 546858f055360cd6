//! Webhooks.

use runner_tests::hook::Recorded;
use runner_tests::{Gate, HookServer, Reply, Request, Response, Runner};
use serde_json::{Value, json};

use crate::shared::{HARNESS, HELLO, Held, runner};

fn command(runner: &Runner, task: u64, body: &Value) -> Response {
    runner.post_json(&format!("/tasks/{task}/"), body)
}

fn calls(server: &HookServer, count: usize) -> Vec<String> {
    let calls = server.take(count);
    let text = |call: &Recorded| {
        format!(
            "{} {}",
            call.path(),
            call.query("event").unwrap_or_default()
        )
    };
    let mut calls: Vec<_> = calls.iter().map(text).collect();
    calls.sort();
    calls
}

#[test]
fn duplicates_are_ignored_and_unsubscribing_without_an_event_removes_all() {
    let runner = runner();
    let server = HookServer::start();
    let held = Held::start(runner);
    let task = held.task;
    for _ in 0..3 {
        runner
            .subscribe(task, &server.url("/twice"), Some("status"))
            .expect(200);
    }
    for event in [None, Some("status"), Some("details")] {
        runner
            .subscribe(task, &server.url("/gone"), event)
            .expect(200);
        runner
            .subscribe(task, &server.url("/half"), event)
            .expect(200);
    }
    let unsubscribe =
        |path: &str| json!({"command": "unsubscribe", "webhookHref": server.url(path)});
    command(runner, task, &unsubscribe("/gone")).expect(200);
    let mut half = unsubscribe("/half");
    half["event"] = json!("status");
    command(runner, task, &half).expect(200);
    command(runner, task, &unsubscribe("/never-subscribed")).expect(200);
    held.open();
    runner.successful(runner.finished(task));
    let heard = calls(&server, 4);
    server.expect_no_more();
    assert_eq!(
        heard,
        [
            "/half details",
            "/half details",
            "/half status",
            "/twice status"
        ]
    );
}

#[test]
fn what_the_backend_sends_is_understood() {
    let runner = runner();
    let held = Held::start(runner);
    let path = format!("/tasks/{}/", held.task);
    for href in [
        "http://backend:9090/experiments/1/tasks/2/",
        "http://localhost:9/x",
        "http://[::1]:9/",
    ] {
        let body = json!({"command": "subscribe", "webhookHref": href}).to_string();
        let answer = runner
            .send(&Request::post(&path).body("application/JSON", body))
            .expect(200);
        assert_eq!(answer.json()["status"], "PENDING", "{href}");
        let body = json!({"command": "unsubscribe", "webhookHref": href}).to_string();
        runner
            .send(&Request::post(&path).body("application/JSON", body))
            .expect(200);
    }
}

#[test]
fn nonsense_is_told_field_by_field() {
    let runner = runner();
    let task = runner.submit(HELLO, &[("inputStr", "x")]);
    let href = "http://127.0.0.1:1/";
    for (body, field) in [
        (
            json!({"command": "subscribe", "webhookHref": href, "foo": 1}),
            "foo",
        ),
        (
            json!({"command": "subscribe", "webhookHref": href, "event": "nope"}),
            "event",
        ),
        (
            json!({"command": "subscribe", "webhookHref": "ftp://127.0.0.1/x"}),
            "webhookHref",
        ),
        (
            json!({"command": "subscribe", "webhookHref": 5}),
            "webhookHref",
        ),
        (
            json!({"command": "subscribe", "webhookHref": "http://h/\r\nX-Y: z"}),
            "webhookHref",
        ),
        (json!({"command": null, "webhookHref": href}), "command"),
    ] {
        let answer = command(runner, task, &body).expect(422).json();
        let errors = answer["errors"]["json"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        let fields: Vec<_> = errors.keys().map(String::as_str).collect();
        assert_eq!(fields, [field], "{body}: {answer}");
    }
    for body in ["[]", "5", "null", "\"x\""] {
        let answer =
            runner.send(&Request::post(&format!("/tasks/{task}/")).body("application/json", body));
        assert!(
            matches!(answer.status, 400 | 422),
            "{body}: {}",
            answer.status
        );
    }
}

#[test]
fn the_source_is_the_url_to_which_the_client_was_sent() {
    let runner = runner();
    let server = HookServer::start();
    for host in [
        format!("localhost:{}", runner.port()),
        runner.address().to_string(),
    ] {
        let gate = Gate::new();
        let reply = Reply::file("text/plain", "open").behind(&gate);
        let input = HookServer::with(move |_| reply.clone());
        let request = Request::post("/plugins/gate@1-0-0/process/")
            .form(&[("url", &input.url("/"))])
            .header("Host", &host);
        let answer = runner.send(&request);
        let task = runner.accepted(&answer);
        runner
            .subscribe(task, &server.url("/hook?x=1&y=%20z"), None)
            .expect(200);
        gate.open();
        runner.successful(runner.finished(task));
        let location = answer.header("Location").unwrap_or_default();
        for call in server.take(2) {
            assert_eq!(
                call.query("source"),
                Some(format!("http://{host}{location}"))
            );
            assert!(
                call.target.starts_with("/hook?x=1&y=%20z&source="),
                "{}",
                call.target
            );
            assert_eq!(call.body, b"");
        }
    }
}

#[test]
fn webhooks_do_not_hold_up_tasks_and_come_when_the_subscriber_is_back() {
    let mut runner = Runner::builder().plugins([HARNESS]).start();
    let server = HookServer::start();
    let port = server.port();
    let href = server.url("/back");
    drop(server);

    let held = Held::start(&runner);
    runner
        .subscribe(held.task, &href, Some("status"))
        .expect(200);
    held.open();
    let task = held.task;
    runner.successful(runner.finished(task));
    let source = format!("{}/tasks/{task}/", runner.base());

    runner.kill9();
    runner.restart();
    let server = HookServer::bind(port, |_| Reply::status(200));
    let call = server.next();
    assert_eq!(call.path(), "/back");
    assert_eq!(call.query("event").as_deref(), Some("status"));
    assert_eq!(
        call.query("source"),
        Some(source),
        "it stays what it was, whatever port is ours now"
    );
    server.expect_no_more();
}

#[test]
fn a_webhook_that_never_answers_holds_up_nobody() {
    let runner = runner();
    let gate = Gate::new();
    let reply = Reply::status(200).behind(&gate);
    let silent = HookServer::with(move |_| reply.clone());
    let held = Held::start(runner);
    let server = HookServer::start();
    runner
        .subscribe(held.task, &silent.url("/"), None)
        .expect(200);
    runner
        .subscribe(held.task, &server.url("/"), None)
        .expect(200);
    held.open();
    runner.successful(runner.finished(held.task));
    assert_eq!(calls(&server, 2), ["/ details", "/ status"]);
    gate.open();
}

#[test]
fn a_task_has_a_hundred_subscriptions_at_most() {
    let runner = runner();
    let held = Held::start(runner);
    let href = |number: usize| format!("http://127.0.0.1:1/{number}");
    for number in 0..100 {
        runner.subscribe(held.task, &href(number), None).expect(200);
    }
    runner.subscribe(held.task, &href(7), None).expect(200);
    let answer = runner
        .subscribe(held.task, &href(100), None)
        .expect(422)
        .json();
    let problem = answer["errors"]["json"]["webhookHref"][0].as_str();
    assert!(
        problem.is_some_and(|text| text.contains("limit of 100")),
        "{answer}"
    );
    let unsubscribe = json!({"command": "unsubscribe", "webhookHref": href(0)});
    command(runner, held.task, &unsubscribe).expect(200);
    runner.subscribe(held.task, &href(100), None).expect(200);
    // Nobody listens there, and failing deliveries are tried again for a while.
    for number in 0..=100 {
        let unsubscribe = json!({"command": "unsubscribe", "webhookHref": href(number)});
        command(runner, held.task, &unsubscribe).expect(200);
    }
    held.open();
}
