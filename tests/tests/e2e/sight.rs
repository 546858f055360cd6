//! Numbers, health, workers and logs of one process.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use runner_tests::disk::Disk;
use runner_tests::http::Part;
use runner_tests::metrics::Metrics;
use runner_tests::runner::command;
use runner_tests::scratch::Scratch;
use runner_tests::{Request, Runner, eventually};
use serde_json::{Value, json};

use crate::shared::{HELLO, Held, STABLE, with_all};

/// How soon a change is seen.
const SOON: Duration = Duration::from_secs(20);

#[track_caller]
fn metrics(runner: &Runner) -> Metrics {
    let answer = runner.get("/metrics").expect(200);
    let kind = answer.header("content-type").map(str::to_owned);
    assert_eq!(
        kind.as_deref(),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    Metrics::read(&answer.text())
}

#[track_caller]
fn ready(runner: &Runner) -> (u16, Value) {
    let begun = Instant::now();
    let answer = runner.get("/health/ready");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    (answer.status, answer.json())
}

/// Waits until `/health/ready` tells this of a check.
#[track_caller]
fn unready(runner: &Runner, check: &str, part: &str) {
    eventually(&format!("{check} to be unready"), SOON, || {
        let (status, body) = ready(runner);
        let problem = body["checks"][check]["problem"].as_str()?;
        let is_told = body["message"]
            .as_str()?
            .contains(&format!("{check}: {problem}"));
        assert!(status == 503 && is_told && body["code"] == 503, "{body:#}");
        problem.contains(part).then_some(())
    });
}

#[test]
fn numbers_are_those_of_what_was_done() {
    let runner = with_all().env("CONCURRENCY", 3).start();
    let before = metrics(&runner);
    assert_eq!(before.sum("runner_slots", &[]), 3.0);
    assert!(before.sum("runner_plugins", &[]) >= 7.0);
    assert_eq!(before.sum("runner_runs_total", &[]), 0.0);
    for _ in 0..5 {
        runner.run_well(HELLO, &[("inputStr", "x")]);
    }
    let held = Held::start(&runner);
    runner.get("/tasks/999999/").expect(404);
    runner.get("/nothing/like/this").expect(404);
    let during = metrics(&runner);
    assert_eq!(during.sum("runner_runs_in_progress", &[]), 1.0);
    assert_eq!(during.sum("runner_queue_jobs", &[("state", "taken")]), 1.0);
    assert_eq!(during.sum("runner_hosts", &[("state", "busy")]), 1.0);
    held.open();
    runner.finished(held.task);
    runner.run_to_end("gate@1-0-0", &[("url", "http://127.0.0.1:1/")]);
    let after = eventually("all to be counted", SOON, || {
        let after = metrics(&runner);
        (after.sum("runner_runs_total", &[]) >= 7.0).then_some(after)
    });
    let ended = |plugin: &str, outcome: &str| {
        after.sum(
            "runner_runs_total",
            &[("plugin", plugin), ("outcome", outcome)],
        )
    };
    assert_eq!(
        (ended(HELLO, "succeeded"), ended(HELLO, "failed")),
        (5.0, 0.0)
    );
    assert_eq!(
        (
            ended("gate@1-0-0", "succeeded"),
            ended("gate@1-0-0", "failed")
        ),
        (1.0, 1.0)
    );
    for name in ["runner_wait_seconds_count", "runner_run_seconds_count"] {
        assert_eq!(after.sum(name, &[("plugin", HELLO)]), 5.0, "{name}");
    }
    assert_eq!(after.sum("runner_runs_in_progress", &[]), 0.0);
    let requests = |route: &str, method: &str, status: &str| {
        let labels = [("route", route), ("method", method), ("status", status)];
        after.sum("runner_http_requests_total", &labels)
    };
    assert_eq!(
        requests("/plugins/{identifier}/process/", "POST", "303"),
        7.0
    );
    assert_eq!(requests("/tasks/{id}/", "GET", "404"), 1.0);
    assert_eq!(requests("none", "GET", "404"), 1.0);
    assert!(
        after.sum(
            "runner_http_request_seconds_count",
            &[("route", "/metrics")]
        ) >= 2.0
    );
    assert!(after.sum("runner_files_stored_total", &[]) >= 6.0);
    assert!(after.sum("runner_files_stored_bytes_total", &[]) > 0.0);
    assert!(after.sum("runner_files_free_bytes", &[]) > after.sum("runner_files_floor_bytes", &[]));
    assert_eq!(after.sum("runner_processes", &[("kind", "both")]), 1.0);
    assert_eq!(after.sum("runner_reachable", &[]), 2.0);
    assert!(after.sum("process_resident_memory_bytes", &[]) > 1e6);
    // What a client makes up does not become a series.
    for method in ["BREW", "X"] {
        runner.send(&Request::new(method, "/plugins/"));
    }
    assert_eq!(
        metrics(&runner).sum("runner_http_requests_total", &[("method", "other")]),
        2.0
    );
}

/// A module that offers many plugins.
const MANY: &str = r##"#!/usr/bin/env python3
import json, sys

ANSWERS = {
    "welcome": {"protocol": 1, "framing": "lines"},
    "describe": {"plugins": [{"name": f"plugin-number-{n}", "version": "1.0.0"} for n in range(500)]},
    "run": {"log": ""},
}
for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        result = ANSWERS.get(request["method"], {})
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}), flush=True)
"##;

#[test]
fn five_hundred_plugins_that_all_have_run_are_told_in_a_moment() {
    let plugins = Scratch::new();
    let many = plugins.file("many", MANY);
    std::fs::set_permissions(many, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("it can be made executable");
    let runner = Runner::builder().plugins([plugins.path()]).start();
    let tasks: Vec<u64> = (0..500)
        .map(|n| runner.submit(&format!("plugin-number-{n}@1-0-0"), &[]))
        .collect();
    tasks
        .iter()
        .for_each(|task| drop(runner.successful(runner.finished(*task))));
    let found = eventually("all to be counted", SOON, || {
        let found = metrics(&runner);
        (found.sum("runner_runs_total", &[]) >= 500.0).then_some(found)
    });
    assert!(found.len() > 500 * 30, "{}", found.len());
    let took = (0..10).map(|_| {
        let begun = Instant::now();
        runner.get("/metrics").expect(200);
        begun.elapsed()
    });
    let best = took.min().expect("ten");
    println!("a look at 500 plugins takes {best:?}");
    // Below 5 ms when it is optimised and alone.
    assert!(best < Duration::from_millis(250), "{best:?}");
}

#[test]
fn health_is_told_to_anybody() {
    let runner = with_all().start();
    assert_eq!(
        runner.get("/health/live").expect(200).json(),
        json!({"live": true})
    );
    let (status, body) = ready(&runner);
    let well = json!({"ok": true});
    let checks = json!({"sql": well, "broker": well, "files": well, "modules": well});
    assert_eq!(
        (status, body),
        (200, json!({"ready": true, "checks": checks}))
    );
    let said = health(&runner, &["health"]);
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "ready");
    let url = runner.base();
    let said = health(&runner, &["health", "--live", "--json", "--url", &url]);
    let answer: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!(answer, json!({"live": true}));
    let mut runner = runner;
    runner.terminate();
    let said = health(&runner, &["health", "--url", &url]);
    assert_eq!(said.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&said.stderr).contains("cannot reach"),
        "{said:?}"
    );
}

/// Runs the program beside a runner.
fn health(runner: &Runner, words: &[&str]) -> Output {
    let mut command = command(runner.home());
    command.args(words).output().expect("it can be run")
}

#[test]
fn another_port_answers_numbers_and_health_and_nothing_else() {
    let runner = with_all().env("METRICS_ADDRESS", "127.0.0.1:0").start();
    let address = watched(&runner.stderr());
    let get = |path: &str| Request::get(path).send(address).expect("an answer");
    Metrics::read(&get("/metrics").expect(200).text());
    get("/health/live").expect(200);
    get("/health/ready").expect(200);
    let answer = get("/plugins/").expect(404).json();
    assert_eq!(answer, json!({"code": 404, "status": "Not Found"}));
    let post = Request::post("/metrics").send(address).expect("an answer");
    post.expect(405);
}

/// Where the log says that numbers are told.
pub(crate) fn watched(log: &str) -> std::net::SocketAddr {
    let line = regex::Regex::new(r"http://(127\.0\.0\.1:\d+)/metrics").expect("valid");
    let found = line
        .captures(log)
        .unwrap_or_else(|| panic!("no address in {log}"));
    found[1].parse().expect("an address")
}

#[test]
fn workers_are_shown_to_administrators_with_what_they_run() {
    let runner = with_all().start();
    runner.get("/workers/").expect(401);
    let held = Held::start(&runner);
    let list = || {
        let token = runner.token();
        let request = Request::get("/workers/").header("Authorization", &format!("Bearer {token}"));
        runner.send(&request).expect(200).json()
    };
    let worker = eventually("its run", SOON, || {
        let mut list = list();
        let workers = list["workers"].as_array_mut()?;
        assert_eq!(workers.len(), 1);
        let worker = workers.pop()?;
        let has_plugins = worker["plugins"].as_array()?.contains(&json!(HELLO));
        (has_plugins && !worker["running"].as_array()?.is_empty()).then_some(worker)
    });
    assert_eq!(
        worker["running"],
        json!([{"task": held.task, "run": 1, "plugin": "gate@1-0-0"}])
    );
    assert_eq!(
        (&worker["kind"], &worker["state"]),
        (&json!("both"), &json!("alive"))
    );
    assert_eq!(
        (&worker["pid"], &worker["concurrency"]),
        (&json!(runner.pid()), &json!(8))
    );
    let said = health(&runner, &["worker", "list"]);
    let table = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{said:?}");
    assert!(
        table.contains(&format!("{} gate@1-0-0", held.task)),
        "{table}"
    );
    held.open();
}

#[test]
fn a_log_in_json_has_one_object_in_each_line() {
    let mut runner = Runner::builder()
        .plugins(STABLE)
        .plugins(["tests/fixtures/bad"])
        .env("LOG_FORMAT", "json")
        .env("DEFAULT_LOG_LEVEL", "DEBUG")
        .env("DESCRIBE_TIMEOUT", 2)
        .start();
    let task = runner.submit(HELLO, &[("inputStr", "x")]);
    runner.successful(runner.finished(task));
    runner.terminate();
    let log = runner.stderr();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    assert!(lines.len() > 3, "{log}");
    for line in &lines {
        let has = |key: &str| line[key].as_str().is_some_and(|text| !text.is_empty());
        assert!(
            ["timestamp", "level", "target"].iter().all(|key| has(key)),
            "{line}"
        );
    }
    // What is said while a run lasts says of which task.
    let said = |text: &str| {
        let of_task = |line: &&Value| line["span"]["task"] == task && line["message"] == text;
        lines
            .iter()
            .find(of_task)
            .unwrap_or_else(|| panic!("no {text:?} in {log}"))
    };
    assert_eq!(said("the run begins")["plugin"], HELLO);
    let ended = said("the run has ended");
    assert_eq!(
        (&ended["outcome"], &ended["span"]["run"]),
        (&json!("succeeded"), &json!(1))
    );
    let refusal = Runner::builder()
        .env("LOG_FORMAT", "json")
        .env("WAIT_HOSTS", "127.0.0.1:1")
        .env("WAIT_TIMEOUT", 0)
        .expect_refusal();
    let last = refusal.stderr.lines().last().unwrap_or_default().to_owned();
    let last: Value = serde_json::from_str(&last).expect("JSON");
    assert!(
        last["message"]
            .as_str()
            .is_some_and(|text| text.contains("WAIT_HOSTS")),
        "{last}"
    );
    let module = lines.iter().find(|line| line["module"] == "bad_import");
    assert_eq!(module.expect("why it was not loaded")["level"], "ERROR");
}

#[test]
fn a_disk_that_is_full_or_read_only_is_told_and_tasks_say_so() {
    let Some(disk) = Disk::mount(16 << 20) else {
        return;
    };
    let files = disk.path().join("files");
    let runner = with_all()
        .env("FILE_STORE_ROOT_PATH", files.display())
        .env("DISK_FLOOR", 4 << 20)
        .start();
    assert_eq!(ready(&runner).0, 200);
    let filling = disk.fill();
    unready(&runner, "files", "");
    std::fs::remove_file(filling).expect("it is there");
    eventually("it to be ready again", SOON, || {
        (ready(&runner).0 == 200).then_some(())
    });
    let read_only = ReadOnly::make(&files);
    unready(&runner, "files", "read-only");
    eventually("the log to say so", SOON, || {
        runner
            .stderr()
            .contains("Read-only file system")
            .then_some(())
    });
    let upload = [
        Part::file("file", "a.txt", "text/plain", b"x"),
        Part::field("dataType", "x"),
        Part::field("contentType", "text/plain"),
    ];
    let answer = runner.post_multipart("/plugins/file-upload@v0-2-0/process/", &upload);
    let answer = answer.expect(503).json();
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(message.contains("read-only"), "{answer}");
    let log = runner.run_badly(HELLO, &[("inputStr", &"x".repeat(5_000))]);
    assert!(log.contains("Read-only file system"), "{log}");
    drop(read_only);
    eventually("it to be ready again", SOON, || {
        (ready(&runner).0 == 200).then_some(())
    });
    runner.run_well(HELLO, &[("inputStr", "x")]);
}

/// A folder that cannot be written any more, until this is dropped.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn make(folder: &Path) -> Self {
        let none = None::<&str>;
        mount(Some(folder), folder, none, MsFlags::MS_BIND, none).expect("it can be mounted");
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(none, folder, none, flags, none).expect("it can be mounted again");
        Self(folder.to_owned())
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_volume_that_takes_the_place_of_the_files_is_noticed() {
    let runner = with_all().start();
    let files = runner.instance().join("files");
    std::fs::rename(&files, runner.instance().join("away")).expect("it can be moved");
    std::fs::create_dir_all(files.join("tmp")).expect("it can be made");
    std::fs::write(files.join("store-id"), "another\n").expect("it can be written");
    unready(&runner, "files", "another one than at the start");
}

#[test]
fn an_instance_folder_on_a_read_only_disk_is_refused_with_its_name() {
    let Some(disk) = Disk::mount(1 << 20) else {
        return;
    };
    let instance = disk.path().join("instance");
    std::fs::create_dir(&instance).expect("it can be made");
    let _read_only = ReadOnly::make(&instance);
    let refusal = with_all().instance(&instance).expect_refusal();
    assert_eq!(refusal.status.code(), Some(1));
    let said = refusal.stderr;
    assert!(said.contains(&instance.display().to_string()), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
}

#[test]
fn wrong_variables_are_named_with_what_was_expected() {
    for (name, value, expected) in [
        ("METRICS_ADDRESS", "9464", "127.0.0.1:9464"),
        ("LOG_FORMAT", "yaml", "text or json"),
        ("WAIT_HOSTS", "redis", "host:port"),
        ("LOCALHOST_PROXY_PORTS", "web", ":port"),
        ("CONCURRENCY", "many", "CONCURRENCY"),
    ] {
        let refusal = with_all().env(name, value).expect_refusal();
        assert_eq!(refusal.status.code(), Some(1));
        let said = refusal.stderr;
        assert!(said.contains(name) && said.contains(expected), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let home = Scratch::new();
    let mut container = command(home.path());
    let said = container
        .arg("container")
        .env("CONTAINER_MODE", "both")
        .output()
        .expect("it can be run");
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said.contains("CONTAINER_MODE") && said.contains("server, worker, or up"),
        "{said}"
    );
}

#[test]
fn what_is_waited_for_is_named_when_it_does_not_come() {
    let begun = Instant::now();
    let refusal = with_all()
        .env("WAIT_HOSTS", "127.0.0.1:1")
        .env("WAIT_TIMEOUT", 1)
        .expect_refusal();
    assert!(begun.elapsed() > Duration::from_secs(1));
    let said = refusal.stderr;
    assert!(
        said.contains("WAIT_HOSTS") && said.contains("127.0.0.1:1") && said.contains("1 s"),
        "{said}"
    );
}
