//! How fast the engine is, beside its limits: `cargo run --release -p runner-pipeline --example pipeline_rates`.
//!
//! Prints items for each second of wall and of CPU time of the seed's test graph, of one trivial
//! node over an edge between two tasks, and of that edge and tokio's channel alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use runner_pipeline::edge::{Received, edge};
use runner_pipeline::surroundings::{BuiltinsOnly, Nothing};
use runner_pipeline::{Checked, Graph, Item, Lineage, Lowering, Outputs, Run, RunError, start};
use serde_json::{Map, Value, json};

/// What the seed does on its test graph, in items for each second of CPU time (Python 3.11).
const SEED: f64 = 17_000.0;
/// Items of the seed's test.
const ITEMS: usize = 20_000;
/// Items of the other measurements.
const MANY: usize = 2_000_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build();
    runtime.expect("a runtime").block_on(measure());
}

async fn measure() {
    let mut best: f64 = 0.0;
    for _ in 0..20 {
        let rates = rates("", ITEMS, run(seed(ITEMS), true)).await;
        best = best.max(rates);
    }
    println!(
        "seed's test graph, {ITEMS} items, fused: {best:.0} per CPU second, {:.0} times the seed",
        best / SEED
    );
    let unfused = rates("", ITEMS, run(seed(ITEMS), false)).await;
    println!(
        "the same, each node a task: {unfused:.0} per CPU second, {:.0} times the seed",
        unfused / SEED
    );
    for (what, with) in [
        ("map", "item"),
        ("filter by a comparison", "item >= 0"),
        ("filter by an expression", "item + 1 > 0"),
    ] {
        let uses = what.split(' ').next().unwrap_or_default();
        for fuses in [true, false] {
            let kind = if fuses { "fused" } else { "over edges" };
            rates(
                &format!("{what}, {kind}"),
                MANY,
                run(trivial(uses, with), fuses),
            )
            .await;
        }
    }
    rates("an edge alone", MANY, bare_edge()).await;
    rates("tokio's channel alone", MANY, bare_channel()).await;
}

/// Does the work; prints items for each second of wall and CPU time, and gives the latter.
async fn rates(what: &str, items: usize, work: impl Future<Output = ()>) -> f64 {
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    work.await;
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let (per_wall, per_cpu) = (items as f64 / wall, items as f64 / cpu);
    if !what.is_empty() {
        println!("{what}: {per_wall:.0} items/s, {per_cpu:.0} per CPU second");
    }
    per_cpu
}

/// Seconds that all threads of this process have worked.
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let nanoseconds: f64 = tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<f64>().ok())
        .sum();
    nanoseconds / 1e9
}

/// The seed's test graph: n1 reverses, n2 makes upper case, n3 lower case of both, n4 takes all.
fn seed(items: usize) -> Value {
    let texts: Vec<Value> = (0..items).map(|n| json!(format!("Text {n}"))).collect();
    json!({
        "nodes": {
            "inp": {"coro": "source", "args": [texts]},
            "n1": {"coro": "map", "args": ["item | reverse"]},
            "n2": {"coro": "map", "args": ["item | upper"]},
            "n3": {"coro": "map", "args": ["[item[0] | lower, item[1] | lower]"]},
            "n4": {"coro": "merge", "properties": {"aggregate_inputs": false}},
        },
        "graph": {"inp": ["n1"], "n1": ["n2", "n3"], "n2": ["n3", "n4"], "n3": ["n4"], "n4": null},
    })
}

fn trivial(uses: &str, with: &str) -> Value {
    json!({"nodes": {
        "a": {"use": "source", "with": {"range": MANY}},
        "b": {"use": uses, "with": with, "from": {"node": "a", "bound": 1024}},
        "c": {"use": "batch", "with": 10_000, "from": {"node": "b", "bound": 1024}},
        "d": {"use": "sink", "with": "output", "from": "c"},
    }})
}

fn run(graph: Value, fuses: bool) -> impl Future<Output = ()> {
    let graph = Graph::from_json(&graph).expect("a graph");
    let checked = Checked::new(graph, &BuiltinsOnly).expect("a graph that can run");
    async move {
        let (run, outputs): (Run, Outputs) =
            start(&checked, &Map::new(), &Nothing, Lowering { fuses }).expect("a run");
        let reading = async move {
            let mut outputs = outputs;
            while outputs.next().await.is_some() {}
        };
        let (ended, ()): (Result<_, RunError>, ()) = tokio::join!(run.wait(), reading);
        ended.expect("the run ends well");
    }
}

async fn bare_edge() {
    let (sender, mut receiver) = edge(1024, Arc::default());
    let sending = tokio::spawn(async move {
        let (mut next, mut items) = (0, VecDeque::new());
        while next < MANY as u64 {
            let some = (next..next + 256).map(|n| Item::new(Lineage::new(n), Value::from(n)));
            items.extend(some);
            next += 256;
            while !items.is_empty() {
                let room = std::future::poll_fn(|cx| sender.poll_room(cx)).await;
                if room.is_err() || sender.push(&mut items).is_err() {
                    return;
                }
            }
        }
        sender.end();
    });
    let mut items = VecDeque::new();
    while matches!(
        receiver.take(1024, &mut items).await,
        Ok(Received::Items(_))
    ) {
        items.clear();
    }
    let _ = sending.await;
}

async fn bare_channel() {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1024);
    let sending = tokio::spawn(async move {
        for number in 0..MANY as u64 {
            let item = Item::new(Lineage::new(number), Value::from(number));
            if sender.send(item).await.is_err() {
                return;
            }
        }
    });
    while receiver.recv().await.is_some() {}
    let _ = sending.await;
}
