//! How fast the store is, on all three databases, beside bare SQL on the same server:
//! `cargo run --release -p runner-store --example store_rates [seconds] [folder]`.
//!
//! The servers are those of `RUNNER_TEST_POSTGRES` and `RUNNER_TEST_MYSQL`, else of the usual ports; a schema or a
//! database is made on them and removed. One without an answer is left out.
#![expect(clippy::unwrap_used, reason = "a measurement that fails has no result")]

use std::path::Path;
use std::time::{Duration, Instant};

use runner_core::task::{Change, NewTask};
use runner_store::{DatabaseUrl, Durability, NewFile, RunWrite, Store, StoreConfig};
use serde_json::{Map, json};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection};

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

/// Where it is measured.
struct Place {
    name: &'static str,
    url: String,
    durability: Durability,
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(3.0, |text| text.parse().unwrap());
    let folder = match arguments.next() {
        Some(folder) => tempfile::tempdir_in(folder).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let sqlite = |name, durability| Place {
        name,
        url: format!("sqlite:///{}/db", folder.path().display()),
        durability,
    };
    let mut places = vec![
        sqlite("SQLite", Durability::Process),
        sqlite("SQLite, power", Durability::Power),
    ];
    let server = |variable, usual: &str| std::env::var(variable).unwrap_or(usual.to_owned());
    let postgres = server(
        "RUNNER_TEST_POSTGRES",
        "postgres://postgres@127.0.0.1:5432/postgres",
    );
    let mysql = server("RUNNER_TEST_MYSQL", "mysql://root@127.0.0.1:3306/mysql");
    if PgConnection::connect(&postgres).await.is_ok() {
        places.push(Place {
            name: "PostgreSQL",
            url: format!("{postgres}?options=-c%20search_path%3Drunner_rates"),
            durability: Durability::Power,
        });
    }
    if MySqlConnection::connect(&mysql).await.is_ok() {
        let (address, _) = mysql.rsplit_once('/').unwrap();
        places.push(Place {
            name: "MariaDB",
            url: format!("{address}/runner_rates"),
            durability: Durability::Power,
        });
    }
    for place in &places {
        for callers in [1, 4, 16] {
            for (name, work) in [
                ("insert", Work::Insert),
                ("insert + end", Work::Task),
                ("insert + end, with file and reads", Work::Whole),
                ("read", Work::Read),
            ] {
                remake(place, &postgres, &mysql).await;
                let rate = measure(folder.path(), place, work, callers, seconds).await;
                println!("{}: {name}, {callers} callers: {rate:.0}/s", place.name);
            }
            if let Some(rate) = bare(place, callers, seconds).await {
                let name = place.name;
                println!("{name}: bare insert + update, {callers} callers: {rate:.0}/s");
            }
        }
        remove(place, &postgres, &mysql).await;
    }
}

/// Removes what the last measurement left, and makes room for the next.
async fn remake(place: &Place, postgres: &str, mysql: &str) {
    remove(place, postgres, mysql).await;
    match place.name {
        "PostgreSQL" => of_postgres(postgres, "CREATE SCHEMA runner_rates").await,
        "MariaDB" => of_mysql(mysql, "CREATE DATABASE runner_rates").await,
        _ => {}
    }
}

async fn remove(place: &Place, postgres: &str, mysql: &str) {
    match place.name {
        "PostgreSQL" => {
            let sql =
                "SET client_min_messages = warning; DROP SCHEMA IF EXISTS runner_rates CASCADE";
            of_postgres(postgres, sql).await;
        }
        "MariaDB" => of_mysql(mysql, "DROP DATABASE IF EXISTS runner_rates").await,
        _ => {
            let path = place.url.trim_start_matches("sqlite:///");
            for file in [
                path.to_owned(),
                format!("{path}-wal"),
                format!("{path}-shm"),
            ] {
                let _absent = std::fs::remove_file(file);
            }
        }
    }
}

async fn of_postgres(url: &str, sql: &'static str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

async fn of_mysql(url: &str, sql: &'static str) {
    let mut connection = MySqlConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

/// How often a function is done per second by so many callers.
async fn rate<C>(callers: Vec<C>, seconds: f64, one: impl AsyncFn(&mut C)) -> f64 {
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(seconds);
    let done = callers.into_iter().map(|mut caller| {
        let one = &one;
        async move {
            let mut done = 0_u32;
            while Instant::now() < end {
                one(&mut caller).await;
                done += 1;
            }
            done
        }
    });
    let done: u32 = futures_of(done.collect()).await.into_iter().sum();
    f64::from(done) / begin.elapsed().as_secs_f64()
}

/// Waits for all of them at the same time.
async fn futures_of<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|context| {
        let mut is_ready = true;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => is_ready = false,
                }
            }
        }
        match is_ready {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    futures
        .into_iter()
        .filter_map(|(_, output)| output)
        .collect()
}

async fn measure(folder: &Path, place: &Place, work: Work, callers: usize, seconds: f64) -> f64 {
    let config = StoreConfig {
        database: DatabaseUrl::parse(&place.url).unwrap(),
        files: folder.join("files"),
        bucket: None,
        durability: place.durability,
        queue: "default".to_owned(),
        process: "worker-1".to_owned(),
        is_alone: false,
    };
    let store = Store::open(&config).await.unwrap();
    if work == Work::Read {
        one(&store, Work::Task).await;
    }
    let callers = vec![store.clone(); callers];
    let rate = rate(callers, seconds, async |store| {
        let store = store.clone();
        tokio::spawn(async move { one(&store, work).await })
            .await
            .unwrap();
    });
    let rate = rate.await;
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
    let inserted = store
        .insert_task(NewTask {
            plugin: "hello-world@v0-2-1".to_owned(),
            digest: "d".repeat(64),
            parameters,
            uploads: Vec::new(),
            labels: Vec::new(),
            caller: None,
            base_url: "http://127.0.0.1:5005".to_owned(),
            dispatch: Default::default(),
            idempotency: None,
        })
        .await
        .unwrap();
    if work == Work::Insert {
        return;
    }
    let id = inserted.id();
    let mut task = match work {
        Work::Whole => store.task_for_run(id, 1).await.unwrap().unwrap().task,
        _ => queued_task(id),
    };
    let events = task.apply(Change::Succeeded { data: None }).unwrap();
    let stored = match work {
        Work::Whole => store.files().put(&b"hello world"[..]).unwrap(),
        _ => runner_store::StoredFile {
            key: format!("{id:032x}"),
            size: 11,
            digest: "d".repeat(64),
            text: None,
        },
    };
    let write = RunWrite {
        task,
        run: 1,
        log: "said hello".to_owned(),
        outputs: vec![NewFile {
            stored,
            url: None,
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

/// What the server does without the store: a row of 300 bytes is inserted and updated, each for itself.
async fn bare(place: &Place, callers: usize, seconds: f64) -> Option<f64> {
    let text = "x".repeat(300);
    match place.name {
        "PostgreSQL" => {
            let mut connections = Vec::new();
            for _ in 0..callers {
                connections.push(PgConnection::connect(&place.url).await.unwrap());
            }
            let create =
                "CREATE TABLE bare (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, t TEXT)";
            sqlx::raw_sql(create)
                .execute(&mut connections[0])
                .await
                .unwrap();
            let one = async |connection: &mut PgConnection| {
                let id: i64 = sqlx::query_scalar("INSERT INTO bare (t) VALUES ($1) RETURNING id")
                    .bind(&text)
                    .fetch_one(&mut *connection)
                    .await
                    .unwrap();
                sqlx::query("UPDATE bare SET t = $1 WHERE id = $2")
                    .bind(&text)
                    .bind(id)
                    .execute(connection)
                    .await
                    .unwrap();
            };
            Some(rate(connections, seconds, one).await)
        }
        "MariaDB" => {
            let mut connections = Vec::new();
            for _ in 0..callers {
                connections.push(MySqlConnection::connect(&place.url).await.unwrap());
            }
            let create = "CREATE TABLE bare (id BIGINT PRIMARY KEY AUTO_INCREMENT, t LONGTEXT)";
            sqlx::raw_sql(AssertSqlSafe(create))
                .execute(&mut connections[0])
                .await
                .unwrap();
            let one = async |connection: &mut MySqlConnection| {
                let done = sqlx::query("INSERT INTO bare (t) VALUES (?)").bind(&text);
                let id = done
                    .execute(&mut *connection)
                    .await
                    .unwrap()
                    .last_insert_id();
                sqlx::query("UPDATE bare SET t = ? WHERE id = ?")
                    .bind(&text)
                    .bind(id)
                    .execute(connection)
                    .await
                    .unwrap();
            };
            Some(rate(connections, seconds, one).await)
        }
        _ => None,
    }
}

/// A queued task, as if it had been read.
fn queued_task(id: i64) -> runner_core::task::Task {
    let task = NewTask {
        plugin: "hello-world@v0-2-1".to_owned(),
        ..NewTask::default()
    };
    task.made(id, 0)
}
