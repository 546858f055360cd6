//! A host that is spoken to line by line, as it comes: nothing is repaired, nothing passed over.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::Problem;
use crate::launcher::{Exit, HostCommand, Launcher, Process};
use crate::lines::Lines;
use crate::protocol::{Incoming, MAX_LINE, OutputContent, RpcError, RunEvent, parse};
use crate::run_folder::{RunFolder, WorkFolder};

/// The longest line of standard error that is kept.
const MAX_LOG_LINE: usize = 64 * 1024;
/// The most lines of standard error that are kept.
const MAX_LOG: usize = 1_000;

/// An answer: a result, or an error.
pub(super) type Answer = Result<Value, RpcError>;

/// A living host.
pub(super) struct Conversation {
    process: Process,
    folder: PathBuf,
    work: Arc<WorkFolder>,
    input: Option<pipe::Sender>,
    output: Lines,
    errors: Lines,
    last_id: u64,
    /// Requests without an answer yet.
    open: BTreeSet<u64>,
    /// What it told since the last request, and what it asked for.
    pub(super) told: Vec<RunEvent>,
    pub(super) asked: Vec<String>,
    /// What came on standard error.
    pub(super) log: Vec<String>,
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.process.kill();
        let (exit, folder) = (self.process.exited(), std::mem::take(&mut self.folder));
        tokio::spawn(async move {
            exit.await;
            let _ = tokio::fs::remove_dir_all(folder).await;
        });
    }
}

impl Conversation {
    pub(super) async fn start(
        launcher: &Launcher,
        command: HostCommand,
        folder: PathBuf,
        extra: Vec<OwnedFd>,
    ) -> Result<Self, Problem> {
        let broken = |error: std::io::Error| format!("cannot make a pipe: {error}");
        let (input_reader, input) = std::io::pipe().map_err(broken)?;
        let (output, output_writer) = std::io::pipe().map_err(broken)?;
        let (errors, errors_writer) = std::io::pipe().map_err(broken)?;
        let mut fds: Vec<OwnedFd> = vec![
            input_reader.into(),
            output_writer.into(),
            errors_writer.into(),
        ];
        fds.extend(extra);
        let told = |error: crate::HostError| error.to_string();
        let mut process = launcher.spawn(command, fds).await.map_err(told)?;
        let work = WorkFolder::open(&folder, process.take_work(), launcher.owner());
        Ok(Self {
            process,
            work: Arc::new(work.map_err(told)?),
            folder,
            input: Some(pipe::Sender::from_owned_fd(OwnedFd::from(input)).map_err(broken)?),
            output: Lines::new(pipe::Receiver::from_owned_fd(output.into()).map_err(broken)?),
            errors: Lines::new(pipe::Receiver::from_owned_fd(errors.into()).map_err(broken)?),
            last_id: 0,
            open: BTreeSet::new(),
            told: Vec::new(),
            asked: Vec::new(),
            log: Vec::new(),
        })
    }

    /// The folder of a run.
    pub(super) fn run_folder(&self) -> Result<RunFolder, Problem> {
        RunFolder::new(&self.folder, &self.work).map_err(|error| error.to_string())
    }

    /// Sends a request without waiting; answers its id.
    pub(super) async fn request(&mut self, method: &str, params: Value) -> Result<u64, Problem> {
        self.last_id += 1;
        let id = self.last_id;
        self.open.insert(id);
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await?;
        Ok(id)
    }

    pub(super) async fn notify(&mut self, method: &str, params: Value) -> Result<(), Problem> {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
            .await
    }

    async fn send(&mut self, message: &Value) -> Result<(), Problem> {
        let mut line = message.to_string();
        line.push('\n');
        let gone = || "its standard input is closed".to_owned();
        let input = self.input.as_mut().ok_or_else(gone)?;
        match timeout(super::PATIENCE, input.write_all(line.as_bytes())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(match self.process.has_exited() {
                true => format!("the process ended ({})", self.process.exited().await),
                false => format!("its standard input cannot be written: {error}"),
            }),
            Err(_) => Err(format!(
                "it does not read its standard input: {} bytes wait for it",
                line.len()
            )),
        }
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(
        &mut self,
        method: &str,
        params: Value,
        limit: Duration,
    ) -> Result<Answer, Problem> {
        let id = self.request(method, params).await?;
        match self.next(limit).await? {
            Some((of, answer)) if of == id => Ok(answer),
            Some((of, _)) => Err(format!("it answered the request {of} instead of {id}")),
            None => Err(format!(
                "no answer to {method} within {} s",
                limit.as_secs_f64()
            )),
        }
    }

    /// Waits for the next answer, whatever it answers. `None`: there was none in time.
    pub(super) async fn next(&mut self, limit: Duration) -> Result<Option<(u64, Answer)>, Problem> {
        match timeout(limit, self.hear()).await {
            Ok(heard) => heard.map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn hear(&mut self) -> Result<(u64, Answer), Problem> {
        loop {
            let line = tokio::select! {
                line = self.output.next(MAX_LINE) => line,
                line = self.errors.next(MAX_LOG_LINE) => {
                    if let Ok(Some(line)) = line {
                        self.keep(&line);
                    }
                    continue;
                }
            };
            let Some(line) = line? else {
                let exit = timeout(super::PATIENCE, self.process.exited()).await;
                self.keep_all();
                let how = exit.map_or_else(|_| "but did not end".to_owned(), |e| e.to_string());
                return Err(format!(
                    "it closed its standard output ({how}){}",
                    self.last_words()
                ));
            };
            if line.len() >= MAX_LINE {
                return Err(format!("it sent a line of more than {MAX_LINE} bytes"));
            }
            let shown: String = String::from_utf8_lossy(&line).chars().take(200).collect();
            let message: Map<String, Value> = serde_json::from_slice(&line)
                .map_err(|error| format!("{shown:?} on standard output is no message: {error}"))?;
            if message.get("jsonrpc") != Some(&json!("2.0")) {
                return Err(format!("{shown:?} does not say \"jsonrpc\": \"2.0\""));
            }
            match parse(&line, None).map_err(|why| format!("{shown:?}: {why}"))? {
                Incoming::Answer { id, result } => {
                    if !self.open.remove(&id) {
                        return Err(format!("it answered {id}, which nobody asked, or twice"));
                    }
                    self.keep_all();
                    return Ok((id, result));
                }
                Incoming::Event(event) => self.told.push(event),
                Incoming::Fetch { id, .. } => self.refuse("fetch", id).await?,
                Incoming::Call { id, .. } => self.refuse("call", id).await?,
                Incoming::Node { id, .. } => self.refuse("node", id).await?,
                Incoming::UnknownRequest { id, method } => self.refuse(&method, id).await?,
                Incoming::Ignored => {}
            }
        }
    }

    async fn refuse(&mut self, method: &str, id: Value) -> Result<(), Problem> {
        self.asked.push(method.to_owned());
        let error = json!({"code": -32000, "message": format!("there is no {method} in a check")});
        self.send(&json!({"jsonrpc": "2.0", "id": id, "error": error}))
            .await
    }

    fn keep(&mut self, line: &[u8]) {
        if self.log.len() < MAX_LOG {
            self.log.push(String::from_utf8_lossy(line).into_owned());
        }
    }

    fn keep_all(&mut self) {
        while self.log.len() < MAX_LOG
            && let Some(line) = self.errors.try_next(MAX_LOG_LINE)
        {
            self.keep(&line);
        }
    }

    /// The end of what it wrote to standard error, for messages.
    fn last_words(&self) -> String {
        match self.log.last() {
            Some(line) => format!("; the last line of its standard error is {line:?}"),
            None => String::new(),
        }
    }

    /// Closes its standard input.
    pub(super) fn close_input(&mut self) {
        self.input = None;
    }

    /// Waits for its end; what it still writes is read.
    pub(super) async fn ended(&mut self, limit: Duration) -> Option<Exit> {
        let exit = self.process.exited();
        let reading = async {
            loop {
                tokio::select! {
                    line = self.output.next(MAX_LINE) => if !matches!(line, Ok(Some(_))) { break },
                    line = self.errors.next(MAX_LOG_LINE) => if !matches!(line, Ok(Some(_))) { break },
                }
            }
            std::future::pending::<()>().await;
        };
        let ended = async {
            tokio::select! {
                exit = exit => exit,
                () = reading => Exit::Code(0),
            }
        };
        timeout(limit, ended).await.ok()
    }

    /// The contents of what was told as outputs, by name; each must be there.
    pub(super) fn outputs(&self, folder: &RunFolder) -> Result<Vec<(String, Vec<u8>)>, Problem> {
        let notes = self.told.iter().filter_map(|event| match event {
            RunEvent::Output(note) => Some(note),
            _ => None,
        });
        notes
            .map(|note| {
                let (content, name) = match &note.content {
                    OutputContent::Text(text) => (text.clone().into_bytes(), ""),
                    OutputContent::Url(url) => (url.clone().into_bytes(), ""),
                    OutputContent::Path(path) => {
                        let mut content = Vec::new();
                        let mut file = folder.open(path).map_err(|error| error.to_string())?;
                        std::io::Read::read_to_end(&mut file, &mut content)
                            .map_err(|error| format!("the output {path:?}: {error}"))?;
                        (content, path.rsplit('/').next().unwrap_or(path))
                    }
                };
                let name = note.name.clone().unwrap_or_else(|| name.to_owned());
                Ok((name, content))
            })
            .collect()
    }
}
