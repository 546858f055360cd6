//! What a run works with: its folder, the files beside the pipeline, plugins that it calls.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runner_host::hosted::Calls;
use runner_pipeline::graph::NodeSpec;
use runner_pipeline::surroundings::NewFile;
use runner_pipeline::{Argument, Call, CallFuture, Failure, Surroundings};
use runner_sdk::HostCalls;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::module::{ITEMS, Module};
use crate::nodes::Nodes;

/// Bytes of an output whose text is part of its item at most.
const MAX_TEXT: u64 = 64 << 10;
/// Characters of a log that are told when a called task failed.
const MAX_REASON: usize = 500;

/// The surroundings of a run.
pub(crate) struct World {
    folder: PathBuf,
    /// Whether the pipeline came with its task.
    is_given: bool,
    directory: PathBuf,
    task: Value,
    calls: Arc<Calls>,
    /// Held by the call that is open.
    turn: Arc<Mutex<()>>,
    /// Those that work in hosts.
    nodes: Option<Nodes>,
}

impl World {
    pub(crate) fn new(
        module: &Module,
        params: &Value,
        directory: &Path,
        calls: &Arc<Calls>,
        nodes: Option<Nodes>,
    ) -> Self {
        Self {
            folder: module.folder.clone(),
            is_given: module.is_given,
            directory: directory.to_owned(),
            task: params["task"].clone(),
            calls: Arc::clone(calls),
            turn: Arc::default(),
            nodes,
        }
    }
}

impl Surroundings for World {
    /// A relative path is that of a file beside the pipeline. The sandbox says what may be read. A pipeline that came
    /// with its task has no files, and reads URLs.
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send>> {
        if !self.is_given {
            return Ok(Box::new(File::open(self.folder.join(path))?));
        }
        if !path.contains("://") && !path.starts_with("data:") {
            let text = "a pipeline that comes with a request reads URLs, not files";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let params = json!({"url": path, "task": self.task});
        let fetched = self.calls.request("fetch", params);
        let fetched = fetched.map_err(|failure| io::Error::other(failure.message))?;
        let path = fetched["path"].as_str().unwrap_or_default();
        Ok(Box::new(File::open(path)?))
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn NewFile>> {
        let is_plain = Path::new(path).file_name().is_some_and(|name| name == path);
        if !is_plain {
            let text = "a file that is an output of a task has a name without folders";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Box::new(OutputFile {
            file: File::create(self.directory.join(path))?,
            name: path.to_owned(),
            task: self.task.clone(),
            calls: Arc::clone(&self.calls),
        }))
    }

    fn node(&self, node: &NodeSpec) -> Result<Arc<dyn Call>, String> {
        let hosted = self.nodes.as_ref().and_then(|nodes| nodes.get(&node.name));
        if let Some(hosted) = hosted {
            return Ok(hosted);
        }
        Ok(Arc::new(PluginNode {
            plugin: node.uses.clone(),
            task: self.task.clone(),
            calls: Arc::clone(&self.calls),
            turn: Arc::clone(&self.turn),
        }))
    }
}

/// A file in the run's folder, which becomes an output when it is whole.
struct OutputFile {
    file: File,
    name: String,
    task: Value,
    calls: Arc<Calls>,
}

impl Write for OutputFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl NewFile for OutputFile {
    fn keep(self: Box<Self>) -> io::Result<()> {
        self.calls.notify(
            "output",
            json!({
                "task": self.task, "path": self.name, "name": self.name, "dataType": ITEMS,
            }),
        );
        Ok(())
    }
}

/// A plugin, called for each item.
struct PluginNode {
    plugin: String,
    task: Value,
    calls: Arc<Calls>,
    turn: Arc<Mutex<()>>,
}

impl Call for PluginNode {
    fn call(&self, items: Vec<Argument>) -> CallFuture<'_> {
        Box::pin(async move {
            let mut results = Vec::with_capacity(items.len());
            for item in items {
                results.push(self.one(item.with).await);
            }
            results
        })
    }

    fn fingerprint(&self) -> String {
        self.plugin.clone()
    }
}

impl PluginNode {
    async fn one(&self, with: Value) -> Result<Vec<Value>, Failure> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let calls = Arc::clone(&self.calls);
        let parameters = match with {
            Value::Null => json!({}),
            with => with,
        };
        let params = json!({
            "plugin": self.plugin, "parameters": parameters, "task": self.task,
        });
        // The turn ends with the call, also when nobody waits for it any more.
        let called = tokio::task::spawn_blocking(move || {
            let answer = calls.request("call", params);
            drop(turn);
            answer
        });
        let answer = called
            .await
            .map_err(|error| Failure::passing(error.to_string()))?;
        let answer = answer.map_err(|failure| Failure::lasting(failure.message))?;
        if answer["status"] != "SUCCESS" {
            return Err(Failure::passing(reason(&answer)));
        }
        let outputs = answer["outputs"].as_array().into_iter().flatten();
        Ok(outputs.map(item).collect())
    }
}

/// An output of a called task as an item, with its text if that is short.
fn item(output: &Value) -> Value {
    let mut item = output.clone();
    let content_type = output["contentType"].as_str().unwrap_or_default();
    let is_text = content_type.starts_with("text/") || content_type.ends_with("json");
    let is_short = output["size"].as_u64().is_some_and(|size| size <= MAX_TEXT);
    let text = output["path"].as_str().map(fs::read_to_string);
    if let (true, true, Some(Ok(text))) = (is_text, is_short, text) {
        item["text"] = json!(text);
    }
    item
}

/// The end of the log of a called task, in one line.
fn reason(answer: &Value) -> String {
    let log = answer["log"].as_str().unwrap_or_default();
    let text = log.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().rev().nth(MAX_REASON) {
        Some((at, _)) => format!("{} failed: …{}", answer["href"], &text[at..]),
        None => format!("{} failed: {text}", answer["href"]),
    }
}
