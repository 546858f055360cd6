use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use runner_core::task::TaskState;
use runner_store::{NewFile, RunWrite, Store};

use crate::{config, new_task, succeeded};

/// Makes the test binary a process that writes until it is killed, in this folder.
const FOLDER: &str = "RUNNER_STORE_TEST_KILL";

/// Does nothing unless it is started by the test below.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Store::open(&config(Path::new(&folder))).await.unwrap();
        let callers: Vec<_> = (0..4).map(|_| tokio::spawn(work(store.clone()))).collect();
        for caller in callers {
            caller.await.unwrap();
        }
    });
}

/// Says what was acknowledged: `made N`, then `ended N`.
async fn work(store: Store) {
    loop {
        let id = store.insert_task(new_task()).await.unwrap().id();
        say(&format!("made {id}\n"));
        let mut task = store.task_for_run(id, 1).await.unwrap().unwrap().task;
        let events = task.apply(succeeded()).unwrap();
        let content = format!("output of {id}");
        let write = RunWrite {
            task,
            run: 1,
            log: "done".to_owned(),
            outputs: vec![NewFile {
                stored: store.files().put(content.as_bytes()).unwrap(),
                url: None,
                name: "out.txt".to_owned(),
                data_type: "text".to_owned(),
                content_type: "text/plain".to_owned(),
            }],
            events,
        };
        assert!(store.write_run(write).await.unwrap());
        say(&format!("ended {id}\n"));
    }
}

fn say(line: &str) {
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut made = Vec::new();
    let mut ended = Vec::new();
    for round in 0..5_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let mut lines = BufReader::new(output).lines().map(|line| line.unwrap());
        // The moment counts from the first word, since starting takes longer than anything else.
        let first = lines.find(|line| line.starts_with("made ")).unwrap();
        let random = u64::from(std::process::id()) * 7919 + round * 104_729;
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(random % 200_000));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        for line in std::iter::once(first).chain(lines) {
            let Some((word, id)) = line.split_once(' ') else {
                continue;
            };
            match (word, id.parse::<i64>()) {
                ("made", Ok(id)) => made.push(id),
                ("ended", Ok(id)) => ended.push(id),
                _ => {}
            }
        }
        killer.join().unwrap();
        check(folder.path(), &made, &ended).await;
    }
    println!("{} made, {} ended", made.len(), ended.len());
}

async fn check(folder: &Path, made: &[i64], ended: &[i64]) {
    let config = config(folder);
    let store = Store::open(&config).await.unwrap();
    let integrity: String = rusqlite::Connection::open(config.database.file().unwrap())
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(integrity, "ok");
    for id in made {
        let task = store.task(*id).await.unwrap();
        let task = task.unwrap_or_else(|| panic!("task {id} is lost"));
        match task.state {
            // Its end may be committed without having been said.
            TaskState::Succeeded => {
                assert_eq!((task.log.as_str(), task.outputs.len()), ("done", 1));
                let content = store.files().open(&task.outputs[0].key).unwrap();
                let content = std::io::read_to_string(content).unwrap();
                assert_eq!(content, format!("output of {id}"));
            }
            state => {
                assert_eq!(state, TaskState::Queued);
                assert!(!ended.contains(id), "the end of task {id} is lost");
                assert_eq!((task.log.as_str(), task.outputs.len()), ("", 0));
            }
        }
    }
    store.close().await;
}
