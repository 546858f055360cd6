//! Who reads: the first thread while it has nothing else to do, else the second.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use runner_sdk::RunFailure;
use serde_json::{Value, json};

use super::{Hosted, Job, Line, items, sockets};
use crate::protocol::{MAX_LINE, PROTOCOL, UNKNOWN_METHOD};

/// After this time of work in the first thread the second one reads; and that looks so often.
const TICK: Duration = Duration::from_millis(5);

/// The protocol's way in, for two threads.
pub(super) struct Reader {
    hosted: Arc<dyn Hosted>,
    line: Arc<Line>,
    /// Held by the one that reads.
    input: Mutex<Input>,
    /// What was read for the first thread. Filled by whoever has the input, and never left by the second thread
    /// to nobody: it gives the input back when it has put something in here for a first thread without work.
    jobs: Mutex<VecDeque<Job>>,
    filled: Condvar,
    /// How much the first thread has begun, and whether it is at it.
    begun: AtomicU64,
    is_busy: AtomicBool,
    /// Whether the second thread sleeps until something begins.
    is_asleep: AtomicBool,
}

struct Input {
    stream: BufReader<File>,
    text: Vec<u8>,
}

/// What was read.
enum Heard {
    Job(Job),
    /// It is dealt with.
    Nothing,
    /// Standard input has ended, or the host is to.
    End,
}

impl Reader {
    /// Starts the second thread.
    pub(super) fn start(hosted: Arc<dyn Hosted>, line: Arc<Line>) -> std::io::Result<Arc<Self>> {
        let stream = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        let reader = Arc::new(Self {
            hosted,
            line,
            input: Mutex::new(Input {
                stream: BufReader::new(stream),
                text: Vec::new(),
            }),
            jobs: Mutex::default(),
            filled: Condvar::new(),
            begun: AtomicU64::new(0),
            is_busy: AtomicBool::new(false),
            is_asleep: AtomicBool::new(false),
        });
        let watcher = {
            let reader = Arc::clone(&reader);
            std::thread::Builder::new()
                .name("protocol".to_owned())
                .spawn(move || reader.watch())?
        };
        reader.line.set_watcher(watcher.thread().clone());
        Ok(reader)
    }

    // --- the first thread --------------------------------------------------

    /// What there is to do; `None` at the end.
    pub(super) fn next_job(&self) -> Option<Job> {
        loop {
            if let Some(job) = self.jobs().pop_front() {
                return Some(job);
            }
            match self.input.try_lock() {
                Ok(mut input) => return self.read_job(&mut input),
                Err(TryLockError::Poisoned(_)) => return None,
                Err(TryLockError::WouldBlock) => {
                    let jobs = self.jobs();
                    let filled = self.filled.wait_while(jobs, |jobs| jobs.is_empty());
                    drop(filled.unwrap_or_else(PoisonError::into_inner));
                }
            }
        }
    }

    fn read_job(&self, input: &mut Input) -> Option<Job> {
        // Whoever read before may have left something.
        if let Some(job) = self.jobs().pop_front() {
            return Some(job);
        }
        loop {
            match self.hear(input) {
                Heard::Job(job) => return Some(job),
                Heard::Nothing => {}
                Heard::End => return None,
            }
        }
    }

    /// Work begins in the first thread.
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.is_busy.store(true, Ordering::SeqCst);
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            self.line.wake_watcher();
        }
    }

    /// It has ended.
    pub(super) fn end(&self) {
        self.is_busy.store(false, Ordering::SeqCst);
    }

    // --- the second thread -------------------------------------------------

    fn watch(&self) {
        loop {
            let seen = self.begun.load(Ordering::SeqCst);
            self.pass_a_tick();
            let has_waited = self.begun.load(Ordering::SeqCst) == seen;
            let is_busy = self.is_busy.load(Ordering::SeqCst);
            if is_busy && (has_waited || self.line.is_awaited()) {
                self.read_beside();
            } else if has_waited {
                self.sleep(seen);
            }
        }
    }

    /// Waits, unless somebody waits for an answer.
    fn pass_a_tick(&self) {
        let end = Instant::now() + TICK;
        while !self.line.is_awaited() {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return;
            }
            std::thread::park_timeout(rest);
        }
    }

    fn sleep(&self, seen: u64) {
        self.is_asleep.store(true, Ordering::SeqCst);
        let has_begun =
            || self.is_busy.load(Ordering::SeqCst) || self.begun.load(Ordering::SeqCst) != seen;
        while self.is_asleep.load(Ordering::SeqCst) && !has_begun() {
            std::thread::park();
        }
        self.is_asleep.store(false, Ordering::SeqCst);
    }

    /// Reads while the first thread is at work.
    fn read_beside(&self) {
        // When the first thread has it, its work has just ended.
        let Ok(mut input) = self.input.try_lock() else {
            return;
        };
        loop {
            match self.hear(&mut input) {
                Heard::Job(job) => {
                    self.jobs().push_back(job);
                    self.filled.notify_one();
                    if !self.is_busy.load(Ordering::SeqCst) {
                        return;
                    }
                }
                Heard::Nothing => {}
                Heard::End => std::process::exit(0),
            }
        }
    }

    // --- whoever reads -----------------------------------------------------

    fn jobs(&self) -> MutexGuard<'_, VecDeque<Job>> {
        // Nothing panics while it is locked.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a line, and deals with it unless that is work.
    fn hear(&self, input: &mut Input) -> Heard {
        input.text.clear();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let read = (&mut input.stream)
            .take(limit)
            .read_until(b'\n', &mut input.text);
        if !read.is_ok_and(|size| size > 0) {
            return Heard::End;
        }
        let Ok(mut message) = serde_json::from_slice::<Value>(&input.text) else {
            return Heard::Nothing;
        };
        let id = message["id"].clone();
        let method = message["method"].as_str().map(str::to_owned);
        match method.as_deref() {
            None => self.hosted.answered(&message),
            Some("welcome") => {
                self.hosted.welcome(&message["params"]);
                let socket = sockets::inherited(&message["params"]["config"]["items"]);
                let serve = |socket| items::serve(Arc::clone(&self.hosted), socket);
                if socket.is_some_and(|socket| serve(socket).is_err()) {
                    return Heard::End;
                }
                let greeting = json!({"protocol": PROTOCOL, "framing": "lines"});
                self.line.answer(id, Ok(greeting));
            }
            Some("ping" | "stats") => self.line.answer(id, Ok(json!({}))),
            Some("cancel") => self.hosted.cancel(&message["params"]),
            Some("shutdown") => return Heard::End,
            Some(method @ ("describe" | "run")) => {
                return Heard::Job(Job {
                    id,
                    is_run: method == "run",
                    params: message["params"].take(),
                });
            }
            Some(_) if id.is_null() => {}
            Some(method) => {
                let unknown = RunFailure::new(UNKNOWN_METHOD, format!("unknown method {method:?}"));
                self.line.answer(id, Err(unknown));
            }
        }
        Heard::Nothing
    }
}
