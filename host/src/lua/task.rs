//! What a run may ask of its host.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Error, Function, Lua, LuaString, Result, Value as LuaValue};
use runner_sdk::HostCalls;
use serde_json::{Map, Value, json};

use super::state::State;
use super::values::{to_json, to_lua};
use crate::hosted::Calls;
use crate::protocol::MAX_LINE;

/// The longest output that is told as text instead of made a file, in bytes.
const SHORT_OUTPUT: usize = 16 * 1024;
/// The longest entry of a log, in bytes.
const MAX_LOG: usize = 128 * 1024;

/// A run of a plugin.
pub(super) struct Task<'a> {
    state: &'a State,
    params: &'a Value,
    welcome: &'a Value,
    calls: &'a Arc<Calls>,
}

impl<'a> Task<'a> {
    pub(super) fn new(
        state: &'a State,
        params: &'a Value,
        welcome: &'a Value,
        calls: &'a Arc<Calls>,
    ) -> Self {
        Self {
            state,
            params,
            welcome,
            calls,
        }
    }

    /// Calls the plugin's function; answers what it returned: the log, and what is kept.
    pub(super) fn run(&self, function: &Function) -> Result<(LuaValue, LuaValue)> {
        let lua = &self.state.lua;
        let LuaValue::Table(fields) = to_lua(lua, &super::fields(self.params, self.welcome))?
        else {
            return Err(Error::runtime("a task is a table"));
        };
        let task = self.state.task(fields, self.natives(lua)?)?;
        let parameters = to_lua(lua, &self.params["parameters"])?;
        function.call((task, parameters))
    }

    fn natives(&self, lua: &Lua) -> Result<[Function; 4]> {
        let id = self.params["task"].clone();
        let sender = Sender {
            calls: Arc::clone(self.calls),
            task: id,
        };
        let sender = Rc::new(sender);
        let notify = {
            let sender = Rc::clone(&sender);
            lua.create_function(move |lua, (method, params): (String, LuaValue)| {
                sender.notify(&method, to_json(lua, &params)?)
            })?
        };
        let request = {
            let sender = Rc::clone(&sender);
            lua.create_function(move |lua, (method, params): (String, LuaValue)| {
                let params = sender.complete(&method, to_json(lua, &params)?)?;
                match sender.calls.request(&method, params) {
                    Ok(answer) => to_lua(lua, &answer),
                    Err(failure) => Err(Error::runtime(failure.message)),
                }
            })?
        };
        let directory = PathBuf::from(self.params["directory"].as_str().unwrap_or_default());
        let output = {
            let outputs = Outputs {
                sender,
                directory: directory.clone(),
                room: Cell::new(
                    usize::try_from(self.params["outputText"].as_u64().unwrap_or(0)).unwrap_or(0),
                ),
                count: Cell::new(0),
            };
            lua.create_function(
                move |_,
                      (name, content, data_type, content_type): (
                    String,
                    LuaString,
                    Option<String>,
                    Option<String>,
                )| {
                    outputs.add(&name, &content.as_bytes(), data_type, content_type)
                },
            )?
        };
        let read = reading(lua, directory)?;
        Ok([notify, request, output, read])
    }
}

/// The function that reads files of a run: what lies in its directory, and its inputs.
pub(super) fn reading(lua: &Lua, directory: PathBuf) -> Result<Function> {
    lua.create_function(move |lua, path: String| {
        let path = Path::new(&path);
        // `in/` stands beside `work/`, in which the run's directory lies.
        let inputs = directory.ancestors().nth(2).map(|host| host.join("in"));
        let is_allowed = super::is_in(path, &directory)
            || inputs.is_some_and(|inputs| super::is_in(path, &inputs));
        if !is_allowed {
            return Err(Error::runtime(format!(
                "{} is neither an input nor in the run's directory",
                path.display()
            )));
        }
        let content = std::fs::read(path);
        let failed = |error| Error::runtime(format!("cannot read {}: {error}", path.display()));
        lua.create_string(content.map_err(failed)?)
    })
}

/// The way to the runner.
struct Sender {
    calls: Arc<Calls>,
    task: Value,
}

impl Sender {
    fn notify(&self, method: &str, params: Value) -> Result<()> {
        let mut params = params;
        if let Some(Value::String(text)) = params.get_mut("text")
            && text.len() > MAX_LOG
            && method == "log"
        {
            let (head, tail) = (
                text.floor_char_boundary(MAX_LOG / 2),
                text.len() - MAX_LOG / 2,
            );
            let tail = text.ceil_char_boundary(tail);
            *text = format!(
                "{}\n… {} bytes cut …\n{}",
                &text[..head],
                tail - head,
                &text[tail..]
            );
        }
        let params = self.complete(method, params)?;
        self.calls.notify(method, params);
        Ok(())
    }

    /// Adds the task, and checks that it fits into a line.
    fn complete(&self, method: &str, params: Value) -> Result<Value> {
        let mut params = match params {
            Value::Object(params) => params,
            _ => Map::new(),
        };
        params.insert("task".to_owned(), self.task.clone());
        let params = Value::Object(params);
        let size = params.to_string().len();
        match size + 1024 > MAX_LINE {
            true => Err(Error::runtime(format!(
                "the params of {method} take {size} bytes as JSON, and a line has at most {MAX_LINE}"
            ))),
            false => Ok(params),
        }
    }
}

/// The outputs of a run.
struct Outputs {
    sender: Rc<Sender>,
    directory: PathBuf,
    /// Bytes that may still come as text.
    room: Cell<usize>,
    count: Cell<usize>,
}

impl Outputs {
    fn add(
        &self,
        name: &str,
        content: &[u8],
        data_type: Option<String>,
        content_type: Option<String>,
    ) -> Result<()> {
        let mut params = Map::new();
        params.insert("name".to_owned(), name.into());
        for (key, value) in [("dataType", data_type), ("contentType", content_type)] {
            params.extend(value.map(|value| (key.to_owned(), value.into())));
        }
        let size = content.len();
        let text = std::str::from_utf8(content).ok();
        match text.filter(|_| size <= SHORT_OUTPUT.min(self.room.get())) {
            Some(text) => {
                self.room.set(self.room.get() - size);
                params.insert("text".to_owned(), text.into());
            }
            None => {
                self.count.set(self.count.get() + 1);
                let file = format!("output-{}", self.count.get());
                let path = self.directory.join(&file);
                std::fs::write(&path, content).map_err(|error| {
                    Error::runtime(format!("cannot write the output {name:?}: {error}"))
                })?;
                params.insert("path".to_owned(), json!(file));
            }
        }
        self.sender.notify("output", Value::Object(params))
    }
}
