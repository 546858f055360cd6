//! Nodes that are called: attempts, time, rate, conditions, memory, batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use runner_pipeline::Failure;
use serde_json::json;
use tokio::time::Instant;

use crate::support::{Reply, World};

/// A pipeline of a source, a node and an output.
fn around(node: &str) -> String {
    format!(
        "nodes:
  a: {{use: source, with: {{range: 20}}}}
  f: {{{node}, from: a}}
  out: {{use: sink, with: output, from: f}}
"
    )
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_after_a_growing_while() {
    let tries = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&tries);
    let world = World::default().node("flaky", move |argument| {
        let count = counted.fetch_add(1, Ordering::Relaxed);
        Reply::Now(match argument.item.as_u64() {
            Some(7) if count < 9 => Err(Failure::passing("busy")),
            _ => Ok(vec![argument.item]),
        })
    });
    let start = Instant::now();
    let retry = "use: flaky, retry: {attempts: 5, backoff: 1, factor: 3}";
    let ended = world.run(&around(retry)).await;
    assert_eq!(ended.values().len(), 20);
    let f = &ended.result.unwrap().nodes[1];
    assert_eq!((f.counts.retried, f.counts.failed), (2, 0));
    // Between half and all of 1 s and of 3 s.
    let waited = start.elapsed().as_secs_f64();
    assert!((2.0..=4.1).contains(&waited), "{waited}");

    let world = World::default().node("broken", |argument| match argument.item.as_u64() {
        Some(3) => Reply::Now(Err(Failure::passing("no disk"))),
        _ => Reply::Now(Ok(vec![argument.item])),
    });
    let ended = world.run(&around("use: broken, retry: 3")).await;
    assert_eq!(ended.failure(), "node \"f\" failed: item 3: no disk");
    assert_eq!(ended.control.look().nodes[1].counts.retried, 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_is_given_up() {
    let world = World::default().node("stuck", |argument| match argument.item.as_u64() {
        Some(5) => Reply::Never,
        _ => Reply::Now(Ok(vec![argument.item])),
    });
    let ended = world.run(&around("use: stuck, timeout: 2, retry: 2")).await;
    assert_eq!(
        ended.failure(),
        "node \"f\" failed: item 5: it took longer than 2 s"
    );
    let ended = world
        .run(&around("use: stuck, timeout: 2, errors: skip"))
        .await;
    assert_eq!(ended.values().len(), 19);
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_and_calls_go_on_side_by_side() {
    let world = World::default().node("slow", |argument| {
        Reply::After(Duration::from_secs(1), Ok(vec![argument.item]))
    });
    for (node, seconds) in [
        ("use: slow", 20.0),
        ("use: slow, concurrency: 10", 2.0),
        ("use: slow, concurrency: 10, order: false", 2.0),
        ("use: slow, concurrency: 100, rate: 2", 10.5),
        ("use: map, with: item, rate: 4", 4.75),
    ] {
        let start = Instant::now();
        assert_eq!(world.run(&around(node)).await.values().len(), 20);
        let took = start.elapsed().as_secs_f64();
        assert!((took - seconds).abs() < 0.1, "{node}: {took}");
    }
}

#[tokio::test]
async fn a_condition_lets_others_pass_as_they_are() {
    let world = World::default().node("square", |a| {
        Reply::Now(Ok(vec![json!(a.item.as_u64().unwrap().pow(2))]))
    });
    let ended = world.run(&around("use: square, when: 'item >= 18'")).await;
    let want: Vec<_> = (0..18).chain([324, 361]).map(|n| json!(n)).collect();
    assert_eq!(ended.values(), want);
}

#[tokio::test]
async fn results_are_remembered_by_item_and_arguments() {
    let world = World::default().node("mod", |a| {
        Reply::Now(Ok(vec![json!([a.item, a.with["by"]])]))
    });
    let yaml = "
nodes:
  a: {use: source, with: {range: 100}}
  b: {use: map, with: 'item % 4', from: a}
  f: {use: mod, with: {by: {$expr: 'params.n'}}, cache: 3, from: b}
  g: {use: mod, cache: true, from: b}
  z: {use: zip, from: [f, g]}
  out: {use: sink, with: output, from: z}
";
    let ended = world
        .run_with(yaml, json!({"n": 9}), Default::default())
        .await;
    assert_eq!(ended.values()[7], json!([[3, 9], [3, null]]));
    let seen = ended.result.unwrap();
    let cached = |name| {
        seen.nodes
            .iter()
            .find(|n| n.name == name)
            .unwrap()
            .counts
            .cached
    };
    // Four values do not fit a memory of three that forgets the oldest.
    assert_eq!((cached("f"), cached("g")), (0, 96));
}

#[tokio::test]
async fn items_go_in_batches_and_each_has_its_own_fate() {
    let world = World::default().node("some", |a| match a.item.as_u64() {
        Some(n) if n % 5 == 0 => Reply::Now(Ok(vec![])),
        Some(n) if n % 7 == 0 => Reply::Now(Err(Failure::lasting("seven"))),
        Some(n) => Reply::Now(Ok((0..n % 3).map(|part| json!([n, part])).collect())),
        None => Reply::Panic,
    });
    let ended = world
        .run(&around("use: some, batch: 8, errors: skip"))
        .await;
    let want = (0..20u64).filter(|n| n % 5 != 0 && n % 7 != 0);
    let want: Vec<_> = want
        .flat_map(|n| (0..n % 3).map(move |part| json!([n, part])))
        .collect();
    assert_eq!(ended.values(), want);
    let calls = world.calls.lock().unwrap();
    assert!(
        calls.len() < 20 && calls.iter().all(|size| *size <= 8),
        "{calls:?}"
    );
}

#[tokio::test]
async fn a_node_without_inputs_is_called_once() {
    let world = World::default().node("make", |a| {
        Reply::Now(Ok(vec![a.item, a.with["x"].clone(), json!(3)]))
    });
    let yaml = "
nodes:
  f: {use: make, with: {x: 2}}
  out: {use: sink, with: output, from: f}
";
    let ended = world.run(yaml).await;
    assert_eq!(ended.values(), [json!(null), json!(2), json!(3)]);
    assert_eq!(*world.calls.lock().unwrap(), [1]);
}

#[tokio::test]
async fn a_node_that_panics_or_answers_short_fails_the_run() {
    let world = World::default().node("panics", |_| Reply::Panic);
    let ended = world.run(&around("use: panics")).await;
    assert_eq!(
        ended.failure(),
        "node \"f\" failed: it panicked: out of cheese"
    );
}
