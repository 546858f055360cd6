//! The protocol, spoken for modules that do not speak it themselves: what the host processes of the runner's
//! own program have in common.
//!
//! The first thread reads, describes and runs. When that takes it longer than a moment, a second one reads in its
//! place, so that `ping` and `cancel` are heard meanwhile; a short run costs no change of threads.

mod items;
mod line;
mod reader;
mod sockets;

use std::sync::Arc;

use runner_sdk::RunFailure;
use runner_sdk::failure::code;
use serde_json::Value;

pub use items::{Node, NodeCall, write_failure};
pub use line::{Awaited, Calls, Line};
use reader::Reader;
pub use sockets::Sockets;

/// A module in this process. `describe`, `run` and `prepare` are called in one thread, one after the other; the
/// rest also in another one, meanwhile.
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

    /// Opens a plugin as a node of a pipeline, in a thread of the node's own.
    ///
    /// # Errors
    /// It cannot be used as a node, or its setup failed.
    fn open(&self, _: &NodeCall<'_>) -> Result<Box<dyn Node>, RunFailure> {
        let text = "plugins of this kind cannot be nodes in a host";
        Err(RunFailure::new(code::INVALID_PARAMS, text))
    }

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
    let reader = Reader::start(Arc::clone(&hosted), Arc::clone(&line))?;
    while let Some(job) = reader.next_job() {
        reader.begin();
        let answer = match job.is_run {
            true => hosted.run(&job.params),
            false => hosted.describe(),
        };
        line.answer(job.id, answer);
        hosted.prepare();
        reader.end();
    }
    // A run in progress is of no use to anybody any more.
    std::process::exit(0)
}
