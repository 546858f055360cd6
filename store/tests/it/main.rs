//! The store at its door, on real files.
#![expect(
    clippy::unwrap_used,
    reason = "what helpers of tests unwrap fails the test"
)]

mod deliveries;
mod disk_full;
mod files;
mod kill;
mod modules;
mod opening;
mod pages;
mod recovery;
mod runs;
mod tasks;

use std::path::Path;

use runner_core::task::{Change, NewTask, Task};
use runner_store::{Durability, NewFile, RunWrite, Store, StoreConfig};
use serde_json::{Map, json};
use tempfile::TempDir;

/// A store with a folder of its own.
struct Fixture {
    store: Store,
    config: StoreConfig,
    folder: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let store = Store::open(&config).await.unwrap();
        Self {
            store,
            config,
            folder,
        }
    }

    /// A task that was just made.
    async fn task(&self) -> Task {
        let id = self.store.insert_task(new_task()).await.unwrap();
        self.store.task(id).await.unwrap().unwrap()
    }

    async fn read(&self, id: i64) -> Task {
        self.store.task(id).await.unwrap().unwrap()
    }

    /// A file in the file store, as an output.
    fn output(&self, name: &str) -> NewFile {
        NewFile {
            stored: self.store.files().put(name.as_bytes()).unwrap(),
            name: name.to_owned(),
            data_type: "entity/list".to_owned(),
            content_type: "text/csv".to_owned(),
        }
    }
}

fn config(folder: &Path) -> StoreConfig {
    StoreConfig {
        database: folder.join("sql/runner.db"),
        files: folder.join("files"),
        durability: Durability::Process,
    }
}

fn new_task() -> NewTask {
    let mut parameters = Map::new();
    parameters.insert("inputStr".to_owned(), json!("ä\u{0}\"x\""));
    NewTask {
        plugin: "hello-world@v0-2-1".to_owned(),
        digest: "d1".to_owned(),
        parameters,
        uploads: Vec::new(),
        labels: Vec::new(),
        caller: None,
        base_url: "http://host:5005".to_owned(),
    }
}

/// A change of a worker, with its events and nothing else.
fn run_write(task: &mut Task, change: Change) -> RunWrite {
    let events = task.apply(change).unwrap();
    RunWrite {
        task: task.clone(),
        holder: "worker-1".to_owned(),
        log: String::new(),
        outputs: Vec::new(),
        events,
    }
}

fn succeeded() -> Change {
    Change::Succeeded { data: None }
}
