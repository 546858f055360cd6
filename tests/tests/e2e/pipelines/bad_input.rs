//! Pipelines and nodes that try to be too much: each gets a clear error, and leaves nothing behind.

use std::time::Duration;

use runner_tests::lines::{Lines, values};
use runner_tests::proc::descendants;
use runner_tests::scratch::Scratch;
use runner_tests::wait::eventually;
use runner_tests::{Request, Runner};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

/// Nodes that do what none should.
const BAD: &str = r#"
import os, time
from runner import node, source

@node(version="1.0.0")
def dies(item):
    if item == 1:
        os._exit(9)
    return item

@node(version="1.0.0")
def nothing(item):
    return None

@node(version="1.0.0")
def endless(item):
    while True:
        yield item

@node(version="1.0.0")
def stuck(item):
    while item == 1:
        time.sleep(0.05)
    return item

@node(version="1.0.0")
def large(item):
    return "x" * 100_000_000 if item == 1 else item

@source(version="1.0.0")
def flood():
    yield "x" * 100_000_000

@source(version="1.0.0")
def none():
    yield from ()

@source(version="1.0.0")
def for_ever():
    number = 0
    while True:
        yield number
        number += 1

@source(version="1.0.0")
def silent():
    yield 0
    time.sleep(1000)
"#;

fn runner(folder: &Scratch) -> Runner {
    Runner::builder()
        .plugins([folder.path()])
        .env("CONCURRENCY", 1)
        .env("HOST_IDLE", 0.7)
        .start()
}

/// No process is left but the launcher.
#[track_caller]
fn none_is_left(runner: &Runner) {
    eventually("no host is left", SOON, || {
        (descendants(runner.pid()).len() <= 1).then_some(())
    });
}

/// What became of a pipeline: all records, the last of which is its end.
#[track_caller]
fn run(runner: &Runner, nodes: Value) -> Vec<Value> {
    let mut lines = Lines::of(runner, &json!({ "nodes": nodes }));
    lines.task();
    let records = lines.rest();
    let end = records.last().expect("an end");
    assert_eq!(end["event"], "end", "{end}");
    records
}

/// Numbers to 2 through a node.
fn through(mut node: Value) -> Value {
    node["from"] = json!("a");
    json!({
        "a": {"use": "source", "with": {"range": 3}},
        "n": node,
        "out": {"use": "sink", "with": "output", "from": "n"},
    })
}

/// What a source makes.
fn made_by(source: &str) -> Value {
    json!({"a": {"use": source}, "out": {"use": "sink", "with": "output", "from": "a"}})
}

#[test]
fn nodes_that_die_flood_or_hang_fail_their_item_or_their_run() {
    let folder = Scratch::new();
    folder.file("bad_nodes.py", BAD);
    let runner = runner(&folder);
    for (node, problem) in [
        (
            json!({"use": "dies"}),
            "its host ended while it worked on the item",
        ),
        (
            json!({"use": "endless"}),
            "it made more than 65536 items of one",
        ),
        (
            json!({"use": "stuck", "timeout": 0.5}),
            "it took longer than 0.5 s",
        ),
        (
            json!({"use": "large"}),
            "bytes as JSON; an item has at most 16777216",
        ),
        (
            json!({"use": "map", "with": "'x' * 100000000"}),
            "takes too long or makes too much",
        ),
        (
            json!({"use": "map", "with": "range(100000) | map('string') | join | length"}),
            "node \"n\" failed: item 0: ",
        ),
    ] {
        let end = run(&runner, through(node.clone())).pop().expect("an end");
        assert_eq!(end["state"], "failed", "{node}: {end}");
        let log = end["log"].as_str().unwrap_or_default();
        assert!(log.contains("node \"n\" failed: item "), "{node}: {log}");
        assert!(log.contains(problem), "{node}: {log}");
        // Where failed items are left out, the others come.
        let mut node = node;
        node["errors"] = json!("skip");
        let is_one = ["dies", "stuck", "large"]
            .map(Value::from)
            .contains(&node["use"]);
        let records = run(&runner, through(node.clone()));
        let end = records.last().expect("an end");
        assert_eq!(end["state"], "succeeded", "{node}: {end}");
        let others = if is_one {
            vec![json!(0), json!(2)]
        } else {
            Vec::new()
        };
        assert_eq!(values(&records), others, "{node}");
    }
    let records = run(&runner, through(json!({"use": "nothing"})));
    assert_eq!(records.last().expect("an end")["state"], "succeeded");
    assert!(values(&records).is_empty(), "{records:?}");
    none_is_left(&runner);
}

#[test]
fn sources_that_make_nothing_too_much_or_no_end() {
    let folder = Scratch::new();
    folder.file("bad_sources.py", BAD);
    let runner = runner(&folder);
    let records = run(&runner, made_by("none"));
    let end = records.last().expect("an end");
    assert_eq!(
        (&end["state"], &end["items"]),
        (&json!("succeeded"), &json!({"out": 0}))
    );
    let end = run(&runner, made_by("flood")).pop().expect("an end");
    assert_eq!(end["state"], "failed", "{end}");
    let log = end["log"].as_str().unwrap_or_default();
    assert!(
        log.contains("what the source made has 100000004 bytes as JSON"),
        "{log}"
    );

    // One without end is drained, and one that says nothing any more is cancelled.
    for (source, verb, state) in [
        ("for-ever", "pipeline/drain", "succeeded"),
        ("silent", "cancel", "cancelled"),
    ] {
        let nodes = made_by(source);
        let mut lines = Lines::of(&runner, &json!({ "nodes": nodes }));
        let task = lines.task();
        lines.record().expect("an item");
        runner
            .ask("POST", &format!("/tasks/{task}/{verb}"), None)
            .expect(200);
        let end = lines.rest().pop().expect("an end");
        assert_eq!(end["state"], state, "{source}: {end}");
    }
    none_is_left(&runner);
}

/// YAML that is small and would be large.
fn bomb() -> String {
    let mut text = String::from("version: 1.0.0\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    text
}

/// So many nodes in a row.
fn chain(count: usize) -> String {
    let mut text = String::from("version: 1.0.0\nnodes:\n  n0: {use: source, with: [1]}\n");
    for number in 1..count - 1 {
        let before = number - 1;
        text.push_str(&format!(
            "  n{number}: {{use: map, with: item + 1, from: n{before}}}\n"
        ));
    }
    let last = count - 2;
    text.push_str(&format!(
        "  out: {{use: sink, with: output, from: n{last}}}\n"
    ));
    text
}

#[test]
fn bombs_and_graphs_that_are_too_large_or_contain_themselves_are_no_plugins() {
    let folder = Scratch::new();
    folder.file("bomb.pipeline.yaml", bomb());
    folder.file(
        "recursive.pipeline.yaml",
        "version: 1.0.0\nnodes: &a {a: *a}\n",
    );
    folder.file("many.pipeline.yaml", chain(10_001));
    folder.file(
        "own.pipeline.yaml",
        "version: 1.0.0\nnodes: {a: {use: own}, b: {use: sink, with: output, from: a}}\n",
    );
    folder.file("most.pipeline.yaml", chain(10_000));
    let runner = runner(&folder);
    runner.wait_for_plugins();
    for (name, problem) in [
        ("bomb", "not valid as Yaml: "),
        ("recursive", "not valid as Yaml: "),
        ("many", "nodes: 10001 are more than the limit of 10000"),
        ("own", "nodes.a: \"own\" contains itself"),
    ] {
        let module = runner.module(name).to_string();
        let module = module.replace("\\\"", "\"");
        assert!(module.contains(problem), "{problem:?} in {module}");
        runner.get(&format!("/plugins/{name}@1-0-0/")).expect(404);
    }
    let number = runner.submit("most@1-0-0", &[]);
    let task = runner.successful(runner.finished(number));
    assert_eq!(runner.output(&task, "out.jsonl"), b"9999\n");
    let path = format!("/tasks/{number}/pipeline");
    let shown = runner.get(&path).expect(200).json();
    assert!(shown["graph"]["omitted"].is_u64());
    let drawn = runner.get(&format!("{path}?format=dot"));
    let drawn = drawn.expect(200).text();
    assert!(drawn.contains("nodes and edges are left out"));
    none_is_left(&runner);
}

#[test]
fn bombs_in_requests_are_refused() {
    let folder = Scratch::new();
    let runner = runner(&folder);
    let bearer = format!("Bearer {}", runner.token());
    for yaml in [bomb().as_str(), "nodes: &a {a: *a}\n"] {
        let request = Request::post("/pipelines/").header("Authorization", &bearer);
        let refused = runner.send(&request.body("application/yaml", yaml));
        let refused = refused.expect(422).text();
        assert!(refused.contains("not valid as Yaml: "), "{refused}");
        let inner = json!({ "pipeline": yaml });
        let refused = runner.ask("POST", "/pipelines/", Some(&inner));
        let refused = refused.expect(422).text();
        assert!(refused.contains("not valid as Yaml: "), "{refused}");
    }
    none_is_left(&runner);
}

#[test]
fn pipelines_that_come_to_themselves_through_others_are_stopped() {
    let folder = Scratch::new();
    for (name, other) in [("ping", "pong"), ("pong", "ping")] {
        folder.file(
            &format!("{name}.pipeline.yaml"),
            format!(
                "version: 1.0.0\nnodes: {{a: {{use: {other}}}, b: {{use: sink, with: output, from: a}}}}\n"
            ),
        );
    }
    let runner = runner(&folder);
    let log = runner.run_badly("ping@1-0-0", &[]);
    assert!(log.contains("more than 16 deep"), "{log}");
    let pending = runner.get("/tasks/?status=PENDING").expect(200).json();
    assert_eq!(pending["tasks"], json!([]), "{pending:#}");
    none_is_left(&runner);
}

#[test]
fn a_client_that_does_not_read_is_cut_and_ends_its_pipeline() {
    let folder = Scratch::new();
    let runner = Runner::builder()
        .plugins([folder.path()])
        .env("CLIENT_TIMEOUT", 1)
        .env("HOST_IDLE", 0.7)
        .start();
    let mut lines = Lines::of(
        &runner,
        &json!({"nodes": {
            "numbers": {"use": "source", "with": {"range": 9_000_000_000_000_u64}},
            "long": {"use": "map", "with": "item ~ 'x' * 2000", "from": "numbers", "rate": 5000},
            "out": {"use": "sink", "with": "output", "from": "long"},
        }}),
    );
    let task = lines.task();
    lines.record().expect("an item");
    let ended = runner.finished(task);
    assert_eq!(ended["state"], "cancelled", "{ended:#}");
    none_is_left(&runner);
    drop(lines);
}
