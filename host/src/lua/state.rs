//! A fresh interpreter for one run: what a plugin finds in it, and what not.

use std::cell::Cell;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use mlua::chunk::ChunkMode;
use mlua::{
    Error, Function, HookTriggers, Lua, LuaOptions, LuaString, Result, StdLib, Table,
    Value as LuaValue, VmState,
};

use super::Guard;
use super::values::{LISTS, to_json, to_lua};
use crate::manifest::GuestLimits;

/// Instructions between two looks at whether the run was cancelled.
const STRIDE: u32 = 10_000;
/// Globals of the base library that read files or load code.
const WITHHELD: &[&str] = &["dofile", "loadfile", "load", "collectgarbage"];
/// What is left of `os`: the time.
const CLOCK: &[&str] = &["clock", "date", "difftime", "time"];
/// The largest file of source text, in bytes.
const MAX_SOURCE: u64 = 16 << 20;
const PRELUDE: &str = include_str!("../../../sdk/lua/runner.lua");
const NODES: &str = include_str!("../../../sdk/lua/nodes.lua");

/// What is the same for all runs of a module.
#[derive(Debug)]
pub(super) struct Sources {
    /// Where `require` looks.
    pub(super) folder: PathBuf,
    /// The module, compiled by this process.
    module: Vec<u8>,
    name: String,
    /// The task handle, likewise.
    prelude: Vec<u8>,
    /// What makes plugins nodes, likewise.
    nodes: Vec<u8>,
    limits: GuestLimits,
}

/// An interpreter with the module in it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) lua: Lua,
    /// What the module's file returned.
    pub(super) module: LuaValue,
    prelude: Function,
    /// What makes plugins nodes of pipelines.
    pub(super) nodes: Table,
    /// Instructions since the run began, or the items that are worked on came.
    pub(super) spent: Rc<Cell<u64>>,
    /// For how many runs or items the limit of instructions is meant.
    pub(super) shares: Rc<Cell<u64>>,
}

impl Sources {
    /// Reads the module; nothing of it runs.
    pub(super) fn read(path: &Path, folder: &Path, limits: GuestLimits) -> Result<Self> {
        let lua = Lua::new_with(StdLib::NONE, LuaOptions::new())?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let compile = |text: &[u8], name: &str| {
            let chunk = lua.load(text).set_mode(ChunkMode::Text);
            let chunk = chunk.set_name(format!("@{name}")).into_function()?;
            Ok::<_, Error>(chunk.dump(false))
        };
        Ok(Self {
            folder: folder.to_owned(),
            module: compile(&source(path)?, &name)?,
            name: format!("@{name}"),
            prelude: compile(PRELUDE.as_bytes(), "runner.lua")?,
            nodes: compile(NODES.as_bytes(), "nodes.lua")?,
            limits,
        })
    }
}

fn source(path: &Path) -> Result<Vec<u8>> {
    let failed =
        |error: std::io::Error| Error::runtime(format!("cannot read {}: {error}", path.display()));
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_SOURCE {
        return Err(Error::runtime(format!(
            "{} has {size} bytes; the limit of a source is {MAX_SOURCE}",
            path.display()
        )));
    }
    std::fs::read(path).map_err(failed)
}

impl State {
    /// Makes an interpreter and lets the module's file run in it.
    pub(super) fn new(sources: &Arc<Sources>, guard: &Arc<Guard>) -> Result<Self> {
        let libraries = StdLib::COROUTINE
            | StdLib::MATH
            | StdLib::OS
            | StdLib::STRING
            | StdLib::TABLE
            | StdLib::UTF8;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        let memory = usize::try_from(sources.limits.memory()).unwrap_or(usize::MAX);
        lua.set_memory_limit(memory)?;
        withhold(&lua)?;
        provide(&lua, sources)?;
        let (spent, shares) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(1)));
        let budget = (Rc::clone(&spent), Rc::clone(&shares));
        watch(&lua, guard, sources.limits.instructions, budget)?;
        // What this process compiled itself need not be compiled again.
        let load = |code: &[u8], name: &str| {
            let chunk = lua.load(code).set_mode(ChunkMode::Binary);
            chunk.set_name(name).into_function()
        };
        let prelude = load(&sources.prelude, "@runner.lua")?;
        let require: Function = lua.globals().raw_get("require")?;
        let runner: Table = require.call("runner")?;
        let (list, encode): (Function, Function) = (runner.get("list")?, runner.get("encode")?);
        let nodes = load(&sources.nodes, "@nodes.lua")?.call((list, encode))?;
        let module = load(&sources.module, &sources.name)?.call(())?;
        Ok(Self {
            lua,
            module,
            prelude,
            nodes,
            spent,
            shares,
        })
    }

    /// The handle of a run, made of its fields.
    pub(super) fn task(&self, fields: Table, natives: [Function; 4]) -> Result<Table> {
        let [notify, request, output, read] = natives;
        self.prelude.call((fields, notify, request, output, read))
    }
}

/// Takes away what reaches beyond the run.
fn withhold(lua: &Lua) -> Result<()> {
    let globals = lua.globals();
    for name in WITHHELD {
        globals.raw_set(*name, LuaValue::Nil)?;
    }
    let os: Table = globals.raw_get("os")?;
    let clock = lua.create_table()?;
    for name in CLOCK {
        clock.raw_set(*name, os.raw_get::<LuaValue>(*name)?)?;
    }
    globals.raw_set("os", clock)?;
    // What makes bytecode goes with what would load it.
    globals
        .raw_get::<Table>("string")?
        .raw_set("dump", LuaValue::Nil)
}

/// Adds what takes its place: `print` to the log, `require` in the module's folder, `load` of source texts,
/// and the module `runner`.
fn provide(lua: &Lua, sources: &Arc<Sources>) -> Result<()> {
    let globals = lua.globals();
    let lists = lua.create_table()?;
    lua.set_named_registry_value(LISTS, &lists)?;
    let print = lua.create_function(|lua, values: mlua::MultiValue| {
        let tostring: Function = lua.globals().get("tostring")?;
        let mut parts = Vec::new();
        for value in values {
            parts.push(tostring.call::<LuaString>(value)?.to_string_lossy());
        }
        eprintln!("{}", parts.join("\t"));
        Ok(())
    })?;
    globals.raw_set("print", print)?;
    let load = lua.create_function(|lua, (text, name): (LuaString, Option<String>)| {
        let chunk = lua.load(text.as_bytes().to_vec()).set_mode(ChunkMode::Text);
        match chunk
            .set_name(name.unwrap_or_else(|| "=load".to_owned()))
            .into_function()
        {
            Ok(function) => Ok((LuaValue::Function(function), None)),
            Err(error) => Ok((LuaValue::Nil, Some(error.to_string()))),
        }
    })?;
    globals.raw_set("load", load)?;
    let runner = lua.create_table()?;
    runner.raw_set("null", LuaValue::NULL)?;
    let list = move |lua: &Lua, table: Option<Table>| {
        let table = table.map_or_else(|| lua.create_table(), Ok)?;
        table.set_metatable(Some(lua.named_registry_value(LISTS)?))?;
        Ok(table)
    };
    runner.raw_set("list", lua.create_function(list)?)?;
    runner.raw_set(
        "encode",
        lua.create_function(|lua, value: LuaValue| Ok(to_json(lua, &value)?.to_string()))?,
    )?;
    runner.raw_set(
        "decode",
        lua.create_function(|lua, text: LuaString| {
            let value = serde_json::from_slice(&text.as_bytes());
            to_lua(
                lua,
                &value.map_err(|error| Error::runtime(error.to_string()))?,
            )
        })?,
    )?;
    let loaded = lua.create_table()?;
    loaded.raw_set("runner", runner)?;
    let sources = Arc::clone(sources);
    let require = lua.create_function(move |lua, name: String| {
        let known: LuaValue = loaded.raw_get(name.as_str())?;
        if !known.is_nil() {
            return Ok(known);
        }
        let path = module_path(&sources.folder, &name)?;
        let chunk = lua.load(source(&path)?).set_mode(ChunkMode::Text);
        let chunk = chunk.set_name(format!("@{name}.lua")).into_function()?;
        let value: LuaValue = chunk.call(name.as_str())?;
        let value = match value {
            LuaValue::Nil => LuaValue::Boolean(true),
            value => value,
        };
        loaded.raw_set(name.as_str(), &value)?;
        Ok(value)
    })?;
    globals.raw_set("require", require)
}

/// `a.b` is the file `a/b.lua` in the folder, and never one outside of it.
fn module_path(folder: &Path, name: &str) -> Result<PathBuf> {
    let relative = PathBuf::from(format!("{}.lua", name.replace('.', "/")));
    let is_plain = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let path = folder.join(&relative);
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    match (is_plain, real(&path), real(folder)) {
        (true, Some(found), Some(folder)) if found.starts_with(&folder) => Ok(found),
        _ => Err(Error::runtime(format!(
            "there is no module {name:?}: {} is not in the plugin's folder",
            relative.display()
        ))),
    }
}

/// Ends what was cancelled or takes too many instructions. A plugin that catches the error is told again.
fn watch(
    lua: &Lua,
    guard: &Arc<Guard>,
    limit: Option<u64>,
    (passed, shares): (Rc<Cell<u64>>, Rc<Cell<u64>>),
) -> Result<()> {
    let guard = Arc::clone(guard);
    let stride = limit.map_or(STRIDE, |limit| {
        u32::try_from(limit.max(1)).unwrap_or(STRIDE).min(STRIDE)
    });
    let triggers = HookTriggers::new().every_nth_instruction(stride);
    lua.set_global_hook(triggers, move |_, _| {
        passed.set(passed.get() + u64::from(stride));
        if guard.is_cancelled() {
            return Err(Error::runtime("cancelled"));
        }
        match limit {
            Some(limit) if passed.get() > limit.saturating_mul(shares.get()) => {
                Err(Error::runtime(format!(
                    "the run takes more than its limit of {limit} instructions"
                )))
            }
            _ => Ok(VmState::Continue),
        }
    })
}
