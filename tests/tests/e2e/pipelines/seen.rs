//! What is drawn and shown of pipelines from outside.

use std::io::BufRead;
use std::time::Duration;

use runner_tests::lines::Lines;
use runner_tests::socket::Socket;
use runner_tests::wait::eventually;
use runner_tests::{Request, Runner, events};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

fn runner() -> Runner {
    Runner::builder().plugins(["stable_plugins/demo"]).start()
}

/// Numbers, so many a second.
fn slow(rate: u64) -> Value {
    json!({"nodes": {
        "numbers": {"use": "source", "with": {"range": 100_000}},
        "slow": {"use": "map", "with": "item", "from": "numbers", "rate": rate},
        "out": {"use": "sink", "with": "output", "from": "slow"},
    }})
}

#[test]
fn a_graph_is_drawn_for_mermaid_and_graphviz() {
    let runner = runner();
    let pipeline = json!({"name": "drawn", "nodes": {
        "a": {"use": "source", "with": [0, 1]},
        "b": {"use": "map", "with": "1 // item", "from": "a"},
        "out": {"use": "sink", "with": "output", "from": "b"},
        "why": {"use": "map", "with": "item.error", "from": "b.errors"},
        "bad": {"use": "sink", "with": "output", "from": "why"},
    }});
    let mut lines = Lines::of(&runner, &pipeline);
    let path = format!("/tasks/{}/pipeline", lines.task());
    let end = lines.rest().pop().expect("an end");
    assert_eq!(end["state"], "succeeded", "{end}");

    let mermaid = runner.get(&format!("{path}?format=mermaid")).expect(200);
    assert_eq!(mermaid.header("Content-Type"), Some("text/vnd.mermaid"));
    let mermaid = mermaid.text();
    assert!(
        mermaid.starts_with("flowchart LR\n  n0[\"a<br>source\"]\n  n1[\"b<br>map\"]\n"),
        "{mermaid}"
    );
    assert!(mermaid.contains("\n  n0 --> n1\n"), "{mermaid}");
    assert!(mermaid.contains("\n  n1 -.->|errors| n3\n"), "{mermaid}");
    let accepting = |kind: &str| runner.send(&Request::get(&path).header("Accept", kind));
    assert_eq!(accepting("text/vnd.mermaid").expect(200).text(), mermaid);
    let dot = accepting("text/vnd.graphviz, */*;q=0.1").expect(200);
    assert_eq!(dot.header("Content-Type"), Some("text/vnd.graphviz"));
    let dot = dot.text();
    assert!(dot.starts_with("digraph \"drawn\" {\n"), "{dot}");
    assert!(
        dot.contains("n1 -> n3 [style=dashed, label=errors];"),
        "{dot}"
    );
    let shown = accepting("application/json").expect(200).json();
    assert_eq!(shown["graph"]["name"], "drawn", "{shown:#}");

    let unknown = runner.get(&format!("{path}?format=svg")).expect(422).text();
    assert!(
        unknown.contains("none of json, mermaid and dot"),
        "{unknown}"
    );
    let plain = runner.submit("hello-world-python@v0-2-1", &[("inputStr", "x")]);
    let none = format!("/tasks/{plain}/pipeline?format=dot");
    runner.get(&none).expect(404);
    let later = json!({"pipeline": slow(1), "_runAt": "2999-01-01T00:00:00Z"});
    let mut later = Lines::of(&runner, &later);
    let path = format!("/tasks/{}/pipeline?format=dot", later.task());
    let unknown = runner.get(&path).expect(409).text();
    assert!(unknown.contains("has not begun"), "{unknown}");
}

#[test]
fn an_edge_is_tapped_over_a_web_socket() {
    let runner = Runner::builder()
        .plugins(["stable_plugins/demo"])
        .env("CORS_ORIGINS", "https://ui.example.org")
        .start();
    let mut lines = Lines::of(&runner, &slow(300));
    let task = lines.task();
    lines.record().expect("an item");
    let tap = |edge: &str| format!("/tasks/{task}/pipeline/tap?edge={edge}");
    let target = tap("numbers-%3Eslow");
    let mut socket = Socket::open(&runner, &target, None).expect("a WebSocket");
    let first = socket.record().expect("a sample");
    assert_eq!(first["event"], "item", "{first}");
    let second = socket.record().expect("another one");
    assert!(
        second["value"].as_u64() > first["value"].as_u64(),
        "{first} {second}"
    );
    assert!(first["lineage"].is_string(), "{first}");

    // Pages have one where they may read.
    let own = runner.base();
    for origin in ["https://ui.example.org", own.trim_end_matches('/')] {
        let mut socket = Socket::open(&runner, &target, Some(origin)).expect("a WebSocket");
        socket.record().expect("a sample");
    }
    let refused = |target: &str, origin| Socket::open(&runner, target, origin).err();
    assert_eq!(refused(&target, Some("https://evil.example")), Some(403));
    assert_eq!(refused(&tap("a-%3Eb"), None), Some(422));

    runner
        .ask("POST", &format!("/tasks/{task}/cancel"), None)
        .expect(200);
    let mut last = second;
    while let Some(record) = socket.record() {
        last = record;
    }
    assert_eq!(
        (&last["event"], &last["state"]),
        (&json!("end"), &json!("cancelled")),
        "{last}"
    );
    assert_eq!(refused(&target, None), Some(409));
}

#[test]
fn who_reads_a_tap_late_is_told_what_it_missed_and_how_the_run_ended() {
    let runner = runner();
    // For some seconds, more than any buffer takes.
    let pipeline = json!({"nodes": {
        "numbers": {"use": "source", "with": {"range": 6_000}},
        "long": {"use": "map", "with": "item ~ 'x' * 15000", "from": "numbers", "rate": 500},
        "count": {"use": "map", "with": "item | length", "from": "long"},
        "out": {"use": "sink", "with": {"file": "lengths.txt"}, "from": "count"},
    }});
    let mut lines = Lines::of(&runner, &pipeline);
    let task = lines.task();
    let target = format!("/tasks/{task}/pipeline/tap?edge=long-%3Ecount");
    eventually("its graph is known", SOON, || {
        let shown = runner.get(&format!("/tasks/{task}/pipeline")).expect(200);
        (!shown.json()["graph"].is_null()).then_some(())
    });
    let tap = events::open(&runner, &target, "", SOON);
    // It ends although nobody reads.
    let end = lines.rest().pop().expect("an end");
    assert_eq!(end["state"], "succeeded", "{end}");
    let mut names = Vec::new();
    for line in tap.lines() {
        let line = line.expect("an event in time");
        if let Some(name) = line.strip_prefix("event: ") {
            names.push(name.to_owned());
            if name == "end" {
                break;
            }
        }
    }
    let count = |wanted: &str| names.iter().filter(|name| *name == wanted).count();
    assert_eq!(count("end"), 1, "{names:?}");
    assert!(count("item") > 0 && count("behind") > 0, "{names:?}");
}
