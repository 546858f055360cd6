//! The host process of Lua modules: `runner lua-host FILE`.
//!
//! Every run has an interpreter of its own, without files, processes, other modules' code and bytecode, with a
//! limit on its memory. It is made before the run comes, from what was compiled once.

mod describe;
mod node;
mod state;
mod task;
mod values;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use mlua::{Error, Value as LuaValue};
use runner_sdk::RunFailure;
use runner_sdk::failure::code;
use serde_json::{Map, Value, json};

use crate::hosted::{Calls, Hosted, Line, Node, NodeCall, serve};
use crate::manifest::GuestLimits;
use state::{Sources, State};

/// Error code of params that do not fit, from JSON-RPC 2.0.
const BAD_PARAMS: i64 = code::INVALID_PARAMS;

/// Speaks the protocol for the module, until its standard input ends. `require` looks in `folder`.
///
/// # Errors
/// The standard streams cannot be used.
pub fn lua_host_main(path: PathBuf, folder: PathBuf, limits: GuestLimits) -> std::io::Result<()> {
    let line = Line::take_stdout()?;
    let host = LuaHost {
        sources: Sources::read(&path, &folder, limits)
            .map(Arc::new)
            .map_err(|error| failure(&error)),
        guard: Arc::default(),
        calls: Arc::new(Calls::new(Arc::clone(&line))),
        welcome: OnceLock::new(),
    };
    serve(Arc::new(host), line)
}

struct LuaHost {
    sources: Result<Arc<Sources>, RunFailure>,
    guard: Arc<Guard>,
    calls: Arc<Calls>,
    welcome: OnceLock<Value>,
}

thread_local! {
    /// The interpreter of the next run, in the thread of the runs.
    static NEXT: RefCell<Option<Result<State, Error>>> = const { RefCell::new(None) };
    /// The one of the last run: taking it down takes its time, and can wait until the answer is sent.
    static SPENT: RefCell<Option<State>> = const { RefCell::new(None) };
}

impl LuaHost {
    /// The interpreter for a run, new unless it was made ready.
    fn state(&self) -> Result<State, RunFailure> {
        let sources = self.sources.as_ref().map_err(Clone::clone)?;
        let next = NEXT.with_borrow_mut(Option::take);
        let state = next.unwrap_or_else(|| State::new(sources, &self.guard));
        state.map_err(|error| failure(&error))
    }

    fn perform(&self, params: &Value) -> Result<Value, RunFailure> {
        let state = self.state()?;
        let result = self.perform_in(&state, params);
        SPENT.set(Some(state));
        result
    }

    fn perform_in(&self, state: &State, params: &Value) -> Result<Value, RunFailure> {
        let text = |key: &str| params[key].as_str();
        let plugin = text("plugin").unwrap_or_default();
        let function = describe::find(state, plugin, text("step"))
            .map_err(|error| RunFailure::new(BAD_PARAMS, first_line(&error)))?;
        let null = Value::Null;
        let welcome = self.welcome.get().unwrap_or(&null);
        let task = task::Task::new(state, params, welcome, &self.calls);
        let (log, data) = task.run(&function).map_err(|error| failure(&error))?;
        let mut result = Map::new();
        match log {
            LuaValue::Nil => {}
            LuaValue::String(log) => {
                result.insert("log".to_owned(), log.to_string_lossy().into());
            }
            other => {
                let what = other.type_name();
                return Err(RunFailure::new(
                    code::FAILED,
                    format!(
                        "a plugin returns the text for its log, or nothing; this returned a {what}"
                    ),
                ));
            }
        }
        if !data.is_nil() {
            let data = values::to_json(&state.lua, &data).map_err(|error| failure(&error))?;
            result.insert("data".to_owned(), data);
        }
        Ok(Value::Object(result))
    }
}

impl Hosted for LuaHost {
    fn welcome(&self, params: &Value) {
        let _ = self.welcome.set(params.clone());
        self.calls.greet(params);
    }

    fn describe(&self) -> Result<Value, RunFailure> {
        let state = self.state()?;
        describe::describe(&state.lua, &state.module).map_err(|error| failure(&error))
    }

    fn run(&self, params: &Value) -> Result<Value, RunFailure> {
        self.guard.begin(params);
        let result = self.perform(params);
        let is_cancelled = self.guard.is_cancelled();
        self.guard.end();
        match is_cancelled {
            // A cancelled run often fails of something that is only a consequence.
            true => Err(RunFailure::new(code::CANCELLED, "cancelled")),
            false => result,
        }
    }

    fn open(&self, call: &NodeCall<'_>) -> Result<Box<dyn Node>, RunFailure> {
        let sources = self.sources.as_ref().map_err(Clone::clone)?;
        // Each node has an interpreter of its own, in its own thread.
        let state = State::new(sources, &Arc::default()).map_err(|error| failure(&error))?;
        let node = node::LuaNode::open(state, call.line).map_err(|error| failure(&error))?;
        Ok(Box::new(node))
    }

    fn cancel(&self, params: &Value) {
        self.guard.cancel(params);
    }

    fn answered(&self, message: &Value) {
        self.calls.take_answer(message);
    }

    fn prepare(&self) {
        SPENT.set(None);
        if let Ok(sources) = &self.sources {
            let state = State::new(sources, &self.guard);
            NEXT.with_borrow_mut(|next| *next = Some(state));
        }
    }
}

/// Which run is in progress, and which was cancelled: that may be heard before the run begins.
#[derive(Debug, Default)]
struct Guard(Mutex<Runs>);

/// Task and run.
type Key = (i64, i64);

#[derive(Debug, Default)]
struct Runs {
    current: Option<Key>,
    cancelled: Option<Key>,
}

impl Guard {
    fn begin(&self, params: &Value) {
        self.runs().current = key(params);
    }

    fn end(&self) {
        self.runs().current = None;
    }

    fn cancel(&self, params: &Value) {
        self.runs().cancelled = key(params);
    }

    fn is_cancelled(&self) -> bool {
        let runs = self.runs();
        runs.current.is_some() && runs.current == runs.cancelled
    }

    fn runs(&self) -> std::sync::MutexGuard<'_, Runs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(params: &Value) -> Option<Key> {
    Some((params["task"].as_i64()?, params["run"].as_i64()?))
}

/// An error of Lua: its message, and the traceback apart.
fn failure(error: &Error) -> RunFailure {
    let text = text_of(error);
    let (message, traceback) = match text.split_once("\nstack traceback:") {
        Some((message, traceback)) => (message, Some(traceback.trim_matches('\n'))),
        None => (text.as_str(), None),
    };
    let message = message.trim().replace('\n', " ");
    RunFailure {
        traceback: traceback.map(|lines| format!("stack traceback:\n{lines}")),
        ..RunFailure::new(code::FAILED, message)
    }
}

fn first_line(error: &Error) -> String {
    let text = text_of(error);
    text.lines().next().unwrap_or_default().to_owned()
}

/// Without the word for what kind of error it is: that says little to the author of a plugin.
fn text_of(error: &Error) -> String {
    match error {
        Error::RuntimeError(text) => text.clone(),
        Error::CallbackError { cause, traceback } => {
            format!("{}\n{traceback}", first_line(cause))
        }
        Error::MemoryError(text) => format!("the run needs more memory than its limit ({text})"),
        other => other.to_string(),
    }
}

fn is_in(path: &Path, folder: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    matches!((real(path), real(folder)), (Some(path), Some(folder)) if path.starts_with(&folder))
}

/// The fields of a plugin's task.
fn fields(params: &Value, welcome: &Value) -> Value {
    let object = |value: &Value| match value {
        Value::Object(_) => value.clone(),
        _ => json!({}),
    };
    json!({
        "id": params["task"],
        "run": params["run"],
        "step_id": params["stepId"],
        "inputs": object(&params["inputs"]),
        "data": params["data"],
        "directory": params["directory"],
        "base_url": params["baseUrl"],
        "module": {"name": welcome["name"], "uuid": welcome["uuid"], "args": welcome["args"]},
    })
}
