//! The protocol, spoken for modules that do not speak it themselves: what the host processes of the runner's
//! own program have in common.
//!
//! The first thread reads the protocol all the time; a second one describes and runs, so that `ping` and
//! `cancel` are heard during a run.

mod line;

use std::io::{BufRead, Read};
use std::sync::{Arc, mpsc};

use runner_sdk::RunFailure;
use serde_json::{Value, json};

use crate::protocol::{MAX_LINE, PROTOCOL, UNKNOWN_METHOD};
pub use line::{Calls, Line};

/// A module in this process. `describe` and `run` are called in one thread, one after the other; the rest in
/// another one, also meanwhile.
pub trait Hosted: Send + Sync + 'static {
    /// Hears the params of `welcome`, before anything else.
    fn welcome(&self, params: &Value);

    /// Answers `describe`.
    ///
    /// # Errors
    /// Why the module cannot be used.
    fn describe(&self) -> Result<Value, RunFailure>;

    /// Answers `run`.
    ///
    /// # Errors
    /// How the run failed.
    fn run(&self, params: &Value) -> Result<Value, RunFailure>;

    /// Asks a run to end soon. One that is not in progress is ignored.
    fn cancel(&self, params: &Value);

    /// Hears the answer to a request of the module's.
    fn answered(&self, message: &Value);

    /// Gets ready for the next run; called after each answer.
    fn prepare(&self) {}
}

/// A request that takes its time.
struct Job {
    id: Value,
    is_run: bool,
    params: Value,
}

/// Speaks the protocol for the module, until standard input ends.
///
/// # Errors
/// The standard streams cannot be used.
pub fn serve(hosted: Arc<dyn Hosted>, line: Arc<Line>) -> std::io::Result<()> {
    let (jobs, queue) = mpsc::channel::<Job>();
    let worker = {
        let (line, hosted) = (Arc::clone(&line), Arc::clone(&hosted));
        std::thread::Builder::new()
            .name("runs".to_owned())
            .spawn(move || {
                for job in queue {
                    let answer = match job.is_run {
                        true => hosted.run(&job.params),
                        false => hosted.describe(),
                    };
                    line.answer(job.id, answer);
                    hosted.prepare();
                }
            })?
    };
    let mut input = std::io::stdin().lock();
    let mut text = Vec::new();
    loop {
        text.clear();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        if (&mut input).take(limit).read_until(b'\n', &mut text)? == 0 {
            break;
        }
        let Ok(message) = serde_json::from_slice::<Value>(&text) else {
            continue;
        };
        let id = message["id"].clone();
        match message["method"].as_str() {
            None => hosted.answered(&message),
            Some("welcome") => {
                hosted.welcome(&message["params"]);
                line.answer(id, Ok(json!({"protocol": PROTOCOL, "framing": "lines"})));
            }
            Some("ping" | "stats") => line.answer(id, Ok(json!({}))),
            Some("cancel") => hosted.cancel(&message["params"]),
            Some("shutdown") => break,
            Some(method @ ("describe" | "run")) => {
                let job = Job {
                    id,
                    is_run: method == "run",
                    params: message["params"].clone(),
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
