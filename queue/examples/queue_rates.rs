//! How fast the queue is, in process and in Redis, beside bare Redis in the same run.
//!
//! ```sh
//! cargo run --release -p runner-queue --example queue_rates [redis://127.0.0.1:6379]
//! ```
//!
//! Uses keys of its own, named by its process, and removes them. A row says how many jobs a second went
//! through one process: pushed, taken and settled; each consumer has 64 slots. `submitters` are those who
//! take turns. Latency is from `push` to `next` of an idle worker, the job of before being settled.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use redis::aio::MultiplexedConnection;
use runner_core::task::Priority;
use runner_queue::{Consumer, Job, Jobs, Offer, Queue, RedisConfig};
use tokio::sync::Semaphore;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Commands in one pipeline of bare Redis.
const PIPELINE: usize = 128;

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    println!("jobs/s            push    take+done    all at once");
    for jobs in [20_000, 200_000] {
        for (consumers, submitters) in [(1, 1), (2, 1), (4, 1), (4, 1_000)] {
            for place in ["process", "redis"] {
                let queue = open(place, &url).await?;
                let title =
                    format!("{place} {jobs} jobs, {consumers} consumers, {submitters} submitters");
                through(&queue, &title, jobs, consumers, submitters).await?;
                clean(&url).await?;
            }
        }
    }
    println!("\nlatency in µs       p50    p99    max");
    for consumers in [1, 4] {
        for place in ["process", "redis"] {
            let queue = open(place, &url).await?;
            latency(&queue, &format!("{place}, {consumers} idle"), consumers).await;
            clean(&url).await?;
        }
    }
    bare(&url).await?;
    clean(&url).await
}

fn name() -> String {
    format!("rates-{}", std::process::id())
}

async fn open(place: &str, url: &str) -> Result<Queue> {
    if place == "process" {
        return Ok(Queue::in_process());
    }
    let config = RedisConfig {
        url: url.to_owned(),
        name: name(),
        process: name(),
    };
    Ok(Queue::connect(&config).await?)
}

async fn connection(url: &str) -> Result<MultiplexedConnection> {
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let client = redis::Client::open(url)?;
    Ok(client
        .get_multiplexed_async_connection_with_config(&config)
        .await?)
}

/// Removes the keys of this process.
async fn clean(url: &str) -> Result<()> {
    let mut connection = connection(url).await?;
    let script = redis::Script::new(
        "local cursor = '0'
         repeat
           local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
           for _, key in ipairs(page[2]) do redis.call('UNLINK', key) end
           cursor = page[1]
         until cursor == '0'",
    );
    let pattern = format!("runner:{{{}}}:*", name());
    script
        .arg(pattern)
        .invoke_async::<()>(&mut connection)
        .await?;
    Ok(())
}

fn offer(task: usize, submitters: usize) -> Offer {
    Offer {
        job: Job {
            task: task as i64,
            run: 1,
        },
        priority: Priority::Normal,
        submitter: (task % submitters).to_string(),
        not_before: None,
    }
}

fn consumers(queue: &Queue, count: usize) -> Vec<Jobs> {
    let consumer = || Consumer {
        name: "rates".to_owned(),
        lease: Duration::from_secs(30),
        slots: Arc::new(Semaphore::new(64)),
    };
    (0..count).map(|_| queue.jobs(consumer())).collect()
}

async fn through(
    queue: &Queue,
    title: &str,
    jobs: usize,
    count: usize,
    submitters: usize,
) -> Result<()> {
    let offers = || (0..jobs).map(|task| offer(task, submitters));
    let start = Instant::now();
    queue.push_all(offers());
    queue.flushed().await;
    let push = rate(jobs, start);

    let start = Instant::now();
    drain(queue, count, jobs).await;
    let take = rate(jobs, start);

    let start = Instant::now();
    let pushing = queue.clone();
    let pushed: Vec<Offer> = offers().collect();
    let pushing = tokio::spawn(async move {
        for (number, offer) in pushed.into_iter().enumerate() {
            pushing.push(offer);
            if number % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    drain(queue, count, jobs).await;
    pushing.await?;
    println!("{push:>10} {take:>12} {:>14}   {title}", rate(jobs, start));
    let left = queue.depth().await?;
    assert_eq!(left, runner_queue::Depth::default(), "jobs are left");
    Ok(())
}

/// Takes and settles so many jobs.
async fn drain(queue: &Queue, count: usize, jobs: usize) {
    let left = Arc::new(std::sync::atomic::AtomicUsize::new(jobs));
    let all = Arc::new(tokio::sync::Notify::new());
    let workers: Vec<_> = consumers(queue, count)
        .into_iter()
        .map(|mut jobs| {
            let (left, all) = (Arc::clone(&left), Arc::clone(&all));
            tokio::spawn(async move {
                while let Some(taken) = jobs.next().await {
                    taken.done();
                    if left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                        all.notify_one();
                    }
                }
            })
        })
        .collect();
    all.notified().await;
    queue.flushed().await;
    workers.iter().for_each(|worker| worker.abort());
    join_all(workers).await;
}

fn rate(count: usize, start: Instant) -> u64 {
    (count as f64 / start.elapsed().as_secs_f64()) as u64
}

async fn latency(queue: &Queue, title: &str, count: usize) {
    let (sender, mut taken) = tokio::sync::mpsc::unbounded_channel();
    let workers: Vec<_> = consumers(queue, count)
        .into_iter()
        .map(|mut jobs| {
            let sender = sender.clone();
            tokio::spawn(async move {
                while let Some(job) = jobs.next().await {
                    let now = Instant::now();
                    job.done();
                    if sender.send(now).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in 0..2_000 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let start = Instant::now();
        queue.push(offer(task, 1));
        if let Some(at) = taken.recv().await {
            all.push(at.duration_since(start));
        }
    }
    workers.iter().for_each(|worker| worker.abort());
    report(title, all);
}

fn report(title: &str, mut all: Vec<Duration>) {
    all.sort();
    let at = |part: f64| all[((all.len() - 1) as f64 * part) as usize].as_micros();
    println!("{:>20} {:>6} {:>6}   {title}", at(0.5), at(0.99), at(1.0));
}

/// The same machine with nothing around it.
async fn bare(url: &str) -> Result<()> {
    let mut connection = connection(url).await?;
    let key = format!("runner:{{{}}}:bare", name());
    let jobs = 100_000;
    let mut group = redis::cmd("XGROUP");
    group
        .arg("CREATE")
        .arg(&key)
        .arg("g")
        .arg("0")
        .arg("MKSTREAM");
    group.query_async::<()>(&mut connection).await?;
    let start = Instant::now();
    for first in (0..jobs).step_by(PIPELINE) {
        let mut pipe = redis::pipe();
        for task in first..(first + PIPELINE).min(jobs) {
            pipe.cmd("XADD")
                .arg(&key)
                .arg("*")
                .arg("job")
                .arg(task)
                .ignore();
        }
        pipe.query_async::<()>(&mut connection).await?;
    }
    let push = rate(jobs, start);
    let start = Instant::now();
    let mut done = 0;
    while done < jobs {
        type Entries = Vec<(String, Vec<(String, Vec<String>)>)>;
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP")
            .arg("g")
            .arg("c")
            .arg("COUNT")
            .arg(PIPELINE);
        read.arg("STREAMS").arg(&key).arg(">");
        let found: Entries = read.query_async(&mut connection).await?;
        let mut pipe = redis::pipe();
        let mut ack = redis::cmd("XACK");
        ack.arg(&key).arg("g");
        let mut delete = redis::cmd("XDEL");
        delete.arg(&key);
        for (id, _) in found.iter().flat_map(|(_, entries)| entries) {
            ack.arg(id);
            delete.arg(id);
            done += 1;
        }
        pipe.add_command(ack).ignore().add_command(delete).ignore();
        pipe.query_async::<()>(&mut connection).await?;
    }
    println!(
        "\nbare Redis, pipelines of {PIPELINE}: XADD {push}/s, XREADGROUP+XACK+XDEL {}/s",
        rate(jobs, start)
    );

    let (list, taken) = (format!("{key}:list"), format!("{key}:taken"));
    let start = Instant::now();
    for first in (0..jobs).step_by(PIPELINE) {
        let mut pipe = redis::pipe();
        for task in first..(first + PIPELINE).min(jobs) {
            pipe.cmd("LPUSH").arg(&list).arg(task).ignore();
            let blmove = pipe.cmd("BLMOVE").arg(&list).arg(&taken);
            blmove.arg("RIGHT").arg("LEFT").arg(1).ignore();
            pipe.cmd("LREM").arg(&taken).arg(1).arg(task).ignore();
        }
        pipe.query_async::<()>(&mut connection).await?;
    }
    println!("bare LPUSH+BLMOVE+LREM, pipelined: {}/s", rate(jobs, start));

    let mut blocked = self::connection(url).await?;
    let mut all = Vec::new();
    let (sender, mut taken_at) = tokio::sync::mpsc::unbounded_channel();
    let (from, to) = (list.clone(), taken.clone());
    let reader = tokio::spawn(async move {
        loop {
            let mut blmove = redis::cmd("BLMOVE");
            blmove.arg(&from).arg(&to).arg("RIGHT").arg("LEFT").arg(0);
            let answer = blmove.query_async::<String>(&mut blocked).await;
            if answer.is_err() || sender.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    for task in 0..2_000 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let start = Instant::now();
        let mut push = redis::cmd("LPUSH");
        push.arg(&list).arg(task);
        push.query_async::<()>(&mut connection).await?;
        if let Some(at) = taken_at.recv().await {
            all.push(at.duration_since(start));
        }
    }
    reader.abort();
    println!("\nlatency in µs       p50    p99    max");
    report("bare BLMOVE, 1 idle", all);
    benchmark(url);
    Ok(())
}

/// What Redis's own tool says, if it is there.
fn benchmark(url: &str) {
    let output = std::process::Command::new("redis-benchmark")
        .args(["-u", url, "-q", "-n", "200000", "-P", "128", "-c", "4"])
        .args(["-t", "lpush,lpop"])
        .output();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).replace('\r', "\n");
            for line in text
                .lines()
                .filter(|line| line.contains("requests per second"))
            {
                println!("redis-benchmark, pipelines of 128: {line}");
            }
        }
        Err(error) => println!("redis-benchmark: {error}"),
    }
}
