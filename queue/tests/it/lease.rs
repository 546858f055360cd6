//! Jobs of workers that die or stand still.

use std::time::Duration;

use nix::sys::signal::Signal;
use runner_queue::Depth;
use tokio::time::Instant;

use crate::server::SHARED;
use crate::support::*;

/// Long enough that a loaded machine prolongs it in time.
const LEASE: Duration = Duration::from_millis(1_500);

#[tokio::test]
async fn a_dropped_job_comes_again_when_its_lease_ends() {
    on_both(async |place| {
        let queue = place.queue().await;
        let mut jobs = queue.jobs(consumer(2, LEASE));
        queue.push(offer(1));
        let start = Instant::now();
        for delivery in 1..=3 {
            let taken = next(&mut jobs).await;
            assert_eq!((taken.job().task, taken.deliveries()), (1, delivery));
            if delivery == 3 {
                taken.done();
            }
        }
        // The lease is counted from when it was last prolonged, up to a quarter of it before.
        assert!(start.elapsed() > LEASE, "{:?}", start.elapsed());
        depth_becomes(&queue, EMPTY).await;
    })
    .await;
}

#[tokio::test]
async fn a_job_that_lasts_longer_than_its_lease_stays_with_its_worker_also_while_draining() {
    on_both(async |place| {
        let queue = place.queue().await;
        let other = place.queue().await;
        let mut jobs = queue.jobs(consumer(2, LEASE));
        queue.push_all([offer(1), offer(2)]);
        let (one, two) = (next(&mut jobs).await, next(&mut jobs).await);
        tokio::time::sleep(LEASE * 2).await;
        if matches!(place, Place::Redis(..)) {
            queue.close();
        }
        let mut others = other.jobs(consumer(2, LEASE));
        tokio::select! {
            taken = others.next() => panic!("{taken:?} came twice"),
            () = tokio::time::sleep(LEASE * 2) => {}
        }
        one.done();
        two.done();
        depth_becomes(&other, EMPTY).await;
    })
    .await;
}

/// Takes all jobs and does none.
#[tokio::test]
#[ignore = "the process of other tests"]
async fn holds_jobs() {
    let (queue, lease) = inherited().await;
    let mut jobs = queue.jobs(consumer(100, lease));
    let mut held = Vec::new();
    while let Some(taken) = jobs.next().await {
        println!("holds {}", taken.job().task);
        held.push(taken);
    }
    assert!(held.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_a_killed_process_go_to_another_and_have_one_delivery_more() {
    let place = Place::in_redis(&SHARED);
    let queue = place.queue().await;
    queue.push_all((0..50).map(offer));
    let mut process = Process::start("lease::holds_jobs", &place, LEASE);
    for task in 0..50 {
        process.until(&format!("holds {task}"));
    }
    let mut jobs = queue.jobs(consumer(8, LEASE));
    nothing_comes(&mut jobs).await;
    process.signal(Signal::SIGKILL);
    let start = Instant::now();
    let mut sum = 0;
    for _ in 0..50 {
        let taken = next(&mut jobs).await;
        assert_eq!(taken.deliveries(), 2);
        sum += taken.job().task;
        taken.done();
    }
    assert_eq!(sum, (0..50).sum::<i64>());
    assert!(start.elapsed() < LEASE * 4, "{:?}", start.elapsed());
    depth_becomes(&queue, EMPTY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_a_process_that_stands_still_go_to_another_and_stay_there() {
    let place = Place::in_redis(&SHARED);
    let queue = place.queue().await;
    queue.push_all((0..3).map(offer));
    let mut process = Process::start("lease::holds_jobs", &place, LEASE);
    for task in 0..3 {
        process.until(&format!("holds {task}"));
    }
    process.signal(Signal::SIGSTOP);
    let mut jobs = queue.jobs(consumer(3, LEASE));
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(next(&mut jobs).await);
    }
    assert!(held.iter().all(|taken| taken.deliveries() == 2));
    // It goes on, and prolongs leases that are not its own any more.
    process.signal(Signal::SIGCONT);
    tokio::time::sleep(LEASE * 2).await;
    let taken = Depth { taken: 3, ..EMPTY };
    assert_eq!(queue.depth().await.unwrap(), taken);
    held.into_iter().for_each(|taken| taken.done());
    depth_becomes(&queue, EMPTY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_ends_for_a_worker_with_a_longer_one_too() {
    let place = Place::in_redis(&SHARED);
    let queue = place.queue().await;
    let longer = LEASE * 2;
    let watching = consumer(3, longer);
    let slots = std::sync::Arc::clone(&watching.slots);
    let mut jobs = queue.jobs(watching);
    nothing_comes(&mut jobs).await;
    // Has no slot, so that the other gets the job.
    let busy = slots.acquire_many(3).await.unwrap();
    let mut process = Process::start("lease::holds_jobs", &place, LEASE);
    queue.push(offer(7));
    process.until("holds 7");
    process.signal(Signal::SIGKILL);
    drop(busy);
    let start = Instant::now();
    let again = next(&mut jobs).await;
    assert_eq!((again.job().task, again.deliveries()), (7, 2));
    assert!(
        start.elapsed() < longer + LEASE * 3,
        "{:?}",
        start.elapsed()
    );
    again.done();
}
