//! Runs from outside: held, drained, cancelled, looked at; and that edges hold them back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use runner_pipeline::{Control, Lowering, RunError};
use serde_json::{Value, json};

use crate::support::{Reply, World, finish};

const ENDLESS: &str = "
nodes:
  a: {use: source, with: {range: 9000000000000}}
  f: {use: work, from: {node: a, bound: 4}, concurrency: 2}
  out: {use: sink, with: output, from: {node: f, bound: 4}}
";

fn world() -> World {
    World::default().node("work", |argument| Reply::Now(Ok(vec![argument.item])))
}

fn sent(control: &Control, node: usize) -> u64 {
    control.look().nodes[node].counts.sent
}

/// Waits until a number does not change any more.
async fn settled(mut number: impl FnMut() -> u64) -> u64 {
    loop {
        let before = number();
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        if number() == before {
            return before;
        }
    }
}

#[tokio::test]
async fn who_does_not_read_holds_the_source_back() {
    for fuses in [true, false] {
        let (run, mut outputs) = world()
            .start_with(ENDLESS, Value::Null, Lowering { fuses })
            .unwrap();
        let control = run.control();
        let waiting = tokio::spawn(run.wait());
        let first = settled(|| sent(&control, 0)).await;
        assert!((4..400).contains(&first), "{first}");
        for _ in 0..500 {
            outputs.next().await.unwrap();
        }
        let second = settled(|| sent(&control, 0)).await;
        assert!((500..first + 600).contains(&second), "{second}");
        let look = control.look();
        assert!(
            look.edges.iter().all(|edge| edge.fill <= edge.bound),
            "{look:?}"
        );
        control.cancel();
        assert_eq!(waiting.await.unwrap().unwrap_err(), RunError::Cancelled);
        while outputs.next().await.is_some() {}
    }
}

#[tokio::test]
async fn a_run_or_a_node_is_held_and_goes_on() {
    let (run, mut outputs) = world().start(ENDLESS);
    let control = run.control();
    let waiting = tokio::spawn(run.wait());
    let reader = tokio::spawn(async move { while outputs.next().await.is_some() {} });
    for held in [None, Some("a"), Some("f"), Some("out")] {
        match held {
            None => control.pause(),
            Some(node) => control.pause_node(node).unwrap(),
        }
        let all = |control: &Control| (0..3).map(|n| sent(control, n)).sum();
        let before: u64 = settled(|| all(&control)).await;
        match held {
            None => control.resume(),
            Some(node) => control.resume_node(node).unwrap(),
        }
        while all(&control) < before + 1_000 {
            tokio::task::yield_now().await;
        }
    }
    let unknown = control.pause_node("x").unwrap_err().to_string();
    assert_eq!(unknown, "there is no node \"x\"; there are a, f, out");
    control.drain();
    let seen = waiting.await.unwrap().unwrap();
    reader.await.unwrap();
    let counts: Vec<_> = seen
        .nodes
        .iter()
        .map(|n| (n.counts.sent, n.counts.is_ended))
        .collect();
    assert!(
        counts.iter().all(|count| *count == counts[0]) && counts[0].1,
        "{counts:?}"
    );
}

#[tokio::test]
async fn a_cancelled_or_dropped_run_leaves_nothing_running() {
    struct Guard(Arc<AtomicU64>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    for cancels in [true, false] {
        let alive = Arc::new(AtomicU64::new(1));
        let guard = Guard(Arc::clone(&alive));
        let world = World::default().node("work", move |_| {
            let _ = &guard;
            Reply::Never
        });
        let (run, outputs) = world.start(ENDLESS);
        drop(world);
        let control = run.control();
        while control.look().nodes[1].counts.in_flight < 2 {
            tokio::task::yield_now().await;
        }
        match cancels {
            true => {
                control.cancel();
                assert_eq!(run.wait().await.unwrap_err(), RunError::Cancelled);
            }
            false => drop(run),
        }
        drop(outputs);
        while alive.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(control.look().nodes[1].counts.in_flight, 0);
    }
}

#[tokio::test]
async fn who_reads_no_more_ends_the_sources() {
    let (run, mut outputs) = world().start(ENDLESS);
    outputs.next().await.unwrap();
    drop(outputs);
    let seen = tokio::time::timeout(Duration::from_secs(20), run.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(
        seen.nodes.iter().all(|node| node.counts.is_ended),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_tap_shows_samples_and_slows_nothing() {
    let yaml = "
nodes:
  a: {use: source, with: {range: 100000}}
  f: {use: filter, with: 'item < 0', from: a}
  out: {use: sink, with: output, from: f}
";
    let (run, outputs) = world().start(yaml);
    let control = run.control();
    let mut samples = control.tap("a", "f").unwrap();
    let unknown = control.tap("a", "b").unwrap_err().to_string();
    assert_eq!(
        unknown,
        "there is no edge a -> b; there are a -> f, f -> out"
    );
    let ended = finish(run, outputs).await;
    assert_eq!(ended.values(), Vec::<Value>::new());
    let mut seen = Vec::new();
    while let Ok(item) = samples.try_recv() {
        assert_eq!(item.value, Some(json!(item.lineage.path().next())));
        seen.push(item.lineage);
    }
    assert!(
        (2..=64).contains(&seen.len()) && seen.is_sorted(),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_look_tells_counts_fill_and_latency() {
    let world = World::default().node("work", |argument| {
        Reply::After(Duration::from_millis(3), Ok(vec![argument.item]))
    });
    let yaml = ENDLESS.replace("9000000000000", "40");
    let (run, outputs) = world.start(&yaml);
    let ended = finish(run, outputs).await;
    let look = serde_json::to_value(ended.result.unwrap()).unwrap();
    let f = &look["nodes"][1];
    assert_eq!(
        (&f["received"], &f["sent"], &f["isEnded"]),
        (&json!(40), &json!(40), &json!(true))
    );
    let p50 = f["latency"]["p50"].as_f64().unwrap();
    assert!((0.003..0.1).contains(&p50), "{p50}");
    let edge = &look["edges"][0];
    assert_eq!(
        (&edge["sent"], &edge["bound"], &edge["isFused"]),
        (&json!(40), &json!(4), &json!(false))
    );
}
