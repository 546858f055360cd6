//! Values that are hard to read, to show, or to read again.

use runner_tests::{Request, Response, Runner};
use serde_json::{Value, json};

use crate::shared::{HELLO, MULTI_STEP, runner};

const PROCESS: &str = "/plugins/inbox@1-0-0/process/";
const PAGE: &str = "/plugins/inbox@1-0-0/ui/";

/// What the plugin was given, once the task has ended well.
#[track_caller]
fn seen(runner: &Runner, answer: &Response) -> Value {
    let task = runner.successful(runner.finished(runner.accepted(answer)));
    let output = runner.output(&task, "seen.json");
    serde_json::from_slice(&output).expect("the plugin writes JSON")
}

/// `[[[…]]]`.
fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[test]
fn what_is_nested_too_deeply_is_refused_before_it_is_stored() {
    let runner = runner();
    let json = |text: &str| Request::post(PROCESS).body("application/json", text);
    let right = format!("{{\"anything\": {}}}", nested(64));
    assert!(seen(runner, &runner.send(&json(&right)))["anything"].is_array());
    let right = [("anything", &*nested(64))];
    assert!(seen(runner, &runner.post_form(PROCESS, &right))["anything"].is_array());

    let deep = json!(["Nested more than 64 levels deep."]);
    for levels in [65, 126, 127, 1000, 100_000] {
        let answer = runner
            .post_form(PROCESS, &[("anything", &nested(levels))])
            .expect(422)
            .json();
        assert_eq!(
            answer["errors"]["form"]["anything"], deep,
            "{levels}: {answer}"
        );
        let body = format!("{{\"anything\": {}}}", nested(levels));
        let answer = runner.send(&json(&body)).expect(422).json();
        let key = if levels < 127 { "anything" } else { "" };
        assert_eq!(answer["errors"]["json"], json!({ key: deep }), "{levels}");
        runner
            .send(&Request::post(PAGE).form(&[("anything", &nested(levels))]))
            .expect(200);
    }
    let task = runner.submit(HELLO, &[("inputStr", "x")]);
    let subscription = Request::post(&format!("/tasks/{task}/"));
    let answer = runner.send(&subscription.body(
        "application/json",
        format!("{{\"event\": {}}}", nested(1000)),
    ));
    assert_eq!(
        answer.expect(422).json()["errors"]["json"],
        json!({ "": deep })
    );
}

#[test]
fn values_with_commas_survive_their_form() {
    let runner = runner();
    let page = runner_tests::page::structure(&runner.get(PAGE).expect(200).text());
    let fields = page["fields"].as_array().into_iter().flatten();
    let controls = fields.flat_map(|field| field["controls"].as_array().into_iter().flatten());
    let words = controls.clone().find(|control| control["name"] == "words");
    let shown = words
        .and_then(|words| words["value"].as_str())
        .expect("the default is shown");
    let form = [("words", shown), ("choices", "a,b"), ("choices", "c")];
    let given = seen(runner, &runner.post_form(PROCESS, &form));
    assert_eq!(given["words"], json!(["x,y", "z"]));
    assert_eq!(given["choices"], json!(["a,b", "c"]));
    let given = seen(
        runner,
        &runner.post_form(PROCESS, &[("choices", "a,b"), ("words", "x, y")]),
    );
    assert_eq!(given["choices"], json!(["a,b"]));
    assert_eq!(given["words"], json!(["x", "y"]));
}

#[test]
fn a_box_is_ticked_in_all_spellings_of_yes() {
    let runner = runner();
    for (text, is_checked) in [
        ("True", true),
        ("1", true),
        ("yes", true),
        ("No", false),
        ("x", false),
    ] {
        let page = runner
            .get(&format!("{PAGE}?flag={text}"))
            .expect(200)
            .text();
        let page = runner_tests::page::structure(&page);
        let fields = page["fields"].as_array().into_iter().flatten();
        let controls = fields.flat_map(|field| field["controls"].as_array().into_iter().flatten());
        let flag = controls.clone().find(|control| control["name"] == "flag");
        assert_eq!(
            flag.map(|flag| &flag["checked"]),
            Some(&json!(is_checked)),
            "{text}"
        );
    }
}

#[test]
fn urls_are_what_was_checked() {
    let runner = runner();
    for url in [
        "http://h/\r\nX: y",
        "http://h\t/",
        "http://h/\u{0}",
        "ht\ntp://h/",
        "http://\u{7f}h/",
    ] {
        let wrong = json!({"link": ["Not a valid URL."]});
        let answer = runner
            .post_form(PROCESS, &[("link", url)])
            .expect(422)
            .json();
        assert_eq!(answer["errors"]["form"], wrong, "{url:?}");
        let answer = runner
            .post_json(PROCESS, &json!({ "link": url }))
            .expect(422)
            .json();
        assert_eq!(answer["errors"]["json"], wrong, "{url:?}");
    }
    let empty = json!({"link": ""});
    assert_eq!(
        seen(runner, &runner.post_json(PROCESS, &empty))["link"],
        json!(null)
    );
    let filter = "/plugins/entity-filter@v0-2-1/process/";
    let required = json!({"inputFileUrl": "", "attributeFilterStrategy": "keep"});
    let answer = runner.post_json(filter, &required).expect(422).json();
    assert_eq!(
        answer["errors"]["json"]["inputFileUrl"],
        json!(["Field may not be null."])
    );
}

#[test]
fn what_is_no_text_is_a_bad_request_wherever_it_is_posted() {
    let runner = runner();
    let task = runner.submit(MULTI_STEP, &[("inputStr", "x")]);
    runner.wait_for(task, "waiting for its step", |task| {
        task["steps"].is_array()
    });
    let step = format!("/plugins/{MULTI_STEP}/{task}/demo-step");
    for path in [
        PROCESS.to_owned(),
        PAGE.to_owned(),
        format!("{step}-ui/"),
        format!("{step}-process/"),
        format!("/tasks/{task}/"),
    ] {
        for body in [
            &b"{\"command\": \"\xff\"}"[..],
            b"\xff\xfe",
            b"{\"\xc3\": 1}",
        ] {
            let answer = runner.send(&Request::post(&path).body("application/json", body));
            assert_eq!(answer.status, 400, "{path}: {}", answer.text());
            answer.expect(400);
        }
        for query in ["%FF=1", "a=%FF"] {
            let answer = runner.get(&format!("{path}?{query}"));
            assert!(
                matches!(answer.status, 200 | 400 | 405),
                "{path}: {}",
                answer.status
            );
            let status = answer.status;
            answer.expect(status);
        }
    }
    assert_eq!(runner.task(task)["steps"][0]["cleared"], false);
}

#[test]
fn a_host_may_have_an_empty_port_but_no_sign() {
    let runner = runner();
    for host in ["localhost:", "127.0.0.1:", "[::1]:"] {
        let answer = runner
            .send(&Request::get("/plugins/").header("Host", host))
            .expect(200);
        let root = answer.json()["plugins"][0]["apiRoot"].to_string();
        let name = host.trim_end_matches(':');
        assert!(
            root.starts_with(&format!("\"http://{name}/plugins/")),
            "{root}"
        );
    }
    for host in [
        "localhost:+80",
        "localhost:-1",
        "localhost:65536",
        "localhost::",
    ] {
        runner
            .send(&Request::get("/plugins/").header("Host", host))
            .expect(400);
    }
}
