//! The host process of shared objects: `runner native-host LIBRARY`.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use runner_sdk::failure::code;
use runner_sdk::{NativeLibrary, RunFailure};
use serde_json::Value;

use crate::hosted::{Calls, Hosted, Line, serve};

/// Speaks the protocol for the library, until its standard input ends.
///
/// # Errors
/// The standard streams cannot be used.
pub fn native_host_main(library: PathBuf) -> std::io::Result<()> {
    let line = Line::take_stdout()?;
    let native = Native {
        path: library,
        library: OnceLock::new(),
        calls: Calls::new(Arc::clone(&line)),
    };
    serve(Arc::new(native), line)
}

struct Native {
    path: PathBuf,
    /// Loaded when it is first needed, so that `welcome` is answered whatever its initializers do.
    library: OnceLock<Result<NativeLibrary, String>>,
    calls: Calls,
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
        self.library()?.run(params, &self.calls)
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
