//! The host process: `runner pipeline-host FILE`.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use runner_host::hosted::{Calls, Hosted, Line, Sockets, serve};
use runner_pipeline::Control;
use runner_sdk::RunFailure;
use runner_sdk::failure::code;
use serde_json::Value;

use crate::module::{Kind, Module};
use crate::run::perform;

/// Speaks the protocol for the pipeline in this file, until standard input ends.
///
/// # Errors
/// The standard streams cannot be used.
pub fn pipeline_host_main(path: &Path) -> std::io::Result<()> {
    let line = Line::take_stdout()?;
    let host = PipelineHost {
        module: Kind::read(path),
        calls: Arc::new(Calls::new(Arc::clone(&line))),
        sockets: OnceLock::new(),
        runs: Mutex::default(),
    };
    serve(Arc::new(host), line)
}

struct PipelineHost {
    /// Or what is wrong with it.
    module: Result<Kind, String>,
    calls: Arc<Calls>,
    /// Where sockets of hosts are handed over, once it was greeted.
    sockets: OnceLock<Arc<Sockets>>,
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

    fn module(&self) -> Result<&Kind, RunFailure> {
        let module = self.module.as_ref();
        module.map_err(|reason| failed(reason))
    }
}

fn failed(reason: &str) -> RunFailure {
    RunFailure::new(code::FAILED, reason)
}

fn key(params: &Value) -> Key {
    (params["task"].clone(), params["run"].clone())
}

impl Hosted for PipelineHost {
    fn welcome(&self, params: &Value) {
        self.calls.greet(params);
        if let Some(sockets) = Sockets::of(params) {
            let _ = self.sockets.set(Arc::new(sockets));
        }
    }

    fn describe(&self) -> Result<Value, RunFailure> {
        match self.module()? {
            Kind::Own(module) => Ok(module.describe()),
            Kind::Given => Err(failed("it has no pipeline of its own")),
        }
    }

    fn run(&self, params: &Value) -> Result<Value, RunFailure> {
        let given;
        let module = match self.module()? {
            Kind::Own(module) => module.as_ref(),
            Kind::Given => {
                given = Module::given(params).map_err(|reason| failed(&reason))?;
                &given
            }
        };
        if !module.is_given && params["plugin"].as_str() != Some(module.identifier().as_str()) {
            let text = format!("there is no plugin {}", params["plugin"]);
            return Err(RunFailure::new(code::INVALID_PARAMS, text));
        }
        let result = perform(module, params, &self.calls, self.sockets.get(), |control| {
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
