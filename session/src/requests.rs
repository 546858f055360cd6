//! What kernels ask of the runner, on a line of their own that no client sees: plugins are run for them.
//!
//! Lines of JSON. A kernel asks `{"id": 1, "run": {"plugin": …, "parameters": {…}}}` or `{"id": 1, "plugins": true}`,
//! and takes back with `{"cancel": 1}`. It is told `{"id": 1, "task": 17}`, `log`, `progress` and `step` while it
//! waits, then once `done`, or `failed` with why.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::kernel::Kernel;
use crate::session::Session;
use crate::tasks::{FileLinks, SessionTasks, TaskCall};

/// Bytes of a request.
const MAX_LINE: u64 = 1 << 20;
/// Plugins that one session runs at a time.
const MAX_RUNS: usize = 16;
/// Answers that wait until a kernel reads them.
const QUEUED: usize = 64;
/// What is heard of a task and was not told yet.
const NEWS: usize = 8;

#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(default)]
    id: u64,
    run: Option<Wish>,
    #[serde(default)]
    plugins: bool,
    cancel: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Wish {
    plugin: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// Answers what a kernel asks until it has ended. Then tasks that it waits for are cancelled.
pub(crate) async fn serve(
    line: UnixStream,
    session: Arc<Session>,
    tasks: Arc<dyn SessionTasks>,
    end: watch::Receiver<Option<String>>,
) {
    let (reader, writer) = line.into_split();
    let (answers, told) = mpsc::channel(QUEUED);
    tokio::select! {
        () = hear(reader, session, tasks, answers) => {}
        () = write(writer, told) => {}
        _ = Kernel::ended(end) => {}
    }
}

async fn hear(
    reader: OwnedReadHalf,
    session: Arc<Session>,
    tasks: Arc<dyn SessionTasks>,
    answers: mpsc::Sender<Value>,
) {
    let mut reader = BufReader::new(reader);
    let mut runs = JoinSet::new();
    let mut handles: HashMap<u64, AbortHandle> = HashMap::new();
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reader).take(MAX_LINE);
        match limited.read_until(b'\n', &mut line).await {
            Ok(_) if line.ends_with(b"\n") => {}
            // Also where a line is too long: the SDK sends none.
            _ => return,
        }
        let asked: Asked = match serde_json::from_slice(&line) {
            Ok(asked) => asked,
            Err(error) => {
                tracing::info!(session = %session.id(), "a kernel asks what is no request: {error}");
                return;
            }
        };
        while runs.try_join_next().is_some() {}
        handles.retain(|_, handle| !handle.is_finished());
        if let Some(id) = asked.cancel {
            if let Some(handle) = handles.remove(&id) {
                handle.abort();
            }
            continue;
        }
        if handles.len() >= MAX_RUNS {
            let why = format!("{MAX_RUNS} plugins run for this session; wait for one of them");
            let _ = answers.send(json!({"id": asked.id, "failed": why})).await;
            continue;
        }
        let (session, tasks, answers) = (Arc::clone(&session), Arc::clone(&tasks), answers.clone());
        let handle = runs.spawn(answer(
            asked.id,
            asked.run,
            asked.plugins,
            session,
            tasks,
            answers,
        ));
        handles.insert(asked.id, handle);
    }
}

async fn answer(
    id: u64,
    wish: Option<Wish>,
    wants_plugins: bool,
    session: Arc<Session>,
    tasks: Arc<dyn SessionTasks>,
    answers: mpsc::Sender<Value>,
) {
    let outcome = match wish {
        Some(wish) => run(id, wish, &session, tasks.as_ref(), &answers).await,
        None if wants_plugins => Ok(tasks.plugins().await),
        None => Err("expected `run` or `plugins`".to_owned()),
    };
    let answer = match outcome {
        Ok(done) => json!({"id": id, "done": done}),
        Err(why) => json!({"id": id, "failed": why}),
    };
    let _ = answers.send(answer).await;
}

async fn run(
    id: u64,
    wish: Wish,
    session: &Arc<Session>,
    tasks: &dyn SessionTasks,
    answers: &mpsc::Sender<Value>,
) -> Result<Value, String> {
    let call = TaskCall {
        plugin: wish.plugin,
        parameters: wish.parameters,
        session: session.id(),
        submitter: session.client().to_owned(),
        base_url: session.base_url(),
        files: session.files().map_err(|error| error.to_string())?,
        links: FileLinks(Arc::clone(session)),
    };
    let (news, mut heard) = mpsc::channel(NEWS);
    let running = tasks.run(call, news);
    let telling = async {
        while let Some(news) = heard.recv().await {
            let mut told = json!(news);
            told["id"] = id.into();
            let _ = answers.send(told).await;
        }
    };
    // The sender of news is gone with the run, so that all of them are told before its end.
    let (outcome, ()) = tokio::join!(running, telling);
    outcome
}

async fn write(mut writer: OwnedWriteHalf, mut told: mpsc::Receiver<Value>) {
    while let Some(answer) = told.recv().await {
        let mut line = answer.to_string();
        line.push('\n');
        if writer.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}
