//! The store at its door, on real files and real databases.
#![expect(
    clippy::unwrap_used,
    reason = "what helpers of tests unwrap fails the test"
)]

/// Makes a test of each of these functions for each kind of database.
macro_rules! on_each_database {
    ($($name:ident),* $(,)?) => {
        on_each_database!(@ sqlite Sqlite $($name)*);
        on_each_database!(@ postgres Postgres $($name)*);
        on_each_database!(@ mysql Mysql $($name)*);
    };
    (@ $module:ident $on:ident $($name:ident)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(crate::databases::On::$on).await;
                }
            )*
        }
    };
}

mod away;
mod checks;
mod databases;
mod deliveries;
mod disk_full;
mod files;
mod inserts;
mod kill;
mod modules;
mod opening;
mod pages;
mod permalinks;
mod pipelines;
mod recovery;
mod retention;
mod runs;
mod s3;
mod same;
mod schedules;
mod schema;
mod servers;
mod tasks;
mod wanted;
mod workers;

use std::path::{Path, PathBuf};

use runner_core::job::Offer;
use runner_core::task::{Change, NewTask, Task};
use runner_store::{DatabaseUrl, Durability, NewFile, RunWrite, Store, StoreConfig};
use serde_json::{Map, json};
use tempfile::TempDir;

use databases::{Database, On};

/// A store with a database and a folder of its own.
struct Fixture {
    store: Store,
    config: StoreConfig,
    _folder: TempDir,
    /// Removed at the end.
    database: Database,
}

impl Fixture {
    async fn new(on: On) -> Self {
        Self::made(on, false).await
    }

    /// SQLite, and nobody else changes it.
    async fn alone() -> Self {
        Self::made(On::Sqlite, true).await
    }

    async fn made(on: On, is_alone: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::new(on, folder.path()).await;
        let config = StoreConfig {
            database: DatabaseUrl::parse(database.url()).unwrap(),
            is_alone,
            ..config(folder.path())
        };
        let store = Store::open(&config).await.unwrap();
        Self {
            store,
            config,
            _folder: folder,
            database,
        }
    }

    /// What another process has open.
    async fn other(&self, process: &str) -> Store {
        let config = StoreConfig {
            process: process.to_owned(),
            is_alone: false,
            ..self.config.clone()
        };
        Store::open(&config).await.unwrap()
    }

    /// A task that was just made.
    async fn task(&self) -> Task {
        let id = self.store.insert_task(new_task()).await.unwrap().id();
        self.store.task(id).await.unwrap().unwrap()
    }

    async fn read(&self, id: i64) -> Task {
        self.store.task(id).await.unwrap().unwrap()
    }

    /// Where the content of a key is.
    fn content(&self, key: &str) -> PathBuf {
        let (_, shelf) = key.split_at(key.len() - 2);
        let (a, b) = shelf.split_at(1);
        self.config.files.join(a).join(b).join(key)
    }

    /// A file in the file store, as an output.
    fn output(&self, name: &str) -> NewFile {
        NewFile {
            stored: self.store.files().put(name.as_bytes()).unwrap(),
            url: None,
            name: name.to_owned(),
            data_type: "entity/list".to_owned(),
            content_type: "text/csv".to_owned(),
        }
    }
}

fn config(folder: &Path) -> StoreConfig {
    StoreConfig {
        database: DatabaseUrl::of_file(folder.join("sql/runner.db")),
        files: folder.join("files"),
        bucket: None,
        durability: Durability::Process,
        queue: "default".to_owned(),
        process: "worker-1".to_owned(),
        is_alone: false,
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
        dispatch: Default::default(),
        idempotency: None,
    }
}

/// A change of a worker, with its events and nothing else.
fn run_write(task: &mut Task, change: Change) -> RunWrite {
    let run = task.run;
    let events = task.apply(change).unwrap();
    RunWrite {
        task: task.clone(),
        run,
        log: String::new(),
        outputs: Vec::new(),
        events,
    }
}

fn succeeded() -> Change {
    Change::Succeeded { data: None }
}

/// Task and run of each.
fn numbers(jobs: &[Offer]) -> Vec<(i64, i64)> {
    let numbers = jobs.iter().map(|offer| (offer.job.task, offer.job.run));
    numbers.collect()
}
