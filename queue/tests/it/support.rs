//! What the tests have in common.

use std::future::Future;
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use runner_core::task::Priority;
use runner_queue::{Consumer, Depth, Job, Jobs, Offer, Queue, RedisConfig, Taken};
use tokio::sync::Semaphore;

use crate::server::{Redis, SHARED};

/// Longer than anything takes that goes well.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A queue to be tested, of which there may be several handles.
pub(crate) enum Place {
    Process(Queue),
    Redis(String, String),
}

/// Runs a test with a queue in process, then with one in Redis.
pub(crate) async fn on_both(test: impl AsyncFn(&Place)) {
    test(&Place::Process(Queue::in_process())).await;
    test(&Place::in_redis(&SHARED)).await;
}

impl Place {
    /// A new queue in a Redis.
    pub(crate) fn in_redis(redis: &Redis) -> Self {
        Self::Redis(redis.url(), unique("queue"))
    }

    /// A handle as another process would have.
    pub(crate) async fn queue(&self) -> Queue {
        match self {
            Self::Process(queue) => queue.clone(),
            Self::Redis(url, name) => connect(url, name).await,
        }
    }

    /// The key of the queue with this name.
    pub(crate) fn key(&self, key: &str) -> String {
        let Self::Redis(_, name) = self else {
            panic!("not in Redis");
        };
        format!("runner:{{{name}}}:{key}")
    }
}

pub(crate) async fn connect(url: &str, name: &str) -> Queue {
    let config = RedisConfig {
        url: url.to_owned(),
        name: name.to_owned(),
        process: unique("process"),
    };
    Queue::connect(&config).await.unwrap()
}

/// A name that nobody else has.
pub(crate) fn unique(what: &str) -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    format!("{what}-{}-{number}", std::process::id())
}

pub(crate) fn offer(task: i64) -> Offer {
    Offer {
        job: Job { task, run: 1 },
        priority: Priority::Normal,
        submitter: String::new(),
        not_before: None,
    }
}

pub(crate) fn offer_of(task: i64, priority: Priority, submitter: &str) -> Offer {
    Offer {
        priority,
        submitter: submitter.to_owned(),
        ..offer(task)
    }
}

pub(crate) fn offer_in(task: i64, delay: Duration) -> Offer {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + delay;
    Offer {
        not_before: Some(at.as_millis() as i64),
        ..offer(task)
    }
}

pub(crate) fn consumer(slots: usize, lease: Duration) -> Consumer {
    Consumer {
        name: unique("consumer"),
        lease,
        slots: Arc::new(Semaphore::new(slots)),
    }
}

/// Jobs with a lease that does not end in a test.
pub(crate) fn jobs(queue: &Queue, slots: usize) -> Jobs {
    queue.jobs(consumer(slots, Duration::from_secs(60)))
}

/// The next job, which must come.
pub(crate) async fn next(jobs: &mut Jobs) -> Taken {
    soon(jobs.next()).await.expect("the queue is not closed")
}

/// The next job's task; the job is done.
pub(crate) async fn next_done(jobs: &mut Jobs) -> i64 {
    let taken = next(jobs).await;
    let task = taken.job().task;
    taken.done();
    task
}

/// No job comes for a while.
pub(crate) async fn nothing_comes(jobs: &mut Jobs) {
    let while_ = Duration::from_millis(150);
    if let Ok(taken) = tokio::time::timeout(while_, jobs.next()).await {
        panic!("{taken:?} came");
    }
}

/// It happens before the deadline.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what)
        .await
        .expect("it takes too long")
}

/// Waits until the queue has become so.
pub(crate) async fn depth_becomes(queue: &Queue, wanted: Depth) {
    let end = tokio::time::Instant::now() + DEADLINE;
    loop {
        let depth = queue.depth().await;
        match depth {
            Ok(depth) if depth == wanted => return,
            depth if tokio::time::Instant::now() > end => panic!("{depth:?} is not {wanted:?}"),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Numbers that are the same in each run, so that a failure can be seen again.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

pub(crate) const EMPTY: Depth = Depth {
    ready: 0,
    delayed: 0,
    taken: 0,
    parked: 0,
    dead: 0,
};

/// Another process of a queue: this program again, as the ignored test of that name. Killed when dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub(crate) fn start(test: &str, place: &Place, lease: Duration) -> Self {
        let Place::Redis(url, name) = place else {
            panic!("another process needs Redis");
        };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--ignored", "--nocapture"])
            .env("TEST_QUEUE_URL", url)
            .env("TEST_QUEUE_NAME", name)
            .env("TEST_QUEUE_LEASE", lease.as_millis().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until the process says this; ends with the process at the latest. What it has said up to and including that.
    pub(crate) fn until(&mut self, wanted: &str) -> Vec<String> {
        let mut said = Vec::new();
        for line in self.lines.by_ref() {
            said.push(line.unwrap());
            if said.last().is_some_and(|line| line.contains(wanted)) {
                return said;
            }
        }
        panic!("the process has ended without saying {wanted}: {said:#?}");
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// In such a process: the queue and the lease it was started with.
pub(crate) async fn inherited() -> (Queue, Duration) {
    let variable = |name: &str| std::env::var(name).expect("started by another test");
    let lease = variable("TEST_QUEUE_LEASE").parse().unwrap();
    let queue = connect(&variable("TEST_QUEUE_URL"), &variable("TEST_QUEUE_NAME")).await;
    (queue, Duration::from_millis(lease))
}
