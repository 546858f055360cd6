//! Runs of small pipelines.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runner_pipeline::graph::NodeSpec;
use runner_pipeline::surroundings::{Call, Catalog, Foreign, NewFile, Surroundings};
use runner_pipeline::types::ItemType;
use runner_pipeline::{
    Argument, CallFuture, Checked, Control, Failure, Format, Graph, GraphError, Lowering, Made,
    Outputs, Run, RunError, Seen, start,
};
use serde_json::{Map, Value};

/// How long a run of a test may take.
const DEADLINE: Duration = Duration::from_secs(60);

type Answer = Arc<dyn Fn(Argument) -> Reply + Send + Sync>;

/// What a node of a test does with an item.
pub(crate) enum Reply {
    Now(Result<Vec<Value>, Failure>),
    After(Duration, Result<Vec<Value>, Failure>),
    Never,
    Panic,
}

/// Files in memory, and nodes that are functions.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) files: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    nodes: HashMap<String, Answer>,
    /// Sizes of the calls that were made.
    pub(crate) calls: Arc<Mutex<Vec<usize>>>,
}

impl World {
    pub(crate) fn file(self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files
            .lock()
            .unwrap()
            .insert(name.to_owned(), content.into());
        self
    }

    pub(crate) fn node(
        mut self,
        name: &str,
        answer: impl Fn(Argument) -> Reply + Send + Sync + 'static,
    ) -> Self {
        self.nodes.insert(name.to_owned(), Arc::new(answer));
        self
    }

    pub(crate) fn read(&self, name: &str) -> Option<String> {
        let files = self.files.lock().unwrap();
        files
            .get(name)
            .map(|content| String::from_utf8(content.clone()).unwrap())
    }

    pub(crate) fn check(&self, yaml: &str) -> Result<Checked, GraphError> {
        let document = Format::Yaml.read(yaml).unwrap();
        Checked::new(Graph::from_json(&document)?, self)
    }

    pub(crate) fn refused(&self, yaml: &str) -> String {
        self.check(yaml).map(|_| ()).unwrap_err().to_string()
    }

    pub(crate) fn start_with(
        &self,
        yaml: &str,
        params: Value,
        lowering: Lowering,
    ) -> Result<(Run, Outputs), GraphError> {
        let params = params.as_object().cloned().unwrap_or_else(Map::new);
        start(&self.check(yaml)?, &params, self, lowering)
    }

    pub(crate) fn start(&self, yaml: &str) -> (Run, Outputs) {
        self.start_with(yaml, Value::Null, Lowering::default())
            .unwrap()
    }

    pub(crate) async fn run(&self, yaml: &str) -> Ended {
        self.run_with(yaml, Value::Null, Lowering::default()).await
    }

    pub(crate) async fn run_with(&self, yaml: &str, params: Value, lowering: Lowering) -> Ended {
        let (run, outputs) = self.start_with(yaml, params, lowering).unwrap();
        finish(run, outputs).await
    }
}

/// What became of a run.
pub(crate) struct Ended {
    pub(crate) made: Vec<Made>,
    pub(crate) result: Result<Seen, RunError>,
    pub(crate) control: Control,
}

impl Ended {
    #[track_caller]
    pub(crate) fn values(&self) -> Vec<Value> {
        self.result.as_ref().unwrap();
        self.made.iter().map(|made| made.value.clone()).collect()
    }

    #[track_caller]
    pub(crate) fn failure(&self) -> String {
        self.result.as_ref().unwrap_err().to_string()
    }
}

/// Reads all, and waits for the end.
pub(crate) async fn finish(run: Run, mut outputs: Outputs) -> Ended {
    let control = run.control();
    let reading = async {
        let mut made = Vec::new();
        while let Some(one) = outputs.next().await {
            made.push(one);
        }
        made
    };
    let both = async { tokio::join!(reading, run.wait()) };
    let ended = tokio::time::timeout(DEADLINE, both).await;
    let (made, result) = ended.expect("the run hangs");
    Ended {
        made,
        result,
        control,
    }
}

impl Catalog for World {
    fn find(&self, node: &NodeSpec) -> Result<Option<Foreign>, String> {
        let takes = match node.uses.as_str() {
            "texts" => ItemType::Text,
            _ => ItemType::Any,
        };
        let gives = ItemType::Any;
        Ok(self
            .nodes
            .contains_key(&node.uses)
            .then_some(Foreign { takes, gives }))
    }
}

impl Surroundings for World {
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send>> {
        let files = self.files.lock().unwrap();
        let content = files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(content.clone())))
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn NewFile>> {
        Ok(Box::new(Writing {
            path: path.to_owned(),
            content: Vec::new(),
            files: Arc::clone(&self.files),
        }))
    }

    fn node(&self, node: &NodeSpec) -> Result<Arc<dyn Call>, String> {
        let answer = self.nodes.get(&node.uses).ok_or("it is not there")?;
        let calls = Arc::clone(&self.calls);
        Ok(Arc::new(Function(Arc::clone(answer), calls)))
    }
}

struct Function(Answer, Arc<Mutex<Vec<usize>>>);

impl Call for Function {
    fn call(&self, items: Vec<Argument>) -> CallFuture<'_> {
        self.1.lock().unwrap().push(items.len());
        Box::pin(async move {
            let mut results = Vec::new();
            for item in items {
                results.push(match (self.0)(item) {
                    Reply::Now(result) => result,
                    Reply::After(time, result) => {
                        tokio::time::sleep(time).await;
                        result
                    }
                    Reply::Never => std::future::pending().await,
                    Reply::Panic => panic!("out of cheese"),
                });
            }
            results
        })
    }
}

/// A file that fails when it is full.
struct Writing {
    path: String,
    content: Vec<u8>,
    files: Arc<Mutex<HashMap<String, Vec<u8>>>>,
}

impl Write for Writing {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.path.contains("full") && self.content.len() > 20_000 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.content.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for Writing {
    fn keep(self: Box<Self>) -> io::Result<()> {
        self.files.lock().unwrap().insert(self.path, self.content);
        Ok(())
    }
}

/// The item, after a time that differs from item to item.
pub(crate) fn jittered(argument: Argument) -> Reply {
    let number = argument.item.as_u64().unwrap_or(0);
    let time = Duration::from_millis(number.wrapping_mul(2_654_435_761) % 7);
    Reply::After(time, Ok(vec![argument.item]))
}
