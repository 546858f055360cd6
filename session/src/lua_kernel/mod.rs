//! The kernel of Lua: `runner lua-kernel`, in the place of a fork of the zygote. It has one thread for the
//! interpreter and the requests of clients, and one that gathers what is printed.

mod interpreter;
mod names;
mod outputs;
mod shown;
mod teller;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::line::{self, Heard};
use crate::message::{Channel, Message};
use interpreter::{Around, Completeness, Failure, Interpreter};
use outputs::Outputs;
use teller::Teller;

/// Lines of the history that are told where no number is asked for.
const TAIL: usize = 1000;

/// Whether the cell in progress is to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupt(_: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Is a kernel on the line that this process has inherited, until the runner is gone. `memory`: bytes that the
/// interpreter may take.
///
/// # Errors
/// There is no line, or it failed.
pub fn lua_kernel_main(memory: Option<u64>) -> std::io::Result<()> {
    // Calls that wait are not begun again, so that an interrupt ends them.
    let action = SigAction::new(
        SigHandler::Handler(interrupt),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing but store a flag.
    unsafe { sigaction(Signal::SIGINT, &action) }?;
    let (heard, told) = line::inherited()?;
    let teller = Arc::new(Teller::new(told));
    let outputs = Outputs::take_over(Arc::clone(&teller))?;
    let inbox = Rc::new(RefCell::new(Inbox {
        heard,
        waiting: VecDeque::new(),
        takes_questions: false,
    }));
    let around = around(&teller, &outputs, &inbox);
    let interpreter = Interpreter::new(memory, around)
        .map_err(|error| std::io::Error::other(error.to_string()))?;
    let mut kernel = Kernel {
        teller,
        outputs,
        inbox,
        interpreter,
        count: 1,
        past: Vec::new(),
        aborts: false,
    };
    kernel.serve()
}

/// What the interpreter reaches of the kernel.
fn around(teller: &Arc<Teller>, outputs: &Arc<Outputs>, inbox: &Rc<RefCell<Inbox>>) -> Around {
    let (asker, asked, inbox) = (Arc::clone(teller), Arc::clone(outputs), Rc::clone(inbox));
    let (shower, before) = (Arc::clone(teller), Arc::clone(outputs));
    let last = Arc::clone(outputs);
    Around {
        interrupted: &INTERRUPTED,
        ask: Box::new(move || {
            let mut inbox = inbox.borrow_mut();
            if !inbox.takes_questions {
                return Err("io.read was called, but this client takes no questions".to_owned());
            }
            asked.drain();
            let question = json!({"prompt": "", "password": false});
            asker.tell(Channel::Stdin, "input_request", &question);
            inbox.answer()
        }),
        display: Box::new(move |data: Map<String, Value>| {
            before.drain();
            let content = json!({"data": data, "metadata": {}, "transient": {}});
            shower.publish("display_data", &content);
        }),
        quit: Box::new(move |code| {
            last.drain();
            std::process::exit(code);
        }),
    }
}

/// What the runner says.
#[derive(Debug)]
struct Inbox {
    heard: Heard,
    /// What came while something else was waited for.
    waiting: VecDeque<Message>,
    /// Whether the client of the cell in progress answers questions.
    takes_questions: bool,
}

impl Inbox {
    /// The next message; nothing when the runner is gone.
    fn next(&mut self) -> std::io::Result<Option<Message>> {
        match self.waiting.pop_front() {
            Some(message) => Ok(Some(message)),
            None => self.heard.next(),
        }
    }

    /// Waits for the answer to a question; nothing when the runner is gone.
    fn answer(&mut self) -> Result<Option<String>, String> {
        #[derive(Deserialize)]
        struct Reply {
            value: String,
        }
        let failed = |error: std::io::Error| format!("the line to the runner failed: {error}");
        loop {
            while let Some(message) = self.heard.take().map_err(failed)? {
                if message.channel == Channel::Stdin {
                    let reply = message.content.read::<Reply>();
                    return Ok(reply.ok().map(|reply| reply.value));
                }
                self.waiting.push_back(message);
            }
            if INTERRUPTED.load(Ordering::Relaxed) {
                return Err("interrupted".to_owned());
            }
            let mut ready = [PollFd::new(self.heard.descriptor(), PollFlags::POLLIN)];
            // A signal ends the wait.
            if poll(&mut ready, PollTimeout::NONE).is_ok() && !self.heard.fill().map_err(failed)? {
                return Ok(None);
            }
        }
    }

    /// Reads what was sent by now.
    fn read_sent(&mut self) -> std::io::Result<()> {
        loop {
            while let Some(message) = self.heard.take()? {
                self.waiting.push_back(message);
            }
            let mut ready = [PollFd::new(self.heard.descriptor(), PollFlags::POLLIN)];
            let is_there = poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count > 0);
            if !is_there || !self.heard.fill()? {
                return Ok(());
            }
        }
    }
}

struct Kernel {
    teller: Arc<Teller>,
    outputs: Arc<Outputs>,
    inbox: Rc<RefCell<Inbox>>,
    interpreter: Interpreter,
    /// The number of the next cell.
    count: u64,
    /// Cells, with their numbers.
    past: Vec<(u64, String)>,
    /// Whether what is queued is not to be executed, since the request in progress has failed.
    aborts: bool,
}

#[derive(Deserialize)]
struct Execute {
    code: String,
    #[serde(default)]
    silent: bool,
    store_history: Option<bool>,
    #[serde(default)]
    user_expressions: Option<Map<String, Value>>,
    #[serde(default)]
    allow_stdin: bool,
    stop_on_error: Option<bool>,
}

/// A place in code, in characters; its end where none is said.
#[derive(Deserialize)]
struct At {
    code: String,
    cursor_pos: Option<usize>,
}

#[derive(Deserialize)]
struct Code {
    #[serde(default)]
    code: String,
}

#[derive(Deserialize)]
struct Past {
    #[serde(default)]
    hist_access_type: String,
    #[serde(default)]
    output: bool,
    n: Option<usize>,
    start: Option<u64>,
    stop: Option<u64>,
    pattern: Option<String>,
}

impl Kernel {
    fn serve(&mut self) -> std::io::Result<()> {
        self.teller.status("starting");
        self.teller.status("idle");
        loop {
            let next = self.inbox.borrow_mut().next()?;
            let Some(message) = next else { return Ok(()) };
            self.answer(&message)?;
        }
    }

    fn answer(&mut self, message: &Message) -> std::io::Result<()> {
        let kind = message.header.msg_type.as_str();
        self.teller.answers(message.header.clone());
        self.teller.status("busy");
        if let Some(stem) = kind.strip_suffix("request") {
            let content = self.reply(message, stem).unwrap_or_else(|error| {
                json!({"status": "error", "ename": "ValueError", "evalue": error, "traceback": []})
            });
            self.outputs.drain();
            self.teller
                .tell(message.channel, &format!("{stem}reply"), &content);
        }
        self.teller.status("idle");
        if kind == "shutdown_request" {
            std::process::exit(0);
        }
        if std::mem::take(&mut self.aborts) {
            self.abort_waiting();
        }
        Ok(())
    }

    /// The content of the reply to a request.
    fn reply(&mut self, message: &Message, stem: &str) -> Result<Value, String> {
        let broken = |error: serde_json::Error| format!("its content is broken: {error}");
        match stem {
            "kernel_info_" => Ok(info()),
            "execute_" => self.execute(message.content.read().map_err(broken)?),
            "complete_" => {
                let at: At = message.content.read().map_err(broken)?;
                let cursor = at.cursor_pos.unwrap_or(usize::MAX);
                let found = names::complete(&self.interpreter.lua, &at.code, cursor);
                Ok(json!({
                    "status": "ok", "matches": found.matches, "cursor_start": found.start,
                    "cursor_end": found.end, "metadata": {},
                }))
            }
            "inspect_" => {
                let at: At = message.content.read().map_err(broken)?;
                let cursor = at.cursor_pos.unwrap_or(usize::MAX);
                let told = names::inspect(&self.interpreter.lua, &at.code, cursor);
                let data = match &told {
                    Some(text) => json!({"text/plain": text}),
                    None => json!({}),
                };
                Ok(json!({"status": "ok", "found": told.is_some(), "data": data, "metadata": {}}))
            }
            "is_complete_" => {
                let content: Code = message.content.read().map_err(broken)?;
                Ok(match self.interpreter.completeness(&content.code) {
                    Completeness::Complete => json!({"status": "complete"}),
                    Completeness::Incomplete => json!({"status": "incomplete", "indent": "  "}),
                    Completeness::Invalid => json!({"status": "invalid"}),
                })
            }
            "history_" => Ok(self.history(&message.content.read().map_err(broken)?)),
            "comm_info_" => Ok(json!({"status": "ok", "comms": {}})),
            "shutdown_" => Ok(json!({"status": "ok", "restart": false})),
            other => Err(format!("this kernel has no {other}request")),
        }
    }

    fn execute(&mut self, wish: Execute) -> Result<Value, String> {
        let number = self.count;
        let stores = wish.store_history.unwrap_or(true) && !wish.silent;
        self.inbox.borrow_mut().takes_questions = wish.allow_stdin;
        if !wish.silent {
            let input = json!({"code": wish.code, "execution_count": number});
            self.teller.publish("execute_input", &input);
        }
        self.teller.mute(wish.silent);
        INTERRUPTED.store(false, Ordering::Relaxed);
        let ran = self.interpreter.run(&wish.code, &format!("cell {number}"));
        self.outputs.drain();
        let mut reply = match ran {
            Ok(value) => {
                if let Some(text) = value {
                    let data = json!({"text/plain": text});
                    let result = json!({"execution_count": number, "data": data, "metadata": {}});
                    self.teller.publish("execute_result", &result);
                }
                let values = self.values(wish.user_expressions.unwrap_or_default());
                json!({"status": "ok", "user_expressions": values, "payload": []})
            }
            Err(failure) => {
                let content = failed(&failure);
                self.teller.publish("error", &content);
                let mut reply = content;
                reply["status"] = "error".into();
                if wish.stop_on_error.unwrap_or(true) && !wish.silent {
                    // What comes after the answer was sent by somebody who knows of the failure.
                    let read = self.inbox.borrow_mut().read_sent();
                    read.map_err(|error| error.to_string())?;
                    self.aborts = true;
                }
                reply
            }
        };
        INTERRUPTED.store(false, Ordering::Relaxed);
        self.inbox.borrow_mut().takes_questions = false;
        reply["execution_count"] = number.into();
        if stores {
            self.past.push((number, wish.code));
        }
        if !wish.silent {
            self.count += 1;
        }
        Ok(reply)
    }

    fn values(&self, expressions: Map<String, Value>) -> Map<String, Value> {
        let value = |text: Value| {
            let text = text.as_str().unwrap_or_default();
            match self.interpreter.value(text) {
                Ok(text) => {
                    json!({"status": "ok", "data": {"text/plain": text}, "metadata": {}})
                }
                Err(failure) => {
                    let mut content = failed(&failure);
                    content["status"] = "error".into();
                    content
                }
            }
        };
        let all = expressions.into_iter();
        all.map(|(name, text)| (name, value(text))).collect()
    }

    fn history(&self, wish: &Past) -> Value {
        let lines: Vec<&(u64, String)> = match wish.hist_access_type.as_str() {
            "range" => {
                let (start, stop) = (wish.start.unwrap_or(1), wish.stop.unwrap_or(u64::MAX));
                let is_in = |line: &&(u64, String)| (start..stop).contains(&line.0);
                self.past.iter().filter(is_in).collect()
            }
            "search" => {
                // Stars stand for anything, at the ends as well as between.
                let pattern = wish.pattern.as_deref().unwrap_or("*");
                let fits = |line: &&(u64, String)| matches_pattern(pattern, &line.1);
                self.past.iter().filter(fits).collect()
            }
            _ => self.past.iter().collect(),
        };
        let first = lines.len().saturating_sub(wish.n.unwrap_or(TAIL));
        let shown: Vec<Value> = lines[first..]
            .iter()
            .map(|(number, code)| match wish.output {
                true => json!([0, number, [code, null]]),
                false => json!([0, number, code]),
            })
            .collect();
        json!({"status": "ok", "history": shown})
    }

    /// What was queued behind a cell that failed is not executed.
    fn abort_waiting(&self) {
        let waiting = std::mem::take(&mut self.inbox.borrow_mut().waiting);
        for message in waiting {
            if message.header.msg_type != "execute_request" {
                self.inbox.borrow_mut().waiting.push_back(message);
                continue;
            }
            self.teller.answers(message.header);
            self.teller.status("busy");
            let content = json!({"status": "aborted"});
            self.teller.tell(message.channel, "execute_reply", &content);
            self.teller.status("idle");
        }
    }
}

fn failed(failure: &Failure) -> Value {
    json!({"ename": failure.name, "evalue": failure.value, "traceback": failure.traceback})
}

/// Whether a text is one of those that a pattern with stars stands for.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(rest) = text.strip_prefix(head) else {
        return false;
    };
    let mut ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    ends.any(|at| matches_pattern(tail, &rest[at..]))
}

/// The content of `kernel_info_reply`.
fn info() -> Value {
    json!({
        "status": "ok",
        "protocol_version": "5.4",
        "implementation": "runner-lua",
        "implementation_version": env!("CARGO_PKG_VERSION"),
        "language_info": {
            "name": "lua",
            "version": "5.4",
            "mimetype": "text/x-lua",
            "codemirror_mode": "lua",
            "pygments_lexer": "lua",
            "file_extension": ".lua",
        },
        "banner": "Lua 5.4",
        "help_links": [{"text": "Lua 5.4", "url": "https://www.lua.org/manual/5.4/"}],
        "supported_features": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("print*", "print(1)", true),
            ("*x*", "a x b", true),
            ("x", "x", true),
            ("x", "xy", false),
            ("*ä*b", "1ä2b", true),
            ("*ä*b", "1ä2bc", false),
        ] {
            assert_eq!(matches_pattern(pattern, text), expected, "{pattern} {text}");
        }
    }
}
