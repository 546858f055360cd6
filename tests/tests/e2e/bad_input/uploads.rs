//! Uploads: their names, the forms they come in, and what is left of those that nobody wants.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use runner_tests::http::{BOUNDARY, Part};
use runner_tests::{Request, Response, Runner, eventually};
use serde_json::{Value, json};

use crate::shared::{HARNESS, HELLO, STABLE, runner};

/// How long the runner may take to see that a client is gone.
const PATIENCE: Duration = Duration::from_secs(10);
const INBOX: &str = "inbox@1-0-0";
const PROCESS: &str = "/plugins/inbox@1-0-0/process/";

/// What the plugin was given, once the task has ended well.
#[track_caller]
fn seen(runner: &Runner, answer: &Response) -> Value {
    let task = runner.successful(runner.finished(runner.accepted(answer)));
    let output = runner.output(&task, "seen.json");
    serde_json::from_slice(&output).expect("the plugin writes JSON")
}

/// A form of one part whose header is written as it is.
fn raw(disposition: &[u8]) -> Request {
    let head = format!("--{BOUNDARY}\r\nContent-Disposition: ");
    let rest = format!("\r\n\r\ncontent\r\n--{BOUNDARY}--\r\n");
    let body = [head.as_bytes(), disposition, rest.as_bytes()].concat();
    Request::post(PROCESS).body(&format!("multipart/form-data; boundary={BOUNDARY}"), body)
}

/// Files in the store, finished and unfinished.
fn stored(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let counts = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => stored(&entry.path()),
        _ => usize::from(entry.file_name().len() == 32),
    });
    counts.sum()
}

#[test]
fn the_plugin_gets_the_name_of_one_file() {
    let runner = runner();
    for (name, plain) in [
        ("../../etc/passwd", "etc passwd"),
        ("C:\\temp\\x.csv", "C: temp x.csv"),
        ("naïve 日本.html", "naïve 日本.html"),
        ("..", "file"),
        ("/", "file"),
        ("a\tb.csv", "a b.csv"),
    ] {
        let answer =
            runner.post_multipart(PROCESS, &[Part::file("one", name, "text/csv", b"content")]);
        let expected = json!({"name": plain, "content": "content"});
        assert_eq!(seen(runner, &answer)["one"], expected, "{name:?}");
    }
}

#[test]
fn names_of_files_are_decoded_or_refused_never_taken_for_text() {
    let runner = runner();
    for (disposition, name) in [
        (
            &b"form-data; name=\"one\"; filename*=UTF-8''na%C3%AFve.txt"[..],
            "naïve.txt",
        ),
        (
            b"form-data; name=\"one\"; filename=\"x\"; filename*=utf-8'en'y.txt",
            "y.txt",
        ),
        (
            b"form-data; name=\"one\"; filename*=UTF-8''..%2F..%2Fx",
            "x",
        ),
        (b"form-data; filename=x.txt; name=one", "x.txt"),
    ] {
        let seen = seen(runner, &runner.send(&raw(disposition)));
        assert_eq!(seen["one"], json!({"name": name, "content": "content"}));
    }
    for disposition in [
        &b"form-data; name=\"one\"; filename=\"\xff.txt\""[..],
        b"form-data; name=\"one\"; filename*=UTF-8''%FF",
        b"form-data; name=\"one\"; filename*=nonsense",
    ] {
        let answer = runner.send(&raw(disposition)).expect(400).json();
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.contains("part \"one\""), "{answer}");
    }
    for disposition in [
        &b"form-data; name=\"\xff\""[..],
        b"form-data; filename=\"x\"",
        b"form-data; name=\"one",
    ] {
        runner.send(&raw(disposition)).expect(400);
    }
}

#[test]
fn a_list_of_files_is_several_files() {
    let runner = runner();
    let page = runner
        .get(&format!("/plugins/{INBOX}/ui/"))
        .expect(200)
        .text();
    let input = |id: &str| {
        let inputs = page
            .split("<input ")
            .filter(|input| input.contains(&format!("id=\"{id}\"")));
        let input = inputs.last().unwrap_or_default();
        input.split('>').next().unwrap_or_default().to_owned()
    };
    assert!(input("many").contains(" multiple"), "{}", input("many"));
    assert!(!input("one").contains(" multiple"), "{}", input("one"));
    let answer = runner.post_multipart(
        PROCESS,
        &[
            Part::file("many", "a.txt", "text/plain", b"first"),
            Part::file("many", "", "text/plain", b""),
            Part::file("many", "b.txt", "text/plain", b"second"),
        ],
    );
    assert_eq!(
        seen(runner, &answer)["many"],
        json!([{"name": "a.txt", "content": "first"}, {"name": "b.txt", "content": "second"}])
    );
}

#[test]
fn what_comes_before_the_content_of_a_part_is_bounded() {
    let runner = runner();
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let filler = "x".repeat(8 << 20);
    let begin = Instant::now();
    for body in [
        filler.clone(),
        format!("--{BOUNDARY}\r\nX-Long: {filler}"),
        format!("--{BOUNDARY}{}", " ".repeat(8 << 20)),
    ] {
        let answer = runner
            .send(&Request::post(PROCESS).body(&kind, body))
            .expect(400);
        let message = answer.json()["message"].to_string();
        assert!(
            message.contains("before the content of a part"),
            "{message}"
        );
    }
    let passed = begin.elapsed();
    assert!(passed < Duration::from_secs(5), "{passed:?}");

    let content = "y".repeat(5 << 20);
    let answer = runner.post_multipart(
        PROCESS,
        &[
            Part::file("one", "large.txt", "text/plain", content.as_bytes()),
            Part::file("many", "small.txt", "text/plain", b"small"),
        ],
    );
    let seen = seen(runner, &answer);
    assert!(
        seen["one"]["content"] == content,
        "a large file is not what was sent"
    );
    assert_eq!(seen["many"][0]["content"], "small");
}

#[test]
fn only_files_that_a_task_has_are_kept() {
    let runner = Runner::builder().plugins(STABLE).plugins([HARNESS]).start();
    let count = || stored(runner.instance());
    let file = |key: &'static str| Part::file(key, "x.txt", "text/plain", b"x");
    let before = count();
    // One upload; the output is a short text, which is in its row.
    let answer = runner.post_multipart(PROCESS, &[file("one"), file("one"), file("nobody")]);
    seen(&runner, &answer);
    assert_eq!(count(), before + 1, "files that no parameter has");

    let wrong = Part::field("link", "no URL");
    runner
        .post_multipart(PROCESS, &[file("one"), wrong])
        .expect(422);
    runner
        .post_multipart(
            PROCESS,
            &[file("one"), Part::field("_label", &"x".repeat(9999))],
        )
        .expect(422);
    runner
        .post_multipart(&format!("/plugins/{INBOX}/ui/"), &[file("one")])
        .expect(200);
    assert_eq!(count(), before + 1, "files of forms that were not taken");

    let whole = Request::post(PROCESS).multipart(&[file("one"), file("many"), file("many")]);
    let whole = whole.to_bytes(runner.address());
    for cut in [5, 30, 100, 200] {
        let mut stream = TcpStream::connect(runner.address()).expect("cannot connect");
        stream
            .write_all(&whole[..whole.len() - cut])
            .expect("cannot write");
        // So that what was sent has been read.
        std::thread::sleep(Duration::from_millis(100));
        drop(stream);
    }
    eventually("the end of what was cut off", PATIENCE, || {
        (count() == before + 1).then_some(())
    });
}

#[test]
fn a_step_that_was_taken_goes_on_though_its_client_hung_up() {
    let runner = runner();
    let plugin = crate::shared::MULTI_STEP;
    let tasks: Vec<u64> = (0..20)
        .map(|_| runner.submit(plugin, &[("inputStr", "x")]))
        .collect();
    for (number, task) in tasks.iter().enumerate() {
        runner.wait_for(*task, "waiting for its step", |task| {
            task["steps"].is_array()
        });
        let path = format!("/plugins/{plugin}/{task}/demo-step-process/");
        let request = Request::post(&path).form(&[("inputStr", "y")]);
        let mut stream = TcpStream::connect(runner.address()).expect("cannot connect");
        let bytes = request.to_bytes(runner.address());
        stream.write_all(&bytes).expect("cannot write");
        std::thread::sleep(Duration::from_micros(100 * number as u64));
        let _ = stream.shutdown(Shutdown::Both);
    }
    for task in tasks {
        let path = format!("/plugins/{plugin}/{task}/demo-step-process/");
        let again = runner.post_form(&path, &[("inputStr", "y")]);
        assert!(matches!(again.status, 303 | 409), "{}", again.text());
        runner.successful(runner.finished(task));
    }
    runner.run_well(HELLO, &[("inputStr", "still there")]);
}
