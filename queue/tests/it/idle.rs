//! Who waits uses nothing.

use std::time::Duration;

use crate::support::*;

/// Waits for jobs.
#[tokio::test]
#[ignore = "the process of other tests"]
async fn waits_for_jobs() {
    let (queue, lease) = inherited().await;
    let mut all: Vec<_> = (0..4).map(|_| queue.jobs(consumer(8, lease))).collect();
    let in_process = runner_queue::Queue::in_process();
    in_process.push(offer_in(1, Duration::from_secs(1000)));
    all.push(in_process.jobs(consumer(8, lease)));
    let waiting = futures::future::join_all(all.iter_mut().map(|jobs| jobs.next()));
    println!("waits");
    waiting.await;
}

/// How much processor time the process uses in 4 s.
async fn used(process: &Process) -> Duration {
    let ticks = || {
        let path = format!("/proc/{}/stat", process.child.id());
        let stat = std::fs::read_to_string(path).unwrap();
        let fields: Vec<u64> = stat[stat.rfind(')').unwrap() + 2..]
            .split(' ')
            .filter_map(|field| field.parse().ok())
            .collect();
        // After pid, name and state, of which the state is no number: utime and stime.
        fields[10] + fields[11]
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = ticks();
    tokio::time::sleep(Duration::from_secs(4)).await;
    Duration::from_millis((ticks() - before) * 10)
}

#[tokio::test]
async fn an_idle_process_uses_no_processor() {
    let place = Place::in_redis(&crate::server::SHARED);
    let mut process = Process::start("idle::waits_for_jobs", &place, Duration::from_secs(2));
    process.until("waits");
    let used = used(&process).await;
    assert!(used <= Duration::from_millis(20), "{used:?} in 4 s");
}

#[tokio::test]
async fn a_process_that_tries_to_reach_redis_uses_little() {
    let mut redis = crate::server::Redis::start(&[]);
    let place = Place::in_redis(&redis);
    let mut process = Process::start("idle::waits_for_jobs", &place, Duration::from_secs(2));
    process.until("waits");
    // All can connect, and nothing works: worse than when nobody is there.
    redis.command(&["CONFIG", "SET", "requirepass", "new"]);
    redis.command_as(
        "new",
        &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"],
    );
    redis.command_as("new", &["CLIENT", "KILL", "TYPE", "pubsub"]);
    let refused = used(&process).await;
    redis.down();
    let gone = used(&process).await;
    // Six connections, each tried once or twice a second, without optimisation.
    let limit = Duration::from_millis(150);
    assert!(refused <= limit && gone <= limit, "{refused:?}, {gone:?}");
}
