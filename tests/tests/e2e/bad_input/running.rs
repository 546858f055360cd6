//! Plugins that misbehave in a run: a FAILURE with the cause, and the next task works.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use regex::Regex;
use runner_tests::Runner;
use runner_tests::scratch::Scratch;
use serde_json::json;

use super::loading::bad;
use crate::shared::HELLO;

#[test]
fn a_host_that_exits_fails_its_task_with_the_status() {
    let runner = bad();
    for status in ["0", "3"] {
        let task = runner.run_to_end("bad-exit@1-0-0", &[("status", status)]);
        let log = runner.failed(&task);
        let pattern = format!(r"(?i)(exit|status|code)[^\n]*\b{status}\b");
        let expected = Regex::new(&pattern).expect("a valid expression");
        assert!(expected.is_match(&log), "{log}");
        assert!(
            log.contains("about to exit"),
            "what it logged before is kept: {log}"
        );
        assert_eq!(
            task["outputs"],
            json!([]),
            "an output of a lost run is not kept"
        );
    }
    runner.run_well(HELLO, &[("inputStr", "x")]);
}

#[test]
fn garbage_on_standard_output_fails_the_task_with_the_garbage() {
    let runner = bad();
    for _ in 0..2 {
        let log = runner.run_badly("bad-garbage@1-0-0", &[]);
        assert!(
            log.contains("Hello from a plugin that took standard output"),
            "{log}"
        );
    }
}

#[test]
fn a_run_that_hangs_ends_with_the_limit_and_the_next_one_works() {
    let runner = Runner::builder()
        .plugins(["stable_plugins/demo", "tests/fixtures/bad"])
        .env("DESCRIBE_TIMEOUT", 5)
        .env("RUN_TIMEOUT", 2)
        .env("CONCURRENCY", 1)
        .start();
    let begin = Instant::now();
    let hanging = runner.submit("bad-hangs@1-0-0", &[]);
    let next = runner.submit(HELLO, &[("inputStr", "x")]);
    let log = runner.failed(&runner.finished(hanging));
    assert!(
        log.contains("hanging"),
        "what it logged before is kept: {log}"
    );
    assert!(log.contains("2 s"), "it names the limit: {log}");
    assert!(begin.elapsed() >= Duration::from_secs(2));
    runner.successful(runner.finished(next));
    let left: Vec<_> = runner_tests::proc::descendants(runner.pid())
        .into_iter()
        .map(runner_tests::proc::command)
        .filter(|command| command.contains("bad_hangs"))
        .collect();
    assert!(left.is_empty(), "the host that hung still runs: {left:?}");
}

#[test]
fn a_flood_of_log_is_cut_and_said() {
    let runner = bad();
    let before = runner_tests::proc::resident(runner.pid());
    let task = runner.run_well("bad-flood@1-0-0", &[("megabytes", "20")]);
    let log = task["log"].as_str().unwrap_or_default();
    assert!(log.len() < 11 << 20, "{} bytes", log.len());
    // Messages and standard error come on two ways, so what is near an end may change places.
    let bytes = log.as_bytes();
    let has = |part: &[u8], line: &str| String::from_utf8_lossy(part).contains(line);
    assert!(
        has(&bytes[..256 << 10], "the first line"),
        "the beginning is kept"
    );
    assert!(
        has(&bytes[bytes.len() - (256 << 10)..], "the last line"),
        "the end is kept"
    );
    assert!(log.contains("left out"), "the cut is said");
    let grown = runner_tests::proc::resident(runner.pid()).saturating_sub(before);
    println!("the flood left {} KiB more in memory", grown / 1024);
    runner.run_well(HELLO, &[("inputStr", "x")]);
}

#[test]
fn nothing_is_written_outside_the_runs_own_folder() {
    let runner = bad();
    let outside = Scratch::new();
    let victim = outside.file("victim.txt", "untouched");
    let targets = [
        outside.path().join("new.txt"),
        victim.clone(),
        runner.instance().join("new.txt"),
        runner.home().join("new.txt"),
        runner_tests::repository("stable_plugins/demo/new.txt"),
        Path::new("/etc/runner-e2e-new.txt").to_owned(),
    ];
    let paths: Vec<_> = targets
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let task = runner.run_well("bad-writes@1-0-0", &[("paths", &paths.join(","))]);
    let log = task["log"].as_str().unwrap_or_default();
    let new = targets.iter().filter(|path| **path != victim);
    let written: Vec<_> = new.filter(|path| path.exists()).collect();
    for path in &written {
        let _ = std::fs::remove_file(path);
    }
    // What it could write lies in a temporary folder of its own.
    let told = log.lines().filter(|line| line.starts_with("written: "));
    assert!(told.clone().all(|line| line.contains("/tmp/")), "{log}");
    assert_eq!(written, Vec::<&PathBuf>::new(), "{log}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    assert_eq!(runner.output(&task, "own.txt"), b"this is allowed");
}

#[test]
fn what_a_run_leaves_behind_is_ended_with_the_runner() {
    let mut runner = Runner::builder()
        .plugins(["tests/fixtures/bad"])
        .env("DESCRIBE_TIMEOUT", 5)
        .start();
    let task = runner.run_well("bad-daemon@1-0-0", &[]);
    let text = String::from_utf8(runner.output(&task, "pid.txt")).unwrap();
    let pid: u32 = text.trim().parse().unwrap();
    let pid = runner_tests::proc::inside(runner.pid(), pid, "bad_daemon").unwrap();
    runner.kill9();
    let left = runner_tests::proc::wait_until_gone(&[pid], Duration::from_secs(5));
    assert!(left.is_empty(), "{left:?} still runs");
}
