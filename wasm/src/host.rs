//! The host process: `runner wasm-host MODULE`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use runner_host::hosted::{Hosted, Line, Node, NodeCall, serve};
use runner_host::manifest::GuestLimits;
use runner_sdk::RunFailure;
use runner_sdk::failure::code;
use serde_json::Value;
use wasmtime::{Engine, InstancePre};

use crate::guest::{Guest, Request, Talk, clean, perform};
use crate::node::WasmNode;
use crate::{Error, engine, wasi};

/// Speaks the protocol for a module whose machine code lies at `path`, until standard input ends.
///
/// # Errors
/// The standard streams cannot be used.
pub fn wasm_host_main(path: PathBuf, limits: GuestLimits) -> std::io::Result<()> {
    let line = Line::take_stdout()?;
    let loaded = load(&path).map_err(|error| error.to_string());
    let host = WasmHost {
        loaded,
        limits,
        line: Arc::clone(&line),
        welcome: OnceLock::new(),
        runs: Mutex::default(),
    };
    serve(Arc::new(host), line)
}

struct WasmHost {
    loaded: Result<(Engine, InstancePre<Guest>), String>,
    limits: GuestLimits,
    line: Arc<Line>,
    welcome: OnceLock<Value>,
    runs: Mutex<Runs>,
}

/// What is in progress, and what was cancelled: that may be heard before the run begins.
#[derive(Default)]
struct Runs {
    current: Option<(Value, Value)>,
    cancelled: Option<(Value, Value)>,
    talk: Option<Arc<Talk>>,
}

fn load(path: &std::path::Path) -> Result<(Engine, InstancePre<Guest>), Error> {
    let engine = engine::engine()?;
    let module = engine::load(&engine, path)?;
    let linker = wasi::linker(&engine, &module)?;
    let pre = linker
        .instantiate_pre(&module)
        .map_err(|error| Error::Module(error.to_string()))?;
    Ok((engine, pre))
}

impl WasmHost {
    fn runs(&self) -> MutexGuard<'_, Runs> {
        // Nothing panics while it is locked.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loaded(&self) -> Result<&(Engine, InstancePre<Guest>), RunFailure> {
        let loaded = self.loaded.as_ref();
        loaded.map_err(|error| RunFailure::new(code::FAILED, error.as_str()))
    }

    fn request(&self, method: &'static str, params: &Value) -> Result<Value, RunFailure> {
        let (engine, pre) = self.loaded()?;
        let null = Value::Null;
        let request = Request {
            method,
            params,
            welcome: self.welcome.get().unwrap_or(&null),
            limits: self.limits,
        };
        let key = (params["task"].clone(), params["run"].clone());
        let talk = Arc::new(Talk::new(&request, Arc::clone(&self.line)));
        {
            let mut runs = self.runs();
            runs.talk = Some(Arc::clone(&talk));
            runs.current = (method == "run").then_some(key);
            if runs.current.is_some() && runs.current == runs.cancelled {
                talk.cancel();
            }
        }
        let result = perform(engine, pre, &request, &talk);
        let mut runs = self.runs();
        runs.talk = None;
        runs.current = None;
        result
    }
}

impl Hosted for WasmHost {
    fn welcome(&self, params: &Value) {
        let _ = self.welcome.set(params.clone());
    }

    fn describe(&self) -> Result<Value, RunFailure> {
        self.request("describe", &Value::Null)
    }

    fn run(&self, params: &Value) -> Result<Value, RunFailure> {
        self.request("run", params)
    }

    fn open(&self, call: &NodeCall<'_>) -> Result<Box<dyn Node>, RunFailure> {
        let (engine, pre) = self.loaded()?;
        let mut welcome = self.welcome.get().cloned().unwrap_or_default();
        if let Some(welcome) = welcome.as_object_mut() {
            // An instance has no descriptor but its streams and folders.
            welcome.remove("config");
        }
        let talk = Talk::with_node(&welcome, Arc::clone(&self.line));
        let node = WasmNode::open(engine, pre, talk, self.limits, call)?;
        Ok(Box::new(node))
    }

    fn cancel(&self, params: &Value) {
        let mut runs = self.runs();
        let key = Some((params["task"].clone(), params["run"].clone()));
        if let (true, Some(talk), Ok((engine, _))) = (runs.current == key, &runs.talk, &self.loaded)
        {
            talk.cancel();
            engine.increment_epoch();
        }
        runs.cancelled = key;
    }

    fn prepare(&self) {
        clean();
    }

    fn answered(&self, message: &Value) {
        if let Some(talk) = &self.runs().talk {
            talk.answered(message);
        }
    }
}
