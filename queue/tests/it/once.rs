//! In quiet times each job is done once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::*;

const JOBS: i64 = 5_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_job_goes_to_one_of_four_consumers_once() {
    on_both(async |place| {
        let mut workers = Vec::new();
        let queues = [place.queue().await, place.queue().await];
        for number in 0..4 {
            let queue = queues[number % 2].clone();
            let mut jobs = jobs(&queue, 8);
            workers.push(tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Some(taken) = jobs.next().await {
                    assert_eq!(taken.deliveries(), 1);
                    seen.push(taken.job().task);
                    tokio::task::yield_now().await;
                    taken.done();
                }
                seen
            }));
        }
        for task in 0..JOBS {
            queues[0].push(offer(task));
            if task % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
        soon(queues[0].flushed()).await;
        depth_becomes(&queues[0], EMPTY).await;
        queues.iter().for_each(|queue| queue.close());
        let mut seen = Vec::new();
        for worker in workers {
            seen.extend(soon(worker).await.unwrap());
        }
        let distinct: HashSet<i64> = seen.iter().copied().collect();
        assert_eq!((seen.len(), distinct.len()), (JOBS as usize, JOBS as usize));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_workers_do_with_jobs_none_is_lost_and_each_is_done_once() {
    on_both(async |place| {
        let queue = place.queue().await;
        let done = Arc::new(Mutex::new(Vec::new()));
        let mut workers = Vec::new();
        for number in 0..3_u64 {
            let done = Arc::clone(&done);
            let queue = place.queue().await;
            let mut jobs = queue.jobs(consumer(5, Duration::from_millis(1_000)));
            workers.push(tokio::spawn(async move {
                let mut random = Random(number);
                while let Some(mut taken) = jobs.next().await {
                    match random.below(12) {
                        0 => drop(taken),
                        1 => taken.hand_back(),
                        2 => taken.hand_back_later(Duration::from_millis(30)),
                        3 => {
                            let group = random.below(2).to_string();
                            if taken.enter(&group, 1).await && random.below(2) == 0 {
                                done.lock().unwrap().push(taken.job().task);
                                taken.done();
                            }
                        }
                        _ => {
                            done.lock().unwrap().push(taken.job().task);
                            taken.done();
                        }
                    }
                }
            }));
        }
        let mut random = Random(9);
        for task in 0..400 {
            let priority = runner_core::task::Priority::ALL[random.below(4) as usize];
            let mut offer = offer_of(task, priority, &random.below(5).to_string());
            if random.below(5) == 0 {
                let delay = Duration::from_millis(random.below(200));
                offer.not_before = offer_in(task, delay).not_before;
            }
            queue.push(offer);
        }
        soon(queue.flushed()).await;
        depth_becomes(&queue, EMPTY).await;
        workers.iter().for_each(|worker| worker.abort());
        let mut done = done.lock().unwrap().clone();
        done.sort_unstable();
        assert_eq!(done, (0..400).collect::<Vec<i64>>());
    })
    .await;
}

#[tokio::test]
async fn who_was_cancelled_while_waiting_does_not_swallow_the_call_for_another() {
    let queue = runner_queue::Queue::in_process();
    let (mut cancelled, mut waiting) = (jobs(&queue, 1), jobs(&queue, 1));
    assert!(futures::poll!(Box::pin(cancelled.next())).is_pending());
    let mut next = Box::pin(waiting.next());
    assert!(futures::poll!(&mut next).is_pending());
    queue.push(offer(1));
    soon(next).await.unwrap().done();
}

#[tokio::test]
async fn queues_with_other_names_in_one_redis_do_not_see_each_other() {
    let redis = &crate::server::SHARED;
    let (one, other) = (Place::in_redis(redis), Place::in_redis(redis));
    let (one, other) = (one.queue().await, other.queue().await);
    one.push(offer(1));
    other.push(offer(2));
    let (mut of_one, mut of_other) = (jobs(&one, 4), jobs(&other, 4));
    assert_eq!(next_done(&mut of_one).await, 1);
    assert_eq!(next_done(&mut of_other).await, 2);
    nothing_comes(&mut of_one).await;
    assert_ne!(
        one.incarnation().await.unwrap(),
        other.incarnation().await.unwrap()
    );
}
