//! What the file of a Lua module returns, as the protocol describes plugins.

use mlua::{Error, Function, Lua, Result, Table, Value as LuaValue};
use runner_core::identity::Identity;
use serde_json::{Map, Value, json};

use super::state::State;
use super::values::to_json;

/// Fields of a plugin or step that are told as they are.
const PLAIN: &[&str] = &[
    "name",
    "version",
    "title",
    "description",
    "help",
    "type",
    "tags",
    "example",
    "dataOutput",
    "links",
    "step",
];
/// Fields with a meaning of their own.
const OWN: &[&str] = &[
    "parameters",
    "run",
    "steps",
    "node",
    "source",
    "setup",
    "cleanup",
    "takes",
    "gives",
    "items",
];
/// Fields that are lists, also when they are empty.
const LISTS: &[&str] = &["tags", "dataOutput", "links"];

/// The plugins that the module's file returned: one table, or a list of them.
pub(super) fn plugins(module: &LuaValue) -> Result<Vec<Table>> {
    let LuaValue::Table(table) = module else {
        return Err(Error::runtime(format!(
            "the file must return a table that is a plugin, or a list of plugins; it returned {}",
            module.type_name()
        )));
    };
    match table.raw_len() {
        0 => Ok(vec![table.clone()]),
        _ => table.sequence_values().collect(),
    }
}

/// The result of `describe`.
pub(super) fn describe(lua: &Lua, module: &LuaValue) -> Result<Value> {
    let described: Result<Vec<Value>> = plugins(module)?
        .iter()
        .map(|plugin| {
            let mut described = form(lua, plugin)?;
            match node(lua, plugin)? {
                Some(node) => {
                    if plugin.get::<LuaValue>("run")?.is_nil() {
                        takes_items(&mut described);
                    }
                    described.insert("node".to_owned(), node);
                }
                None => drop(function(plugin, "run")?),
            }
            let steps = list(plugin, "steps")?;
            let steps: Result<Vec<Value>> = steps
                .iter()
                .map(|step| {
                    function(step, "run")?;
                    Ok(Value::Object(form(lua, step)?))
                })
                .collect();
            described.insert("steps".to_owned(), Value::Array(steps?));
            Ok(Value::Object(described))
        })
        .collect();
    Ok(json!({"plugins": described?, "depends": []}))
}

/// How a plugin is a node of pipelines, if it is one: it has `node`, or `source`.
fn node(lua: &Lua, plugin: &Table) -> Result<Option<Value>> {
    let has = |key: &str| Ok::<_, Error>(!plugin.get::<LuaValue>(key)?.is_nil());
    let is_source = has("source")?;
    match (has("node")?, is_source) {
        (false, false) => return Ok(None),
        (true, true) => {
            return Err(Error::runtime(
                "a plugin has either `node` or `source`, not both",
            ));
        }
        (true, false) => drop(function(plugin, "node")?),
        (false, true) => drop(function(plugin, "source")?),
    }
    for key in ["setup", "cleanup"] {
        if has(key)? {
            function(plugin, key)?;
        }
    }
    let mut node = json!({"source": is_source});
    for (key, name) in [("takes", "takes"), ("gives", "gives"), ("items", "example")] {
        let value = to_json(lua, &plugin.get(key)?)?;
        if !value.is_null() {
            node[name] = value;
        }
    }
    Ok(Some(node))
}

/// A node without `run` is run as a task over the items that it is given.
fn takes_items(described: &mut Map<String, Value>) {
    described["parameters"]["properties"]["items"] =
        json!({"type": "array", "title": "Items", "default": []});
}

/// The table of a plugin.
pub(super) fn plugin(module: &LuaValue, identifier: &str) -> Result<Table> {
    let mut offered = Vec::new();
    for plugin in plugins(module)? {
        let (name, version): (String, String) = (plugin.get("name")?, plugin.get("version")?);
        let identity = Identity::new(&name, &version).map_err(Error::external)?;
        if identity.identifier() == identifier {
            return Ok(plugin);
        }
        offered.push(identity.identifier());
    }
    Err(Error::runtime(format!(
        "there is no plugin {identifier:?} here; there are: {}",
        offered.join(", ")
    )))
}

/// The function that does a run; the error names what there is instead.
pub(super) fn find(state: &State, identifier: &str, step: Option<&str>) -> Result<Function> {
    let plugin = plugin(&state.module, identifier)?;
    let Some(step) = step else {
        if plugin.get::<LuaValue>("run")?.is_nil() && node(&state.lua, &plugin)?.is_some() {
            return state.nodes.get::<Function>("run")?.bind(plugin);
        }
        return function(&plugin, "run");
    };
    for declared in list(&plugin, "steps")? {
        if declared.get::<String>("step")? == step {
            return function(&declared, "run");
        }
    }
    Err(Error::runtime(format!("{identifier} has no step {step:?}")))
}

fn function(table: &Table, key: &str) -> Result<Function> {
    match table.get(key)? {
        LuaValue::Function(function) => Ok(function),
        other => Err(Error::runtime(format!(
            "the field {key:?} of a plugin or step must be a function; it is {}",
            other.type_name()
        ))),
    }
}

fn list(table: &Table, key: &str) -> Result<Vec<Table>> {
    match table.get(key)? {
        LuaValue::Nil => Ok(Vec::new()),
        LuaValue::Table(list) => list.sequence_values().collect(),
        other => Err(Error::runtime(format!(
            "the field {key:?} must be a list; it is {}",
            other.type_name()
        ))),
    }
}

/// What a plugin and a step have in common.
fn form(lua: &Lua, table: &Table) -> Result<Map<String, Value>> {
    let mut described = Map::new();
    for pair in table.pairs::<String, LuaValue>() {
        let (key, value) = pair?;
        if OWN.contains(&key.as_str()) {
            continue;
        }
        if !PLAIN.contains(&key.as_str()) {
            return Err(Error::runtime(format!(
                "a plugin has no field {key:?}; expected {}, {}",
                PLAIN.join(", "),
                OWN.join(", ")
            )));
        }
        let value = match to_json(lua, &value)? {
            Value::Object(empty) if empty.is_empty() && LISTS.contains(&key.as_str()) => json!([]),
            value => value,
        };
        described.insert(key, value);
    }
    described.sort_keys();
    described.insert("parameters".to_owned(), parameters(lua, table)?);
    Ok(described)
}

/// A JSON Schema of a list of parameters, each `{"key", type = …}`. One without a default is required.
fn parameters(lua: &Lua, table: &Table) -> Result<Value> {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for parameter in list(table, "parameters")? {
        let LuaValue::String(key) = parameter.get(1)? else {
            return Err(Error::runtime(
                "a parameter begins with its key: { \"text\", type = \"string\" }",
            ));
        };
        let key = key.to_string_lossy();
        let schema = lua.create_table()?;
        let mut is_required = None;
        for pair in parameter.pairs::<LuaValue, LuaValue>() {
            let (name, value) = pair?;
            match &name {
                LuaValue::Integer(1) => {}
                LuaValue::String(name) if *name == "required" => is_required = value.as_boolean(),
                _ => schema.raw_set(name, value)?,
            }
        }
        let has_default = schema.contains_key("default")?;
        if is_required.unwrap_or(!has_default) {
            required.push(Value::String(key.clone()));
        }
        let schema = to_json(lua, &LuaValue::Table(schema))
            .map_err(|error| Error::runtime(format!("the parameter {key:?}: {error}")))?;
        if properties.insert(key.clone(), schema).is_some() {
            return Err(Error::runtime(format!("there are two parameters {key:?}")));
        }
    }
    Ok(json!({"type": "object", "properties": properties, "required": required}))
}
