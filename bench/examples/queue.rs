//! One figure of the queue alone, for `bench/scale`: jobs a second through one process, pushed, taken and
//! settled all at once; `ours` by the queue with four consumers, `bare` by XADD, XREADGROUP, XACK and XDEL in
//! pipelines of one connection.
//!
//! ```sh
//! cargo run --release -p runner-bench --example queue ours|bare redis://127.0.0.1:6379/0 100000
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use runner_core::task::Priority;
use runner_queue::{Consumer, Depth, Job, Offer, Queue, RedisConfig};
use tokio::sync::{Notify, Semaphore};

/// Consumers of the queue, as so many workers have them.
const CONSUMERS: usize = 4;
/// Jobs that a consumer has at a time.
const SLOTS: usize = 64;
/// Commands in one pipeline of bare Redis.
const PIPELINE: usize = 128;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: queue ours|bare redis://host:port/database jobs";
    let (Some(what), Some(url), Some(jobs)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err(usage.into());
    };
    let jobs: usize = jobs.parse()?;
    let took = match what.as_str() {
        "ours" => ours(&url, jobs).await?,
        "bare" => bare(&url, jobs).await?,
        _ => return Err(usage.into()),
    };
    #[expect(clippy::cast_precision_loss, reason = "a count of a benchmark")]
    let rate = jobs as f64 / took.as_secs_f64();
    println!("{rate:.0}");
    Ok(())
}

/// Answers how long it took.
async fn ours(url: &str, jobs: usize) -> Result<Duration, Box<dyn Error>> {
    let name = format!("bench-{}", std::process::id());
    let queue = Queue::connect(&RedisConfig {
        url: url.to_owned(),
        name: name.clone(),
        process: name,
    })
    .await?;
    let seen: Arc<Vec<AtomicBool>> = Arc::new((0..jobs).map(|_| AtomicBool::new(false)).collect());
    let left = Arc::new(AtomicUsize::new(jobs));
    let all = Arc::new(Notify::new());
    for _ in 0..CONSUMERS {
        let mut taking = queue.jobs(Consumer {
            name: "bench".to_owned(),
            lease: Duration::from_secs(30),
            slots: Arc::new(Semaphore::new(SLOTS)),
        });
        let (left, all, seen) = (Arc::clone(&left), Arc::clone(&all), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Some(taken) = taking.next().await {
                let task = usize::try_from(taken.job().task).ok();
                taken.done();
                // A job that comes twice is not a second one.
                let slot = task.and_then(|task| seen.get(task));
                let is_new = slot.is_some_and(|slot| !slot.swap(true, Ordering::Relaxed));
                if is_new && left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    all.notify_one();
                }
            }
        });
    }
    let begin = Instant::now();
    for task in 0..jobs {
        queue.push(Offer {
            job: Job {
                task: i64::try_from(task)?,
                run: 1,
            },
            priority: Priority::Normal,
            submitter: String::new(),
            not_before: None,
        });
        if task % SLOTS == 0 {
            tokio::task::yield_now().await;
        }
    }
    all.notified().await;
    queue.flushed().await;
    let end = begin.elapsed();
    let depth = queue.depth().await?;
    if depth != Depth::default() {
        return Err(format!("jobs are left: {depth:?}").into());
    }
    Ok(end)
}

/// Answers how long it took.
async fn bare(url: &str, jobs: usize) -> Result<Duration, Box<dyn Error>> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut fresh = redis::pipe();
    fresh.cmd("DEL").arg("bench").ignore();
    let group = ["CREATE", "bench", "g", "0", "MKSTREAM"];
    fresh.cmd("XGROUP").arg(&group).ignore();
    fresh.query_async::<()>(&mut connection).await?;
    let begin = Instant::now();
    for first in (0..jobs).step_by(PIPELINE) {
        let mut add = redis::pipe();
        for task in first..(first + PIPELINE).min(jobs) {
            add.cmd("XADD")
                .arg(&["bench", "*", "job"])
                .arg(task)
                .ignore();
        }
        add.query_async::<()>(&mut connection).await?;
        type Entries = Vec<(String, Vec<(String, Vec<String>)>)>;
        let mut read = redis::cmd("XREADGROUP");
        read.arg(&["GROUP", "g", "c", "COUNT"]).arg(PIPELINE);
        read.arg(&["STREAMS", "bench", ">"]);
        let found: Entries = read.query_async(&mut connection).await?;
        let ids = found.iter().flat_map(|(_, entries)| entries);
        let ids: Vec<&String> = ids.map(|(id, _)| id).collect();
        let mut done = redis::pipe();
        done.cmd("XACK").arg(&["bench", "g"]).arg(&ids).ignore();
        done.cmd("XDEL").arg("bench").arg(&ids).ignore();
        done.query_async::<()>(&mut connection).await?;
    }
    Ok(begin.elapsed())
}
