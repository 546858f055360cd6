//! Pipelines on a worker of its own.

use std::time::{Duration, Instant};

use runner_tests::lines::{Lines, values};
use runner_tests::scratch::Scratch;
use runner_tests::wait::eventually;
use serde_json::{Value, json};

use crate::audit;
use crate::site::Site;

#[test]
fn a_pipeline_that_is_sent_runs_on_a_worker_and_is_seen_and_held_from_the_server() {
    let site = Site::postgres();
    let server = site.server();
    let worker = site.worker();
    let pipeline = json!({"nodes": {
        "numbers": {"use": "source", "with": {"range": 100_000}},
        "slow": {"use": "map", "with": "item", "from": "numbers", "rate": 200},
        "out": {"use": "sink", "with": "output", "from": "slow"},
    }});
    let mut lines = Lines::of(&server, &pipeline);
    let task = lines.task();
    let first = lines.record().expect("an item while it runs");
    assert_eq!(
        (&first["event"], &first["value"]),
        (&json!("item"), &json!(0))
    );
    let path = format!("/tasks/{task}/pipeline");
    let look = || server.get(&path).expect(200).json();
    let soon = Duration::from_secs(10);
    let is_paused = |shown: &Value, paused: bool| shown["seen"]["isPaused"] == paused;
    eventually("it is seen", soon, || {
        is_paused(&look(), false).then_some(())
    });
    let begin = Instant::now();
    server
        .ask("POST", &format!("{path}/pause"), None)
        .expect(200);
    eventually("it is held", soon, || {
        is_paused(&look(), true).then_some(())
    });
    let took = begin.elapsed();
    assert!(
        took < Duration::from_millis(1500),
        "it was held after {took:?}"
    );
    server
        .ask("POST", &format!("{path}/resume"), None)
        .expect(200);
    eventually("it goes on", soon, || {
        is_paused(&look(), false).then_some(())
    });
    server
        .ask("POST", &format!("{path}/drain"), None)
        .expect(200);
    let records = lines.rest();
    let end = records.last().expect("an end");
    assert_eq!(end["state"], "succeeded", "{end}");
    let count = end["items"]["out"].as_u64().expect("a number");
    assert_eq!(values(&records).len() as u64 + 1, count, "none is missing");
    audit::queue_is_empty(&site);
    audit::end(server, vec![worker]);
}

const FUNCTIONS: &str = r#"
from runner import node

@node(version="1.0.0")
async def louder(item: dict, context):
    with open(item["path"]) as file:
        yield context.file("louder.txt", file.read().upper(), data_type="custom/text")
    yield context.name
"#;

#[test]
fn a_pipeline_of_a_plugin_folder_has_its_node_hosts_on_a_worker() {
    let folder = Scratch::new();
    folder.file("wide_functions.py", FUNCTIONS);
    folder.file(
        "wide.pipeline.yaml",
        "
version: 1.0.0
nodes:
  words: {use: source, with: [one, two]}
  said: {use: hello-world-python, with: {inputStr: {$expr: item}}, from: words}
  louder: {use: louder, from: said}
  out: {use: sink, with: output, from: louder}
",
    );
    let mut site = Site::postgres();
    site.plugins.push(folder.path().to_owned());
    let server = site.server();
    let worker = site.worker();
    let task = server.run_well("wide@1-0-0", &[]);
    assert_eq!(
        server.output(&task, "out.jsonl"),
        b"\"louder\"\n\"louder\"\n"
    );
    let text = server.output(&task, "louder.txt");
    assert!([&b"ONE"[..], b"TWO"].contains(&&text[..]), "{text:?}");
    audit::queue_is_empty(&site);
    audit::end(server, vec![worker]);
}
