//! In which order jobs are given out.

use runner_core::task::Priority;
use runner_queue::{Offer, Queue};

use crate::support::*;

/// Offers all, then takes them one after the other.
async fn taken_in_order(queue: &Queue, offers: Vec<Offer>) -> Vec<i64> {
    let count = offers.len();
    queue.push_all(offers);
    soon(queue.flushed()).await;
    let mut jobs = jobs(queue, 1);
    let mut order = Vec::new();
    for _ in 0..count {
        order.push(next_done(&mut jobs).await);
    }
    order
}

#[tokio::test]
async fn jobs_of_a_higher_priority_go_first() {
    on_both(async |place| {
        let lanes = [
            Priority::Low,
            Priority::Normal,
            Priority::High,
            Priority::Called,
        ];
        let offers = (0..20)
            .map(|task| offer_of(task, lanes[task as usize % 4], "a"))
            .collect();
        let order = taken_in_order(&place.queue().await, offers).await;
        assert_eq!(
            order,
            [
                3, 7, 11, 15, 19, 2, 6, 10, 14, 18, 1, 5, 9, 13, 17, 0, 4, 8, 12, 16
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn submitters_take_turns_and_each_is_served_in_order() {
    on_both(async |place| {
        let mut offers: Vec<Offer> = (0..4)
            .map(|task| offer_of(task, Priority::Normal, "much"))
            .collect();
        offers.push(offer_of(10, Priority::Normal, "one more"));
        offers.push(offer_of(20, Priority::Normal, "third"));
        offers.push(offer_of(21, Priority::Normal, "third"));
        let order = taken_in_order(&place.queue().await, offers).await;
        assert_eq!(order, [0, 10, 20, 1, 21, 2, 3]);
    })
    .await;
}

#[tokio::test]
async fn one_who_submits_a_lot_does_not_hold_up_the_others() {
    on_both(async |place| {
        let queue = place.queue().await;
        queue.push_all((0..20_000).map(|task| offer_of(task, Priority::Normal, "much")));
        queue.push(offer_of(-1, Priority::Normal, "little"));
        soon(queue.flushed()).await;
        let mut jobs = jobs(&queue, 1);
        let first = [next_done(&mut jobs).await, next_done(&mut jobs).await];
        assert!(first.contains(&-1), "{first:?}");
    })
    .await;
}

#[tokio::test]
async fn a_job_that_is_handed_back_goes_before_others_and_is_not_counted() {
    on_both(async |place| {
        let queue = place.queue().await;
        queue.push_all((0..3).map(offer));
        queue.push(offer_of(9, Priority::Low, ""));
        let mut jobs = jobs(&queue, 1);
        let mut first = next(&mut jobs).await;
        assert_eq!((first.job().task, first.deliveries()), (0, 1));
        // Nothing else is taken until it is back.
        let slot = first.take_slot();
        first.hand_back();
        soon(queue.flushed()).await;
        drop(slot);
        let again = next(&mut jobs).await;
        assert_eq!((again.job().task, again.deliveries()), (0, 1));
        again.done();
        for task in [1, 2, 9] {
            assert_eq!(next_done(&mut jobs).await, task);
        }
    })
    .await;
}

#[tokio::test]
async fn both_backends_give_out_mixed_jobs_in_the_same_order() {
    let mut random = Random(7);
    let offers: Vec<Offer> = (0..600)
        .map(|task| {
            let submitter = format!("söme {} one", random.below(7));
            offer_of(task, Priority::ALL[random.below(4) as usize], &submitter)
        })
        .collect();
    let place = Place::in_redis(&crate::server::SHARED);
    let in_process = taken_in_order(&Queue::in_process(), offers.clone()).await;
    let in_redis = taken_in_order(&place.queue().await, offers).await;
    assert_eq!(in_process, in_redis);
}
