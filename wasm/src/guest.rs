//! One instance of a module: its talk with the runner, from the request to the answer.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runner_host::hosted::Line;
use runner_host::manifest::GuestLimits;
use runner_host::protocol::{MAX_ITEMS_LINE, MAX_LINE};
use runner_sdk::RunFailure;
use runner_sdk::failure::code;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use wasmtime::{Engine, InstancePre, Store, StoreLimits, StoreLimitsBuilder, Trap, UpdateDeadline};

use crate::wasi::Wasi;

/// The id of the host's `welcome` to an instance; that of its request is another.
const WELCOME_ID: u64 = 1;
const REQUEST_ID: u64 = 2;

/// What an instance is made for.
pub(crate) struct Request<'a> {
    pub(crate) method: &'static str,
    pub(crate) params: &'a Value,
    pub(crate) welcome: &'a Value,
    pub(crate) limits: GuestLimits,
}

/// What belongs to an instance.
pub(crate) struct Guest {
    pub(crate) wasi: Wasi,
    limits: StoreLimits,
}

/// Ends an instance in the middle of a call, without being an error of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// It has answered: what it would do further is of no use to anybody.
    #[error("it has answered")]
    Answered,
    /// It called `exit`.
    #[error("exit status {0}")]
    Exit(i32),
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// It wrote what is no message.
    #[error("{0}")]
    Garbage(String),
}

/// What an instance answered.
pub(crate) type Answer = Result<Box<RawValue>, RunFailure>;

/// What comes of a request to a node.
pub(crate) enum Heard {
    /// Outcomes of its first items: JSON, separated by commas.
    Part(String),
    /// All, or the rest.
    Answer(Answer),
    /// The instance has ended without an answer, for this reason.
    End(String),
}

/// The standard streams of an instance.
pub(crate) struct Talk {
    line: Arc<Line>,
    /// Whether it takes further requests after an answer.
    is_node: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What it has not read yet.
    input: VecDeque<u8>,
    /// What it has written of a line.
    output: Vec<u8>,
    /// Requests of its own that have no answer yet.
    asked: usize,
    is_cancelled: bool,
    /// Whether it has answered `welcome`.
    is_greeted: bool,
    /// The request that it is to answer.
    request: Option<u64>,
    answer: Option<Answer>,
    /// Of a node: outcomes that came ahead.
    part: Option<String>,
    /// Of a node: why the instance has ended.
    ended: Option<String>,
}

impl Talk {
    pub(crate) fn new(request: &Request<'_>, line: Arc<Line>) -> Self {
        let asked = json!({
            "jsonrpc": "2.0", "id": REQUEST_ID, "method": request.method, "params": request.params,
        });
        let talk = Self::greeting(request.welcome, line, false);
        talk.ask(REQUEST_ID, asked.to_string().as_bytes());
        talk
    }

    /// That with a node, which is asked later.
    pub(crate) fn with_node(welcome: &Value, line: Arc<Line>) -> Self {
        Self::greeting(welcome, line, true)
    }

    fn greeting(welcome: &Value, line: Arc<Line>, is_node: bool) -> Self {
        let welcome = json!({
            "jsonrpc": "2.0", "id": WELCOME_ID, "method": "welcome", "params": welcome,
        });
        Self {
            line,
            is_node,
            state: Mutex::new(State {
                input: format!("{welcome}\n").into_bytes().into(),
                ..State::default()
            }),
            changed: Condvar::new(),
        }
    }

    /// Hands over a request, when there is none without an answer.
    pub(crate) fn ask(&self, id: u64, line: &[u8]) {
        let mut state = self.state();
        state.input.extend(line.trim_ascii_end());
        state.input.push_back(b'\n');
        state.request = Some(id);
        self.changed.notify_all();
    }

    /// Waits for what a node says to its request.
    pub(crate) fn heard(&self) -> Heard {
        let mut state = self.state();
        loop {
            let heard = match (state.part.take(), state.answer.take()) {
                (Some(part), answer) => {
                    state.answer = answer;
                    Some(Heard::Part(part))
                }
                (None, Some(answer)) => Some(Heard::Answer(answer)),
                (None, None) => state.ended.clone().map(Heard::End),
            };
            if let Some(heard) = heard {
                self.changed.notify_all();
                return heard;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The instance of a node has ended.
    fn end(&self, why: String) {
        self.state().ended = Some(why);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the instance end as soon as it can.
    pub(crate) fn cancel(&self) {
        self.state().is_cancelled = true;
        self.changed.notify_all();
    }

    /// Hands over an answer of the runner.
    pub(crate) fn answered(&self, message: &Value) {
        let mut state = self.state();
        state.input.extend(message.to_string().bytes());
        state.input.push_back(b'\n');
        state.asked = state.asked.saturating_sub(1);
        self.changed.notify_all();
    }

    /// Reads standard input; waits only for answers, and a node for requests. 0 is its end.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize, Stop> {
        let mut state = self.state();
        let waits = |state: &State| {
            state.input.is_empty() && (state.asked > 0 || self.is_node) && !state.is_cancelled
        };
        // The thread of a node keeps nobody from reading.
        let _awaited = (waits(&state) && !self.is_node).then(|| self.line.awaited());
        while waits(&state) {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_cancelled {
            return Err(Stop::Cancelled);
        }
        let size = buffer.len().min(state.input.len());
        for (target, byte) in buffer.iter_mut().zip(state.input.drain(..size)) {
            *target = byte;
        }
        Ok(size)
    }

    /// Waits for this time, or until it is cancelled.
    pub(crate) fn sleep(&self, time: Duration) -> Result<(), Stop> {
        let state = self.state();
        let waited = self
            .changed
            .wait_timeout_while(state, time, |state| !state.is_cancelled);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.is_cancelled {
            true => Err(Stop::Cancelled),
            false => Ok(()),
        }
    }

    /// Takes what it writes to standard output, line by line.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Stop> {
        let mut state = self.state();
        if state.is_cancelled {
            return Err(Stop::Cancelled);
        }
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, more) = rest.split_at(end + 1);
            state.output.extend_from_slice(line);
            rest = more;
            let line = std::mem::take(&mut state.output);
            self.check_length(&line)?;
            self.hear(&mut state, &line)?;
            // Parts of an answer wait until they are taken.
            while state.part.is_some() && !state.is_cancelled {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
        state.output.extend_from_slice(rest);
        self.check_length(&state.output)
    }

    fn check_length(&self, line: &[u8]) -> Result<(), Stop> {
        let limit = match self.is_node {
            true => MAX_ITEMS_LINE,
            false => MAX_LINE,
        };
        match line.len() > limit {
            true => Err(Stop::Garbage(format!(
                "the module wrote a line of more than {limit} bytes, the protocol's limit"
            ))),
            false => Ok(()),
        }
    }

    fn hear(&self, state: &mut State, line: &[u8]) -> Result<(), Stop> {
        #[derive(Deserialize)]
        struct Message<'a> {
            #[serde(default)]
            id: Value,
            #[serde(borrow)]
            method: Option<Cow<'a, str>>,
            #[serde(borrow)]
            params: Option<&'a RawValue>,
            #[serde(borrow)]
            result: Option<&'a RawValue>,
            error: Option<Failure>,
        }
        #[derive(Deserialize)]
        struct Failure {
            code: i64,
            message: String,
            #[serde(default)]
            data: Value,
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let garbage = |why: &str| {
            let shown: String = String::from_utf8_lossy(line)
                .trim()
                .chars()
                .take(200)
                .collect();
            Stop::Garbage(format!(
                "the module wrote {shown:?} to its standard output, which is no message of the plugin protocol \
                 ({why}); what is meant for people belongs on standard error"
            ))
        };
        let message: Message<'_> =
            serde_json::from_slice(line).map_err(|error| garbage(&error.to_string()))?;
        if let Some(method) = &message.method {
            if self.is_node {
                let told = told(state, method, message.id, message.params);
                self.changed.notify_all();
                return told.ok_or_else(|| garbage("a part of an answer is a list"));
            }
            if !message.id.is_null() {
                state.asked += 1;
            }
            self.line.write_line(line);
            return Ok(());
        }
        let result = match (message.error, message.result) {
            (Some(error), _) => Err(RunFailure {
                traceback: error.data["traceback"].as_str().map(str::to_owned),
                ..RunFailure::new(error.code, error.message)
            }),
            (None, result) => Ok(result.unwrap_or(RawValue::NULL).to_owned()),
        };
        match message.id.as_u64() {
            Some(WELCOME_ID) if !state.is_greeted => match result {
                Ok(greeting) if value(&greeting)["protocol"] == 1 => {
                    state.is_greeted = true;
                    Ok(())
                }
                Ok(_) => Err(garbage("it speaks another version of the protocol than 1")),
                Err(failure) => {
                    state.answer = Some(Err(failure));
                    Err(Stop::Answered)
                }
            },
            id if id.is_some() && id == state.request => {
                state.answer = Some(result);
                state.request = None;
                self.changed.notify_all();
                match self.is_node {
                    true => Ok(()),
                    false => Err(Stop::Answered),
                }
            }
            _ => Err(garbage("it answers what was not asked")),
        }
    }
}

/// Takes what a node says of its own accord. `None`: it cannot be read.
fn told(state: &mut State, method: &str, id: Value, params: Option<&RawValue>) -> Option<()> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        made: Option<&'a RawValue>,
        text: Option<Cow<'a, str>>,
    }
    if !id.is_null() {
        let refused = json!({
            "jsonrpc": "2.0", "id": id,
            "error": {"code": code::FAILED, "message": "nodes ask for nothing; runs do"},
        });
        state.input.extend(format!("{refused}\n").bytes());
        return Some(());
    }
    let params = params.map(|params| serde_json::from_str::<Params<'_>>(params.get()));
    match (method, params) {
        (
            "made",
            Some(Ok(Params {
                made: Some(made), ..
            })),
        ) => {
            let made = made.get().strip_prefix('[')?.strip_suffix(']')?;
            state.part = Some(made.to_owned());
        }
        ("made", _) => return None,
        (
            "log",
            Some(Ok(Params {
                text: Some(text), ..
            })),
        ) => eprintln!("{text}"),
        _ => {}
    }
    Some(())
}

fn value(raw: &RawValue) -> Value {
    // It was read before.
    serde_json::from_str(raw.get()).unwrap_or_default()
}

thread_local! {
    /// The instance of the last run: taking it down takes its time, and can wait until the answer is sent.
    static SPENT: RefCell<Option<Store<Guest>>> = const { RefCell::new(None) };
}

/// Takes down what the last run left.
pub(crate) fn clean() {
    SPENT.set(None);
}

/// Makes an instance and lets it deal with the request.
pub(crate) fn perform(
    engine: &Engine,
    pre: &InstancePre<Guest>,
    request: &Request<'_>,
    talk: &Arc<Talk>,
) -> Result<Value, RunFailure> {
    let mut store = store(engine, request, talk);
    // A cancel that came before the deadline was set did not move the clock beyond it.
    if talk.state().is_cancelled {
        return Err(RunFailure::new(code::CANCELLED, "cancelled"));
    }
    let ended = start(pre, &mut store);
    SPENT.set(Some(store));
    let mut state = talk.state();
    if state.is_cancelled {
        return Err(RunFailure::new(code::CANCELLED, "cancelled"));
    }
    if let Some(answer) = state.answer.take() {
        return answer.map(|answer| value(&answer));
    }
    Err(RunFailure::new(code::FAILED, how(ended, request.method)))
}

/// Makes the instance of a node and lets it deal with all requests.
pub(crate) fn live(
    engine: &Engine,
    pre: &InstancePre<Guest>,
    request: &Request<'_>,
    talk: &Arc<Talk>,
) {
    let mut store = store(engine, request, talk);
    let ended = start(pre, &mut store);
    talk.end(how(ended, "a node's request"));
}

fn store(engine: &Engine, request: &Request<'_>, talk: &Arc<Talk>) -> Store<Guest> {
    let memory = usize::try_from(request.limits.memory()).unwrap_or(usize::MAX);
    let guest = Guest {
        wasi: Wasi::new(Arc::clone(talk), request),
        limits: StoreLimitsBuilder::new().memory_size(memory).build(),
    };
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.limits);
    store.set_epoch_deadline(1);
    // The clock is that of all instances.
    let talk = Arc::clone(talk);
    store.epoch_deadline_callback(move |_| match talk.state().is_cancelled {
        true => Err(wasmtime::Error::new(Stop::Cancelled)),
        false => Ok(UpdateDeadline::Continue(1)),
    });
    store
}

fn start(pre: &InstancePre<Guest>, store: &mut Store<Guest>) -> wasmtime::Result<()> {
    let instance = pre.instantiate(&mut *store)?;
    let start = instance.get_typed_func::<(), ()>(&mut *store, "_start")?;
    start.call(store, ())
}

/// Why an instance ended without an answer.
fn how(ended: wasmtime::Result<()>, what: &str) -> String {
    match ended {
        Ok(()) => format!("the module ended without an answer to {what}"),
        Err(error) => match (error.downcast_ref::<Stop>(), error.downcast_ref::<Trap>()) {
            (Some(Stop::Garbage(why)), _) => why.clone(),
            (Some(Stop::Exit(status)), _) => {
                format!("the module ended with exit status {status}, without an answer to {what}")
            }
            (_, Some(trap)) => format!("the module trapped: {trap}"),
            _ => format!("the module cannot be run: {}", error.root_cause()),
        },
    }
}
