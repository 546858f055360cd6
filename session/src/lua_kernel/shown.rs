//! Values of Lua as text, and as what clients display.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mlua::{Error, Function, Lua, LuaString, Result, Table, Value as LuaValue};
use serde_json::{Map, Value};

use super::interpreter::lossy;

/// How deep tables are shown.
const MAX_DEPTH: usize = 2;
/// Fields of one table that are shown.
const MAX_FIELDS: usize = 100;

/// The text of a value at the end of a cell.
pub(super) fn shown(lua: &Lua, value: &LuaValue) -> Result<String> {
    match value {
        LuaValue::String(text) => Ok(lossy(text)),
        value => inner(lua, value, 0),
    }
}

fn inner(lua: &Lua, value: &LuaValue, depth: usize) -> Result<String> {
    match value {
        LuaValue::String(text) => Ok(format!("{:?}", lossy(text))),
        LuaValue::Table(table) if !has_text(table)? => fields(lua, table, depth),
        value => {
            let tostring: Function = lua.globals().get("tostring")?;
            Ok(lossy(&tostring.call::<LuaString>(value)?))
        }
    }
}

fn has_text(table: &Table) -> Result<bool> {
    let Some(meta) = table.metatable() else {
        return Ok(false);
    };
    Ok(!meta.raw_get::<LuaValue>("__tostring")?.is_nil()
        || !meta.raw_get::<LuaValue>("__name")?.is_nil())
}

fn fields(lua: &Lua, table: &Table, depth: usize) -> Result<String> {
    let count = table.raw_len();
    if depth >= MAX_DEPTH && !is_empty(table)? {
        return Ok("{…}".to_owned());
    }
    let mut shown = Vec::new();
    for index in 1..=count.min(MAX_FIELDS) {
        shown.push(inner(lua, &table.raw_get(index)?, depth + 1)?);
    }
    let mut named = Vec::new();
    let mut is_cut = count > MAX_FIELDS;
    let listed = i64::try_from(count).unwrap_or(i64::MAX);
    for pair in table.pairs::<LuaValue, LuaValue>() {
        let (key, value) = pair?;
        if matches!(&key, LuaValue::Integer(index) if (1..=listed).contains(index)) {
            continue;
        }
        if shown.len() + named.len() >= MAX_FIELDS {
            is_cut = true;
            break;
        }
        let key = match &key {
            LuaValue::String(text) if is_name(&lossy(text)) => lossy(text),
            key => format!("[{}]", inner(lua, key, MAX_DEPTH)?),
        };
        named.push(format!("{key} = {}", inner(lua, &value, depth + 1)?));
    }
    named.sort_unstable();
    shown.extend(named);
    if is_cut {
        shown.push("…".to_owned());
    }
    Ok(format!("{{{}}}", shown.join(", ")))
}

fn is_empty(table: &Table) -> Result<bool> {
    table
        .pairs::<LuaValue, LuaValue>()
        .next()
        .transpose()
        .map(|first| first.is_none())
}

/// Whether a text may stand behind a dot.
pub(super) fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(is_part)
        && text.starts_with(|c: char| !c.is_ascii_digit())
        && !super::names::KEYWORDS.contains(&text)
}

/// What is displayed, by media types: texts, and the bytes of pictures.
pub(super) fn bundle(data: &Table) -> Result<Map<String, Value>> {
    let mut bundle = Map::new();
    for pair in data.pairs::<String, LuaValue>() {
        let (kind, value) = pair?;
        let text = match &value {
            LuaValue::String(text) => match kind.starts_with("image/") && !kind.ends_with("+xml") {
                true => STANDARD.encode(text.as_bytes()),
                false => lossy(text),
            },
            LuaValue::Integer(_) | LuaValue::Number(_) | LuaValue::Boolean(_) => {
                value.to_string()?
            }
            other => {
                return Err(Error::runtime(format!(
                    "what is displayed as {kind} is a {}; expected text",
                    other.type_name()
                )));
            }
        };
        bundle.insert(kind, text.into());
    }
    Ok(bundle)
}
