//! kill -9 at any moment, second starts, what is left behind.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use runner_tests::{Request, Runner, proc};

use crate::shared::{HARNESS, HELLO, Held, with_all};

/// Times that the runner is killed.
const ROUNDS: u32 = 3;
/// Tasks submitted around each.
const TASKS: usize = 50;
/// How long hosts may outlive their runner.
const GRACE: Duration = Duration::from_secs(5);

/// What a task must put out.
#[derive(Debug, Clone)]
enum Work {
    Hello(String),
    Pace(String),
}

impl Work {
    fn new(marker: String) -> Self {
        let even = marker
            .as_bytes()
            .last()
            .is_some_and(|last| last.is_multiple_of(2));
        if even {
            Self::Hello(marker)
        } else {
            Self::Pace(marker)
        }
    }

    fn request(&self) -> Request {
        match self {
            Self::Hello(marker) => {
                let text = format!("input {marker}");
                Request::post(&format!("/plugins/{HELLO}/process/")).form(&[("inputStr", &text)])
            }
            Self::Pace(marker) => Request::post("/plugins/pace@1-0-0/process/").form(&[
                ("marker", marker),
                ("pieces", "5"),
                ("pause", "0.02"),
            ]),
        }
    }

    fn output(&self) -> (&str, String) {
        match self {
            Self::Hello(marker) => ("out.txt", format!("output {marker}")),
            Self::Pace(marker) => {
                let lines = (0..5).map(|number| format!("{marker} {number}\n"));
                ("pace.txt", lines.collect())
            }
        }
    }
}

#[test]
fn accepted_tasks_survive_kill_9() {
    let mut runner = with_all().start();
    let mut accepted = BTreeMap::new();
    for round in 0..ROUNDS {
        let delay = random_delay(round);
        println!("round {round}: kill -9 after {delay:?}");
        accepted.extend(submit_and_kill(&mut runner, round, delay));
        runner.restart();
    }
    println!("{} tasks were accepted", accepted.len());
    assert!(
        accepted.len() >= TASKS / 2,
        "only {} tasks were accepted",
        accepted.len()
    );
    for (number, work) in &accepted {
        let task = runner.successful(runner.finished(*number));
        let (name, content) = work.output();
        let (found, _, bytes) = runner.only_output(&task);
        assert_eq!(found, name, "task {number}");
        assert_eq!(String::from_utf8_lossy(&bytes), content, "task {number}");
    }
}

/// Submits tasks while the runner is killed after the delay; gives those that were accepted.
fn submit_and_kill(runner: &mut Runner, round: u32, delay: Duration) -> BTreeMap<u64, Work> {
    let accepted = Mutex::new(BTreeMap::new());
    let stop = AtomicBool::new(false);
    let address = runner.address();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (accepted, stop) = (&accepted, &stop);
            scope.spawn(move || {
                for number in 0..TASKS / 2 {
                    let work = Work::new(format!("{round}-{thread}-{number}"));
                    let Ok(answer) = work.request().send(address) else {
                        break;
                    };
                    let location = answer.header("Location").unwrap_or_default();
                    let Some(task) = runner_tests::api::task_number(location) else {
                        break;
                    };
                    accepted
                        .lock()
                        .expect("no panic while locked")
                        .insert(task, work);
                    if stop.load(Ordering::Acquire) {
                        break;
                    }
                }
            });
        }
        // Not waiting for luck: the moment is meant to be any.
        std::thread::sleep(delay);
        runner.kill9();
        stop.store(true, Ordering::Release);
    });
    accepted.into_inner().expect("no panic while locked")
}

/// Up to a second, another one in each run.
fn random_delay(round: u32) -> Duration {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mixed = now.as_nanos().wrapping_mul(6_364_136_223_846_793_005) >> 16;
    let millis = u64::try_from(mixed % 700).unwrap_or_default();
    Duration::from_millis(50 + millis + 100 * u64::from(round))
}

#[test]
fn a_task_that_was_running_runs_again() {
    let mut runner = Runner::builder()
        .plugins([HARNESS])
        .env("CONCURRENCY", 1)
        .start();
    let held = Held::start(&runner);
    let queued = runner.submit(
        "pace@1-0-0",
        &[("marker", "x"), ("pieces", "2"), ("pause", "0")],
    );
    runner.kill9();
    runner.restart();
    held.open();
    let task = runner.successful(runner.finished(held.task));
    assert_eq!(runner.only_output(&task).2, b"open");
    let task = runner.successful(runner.finished(queued));
    assert_eq!(runner.only_output(&task).2, b"x 0\nx 1\n");
}

#[test]
fn a_task_that_waits_for_a_step_still_waits() {
    let mut runner = with_all().start();
    let plugin = crate::shared::MULTI_STEP;
    let number = runner.submit(plugin, &[("inputStr", "first")]);
    let open = |task: &serde_json::Value| task["steps"][0]["cleared"] == false;
    let before = runner.wait_for(number, "waiting for its step", open);
    runner.kill9();
    runner.restart();
    let task = runner.task(number);
    assert_eq!(task["steps"], before["steps"]);
    assert_eq!(task["log"], before["log"]);
    assert_eq!(task["progress"], before["progress"]);
    let step = format!("/plugins/{plugin}/{number}/demo-step-process/");
    runner.accepted(&runner.post_form(&step, &[("inputStr", "second")]));
    let task = runner.successful(runner.finished(number));
    let first = b"Processed in the preprocessing step: first";
    assert_eq!(runner.output(&task, "output1.txt"), first);
}

#[test]
fn an_orderly_end_loses_nothing() {
    let mut runner = Runner::builder()
        .plugins([HARNESS])
        .env("CONCURRENCY", 1)
        .start();
    let held = Held::start(&runner);
    let queued = runner.submit(
        "pace@1-0-0",
        &[("marker", "x"), ("pieces", "1"), ("pause", "0")],
    );
    let below = proc::descendants(runner.pid());
    let status = runner.terminate();
    assert!(status.success(), "{status}");
    let left = proc::wait_until_gone(&below, GRACE);
    assert!(
        left.is_empty(),
        "{:?}",
        left.iter()
            .map(|pid| proc::command(*pid))
            .collect::<Vec<_>>()
    );
    runner.restart();
    held.open();
    runner.successful(runner.finished(held.task));
    runner.successful(runner.finished(queued));
}

#[test]
fn nothing_outlives_a_killed_runner() {
    let mut runner = Runner::builder().plugins([HARNESS]).start();
    let held = Held::start_plugin(&runner, "family@1-0-0");
    let told = |task: &serde_json::Value| {
        task["log"]
            .as_str()
            .is_some_and(|log| log.contains("pids "))
    };
    let task = runner.wait_for(held.task, "logging its pids", told);
    let log = task["log"].as_str().unwrap_or_default();
    let (_, rest) = log.split_once("pids ").expect("just waited for");
    let pids = rest
        .split('.')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let pids = pids.filter_map(|pid| pid.parse().ok());
    let mut pids: Vec<u32> = pids
        .filter_map(|pid| proc::inside(runner.pid(), pid, "time.sleep"))
        .collect();
    assert_eq!(pids.len(), 2, "{log}");
    assert!(pids.iter().all(|pid| proc::alive(*pid)), "{pids:?}");
    pids.extend(proc::descendants(runner.pid()));
    runner.kill9();
    let left = proc::wait_until_gone(&pids, GRACE);
    assert!(
        left.is_empty(),
        "{:?}",
        left.iter()
            .map(|pid| proc::command(*pid))
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_second_runner_on_the_same_folder_is_refused() {
    let mut runner = Runner::builder().plugins([HARNESS]).start();
    let second = || {
        Runner::builder()
            .plugins([HARNESS])
            .instance(runner.instance())
    };
    let refusal = second().expect_refusal();
    assert!(!refusal.status.success(), "{}", refusal.status);
    assert!(refusal.status.code().is_some(), "{}", refusal.status);
    let lines: Vec<_> = refusal
        .stderr
        .lines()
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(lines.len(), 1, "one clear line: {}", refusal.stderr);
    let folder = runner.instance().display().to_string();
    assert!(
        lines[0].contains(&folder),
        "it names the folder: {}",
        lines[0]
    );
    runner.run_well(
        "pace@1-0-0",
        &[("marker", "x"), ("pieces", "1"), ("pause", "0")],
    );
    runner.kill9();
    // The lock does not outlive its holder.
    runner.restart();
}
