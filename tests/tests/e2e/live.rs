//! Tasks as they are followed, listed, cancelled and deleted.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use runner_tests::events::{Stream, log_of};
use runner_tests::http::Request;
use runner_tests::scratch::Scratch;
use runner_tests::{Runner, proc, wait};
use serde_json::{Value, json};

use crate::shared::HELLO;

/// A plugin that says what it does and then waits for the end of the world, with a child.
const STUBBORN: &str = r#"
import os, signal, subprocess, time
from runner import plugin, Boolean

@plugin(version="1.0.0")
def stubborn(task, deaf: Boolean() = False):
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    task.log(f"pids {os.getpid()} {child.pid}")
    while True:
        time.sleep(1)
"#;

/// A plugin that goes on one step for each line of a file that the test writes.
const PACED: &str = r#"
import time
from runner import plugin, Integer

@plugin(version="1.0.0")
def paced(task, parts: Integer(minimum=1) = 3):
    for part in range(parts):
        task.log(f"part {part} " + "x" * 9000)
        task.progress(part + 1, 0, parts, "parts")
        time.sleep(0.15)
    task.link("report", "http://example.org/report")
    task.output("out.txt", "done", data_type="custom/done")
"#;

struct Shared {
    runner: Runner,
    _plugins: Scratch,
}

fn runner() -> &'static Runner {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let plugins = Scratch::new();
        plugins.file("stubborn.py", STUBBORN);
        plugins.file("paced.py", PACED);
        let demo = runner_tests::repository("stable_plugins/demo");
        let files = runner_tests::repository("stable_plugins/file_utils");
        let runner = Runner::builder()
            .plugins([plugins.path(), &demo, &files])
            .env("CONCURRENCY", 4)
            // What its plugins tell as pids are pids outside only without name spaces.
            .env("SANDBOX", "basic")
            .start();
        Shared {
            runner,
            _plugins: plugins,
        }
    });
    &shared.runner
}

fn cancel(runner: &Runner, task: u64) -> runner_tests::http::Response {
    runner.send(&Request::post(&format!("/tasks/{task}/cancel")))
}

fn delete(runner: &Runner, task: u64) -> runner_tests::http::Response {
    runner.send(&Request::new("DELETE", &format!("/tasks/{task}/")))
}

/// The processes that a stubborn task says it has.
fn pids(runner: &Runner, task: u64) -> Vec<u32> {
    let shown = runner.wait_for(task, "says its processes", |task| {
        task["log"]
            .as_str()
            .is_some_and(|log| log.contains("pids "))
    });
    let log = shown["log"].as_str().unwrap_or_default();
    log.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

#[test]
fn cancel_ends_a_run_and_everything_it_started_within_a_second() {
    let runner = runner();
    for deaf in ["false", "true"] {
        let task = runner.submit("stubborn@1-0-0", &[("deaf", deaf)]);
        let pids = pids(runner, task);
        assert_eq!(pids.len(), 2);
        let begin = Instant::now();
        let shown = cancel(runner, task).expect(200).json();
        assert_eq!(shown["status"], "FAILURE");
        assert_eq!(shown["state"], "cancelled");
        assert!(
            shown["log"].as_str().unwrap().ends_with("\ncancelled"),
            "{shown}"
        );
        let left = proc::wait_until_gone(&pids, Duration::from_secs(5));
        assert_eq!(left, [0_u32; 0], "deaf: {deaf}");
        assert!(
            begin.elapsed() < Duration::from_millis(1500),
            "{:?}",
            begin.elapsed()
        );
        // Twice is once, and what has ended stays as it is.
        assert_eq!(cancel(runner, task).expect(200).json(), runner.task(task));
    }
    let ended = runner.run_well(HELLO, &[("inputStr", "x")]);
    let number = ended["links"][0]["href"]
        .as_str()
        .and_then(runner_tests::api::task_number);
    let number = number.expect("the number of a task");
    cancel(runner, number).expect(409);
    assert_eq!(runner.task(number), ended);
    cancel(runner, 999_999).expect(404);
}

#[test]
fn a_queued_and_a_waiting_task_can_be_cancelled() {
    let runner = Runner::builder()
        .plugins(["stable_plugins/demo", "tests/fixtures/bad"])
        .env("CONCURRENCY", 1)
        .start();
    let busy = runner.submit("bad-slow@1-0-0", &[("seconds", "2")]);
    let queued = runner.submit(HELLO, &[("inputStr", "x")]);
    assert_eq!(
        cancel(&runner, queued).expect(200).json()["log"],
        "cancelled"
    );
    let waiting = runner.submit("hello-world-multi-step@v0-2-1", &[("inputStr", "x")]);
    runner.wait_for(waiting, "waits for a step", |task| {
        task["state"] == "waiting"
    });
    let shown = cancel(&runner, waiting).expect(200).json();
    assert_eq!(
        shown["steps"][0]["cleared"], true,
        "nobody is asked any more"
    );
    let href = runner.path_of(shown["steps"][0]["href"].as_str().unwrap());
    runner.post_form(&href, &[("inputStr", "y")]).expect(409);
    runner.successful(runner.finished(busy));
    assert_eq!(
        runner.task(queued)["state"],
        "cancelled",
        "its job was dropped"
    );
}

#[test]
fn wait_answers_when_the_task_changes_or_the_time_is_over() {
    let runner = runner();
    let task = runner.submit("stubborn@1-0-0", &[]);
    pids(runner, task);
    let version = runner.task(task)["version"].as_i64().unwrap();
    let begin = Instant::now();
    let shown = runner
        .get(&format!("/tasks/{task}/?wait=0.3"))
        .expect(200)
        .json();
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert_eq!(shown["version"], version);
    let begin = Instant::now();
    runner
        .get(&format!("/tasks/{task}/?wait=50&version={}", version - 1))
        .expect(200);
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "what is known already is not waited for"
    );
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| runner.get(&format!("/tasks/{task}/?wait=50&version={version}")));
        cancel(runner, task).expect(200);
        let shown = waiting.join().unwrap().expect(200).json();
        assert_eq!(shown["state"], "cancelled");
    });
    runner
        .get(&format!("/tasks/{task}/?wait=1e300"))
        .expect(200);
    for wrong in ["-1", "x", "nan", ""] {
        let answer = runner
            .get(&format!("/tasks/{task}/?wait={wrong}"))
            .expect(422);
        assert!(
            answer.json()["errors"]["query"]["wait"].is_array(),
            "{wrong}"
        );
    }
}

#[test]
fn events_tell_all_that_happens_and_go_on_where_they_broke_off() {
    let runner = runner();
    let task = runner.submit("paced@1-0-0", &[("parts", "6")]);
    let mut stream = Stream::open(runner, task, None);
    let mut first = Vec::new();
    while !first
        .iter()
        .any(|(_, name, _): &(String, String, Value)| name == "progress")
    {
        first.push(stream.next());
    }
    drop(stream);
    let last = first.last().expect("an event").0.clone();
    let rest = Stream::open(runner, task, Some(&last)).until_end();
    let whole = Stream::open(runner, task, None).until_end();
    let shown = runner.task(task);
    assert!(shown["log"].as_str().unwrap().len() > 50_000);
    assert_eq!(log_of(&whole), shown["log"].as_str().unwrap());
    assert_eq!(
        log_of(&first) + &log_of(&rest),
        shown["log"].as_str().unwrap()
    );
    for events in [&rest, &whole] {
        let of = |wanted: &str| -> Vec<&Value> {
            events
                .iter()
                .filter(|(_, name, _)| name == wanted)
                .map(|(_, _, data)| data)
                .collect()
        };
        assert_eq!(
            of("link"),
            [&json!({"type": "report", "href": "http://example.org/report"})]
        );
        assert_eq!(of("output"), [&shown["outputs"][0]]);
        assert_eq!(of("progress").last().unwrap()["value"], 6);
        assert_eq!(of("end").last().unwrap()["status"], "SUCCESS");
    }
    let again = Stream::open(runner, task, Some(&whole.last().unwrap().0)).until_end();
    assert_eq!(
        again.len(),
        1,
        "all is known but that it has ended: {again:?}"
    );
    Stream::open(runner, task, Some("nonsense")).until_end();
    runner.get("/tasks/999999/events").expect(404);
}

#[test]
fn streams_that_nobody_reads_cost_little() {
    let runner = runner();
    let task = runner.submit("paced@1-0-0", &[("parts", "20")]);
    let before = proc::resident(runner.pid());
    let streams: Vec<Stream> = (0..300).map(|_| Stream::open(runner, task, None)).collect();
    runner.successful(runner.finished(task));
    let growth = proc::resident(runner.pid()).saturating_sub(before);
    assert!(growth < 64 << 20, "{growth} bytes more");
    drop(streams);
    runner.run_well(HELLO, &[("inputStr", "x")]);
}

#[test]
fn tasks_are_listed_by_label_state_and_plugin_in_pages() {
    let runner = runner();
    let mine: Vec<u64> = (0..7)
        .map(|number| {
            let label = format!("number {number}");
            runner.submit(
                HELLO,
                &[
                    ("inputStr", "x"),
                    ("_label", "list & test"),
                    ("_label", &label),
                ],
            )
        })
        .collect();
    mine.iter().for_each(|task| drop(runner.finished(*task)));
    let mut seen = Vec::new();
    let mut next = Some("/tasks/?label=list+%26+test&state=succeeded&limit=3".to_owned());
    while let Some(target) = next {
        let page = runner.get(&target).expect(200).json();
        assert!(page["tasks"].as_array().unwrap().len() <= 3);
        for task in page["tasks"].as_array().unwrap() {
            assert_eq!(task["labels"][0], "list & test");
            assert_eq!(task["plugin"], HELLO);
            assert!(task["createdAt"].as_str().unwrap() <= task["finishedAt"].as_str().unwrap());
            seen.push(task["id"].as_u64().unwrap());
        }
        next = page["next"].as_str().map(|url| runner.path_of(url));
    }
    let newest_first: Vec<u64> = mine.iter().rev().copied().collect();
    assert_eq!(seen, newest_first);
    let one = runner
        .get("/tasks/?label=number+3&plugin=hello-world")
        .expect(200)
        .json();
    assert_eq!(one["tasks"].as_array().unwrap().len(), 1);
    for none in [
        "label=list+%26+test&status=FAILURE",
        "label=number+1&label=number+2",
        "plugin=hello-worl",
        "label=%27%22",
    ] {
        let page = runner.get(&format!("/tasks/?{none}")).expect(200).json();
        assert_eq!(page, json!({"tasks": []}), "{none}");
    }
    let wrong = runner
        .get("/tasks/?state=x&limit=501&cursor=x")
        .expect(422)
        .json();
    assert_eq!(wrong["errors"]["query"].as_object().unwrap().len(), 3);
    let wrong = runner.post_form(
        "/plugins/hello-world@v0-2-1/process/",
        &[("inputStr", "x"), ("_label", "a\nb")],
    );
    assert!(wrong.expect(422).json()["errors"]["form"]["_label"].is_array());
    let body = json!({"inputStr": "x", "_label": ["as json"]});
    let task = runner.accepted(&runner.post_json("/plugins/hello-world@v0-2-1/process/", &body));
    assert_eq!(runner.finished(task)["labels"], json!(["as json"]));
}

#[test]
fn a_deleted_task_is_gone_with_its_files_and_processes() {
    let runner = runner();
    // Longer than what is kept in a row.
    let done = runner.run_well(HELLO, &[("inputStr", &"x".repeat(5_000))]);
    let href = runner.path_of(done["outputs"][0]["href"].as_str().unwrap());
    runner.get(&href).expect(200);
    let number = done["links"][0]["href"]
        .as_str()
        .and_then(runner_tests::api::task_number)
        .unwrap();
    let stored = || walk(&runner.instance().join("files"));
    let before = stored();
    delete(runner, number).expect(204);
    delete(runner, number).expect(404);
    runner.get(&href).expect(404);
    runner.get(&format!("/tasks/{number}/")).expect(404);
    wait::eventually("the file is gone", Duration::from_secs(5), || {
        (stored() < before).then_some(())
    });
    let running = runner.submit("stubborn@1-0-0", &[]);
    let pids = pids(runner, running);
    let mut stream = Stream::open(runner, running, None);
    delete(runner, running).expect(204);
    assert_eq!(
        proc::wait_until_gone(&pids, Duration::from_secs(5)),
        [0_u32; 0]
    );
    assert_eq!(stream.until_end().last().unwrap().1, "end");
    runner.run_well(HELLO, &[("inputStr", "x")]);
}

fn walk(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            if entry.path().is_dir() {
                walk(&entry.path())
            } else {
                1
            }
        })
        .sum()
}

#[test]
fn a_file_that_is_being_read_is_read_to_its_end_though_its_task_is_deleted() {
    let runner = runner();
    let content = vec![b'x'; 8 << 20];
    let part = |name, value| runner_tests::http::Part::field(name, value);
    let task = runner.submit_multipart(
        "file-upload@v0-2-0",
        &[
            part("dataType", "custom/x"),
            part("contentType", "text/plain"),
            runner_tests::http::Part::file("file", "x.txt", "text/plain", &content),
        ],
    );
    let shown = runner.successful(runner.finished(task));
    let target = runner.path_of(shown["outputs"][0]["href"].as_str().unwrap());
    let mut stream = TcpStream::connect(runner.address()).unwrap();
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        runner.address()
    )
    .unwrap();
    let mut reader = BufReader::with_capacity(1024, stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains(" 200 "), "{line}");
    delete(runner, task).expect(204);
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut rest).unwrap();
    assert!(
        rest.ends_with(&content[..1000]) && rest.len() > content.len(),
        "{}",
        rest.len()
    );
}
