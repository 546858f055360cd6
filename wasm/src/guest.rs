//! One instance of a module: its talk with the runner, from the request to the answer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runner_host::hosted::Line;
use runner_host::manifest::GuestLimits;
use runner_host::protocol::MAX_LINE;
use runner_sdk::RunFailure;
use runner_sdk::failure::code;
use serde::Deserialize;
use serde_json::{Value, json};
use wasmtime::{Engine, InstancePre, Store, StoreLimits, StoreLimitsBuilder, Trap};

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

/// The standard streams of an instance.
pub(crate) struct Talk {
    line: Arc<Line>,
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
    answer: Option<Result<Value, RunFailure>>,
}

impl Talk {
    pub(crate) fn new(request: &Request<'_>, line: Arc<Line>) -> Self {
        let welcome = json!({
            "jsonrpc": "2.0", "id": WELCOME_ID, "method": "welcome", "params": request.welcome,
        });
        let asked = json!({
            "jsonrpc": "2.0", "id": REQUEST_ID, "method": request.method, "params": request.params,
        });
        let input = format!("{welcome}\n{asked}\n");
        Self {
            line,
            state: Mutex::new(State {
                input: input.into_bytes().into(),
                ..State::default()
            }),
            changed: Condvar::new(),
        }
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

    /// Reads standard input; waits only for answers. 0 is its end.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize, Stop> {
        let mut state = self.state();
        while state.input.is_empty() && state.asked > 0 && !state.is_cancelled {
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
            self.hear(&mut state, &line)?;
        }
        state.output.extend_from_slice(rest);
        match state.output.len() > MAX_LINE {
            true => Err(Stop::Garbage(format!(
                "the module wrote a line of more than {MAX_LINE} bytes, the protocol's limit"
            ))),
            false => Ok(()),
        }
    }

    fn hear(&self, state: &mut State, line: &[u8]) -> Result<(), Stop> {
        #[derive(Deserialize)]
        struct Message {
            #[serde(default)]
            id: Value,
            method: Option<String>,
            result: Option<Value>,
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
        let message: Message =
            serde_json::from_slice(line).map_err(|error| garbage(&error.to_string()))?;
        if message.method.is_some() {
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
            (None, result) => Ok(result.unwrap_or_default()),
        };
        match message.id.as_u64() {
            Some(WELCOME_ID) => match result {
                Ok(greeting) if greeting["protocol"] == 1 => Ok(()),
                Ok(_) => Err(garbage("it speaks another version of the protocol than 1")),
                Err(failure) => {
                    state.answer = Some(Err(failure));
                    Err(Stop::Answered)
                }
            },
            Some(REQUEST_ID) => {
                state.answer = Some(result);
                Err(Stop::Answered)
            }
            _ => Err(garbage("it answers what was not asked")),
        }
    }
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
    let memory = usize::try_from(request.limits.memory()).unwrap_or(usize::MAX);
    let guest = Guest {
        wasi: Wasi::new(Arc::clone(talk), request),
        limits: StoreLimitsBuilder::new().memory_size(memory).build(),
    };
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.limits);
    store.set_epoch_deadline(1);
    // A cancel that came before the deadline was set did not move the clock beyond it.
    if talk.state().is_cancelled {
        return Err(RunFailure::new(code::CANCELLED, "cancelled"));
    }
    let ended = pre.instantiate(&mut store).and_then(|instance| {
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        start.call(&mut store, ())
    });
    SPENT.set(Some(store));
    let mut state = talk.state();
    if state.is_cancelled {
        return Err(RunFailure::new(code::CANCELLED, "cancelled"));
    }
    if let Some(answer) = state.answer.take() {
        return answer;
    }
    let what = request.method;
    let message = match ended {
        Ok(()) => format!("the module ended without an answer to {what}"),
        Err(error) => match (error.downcast_ref::<Stop>(), error.downcast_ref::<Trap>()) {
            (Some(Stop::Garbage(why)), _) => why.clone(),
            (Some(Stop::Exit(status)), _) => {
                format!("the module ended with exit status {status}, without an answer to {what}")
            }
            (_, Some(trap)) => format!("the module trapped: {trap}"),
            _ => format!("the module cannot be run: {}", error.root_cause()),
        },
    };
    Err(RunFailure::new(code::FAILED, message))
}
