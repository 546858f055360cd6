//! Redis goes away, loses things, or holds what nobody can read: no worker ends by it.

use std::time::Duration;

use nix::sys::signal::Signal;
use runner_queue::{Depth, Jobs, Queue};

use crate::server::Redis;
use crate::support::*;

/// Jobs go through as ever. Those that came twice are passed over.
async fn works(queue: &Queue, jobs: &mut Jobs, task: i64) {
    queue.push(offer(task));
    while next_done(jobs).await != task {}
    soon(queue.flushed()).await;
}

async fn fixture(redis: &Redis) -> (Queue, Jobs) {
    let place = Place::in_redis(redis);
    let queue = place.queue().await;
    let mut jobs = queue.jobs(consumer(4, Duration::from_secs(5)));
    works(&queue, &mut jobs, -1).await;
    (queue, jobs)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_for_seconds_loses_no_job() {
    let redis = Redis::start(&[]);
    let (queue, mut jobs) = fixture(&redis).await;
    let before = queue.incarnation().await.unwrap();
    redis.signal(Signal::SIGSTOP);
    queue.push_all((0..1_000).map(offer));
    tokio::time::sleep(Duration::from_secs(3)).await;
    redis.signal(Signal::SIGCONT);
    for task in 0..1_000 {
        assert_eq!(next_done(&mut jobs).await, task);
    }
    depth_becomes(&queue, EMPTY).await;
    assert_eq!(queue.incarnation().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_empty_has_another_incarnation_and_workers_go_on() {
    let mut redis = Redis::start(&[]);
    let (queue, mut jobs) = fixture(&redis).await;
    let before = queue.incarnation().await.unwrap().unwrap();
    assert_eq!(queue.incarnation().await.unwrap().unwrap(), before);
    queue.push(offer(1));
    let taken = next(&mut jobs).await;
    redis.down();
    assert!(queue.depth().await.is_err() && queue.incarnation().await.is_err());
    // Told while there is no Redis, also the end of a job that the next one does not know.
    queue.push(offer(2));
    taken.done();
    tokio::time::sleep(Duration::from_millis(300)).await;
    redis.up();
    soon(queue.gaps()).await;
    assert_eq!(next_done(&mut jobs).await, 2);
    soon(queue.flushed()).await;
    assert_ne!(queue.incarnation().await.unwrap().unwrap(), before);
    works(&queue, &mut jobs, 3).await;
    depth_becomes(&queue, EMPTY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_writes_down_everything_comes_back_with_all_jobs() {
    let mut redis = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let (queue, mut jobs) = fixture(&redis).await;
    let before = queue.incarnation().await.unwrap().unwrap();
    let slow = queue.incarnation().await.unwrap();
    assert_eq!(slow.unwrap(), before);
    queue.push_all((0..100).map(offer));
    queue.push(offer_in(1_000, Duration::from_millis(700)));
    let held = next(&mut jobs).await;
    soon(queue.flushed()).await;
    redis.down();
    redis.up();
    let mut tasks = vec![held.job().task];
    held.done();
    for _ in 0..100 {
        tasks.push(next_done(&mut jobs).await);
    }
    tasks.sort_unstable();
    let expected: Vec<i64> = (0..100).chain([1_000]).collect();
    assert_eq!(tasks, expected);
    soon(queue.flushed()).await;
    depth_becomes(&queue, EMPTY).await;
    // Nobody can know that nothing was lost.
    assert_ne!(queue.incarnation().await.unwrap().unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushing_all_changes_the_incarnation_and_workers_go_on() {
    let redis = Redis::start(&[]);
    let (queue, mut jobs) = fixture(&redis).await;
    let before = queue.incarnation().await.unwrap();
    queue.push_all([offer(1), offer(2)]);
    let mut held = next(&mut jobs).await;
    soon(queue.flushed()).await;
    redis.command(&["FLUSHALL"]);
    redis.command(&["SCRIPT", "FLUSH"]);
    assert!(!held.enter("g", 1).await, "the lease is lost");
    held.done();
    assert_ne!(queue.incarnation().await.unwrap(), before);
    works(&queue, &mut jobs, 3).await;
    depth_becomes(&queue, EMPTY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_connections_are_made_again() {
    let redis = Redis::start(&[]);
    let (queue, mut jobs) = fixture(&redis).await;
    for round in 0..5 {
        queue.push(offer(1_000 + round));
        redis.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        works(&queue, &mut jobs, round).await;
    }
    soon(queue.gaps()).await;
    let left = queue.depth().await.unwrap();
    assert_eq!((left.ready, left.delayed, left.dead), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_password_is_survived_until_it_is_right_again() {
    let redis = Redis::start(&[]);
    let (queue, mut jobs) = fixture(&redis).await;
    redis.command(&["CONFIG", "SET", "requirepass", "new"]);
    let kill = ["CLIENT", "KILL", "SKIPME", "yes", "TYPE"];
    for kind in ["normal", "pubsub"] {
        redis.command_as("new", &[&kill[..], &[kind]].concat());
    }
    queue.push(offer(1));
    nothing_comes(&mut jobs).await;
    assert!(queue.depth().await.is_err());
    redis.command_as("new", &["CONFIG", "SET", "requirepass", ""]);
    assert_eq!(next_done(&mut jobs).await, 1);
    works(&queue, &mut jobs, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_can_read_gets_to_the_dead_and_the_rest_goes_on() {
    let redis = Redis::start(&[]);
    let place = Place::in_redis(&redis);
    let queue = place.queue().await;
    let key = |name: &str| place.key(name);
    redis.command(&["RPUSH", &key("front:0"), "nonsense"]);
    redis.command(&["RPUSH", &key("ring:1"), "nobody"]);
    redis.command(&["RPUSH", &key("ring:2"), "a"]);
    redis.command(&["RPUSH", &key("jobs:2:a"), "", "x 0 2 1 1", "x 0 9 1 1 a"]);
    redis.command(&["RPUSH", &key("jobs:2:a"), "x 99999999999 2 1 1 a"]);
    redis.command(&["RPUSH", &key("jobs:2:a"), "x 0 2 99999999999999999999 1 a"]);
    redis.command(&["ZADD", &key("delayed"), "1", "nonsense"]);
    redis.command(&["ZADD", &key("taken"), "1", "nonsense"]);
    redis.command(&["HSET", &key("members"), "nonsense", "g"]);
    redis.command(&["RPUSH", &key("parked:g"), "nonsense"]);
    queue.push(offer_of(1, runner_core::task::Priority::Normal, "a"));
    let mut jobs = queue.jobs(consumer(2, Duration::from_millis(500)));
    assert_eq!(next_done(&mut jobs).await, 1);
    depth_becomes(&queue, Depth { dead: 9, ..EMPTY }).await;
    works(&queue, &mut jobs, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_kind_ends_no_worker() {
    let redis = Redis::start(&[]);
    let place = Place::in_redis(&redis);
    let queue = place.queue().await;
    let mut jobs = jobs(&queue, 2);
    works(&queue, &mut jobs, 1).await;
    // The job of another priority comes beside it, and is not lost by what fails after it.
    redis.command(&["SET", &place.key("front:0"), "text"]);
    redis.command(&["SET", &place.key("ring:3"), "text"]);
    queue.push(offer(2));
    assert_eq!(next_done(&mut jobs).await, 2);
    // Where all goes through, nothing comes until it is right again, and nothing is lost.
    redis.command(&["DEL", &place.key("front:0"), &place.key("ring:3")]);
    redis.command(&["SET", &place.key("taken"), "text"]);
    queue.push(offer(3));
    nothing_comes(&mut jobs).await;
    redis.command(&["DEL", &place.key("taken")]);
    assert_eq!(next_done(&mut jobs).await, 3);
    soon(queue.flushed()).await;
    depth_becomes(&queue, EMPTY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_beyond_the_limit_are_forgotten_and_the_incarnation_says_so() {
    let redis = Redis::start(&[]);
    let (queue, mut jobs) = fixture(&redis).await;
    let before = queue.incarnation().await.unwrap();
    redis.signal(Signal::SIGSTOP);
    // Some of them may be on their way already.
    queue.push_all((0..201_000).map(offer));
    redis.signal(Signal::SIGCONT);
    assert_eq!(next_done(&mut jobs).await, 0);
    drop(jobs);
    soon(queue.flushed()).await;
    let after = queue.incarnation().await.unwrap();
    assert_ne!(after, before);
    assert_eq!(queue.incarnation().await.unwrap(), after);
    let ready = queue.depth().await.unwrap().ready;
    assert!((199_000..201_000).contains(&ready), "{ready}");
}

/// Does jobs and logs what happens.
#[tokio::test]
#[ignore = "the process of other tests"]
async fn works_and_logs() {
    tracing_subscriber::fmt().with_ansi(false).init();
    let (queue, lease) = inherited().await;
    let mut jobs = queue.jobs(consumer(4, lease));
    println!("waits");
    loop {
        println!("did {}", next_done(&mut jobs).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_logged_once_and_its_end_once() {
    let mut redis = Redis::start(&[]);
    let place = Place::in_redis(&redis);
    let lease = Duration::from_millis(400);
    let mut process = Process::start("failures::works_and_logs", &place, lease);
    process.until("waits");
    redis.down();
    // Some dozens of attempts.
    tokio::time::sleep(Duration::from_secs(4)).await;
    redis.up();
    let queue = place.queue().await;
    queue.push(offer(1));
    let mut lines = process.until("did 1");
    for (part, what) in [("commands", "back"), ("hints", "back"), ("jobs of", "back")] {
        while !lines
            .iter()
            .any(|line| line.contains(part) && line.contains(what))
        {
            lines.extend(process.until("Redis is back"));
        }
    }
    for part in ["commands", "hints", "jobs of"] {
        let of_part = lines.iter().filter(|line| line.contains(part));
        let count = |what: &str| of_part.clone().filter(|line| line.contains(what)).count();
        assert_eq!(
            (count("failed"), count("back")),
            (1, 1),
            "{part}: {lines:#?}"
        );
    }
}
