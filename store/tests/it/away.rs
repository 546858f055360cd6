//! Servers that are away, refuse, end in the middle, or whose answers are lost.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use runner_core::task::{Change, Idempotency, NewTask, TaskState};
use runner_store::{DatabaseUrl, Inserted, LostRun, Store, StoreConfig, StoreError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::databases::On;
use crate::deliveries::LEASE;
use crate::servers::{self, Server};
use crate::{Fixture, config, new_task, run_write, succeeded};

/// Makes a test of each of these functions for each server.
macro_rules! on_each_server {
    ($($name:ident),* $(,)?) => {
        on_each_database!(@ postgres Postgres $($name)*);
        on_each_database!(@ mysql Mysql $($name)*);
    };
}

on_each_server!(
    a_server_that_is_killed_and_comes_back_loses_and_fails_nothing,
    what_was_committed_without_an_answer_is_recognised,
    an_insert_without_an_answer_is_reported_or_known_by_its_key,
    a_task_costs_few_trips_to_the_server,
    those_who_are_not_let_in_are_told_why,
    a_server_that_is_not_there_is_named,
);

impl Server {
    async fn new(on: On) -> Self {
        match on {
            On::Postgres => Self::postgres().await,
            _ => Self::mysql().await,
        }
    }
}

/// A task with a key of its own, so that its insert can be applied again.
fn known_as(key: &str) -> NewTask {
    NewTask {
        idempotency: Some(Idempotency {
            key: key.to_owned(),
            fingerprint: "f".to_owned(),
        }),
        ..new_task()
    }
}

async fn a_server_that_is_killed_and_comes_back_loses_and_fails_nothing(on: On) {
    let mut server = Server::new(on).await;
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        database: DatabaseUrl::parse(&server.url).unwrap(),
        ..config(folder.path())
    };
    let store = Store::open(&config).await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let (store, is_over) = (store.clone(), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut ended = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let key = format!("{caller}.{}", ended.len());
                    let inserted = store.insert_task(known_as(&key)).await.unwrap();
                    let Inserted::New(id) = inserted else {
                        panic!("the key is new: {inserted:?}");
                    };
                    let mut task = store.task_for_run(id, 1).await.unwrap().unwrap().task;
                    let mut begun = run_write(&mut task, Change::Started);
                    begun.log = "begun".to_owned();
                    assert!(store.write_run(begun).await.unwrap());
                    let mut end = run_write(&mut task, succeeded());
                    end.log = "\nended".to_owned();
                    end.outputs = vec![runner_store::NewFile {
                        stored: store.files().put(key.as_bytes()).unwrap(),
                        url: None,
                        name: "o".to_owned(),
                        data_type: "t".to_owned(),
                        content_type: "text/plain".to_owned(),
                    }];
                    assert!(store.write_run(end).await.unwrap());
                    ended.push(id);
                }
                ended
            })
        })
        .collect();
    for round in 0..3_u64 {
        let random = u64::from(std::process::id()) * 7919 + round * 104_729;
        tokio::time::sleep(Duration::from_millis(200 + random % 300)).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.restart().await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    is_over.store(true, Ordering::Relaxed);
    let mut ended = Vec::new();
    for caller in callers {
        ended.extend(caller.await.unwrap());
    }
    assert!(ended.len() >= 8, "{}", ended.len());
    for id in &ended {
        let task = store.task(*id).await.unwrap().unwrap();
        assert_eq!(task.state, TaskState::Succeeded, "{task:?}");
        assert_eq!((task.log.as_str(), task.outputs.len()), ("begun\nended", 1));
        assert!(store.files().open(&task.outputs[0].key).is_ok());
    }
    let counts = store.counts(LEASE).await.unwrap();
    assert_eq!(
        (counts.queued, counts.running),
        (0, 0),
        "nothing was recorded twice"
    );
    println!("{} tasks over three ends of the server", ended.len());
    store.close().await;
}

/// Passes everything on, until it is told to lose an answer.
struct Proxy {
    address: SocketAddr,
    /// The next answer to what contains this is lost, and the connection with it.
    pattern: Arc<Mutex<Option<Vec<u8>>>>,
    /// How often a client said something.
    trips: Arc<AtomicUsize>,
}

impl Proxy {
    async fn new(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (pattern, trips) = (Arc::default(), Arc::default());
        let shared = (Arc::clone(&pattern), Arc::clone(&trips));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                let (pattern, trips) = shared.clone();
                tokio::spawn(pass(client, server, pattern, trips));
            }
        });
        Self {
            address,
            pattern,
            trips,
        }
    }

    fn lose_answer_to(&self, pattern: &str) {
        *self.pattern.lock().unwrap() = Some(pattern.as_bytes().to_vec());
    }

    /// Whether the answer was lost.
    fn has_lost(&self) -> bool {
        self.pattern.lock().unwrap().is_none()
    }
}

async fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    pattern: Arc<Mutex<Option<Vec<u8>>>>,
    trips: Arc<AtomicUsize>,
) {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(size @ 1..) = read else { return };
                trips.fetch_add(1, Ordering::Relaxed);
                server.write_all(&asked[..size]).await.unwrap();
                let is_it = {
                    let mut pattern = pattern.lock().unwrap();
                    let is_it = pattern.as_ref().is_some_and(|pattern| {
                        asked[..size].windows(pattern.len()).any(|part| part == pattern)
                    });
                    if is_it {
                        *pattern = None;
                    }
                    is_it
                };
                if is_it {
                    // The answer says that it was done.
                    let _answer = server.read(&mut answered).await;
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(size @ 1..) = read else { return };
                if client.write_all(&answered[..size]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A store behind a proxy.
async fn behind_proxy(fixture: &Fixture) -> (Store, Proxy) {
    let url = fixture.url();
    let (before, rest) = url.split_once('@').unwrap();
    let (server, path) = rest.split_once('/').unwrap();
    let proxy = Proxy::new(server.to_owned()).await;
    // What goes over TLS cannot be looked into.
    let tls = match before.starts_with("mysql") {
        true => "ssl-mode=DISABLED",
        false => "sslmode=disable",
    };
    let separator = if path.contains('?') { '&' } else { '?' };
    let url = format!("{before}@{}/{path}{separator}{tls}", proxy.address);
    let config = StoreConfig {
        database: DatabaseUrl::parse(&url).unwrap(),
        ..fixture.config.clone()
    };
    (Store::open(&config).await.unwrap(), proxy)
}

async fn what_was_committed_without_an_answer_is_recognised(on: On) {
    let fixture = Fixture::new(on).await;
    let (store, proxy) = behind_proxy(&fixture).await;
    let mut task = fixture.task().await;
    // One statement has all on PostgreSQL; elsewhere it is the commit.
    let lose = |marker: &str| match on {
        On::Postgres => proxy.lose_answer_to(marker),
        _ => proxy.lose_answer_to("COMMIT"),
    };
    let mut begun = run_write(&mut task, Change::Started);
    begun.log = "marker-1".to_owned();
    lose("marker-1");
    assert!(store.write_run(begun).await.unwrap());
    assert!(proxy.has_lost());
    let mut end = run_write(&mut task, Change::Failed);
    end.log = "\nmarker-2".to_owned();
    end.outputs = vec![fixture.output("a.csv")];
    lose("marker-2");
    assert!(
        store.write_run(end.clone()).await.unwrap(),
        "its files are kept"
    );
    assert!(proxy.has_lost());
    let seen = fixture.read(task.id).await;
    assert_eq!(seen.log, "marker-1\nmarker-2");
    assert_eq!((seen.version, seen.outputs.len()), (2, 1));
    assert!(
        store.write_run(end.clone()).await.unwrap(),
        "its files are recorded"
    );
    end.outputs = vec![fixture.output("b.csv")];
    assert!(
        !store.write_run(end).await.unwrap(),
        "another write is not it"
    );

    for what in [
        "retried",
        "lost",
        "cancelled",
        "adopted",
        "swept",
        "requeued",
        "failed",
    ] {
        proxy.lose_answer_to("COMMIT");
        let id = task.id;
        match what {
            "retried" => {
                let retried = store.retry_task(id).await.unwrap();
                assert!(
                    matches!(&retried, runner_store::Retried::Queued(offer) if offer.job.run == 2),
                    "{retried:?}"
                );
            }
            "lost" => {
                let lost = store.lost_run(id, 2, 3, "").await.unwrap();
                assert!(
                    matches!(&lost, LostRun::Again(offer) if offer.job.run == 3),
                    "{lost:?}"
                );
            }
            "cancelled" => assert_eq!(store.cancel_task(id).await.unwrap(), Some(vec![id])),
            "adopted" => assert!(store.adopt_incarnation("x").await.unwrap()),
            "swept" => {
                let dead = fixture.other("dead").await;
                let queued = dead.insert_task(new_task()).await.unwrap().id();
                let swept = store.sweep(Duration::from_secs(60), 3).await.unwrap();
                assert_eq!(crate::numbers(&swept.jobs), [(queued, 2)]);
            }
            "requeued" => {
                let queued = fixture.task().await.id;
                let again = store.requeue_queued(Duration::ZERO, queued - 1, 10).await;
                assert_eq!(crate::numbers(&again.unwrap()), [(queued, 2)]);
            }
            _ => {
                let other = fixture.task().await.id;
                assert!(store.fail_task(other, 1, "no").await.unwrap());
            }
        }
        assert!(proxy.has_lost(), "{what}");
    }
    let seen = fixture.read(task.id).await;
    assert_eq!(
        (seen.state, seen.run, seen.attempts),
        (TaskState::Cancelled, 3, 1)
    );
}

async fn an_insert_without_an_answer_is_reported_or_known_by_its_key(on: On) {
    let fixture = Fixture::new(on).await;
    let (store, proxy) = behind_proxy(&fixture).await;
    let mut plain = new_task();
    plain.base_url = "http://marker".to_owned();
    proxy.lose_answer_to("http://marker");
    let error = store.insert_task(plain).await.unwrap_err();
    assert!(matches!(error, StoreError::Unknown { .. }), "{error:?}");
    assert!(proxy.has_lost() && !error.is_permanent());
    assert_eq!(store.counts(LEASE).await.unwrap().queued, 1, "it was made");

    let mut known = known_as("k");
    known.base_url = "http://marker".to_owned();
    proxy.lose_answer_to("http://marker");
    let inserted = store.insert_task(known.clone()).await.unwrap();
    assert!(matches!(inserted, Inserted::New(_)), "{inserted:?}");
    assert!(proxy.has_lost());
    let again = store.insert_task(known).await.unwrap();
    assert_eq!(again, Inserted::Same(inserted.id()));
    assert_eq!(store.counts(LEASE).await.unwrap().queued, 2);
}

async fn a_task_costs_few_trips_to_the_server(on: On) {
    let fixture = Fixture::new(on).await;
    let (store, proxy) = behind_proxy(&fixture).await;
    let mut fewest = (usize::MAX, usize::MAX);
    // Each connection prepares its statements first.
    for _ in 0..30 {
        let begin = proxy.trips.load(Ordering::Relaxed);
        let id = store.insert_task(new_task()).await.unwrap().id();
        let inserted = proxy.trips.load(Ordering::Relaxed);
        let mut task = fixture.read(id).await;
        store.subscribe(id, "http://h/", None).await.unwrap();
        let mut end = run_write(&mut task, succeeded());
        end.log = "ended".to_owned();
        end.outputs = vec![fixture.output("a"), fixture.output("b")];
        let ending = proxy.trips.load(Ordering::Relaxed);
        assert!(store.write_run(end).await.unwrap());
        let ended = proxy.trips.load(Ordering::Relaxed);
        fewest.0 = fewest.0.min(inserted - begin);
        fewest.1 = fewest.1.min(ended - ending);
        assert_eq!(fixture.read(id).await.outputs.len(), 2);
        assert_eq!(store.deliveries_of(id).await.unwrap().len(), 2);
    }
    match on {
        On::Postgres => assert_eq!(fewest, (1, 1)),
        // The end: begin, update, outputs, deliveries, commit.
        _ => assert_eq!(fewest, (1, 5)),
    }
}

async fn those_who_are_not_let_in_are_told_why(on: On) {
    let folder = tempfile::tempdir().unwrap();
    let own = Server::new(on).await;
    let (scheme, rest) = own.url.split_once("://").unwrap();
    let (user, host) = rest.split_once('@').unwrap();
    let user = user.split(':').next().unwrap();
    let wrong = format!("{scheme}://{user}:topsecret@{host}");
    let stranger = format!("{scheme}://nobody_here:topsecret@{host}");
    let nowhere = servers::with_database(&own.url, "no_such_database");
    for (url, named) in [
        (wrong, user),
        (stranger, "nobody_here"),
        (nowhere, "no_such_database"),
    ] {
        let config = StoreConfig {
            database: DatabaseUrl::parse(&url).unwrap(),
            ..config(folder.path())
        };
        let error = Store::open(&config).await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        let text = format!("{error}: {source} {error:?}");
        assert!(text.contains(named), "{text}");
        assert!(!text.contains("topsecret"), "{text}");
    }
}

async fn a_server_that_is_not_there_is_named(on: On) {
    let folder = tempfile::tempdir().unwrap();
    let scheme = if on == On::Postgres {
        "postgres"
    } else {
        "mysql"
    };
    let config = StoreConfig {
        database: DatabaseUrl::parse(&format!("{scheme}://me:topsecret@127.0.0.1:9/d")).unwrap(),
        ..config(folder.path())
    };
    let begin = Instant::now();
    let error = Store::open(&config).await.unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert!(error.to_string().contains("127.0.0.1:9/d"), "{error}");
    assert!(
        !format!("{error} {error:?}").contains("topsecret"),
        "{error:?}"
    );
}
