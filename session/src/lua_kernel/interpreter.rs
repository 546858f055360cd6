//! The interpreter of a session: cells run in it one after the other, and it keeps what they make.

use std::sync::atomic::{AtomicBool, Ordering};

use mlua::chunk::ChunkMode;
use mlua::{
    Error, Function, HookTriggers, Lua, LuaOptions, LuaString, MultiValue, Result, StdLib, Table,
    Value as LuaValue, VmState,
};
use serde_json::{Map, Value};

use super::shown::{bundle, shown};

/// Instructions between two looks at whether the cell was interrupted.
const STRIDE: u32 = 10_000;
/// Lines from the end of a cell in which the expression begins whose value is shown.
const MAX_TAIL: usize = 50;
const PRELUDE: &str = include_str!("prelude.lua");

/// What the interpreter needs of the kernel around it.
pub(super) struct Around {
    /// Set where the cell is to end.
    pub(super) interrupted: &'static AtomicBool,
    /// Asks whoever is at the client for a line. An error says why nobody is asked.
    pub(super) ask: Box<dyn Fn() -> std::result::Result<Option<String>, String>>,
    /// Shows something, by media types.
    pub(super) display: Box<dyn Fn(Map<String, Value>)>,
    /// Ends the kernel.
    pub(super) quit: Box<dyn Fn(i32)>,
}

/// An interpreter with what cells have made in it.
#[derive(Debug)]
pub(super) struct Interpreter {
    pub(super) lua: Lua,
    interrupted: &'static AtomicBool,
    /// Gives back its arguments.
    same: Function,
}

/// What has come of a cell, or an expression, that failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) traceback: Vec<String>,
}

/// Whether a text is a cell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Completeness {
    Complete,
    Incomplete,
    Invalid,
}

impl Interpreter {
    /// A new one, which takes up to so many bytes.
    pub(super) fn new(memory: Option<u64>, around: Around) -> Result<Self> {
        let libraries = StdLib::COROUTINE
            | StdLib::IO
            | StdLib::MATH
            | StdLib::OS
            | StdLib::PACKAGE
            | StdLib::STRING
            | StdLib::TABLE
            | StdLib::UTF8;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        let interrupted = around.interrupted;
        provide(&lua, around)?;
        let triggers = HookTriggers::new().every_nth_instruction(STRIDE);
        lua.set_global_hook(triggers, move |_, _| {
            match interrupted.load(Ordering::Relaxed) {
                true => Err(Error::runtime("interrupted")),
                false => Ok(VmState::Continue),
            }
        })?;
        if let Some(memory) = memory {
            lua.set_memory_limit(usize::try_from(memory).unwrap_or(usize::MAX))?;
        }
        let same = lua.create_function(|_, values: MultiValue| Ok(values))?;
        Ok(Self {
            lua,
            interrupted,
            same,
        })
    }

    /// Runs a cell. Answers the text of the values of the expression that it is, or ends with; nothing where it has
    /// none.
    pub(super) fn run(
        &self,
        code: &str,
        name: &str,
    ) -> std::result::Result<Option<String>, Failure> {
        let run = || {
            let values: MultiValue = self.compile(code, name)?.call(&self.same)?;
            match values.is_empty() {
                true => Ok(None),
                false => self.text(values).map(Some),
            }
        };
        run().map_err(|error| self.failure(&error))
    }

    /// The text of an expression.
    pub(super) fn value(&self, expression: &str) -> std::result::Result<String, Failure> {
        let value = || {
            let function = self.expression("", expression, "=expression")?;
            self.text(function.call(&self.same)?)
        };
        value().map_err(|error| self.failure(&error))
    }

    /// Whether a text may be run, or wants more lines.
    pub(super) fn completeness(&self, code: &str) -> Completeness {
        let wants_more = |loaded: Result<Function>| {
            let problem = loaded.err();
            matches!(
                problem,
                Some(Error::SyntaxError {
                    incomplete_input: true,
                    ..
                })
            )
        };
        if self.compile(code, "cell").is_ok() {
            Completeness::Complete
        } else if wants_more(self.load(code.to_owned(), "=cell"))
            || wants_more(self.load(format!("return {code}"), "=cell"))
        {
            Completeness::Incomplete
        } else {
            Completeness::Invalid
        }
    }

    /// A cell as a function: an expression, statements, or statements and then an expression on lines of its own.
    fn compile(&self, code: &str, name: &str) -> Result<Function> {
        let name = format!("={name}");
        if let Ok(function) = self.expression("", code, &name) {
            return Ok(function);
        }
        let statements = self.load(code.to_owned(), &name);
        let text = code.trim_end();
        for (at, _) in text.rmatch_indices('\n').take(MAX_TAIL) {
            let (head, tail) = text.split_at(at + 1);
            // What begins with a name cannot belong to the line before; a parenthesis or a sign can.
            let is_apart = tail
                .trim_start()
                .starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            if (is_apart || statements.is_err())
                && let Ok(function) = self.expression(head, tail, &name)
            {
                return Ok(function);
            }
        }
        statements
    }

    /// Statements and an expression. It is no tail call, whose place in the cell would be lost.
    fn expression(&self, head: &str, tail: &str, name: &str) -> Result<Function> {
        self.load(format!("{head}return (...)({tail}\n)"), name)
    }

    fn load(&self, text: String, name: &str) -> Result<Function> {
        let chunk = self.lua.load(text).set_mode(ChunkMode::Text);
        chunk.set_name(name).into_function()
    }

    fn text(&self, values: MultiValue) -> Result<String> {
        let mut texts = Vec::new();
        for value in values {
            texts.push(shown(&self.lua, &value)?);
        }
        Ok(texts.join("\t"))
    }

    fn failure(&self, error: &Error) -> Failure {
        let (name, text, traceback) = parts(error);
        let (name, value) = match self.interrupted.load(Ordering::Relaxed) {
            true => ("Interrupt", "interrupted".to_owned()),
            false => (name, text),
        };
        if name == "MemoryError" {
            // What the cell has made is to be had again.
            let _ = self.lua.gc_collect();
        }
        let mut lines = vec![format!("{name}: {value}")];
        lines.extend(traceback.lines().map(str::to_owned));
        Failure {
            name,
            value,
            traceback: lines,
        }
    }
}

/// What kind of error it is, its text, and where it came from.
fn parts(error: &Error) -> (&'static str, String, String) {
    match error {
        Error::SyntaxError { message, .. } => ("SyntaxError", message.clone(), String::new()),
        Error::MemoryError(_) => (
            "MemoryError",
            "the session needs more memory than it may have (SESSION_MEMORY)".to_owned(),
            String::new(),
        ),
        Error::CallbackError { cause, traceback } => {
            let (name, text, _) = parts(cause);
            (name, text, traceback.trim().to_owned())
        }
        Error::RuntimeError(text) => {
            let (text, traceback) = match text.split_once("\nstack traceback:") {
                Some((text, traceback)) => (text, format!("stack traceback:{traceback}")),
                None => (text.as_str(), String::new()),
            };
            ("Error", text.to_owned(), traceback)
        }
        other => ("Error", other.to_string(), String::new()),
    }
}

fn provide(lua: &Lua, around: Around) -> Result<()> {
    let Around {
        interrupted,
        ask,
        display,
        quit,
    } = around;
    let is_interrupted =
        lua.create_function(move |_, ()| Ok(interrupted.load(Ordering::Relaxed)))?;
    let ask = lua.create_function(move |lua, ()| match ask() {
        Ok(Some(line)) => Ok(LuaValue::String(lua.create_string(line)?)),
        Ok(None) => Ok(LuaValue::Nil),
        Err(why) => Err(Error::runtime(why)),
    })?;
    let display = lua.create_function(move |_, data: Table| {
        display(bundle(&data)?);
        Ok(())
    })?;
    let quit = lua.create_function(move |_, code: i32| {
        quit(code);
        Ok(())
    })?;
    let prelude = lua.load(PRELUDE).set_mode(ChunkMode::Text);
    let prelude = prelude.set_name("=runner").into_function()?;
    prelude.call((is_interrupted, ask, display, quit))
}

/// The text of a string, as far as it is text.
pub(super) fn lossy(text: &LuaString) -> String {
    String::from_utf8_lossy(&text.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;

    type Shown = Rc<RefCell<Vec<Map<String, Value>>>>;

    fn interpreter() -> (Interpreter, &'static AtomicBool, Shown) {
        let interrupted: &'static AtomicBool = Box::leak(Box::default());
        let displayed = Shown::default();
        let sink = Rc::clone(&displayed);
        let lines = RefCell::new(vec!["12", "Ada"]);
        let around = Around {
            interrupted,
            ask: Box::new(move || match lines.borrow_mut().pop() {
                Some(line) => Ok(Some(line.to_owned())),
                None => Err("nobody is asked".to_owned()),
            }),
            display: Box::new(move |data| sink.borrow_mut().push(data)),
            quit: Box::new(|_| {}),
        };
        let made = Interpreter::new(Some(64 << 20), around).unwrap();
        (made, interrupted, displayed)
    }

    fn text(lua: &Interpreter, code: &str) -> Option<String> {
        lua.run(code, "cell 1").unwrap()
    }

    #[test]
    fn the_value_of_an_expression_is_shown_and_that_of_a_statement_is_not() {
        let (lua, ..) = interpreter();
        assert_eq!(text(&lua, "6 * 7").as_deref(), Some("42"));
        assert_eq!(text(&lua, "1, 'a', nil").as_deref(), Some("1\ta\tnil"));
        assert_eq!(text(&lua, "x = 1"), None);
        assert_eq!(text(&lua, "x = x + 1\nx -- more").as_deref(), Some("2"));
        assert_eq!(
            text(&lua, "local y = 2\nmath.max(\n  y,\n  3\n)\n").as_deref(),
            Some("3")
        );
        assert_eq!(text(&lua, "x = 2\nmath.max(x, 3)").as_deref(), Some("3"));
        assert_eq!(text(&lua, "x = 2\n-1"), None, "that is x = 2 - 1");
        assert_eq!(text(&lua, "x").as_deref(), Some("1"));
        assert_eq!(text(&lua, "if x then\n  f = tostring\nend\nx = 2"), None);
        assert_eq!(text(&lua, "return x").as_deref(), Some("2"));
        assert_eq!(text(&lua, "(function() end)()"), None);
        assert_eq!(text(&lua, ""), None);
        assert_eq!(text(&lua, "-- nothing"), None);
        assert_eq!(text(&lua, "2^53").as_deref(), Some("9.007199254741e+15"));
    }

    #[test]
    fn tables_are_shown_with_what_is_in_them() {
        let (lua, ..) = interpreter();
        let shown = text(&lua, "{1, 'two', x = {y = {z = {}}}, ['a b'] = true}");
        assert_eq!(
            shown.as_deref(),
            Some(r#"{1, "two", ["a b"] = true, x = {y = {…}}}"#)
        );
        let own = "setmetatable({}, {__tostring = function() return 'own' end})";
        assert_eq!(text(&lua, own).as_deref(), Some("own"));
        assert_eq!(
            text(&lua, "t = {}; t.t = t;\n{t}").as_deref(),
            Some("{{t = {…}}}")
        );
        let many = text(&lua, "many = {} for i = 1, 1e5 do many[i] = i end\nmany").unwrap();
        assert!(many.ends_with(", …}") && many.len() < 2000, "{many}");
    }

    #[test]
    fn errors_say_in_which_line_of_which_cell() {
        let (lua, ..) = interpreter();
        let failed = lua.run("local a\n\nprint(a.b)", "cell 3").unwrap_err();
        assert_eq!(failed.name, "Error");
        assert_eq!(
            failed.value,
            "cell 3:3: attempt to index a nil value (local 'a')"
        );
        let failed = lua.run("error('no')", "cell 4").unwrap_err();
        assert_eq!(failed.value, "cell 4:1: no");
        assert!(
            failed
                .traceback
                .iter()
                .any(|line| line.contains("cell 4:1")),
            "{failed:?}"
        );
        let failed = lua.run("x = = 1", "cell 5").unwrap_err();
        assert_eq!(failed.name, "SyntaxError");
        assert!(failed.value.contains("cell 5:1:"), "{failed:?}");
    }

    #[test]
    fn what_wants_more_lines_is_incomplete() {
        let (lua, ..) = interpreter();
        for (code, expected) in [
            ("x = 1", Completeness::Complete),
            ("1 + 1", Completeness::Complete),
            ("for i = 1, 2 do", Completeness::Incomplete),
            ("x = [[", Completeness::Incomplete),
            ("f(", Completeness::Incomplete),
            ("6 *", Completeness::Incomplete),
            ("x = = 1", Completeness::Invalid),
            ("end", Completeness::Invalid),
        ] {
            assert_eq!(lua.completeness(code), expected, "{code}");
        }
    }

    #[test]
    fn an_interrupt_ends_loops_that_catch_errors() {
        let (lua, interrupted, _) = interpreter();
        for code in [
            "while true do end",
            "while true do pcall(function() while true do end end) end",
            "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
            "while true do xpcall(function() while true do end end, function(e) return e end) end",
        ] {
            interrupted.store(false, Ordering::Relaxed);
            std::thread::spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                interrupted.store(true, Ordering::Relaxed);
            });
            let failed = lua.run(code, "cell 1").unwrap_err();
            assert_eq!(failed.name, "Interrupt", "{code}");
        }
        interrupted.store(false, Ordering::Relaxed);
        assert_eq!(text(&lua, "1").as_deref(), Some("1"));
    }

    #[test]
    fn too_much_memory_is_an_error_and_the_session_goes_on() {
        let (lua, ..) = interpreter();
        text(&lua, "kept = 1");
        let code = "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end";
        let failed = lua.run(code, "cell 1").unwrap_err();
        assert_eq!(failed.name, "MemoryError");
        assert_eq!(text(&lua, "kept").as_deref(), Some("1"));
    }

    #[test]
    fn questions_go_to_the_client() {
        let (lua, ..) = interpreter();
        assert_eq!(text(&lua, "io.read()").as_deref(), Some("Ada"));
        assert_eq!(text(&lua, "io.read('n') + 1").as_deref(), Some("13"));
        let failed = lua.run("io.stdin:read()", "cell 1").unwrap_err();
        assert!(failed.value.contains("nobody is asked"), "{failed:?}");
    }

    #[test]
    fn bytecode_is_not_loaded() {
        let (lua, ..) = interpreter();
        let shown = text(&lua, "load('\\27Lua')").unwrap();
        assert!(shown.contains("attempt to load a binary chunk"), "{shown}");
        assert_eq!(
            text(&lua, "load('return ...', 'x', 'b')(5)").as_deref(),
            Some("5")
        );
        assert_eq!(text(&lua, "string.dump").as_deref(), Some("nil"));
        assert!(lua.run("require('nowhere')", "cell 1").is_err());
    }

    #[test]
    fn pictures_are_displayed_by_their_media_types() {
        let (lua, _, displayed) = interpreter();
        text(
            &lua,
            r#"runner.display{["text/html"] = "<b>1</b>", ["image/png"] = "\x89PNG", ["text/plain"] = 1}"#,
        );
        let shown = displayed.borrow();
        assert_eq!(shown[0]["text/html"], "<b>1</b>");
        assert_eq!(shown[0]["image/png"], "iVBORw==");
        assert_eq!(shown[0]["text/plain"], "1");
        drop(shown);
        assert!(lua.run("runner.display('x')", "cell 1").is_err());
        assert!(
            lua.run("runner.display{['text/html'] = {}}", "cell 1")
                .is_err()
        );
    }

    #[test]
    fn expressions_of_the_user() {
        let (lua, ..) = interpreter();
        text(&lua, "x = 20");
        assert_eq!(lua.value("2 * x").as_deref(), Ok("40"));
        assert_eq!(lua.value("nowhere.x").unwrap_err().name, "Error");
        assert_eq!(lua.value("x = 1").unwrap_err().name, "SyntaxError");
    }
}
