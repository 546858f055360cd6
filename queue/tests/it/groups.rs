//! Jobs of which only so many run at a time.

use std::time::Duration;

use runner_queue::{Depth, Jobs, Taken};

use crate::support::*;

/// The next job of either.
async fn of_either(one: &mut Jobs, two: &mut Jobs) -> Taken {
    tokio::select! {
        taken = next(one) => taken,
        taken = next(two) => taken,
    }
}

#[tokio::test]
async fn a_job_that_finds_no_place_comes_when_another_leaves() {
    on_both(async |place| {
        let (queue, other) = (place.queue().await, place.queue().await);
        let (mut one, mut two) = (jobs(&queue, 4), jobs(&other, 4));
        queue.push(offer(1));
        let mut first = of_either(&mut one, &mut two).await;
        assert!(first.enter("plugin", 1).await);
        assert!(first.enter("plugin", 1).await, "it is in already");
        for task in 2..=3 {
            queue.push(offer(task));
            let mut parked = of_either(&mut one, &mut two).await;
            assert!(!parked.enter("plugin", 1).await);
            parked.done();
        }
        let depth = Depth {
            taken: 1,
            parked: 2,
            ..EMPTY
        };
        depth_becomes(&queue, depth).await;
        // Other groups are not concerned.
        queue.push(offer(4));
        let mut free = of_either(&mut one, &mut two).await;
        assert!(free.enter("other plugin", 1).await);
        free.done();
        first.done();
        for task in 2..=3 {
            let mut again = of_either(&mut one, &mut two).await;
            assert_eq!((again.job().task, again.deliveries()), (task, 1));
            assert!(again.enter("plugin", 1).await);
            again.done();
        }
        depth_becomes(&queue, EMPTY).await;
    })
    .await;
}

#[tokio::test]
async fn a_job_that_was_let_in_and_does_not_enter_lets_the_next_one_in() {
    on_both(async |place| {
        let queue = place.queue().await;
        let mut jobs = jobs(&queue, 4);
        queue.push_all((0..5).map(offer));
        let mut first = next(&mut jobs).await;
        assert!(first.enter("g", 1).await);
        for _ in 1..5 {
            assert!(!next(&mut jobs).await.enter("g", 1).await);
        }
        first.done();
        next(&mut jobs).await.done();
        next(&mut jobs)
            .await
            .hand_back_later(Duration::from_secs(3));
        let mut third = next(&mut jobs).await;
        assert!(third.enter("other", 1).await);
        let mut fourth = next(&mut jobs).await;
        assert!(fourth.enter("g", 1).await);
        third.done();
        fourth.done();
        assert_eq!(next_done(&mut jobs).await, 2);
        depth_becomes(&queue, EMPTY).await;
    })
    .await;
}

#[tokio::test]
async fn dropping_and_handing_back_leave_the_group_too() {
    on_both(async |place| {
        let queue = place.queue().await;
        let lease = Duration::from_millis(1_500);
        let mut jobs = queue.jobs(consumer(4, lease));
        queue.push_all([offer(1), offer(2)]);
        let (mut one, mut two) = (next(&mut jobs).await, next(&mut jobs).await);
        assert!(one.enter("g", 1).await);
        assert!(!two.enter("g", 1).await);
        drop(two);
        drop(one);
        let mut two = next(&mut jobs).await;
        assert_eq!((two.job().task, two.deliveries()), (2, 1));
        assert!(two.enter("g", 1).await);
        let mut one = next(&mut jobs).await;
        assert_eq!((one.job().task, one.deliveries()), (1, 2));
        assert!(!one.enter("g", 1).await);
        two.hand_back_later(Duration::from_millis(100));
        // Parking did not count, but having been dropped does.
        let mut one = next(&mut jobs).await;
        assert_eq!((one.job().task, one.deliveries()), (1, 2));
        assert!(one.enter("g", 1).await);
        one.done();
        assert_eq!(next_done(&mut jobs).await, 2);
        depth_becomes(&queue, EMPTY).await;
    })
    .await;
}

#[tokio::test]
async fn a_raised_limit_lets_in_all_that_have_room() {
    on_both(async |place| {
        let queue = place.queue().await;
        let mut jobs = jobs(&queue, 10);
        queue.push_all((0..5).map(offer));
        let mut first = next(&mut jobs).await;
        assert!(first.enter("g", 1).await);
        for _ in 1..5 {
            assert!(!next(&mut jobs).await.enter("g", 1).await);
        }
        first.done();
        let mut inside = Vec::new();
        for _ in 1..5 {
            let mut taken = next(&mut jobs).await;
            assert!(taken.enter("g", 4).await);
            inside.push(taken);
        }
        inside.into_iter().for_each(|taken| taken.done());
        depth_becomes(&queue, EMPTY).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_run_than_the_limit_and_all_get_done() {
    on_both(async |place| {
        use std::sync::atomic::{AtomicU32, Ordering};
        static INSIDE: AtomicU32 = AtomicU32::new(0);
        static DONE: AtomicU32 = AtomicU32::new(0);
        DONE.store(0, Ordering::SeqCst);
        let queue = place.queue().await;
        queue.push_all((0..200).map(offer));
        let mut workers = Vec::new();
        for _ in 0..3 {
            let queue = place.queue().await;
            let mut jobs = jobs(&queue, 8);
            workers.push(tokio::spawn(async move {
                while let Some(mut taken) = jobs.next().await {
                    tokio::spawn(async move {
                        if taken.enter("g", 3).await {
                            assert!(INSIDE.fetch_add(1, Ordering::SeqCst) < 3);
                            tokio::time::sleep(Duration::from_millis(1)).await;
                            INSIDE.fetch_sub(1, Ordering::SeqCst);
                            DONE.fetch_add(1, Ordering::SeqCst);
                            taken.done();
                        }
                    });
                }
            }));
        }
        soon(queue.flushed()).await;
        depth_becomes(&queue, EMPTY).await;
        assert_eq!(DONE.load(Ordering::SeqCst), 200);
        workers.iter().for_each(|worker| worker.abort());
    })
    .await;
}

/// Takes a job into a group and keeps it.
#[tokio::test]
#[ignore = "the process of other tests"]
async fn stays_in_a_group() {
    let (queue, lease) = inherited().await;
    let mut jobs = queue.jobs(consumer(1, lease));
    let mut taken = next(&mut jobs).await;
    assert!(taken.enter("g", 1).await);
    println!("is in");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_member_leaves_when_its_lease_ends() {
    let place = Place::in_redis(&crate::server::SHARED);
    let queue = place.queue().await;
    let lease = Duration::from_millis(1_500);
    queue.push(offer(1));
    let mut process = Process::start("groups::stays_in_a_group", &place, lease);
    process.until("is in");
    let mut jobs = queue.jobs(consumer(4, lease));
    queue.push(offer(2));
    assert!(!next(&mut jobs).await.enter("g", 1).await);
    process.signal(nix::sys::signal::Signal::SIGKILL);
    let (one, two) = (next(&mut jobs).await, next(&mut jobs).await);
    assert_eq!((one.job().task, one.deliveries()), (1, 2));
    assert_eq!((two.job().task, two.deliveries()), (2, 1));
    one.done();
    two.done();
    depth_becomes(&queue, EMPTY).await;
}
