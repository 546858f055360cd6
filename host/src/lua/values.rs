//! Between JSON and Lua. `null` in an object is an absent field, in a list it is `runner.null`.

use mlua::{Error, Lua, Result, Table, Value as LuaValue};
use serde_json::{Map, Number, Value};

/// How deep values may be nested.
const MAX_DEPTH: usize = 100;
/// Where the metatable of lists is kept: an empty one would else be an empty object.
pub(super) const LISTS: &str = "runner.lists";

/// A JSON value for Lua.
pub(super) fn to_lua(lua: &Lua, value: &Value) -> Result<LuaValue> {
    Ok(match value {
        Value::Null => LuaValue::NULL,
        Value::Bool(value) => LuaValue::Boolean(*value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => LuaValue::Integer(integer),
            (None, Some(float)) => LuaValue::Number(float),
            (None, None) => LuaValue::NULL,
        },
        Value::String(text) => LuaValue::String(lua.create_string(text)?),
        Value::Array(items) => {
            let list = lua.create_table_with_capacity(items.len(), 0)?;
            for (index, item) in items.iter().enumerate() {
                list.raw_set(index + 1, to_lua(lua, item)?)?;
            }
            list.set_metatable(Some(lua.named_registry_value(LISTS)?))?;
            LuaValue::Table(list)
        }
        Value::Object(map) => {
            let table = lua.create_table_with_capacity(0, map.len())?;
            for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
                table.raw_set(key.as_str(), to_lua(lua, value)?)?;
            }
            LuaValue::Table(table)
        }
    })
}

/// A Lua value as JSON; the error says what is none. The keys of objects are sorted.
pub(super) fn to_json(lua: &Lua, value: &LuaValue) -> Result<Value> {
    convert(lua, value, 0)
}

fn convert(lua: &Lua, value: &LuaValue, depth: usize) -> Result<Value> {
    if depth > MAX_DEPTH {
        return Err(Error::runtime(format!(
            "a value is nested deeper than {MAX_DEPTH}, or contains itself"
        )));
    }
    match value {
        LuaValue::Nil => Ok(Value::Null),
        value if value.is_null() => Ok(Value::Null),
        LuaValue::Boolean(value) => Ok(Value::Bool(*value)),
        LuaValue::Integer(integer) => Ok((*integer).into()),
        LuaValue::Number(float) => match Number::from_f64(*float) {
            Some(number) => Ok(Value::Number(number)),
            None => Err(Error::runtime(format!("{float} is no JSON"))),
        },
        LuaValue::String(text) => Ok(Value::String(text.to_string_lossy())),
        LuaValue::Table(table) => convert_table(lua, table, depth),
        other => Err(Error::runtime(format!(
            "a {} is no JSON",
            other.type_name()
        ))),
    }
}

fn convert_table(lua: &Lua, table: &Table, depth: usize) -> Result<Value> {
    let length = table.raw_len();
    let lists: Table = lua.named_registry_value(LISTS)?;
    let is_list = table.metatable().is_some_and(|own| own == lists);
    if length > 0 || is_list {
        let mut items = Vec::with_capacity(length);
        for index in 1..=length {
            items.push(convert(lua, &table.raw_get(index)?, depth + 1)?);
        }
        if table.pairs::<LuaValue, LuaValue>().count() > length {
            return Err(Error::runtime(
                "a table with both a list and named fields is no JSON",
            ));
        }
        return Ok(Value::Array(items));
    }
    let mut fields = Vec::new();
    for pair in table.pairs::<LuaValue, LuaValue>() {
        let (key, value) = pair?;
        let LuaValue::String(key) = key else {
            return Err(Error::runtime(format!(
                "a {} is no key of a JSON object",
                key.type_name()
            )));
        };
        fields.push((key.to_string_lossy(), convert(lua, &value, depth + 1)?));
    }
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Value::Object(Map::from_iter(fields)))
}
