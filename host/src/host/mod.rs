//! One living host, and the runs on it.

mod handler;
mod last_words;
mod talk;
mod watch;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use runner_core::module::HostStatus;

use crate::HostError;
use crate::launcher::{Exit, HostCommand, Killer, Launcher, Process};
use crate::lines::Lines;
use crate::nodes::Passing;
use crate::protocol::{CANCELLED, PROTOCOL, RpcError, RunAnswer, RunRequest};
use crate::run_folder::{RunFolder, WorkFolder};
use crate::tap::{Direction, Held, Tap};
use handler::Silent;
use last_words::LastWords;
use talk::{Ended, Talk};
use watch::Watch;

pub use handler::RunHandler;

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
    /// Messages to the host that are held up.
    held_back: Held,
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
    /// Where it gets descriptors, if it runs pipelines.
    pub(crate) passing: Option<Passing>,
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
        self.process.end(std::mem::take(&mut self.folder));
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
            held: Held::new(Arc::clone(&tap), Direction::FromHost),
            held_back: Held::new(tap, Direction::ToHost),
            last_id: 0,
            runs: 0,
            has_spoken: false,
            is_at_rest: false,
            forks: false,
            name: welcome.name.clone(),
            module_name: None,
            task: Arc::default(),
            passing: None,
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

    /// Waits for its end, and that of all it started, also when it is dropped meanwhile.
    pub(crate) fn exited(&self) -> impl Future<Output = Exit> + Send + use<> {
        self.process.exited()
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
        let silent = Silent(self.name.clone());
        self.attend_for(&silent).await
    }

    /// The same, for somebody who hears what it says.
    pub(crate) async fn attend_for(&mut self, handler: &dyn RunHandler) -> HostError {
        let talk = Talk {
            what: "its service",
            limit: Duration::MAX,
            handler,
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
}
