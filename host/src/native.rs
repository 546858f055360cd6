//! The host process of shared objects: `runner native-host LIBRARY`.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use runner_sdk::failure::code;
use runner_sdk::{HostCalls, NativeLibrary, RunFailure};
use serde_json::Value;

use crate::hosted::{Calls, Hosted, Line, Node, NodeCall, serve, write_failure};

/// Speaks the protocol for the library, until its standard input ends.
///
/// # Errors
/// The standard streams cannot be used.
pub fn native_host_main(library: PathBuf) -> std::io::Result<()> {
    let line = Line::take_stdout()?;
    let native = Native {
        path: library,
        library: Arc::default(),
        calls: Arc::new(Calls::new(Arc::clone(&line))),
    };
    serve(Arc::new(native), line)
}

struct Native {
    path: PathBuf,
    /// Loaded when it is first needed, so that `welcome` is answered whatever its initializers do.
    library: Arc<OnceLock<Result<NativeLibrary, String>>>,
    calls: Arc<Calls>,
}

impl Native {
    fn library(&self) -> Result<&NativeLibrary, RunFailure> {
        let opened = self
            .library
            .get_or_init(|| NativeLibrary::open(&self.path).map_err(|error| error.to_string()));
        opened
            .as_ref()
            .map_err(|error| RunFailure::new(code::FAILED, error.as_str()))
    }
}

impl Hosted for Native {
    fn welcome(&self, params: &Value) {
        self.calls.greet(params);
    }

    fn describe(&self) -> Result<Value, RunFailure> {
        self.library()?
            .describe()
            .map_err(|error| RunFailure::new(code::FAILED, error.to_string()))
    }

    fn run(&self, params: &Value) -> Result<Value, RunFailure> {
        self.library()?.run(params, &*self.calls)
    }

    fn open(&self, call: &NodeCall<'_>) -> Result<Box<dyn Node>, RunFailure> {
        let library = self.library()?;
        library.open_node(call.line, &*self.calls)?;
        Ok(Box::new(NativeNode {
            library: Arc::clone(&self.library),
            calls: Arc::clone(&self.calls),
        }))
    }

    fn cancel(&self, params: &Value) {
        if let Some(Ok(library)) = self.library.get()
            && let (Some(task), Some(run)) = (params["task"].as_u64(), params["run"].as_u64())
        {
            library.cancel(task, run);
        }
    }

    fn answered(&self, message: &Value) {
        self.calls.take_answer(message);
    }
}

/// A node of the library, which knows it by its number.
struct NativeNode {
    library: Arc<OnceLock<Result<NativeLibrary, String>>>,
    calls: Arc<Calls>,
}

impl Node for NativeNode {
    fn answer(&mut self, call: &NodeCall<'_>, response: &mut Vec<u8>) {
        // It was there when the node was opened.
        let Some(Ok(library)) = self.library.get() else {
            return;
        };
        let host = NodeCalls {
            calls: &self.calls,
            call,
        };
        let answered = library.node(call.line, &host, |answer| response.extend(answer));
        if let Err(failure) = answered {
            write_failure(response, &failure);
        }
    }
}

/// What a node may tell and ask: parts of an answer go to the pipeline, all else to the runner.
struct NodeCalls<'a> {
    calls: &'a Calls,
    call: &'a NodeCall<'a>,
}

impl HostCalls for NodeCalls<'_> {
    fn notify(&self, method: &str, params: Value) {
        match (method, &params["made"]) {
            ("made", Value::Array(made)) => {
                let made: Vec<String> = made.iter().map(Value::to_string).collect();
                self.call.part(made.join(",").as_bytes());
            }
            _ => self.calls.notify(method, params),
        }
    }

    fn request(&self, _: &str, _: Value) -> Result<Value, RunFailure> {
        let text = "nodes ask for nothing; runs do";
        Err(RunFailure::new(code::FAILED, text))
    }

    fn welcome(&self) -> &str {
        self.calls.welcome()
    }
}
