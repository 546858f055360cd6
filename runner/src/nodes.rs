//! What a pipeline of the command line works with: files of this machine, and plugins as nodes.
//!
//! A plugin that can be a node works in a host. Any other is run as a task for each item, with the parameters that stand in `with`. Each of its
//! outputs is an item: `{"name", "dataType", "contentType", "size", "url"}`, with `text` where it is
//! a short text. The `url` may be given to a parameter of another plugin that takes data.

use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runner_core::file::File;
use runner_core::task::{Task, TaskState};
use runner_flow::{Hosts, Nodes, Opening};
use runner_host::modules::Table;
use runner_host::protocol::NodeRequest;
use runner_host::{NodeHosts, Opened, OwnFiles, Provided};
use runner_pipeline::graph::NodeSpec;
use runner_pipeline::surroundings::NewFile;
use runner_pipeline::types::ItemType;
use runner_pipeline::{Argument, Call, CallFuture, Catalog, Failure, Foreign, Surroundings};
use serde_json::{Map, Value, json};
use url::Url;

use crate::draft::Draft;
use crate::trial::Tasks;
use crate::values::Filled;

/// Bytes of an output whose text is part of its item at most.
const MAX_TEXT: u64 = 64 << 10;
/// Characters of a task's log that are told when it failed.
const MAX_REASON: usize = 500;

/// The plugins that are loaded.
pub(crate) struct Plugins(Arc<Table>);

impl Plugins {
    pub(crate) fn new(table: Arc<Table>) -> Self {
        Self(table)
    }

    /// A plugin by identifier, `name@version`, or name, then the newest.
    fn find(&self, name: &str) -> Option<Provided> {
        let table = &self.0;
        let same = |provided: &&Provided| provided.plugin.identity.to_string() == name;
        let found = table.plugin(name).or_else(|| table.newest(name));
        found.or_else(|| table.plugins().iter().find(same)).cloned()
    }
}

impl Catalog for Plugins {
    fn find(&self, node: &NodeSpec) -> Result<Option<Foreign>, String> {
        let Some(provided) = self.find(&node.uses) else {
            return Ok(None);
        };
        let none = Map::new();
        let with = match &node.with {
            Value::Object(with) => with,
            Value::Null => &none,
            _ => return Err("`with` of a plugin is an object of its parameters".to_owned()),
        };
        let form = &provided.plugin.form.parameters;
        let keys = || form.fields().iter().map(|field| field.key.as_str());
        if let Some(key) = with.keys().find(|key| !keys().any(|known| known == *key)) {
            return Err(format!(
                "{} has no parameter {key:?}; it has {}",
                provided.plugin.identity,
                keys().collect::<Vec<_>>().join(", ")
            ));
        }
        let required = form.schema()["required"].as_array().into_iter().flatten();
        let mut required = required.filter_map(Value::as_str);
        if let Some(key) = required.find(|key| !with.contains_key(*key)) {
            return Err(format!(
                "{} needs the parameter {key:?}",
                provided.plugin.identity
            ));
        }
        Ok(Some(match &provided.plugin.node {
            Some(node) => Foreign {
                takes: ItemType::of_schema(&node.takes),
                gives: ItemType::of_schema(&node.gives),
            },
            None => Foreign {
                takes: ItemType::Any,
                gives: ItemType::Object,
            },
        }))
    }
}

/// Files of this machine, relative to the folder of the command; no plugins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files;

impl Surroundings for Files {
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(fs::File::open(path)?))
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn NewFile>> {
        Ok(Box::new(Draft::create(Path::new(path))?))
    }

    fn node(&self, node: &NodeSpec) -> Result<Arc<dyn Call>, String> {
        Err(format!("{:?} is not built in", node.uses))
    }
}

impl NewFile for Draft {
    fn keep(self: Box<Self>) -> io::Result<()> {
        Draft::keep(*self)
    }
}

/// Files of this machine, and plugins that are run as tasks.
pub(crate) struct PluginNodes {
    tasks: Tasks,
    plugins: Plugins,
    /// Where outputs are put.
    made: PathBuf,
    /// Those that work in hosts.
    nodes: Nodes,
}

impl PluginNodes {
    pub(crate) fn new(tasks: Tasks, table: Arc<Table>, made: PathBuf, nodes: Nodes) -> Self {
        Self {
            tasks,
            plugins: Plugins::new(table),
            made,
            nodes,
        }
    }
}

/// Starts the hosts of nodes.
pub(crate) struct PluginHosts {
    plugins: Plugins,
    hosts: Arc<NodeHosts>,
    /// Where files are that plugins have made.
    made: PathBuf,
}

impl PluginHosts {
    pub(crate) fn new(table: Arc<Table>, hosts: Arc<NodeHosts>, made: PathBuf) -> Self {
        Self {
            plugins: Plugins::new(table),
            hosts,
            made,
        }
    }

    /// Exchanges files with a host. Those that it made other plugins may read.
    async fn carry(&self, request: NodeRequest) -> Result<Opened, String> {
        let given = request.give.len();
        let own = OwnFiles::Folder(self.made.clone());
        let mut opened = self.hosts.carry(request, own).await?;
        for file in opened.answer.carried.iter_mut().skip(given) {
            file.url = Url::from_file_path(&file.path).ok().map(String::from);
        }
        Ok(opened)
    }
}

impl Hosts for PluginHosts {
    fn open(&self, request: NodeRequest) -> Opening<'_> {
        Box::pin(async move {
            let Opened { answer, socket } = match request.plugin.as_str() {
                _ if request.host.is_some() => self.carry(request).await?,
                "" => self.hosts.lost(request.lost.unwrap_or_default()).await,
                name => {
                    let found = self.plugins.find(name);
                    let found = found.ok_or_else(|| format!("there is no plugin {name:?}"))?;
                    self.hosts.open(&found, request).await?
                }
            };
            Ok((answer, socket.map(UnixStream::from)))
        })
    }
}

impl Surroundings for PluginNodes {
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send>> {
        Files.open(path)
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn NewFile>> {
        Files.create(path)
    }

    fn node(&self, node: &NodeSpec) -> Result<Arc<dyn Call>, String> {
        if let Some(hosted) = self.nodes.get(&node.name) {
            return Ok(hosted);
        }
        let found = self.plugins.find(&node.uses);
        let provided = found.ok_or_else(|| format!("there is no plugin {:?}", node.uses))?;
        Ok(Arc::new(PluginNode {
            tasks: self.tasks.clone(),
            provided,
            made: self.made.clone(),
        }))
    }
}

struct PluginNode {
    tasks: Tasks,
    provided: Provided,
    made: PathBuf,
}

impl Call for PluginNode {
    fn call(&self, items: Vec<Argument>) -> CallFuture<'_> {
        let each = items.into_iter().map(|item| self.one(item.with));
        Box::pin(futures::future::join_all(each))
    }

    fn fingerprint(&self) -> String {
        let plugin = &self.provided.plugin.identifier;
        format!("{plugin} {}", self.provided.module.status().sha256)
    }
}

impl PluginNode {
    async fn one(&self, with: Value) -> Result<Vec<Value>, Failure> {
        let with = match with {
            Value::Object(with) => with,
            _ => Map::new(),
        };
        let checked = self.provided.plugin.check_parameters(with);
        let parameters = checked.map_err(Failure::lasting)?;
        let filled = Filled {
            parameters,
            uploads: Vec::new(),
        };
        let passing = |error: anyhow::Error| Failure::passing(format!("{error:#}"));
        let id = self
            .tasks
            .begin(&self.provided, filled)
            .await
            .map_err(passing)?;
        let unfinished = Unfinished(Some((self.tasks.clone(), id)));
        let task = self.tasks.ended(id).await.map_err(passing)?;
        match task.state {
            TaskState::Succeeded => unfinished.settle(),
            TaskState::Waiting => {
                return Err(Failure::lasting(
                    "it waits for a step, which nobody submits in a pipeline",
                ));
            }
            _ => {
                unfinished.settle();
                return Err(Failure::passing(reason(&task)));
            }
        }
        let outputs = task.outputs.iter();
        let mut items = Vec::with_capacity(outputs.len());
        for file in outputs {
            let item = self.item(task.id, file).await;
            items.push(item.map_err(|error| {
                Failure::passing(format!("cannot read its outputs: {error:#}"))
            })?);
        }
        Ok(items)
    }

    /// An output as an item; its content is put where other plugins may read it.
    async fn item(&self, task: i64, file: &File) -> anyhow::Result<Value> {
        let mut item = json!({
            "name": file.name, "dataType": file.data_type, "contentType": file.content_type,
        });
        if let Some(url) = &file.url {
            item["url"] = json!(url);
            return Ok(item);
        }
        let folder = self.made.join(format!("{task}-{}", file.id));
        let path = folder.join(&file.name);
        self.tasks.store().place(file, &path).await?;
        item["size"] = json!(file.size);
        let is_text = file.content_type.starts_with("text/") || file.content_type.ends_with("json");
        if is_text
            && file.size <= MAX_TEXT
            && let Ok(text) = fs::read_to_string(&path)
        {
            item["text"] = json!(text);
        }
        if let Ok(url) = Url::from_file_path(&path) {
            item["url"] = json!(url.as_str());
        }
        // Nodes in hosts read it there.
        item["path"] = json!(path);
        Ok(item)
    }
}

/// The file that an item is, if a plugin has made it here.
pub(crate) fn file_of(item: &Value) -> Option<PathBuf> {
    let url = Url::parse(item.get("url")?.as_str()?).ok()?;
    item.get("dataType")?;
    url.to_file_path().ok().filter(|path| path.is_file())
}

/// The end of the log of a task that failed, in one line.
fn reason(task: &Task) -> String {
    let words: Vec<&str> = task.log.split_whitespace().collect();
    let text = words.join(" ");
    match text.char_indices().rev().nth(MAX_REASON) {
        Some((at, _)) => format!("…{}", &text[at..]),
        None if text.is_empty() => "the task failed".to_owned(),
        None => text,
    }
}

/// A task that is cancelled when nobody waits for it any more.
struct Unfinished(Option<(Tasks, i64)>);

impl Unfinished {
    fn settle(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some((tasks, id)) = self.0.take() {
            tokio::spawn(async move {
                // The run is over; what cannot be cancelled ends with the command.
                let _ = tasks.cancel(id).await;
            });
        }
    }
}
