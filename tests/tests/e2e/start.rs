//! How fast and how small.

use std::time::{Duration, Instant};

use runner_tests::scratch::Scratch;
use runner_tests::{Request, Runner, proc};

use crate::shared::{HELLO, with_all};

/// The first answer after a second start, from the start of the process, not optimised.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// Memory of a runner that is idle, beside the pages of its program, in bytes. Those are many here, since the program is
/// not optimised.
const MEMORY: u64 = 24 << 20;

/// What runs below the runner.
fn below(runner: &Runner) -> Vec<String> {
    proc::descendants(runner.pid())
        .into_iter()
        .map(proc::command)
        .collect()
}

#[test]
fn a_start_with_unchanged_plugins_starts_no_host_and_answers_at_once() {
    let mut runner = with_all().start();
    let list = runner.get("/plugins/").expect(200).json();
    assert!(runner.terminate().success());

    let begin = Instant::now();
    runner.restart_only();
    let answer = runner.get("/plugins/");
    let passed = begin.elapsed();
    println!(
        "ready after {:?}, first answer after {passed:?}",
        runner.start_time()
    );
    let again = answer.expect(200).json();
    let names = |list: &serde_json::Value| {
        let plugins = list["plugins"].as_array().cloned().unwrap_or_default();
        plugins
            .iter()
            .map(|plugin| plugin["identifier"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&again), names(&list));
    assert!(passed < FIRST_ANSWER, "first answer after {passed:?}");
    // The launcher is there from the start; nothing was started by it.
    let below = below(&runner);
    assert!(below.len() <= 1, "{below:#?}");
    assert!(
        !below.iter().any(|command| command.contains("python")),
        "{below:#?}"
    );

    let own = proc::resident(runner.pid());
    let others = proc::descendants(runner.pid())
        .into_iter()
        .map(proc::resident)
        .sum::<u64>();
    println!(
        "idle: {} KiB resident, {} KiB in processes below",
        own / 1024,
        others / 1024
    );
    let anonymous = proc::anonymous(runner.pid());
    assert!(anonymous < MEMORY, "{} KiB", anonymous / 1024);

    let task = runner.run_well(HELLO, &[("inputStr", "my input")]);
    assert_eq!(runner.output(&task, "out.txt"), b"my output");
}

#[test]
fn memory_stays_small_after_work() {
    let runner = with_all().start();
    for number in 0..100 {
        runner.run_well(HELLO, &[("inputStr", &format!("input {number}"))]);
    }
    let own = proc::anonymous(runner.pid());
    println!("after 100 tasks: {} KiB", own / 1024);
    assert!(own < MEMORY, "{} KiB", own / 1024);
}

#[test]
fn a_changed_plugin_is_described_again_and_others_are_not() {
    let folder = Scratch::new();
    let source = |version: &str| {
        format!(
            "from runner import plugin\n\n\n@plugin(version=\"{version}\")\ndef changing(task):\n    \
             return \"{version}\"\n"
        )
    };
    folder.file("changing.py", source("1.0.0"));
    let mut runner = Runner::builder().plugins([folder.path()]).start();
    assert_eq!(runner.run_well("changing@1-0-0", &[])["log"], "1.0.0");
    assert!(runner.terminate().success());
    folder.file("changing.py", source("1.1.0"));
    runner.restart();
    runner.get("/plugins/changing@1-0-0/").expect(404);
    assert_eq!(runner.run_well("changing@1-1-0", &[])["log"], "1.1.0");
    let newest = runner.send(&Request::get("/plugins/changing/"));
    assert_eq!(newest.status, 302);
    assert_eq!(newest.header("Location"), Some("/plugins/changing@1-1-0/"));
}

#[test]
fn only_the_top_level_of_plugin_folders_is_loaded() {
    let folder = Scratch::new();
    let source = |name: &str| {
        format!(
            "from runner import plugin\n\n\n@plugin(version=\"1.0.0\")\ndef {name}(task):\n    pass\n"
        )
    };
    folder.file("top.py", source("top"));
    folder.file("notes.txt", "not a plugin");
    let nested = folder.path().join("theme");
    std::fs::create_dir(&nested).unwrap();
    std::fs::write(nested.join("deep.py"), source("deep")).unwrap();
    let runner = Runner::builder().plugins([folder.path()]).start();
    runner.get("/plugins/top@1-0-0/").expect(200);
    runner.get("/plugins/deep@1-0-0/").expect(404);
}

#[test]
fn a_runner_without_plugins_starts() {
    let runner = Runner::builder().start();
    let list = runner.get("/plugins/").expect(200).json();
    assert!(list["plugins"].is_array(), "{list}");
    runner.get("/").expect(200);
}
