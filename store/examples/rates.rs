//! How fast the store is: `cargo run --release -p runner-store --example rates [seconds] [folder]`.
#![expect(clippy::unwrap_used, reason = "a measurement that fails has no result")]

use std::path::Path;
use std::time::{Duration, Instant};

use runner_core::task::{Change, NewTask};
use runner_store::{Durability, NewFile, RunWrite, Store, StoreConfig};
use serde_json::{Map, json};

#[derive(Clone, Copy, PartialEq)]
enum Work {
    /// `insert_task`.
    Insert,
    /// And `write_run` with the end, a line of log and an output.
    Task,
    /// And the file of the output, and what a worker and a client read.
    Whole,
    /// `task` of a finished task.
    Read,
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(3.0, |text| text.parse().unwrap());
    let folder = match arguments.next() {
        Some(folder) => tempfile::tempdir_in(folder).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    for durability in [Durability::Process, Durability::Power] {
        for (name, work) in [
            ("insert", Work::Insert),
            ("insert + write_run", Work::Task),
            ("the same with file and reads", Work::Whole),
            ("read", Work::Read),
        ] {
            for callers in [1, 32] {
                let rate = measure(folder.path(), durability, work, callers, seconds).await;
                println!("{durability:?}: {name}, {callers} callers: {rate:.0}/s");
            }
        }
    }
}

async fn measure(
    folder: &Path,
    durability: Durability,
    work: Work,
    callers: usize,
    seconds: f64,
) -> f64 {
    let folder = tempfile::tempdir_in(folder).unwrap();
    let config = StoreConfig {
        database: folder.path().join("db"),
        files: folder.path().join("files"),
        durability,
    };
    let store = Store::open(&config).await.unwrap();
    if work == Work::Read {
        one(&store, Work::Task).await;
    }
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(seconds);
    let callers: Vec<_> = (0..callers)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut done = 0_u32;
                while Instant::now() < end {
                    one(&store, work).await;
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for caller in callers {
        done += caller.await.unwrap();
    }
    let rate = f64::from(done) / begin.elapsed().as_secs_f64();
    store.close().await;
    rate
}

async fn one(store: &Store, work: Work) {
    if work == Work::Read {
        assert!(store.task(1).await.unwrap().is_some());
        return;
    }
    let mut parameters = Map::new();
    parameters.insert("inputStr".to_owned(), json!("hello world"));
    let id = store
        .insert_task(NewTask {
            plugin: "hello-world@v0-2-1".to_owned(),
            digest: "d".repeat(64),
            parameters,
            uploads: Vec::new(),
            labels: Vec::new(),
            caller: None,
            base_url: "http://127.0.0.1:5005".to_owned(),
        })
        .await
        .unwrap();
    if work == Work::Insert {
        return;
    }
    let mut task = match work {
        Work::Whole => store.task_for_run(id, 1).await.unwrap().unwrap(),
        _ => queued_task(id),
    };
    let events = task.apply(Change::Succeeded { data: None }).unwrap();
    let stored = match work {
        Work::Whole => store.files().put(&b"hello world"[..]).unwrap(),
        _ => runner_store::StoredFile {
            key: format!("{id:032x}"),
            size: 11,
            digest: "d".repeat(64),
        },
    };
    let write = RunWrite {
        task,
        holder: "worker-1".to_owned(),
        log: "said hello".to_owned(),
        outputs: vec![NewFile {
            stored,
            name: "out.txt".to_owned(),
            data_type: "entity/list".to_owned(),
            content_type: "text/plain".to_owned(),
        }],
        events,
    };
    assert!(store.write_run(write).await.unwrap());
    if work == Work::Whole {
        assert!(store.task(id).await.unwrap().is_some());
    }
}

/// A queued task, as if it had been read.
fn queued_task(id: i64) -> runner_core::task::Task {
    runner_core::task::Task {
        id,
        plugin: "hello-world@v0-2-1".to_owned(),
        digest: String::new(),
        state: runner_core::task::TaskState::Queued,
        run: 1,
        attempts: 0,
        version: 0,
        parameters: Map::new(),
        step: None,
        data: serde_json::Value::Null,
        log: String::new(),
        log_length: 0,
        progress: None,
        steps: Vec::new(),
        links: Vec::new(),
        outputs: Vec::new(),
        depth: 0,
        labels: Vec::new(),
        base_url: String::new(),
        created_at: 0,
        finished_at: None,
    }
}
