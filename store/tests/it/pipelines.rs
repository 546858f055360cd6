use runner_core::pipeline::{MAX_TAPS, TooManyTaps, Want};
use runner_store::Wished;
use serde_json::json;

use crate::Fixture;
use crate::databases::On;

on_each_database!(
    what_is_seen_is_that_of_the_current_run,
    what_is_wanted_stands_before_the_run_begins_and_stays,
    wishes_have_a_limit_and_a_task,
);

async fn what_is_seen_is_that_of_the_current_run(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let task = fixture.task().await;
    assert_eq!(store.pipeline(task.id).await.unwrap(), None);
    let graph = json!({"nodes": [{"name": "a"}]});
    let write = async |run: i64, sent: u64, is_first: bool| {
        let graph = is_first.then_some(&graph);
        let seen = json!({"sent": sent});
        store
            .write_pipeline(task.id, run, graph, &seen)
            .await
            .unwrap()
    };
    assert!(write(task.run, 1, true).await);
    assert!(write(task.run, 2, false).await);
    assert!(!write(task.run + 1, 3, false).await, "no such run");
    let row = store.pipeline(task.id).await.unwrap().unwrap();
    assert_eq!((row.run, row.version), (task.run, 2));
    assert_eq!(
        (row.graph, row.seen),
        (Some(graph.clone()), Some(json!({"sent": 2})))
    );
    store.delete_task(task.id).await.unwrap();
    assert_eq!(store.pipeline(task.id).await.unwrap(), None);
    assert!(!write(task.run, 4, true).await, "its task is gone");
}

async fn what_is_wanted_stands_before_the_run_begins_and_stays(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let task = fixture.task().await;
    for want in [Want::Pause(Some("a".to_owned())), Want::Drain] {
        let wished = store.want_pipeline(task.id, want).await.unwrap();
        assert!(matches!(wished, Wished::Yes(_)), "{wished:?}");
    }
    let seen = json!({});
    assert!(
        store
            .write_pipeline(task.id, task.run, None, &seen)
            .await
            .unwrap()
    );
    let row = store.pipeline(task.id).await.unwrap().unwrap();
    assert_eq!(row.wanted.version, 2);
    assert!(row.wanted.paused_nodes.contains("a"));
    assert_eq!(row.wanted.drained_run, Some(task.run));
}

async fn wishes_have_a_limit_and_a_task(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let task = fixture.task().await;
    let tap = |number: usize| Want::Tap {
        edge: format!("a->{number}"),
        until: i64::MAX,
    };
    for number in 0..MAX_TAPS {
        store.want_pipeline(task.id, tap(number)).await.unwrap();
    }
    let beyond = store.want_pipeline(task.id, tap(MAX_TAPS)).await.unwrap();
    assert_eq!(beyond, Wished::Refused(TooManyTaps));
    let unknown = store.want_pipeline(task.id + 1, Want::Drain).await.unwrap();
    assert_eq!(unknown, Wished::Unknown);
}
