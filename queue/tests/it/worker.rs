//! apalis workers on the jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use apalis::prelude::{Data, WorkerBuilder, WorkerContext};
use runner_queue::{Depth, Taken};
use tokio::sync::Notify;

use crate::support::*;

#[derive(Clone, Default)]
struct Seen(Arc<AtomicU32>, Arc<Notify>);

async fn handle(taken: Taken, seen: Data<Seen>, _worker: WorkerContext) {
    if seen.0.0.fetch_add(1, Ordering::SeqCst) + 1 == 100 {
        seen.0.1.notify_one();
    }
    tokio::task::yield_now().await;
    taken.done();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_does_jobs_and_stops_when_it_is_told() {
    on_both(async |place| {
        let queue = place.queue().await;
        let seen = Seen::default();
        let worker = WorkerBuilder::new("worker")
            .backend(jobs(&queue, 4))
            .data(seen.clone())
            .build(handle);
        let all = Arc::clone(&seen.1);
        let stop = async move {
            all.notified().await;
            Ok::<(), std::io::Error>(())
        };
        let running = tokio::spawn(worker.run_until(stop));
        queue.push_all((0..100).map(offer));
        soon(running).await.unwrap().unwrap();
        soon(queue.flushed()).await;
        depth_becomes(&queue, EMPTY).await;
        assert_eq!(seen.0.load(Ordering::SeqCst), 100);
        // It takes no more.
        queue.push(offer(1));
        soon(queue.flushed()).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert_eq!(queue.depth().await.unwrap(), Depth { ready: 1, ..EMPTY });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_ends_by_itself_when_the_queue_is_closed() {
    on_both(async |place| {
        let queue = place.queue().await;
        let seen = Seen::default();
        let worker = WorkerBuilder::new("worker")
            .backend(jobs(&queue, 4))
            .data(seen.clone())
            .build(handle);
        let running = tokio::spawn(worker.run());
        queue.push_all((0..100).map(offer));
        soon(seen.1.notified()).await;
        queue.close();
        soon(running).await.unwrap().unwrap();
        depth_becomes(&queue, EMPTY).await;
    })
    .await;
}
