//! The host process of shared objects: `runner native-host LIBRARY`.
//!
//! The first thread reads the protocol all the time; a second one loads the library, describes and runs,
//! so that `ping` and `cancel` are heard during a run.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};

use runner_sdk::failure::code;
use runner_sdk::{HostCalls, NativeLibrary, RunFailure};
use serde_json::{Value, json};

use crate::protocol::{MAX_LINE, PROTOCOL, UNKNOWN_METHOD};

/// Speaks the protocol for the library, until its standard input ends.
///
/// # Errors
/// The standard streams cannot be used.
pub fn native_host_main(library: PathBuf) -> std::io::Result<()> {
    let line = Arc::new(Line::take_stdout()?);
    let shared = Arc::new(Shared {
        path: library,
        library: OnceLock::new(),
    });
    let (jobs, queue) = mpsc::channel::<Job>();
    let worker = {
        let (line, shared) = (Arc::clone(&line), Arc::clone(&shared));
        std::thread::Builder::new()
            .name("runs".to_owned())
            .spawn(move || {
                for job in queue {
                    line.answer(job.id, shared.work(&job.method, &job.params, &line));
                }
            })?
    };
    for text in std::io::stdin().lock().lines() {
        let Ok(message) = serde_json::from_str::<Value>(&text?) else {
            continue;
        };
        let id = message["id"].clone();
        let params = message["params"].clone();
        match message["method"].as_str() {
            None => line.take_answer(&message),
            Some("welcome") => {
                line.answer(id, Ok(json!({"protocol": PROTOCOL, "framing": "lines"})))
            }
            Some("ping" | "stats") => line.answer(id, Ok(json!({}))),
            Some("cancel") => shared.cancel(&params),
            Some("shutdown") => break,
            Some(method @ ("describe" | "run")) => {
                let job = Job {
                    id,
                    method: method.to_owned(),
                    params,
                };
                if jobs.send(job).is_err() {
                    break;
                }
            }
            Some(_) if id.is_null() => {}
            Some(method) => {
                let unknown = RunFailure::new(UNKNOWN_METHOD, format!("unknown method {method:?}"));
                line.answer(id, Err(unknown));
            }
        }
    }
    // A run in progress is of no use to anybody any more.
    drop(worker);
    std::process::exit(0)
}

struct Job {
    id: Value,
    method: String,
    params: Value,
}

struct Shared {
    path: PathBuf,
    library: OnceLock<Result<NativeLibrary, String>>,
}

impl Shared {
    fn work(&self, method: &str, params: &Value, line: &Arc<Line>) -> Result<Value, RunFailure> {
        let opened = self
            .library
            .get_or_init(|| NativeLibrary::open(&self.path).map_err(|error| error.to_string()));
        let library = opened
            .as_ref()
            .map_err(|error| RunFailure::new(code::FAILED, error.as_str()))?;
        match method {
            "describe" => library
                .describe()
                .map_err(|error| RunFailure::new(code::FAILED, error.to_string())),
            _ => library.run(params, &Calls(Arc::clone(line))),
        }
    }

    fn cancel(&self, params: &Value) {
        if let Some(Ok(library)) = self.library.get()
            && let (Some(task), Some(run)) = (params["task"].as_u64(), params["run"].as_u64())
        {
            library.cancel(task, run);
        }
    }
}

/// The protocol's way out, and the answers that plugins wait for.
struct Line {
    out: Mutex<File>,
    last_id: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::Sender<Result<Value, RunFailure>>>>,
}

impl Line {
    /// Moves the protocol away from descriptor 1, which from now on is the log.
    fn take_stdout() -> std::io::Result<Self> {
        let out: OwnedFd = std::io::stdout().as_fd().try_clone_to_owned()?;
        // SAFETY: descriptor 1 is open, and nothing in this process owns it in a way that would close it:
        // the standard library's handle never does. It is replaced, not closed.
        unsafe {
            let mut stdout = OwnedFd::from_raw_fd(1);
            let replaced = nix::unistd::dup2(std::io::stderr().as_fd(), &mut stdout);
            std::mem::forget(stdout);
            replaced?;
        }
        Ok(Self {
            out: Mutex::new(File::from(out)),
            last_id: AtomicU64::new(0),
            waiting: Mutex::default(),
        })
    }

    fn write(&self, message: &Value) {
        let mut text = message.to_string();
        text.push('\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // A runner that is gone also closes the input, which ends this process.
        let _ = out.write_all(text.as_bytes());
    }

    fn answer(&self, id: Value, answer: Result<Value, RunFailure>) {
        let mut message = json!({"jsonrpc": "2.0", "id": id});
        match answer {
            Ok(result) => message["result"] = result,
            Err(failure) => message["error"] = failure.to_json(),
        }
        if message.to_string().len() >= MAX_LINE {
            let failure = RunFailure::new(
                code::FAILED,
                format!(
                    "the answer is longer than the plugin protocol's limit of {MAX_LINE} bytes"
                ),
            );
            message = json!({"jsonrpc": "2.0", "id": message["id"], "error": failure.to_json()});
        }
        self.write(&message);
    }

    fn take_answer(&self, message: &Value) {
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
}

/// What a plugin may ask of the runner.
struct Calls(Arc<Line>);

impl HostCalls for Calls {
    fn notify(&self, method: &str, params: Value) {
        self.0
            .write(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    fn request(&self, method: &str, params: Value) -> Result<Value, RunFailure> {
        let id = self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (answer, answered) = mpsc::channel();
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, answer);
        self.0
            .write(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        answered
            .recv()
            .unwrap_or_else(|_| Err(RunFailure::new(code::INTERNAL, "the runner is gone")))
    }
}
