//! Ends.

use std::time::Duration;

use runner_queue::Depth;

use crate::support::*;

#[tokio::test]
async fn closing_gives_out_nothing_more_and_ends_when_what_was_taken_is_settled() {
    on_both(async |place| {
        let queue = place.queue().await;
        let mut working = jobs(&queue, 2);
        queue.push_all((0..10).map(offer));
        let one = next(&mut working).await;
        let two = next(&mut working).await;
        queue.close();
        let ending = tokio::spawn(async move { working.next().await.is_none() });
        one.done();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!ending.is_finished());
        two.hand_back();
        assert!(soon(ending).await.unwrap());
        soon(queue.flushed()).await;
        let left = Depth { ready: 9, ..EMPTY };
        depth_becomes(&queue, left).await;
        // Nor to who comes later.
        assert!(soon(jobs(&queue, 1).next()).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn what_was_fetched_and_not_given_out_goes_back_at_once() {
    let place = Place::in_redis(&crate::server::SHARED);
    let queue = place.queue().await;
    queue.push_all((0..10).map(offer));
    let fetching = jobs(&queue, 4);
    let fetched = Depth {
        ready: 6,
        taken: 4,
        ..EMPTY
    };
    depth_becomes(&queue, fetched).await;
    drop(fetching);
    depth_becomes(&queue, Depth { ready: 10, ..EMPTY }).await;
    let again = jobs(&queue, 4);
    depth_becomes(&queue, fetched).await;
    queue.close();
    let mut again = again;
    assert!(soon(again.next()).await.is_none());
    depth_becomes(&queue, Depth { ready: 10, ..EMPTY }).await;
    // In their order, as if nothing had been.
    let queue = place.queue().await;
    let mut jobs = jobs(&queue, 1);
    let mut tasks = Vec::new();
    for _ in 0..10 {
        tasks.push(next_done(&mut jobs).await);
    }
    tasks.sort_unstable();
    assert_eq!(tasks, (0..10).collect::<Vec<i64>>());
}

#[tokio::test]
async fn a_worker_that_ends_in_its_sleep_takes_no_bell_with_it() {
    let place = Place::in_redis(&crate::server::SHARED);
    let staying = place.queue().await;
    let mut jobs_of_staying = jobs(&staying, 1);
    nothing_comes(&mut jobs_of_staying).await;
    for task in 0..20 {
        let leaving = place.queue().await;
        let mut jobs = jobs(&leaving, 1);
        assert!(
            tokio::time::timeout(Duration::from_millis(5), jobs.next())
                .await
                .is_err()
        );
        staying.push(offer(task));
        drop(jobs);
        drop(leaving);
        let start = tokio::time::Instant::now();
        assert_eq!(next_done(&mut jobs_of_staying).await, task);
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
