//! One living host, and the runs on it.

mod last_words;
mod watch;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use runner_core::module::HostStatus;

use crate::HostError;
use crate::launcher::{Exit, HostCommand, Killer, Launcher, Process};
use crate::lines::Lines;
use crate::protocol::{
    CANCELLED, CallRequest, Incoming, MAX_LINE, PROTOCOL, RpcError, RunAnswer, RunEvent,
    RunRequest, UNKNOWN_METHOD, parse,
};
use crate::run_folder::{RunFolder, WorkFolder};
use crate::tap::{Direction, Held, Tap};
use last_words::LastWords;
use watch::Watch;

/// The longest piece of standard error that becomes one entry of a log.
const MAX_LOG_LINE: usize = 64 * 1024;
/// Bytes that may wait for a host that does not read.
const MAX_OUTBOX: usize = 4 * MAX_LINE;
/// Requests of a run that may be open at a time.
const MAX_ASKED: usize = 16;
/// How long a host may take to end after it closed its output.
const EXIT_GRACE: Duration = Duration::from_secs(2);

/// Hears what a run tells.
pub trait RunHandler: Send + Sync {
    /// Something happened. Called in order; must not block.
    fn event(&self, event: RunEvent);

    /// The run asks for a URL. The answer is what `fetch` answers in the protocol, or why not.
    fn fetch(&self, url: String) -> BoxFuture<'static, Result<Value, String>>;

    /// The run calls another plugin, and waits for it. The answer is what `call` answers in the protocol,
    /// or why not.
    fn call(&self, _: CallRequest) -> BoxFuture<'static, Result<Value, String>> {
        Box::pin(async { Err("other plugins cannot be called here".to_owned()) })
    }
}

/// How a run ended.
#[derive(Debug)]
pub enum RunEnd {
    /// The plugin answered.
    Finished(RunAnswer),
    /// The plugin failed.
    Failed(RpcError),
    /// It was cancelled.
    Cancelled,
    /// It took longer than this.
    TimedOut(Duration),
    /// Its host could not be started, died, or spoke nonsense.
    Lost(HostError),
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// `welcome` and `describe`, each.
    pub describe: Duration,
    /// Between `cancel` and TERM; half of it between TERM and KILL.
    pub cancel: Duration,
}

/// A process that speaks the plugin protocol. Ends, with all it started, when dropped.
#[derive(Debug)]
pub(crate) struct Host {
    process: Process,
    /// Its folder for life; below it `in/` and `work/`.
    folder: PathBuf,
    /// Its `work/`.
    work: Arc<WorkFolder>,
    /// What its folder may hold, where nothing but this process sees to it.
    watch: Option<Watch>,
    /// What it said last on standard error.
    last_words: LastWords,
    input: pipe::Sender,
    output: Lines,
    errors: Lines,
    outbox: VecDeque<u8>,
    /// What it said and is not to be heard yet.
    held: Held,
    last_id: u64,
    pub(crate) runs: u64,
    /// Whether it said anything about the current request.
    pub(crate) has_spoken: bool,
    /// Whether it answered the last request, unforced.
    pub(crate) is_at_rest: bool,
    /// Whether it gives each run a process of its own.
    pub(crate) forks: bool,
    name: String,
    /// The name that the module gives itself.
    pub(crate) module_name: Option<String>,
    /// The task that it runs, 0 for none. As long as somebody has it, the host lives.
    task: Arc<AtomicI64>,
}

/// What `welcome` tells a host.
#[derive(Debug, Clone)]
pub(crate) struct Welcome {
    pub(crate) name: String,
    pub(crate) uuid: String,
    pub(crate) args: Vec<Value>,
    pub(crate) config: Value,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.process.kill();
        let folder = std::mem::take(&mut self.folder);
        let process_is_gone = self.process.has_exited();
        // What a dying host still writes must not keep its folder alive.
        if process_is_gone || tokio::runtime::Handle::try_current().is_err() {
            let _ = std::fs::remove_dir_all(folder);
            return;
        }
        let exit = self.process.exited();
        tokio::spawn(async move {
            exit.await;
            let _ = tokio::fs::remove_dir_all(folder).await;
        });
    }
}

impl Host {
    /// Starts the process and greets it. `extra` are its descriptors from 3 on.
    pub(crate) async fn start(
        launcher: &Launcher,
        command: HostCommand,
        folder: PathBuf,
        welcome: &Welcome,
        extra: Vec<OwnedFd>,
        patience: Patience,
        tap: Arc<Tap>,
    ) -> Result<Self, HostError> {
        let broken =
            |error: std::io::Error| HostError::Start(format!("cannot make a pipe: {error}"));
        let (input_reader, input) = std::io::pipe().map_err(broken)?;
        let (output, output_writer) = std::io::pipe().map_err(broken)?;
        let (errors, errors_writer) = std::io::pipe().map_err(broken)?;
        let mut fds: Vec<OwnedFd> = vec![
            input_reader.into(),
            output_writer.into(),
            errors_writer.into(),
        ];
        fds.extend(extra);
        let watch = Watch::new(launcher, &command);
        let mut process = launcher.spawn(command, fds).await?;
        let work = WorkFolder::open(&folder, process.take_work(), launcher.owner())?;
        let mut host = Self {
            process,
            folder,
            work: Arc::new(work),
            watch,
            last_words: LastWords::default(),
            input: pipe::Sender::from_owned_fd(OwnedFd::from(input)).map_err(broken)?,
            output: Lines::new(pipe::Receiver::from_owned_fd(output.into()).map_err(broken)?),
            errors: Lines::new(pipe::Receiver::from_owned_fd(errors.into()).map_err(broken)?),
            outbox: VecDeque::new(),
            held: Held::new(tap),
            last_id: 0,
            runs: 0,
            has_spoken: false,
            is_at_rest: false,
            forks: false,
            name: welcome.name.clone(),
            module_name: None,
            task: Arc::default(),
        };
        let params = json!({
            "protocol": PROTOCOL,
            "name": welcome.name,
            "uuid": welcome.uuid,
            "args": welcome.args,
            "config": welcome.config,
            "directory": host.folder.join("work"),
        });
        let answer = host.ask("welcome", params, patience.describe).await?;
        host.module_name = answer
            .get("name")
            .and_then(Value::as_str)
            .map(str::to_owned);
        match answer.get("protocol").and_then(Value::as_u64) {
            Some(PROTOCOL) => {
                host.forks = answer.get("forks").and_then(Value::as_bool) == Some(true);
                Ok(host)
            }
            other => Err(HostError::Lost(format!(
                "the host speaks version {} of the plugin protocol; this runner speaks {PROTOCOL}",
                other.map_or_else(|| "no".to_owned(), |version| version.to_string())
            ))),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folders of a run.
    pub(crate) fn run_folder(&mut self) -> Result<RunFolder, HostError> {
        RunFolder::new(&self.folder, &self.work)
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// The task that it runs, 0 for none; gone as soon as the host is dropped.
    pub(crate) fn task(&self) -> Weak<AtomicI64> {
        Arc::downgrade(&self.task)
    }

    /// What ends it, whoever has it.
    pub(crate) fn killer(&self) -> Killer {
        self.process.killer()
    }

    pub(crate) fn status(&self) -> HostStatus {
        HostStatus {
            task: None,
            pid: self.process.pid(),
            resident: 0,
            sandbox: self.process.confinement().clone(),
        }
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.process.has_exited()
    }

    /// Asks what the module offers.
    pub(crate) async fn describe(&mut self, patience: Patience) -> Result<Value, HostError> {
        self.ask("describe", json!({}), patience.describe).await
    }

    /// Asks it for a sign of life.
    pub(crate) async fn ping(&mut self, patience: Patience) -> Result<(), HostError> {
        let answer = self.ask("ping", json!({}), patience.describe).await;
        answer.map(drop)
    }

    /// Hears a host that does something else than runs, until it ends. Says how it ended.
    pub(crate) async fn attend(&mut self) -> HostError {
        let talk = Talk {
            what: "its service",
            limit: Duration::MAX,
            handler: &Silent(self.name.clone()),
            cancel: None,
            task: None,
        };
        match self.listen(None, talk, Duration::MAX).await {
            Ok(_) => HostError::Lost("the plugin's process was left".to_owned()),
            Err(error) => error,
        }
    }

    async fn ask(
        &mut self,
        what: &'static str,
        params: Value,
        limit: Duration,
    ) -> Result<Value, HostError> {
        let talk = Talk {
            what,
            limit,
            handler: &Silent(self.name.clone()),
            cancel: None,
            task: None,
        };
        let never = Duration::MAX;
        let ended = self.talk(params, talk, never).await;
        let ended = ended.map_err(|error| match error {
            HostError::Lost(text) => HostError::Lost(self.last_words.after(text)),
            HostError::Killed(text) => HostError::Killed(self.last_words.after(text)),
            other => other,
        });
        match ended? {
            Ended::Answered(Ok(value)) => Ok(value),
            Ended::Answered(Err(error)) => Err(HostError::Refused(error)),
            Ended::Cancelled | Ended::TimedOut => Err(HostError::TimedOut {
                what,
                seconds: limit.as_secs_f64(),
            }),
        }
    }

    /// Runs a task. After [`RunEnd::Lost`] the host is of no more use; see also [`Host::has_exited`].
    pub(crate) async fn run(
        &mut self,
        request: &RunRequest,
        limit: Duration,
        patience: Patience,
        handler: &dyn RunHandler,
        cancel: &CancellationToken,
    ) -> RunEnd {
        self.runs += 1;
        let params = match serde_json::to_value(request) {
            Ok(params) => params,
            Err(error) => return RunEnd::Lost(HostError::Lost(error.to_string())),
        };
        let talk = Talk {
            what: "run",
            limit,
            handler,
            cancel: Some(cancel),
            task: Some((request.task, request.run)),
        };
        self.task.store(request.task, Ordering::Relaxed);
        let ended = self.talk(params, talk, patience.cancel).await;
        self.task.store(0, Ordering::Relaxed);
        match ended {
            Ok(Ended::Answered(Ok(answer))) => match serde_json::from_value(answer) {
                Ok(answer) => RunEnd::Finished(answer),
                Err(error) => RunEnd::Lost(HostError::Lost(format!(
                    "the answer to run is not usable: {error}"
                ))),
            },
            Ok(Ended::Answered(Err(error))) if error.code == CANCELLED => RunEnd::Cancelled,
            Ok(Ended::Answered(Err(error))) => RunEnd::Failed(error),
            Ok(Ended::Cancelled) => RunEnd::Cancelled,
            Ok(Ended::TimedOut) => RunEnd::TimedOut(limit),
            Err(error) => RunEnd::Lost(error),
        }
    }

    /// One request and all that happens until its answer.
    async fn talk(
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
    async fn listen(
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
        let mut line = message.to_string();
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
        line.push('\n');
        self.outbox.extend(line.as_bytes());
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
struct Talk<'a> {
    what: &'static str,
    limit: Duration,
    handler: &'a dyn RunHandler,
    cancel: Option<&'a CancellationToken>,
    task: Option<(i64, i64)>,
}

enum Ended {
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

/// Hears a host that runs no task: its log is the runner's.
struct Silent(String);

impl RunHandler for Silent {
    fn event(&self, event: RunEvent) {
        if let RunEvent::Log(text) = event {
            tracing::info!(module = self.0, "{text}");
        }
    }

    fn fetch(&self, _: String) -> BoxFuture<'static, Result<Value, String>> {
        Box::pin(async { Err("URLs are fetched during runs only".to_owned()) })
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
