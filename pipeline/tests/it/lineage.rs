//! What is paired belongs together: joins under latency, failures, filters, in any order.

use proptest::prelude::*;
use runner_pipeline::{Failure, Lowering};
use serde_json::{Value, json};

use crate::support::{Reply, World, jittered};

fn even_fails(argument: runner_pipeline::Argument) -> Reply {
    match argument.item.as_u64() {
        Some(n) if n % 2 == 0 => Reply::Now(Err(Failure::lasting(format!("{n} is even")))),
        _ => jittered(argument),
    }
}

fn world() -> World {
    World::default()
        .node("slow", jittered)
        .node("odd", even_fails)
}

/// The seed's test graph: n1 reverses, n2 makes upper case, n3 lower case of both, n4 takes all.
const SEED: &str = r"
nodes:
  inp: {coro: source, args: [[abc, Xyz]]}
  n1: {coro: map, args: ['item | reverse']}
  n2: {coro: map, args: ['item | upper']}
  n3: {coro: map, args: ['[item[0] | lower, item[1] | lower]']}
  n4: {coro: merge, properties: {aggregate_inputs: false}}
graph: {n4: null, n3: [n4], n2: [n3, n4], n1: [n2, n3], inp: [n1]}
";

#[tokio::test]
async fn the_test_graph_of_the_seed() {
    for fuses in [true, false] {
        let ended = world()
            .run_with(SEED, Value::Null, Lowering { fuses })
            .await;
        let mut values = ended.values();
        values.sort_by_key(Value::to_string);
        let want = [
            json!("CBA"),
            json!("ZYX"),
            json!(["cba", "cba"]),
            json!(["zyx", "zyx"]),
        ];
        assert_eq!(values, want);
    }
}

#[tokio::test]
async fn zip_pairs_by_origin_whatever_the_latency_and_the_order() {
    for (order, left) in [(true, 1), (false, 16)] {
        let yaml = format!(
            "nodes:
  a: {{use: source, with: {{range: 300}}}}
  f: {{use: slow, from: a, concurrency: {left}, order: {order}}}
  g: {{use: slow, from: a, concurrency: 8, order: {order}, batch: 3}}
  z: {{use: zip, from: [a, f, g]}}
  out: {{use: sink, with: output, from: z}}
"
        );
        let mut values = world().run(&yaml).await.values();
        if !order {
            values.sort_by_key(|tuple| tuple[0].as_u64());
        }
        let want: Vec<_> = (0..300).map(|n| json!([n, n, n])).collect();
        assert_eq!(values, want);
    }
}

#[tokio::test]
async fn a_failed_or_filtered_item_shifts_no_other() {
    let yaml = "
nodes:
  a: {use: source, with: {range: 200}}
  f: {use: odd, from: a, concurrency: 4, errors: skip}
  g: {use: filter, with: 'item % 3 == 0', from: a}
  z: {use: zip, from: [f, g, a]}
  out: {use: sink, with: output, from: z}
";
    let ended = world().run(yaml).await;
    let want: Vec<_> = (0..200)
        .filter(|n| n % 2 == 1 && n % 3 == 0)
        .map(|n| json!([n, n, n]))
        .collect();
    assert_eq!(ended.values(), want);
    let seen = ended.result.unwrap();
    let f = seen.nodes.iter().find(|node| node.name == "f").unwrap();
    assert_eq!(
        (f.counts.received, f.counts.sent, f.counts.failed),
        (200, 100, 100)
    );
    assert_eq!(f.counts.last_error.as_deref(), Some("198 is even"));
}

#[tokio::test]
async fn failed_items_take_the_edge_for_errors() {
    let yaml = "
nodes:
  a: {use: source, with: {range: 6}}
  f: {use: odd, from: a}
  m: {use: map, with: '6 // (item - 3)', from: f}
  bad: {use: merge, from: [f.errors, m.errors]}
  out: {use: sink, with: output, from: m}
  errors: {use: sink, with: {file: errors.jsonl}, from: bad}
";
    let world = world();
    let ended = world.run(yaml).await;
    assert_eq!(ended.values(), [json!(-3), json!(3)]);
    let errors = world.read("errors.jsonl").unwrap();
    let mut items: Vec<Value> = errors
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    items.sort_by_key(|item| item["item"].as_u64());
    let found: Vec<_> = items
        .iter()
        .map(|e| (e["item"].clone(), e["node"].clone()))
        .collect();
    let f = |n: u64| (json!(n), json!("f"));
    assert_eq!(found, [f(0), f(2), (json!(3), json!("m")), f(4)]);
    assert_eq!(items[0]["error"], "0 is even");
}

#[tokio::test]
async fn key_joins_what_has_the_same_value() {
    let yaml = "
nodes:
  people: {use: source, with: {list: [{id: 1, n: Ada}, {id: 2, n: Bob}, {id: 3, n: Cy}]}}
  marks: {use: source, with: {list: [{id: 3, m: c}, {id: 9, m: x}, {id: 1, m: a}]}}
  j: {use: map, with: '[item[0].n, item[1].m]', from: [people, marks], join: {key: item.id}}
  out: {use: sink, with: output, from: j}
";
    let ended = world().run(yaml).await;
    let mut values = ended.values();
    values.sort_by_key(Value::to_string);
    assert_eq!(values, [json!(["Ada", "a"]), json!(["Cy", "c"])]);
    let seen = ended.result.unwrap();
    assert_eq!(
        seen.nodes
            .iter()
            .find(|n| n.name == "j")
            .unwrap()
            .counts
            .unpaired,
        2
    );
}

#[tokio::test]
async fn parts_keep_their_origin() {
    let yaml = "
nodes:
  a: {use: source, with: {list: [[1, 2], [], [3]]}}
  parts: {use: flatten, from: a}
  twice: {use: map, with: 'item * 2', from: parts}
  z: {use: zip, from: [parts, twice]}
  out: {use: sink, with: output, from: z}
";
    let ended = world().run(yaml).await;
    assert_eq!(
        ended.values(),
        [json!([1, 2]), json!([2, 4]), json!([3, 6])]
    );
    let lineages: Vec<_> = ended
        .made
        .iter()
        .map(|made| made.lineage.to_string())
        .collect();
    assert_eq!(lineages, ["0.0", "0.1", "2.0"]);
}

#[tokio::test]
async fn two_sources_end_with_the_shorter() {
    let yaml = "
nodes:
  a: {use: source, with: {range: 5}}
  b: {use: source, with: {range: 9000000000}}
  z: {use: zip, from: [a, b]}
  out: {use: sink, with: output, from: z}
";
    for fuses in [true, false] {
        let ended = world()
            .run_with(yaml, Value::Null, Lowering { fuses })
            .await;
        assert_eq!(ended.values().len(), 5);
        let seen = ended.result.unwrap();
        assert!(seen.nodes[1].counts.sent < 1_000, "{:?}", seen.nodes[1]);
    }
}

#[tokio::test]
async fn batches_hold_so_many_and_the_rest() {
    let yaml = "
nodes:
  a: {use: source, with: {range: 7}}
  f: {use: filter, with: 'item != 3', from: a}
  b: {use: batch, with: 4, from: f}
  out: {use: sink, with: output, from: b}
";
    assert_eq!(
        world().run(yaml).await.values(),
        [json!([0, 1, 2, 4]), json!([5, 6])]
    );
}

/// What a random node does, and to which of the nodes before it it listens.
fn node() -> impl Strategy<Value = (usize, Vec<usize>)> {
    (0..5usize, proptest::collection::vec(0..100usize, 1..4))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Random graphs of maps, filters and zips give the same fused and not, with any bound, and
    /// what a model says that looks at one origin after the other.
    #[test]
    fn graphs_do_as_the_model_says(
        nodes in proptest::collection::vec(node(), 1..8),
        bound in 1..9usize,
        fuses: bool,
    ) {
        let (mut text, mut model) = (String::new(), vec![(0, Vec::new())]);
        for (number, (kind, from)) in nodes.iter().enumerate() {
            let mut from: Vec<usize> = from.iter().map(|n| n % (number + 1)).collect();
            from.sort_unstable();
            from.dedup();
            let edges: Vec<_> =
                from.iter().map(|n| format!("{{node: n{n}, bound: {bound}}}")).collect();
            let uses = match kind {
                0 => "{use: map, with: item",
                1 => "{use: filter, with: 'item is not number or item % 3 != 1'",
                2 => "{use: slow",
                3 => "{use: slow, concurrency: 3, order: false",
                _ => "{use: slow, concurrency: 3",
            };
            text.push_str(&format!("  n{}: {uses}, from: [{}]}}\n", number + 1, edges.join(", ")));
            model.push((*kind, from));
        }
        let last = model.len() - 1;
        let heard: std::collections::HashSet<usize> =
            model.iter().flat_map(|(_, from)| from.clone()).collect();
        let loose: Vec<_> = (0..=last).filter(|n| !heard.contains(n)).collect();
        let yaml = format!(
            "nodes:\n  n0: {{use: source, with: {{range: 40}}}}\n{text}  \
             all: {{use: merge, from: {loose}}}\n  out: {{use: sink, with: output, from: all}}\n",
            loose = json!(loose.iter().map(|n| format!("n{n}")).collect::<Vec<_>>()),
        );
        let mut want = Vec::new();
        for origin in 0..40u64 {
            let mut values: Vec<Option<Value>> = vec![Some(json!(origin))];
            for (kind, from) in &model[1..] {
                let inputs: Option<Vec<Value>> = from.iter().map(|n| values[*n].clone()).collect();
                let joined = inputs.map(|mut inputs| match inputs.len() {
                    1 => inputs.remove(0),
                    _ => Value::Array(inputs),
                });
                values.push(joined.filter(|value| match value.as_u64() {
                    Some(n) if *kind == 1 => n % 3 != 1,
                    _ => true,
                }));
            }
            want.extend(loose.iter().filter_map(|n| values[*n].clone()));
        }
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().unwrap();
        let lowering = Lowering { fuses };
        let ended = runtime.block_on(world().run_with(&yaml, Value::Null, lowering));
        let mut values = ended.values();
        values.sort_by_key(Value::to_string);
        want.sort_by_key(Value::to_string);
        prop_assert_eq!(values, want, "{}", yaml);
    }
}
