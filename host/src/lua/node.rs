//! A Lua plugin as a node of a pipeline: one interpreter while it is open.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use mlua::{Error, Function, Lua, LuaString, Result, Table, Value as LuaValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::state::State;
use super::task::reading;
use super::values::{to_json, to_lua};
use super::{describe, failure};
use crate::hosted::{Node, NodeCall, write_failure};
use crate::protocol::{MAX_ITEM, MAX_LINE};

/// Files that the nodes of this process have made: they share a directory.
static MADE: AtomicU64 = AtomicU64::new(0);

/// A node that is open.
pub(super) struct LuaNode {
    state: State,
    plugin: Table,
    /// Its parameters, where they are the same for every item.
    with: LuaValue,
    /// What its functions are told of their run, and may do with files.
    context: Table,
    /// What works on items.
    work: Function,
    /// What takes values from a source.
    pull: Function,
    /// What a source gave, once it was asked.
    step: Option<Function>,
}

/// The params of a request.
#[derive(Deserialize)]
struct Params {
    #[serde(default)]
    plugin: String,
    #[serde(default)]
    directory: Option<PathBuf>,
    #[serde(default)]
    with: Value,
    #[serde(default)]
    items: Vec<Value>,
    #[serde(default)]
    count: u64,
}

impl Params {
    fn of(line: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Request {
            params: Params,
        }
        let request: std::result::Result<Request, _> = serde_json::from_slice(line);
        let request = request.map_err(|error| Error::runtime(format!("the request: {error}")))?;
        Ok(request.params)
    }
}

impl LuaNode {
    /// Finds the plugin that `open` names, and sets it up.
    pub(super) fn open(state: State, line: &[u8]) -> Result<Self> {
        let Params {
            plugin,
            directory,
            with,
            ..
        } = Params::of(line)?;
        let plugin = describe::plugin(&state.module, &plugin)?;
        let with = match with {
            Value::Null => LuaValue::Nil,
            with => to_lua(&state.lua, &with)?,
        };
        let context = context(&state, directory)?;
        if let Some(setup) = plugin.get::<Option<Function>>("setup")? {
            setup.call::<()>((&with, &context))?;
        }
        Ok(Self {
            work: state.nodes.get("items")?,
            pull: state.nodes.get("pull")?,
            state,
            plugin,
            with,
            context,
            step: None,
        })
    }

    /// Works on items; what became of them goes into the answer, much of it ahead.
    fn items(&self, params: Params, call: &NodeCall<'_>, response: &mut Vec<u8>) -> Result<()> {
        let lua = &self.state.lua;
        let count = params.items.len();
        self.state.shares.set(count as u64);
        let items = list(lua, &params.items)?;
        let each = match &params.with {
            Value::Array(each) => Some(list(lua, each)?),
            _ => None,
        };
        let (kept, several, failed): (Table, Table, Table) =
            self.work
                .call((&self.plugin, items, count, &self.with, each, &self.context))?;
        let (has_several, has_failed) = (!several.is_empty(), !failed.is_empty());
        let mut made = Vec::with_capacity(count * 16);
        for number in 1..=count {
            if made.len() > MAX_LINE {
                call.part(&made);
                made.clear();
            }
            if !made.is_empty() {
                made.push(b',');
            }
            if has_failed && let Some(error) = failed.raw_get::<Option<LuaString>>(number)? {
                let error = error.to_string_lossy();
                write_error(&mut made, error.lines().next().unwrap_or_default());
                continue;
            }
            let begin = made.len();
            made.push(b'[');
            let written = match has_several && several.contains_key(number)? {
                true => write_all(lua, &several.raw_get(number)?, &mut made),
                false => match kept.raw_get::<LuaValue>(number)? {
                    LuaValue::Nil => Ok(()),
                    value => write(lua, &value, &mut made),
                },
            };
            made.push(b']');
            let size = made.len() - begin;
            let problem = match written {
                Err(error) => super::first_line(&error),
                Ok(()) if size > MAX_ITEM => {
                    format!("what it made has {size} bytes as JSON; an item has at most {MAX_ITEM}")
                }
                Ok(()) => continue,
            };
            made.truncate(begin);
            write_error(&mut made, &problem);
        }
        response.extend_from_slice(br#""result":{"made":["#);
        response.append(&mut made);
        response.extend_from_slice(b"]}}");
        Ok(())
    }

    /// Takes values from the source.
    fn pull(&mut self, most: u64, response: &mut Vec<u8>) -> Result<()> {
        self.state.shares.set(most.max(1));
        let step = match &self.step {
            Some(step) => step.clone(),
            None => {
                let source: Function = self.plugin.get("source")?;
                let step: Function = source.call((&self.with, &self.context))?;
                self.step = Some(step.clone());
                step
            }
        };
        let (values, end): (Table, bool) = self.pull.call((step, most))?;
        response.extend_from_slice(br#""result":{"values":["#);
        write_all(&self.state.lua, &values, response)?;
        response.extend_from_slice(format!(r#"],"end":{end}}}}}"#).as_bytes());
        Ok(())
    }

    fn close(&self, response: &mut Vec<u8>) -> Result<()> {
        self.state.shares.set(1);
        if let Some(cleanup) = self.plugin.get::<Option<Function>>("cleanup")? {
            cleanup.call::<()>(&self.context)?;
        }
        response.extend_from_slice(br#""result":{}}"#);
        Ok(())
    }
}

impl Node for LuaNode {
    fn answer(&mut self, call: &NodeCall<'_>, response: &mut Vec<u8>) {
        self.state.spent.set(0);
        let begin = response.len();
        let answered = Params::of(call.line).and_then(|params| match call.method {
            "items" => self.items(params, call, response),
            "pull" => self.pull(params.count, response),
            _ => self.close(response),
        });
        if let Err(error) = answered {
            response.truncate(begin);
            write_failure(response, &failure(&error));
        }
    }
}

/// What the functions of a node are told beside items and parameters.
fn context(state: &State, directory: Option<PathBuf>) -> Result<Table> {
    let lua = &state.lua;
    let shown = directory.as_ref().map(|path| path.display().to_string());
    let read = reading(lua, directory.clone().unwrap_or_default())?;
    let write = lua.create_function(move |_, (name, content): (String, LuaString)| {
        let Some(directory) = &directory else {
            return Err(Error::runtime("files cannot be made here"));
        };
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("made-{number}"));
        std::fs::write(&path, content.as_bytes())
            .map_err(|error| Error::runtime(format!("cannot write the file {name:?}: {error}")))?;
        Ok(path.display().to_string())
    })?;
    let make: Function = state.nodes.get("context")?;
    make.call((shown, write, read))
}

/// A plain table of these values.
fn list(lua: &Lua, values: &[Value]) -> Result<Table> {
    let list = lua.create_table_with_capacity(values.len(), 0)?;
    for (index, value) in values.iter().enumerate() {
        list.raw_set(index + 1, to_lua(lua, value)?)?;
    }
    Ok(list)
}

/// Appends the values of a list, separated by commas.
fn write_all(lua: &Lua, values: &Table, out: &mut Vec<u8>) -> Result<()> {
    for number in 1..=values.raw_len() {
        if number > 1 {
            out.push(b',');
        }
        write(lua, &values.raw_get(number)?, out)?;
    }
    Ok(())
}

/// Appends a value as JSON.
fn write(lua: &Lua, value: &LuaValue, out: &mut Vec<u8>) -> Result<()> {
    if let LuaValue::String(text) = value
        && let Ok(text) = text.to_str()
    {
        let written = serde_json::to_writer(out, &*text);
        return written.map_err(|error| Error::runtime(error.to_string()));
    }
    out.extend_from_slice(to_json(lua, value)?.to_string().as_bytes());
    Ok(())
}

fn write_error(out: &mut Vec<u8>, error: &str) {
    out.extend_from_slice(json!({"error": error}).to_string().as_bytes());
}
