//! Jobs that are not due yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use runner_queue::Depth;
use tokio::time::Instant;

use crate::support::*;

/// What is on time: a few milliseconds, and what the machine was late with all else meanwhile.
struct OnTime {
    start: Instant,
    latest: Arc<AtomicU64>,
    watch: tokio::task::JoinHandle<()>,
}

impl OnTime {
    fn start() -> Self {
        let latest = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&latest);
        let watch = tokio::spawn(async move {
            loop {
                let before = Instant::now();
                tokio::time::sleep(Duration::from_millis(1)).await;
                let late = before.elapsed().as_millis() as u64;
                seen.fetch_max(late, Ordering::Relaxed);
            }
        });
        Self {
            start: Instant::now(),
            latest,
            watch,
        }
    }

    fn check(&self, due: Duration) {
        let passed = self.start.elapsed();
        // Redis is one more process that must get its turn, several times.
        let late = Duration::from_millis(20 + 6 * self.latest.load(Ordering::Relaxed));
        // The time of day that is given has whole milliseconds.
        assert!(
            passed + Duration::from_millis(2) >= due && passed < due + late,
            "{passed:?}, due at {due:?}, {late:?} late at most"
        );
    }
}

impl Drop for OnTime {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_comes_when_it_is_due_and_not_before() {
    on_both(async |place| {
        let queue = place.queue().await;
        let mut jobs = jobs(&queue, 4);
        // Someone sleeps already, and hears of ever earlier times.
        let time = OnTime::start();
        for (task, delay) in [(3, 450), (2, 300), (1, 150)] {
            queue.push(offer_in(task, Duration::from_millis(delay)));
        }
        for task in 1..=3_i64 {
            assert_eq!(next_done(&mut jobs).await, task);
            let due = Duration::from_millis(150 * task as u64);
            time.check(due);
        }
        depth_becomes(&queue, EMPTY).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_due_job_is_found_by_a_worker_that_slept_while_others_are_busy() {
    on_both(async |place| {
        let queue = place.queue().await;
        let other = place.queue().await;
        let mut busy = jobs(&queue, 1);
        let mut idle = jobs(&other, 1);
        let time = OnTime::start();
        queue.push(offer_in(2, Duration::from_millis(300)));
        queue.push(offer(1));
        let held = tokio::select! {
            held = next(&mut busy) => (held, true),
            held = next(&mut idle) => (held, false),
        };
        let free = if held.1 { &mut idle } else { &mut busy };
        assert_eq!(next_done(free).await, 2);
        time.check(Duration::from_millis(300));
        held.0.done();
    })
    .await;
}

#[tokio::test]
async fn times_that_have_passed_are_now_and_far_ones_are_bounded() {
    on_both(async |place| {
        let queue = place.queue().await;
        for not_before in [i64::MIN, -1, 0, 1] {
            queue.push(runner_queue::Offer {
                not_before: Some(not_before),
                ..offer(1)
            });
        }
        queue.push(runner_queue::Offer {
            not_before: Some(i64::MAX),
            ..offer(2)
        });
        let mut jobs = jobs(&queue, 1);
        for _ in 0..4 {
            assert_eq!(next_done(&mut jobs).await, 1);
        }
        let delayed = Depth {
            delayed: 1,
            ..EMPTY
        };
        depth_becomes(&queue, delayed).await;
    })
    .await;
}

#[tokio::test]
async fn a_job_handed_back_for_later_comes_then_and_is_not_counted() {
    on_both(async |place| {
        let queue = place.queue().await;
        queue.push_all([offer(1), offer(2)]);
        let mut jobs = jobs(&queue, 1);
        let taken = next(&mut jobs).await;
        let time = OnTime::start();
        taken.hand_back_later(Duration::from_millis(200));
        assert_eq!(next_done(&mut jobs).await, 2);
        let again = next(&mut jobs).await;
        assert_eq!((again.job().task, again.deliveries()), (1, 1));
        time.check(Duration::from_millis(200));
        again.done();
        depth_becomes(&queue, EMPTY).await;
    })
    .await;
}

#[tokio::test]
async fn very_many_jobs_get_due_at_once() {
    on_both(async |place| {
        let queue = place.queue().await;
        let delay = Duration::from_millis(300);
        queue.push_all((0..1_500).map(|task| offer_in(task, delay)));
        let mut jobs = jobs(&queue, 64);
        let mut sum = 0;
        for _ in 0..1_500 {
            sum += next_done(&mut jobs).await;
        }
        assert_eq!(sum, (0..1_500).sum::<i64>());
    })
    .await;
}
