//! Tasks: numbers, bodies, steps, hrefs.

use std::time::{Duration, Instant};

use runner_tests::Request;
use serde_json::json;

use crate::shared::{HELLO, Held, MULTI_STEP, runner};

#[test]
fn numbers_that_no_column_holds_are_not_found() {
    let runner = runner();
    for number in [
        "0",
        "-1",
        "9223372036854775807",
        "9223372036854775808",
        "99999999999999999999999",
    ] {
        runner.get(&format!("/tasks/{number}/")).expect(404);
        runner
            .get(&format!("/files/{number}/?file-id=x"))
            .expect(404);
        let body = json!({"command": "subscribe", "webhookHref": "http://127.0.0.1:1/"});
        runner
            .post_json(&format!("/tasks/{number}/"), &body)
            .expect(404);
        let step = format!("/plugins/{MULTI_STEP}/{number}/demo-step-process/");
        runner.post_form(&step, &[("inputStr", "x")]).expect(404);
    }
}

#[test]
fn every_way_to_submit_leads_to_the_same_task() {
    let runner = runner();
    let path = format!("/plugins/{HELLO}/process/");
    let chunked = Request::new("POST", &path)
        .header("Transfer-Encoding", "chunked")
        .body(
            "application/x-www-form-urlencoded",
            "9\r\ninputStr=\r\n8\r\nmy+input\r\n0\r\n\r\n",
        );
    for request in [
        Request::post(&path).form(&[("inputStr", "my input")]),
        Request::post(&path).json(&json!({"inputStr": "my input"})),
        Request::post(&path).multipart(&[runner_tests::http::Part::field("inputStr", "my input")]),
        chunked,
    ] {
        let answer = runner.send(&request);
        let task = runner.successful(runner.finished(runner.accepted(&answer)));
        assert_eq!(task["log"], "result: 'my output'");
        assert_eq!(runner.output(&task, "out.txt"), b"my output");
    }
}

#[test]
fn the_three_kinds_of_plugins_do_the_same() {
    let runner = runner();
    for plugin in [
        HELLO,
        "hello-world-python@v0-2-1",
        "hello-world-exec@v0-2-1",
    ] {
        for (input, output, log) in [
            ("my input", "my output", "result: 'my output'"),
            (
                "ünï'cöde \"input\" 日本\n2nd",
                "ünï'cöde \"output\" 日本\n2nd",
                "",
            ),
        ] {
            let task = runner.run_well(plugin, &[("inputStr", input)]);
            assert_eq!(
                runner.output(&task, "out.txt"),
                output.as_bytes(),
                "{plugin}"
            );
            if !log.is_empty() {
                assert_eq!(task["log"], log, "{plugin}");
            }
            assert_eq!(
                task["outputs"][0]["dataType"], "custom/hello-world-output",
                "{plugin}"
            );
        }
        let task = runner.run_well(plugin, &[("inputStr", "")]);
        assert_eq!(task["outputs"], json!([]), "{plugin}");
    }
}

#[test]
fn json_names_unknown_fields_and_wrong_types() {
    let runner = runner();
    let path = format!("/plugins/{HELLO}/process/");
    let answer = runner
        .post_json(&path, &json!({"inputStr": 5, "foo": 1}))
        .expect(422)
        .json();
    assert_eq!(
        answer["errors"]["json"]["inputStr"],
        json!(["Not a valid string."]),
        "{answer}"
    );
    assert_eq!(
        answer["errors"]["json"]["foo"],
        json!(["Unknown field."]),
        "{answer}"
    );
}

#[test]
fn outputs_of_one_name_are_both_kept() {
    let runner = runner();
    let task = runner.run_well("twins@1-0-0", &[]);
    let outputs = task["outputs"].as_array().cloned().unwrap_or_default();
    assert_eq!(outputs.len(), 2, "{task:#}");
    let content = |i: usize| {
        let href = outputs[i]["href"].as_str().unwrap_or_default();
        runner.get(href).expect(200).text()
    };
    let mut contents = [content(0), content(1)];
    contents.sort();
    assert_eq!(contents, ["first", "second"]);
}

#[test]
fn urls_follow_the_host_but_those_of_steps_stay() {
    let runner = runner();
    let host = format!("localhost:{}", runner.port());
    let path = format!("/plugins/{MULTI_STEP}/process/");
    let request = Request::post(&path)
        .form(&[("inputStr", "first")])
        .header("Host", &host);
    let number = runner.accepted(&runner.send(&request));
    let waiting = |task: &serde_json::Value| task["steps"][0]["cleared"] == false;
    let task = runner.wait_for(number, "waiting for its step", waiting);
    let base = format!("http://{host}/plugins/{MULTI_STEP}/{number}/demo-step-");
    assert_eq!(task["steps"][0]["href"], format!("{base}process/"));
    assert_eq!(task["steps"][0]["uiHref"], format!("{base}ui/"));
    let page = runner.get(&format!("{base}ui/")).expect(200).text();
    assert!(page.contains("Input from preprocessing: first"), "{page}");

    let step = format!("{base}process/");
    assert_eq!(
        runner.accepted(&runner.post_form(&step, &[("inputStr", "second")])),
        number
    );
    let task = runner.successful(runner.finished(number));
    assert_eq!(task["steps"][0]["href"], step);
    for (asked, expected) in [
        (host.clone(), host),
        (runner.address().to_string(), runner.address().to_string()),
    ] {
        let request = Request::get(&format!("/tasks/{number}/")).header("Host", &asked);
        let task = runner.send(&request).expect(200).json();
        let href = task["outputs"][0]["href"].as_str().unwrap_or_default();
        assert!(
            href.starts_with(&format!("http://{expected}/files/")),
            "{href}"
        );
    }
}

#[test]
fn steps_that_are_not_there_are_not_found() {
    let runner = runner();
    let number = runner.submit(MULTI_STEP, &[("inputStr", "first")]);
    let waiting = |task: &serde_json::Value| task["steps"][0]["cleared"] == false;
    runner.wait_for(number, "waiting for its step", waiting);
    for path in [
        format!("/plugins/{MULTI_STEP}/999999/demo-step-"),
        format!("/plugins/{MULTI_STEP}/{number}/nope-"),
        format!("/plugins/{HELLO}/{number}/demo-step-"),
        format!("/plugins/nope/{number}/demo-step-"),
    ] {
        runner.get(&format!("{path}ui/")).expect(404);
        runner
            .post_form(&format!("{path}process/"), &[("inputStr", "x")])
            .expect(404);
    }
    let task = runner.task(number);
    assert!(waiting(&task), "{task:#}");
}

#[test]
fn a_step_posted_again_changes_nothing() {
    let runner = runner();
    let number = runner.submit(MULTI_STEP, &[("inputStr", "first")]);
    runner.wait_for(number, "waiting for its step", |task| {
        task["steps"][0]["cleared"] == false
    });
    let step = format!("/plugins/{MULTI_STEP}/{number}/demo-step-process/");
    runner.accepted(&runner.post_form(&step, &[("inputStr", "second")]));
    runner
        .post_form(&step, &[("inputStr", "too early")])
        .expect(409);
    let before = runner.successful(runner.finished(number));
    runner
        .post_form(&step, &[("inputStr", "too late")])
        .expect(409);
    assert_eq!(runner.task(number), before);
    let first = b"Processed in the preprocessing step: first";
    assert_eq!(runner.output(&before, "output1.txt"), first);
    let second = b"Processed in the processing step: first second";
    assert_eq!(runner.output(&before, "output2.txt"), second);
}

#[test]
fn requests_do_not_wait_for_running_tasks() {
    let runner = crate::shared::with_all().env("CONCURRENCY", 4).start();
    let held: Vec<Held> = (0..4).map(|_| Held::start(&runner)).collect();
    let begin = Instant::now();
    let queued = runner.submit(HELLO, &[("inputStr", "x")]);
    assert_eq!(runner.task(queued)["status"], "PENDING");
    runner.get("/plugins/").expect(200);
    runner.get(&format!("/plugins/{HELLO}/ui/")).expect(200);
    let passed = begin.elapsed();
    assert!(passed < Duration::from_secs(3), "{passed:?}");
    held.iter().for_each(Held::open);
    runner.successful(runner.finished(queued));
    for held in &held {
        runner.successful(runner.finished(held.task));
    }
}

#[test]
fn forms_show_errors_at_their_fields_and_keep_what_was_typed() {
    let runner = runner();
    let answer = runner.post_form(
        "/plugins/entity-filter@v0-2-1/ui/",
        &[
            ("inputFileUrl", "nonsense"),
            ("nRows", "-1"),
            ("attributes", "a,b"),
        ],
    );
    let page = runner_tests::page::structure(&answer.expect(200).text());
    let fields = page["fields"].as_array().cloned().unwrap_or_default();
    let field = |id: &str| {
        let found = fields.iter().find(|field| field["controls"][0]["id"] == id);
        found
            .cloned()
            .unwrap_or_else(|| panic!("no field {id}: {page:#}"))
    };
    assert_eq!(
        field("input_file_url")["errors"],
        json!(["Not a valid URL."])
    );
    assert_eq!(field("input_file_url")["controls"][0]["value"], "nonsense");
    let rows = field("n_rows");
    assert_eq!(
        rows["errors"],
        json!(["Number of Rows must be a positive number."])
    );
    assert_eq!(rows["controls"][0]["name"], "nRows");
    assert_eq!(page["successful"], false);
}
