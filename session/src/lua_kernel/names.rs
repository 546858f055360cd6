//! Names in an interpreter: how one goes on, and what is behind it.

use mlua::{Function, Lua, Table, Value as LuaValue};

use super::interpreter::lossy;
use super::shown::{is_name, shown};

/// Words of the language.
pub(super) const KEYWORDS: &[&str] = &[
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
    "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
];
/// Names that are offered at most.
const MAX_MATCHES: usize = 1000;
/// Tables in which a field is looked for, one behind the other.
const MAX_BEHIND: usize = 8;
/// Characters of a value that is told of.
const MAX_TEXT: usize = 1000;

/// How a name may go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Completion {
    pub(super) matches: Vec<String>,
    /// Where what they replace begins and ends, in characters.
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Names that begin like the one before a position.
pub(super) fn complete(lua: &Lua, code: &str, cursor: usize) -> Completion {
    let before: String = code.chars().take(cursor).collect();
    let path = path_before(&before);
    let at = path.rfind(['.', ':']);
    let prefix = &path[at.map_or(0, |at| at + 1)..];
    let end = before.chars().count();
    let mut found = Completion {
        matches: Vec::new(),
        start: end - prefix.chars().count(),
        end,
    };
    let container = match at {
        None => Some(LuaValue::Table(lua.globals())),
        Some(at) => resolve(lua, &path[..at]),
    };
    let wants_function = at.is_some_and(|at| path[at..].starts_with(':'));
    for table in container.into_iter().flat_map(|one| behind(lua, one)) {
        for pair in table.pairs::<LuaValue, LuaValue>() {
            let Ok((LuaValue::String(key), value)) = pair else {
                continue;
            };
            let key = lossy(&key);
            let fits = !wants_function || value.is_function();
            if fits && key.starts_with(prefix) && is_name(&key) {
                found.matches.push(key);
            }
        }
    }
    if at.is_none() && !prefix.is_empty() {
        let words = KEYWORDS.iter().filter(|word| word.starts_with(prefix));
        found.matches.extend(words.map(|word| (*word).to_owned()));
    }
    found.matches.sort_unstable();
    found.matches.dedup();
    found.matches.truncate(MAX_MATCHES);
    found
}

/// What stands at a position, in words; nothing where it is no name that has a value.
pub(super) fn inspect(lua: &Lua, code: &str, cursor: usize) -> Option<String> {
    let before: String = code.chars().take(cursor).collect();
    let after: String = code.chars().skip(cursor).collect();
    let rest = after.find(|c: char| !is_part(c)).unwrap_or(after.len());
    let mut path = format!("{}{}", path_before(&before), &after[..rest]);
    if path.is_empty() {
        // Within the parentheses of a call.
        path = path_before(before.rsplit_once('(')?.0).to_owned();
    }
    let value = resolve(lua, &path)?;
    if value.is_nil() {
        return None;
    }
    if let LuaValue::Function(function) = &value {
        return Some(describe(&path, function));
    }
    let mut text = shown(lua, &value).ok()?;
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
        text.push('…');
    }
    Some(format!("{path}: {}\n{text}", value.type_name()))
}

fn describe(path: &str, function: &Function) -> String {
    let info = function.info();
    if info.what == "C" {
        return format!("{path}: function of a library");
    }
    let place = info.short_src.unwrap_or_default();
    let line = info.line_defined.unwrap_or(0);
    let more = match info.is_vararg {
        true => " or more",
        false => "",
    };
    format!(
        "{path}: function of {}{more} parameters, {place} line {line}",
        info.num_params
    )
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The name at the end of a text, with dots and colons.
fn path_before(text: &str) -> &str {
    let start = text.rfind(|c: char| !is_part(c) && c != '.' && c != ':');
    let start = start.map_or(0, |at| {
        at + text[at..].chars().next().map_or(1, char::len_utf8)
    });
    &text[start..]
}

/// What a name with dots stands for. Nothing of the session runs.
fn resolve(lua: &Lua, path: &str) -> Option<LuaValue> {
    let mut value = LuaValue::Table(lua.globals());
    for part in path.split(['.', ':']) {
        let tables = behind(lua, value);
        let mut found = tables
            .iter()
            .filter_map(|table| table.raw_get::<LuaValue>(part).ok());
        value = found.find(|one| !one.is_nil())?;
    }
    Some(value)
}

/// The tables in which fields of a value are looked for.
fn behind(lua: &Lua, value: LuaValue) -> Vec<Table> {
    let mut tables = Vec::new();
    let mut next = match value {
        LuaValue::Table(table) => Some(table),
        LuaValue::String(_) => lua.globals().raw_get("string").ok(),
        _ => None,
    };
    while let Some(table) = next.take().filter(|_| tables.len() < MAX_BEHIND) {
        let index = table
            .metatable()
            .and_then(|meta| meta.raw_get::<LuaValue>("__index").ok());
        tables.push(table);
        if let Some(LuaValue::Table(index)) = index {
            next = Some(index);
        }
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lua(code: &str) -> Lua {
        let lua = Lua::new();
        lua.load(code).set_name("=cell 2").exec().unwrap();
        lua
    }

    fn matches(lua: &Lua, code: &str) -> Vec<String> {
        complete(lua, code, code.chars().count()).matches
    }

    #[test]
    fn names_and_fields_go_on() {
        let lua = lua(
            "thing = {alpha = 1, beta = {gamma = 2}, run = print, ['a b'] = 3}\n\
             other = setmetatable({own = 1}, {__index = thing})\n word = 'x'",
        );
        assert_eq!(matches(&lua, "thi"), ["thing"]);
        assert_eq!(matches(&lua, "print(thing."), ["alpha", "beta", "run"]);
        assert_eq!(matches(&lua, "thing.beta.g"), ["gamma"]);
        assert_eq!(matches(&lua, "thing:"), ["run"]);
        assert_eq!(matches(&lua, "other.o"), ["own"]);
        assert_eq!(matches(&lua, "other.al"), ["alpha"]);
        assert_eq!(matches(&lua, "word:re"), ["rep", "reverse"]);
        assert_eq!(matches(&lua, "whi"), ["while"]);
        assert!(matches(&lua, "nowhere.x").is_empty());
        let found = complete(&lua, "'ä' .. math.sq -- end", 14);
        assert_eq!((found.start, found.end), (12, 14));
        assert_eq!(found.matches, ["sqrt"]);
    }

    #[test]
    fn what_is_behind_a_name_is_told() {
        let lua = lua("\nfunction add(a, b, ...) end\nnumber = 5");
        let told = inspect(&lua, "x = add(1", 6).unwrap();
        assert_eq!(told, "add: function of 2 or more parameters, cell 2 line 2");
        assert_eq!(inspect(&lua, "add(", 4).as_deref(), Some(&*told));
        assert_eq!(inspect(&lua, "number", 3).unwrap(), "number: integer\n5");
        assert!(inspect(&lua, "print", 1).unwrap().contains("library"));
        assert_eq!(inspect(&lua, "nowhere", 7), None);
        assert_eq!(inspect(&lua, "", 0), None);
        assert_eq!(inspect(&lua, "ä", 900), None);
    }
}
