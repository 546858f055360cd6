//! First the job, then the slot.

use std::sync::Arc;
use std::time::Duration;

use runner_queue::Depth;

use crate::support::*;

#[tokio::test]
async fn who_waits_for_jobs_holds_no_slot() {
    on_both(async |place| {
        let queue = place.queue().await;
        let consumer = consumer(1, Duration::from_secs(60));
        let slots = Arc::clone(&consumer.slots);
        let mut jobs = queue.jobs(consumer);
        nothing_comes(&mut jobs).await;
        // A run that waited takes its slot again.
        let slot = slots.try_acquire().unwrap();
        queue.push(offer(1));
        soon(queue.flushed()).await;
        nothing_comes(&mut jobs).await;
        drop(slot);
        assert_eq!(next_done(&mut jobs).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_job_holds_a_slot_until_it_is_settled_or_the_slot_is_taken_out() {
    on_both(async |place| {
        let queue = place.queue().await;
        let consumer = consumer(2, Duration::from_secs(60));
        let slots = Arc::clone(&consumer.slots);
        let mut jobs = queue.jobs(consumer);
        queue.push_all((0..5).map(offer));
        let first = next(&mut jobs).await;
        let mut second = next(&mut jobs).await;
        assert_eq!(slots.available_permits(), 0);
        nothing_comes(&mut jobs).await;
        // The job waits for another: its slot serves a third job, and is given back to it then.
        let slot = second.take_slot();
        assert_eq!(second.take_slot().num_permits(), 0);
        drop(slot);
        let third = next(&mut jobs).await;
        let mut again = std::pin::pin!(slots.acquire());
        assert!(futures::poll!(&mut again).is_pending());
        third.done();
        drop(soon(again).await.unwrap());
        first.done();
        second.done();
        for task in 3..5 {
            assert_eq!(next_done(&mut jobs).await, task);
        }
        depth_becomes(&queue, EMPTY).await;
        assert_eq!(slots.available_permits(), 2);
    })
    .await;
}

#[tokio::test]
async fn no_more_jobs_are_taken_than_there_are_slots() {
    on_both(async |place| {
        let queue = place.queue().await;
        queue.push_all((0..100).map(offer));
        soon(queue.flushed()).await;
        let mut one = jobs(&queue, 3);
        let other = place.queue().await;
        let mut other = jobs(&other, 4);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(next(&mut one).await);
        }
        for _ in 0..4 {
            held.push(next(&mut other).await);
        }
        nothing_comes(&mut one).await;
        nothing_comes(&mut other).await;
        let depth = Depth {
            ready: 93,
            taken: 7,
            ..EMPTY
        };
        assert_eq!(queue.depth().await.unwrap(), depth);
        held.into_iter().for_each(|taken| taken.done());
    })
    .await;
}
