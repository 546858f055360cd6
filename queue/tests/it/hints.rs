//! Hints, within a process and between processes.

use std::time::Duration;

use crate::support::*;

#[tokio::test]
async fn watchers_in_all_processes_hear_of_a_change() {
    on_both(async |place| {
        let (one, other) = (place.queue().await, place.queue().await);
        let mut here = one.events().watch(7);
        let mut there = other.events().watch(7);
        let mut unconcerned = other.events().watch(8);
        if matches!(place, Place::Redis(..)) {
            // From now on it hears of changes: there may have been some before.
            soon(there.changed()).await;
            soon(unconcerned.changed()).await;
        }
        one.events().changed(7);
        // At once, without waiting.
        assert!(futures::poll!(std::pin::pin!(here.changed())).is_ready());
        soon(there.changed()).await;
        assert!(futures::poll!(std::pin::pin!(unconcerned.changed())).is_pending());
    })
    .await;
}

#[tokio::test]
async fn ended_tasks_and_deliveries_are_told_to_all_and_once() {
    on_both(async |place| {
        let (one, other) = (place.queue().await, place.queue().await);
        let mut watch = other.events().watch(5);
        one.tasks_ended(&[5, 6], &one.events());
        assert_eq!(soon(one.ended_tasks()).await, [5, 6]);
        soon(one.deliveries()).await;
        soon(watch.changed()).await;
        if matches!(place, Place::Redis(..)) {
            let mut ended = soon(other.ended_tasks()).await;
            ended.sort_unstable();
            assert_eq!(ended, [5, 6]);
            soon(other.deliveries()).await;
            // All that was told has come back by the time a later hint of the other has.
            let mut watch = one.events().watch(9);
            other.events().changed(9);
            soon(watch.changed()).await;
        }
        assert!(futures::poll!(std::pin::pin!(one.ended_tasks())).is_pending());
        assert!(futures::poll!(std::pin::pin!(one.deliveries())).is_pending());
        assert!(futures::poll!(std::pin::pin!(one.gaps())).is_pending());
    })
    .await;
}

#[tokio::test]
async fn only_processes_with_watchers_listen_to_changes() {
    let redis = &crate::server::SHARED;
    let place = Place::in_redis(redis);
    let channel = place.key("changes");
    let listeners = async |count: usize| {
        let count_now = || {
            let answer = redis.command(&["PUBSUB", "NUMSUB", &channel]);
            redis::from_redis_value::<Vec<(String, usize)>>(answer).unwrap()
        };
        while count_now() != [(channel.clone(), count)] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (one, other) = (place.queue().await, place.queue().await);
    soon(listeners(0)).await;
    let watch = one.events().watch(1);
    soon(listeners(1)).await;
    let mut again = other.events().watch(1);
    soon(listeners(2)).await;
    drop(watch);
    soon(listeners(1)).await;
    soon(again.changed()).await;
    one.events().changed(1);
    soon(again.changed()).await;
}

#[tokio::test]
async fn a_flood_of_changes_tells_everybody_that_everything_changed() {
    let place = Place::in_redis(&crate::server::SHARED);
    let (one, other) = (place.queue().await, place.queue().await);
    let mut watch = other.events().watch(-1);
    // Nothing is sent meanwhile: this test has one thread.
    let events = one.events();
    (0..20_000).for_each(|task| events.changed(task));
    soon(other.gaps()).await;
    soon(watch.changed()).await;
}

#[tokio::test]
async fn hints_nobody_understands_are_a_gap() {
    let redis = &crate::server::SHARED;
    let place = Place::in_redis(redis);
    let queue = place.queue().await;
    let long = "c 1 ".repeat(50_000);
    for message in ["nonsense from afar", "\u{1}", "x c", "x c 1e5", &long] {
        let mut watch = queue.events().watch(1);
        redis.command(&["PUBLISH", &place.key("hints"), message]);
        if message != "x c" && message != "\u{1}" {
            soon(watch.changed()).await;
            soon(queue.gaps()).await;
        }
    }
    let mut watch = queue.events().watch(1);
    redis.command(&["PUBLISH", &place.key("hints"), "x c 1"]);
    soon(watch.changed()).await;
}

#[tokio::test]
async fn a_lost_connection_is_a_gap() {
    let redis = crate::server::Redis::start(&[]);
    let place = Place::in_redis(&redis);
    let (one, other) = (place.queue().await, place.queue().await);
    let mut watch = other.events().watch(1);
    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    soon(other.gaps()).await;
    soon(one.gaps()).await;
    soon(watch.changed()).await;
    soon(other.deliveries()).await;
    one.events().changed(1);
    soon(watch.changed()).await;
    let quiet = tokio::time::timeout(Duration::from_millis(100), other.gaps());
    assert!(quiet.await.is_err());
}
