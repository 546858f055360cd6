//! The host process: `runner pipeline-host FILE`.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runner_host::hosted::{Calls, Hosted, Line, serve};
use runner_pipeline::Control;
use runner_sdk::RunFailure;
use runner_sdk::failure::code;
use serde_json::Value;

use crate::module::Module;
use crate::run::perform;

/// Speaks the protocol for the pipeline in this file, until standard input ends.
///
/// # Errors
/// The standard streams cannot be used.
pub fn pipeline_host_main(path: &Path) -> std::io::Result<()> {
    let line = Line::take_stdout()?;
    let host = PipelineHost {
        module: Module::read(path),
        calls: Arc::new(Calls::new(Arc::clone(&line))),
        runs: Mutex::default(),
    };
    serve(Arc::new(host), line)
}

struct PipelineHost {
    /// Or what is wrong with it.
    module: Result<Module, String>,
    calls: Arc<Calls>,
    runs: Mutex<Runs>,
}

/// Task and run.
type Key = (Value, Value);

/// What is in progress, and what was cancelled: that may be heard before the run begins.
#[derive(Default)]
struct Runs {
    current: Option<(Key, Control)>,
    cancelled: Option<Key>,
}

impl PipelineHost {
    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn module(&self) -> Result<&Module, RunFailure> {
        let module = self.module.as_ref();
        module.map_err(|reason| RunFailure::new(code::FAILED, reason.as_str()))
    }
}

fn key(params: &Value) -> Key {
    (params["task"].clone(), params["run"].clone())
}

impl Hosted for PipelineHost {
    fn welcome(&self, params: &Value) {
        self.calls.greet(params);
    }

    fn describe(&self) -> Result<Value, RunFailure> {
        self.module().map(Module::describe)
    }

    fn run(&self, params: &Value) -> Result<Value, RunFailure> {
        let module = self.module()?;
        if params["plugin"].as_str() != Some(module.identifier().as_str()) {
            let text = format!("there is no plugin {}", params["plugin"]);
            return Err(RunFailure::new(code::INVALID_PARAMS, text));
        }
        let result = perform(module, params, &self.calls, |control| {
            let mut runs = self.runs();
            let key = key(params);
            if runs.cancelled.as_ref() == Some(&key) {
                control.cancel();
            }
            runs.current = Some((key, control));
        });
        self.runs().current = None;
        result
    }

    fn cancel(&self, params: &Value) {
        let mut runs = self.runs();
        let key = key(params);
        if let Some((current, control)) = &runs.current
            && *current == key
        {
            control.cancel();
        }
        runs.cancelled = Some(key);
    }

    fn answered(&self, message: &Value) {
        self.calls.take_answer(message);
    }
}
