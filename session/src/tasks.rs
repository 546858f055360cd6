//! What sessions need of the rest of the runner: tasks, and their outputs. Whoever has these implements it.

use std::fmt;

use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::files::SessionFiles;

/// Runs plugins for sessions.
pub trait SessionTasks: fmt::Debug + Send + Sync {
    /// Runs a plugin as a task, and waits for its end. Its outputs are put into the session. The answer is what
    /// the SDK in a kernel is told (`runner.session`), or why there is no task. Dropped, it cancels the task.
    fn run(
        &self,
        call: TaskCall,
        news: mpsc::Sender<News>,
    ) -> BoxFuture<'static, Result<Value, String>>;

    /// The plugins that can be run: `identifier`, `name`, `version`, `title`, `tags` of each.
    fn plugins(&self) -> BoxFuture<'static, Value>;

    /// Puts an output of a task into a session, under this path. Answers its bytes.
    fn bring(
        &self,
        output: TaskOutput,
        files: SessionFiles,
        path: String,
    ) -> BoxFuture<'static, Result<u64, BringError>>;
}

/// Sessions from which no plugin can be run.
#[derive(Debug)]
pub struct NoTasks;

impl SessionTasks for NoTasks {
    fn run(
        &self,
        _call: TaskCall,
        _news: mpsc::Sender<News>,
    ) -> BoxFuture<'static, Result<Value, String>> {
        let refused = Err("plugins cannot be run from cells of pages".to_owned());
        Box::pin(std::future::ready(refused))
    }

    fn plugins(&self) -> BoxFuture<'static, Value> {
        Box::pin(std::future::ready(Value::Array(Vec::new())))
    }

    fn bring(
        &self,
        _output: TaskOutput,
        _files: SessionFiles,
        _path: String,
    ) -> BoxFuture<'static, Result<u64, BringError>> {
        let refused = BringError::Unknown("there are no tasks for cells of pages".to_owned());
        Box::pin(std::future::ready(Err(refused)))
    }
}

/// A plugin that is to be run for a session.
#[derive(Debug, Clone)]
pub struct TaskCall {
    /// Identifier or name of the plugin.
    pub plugin: String,
    /// Its parameters. Files of the session are objects: `{"$file": path}`.
    pub parameters: Map<String, Value>,
    /// The session.
    pub session: Uuid,
    /// With whom it is counted.
    pub submitter: String,
    /// The URL by which its client knows the runner; empty where no client has come since a restart.
    pub base_url: String,
    /// Its files.
    pub files: SessionFiles,
    /// Where its files are had by their tags, without the base URL.
    pub links: FileLinks,
}

/// Makes paths under which files of a session are had without a token.
#[derive(Debug, Clone)]
pub struct FileLinks(pub(crate) std::sync::Arc<crate::Session>);

impl FileLinks {
    /// The path of a file.
    pub fn path(&self, file: &str) -> String {
        self.0.shared_path(file)
    }
}

/// What is heard of a task that runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// Its number.
    Task(i64),
    /// What its log has more.
    Log(String),
    /// How far it is.
    Progress(Value),
    /// The URL of a step that it waits for.
    Step(String),
}

/// Which output of a task is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskOutput {
    /// The one of this URL, with its tag.
    Url(String),
    /// By the number of the task and the name of the output.
    Named(i64, String),
}

/// Why an output is not put into a session.
#[derive(Debug, thiserror::Error)]
pub enum BringError {
    /// There is no such output.
    #[error("{0}")]
    Unknown(String),
    /// It cannot be read, for a reason of the runner's.
    #[error("the output cannot be read: {0}")]
    Unreadable(String),
    /// It cannot be written.
    #[error("{0}")]
    File(#[from] std::io::Error),
}
