//! Links: streams between processes, and what becomes of them when something fails.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use runner_queue::{Holding, LinkStream, Links, Opened, Queue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::server::{Redis, SHARED};
use crate::support::*;

/// Bytes that may be on their way in one direction.
const WINDOW: usize = 512 * 1024;

/// Two processes of a queue, of which the second takes links.
struct Two {
    one: Links,
    other: Links,
    opened: Opened,
    _queues: (Queue, Queue),
}

impl Two {
    async fn at(place: &Place) -> Self {
        let queues = (place.queue().await, place.queue().await);
        let one = queues.0.links().unwrap();
        let other = queues.1.links().unwrap();
        Self {
            opened: other.listen(),
            one,
            other,
            _queues: queues,
        }
    }

    async fn linked(&mut self) -> (LinkStream, LinkStream) {
        let mut near = open(&self.one, self.other.process()).await;
        // An end is there when something came.
        near.write_all(b"!").await.unwrap();
        let mut far = soon(self.opened.next()).await.unwrap();
        let mut byte = [0];
        soon(far.read_exact(&mut byte)).await.unwrap();
        (near, far)
    }
}

/// A link, as soon as the other process is to be seen.
async fn open(links: &Links, process: &str) -> LinkStream {
    soon(async {
        loop {
            match links.open(process).await {
                Ok(link) => return link,
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::NotConnected | ErrorKind::TimedOut),
                    "{error}"
                ),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// Bytes of which each place is known.
fn pattern(size: usize) -> Vec<u8> {
    let mut random = Random(7);
    (0..size).map(|_| random.below(256) as u8).collect()
}

async fn is_reset(link: &mut LinkStream) {
    let mut rest = Vec::new();
    let error = soon(link.read_to_end(&mut rest)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

#[tokio::test]
async fn a_queue_in_process_has_no_links() {
    assert!(Queue::in_process().links().is_none());
}

#[tokio::test]
async fn bytes_go_both_ways_and_end() {
    let mut two = Two::at(&Place::in_redis(&SHARED)).await;
    let (near, mut far) = two.linked().await;
    assert_eq!(near.peer(), two.other.process());
    assert_eq!(far.peer(), two.one.process());
    let sent = pattern(3 * WINDOW);
    let (mut reading, mut writing) = tokio::io::split(near);
    let echo = tokio::spawn(async move {
        let (mut reading, mut writing) = tokio::io::split(&mut far);
        tokio::io::copy(&mut reading, &mut writing).await.unwrap();
        writing.shutdown().await.unwrap();
    });
    let said = sent.clone();
    let writer = tokio::spawn(async move {
        writing.write_all(&said).await.unwrap();
        writing.shutdown().await.unwrap();
    });
    let mut heard = Vec::new();
    soon(reading.read_to_end(&mut heard)).await.unwrap();
    assert!(heard == sent, "{} of {}", heard.len(), sent.len());
    soon(writer).await.unwrap();
    soon(echo).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_links_at_a_time_do_not_mix() {
    let mut two = Two::at(&Place::in_redis(&SHARED)).await;
    let process = two.other.process().to_owned();
    let mut clients = Vec::new();
    for number in 0..50_usize {
        let (links, process) = (two.one.clone(), process.clone());
        clients.push(tokio::spawn(async move {
            let mut link = open(&links, &process).await;
            let said = vec![number as u8; 10_000 + number];
            link.write_all(&said).await.unwrap();
            link.shutdown().await.unwrap();
            let mut heard = Vec::new();
            link.read_to_end(&mut heard).await.unwrap();
            assert!(heard == said, "{number}");
        }));
    }
    for _ in 0..50 {
        let mut link = soon(two.opened.next()).await.unwrap();
        tokio::spawn(async move {
            let mut all = Vec::new();
            link.read_to_end(&mut all).await.unwrap();
            link.write_all(&all).await.unwrap();
            link.shutdown().await.unwrap();
        });
    }
    for client in clients {
        soon(client).await.unwrap();
    }
}

#[tokio::test]
async fn who_does_not_read_holds_up_the_sender_and_fills_nothing() {
    let redis = Redis::start(&[]);
    let place = Place::in_redis(&redis);
    let mut two = Two::at(&place).await;
    let (mut near, mut far) = two.linked().await;
    let sent = pattern(4 * WINDOW);
    let (said, expected) = (sent.clone(), sent);
    let (wrote, mut written) = tokio::sync::watch::channel(0);
    let writer = tokio::spawn(async move {
        let mut rest = &said[..];
        while !rest.is_empty() {
            let size = near.write(rest).await.unwrap();
            rest = &rest[size..];
            wrote.send_modify(|all| *all += size);
        }
        near
    });
    soon(written.wait_for(|all| *all >= WINDOW)).await.unwrap();
    // Nothing more goes: the window is full. What went leaves Redis, whoever reads it or not.
    let quiet = tokio::time::timeout(Duration::from_millis(300), written.changed()).await;
    assert!(quiet.is_err(), "{}", *written.borrow());
    let inbox = place.key(&format!("inbox:{}", two.other.process()));
    let entries: u64 = redis::from_redis_value(redis.command(&["XLEN", &inbox])).unwrap();
    assert!(entries <= 3, "{entries} entries are left in Redis");
    let mut heard = vec![0; expected.len()];
    soon(far.read_exact(&mut heard)).await.unwrap();
    assert!(heard == expected);
    drop(soon(writer).await.unwrap());
    is_reset(&mut far).await;
}

#[tokio::test]
async fn what_the_other_end_has_taken_is_known() {
    let mut two = Two::at(&Place::in_redis(&SHARED)).await;
    let (mut near, mut far) = two.linked().await;
    let mut progress = near.progress();
    soon(async {
        while progress.taken() < 1 {
            progress.more().await;
        }
    })
    .await;
    near.write_all(&[0; 100]).await.unwrap();
    assert_eq!(progress.written(), 101);
    assert_eq!(progress.taken(), 1);
    let mut bytes = [0; 100];
    soon(far.read_exact(&mut bytes)).await.unwrap();
    soon(progress.more()).await;
    assert_eq!(progress.taken(), 101);
}

#[tokio::test]
async fn a_process_that_is_unknown_or_takes_no_links_is_said_at_once() {
    let place = Place::in_redis(&SHARED);
    let (one, other) = (place.queue().await, place.queue().await);
    let (one, other) = (one.links().unwrap(), other.links().unwrap());
    let error = soon(one.open("nobody")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    let error = soon(one.open(one.process())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let mut link = open(&one, other.process()).await;
    is_reset(&mut link).await;
    assert!(link.write_all(b"x").await.is_err());
}

#[tokio::test]
async fn entries_of_strangers_in_an_inbox_harm_nobody() {
    let redis = Redis::start(&[]);
    let place = Place::in_redis(&redis);
    let mut two = Two::at(&place).await;
    let (mut near, mut far) = two.linked().await;
    let inbox = place.key(&format!("inbox:{}", two.other.process()));
    for words in [
        &["f", "nonsense"][..],
        &["f", ""],
        &["other", "x", "more", "y"],
    ] {
        let mut command = vec!["XADD", &inbox, "*"];
        command.extend(words);
        redis.command(&command);
    }
    near.write_all(b"still").await.unwrap();
    let mut heard = [0; 5];
    soon(far.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"still");
}

#[tokio::test]
async fn a_short_stall_of_redis_delays_and_loses_nothing() {
    let redis = Redis::start(&[]);
    let mut two = Two::at(&Place::in_redis(&redis)).await;
    let (mut near, mut far) = two.linked().await;
    let sent = pattern(4 * WINDOW);
    let said = sent.clone();
    let writer = tokio::spawn(async move {
        for (number, part) in said.chunks(10_000).enumerate() {
            near.write_all(part).await.unwrap();
            if number % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        near.shutdown().await.unwrap();
        near
    });
    let mut heard = vec![0; WINDOW];
    soon(far.read_exact(&mut heard)).await.unwrap();
    redis.signal(Signal::SIGSTOP);
    let begun = Instant::now();
    // Longer than an answer may take, so that what was on its way is sent again.
    let resume = async {
        tokio::time::sleep(Duration::from_millis(5500)).await;
        redis.signal(Signal::SIGCONT);
    };
    let rest = far.read_to_end(&mut heard);
    let (rest, ()) = soon(async { tokio::join!(rest, resume) }).await;
    rest.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(5));
    assert!(heard == sent, "{} of {}", heard.len(), sent.len());
    soon(writer).await.unwrap();
}

/// Another link can be opened, and something goes through it.
async fn links_work(two: &mut Two) {
    let (mut near, mut far) = two.linked().await;
    near.write_all(b"again").await.unwrap();
    let mut heard = [0; 5];
    soon(far.read_exact(&mut heard)).await.unwrap();
}

#[tokio::test]
async fn a_redis_that_was_emptied_resets_links_and_others_can_be_opened() {
    let redis = Redis::start(&[]);
    let mut two = Two::at(&Place::in_redis(&redis)).await;
    for _ in 0..2 {
        let (mut near, mut far) = two.linked().await;
        redis.command(&["FLUSHALL"]);
        is_reset(&mut near).await;
        is_reset(&mut far).await;
    }
    links_work(&mut two).await;
}

#[tokio::test]
async fn a_redis_that_was_restarted_resets_links_whatever_it_remembers() {
    for remembers in ["no", "yes"] {
        let mut redis = Redis::start(&["--appendonly", remembers, "--appendfsync", "always"]);
        let mut two = Two::at(&Place::in_redis(&redis)).await;
        let (mut near, mut far) = two.linked().await;
        redis.down();
        redis.up();
        is_reset(&mut near).await;
        is_reset(&mut far).await;
        links_work(&mut two).await;
    }
}

/// The other process of the next test: takes a link, says so, and lives until it is killed.
#[tokio::test]
#[ignore = "started by another test"]
async fn takes_links_until_it_is_killed() {
    let (queue, _) = inherited().await;
    let links = queue.links().unwrap();
    let mut opened = links.listen();
    println!("\nat {}", links.process());
    let mut all = Vec::new();
    while let Some(link) = opened.next().await {
        println!("\ntaken");
        all.push(link);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_with_a_process_that_was_killed_are_reset_within_seconds() {
    let place = Place::in_redis(&SHARED);
    let queue = place.queue().await;
    let links = queue.links().unwrap();
    let mut other = Process::start(
        "links::takes_links_until_it_is_killed",
        &place,
        Duration::from_secs(1),
    );
    let said = other.until("at ");
    let name = said
        .last()
        .and_then(|line| line.strip_prefix("at "))
        .unwrap();
    let mut link = open(&links, name).await;
    other.until("taken");
    drop(other);
    let begun = Instant::now();
    is_reset(&mut link).await;
    assert!(
        begun.elapsed() < Duration::from_secs(12),
        "{:?}",
        begun.elapsed()
    );
    // Its inbox ends by itself, and nothing makes it again.
    assert_eq!(
        links.open(name).await.unwrap_err().kind(),
        ErrorKind::NotConnected
    );
}

#[tokio::test]
async fn a_process_that_leaves_is_gone_at_once() {
    let mut two = Two::at(&Place::in_redis(&SHARED)).await;
    let (mut near, _far) = two.linked().await;
    soon(two.other.leave()).await;
    let error = two.one.open(two.other.process()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert!(soon(two.opened.next()).await.is_none());
    let _ = near.write_all(b"x").await;
    is_reset(&mut near).await;
}

#[tokio::test]
async fn one_process_has_a_place_and_others_find_it() {
    let place = Place::in_redis(&SHARED);
    let queues = (place.queue().await, place.queue().await);
    let (one, other) = (queues.0.links().unwrap(), queues.1.links().unwrap());
    let (here, there) = (one.places("things"), other.places("things"));
    let name = |text: &str| text.to_owned();
    // Seen by others.
    drop(open(&one, other.process()).await);
    drop(open(&other, one.process()).await);
    assert_eq!(here.find("a").await.unwrap(), None);
    let claims = tokio::join!(
        here.claim("a", one.process()),
        there.claim("a", other.process())
    );
    let winner = claims.0.unwrap().unwrap();
    assert_eq!(claims.1.unwrap().unwrap(), winner, "one has it");
    assert_eq!(here.find("a").await.unwrap(), Some(Some(winner.clone())));
    there.release("a", "somebody else").await.unwrap();
    assert_eq!(here.find("a").await.unwrap(), Some(Some(winner.clone())));
    there.release("a", &winner).await.unwrap();
    assert_eq!(here.find("a").await.unwrap(), None);

    let held = [name("a"), name("b"), name("c")];
    let holding = Holding {
        held: &held,
        offer: "much",
        ..Holding::default()
    };
    assert!(here.hold(&holding).await.unwrap().is_empty());
    let hosts = there.hosts().await.unwrap();
    assert_eq!(hosts.len(), 1);
    assert_eq!(
        (&*hosts[0].process, &*hosts[0].offer),
        (one.process(), "much")
    );
    // Another does not take it away, and hears of that.
    assert_eq!(there.hold(&holding).await.unwrap(), held);
    let holding = Holding {
        held: &held[..1],
        gone: &held[1..2],
        ended: &held[2..],
        tomb_seconds: 60,
        offer: "little",
    };
    assert!(here.hold(&holding).await.unwrap().is_empty());
    assert_eq!(there.find("b").await.unwrap(), None);
    assert_eq!(there.find("c").await.unwrap(), Some(None), "it was ended");
    assert_eq!(there.claim("c", other.process()).await.unwrap(), None);
    there.withdraw().await.unwrap();
    soon(one.leave()).await;
    assert!(there.hosts().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_quick() {
    let mut two = Two::at(&Place::in_redis(&SHARED)).await;
    let (mut near, mut far) = two.linked().await;
    let echo = tokio::spawn(async move {
        let mut bytes = [0; 100];
        while far.read_exact(&mut bytes).await.is_ok() {
            far.write_all(&bytes).await.unwrap();
        }
        far
    });
    let mut times = Vec::new();
    for _ in 0..500 {
        let begun = Instant::now();
        near.write_all(&[1; 100]).await.unwrap();
        let mut bytes = [0; 100];
        near.read_exact(&mut bytes).await.unwrap();
        times.push(begun.elapsed());
    }
    times.sort();
    println!("there and back: p50 {:?}, p99 {:?}", times[250], times[495]);
    near.shutdown().await.unwrap();
    let mut far = soon(echo).await.unwrap();
    let size = 64 << 20;
    let begun = Instant::now();
    let writer = tokio::spawn(async move {
        let part = vec![7; 1 << 20];
        for _ in 0..size >> 20 {
            far.write_all(&part).await.unwrap();
        }
        far.shutdown().await.unwrap();
    });
    let mut sink = tokio::io::sink();
    let count = tokio::io::copy(&mut near, &mut sink).await.unwrap();
    soon(writer).await.unwrap();
    assert_eq!(count, size as u64);
    let rate = (size >> 20) as f64 / begun.elapsed().as_secs_f64();
    println!("{rate:.0} MiB/s");
}
