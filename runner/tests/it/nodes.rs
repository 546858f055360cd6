//! Plugins as nodes in hosts: what goes through them, what becomes of bad ones, and that none is left.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Desk, Said, eventually, processes};

/// The functions of the asyncio library's test graph.
const SEED: &str = r#"
from runner import node, source

@source(version="1.0.0")
def texts(count: int = 3):
    for number in range(count):
        yield f"Text {number}"

@node(version="1.0.0")
def n1(item: str) -> str:
    return item[::-1]

@node(version="1.0.0")
def n2(item: str) -> str:
    return item.upper()

@node(version="1.0.0")
async def n3(item: list, context):
    context.values["seen"] = context.values.get("seen", 0) + 1
    return [one.lower() for one in item]

@n3.setup
def begin(context):
    print(context.name, "begins")

@n3.cleanup
async def end(context):
    print(context.name, "saw", context.values["seen"])
"#;

const GRAPH: &str = "
nodes:
  inp: {use: texts}
  n1: {use: n1, from: inp}
  n2: {use: n2, from: n1}
  third: {use: n3, from: [n1, n2]}
  n4: {use: merge, from: [n2, third]}
  out: {use: sink, with: output, from: n4}
";

/// Nodes that do what none should.
const BAD: &str = r#"
import os, time
from runner import node, source

@node(version="1.0.0")
def dies(item):
    if item == 3:
        os._exit(9)
    return item

@node(version="1.0.0")
def fails(item):
    if item == 3:
        raise ValueError("three")
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
    while item == 3:
        time.sleep(0.05)
    return item

@node(version="1.0.0")
def large(item):
    return "x" * 100_000_000 if item == 3 else item

@node(version="1.0.0")
def strange(item):
    return float("nan") if item == 3 else item

@source(version="1.0.0")
def flood():
    yield "x" * 100_000_000

@source(version="1.0.0")
def silent():
    yield 0
    time.sleep(1000)

@node(version="1.0.0")
def tidy(item):
    return item

@tidy.cleanup
def clean(context):
    print("tidied up")
"#;

pub(crate) fn values(said: &Said) -> Vec<Value> {
    let lines = said.out.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into()))
        .collect()
}

/// Numbers from 0 to 5 through a node; what it made, and what failed.
pub(crate) fn through(desk: &Desk, node: &str, more: &str) -> (Said, Vec<Value>) {
    desk.write(
        "p.yaml",
        &format!(
            "
nodes:
  a: {{use: source, with: {{range: 6}}}}
  n: {{use: {node}, from: a{more}}}
  out: {{use: sink, with: output, from: n}}
  bad: {{use: sink, with: {{file: bad.jsonl}}, from: n.errors}}
"
        ),
    );
    let said = desk.run(["pipeline", "run", "p.yaml"]).ok();
    let bad = std::fs::read_to_string(desk.path("bad.jsonl")).unwrap();
    let bad = bad.lines().map(|line| serde_json::from_str(line).unwrap());
    (said, bad.collect())
}

#[track_caller]
pub(crate) fn none_is_left(module: &str) {
    eventually("no host is left", || processes(module).is_empty());
}

#[test]
fn functions_are_nodes_in_one_host() {
    let desk = Desk::new();
    desk.write("plugins/seed_functions.py", SEED);
    desk.write("p.yaml", GRAPH);
    let said = desk.run(["pipeline", "run", "p.yaml"]).ok();
    let mut made: Vec<String> = values(&said).iter().map(Value::to_string).collect();
    made.sort();
    let expected = [
        r#""0 TXET""#,
        r#""1 TXET""#,
        r#""2 TXET""#,
        r#"["0 txet","0 txet"]"#,
        r#"["1 txet","1 txet"]"#,
        r#"["2 txet","2 txet"]"#,
    ];
    assert_eq!(made, expected);
    assert!(said.err.contains("third begins"), "{}", said.err);
    assert!(said.err.contains("third saw 3"), "{}", said.err);
    none_is_left("seed_functions.py");
    assert!(desk.leftovers().is_empty(), "{:?}", desk.leftovers());
}

#[test]
fn a_pipeline_that_is_a_plugin_is_handed_the_sockets() {
    let desk = Desk::new();
    desk.write("plugins/handed_functions.py", SEED);
    let head = "name: graph\nversion: 1.0.0\n";
    desk.write("plugins/graph.pipeline.yaml", &format!("{head}{GRAPH}"));
    let said = desk
        .run(["plugin", "run", "graph", "--plugin-folders", "plugins"])
        .ok();
    let made = std::fs::read_to_string(desk.path("graph-output/out.jsonl")).unwrap();
    assert_eq!(made.lines().count(), 6, "{made}");
    assert!(said.err.contains("third saw 3"), "{}", said.err);
    none_is_left("handed_functions.py");
}

#[test]
fn what_items_a_node_takes_is_known_before() {
    let desk = Desk::new();
    desk.write("plugins/seed.py", SEED);
    desk.write(
        "p.yaml",
        "nodes: {a: {use: source, with: {range: 3}}, b: {use: n1, from: a}, c: {use: sink, with: output, from: b}}",
    );
    desk.run(["pipeline", "check", "p.yaml"])
        .failed(1, "nodes.b: it takes text, and gets whole numbers");
    desk.write(
        "q.yaml",
        "nodes: {a: {use: source, with: [x]}, b: {use: texts, from: a}, c: {use: sink, with: output, from: b}}",
    );
    desk.run(["pipeline", "run", "q.yaml"]).failed(1, "nodes.b");
}

#[test]
fn an_item_that_goes_wrong_shifts_no_other() {
    let desk = Desk::new();
    desk.write("plugins/bad_items.py", BAD);
    let others = [0, 1, 2, 4, 5].map(Value::from);
    for (node, more, problem) in [
        ("fails", "", "ValueError: three"),
        ("dies", "", "its host ended while it worked on the item"),
        ("dies", ", retry: 2", "exit status 9"),
        ("stuck", ", timeout: 0.5", "it took longer than 0.5 s"),
        ("large", "", "bytes as JSON; an item has at most 16777216"),
        ("strange", "", "what it made is no JSON"),
    ] {
        let (said, bad) = through(&desk, node, more);
        assert_eq!(values(&said), others, "{node}{more}");
        assert_eq!(bad.len(), 1, "{node}{more}: {bad:?}");
        assert_eq!(bad[0]["item"], 3);
        let error = bad[0]["error"].as_str().unwrap();
        assert!(error.contains(problem), "{node}{more}: {error}");
    }
    let (said, bad) = through(&desk, "nothing", "");
    assert!(values(&said).is_empty() && bad.is_empty());
    let (said, bad) = through(&desk, "endless", "");
    assert!(values(&said).is_empty() && bad.len() == 6);
    let error = bad[0]["error"].as_str().unwrap();
    assert!(error.contains("more than 65536 items of one"), "{error}");
    none_is_left("bad_items.py");
}

#[test]
fn a_failure_and_a_source_that_floods_end_the_run_and_nodes_clean_up() {
    let desk = Desk::new();
    desk.write("plugins/bad_runs.py", BAD);
    desk.write(
        "p.yaml",
        "
nodes:
  a: {use: source, with: {range: 6}}
  tidy: {use: tidy, from: a}
  n: {use: fails, from: tidy}
  out: {use: sink, with: output, from: n}
",
    );
    let said = desk.run(["pipeline", "run", "p.yaml"]);
    let said = said.failed(1, "node \"n\" failed: item 3: ValueError: three");
    assert!(said.err.contains("tidied up"), "{}", said.err);
    desk.write(
        "q.yaml",
        "nodes: {a: {use: flood}, out: {use: sink, with: output, from: a}}",
    );
    desk.run(["pipeline", "run", "q.yaml"])
        .failed(1, "what the source made has 100000004 bytes as JSON");
    none_is_left("bad_runs.py");
}

/// The other half of a host without an SDK: it says what it is, and hands its items to `items`.
const LOOP: &str = r#"
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "welcome" and message["params"]["config"].get("items"):
        threading.Thread(target=items, daemon=True).start()
    if "id" in message:
        result = {"protocol": 1, "framing": "lines", "plugins": [plugin]}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"#;

/// Speaks the protocol without an SDK, and answers the first items twice.
const TWICE: &str = r#"#!/usr/bin/env python3
import json, socket, sys, threading

def items():
    connection = socket.socket(fileno=3)
    for line in connection.makefile("r"):
        message = json.loads(line)
        result = {"made": [[item] for item in message["params"].get("items", [])]}
        answer = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}) + "\n"
        connection.sendall(answer.encode() * (2 if message["method"] == "items" else 1))

plugin = {"name": "twice", "version": "1.0.0", "node": {}}
"#;

#[test]
fn a_host_that_answers_what_was_not_asked_is_ended() {
    let desk = Desk::new();
    let path = desk.write_executable("plugins/twice", &format!("{TWICE}{LOOP}"));
    assert!(path.exists());
    desk.write(
        "p.yaml",
        "nodes: {a: {use: source, with: [1]}, b: {use: twice, from: a}, c: {use: sink, with: output, from: b}}",
    );
    desk.run(["pipeline", "run", "p.yaml"])
        .failed(1, "it answered a request that is not open");
    none_is_left("plugins/twice");
}

/// Speaks the protocol without an SDK: a source that goes on after its end, or after it was closed.
const GOES_ON: &str = r#"#!/usr/bin/env python3
import json, socket, sys, threading

def items():
    connection = socket.socket(fileno=3)
    for line in connection.makefile("r"):
        message = json.loads(line)
        def answer(**result):
            text = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})
            return (text + "\n").encode()
        if message["method"] == "pull":
            last = answer(values=[1, 2], end=True)
            connection.sendall(last + answer(values=[3], end=False) if AFTER == "end" else last)
        else:
            connection.sendall(answer() + (answer() if AFTER == message["method"] else b""))

plugin = {"name": NAME, "version": "1.0.0", "node": {"source": True}}
"#;

#[test]
fn what_a_source_makes_after_its_end_is_no_item() {
    let desk = Desk::new();
    for (name, after) in [("late", "end"), ("tardy", "close")] {
        let text = format!("{GOES_ON}{LOOP}").replace("NAME", &format!("{name:?}"));
        let text = text.replace("AFTER", &format!("{after:?}"));
        desk.write_executable(&format!("plugins/{name}"), &text);
    }
    let of = |source: &str| {
        format!("nodes: {{a: {{use: {source}}}, out: {{use: sink, with: output, from: a}}}}")
    };
    desk.write("late.yaml", &of("late"));
    let said = desk.run(["pipeline", "run", "late.yaml"]);
    let said = said.failed(1, "it answered a request that is not open");
    assert!(!said.out.contains('3'), "{}", said.out);
    // Nobody hears it any more.
    desk.write("tardy.yaml", &of("tardy"));
    let said = desk.run(["pipeline", "run", "tardy.yaml"]).ok();
    assert_eq!(said.out, "1\n2\n");
    none_is_left("plugins/late");
    none_is_left("plugins/tardy");
}

#[test]
fn ctrl_c_and_kill_leave_no_host() {
    let desk = Desk::new();
    desk.write("plugins/bad_ends.py", BAD);
    desk.write(
        "p.yaml",
        "nodes: {a: {use: silent}, b: {use: tidy, from: a}, out: {use: sink, with: output, from: b}}",
    );
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut child = desk
            .command(["pipeline", "run", "p.yaml"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "0");
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let ended = child.wait_with_output().unwrap();
        if signal == Signal::SIGINT {
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.success(), "{said}");
        }
        none_is_left("bad_ends.py");
    }
}
