//! The protocol's way out, and the answers that modules wait for.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread::Thread;

use runner_sdk::failure::code;
use runner_sdk::{HostCalls, RunFailure};
use serde_json::{Value, json};

use crate::protocol::MAX_LINE;

/// The protocol's way out. Shared by all threads; a message is never cut by another.
#[derive(Debug)]
pub struct Line {
    out: Mutex<File>,
    last_id: AtomicU64,
    /// The thread that reads while the first one is at work.
    watcher: OnceLock<Thread>,
    /// How many wait for an answer.
    awaited: AtomicUsize,
    waiting: Mutex<HashMap<u64, mpsc::Sender<Result<Value, RunFailure>>>>,
}

impl Line {
    /// Moves the protocol away from descriptor 1, which from now on is the log.
    ///
    /// # Errors
    /// The descriptors cannot be copied.
    pub fn take_stdout() -> std::io::Result<Arc<Self>> {
        let out: OwnedFd = std::io::stdout().as_fd().try_clone_to_owned()?;
        // SAFETY: descriptor 1 is open, and nothing in this process owns it in a way that would close it:
        // the standard library's handle never does. It is replaced, not closed.
        unsafe {
            let mut stdout = OwnedFd::from_raw_fd(1);
            let replaced = nix::unistd::dup2(std::io::stderr().as_fd(), &mut stdout);
            std::mem::forget(stdout);
            replaced?;
        }
        Ok(Arc::new(Self {
            out: Mutex::new(File::from(out)),
            last_id: AtomicU64::new(0),
            watcher: OnceLock::new(),
            awaited: AtomicUsize::new(0),
            waiting: Mutex::default(),
        }))
    }

    /// Sends a message.
    pub fn write(&self, message: &Value) {
        let mut text = message.to_string();
        text.push('\n');
        self.write_line(text.as_bytes());
    }

    /// Sends a message that is a line already, with its line break.
    pub fn write_line(&self, line: &[u8]) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // A runner that is gone also closes the input, which ends this process.
        let _ = out.write_all(line);
    }

    /// Answers a request.
    pub fn answer(&self, id: Value, answer: Result<Value, RunFailure>) {
        let mut message = json!({"jsonrpc": "2.0", "id": id});
        match answer {
            Ok(result) => message["result"] = result,
            Err(failure) => message["error"] = failure.to_json(),
        }
        let mut text = message.to_string();
        if text.len() >= MAX_LINE {
            let failure = RunFailure::new(
                code::FAILED,
                format!(
                    "the answer is longer than the plugin protocol's limit of {MAX_LINE} bytes"
                ),
            );
            text = json!({"jsonrpc": "2.0", "id": message["id"], "error": failure.to_json()})
                .to_string();
        }
        text.push('\n');
        self.write_line(text.as_bytes());
    }

    /// Hands an answer of the runner to whoever waits for it.
    pub fn take_answer(&self, message: &Value) {
        let id = message["id"].as_u64().unwrap_or_default();
        let waiting = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
        let Some(waiting) = waiting else { return };
        let _ = waiting.send(match message.get("error") {
            None => Ok(message["result"].clone()),
            Some(error) => Err(RunFailure::new(
                error["code"].as_i64().unwrap_or(code::FAILED),
                error["message"].as_str().unwrap_or("the request failed"),
            )),
        });
    }

    /// Has somebody read from now on, for as long as the work lasts in which this was called: somebody waits for
    /// an answer until this is dropped.
    pub fn awaited(&self) -> Awaited<'_> {
        self.awaited.fetch_add(1, Ordering::SeqCst);
        self.wake_watcher();
        Awaited(self)
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::SeqCst) > 0
    }

    pub(super) fn set_watcher(&self, thread: Thread) {
        let _ = self.watcher.set(thread);
    }

    pub(super) fn wake_watcher(&self) {
        if let Some(watcher) = self.watcher.get() {
            watcher.unpark();
        }
    }

    /// Nobody answers what was asked by now: the run that asked has ended.
    pub fn forget_requests(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.clear();
    }

    fn request(&self, method: &str, params: Value) -> Result<Value, RunFailure> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (answer, answered) = mpsc::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, answer);
        self.write(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        let _awaited = self.awaited();
        answered
            .recv()
            .unwrap_or_else(|_| Err(RunFailure::new(code::INTERNAL, "the runner is gone")))
    }
}

/// Somebody waits for an answer while this lives.
#[derive(Debug)]
pub struct Awaited<'a>(&'a Line);

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.awaited.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a module may ask of the runner.
#[derive(Debug)]
pub struct Calls {
    line: Arc<Line>,
    /// The params of `welcome`, as JSON.
    welcome: OnceLock<String>,
}

impl Calls {
    /// Asks over this line.
    pub fn new(line: Arc<Line>) -> Self {
        Self {
            line,
            welcome: OnceLock::new(),
        }
    }

    /// Remembers what the module was greeted with.
    pub fn greet(&self, params: &Value) {
        let _ = self.welcome.set(params.to_string());
    }

    /// Hands an answer of the runner to whoever waits for it.
    pub fn take_answer(&self, message: &Value) {
        self.line.take_answer(message);
    }

    /// Nobody answers what was asked by now: the run that asked has ended.
    pub fn forget_requests(&self) {
        self.line.forget_requests();
    }
}

impl HostCalls for Calls {
    fn notify(&self, method: &str, params: Value) {
        self.line
            .write(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    fn request(&self, method: &str, params: Value) -> Result<Value, RunFailure> {
        self.line.request(method, params)
    }

    fn welcome(&self) -> &str {
        self.welcome.get().map_or("null", String::as_str)
    }
}
