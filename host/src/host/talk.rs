//! What is said between the runner and a host, from a request to its answer.

use std::collections::VecDeque;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::watch::Watch;
use super::{Host, RunHandler};
use crate::HostError;
use crate::launcher::{Exit, Process};
use crate::lines::Lines;
use crate::nodes::Passing;
use crate::protocol::{Incoming, MAX_LINE, RpcError, RunEvent, UNKNOWN_METHOD, parse};
use crate::tap::{Direction, Held};

/// The longest piece of standard error that becomes one entry of a log.
const MAX_LOG_LINE: usize = 64 * 1024;
/// Bytes that may wait for a host that does not read.
const MAX_OUTBOX: usize = 4 * MAX_LINE;
/// Requests of a run that may be open at a time.
const MAX_ASKED: usize = 16;
/// How long a host may take to end after it closed its output.
const EXIT_GRACE: Duration = Duration::from_secs(2);

impl Host {
    /// One request and all that happens until its answer.
    pub(super) async fn talk(
        &mut self,
        params: Value,
        talk: Talk<'_>,
        grace: Duration,
    ) -> Result<Ended, HostError> {
        self.last_id += 1;
        self.has_spoken = false;
        self.is_at_rest = false;
        let id = self.last_id;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": talk.what, "params": params}))?;
        self.listen(Some(id), talk, grace).await
    }

    /// All that happens until the answer to this request; without one, until the host ends.
    pub(super) async fn listen(
        &mut self,
        id: Option<u64>,
        talk: Talk<'_>,
        grace: Duration,
    ) -> Result<Ended, HostError> {
        let exit = self.process.exited();
        let mut exit = std::pin::pin!(exit);
        let mut asked = FuturesUnordered::new();
        let deadline = Instant::now().checked_add(talk.limit);
        let mut ending: Option<Ending> = None;
        if let Some(watch) = &mut self.watch {
            watch.begin();
        }
        loop {
            let look = self.watch.as_ref().map(Watch::next);
            let looks = async {
                match look {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let timer = match &ending {
                Some(ending) => Some(ending.next),
                None => deadline,
            };
            let wakes = async {
                match timer {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let cancelled = async {
                match (talk.cancel, &ending) {
                    (Some(cancel), None) => cancel.cancelled().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                line = next_line(&mut self.output, &mut self.held, self.process.pid(), talk.what) => match line {
                    Ok(Some(line)) => match self.hear(&line, talk.task) {
                        Ok(Incoming::Answer { id: of, result }) if Some(of) == id => {
                            self.drain_errors(talk.handler);
                            self.is_at_rest = ending.is_none();
                            return Ok(match (ending, result) {
                                (Some(Ending { is_timeout: true, .. }), Err(_)) => Ended::TimedOut,
                                (_, result) => Ended::Answered(result),
                            });
                        }
                        Ok(Incoming::Event(event)) => talk.handler.event(event),
                        Ok(Incoming::Fetch { id, url }) => {
                            let fetch = talk.handler.fetch(url);
                            asked.push(answered(id, fetch));
                            limited(asked.len())?;
                        }
                        Ok(Incoming::Call { id, call }) => {
                            let call = talk.handler.call(call);
                            asked.push(answered(id, call));
                            limited(asked.len())?;
                        }
                        Ok(Incoming::Node { id, node }) => {
                            let opening = talk.handler.node(node);
                            asked.push(answered(id, Passing::pass(self.passing.clone(), opening)));
                            limited(asked.len())?;
                        }
                        Ok(Incoming::UnknownRequest { id, method }) => self.send(&json!({
                            "jsonrpc": "2.0", "id": id,
                            "error": {"code": UNKNOWN_METHOD, "message": format!("unknown method {:?}", shortened(&method, 100))},
                        }))?,
                        Ok(Incoming::Answer { .. } | Incoming::Ignored) => {}
                        Err(why) => {
                            self.drain_errors(talk.handler);
                            return Err(HostError::Lost(garbage(&line, &why)));
                        }
                    },
                    Ok(None) => {
                        let error = self.end(talk).await;
                        return ending.map_or(Err(error), |ending| Ok(ending.into()));
                    }
                    Err(error) => return Err(HostError::Lost(error)),
                },
                // Its output may be held open by what it left behind; that must not hold up anybody.
                _ = &mut exit => {
                    let rest = self.rest(talk.handler, talk.task);
                    return match (ending, rest) {
                        (_, Some(Incoming::Answer { id: of, result })) if Some(of) == id => {
                            Ok(Ended::Answered(result))
                        }
                        (Some(ending), _) => Ok(ending.into()),
                        (None, _) => Err(ended_during(talk.what, self.process.exited().await)),
                    };
                }
                line = self.errors.next(MAX_LOG_LINE) => if let Ok(Some(line)) = line {
                    let line = text(&line);
                    self.last_words.hear(&line);
                    talk.handler.event(RunEvent::Log(line));
                },
                () = looks => if let Some(watch) = &mut self.watch
                    && let Some(problem) = watch.look(&self.work).await
                {
                    self.process.kill();
                    self.process.exited().await;
                    self.drain_errors(talk.handler);
                    return Err(HostError::Lost(format!("the plugin's process was ended: {problem}")));
                },
                line = self.held_back.due("request") => self.post(&line)?,
                written = write(&mut self.input, &self.outbox), if !self.outbox.is_empty() => match written {
                    Ok(size) => { self.outbox.drain(..size); }
                    // The end of its output tells more than the broken pipe.
                    Err(_) => self.outbox.clear(),
                },
                Some((id, answer)) = asked.next(), if !asked.is_empty() => self.send(&match answer {
                    Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
                    Err(message) => json!({"jsonrpc": "2.0", "id": id,
                                           "error": {"code": crate::protocol::FAILED, "message": message}}),
                })?,
                () = cancelled => {
                    self.send_cancel(talk.task)?;
                    ending = Some(Ending::new(false, grace));
                }
                () = wakes => match &mut ending {
                    None if talk.cancel.is_none() => return Ok(Ended::TimedOut),
                    None => {
                        self.send_cancel(talk.task)?;
                        ending = Some(Ending::new(true, grace));
                    }
                    Some(ending) => ending.escalate(&self.process, grace),
                },
            }
        }
    }

    fn send_cancel(&mut self, task: Option<(i64, i64)>) -> Result<(), HostError> {
        let (task, run) = task.unwrap_or_default();
        self.send(
            &json!({"jsonrpc": "2.0", "method": "cancel", "params": {"task": task, "run": run}}),
        )
    }

    fn send(&mut self, message: &Value) -> Result<(), HostError> {
        let line = message.to_string();
        if line.len() >= MAX_LINE {
            return Err(HostError::Lost(format!(
                "a message of {} bytes does not fit into the plugin protocol's {MAX_LINE}",
                line.len()
            )));
        }
        let pid = self.process.pid();
        self.held
            .tap()
            .pass(Direction::ToHost, pid, "request", line.as_bytes());
        match self.held_back.let_through("request", line.into_bytes()) {
            Some(line) => self.post(&line),
            None => Ok(()),
        }
    }

    fn post(&mut self, line: &[u8]) -> Result<(), HostError> {
        self.outbox.extend(line);
        self.outbox.push_back(b'\n');
        if self.outbox.len() > MAX_OUTBOX {
            return Err(HostError::Lost(format!(
                "the plugin's process does not read its standard input: {} bytes wait for it",
                self.outbox.len()
            )));
        }
        Ok(())
    }

    /// Understands a line. What is about another task than the current one is not for anybody.
    fn hear(&mut self, line: &[u8], task: Option<(i64, i64)>) -> Result<Incoming, String> {
        self.has_spoken = true;
        parse(line, task.map(|(task, _)| task))
    }

    /// What lies in standard error was written before the answer that was just read. Somebody may be
    /// writing on and on, so there is an end to it.
    fn drain_errors(&mut self, handler: &dyn RunHandler) {
        let mut size = 0;
        while size < MAX_LINE {
            let Some(line) = self.errors.try_next(MAX_LOG_LINE) else {
                return;
            };
            size += line.len() + 1;
            let line = text(&line);
            self.last_words.hear(&line);
            handler.event(RunEvent::Log(line));
        }
    }

    /// What a host that has ended left in its pipes: events, and perhaps the answer.
    fn rest(&mut self, handler: &dyn RunHandler, task: Option<(i64, i64)>) -> Option<Incoming> {
        let mut size = 0;
        let mut answer = None;
        while size < MAX_LINE {
            let Some(line) = self.output.try_next(MAX_LINE) else {
                break;
            };
            size += line.len() + 1;
            let pid = self.process.pid();
            self.held.tap().pass(Direction::FromHost, pid, "run", &line);
            match self.hear(&line, task) {
                Ok(Incoming::Event(event)) => handler.event(event),
                Ok(said @ Incoming::Answer { .. }) => answer = Some(said),
                _ => {}
            }
        }
        self.drain_errors(handler);
        answer
    }

    /// The host closed its output: ends it, reads what it left, says how it ended.
    async fn end(&mut self, talk: Talk<'_>) -> HostError {
        let exit = tokio::time::timeout(EXIT_GRACE, self.process.exited()).await;
        let error = match exit {
            Ok(exit) => ended_during(talk.what, exit),
            Err(_) => {
                self.process.kill();
                HostError::Lost(format!(
                    "the plugin's process ended during {} (it closed its output; {})",
                    talk.what,
                    self.process.exited().await
                ))
            }
        };
        self.drain_errors(talk.handler);
        error
    }
}

/// Signals that others send: the system when memory is short, an administrator, the end of a machine.
const FROM_OUTSIDE: [Signal; 4] = [
    Signal::SIGKILL,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
];

fn ended_during(what: &str, exit: Exit) -> HostError {
    let text = format!("the plugin's process ended during {what} ({exit})");
    let is_from_outside = |number: i32| FROM_OUTSIDE.iter().any(|signal| *signal as i32 == number);
    match exit {
        Exit::Signal(number) if is_from_outside(number) => HostError::Killed(text),
        _ => HostError::Lost(text),
    }
}

fn limited(asked: usize) -> Result<(), HostError> {
    match asked {
        0..=MAX_ASKED => Ok(()),
        _ => Err(HostError::Lost(format!(
            "the plugin has more than {MAX_ASKED} requests open at a time"
        ))),
    }
}

fn shortened(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// A request of the host, with its answer to come.
async fn answered(
    id: Value,
    answer: BoxFuture<'static, Result<Value, String>>,
) -> (Value, Result<Value, String>) {
    (id, answer.await)
}

/// What [`Host::talk`] is about.
pub(super) struct Talk<'a> {
    pub(super) what: &'static str,
    pub(super) limit: Duration,
    pub(super) handler: &'a dyn RunHandler,
    pub(super) cancel: Option<&'a CancellationToken>,
    pub(super) task: Option<(i64, i64)>,
}

pub(super) enum Ended {
    Answered(Result<Value, RpcError>),
    Cancelled,
    TimedOut,
}

/// A run that is being ended: first asked, then TERM, then KILL.
struct Ending {
    is_timeout: bool,
    next: Instant,
    was_terminated: bool,
}

impl Ending {
    fn new(is_timeout: bool, grace: Duration) -> Self {
        Self {
            is_timeout,
            next: Instant::now() + grace,
            was_terminated: false,
        }
    }

    fn escalate(&mut self, process: &Process, grace: Duration) {
        if self.was_terminated {
            process.kill();
        } else {
            process.terminate();
        }
        self.was_terminated = true;
        self.next = Instant::now() + grace / 2;
    }
}

impl From<Ending> for Ended {
    fn from(ending: Ending) -> Self {
        if ending.is_timeout {
            Self::TimedOut
        } else {
            Self::Cancelled
        }
    }
}

/// What the host says next, unless that is held up. `asked` is the request that is open.
async fn next_line(
    output: &mut Lines,
    held: &mut Held,
    pid: i32,
    asked: &str,
) -> Result<Option<Vec<u8>>, String> {
    loop {
        tokio::select! {
            line = held.due(asked) => return Ok(Some(line)),
            line = output.next(MAX_LINE) => {
                let Ok(Some(line)) = line else { return line };
                held.tap().pass(Direction::FromHost, pid, asked, &line);
                if let Some(line) = held.let_through(asked, line) {
                    return Ok(Some(line));
                }
            }
        }
    }
}

async fn write(input: &mut pipe::Sender, outbox: &VecDeque<u8>) -> std::io::Result<usize> {
    input.write(outbox.as_slices().0).await
}

fn garbage(line: &[u8], why: &str) -> String {
    let shown: String = text(line).chars().take(200).collect();
    if line.len() >= MAX_LINE {
        return format!(
            "the plugin's process wrote a line of more than {MAX_LINE} bytes, the limit of the plugin protocol, \
             to its standard output; it begins with {shown:?}. What is larger travels as a file"
        );
    }
    format!(
        "the plugin's process wrote {shown:?} to its standard output, which is no message of the plugin \
         protocol ({why}); what is meant for people belongs on standard error"
    )
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}
