//! Memory is flat however many items there are. Alone in its process, whose memory it looks at.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use runner_pipeline::surroundings::{BuiltinsOnly, Nothing};
use runner_pipeline::{Checked, Format, Graph, Lowering, start};
use serde_json::Map;

/// Items; without optimisation fewer do.
const ITEMS: usize = match cfg!(debug_assertions) {
    true => 300_000,
    false => 10_000_000,
};
/// How much memory may grow after the first batch.
const GROWTH: usize = 32 << 20;

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn memory_is_flat() {
    let yaml = format!(
        "nodes:
  a: {{use: source, with: {{range: {ITEMS}}}}}
  b: {{use: map, with: 'item', from: a}}
  f: {{use: map, with: 'item', from: b, batch: 64, concurrency: 2}}
  g: {{use: map, with: 'item', from: b, concurrency: 4, order: false}}
  z: {{use: zip, from: [f, b, g]}}
  c: {{use: batch, with: 10000, from: z}}
  out: {{use: sink, with: output, from: c}}
"
    );
    for fuses in [false, true] {
        let graph = Graph::from_json(&Format::Yaml.read(&yaml).unwrap()).unwrap();
        let checked = Checked::new(graph, &BuiltinsOnly).unwrap();
        let lowering = Lowering { fuses };
        let (run, mut outputs) = start(&checked, &Map::new(), &Nothing, lowering).unwrap();
        let waiting = tokio::spawn(run.wait());
        let first = outputs.next().await.unwrap();
        let (before, mut items) = (resident(), first.value.as_array().unwrap().len());
        while let Some(made) = outputs.next().await {
            items += made.value.as_array().unwrap().len();
            let now = resident();
            assert!(
                now < before + GROWTH,
                "{now} bytes after {items} items, {before} before"
            );
        }
        waiting.await.unwrap().unwrap();
        assert_eq!(items, ITEMS);
    }
}
