//! Tasks that tell more than anybody reads, and clients that read nothing of it.

use std::time::{Duration, Instant};

use runner_tests::events::{Stream, log_of};
use runner_tests::proc::resident;
use runner_tests::scratch::Scratch;
use runner_tests::{Runner, eventually};
use serde_json::{Value, json};

use super::loading::bad;
use crate::shared::HELLO;

const MIB: u64 = 1 << 20;

/// A runner whose memory nobody else uses, with the plugins that tell too much and those that do not.
fn own() -> (Runner, Scratch) {
    let plugins = Scratch::new();
    for name in ["bad_flood.py", "bad_many.py"] {
        let path = runner_tests::repository("tests/fixtures/bad").join(name);
        plugins.file(name, std::fs::read(path).expect("a fixture"));
    }
    let runner = Runner::builder()
        .plugins(["stable_plugins/demo".as_ref(), plugins.path()])
        .start();
    (runner, plugins)
}

fn many(runner: &Runner, what: &str, count: usize) -> u64 {
    let count = count.to_string();
    runner.submit("bad-many@1-0-0", &[("what", what), ("count", &count)])
}

#[test]
fn a_flood_of_progress_is_told_now_and_then_and_to_its_end() {
    let (runner, _plugins) = own();
    let before = resident(runner.pid());
    let begin = Instant::now();
    let task = many(&runner, "progress", 100_000);
    let events = Stream::open(&runner, task, None).until_end();
    let passed = begin.elapsed();
    let shown = runner.successful(runner.finished(task));
    let last = json!({"value": 100_000, "start": 0, "target": 100_000, "unit": "messages"});
    assert_eq!(shown["progress"], last);
    let of = |wanted: &str| -> Vec<&Value> {
        let told = events.iter().filter(|(_, name, _)| name == wanted);
        told.map(|(_, _, data)| data).collect()
    };
    assert_eq!(of("progress").last(), Some(&&last));
    // Ten in a second at most, and the first and the last.
    let most = passed.as_millis() / 100 + 2;
    assert!(
        of("progress").len() as u128 <= most,
        "{} in {passed:?}",
        of("progress").len()
    );
    let grown = resident(runner.pid()).saturating_sub(before);
    assert!(grown < 32 * MIB, "{grown} bytes more");
}

#[test]
fn links_steps_and_outputs_have_a_number_that_is_said() {
    let runner = bad();
    for (what, most) in [("link", 100), ("step", 1_000), ("output", 1_000)] {
        let task = runner.finished(many(runner, what, 10_000));
        let log = runner.failed(&task);
        assert!(log.contains(&format!("more than {most} {what}s")), "{log}");
        assert!(log.starts_with("it begins"), "{log}");
        assert_eq!(task["outputs"], json!([]));
        let task = many(runner, what, most);
        let shown = runner.wait_for(task, "done", |task| {
            task["state"] == "succeeded" || task["state"] == "waiting"
        });
        let shown_of = |key: &str| shown[key].as_array().map_or(0, Vec::len);
        match what {
            // One of them is the runner's own.
            "link" => assert_eq!(shown_of("links"), most + 1),
            "step" => assert_eq!(shown_of("steps"), most),
            _ => assert_eq!(shown_of("outputs"), most),
        }
    }
    runner.run_well(HELLO, &[("inputStr", "x")]);
}

#[test]
fn a_stream_tells_a_log_and_outputs_of_the_largest_size_whole_and_in_order() {
    let runner = bad();
    let task = runner.submit("bad-flood@1-0-0", &[("megabytes", "20")]);
    let events = Stream::open(runner, task, None).until_end();
    let shown = runner.successful(runner.finished(task));
    let log = shown["log"].as_str().unwrap();
    assert!(log.len() as u64 > 9 * MIB && log.len() as u64 <= 10 * MIB);
    assert!(log_of(&events) == log, "the streamed log is another one");
    // Who comes back in the middle gets the rest.
    let half = events
        .iter()
        .filter(|(_, name, _)| name == "log")
        .nth(50)
        .unwrap();
    let known: usize = events[..=events.iter().position(|event| event == half).unwrap()]
        .iter()
        .filter_map(|(_, _, data)| data["text"].as_str())
        .map(str::len)
        .sum();
    let rest = Stream::open(runner, task, Some(&half.0)).until_end();
    assert!(log_of(&rest) == log[known..], "not the rest of the log");

    let task = many(runner, "output", 1_000);
    let events = Stream::open(runner, task, None).until_end();
    let shown = runner.successful(runner.finished(task));
    let told: Vec<&Value> = events
        .iter()
        .filter(|(_, name, _)| name == "output")
        .map(|(_, _, data)| data)
        .collect();
    let outputs: Vec<&Value> = shown["outputs"].as_array().unwrap().iter().collect();
    assert_eq!(told, outputs);
}

#[test]
fn streams_of_a_long_log_that_nobody_reads_cost_a_piece_of_it_each() {
    let (runner, _plugins) = own();
    let task = runner.submit("bad-flood@1-0-0", &[("megabytes", "20")]);
    // Without its log, which is not what is measured.
    eventually("the flood is over", Duration::from_secs(30), || {
        let page = runner.get("/tasks/?limit=1").expect(200).json();
        (page["tasks"][0]["status"] == "SUCCESS").then_some(())
    });
    let before = resident(runner.pid());
    let mut streams: Vec<Stream> = (0..60).map(|_| Stream::open(&runner, task, None)).collect();
    // All have begun to be written; others are served meanwhile.
    let begin = Instant::now();
    runner.run_well(HELLO, &[("inputStr", "x")]);
    assert!(begin.elapsed() < Duration::from_secs(5));
    let grown = resident(runner.pid()).saturating_sub(before);
    assert!(grown < 64 * MIB, "{grown} bytes more");
    // One that begins to read then has missed nothing.
    let mut last = streams.pop().unwrap();
    drop(streams);
    let shown = runner.finished(task);
    assert!(log_of(&last.until_end()) == shown["log"].as_str().unwrap());
}

#[test]
fn waits_without_sense_are_answered_or_refused_and_none_is_without_end() {
    let runner = bad();
    let task = runner.run_well(HELLO, &[("inputStr", "x")]);
    let number = task["links"][0]["href"]
        .as_str()
        .and_then(runner_tests::api::task_number)
        .unwrap();
    let large = "1".repeat(500);
    // It has ended, so nobody waits.
    for (wait, status) in [
        ("1e999", 200),
        ("inf", 200),
        (&*large, 200),
        ("-0", 200),
        ("1e-400", 200),
        ("-1e-9", 422),
        ("-inf", 422),
        ("NaN", 422),
        ("0x10", 422),
        ("1;2", 422),
        ("%00", 422),
        ("%F0%9F%98%80", 422),
    ] {
        let begin = Instant::now();
        let answer = runner.get(&format!("/tasks/{number}/?wait={wait}"));
        assert_eq!(answer.status, status, "{wait}");
        answer.expect(status);
        assert!(begin.elapsed() < Duration::from_secs(5), "{wait}");
    }
    for version in ["-1", "99999999999999999999", "9223372036854775807", "-inf"] {
        let target = format!("/tasks/{number}/?wait=0.1&version={version}");
        let status = runner.get(&target).status;
        assert!(matches!(status, 200 | 422), "{version}: {status}");
    }
}

#[test]
fn a_cancel_that_meets_the_end_has_one_outcome() {
    let (runner, _plugins) = own();
    runner.run_well("hello-world-python@v0-2-1", &[("inputStr", "x")]);
    let mut pause = Duration::from_millis(2);
    let (mut cancelled, mut succeeded) = (0, 0);
    for _ in 0..60 {
        let task = runner.submit("hello-world-python@v0-2-1", &[("inputStr", "x")]);
        std::thread::sleep(pause);
        let cancel = || {
            let path = format!("/tasks/{task}/cancel");
            runner.send(&runner_tests::Request::post(&path))
        };
        // Two at once: both hear the same.
        let (first, second) = std::thread::scope(|scope| {
            let other = scope.spawn(cancel);
            (cancel(), other.join().unwrap())
        });
        let ended = runner.finished(task);
        assert_eq!(first.status, second.status, "{ended}");
        match first.status {
            200 => {
                cancelled += 1;
                // The next one comes a little nearer to the end of its run, from either side.
                pause = pause * 11 / 10 + Duration::from_micros(50);
                assert_eq!(ended["state"], "cancelled");
                assert_eq!(ended["outputs"], json!([]));
                assert!(ended["log"].as_str().unwrap().ends_with("cancelled"));
                assert_eq!(first.json(), ended, "it stays as it was told");
                assert_eq!(second.json(), ended);
            }
            409 => {
                succeeded += 1;
                pause = pause * 10 / 11;
                assert_eq!(ended["state"], "succeeded");
                assert_eq!(ended["outputs"].as_array().unwrap().len(), 1);
            }
            other => runner.fail(&format!("{other}: {ended:#}")),
        }
        assert_eq!(runner.task(task), ended, "an end is the end");
    }
    assert!(
        cancelled > 0 && succeeded > 0,
        "{cancelled} cancelled, {succeeded} succeeded"
    );
}
