//! In quiet times each job is done once.

use std::collections::HashSet;

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
