//! Hundreds of tasks, and what they must put out.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use runner_tests::wait::poll;
use runner_tests::{Request, Response, Runner};
use serde_json::Value;

pub(crate) const HELLO: &str = "hello-world@v0-2-1";
pub(crate) const MULTI_STEP: &str = "hello-world-multi-step@v0-2-1";
pub(crate) const PAUSE: &str = "pause@1-0-0";
/// How long a load may take to end after the last disaster.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tasks of one thread while a disaster happens.
const PACE: Duration = Duration::from_millis(40);
/// Threads that submit.
const CLIENTS: usize = 4;

/// A task by what it must put out.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// Native, short.
    Hello(String),
    /// Python, with a pause in milliseconds.
    Pause(String, usize),
    /// In two steps.
    Steps(String),
    /// One that calls another.
    Caller(String),
}

impl Work {
    /// A mix: of twenty one in two steps, one that calls, and every third in Python.
    fn new(number: usize, marker: String) -> Self {
        match number % 20 {
            7 => Self::Steps(marker),
            13 => Self::Caller(marker),
            rest if rest % 3 == 0 => Self::Pause(marker, 50 + number * 37 % 250),
            _ => Self::Hello(marker),
        }
    }

    fn request(&self) -> Request {
        let to = |plugin: &str| Request::post(&format!("/plugins/{plugin}/process/"));
        match self {
            Self::Hello(marker) => to(HELLO).form(&[("inputStr", &format!("input {marker}"))]),
            Self::Steps(marker) => to(MULTI_STEP).form(&[("inputStr", marker)]),
            Self::Caller(marker) => to("caller@1-0-0").form(&[("marker", marker)]),
            Self::Pause(marker, millis) => {
                to(PAUSE).form(&[("marker", marker), ("millis", &millis.to_string())])
            }
        }
    }

    /// Names and contents of its outputs. Of a caller only the end of the content is known before.
    pub(crate) fn outputs(&self, task: u64) -> Vec<(&'static str, String)> {
        match self {
            Self::Hello(marker) => vec![("out.txt", format!("output {marker}"))],
            Self::Pause(marker, _) => vec![("pause.txt", format!("{marker} of task {task}"))],
            Self::Caller(marker) => {
                vec![(
                    "caller.txt",
                    format!("task {task} called: {marker} of task "),
                )]
            }
            Self::Steps(marker) => vec![
                (
                    "output1.txt",
                    format!("Processed in the preprocessing step: {marker}"),
                ),
                (
                    "output2.txt",
                    format!("Processed in the processing step: {marker} second"),
                ),
            ],
        }
    }
}

/// Tasks that a server has accepted.
#[derive(Default)]
pub(crate) struct Load {
    accepted: Mutex<BTreeMap<u64, Work>>,
    next: AtomicUsize,
}

impl Load {
    /// One more; `None` if the server did not accept it.
    fn submit_one(&self, runner: &Runner) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let work = Work::new(number, format!("m{number}"));
        let answer = work.request().send(runner.address()).ok()?;
        self.note(&answer, work)
    }

    fn note(&self, answer: &Response, work: Work) -> Option<u64> {
        if answer.status != 303 {
            return None;
        }
        let task = runner_tests::api::task_number(answer.header("Location")?)?;
        let before = self.lock().insert(task, work);
        assert!(before.is_none(), "task {task} was given twice");
        Some(task)
    }

    /// Submits so many tasks, all of which must be accepted.
    pub(crate) fn submit(&self, runner: &Runner, count: usize) {
        let left = AtomicUsize::new(count);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                        .is_ok()
                    {
                        if self.submit_one(runner).is_none() {
                            runner.fail("a task was not accepted");
                        }
                    }
                });
            }
        });
    }

    /// Submits tasks while `disaster` happens; requests may fail.
    pub(crate) fn submit_during<T>(&self, runner: &Runner, disaster: impl FnOnce() -> T) -> T {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while !stop.load(Ordering::Acquire) {
                        let _ = self.submit_one(runner);
                        // So many that they are in flight, not so many that their end takes long.
                        std::thread::sleep(PACE);
                    }
                });
            }
            let stopped = StopAtEnd(&stop);
            let happened = disaster();
            drop(stopped);
            happened
        })
    }

    /// How many were accepted.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// How many of them call another.
    pub(crate) fn callers(&self) -> usize {
        let accepted = self.lock();
        let callers = accepted
            .values()
            .filter(|work| matches!(work, Work::Caller(_)));
        callers.count()
    }

    /// What was accepted.
    pub(crate) fn accepted(&self) -> BTreeMap<u64, Work> {
        self.lock().clone()
    }

    /// Waits until so many of the tasks have ended.
    #[track_caller]
    pub(crate) fn wait_for_ended(&self, runner: &Runner, count: usize) {
        let ended = poll(PATIENCE, || {
            let pending = pending(runner)?.len();
            (self.len().saturating_sub(pending) >= count).then_some(())
        });
        ended.unwrap_or_else(|| runner.fail(&format!("not {count} tasks have ended")));
    }

    /// Fills in the forms of steps until nothing is pending.
    #[track_caller]
    pub(crate) fn settle(&self, runner: &Runner) {
        let mut left = Vec::new();
        let settled = poll(PATIENCE, || {
            left = pending(runner)?;
            for task in left.iter().filter(|task| task["state"] == "waiting") {
                let step = format!("/plugins/{MULTI_STEP}/{}/demo-step-process/", task["id"]);
                let form = Request::post(&step).form(&[("inputStr", "second")]);
                let _ = form.send(runner.address());
            }
            left.is_empty().then_some(())
        });
        if settled.is_none() {
            let first = left
                .first()
                .map(|task| runner.task(task["id"].as_u64().unwrap_or(0)));
            runner.fail(&format!(
                "{} of {} tasks do not end, such as {:#}",
                left.len(),
                self.len(),
                first.unwrap_or_default()
            ));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Work>> {
        self.accepted.lock().expect("no panic while locked")
    }
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Tasks that have not ended; `None` while the server cannot say.
pub(crate) fn pending(runner: &Runner) -> Option<Vec<Value>> {
    let answer = Request::get("/tasks/?status=PENDING&limit=500")
        .send(runner.address())
        .ok()?;
    match answer.status {
        200 => answer.json()["tasks"].as_array().cloned(),
        _ => None,
    }
}
