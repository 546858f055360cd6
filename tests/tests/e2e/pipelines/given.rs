//! Pipelines that come with their requests.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use runner_tests::lines::{Lines, values};
use runner_tests::proc::descendants;
use runner_tests::scratch::Scratch;
use runner_tests::wait::eventually;
use runner_tests::{Request, Runner};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);

/// Numbers, so many a second.
fn slow(count: u64, rate: u64) -> Value {
    json!({"nodes": {
        "numbers": {"use": "source", "with": {"range": count}},
        "slow": {"use": "map", "with": "item", "from": "numbers", "rate": rate},
        "out": {"use": "sink", "with": "output", "from": "slow"},
    }})
}

fn post(runner: &Runner, body: &Value) -> (u16, String) {
    let answer = runner.ask("POST", "/pipelines/", Some(body));
    (answer.status, answer.text())
}

fn sent(pipeline: &Value, node: &str) -> u64 {
    let nodes = pipeline["seen"]["nodes"].as_array().into_iter().flatten();
    let mut nodes = nodes.filter(|seen| seen["name"] == node);
    nodes
        .next()
        .map_or(0, |node| node["sent"].as_u64().unwrap_or(0))
}

#[test]
fn the_outputs_of_a_pipeline_are_streamed_back_in_both_shapes() {
    let runner = Runner::builder().plugins(["stable_plugins/demo"]).start();
    let ours = json!({
        "pipeline": {
            "parameters": {"type": "object", "properties": {"least": {"type": "integer", "default": 2}}},
            "nodes": {
                "words": {"use": "source", "with": {"list": ["a", "bc", "def"]}},
                "long": {"use": "filter", "with": "item | length >= params.least", "from": "words"},
                "said": {"use": "hello-world-python", "with": {"inputStr": {"$expr": "item"}}, "from": "long"},
                "texts": {"use": "map", "with": "item.text", "from": "said"},
                "out": {"use": "sink", "with": "output", "from": "texts"},
            },
        },
        "parameters": {"least": 3},
        "_label": ["mine"],
    });
    let mut lines = Lines::of(&runner, &ours);
    let task = lines.task();
    let records = lines.rest();
    assert_eq!(values(&records), [json!("def")], "{records:?}");
    let end = records.last().expect("an end");
    assert_eq!(
        (&end["event"], &end["state"]),
        (&json!("end"), &json!("succeeded"))
    );
    assert_eq!(end["items"], json!({"out": 1}));
    let shown = runner.task(task);
    assert_eq!(shown["labels"], json!(["mine"]), "{shown:#}");
    assert_eq!(runner.output(&shown, "out.jsonl"), b"\"def\"\n");

    let seed = json!({
        "nodes": {
            "inp": {"coro": "source", "args": [["abc", "Xyz"]]},
            "n1": {"coro": "map", "args": ["item | reverse"]},
            "n2": {"coro": "map", "args": ["item | upper"]},
            "n3": {"coro": "map", "args": ["item | join('+') | lower"]},
            "n4": {"coro": "merge", "properties": {"aggregate_inputs": false}},
        },
        "graph": {"inp": ["n1"], "n1": ["n2", "n3"], "n2": ["n3", "n4"], "n3": ["n4"], "n4": null},
    });
    let mut lines = Lines::of(&runner, &seed);
    lines.task();
    let mut made: Vec<String> = values(&lines.rest())
        .iter()
        .map(ToString::to_string)
        .collect();
    made.sort();
    assert_eq!(made, ["\"CBA\"", "\"ZYX\"", "\"cba+cba\"", "\"zyx+zyx\""]);

    let yaml =
        "nodes:\n  a: {use: source, with: [1, 2]}\n  b: {use: sink, with: output, from: a}\n";
    let bearer = format!("Bearer {}", runner.token());
    let request = Request::post("/pipelines/")
        .header("Authorization", &bearer)
        .header("Accept", "text/event-stream")
        .body("application/yaml", yaml);
    let events = runner.send(&request).expect(200).text();
    assert!(
        events.contains("event: item\ndata: {\"node\":\"b\",\"number\":1,\"value\":2}\n\n"),
        "{events}"
    );
    // It is no plugin that anybody sees.
    let plugins = runner.get("/plugins/").expect(200).text();
    assert!(!plugins.contains("pipeline"), "{plugins}");
}

/// A node that makes files, and a plugin that is called with some.
const FILES: &str = r#"
from runner import Data, node, plugin

@node(version="1.0.0")
def written(item: str, context):
    return context.file(f"{item}.txt", item, data_type="custom/text")

@plugin(version="1.0.0")
def louder(task, file: Data("custom/text", "text/plain")):
    assert file.name == f"{file.read_text()}.txt", file.name
    task.output("out.txt", file.read_text().upper(), data_type="custom/text", content_type="text/plain")
"#;

#[test]
fn a_file_of_a_node_is_given_to_a_plugin_that_is_called() {
    let folder = Scratch::new();
    folder.file("files_given.py", FILES);
    let runner = Runner::builder().plugins([folder.path()]).start();
    let nodes = |url: &str| {
        json!({"nodes": {
            "letters": {"use": "source", "with": ["a", "b"]},
            "written": {"use": "written", "from": "letters"},
            "louder": {"use": "louder", "with": {"file": {"$expr": url}}, "from": "written"},
            "texts": {"use": "map", "with": "item.text", "from": "louder"},
            "out": {"use": "sink", "with": "output", "from": "texts"},
        }})
    };
    let run = |url: &str| {
        let mut lines = Lines::of(&runner, &nodes(url));
        let task = lines.task();
        (task, lines.rest())
    };
    let (task, records) = run("item.url");
    assert_eq!(values(&records), [json!("A"), json!("B")], "{records:?}");
    // The called task has the file by itself: it can be run again when the pipeline is gone.
    let called = runner.task(task + 1);
    assert_eq!(called["state"], "succeeded", "{called:#}");
    // Another file of the machine, or of the pipeline's folders that is not there.
    for url in [
        "'file:///etc/hostname'",
        "item.url ~ '-missing'",
        "item.url | replace('item-', '../../../../../../etc/item-')",
    ] {
        let (_, records) = run(url);
        let end = records.last().expect("an end");
        assert_eq!(end["state"], "failed", "{url}: {records:?}");
    }
}

#[test]
fn items_are_told_while_it_runs_and_it_can_be_held_and_drained() {
    let runner = Runner::builder().plugins(["stable_plugins/demo"]).start();
    let mut lines = Lines::of(&runner, &slow(100_000, 200));
    let task = lines.task();
    let first = lines.record().expect("an item");
    assert_eq!((&first["number"], &first["value"]), (&json!(0), &json!(0)));
    let path = format!("/tasks/{task}/pipeline");
    let look = || runner.get(&path).expect(200).json();
    eventually("it is seen", SOON, || {
        (sent(&look(), "slow") > 10).then_some(())
    });
    let shown = look();
    assert_eq!(shown["graph"]["nodes"][1]["name"], "slow", "{shown:#}");
    assert_eq!(shown["seen"]["edges"][0]["from"], "numbers", "{shown:#}");

    let begin = Instant::now();
    runner
        .ask("POST", &format!("{path}/pause"), None)
        .expect(200);
    eventually("it is held", SOON, || {
        (look()["seen"]["isPaused"] == true).then_some(())
    });
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    let held = sent(&look(), "slow");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(sent(&look(), "slow"), held, "it goes on while it is held");
    runner
        .ask("POST", &format!("{path}/resume"), None)
        .expect(200);
    eventually("it goes on", SOON, || {
        (sent(&look(), "slow") > held).then_some(())
    });

    let node = json!({"node": "slow"});
    runner
        .ask("POST", &format!("{path}/pause"), Some(&node))
        .expect(200);
    let is_held = |shown: &Value| {
        shown["seen"]["nodes"][1]["isPaused"] == true
            || shown["seen"]["nodes"][1]["is_paused"] == true
    };
    eventually("the node is held", SOON, || is_held(&look()).then_some(()));
    runner
        .ask("POST", &format!("{path}/resume"), Some(&node))
        .expect(200);
    let unknown = runner.ask(
        "POST",
        &format!("{path}/pause"),
        Some(&json!({"node": "nose"})),
    );
    let unknown = unknown.expect(422).text();
    assert!(unknown.contains("slow"), "which nodes there are: {unknown}");

    runner
        .ask("POST", &format!("{path}/drain"), None)
        .expect(200);
    let records = lines.rest();
    let end = records.last().expect("an end");
    assert_eq!(end["state"], "succeeded", "{end}");
    let count = end["items"]["out"].as_u64().expect("a number");
    assert!(count > 10 && count < 100_000, "{count}");
    assert_eq!(values(&records).len() as u64 + 1, count, "none is missing");
    assert_eq!(sent(&look(), "slow"), count, "the last numbers stay");
    runner
        .ask("POST", &format!("{path}/pause"), None)
        .expect(409);
    let metrics = runner.ask("GET", "/metrics", None).expect(200).text();
    assert!(
        metrics.contains("runner_pipeline_items_total{"),
        "{metrics}"
    );
}

#[test]
fn an_edge_is_tapped_and_the_events_of_its_task_tell_what_is_seen() {
    let runner = Runner::builder().plugins(["stable_plugins/demo"]).start();
    let mut lines = Lines::of(&runner, &slow(100_000, 300));
    let task = lines.task();
    lines.record().expect("an item");
    let target = format!("/tasks/{task}/pipeline/tap?edge=numbers-%3Eslow");
    let mut tap = runner_tests::events::open(&runner, &target, "", SOON);
    let read = |stream: &mut std::io::BufReader<std::net::TcpStream>, wanted: &str| {
        let mut line = String::new();
        while !line.starts_with(wanted) {
            line.clear();
            let size = std::io::BufRead::read_line(stream, &mut line).expect("an event in time");
            assert!(size > 0, "it ended before {wanted}");
        }
    };
    read(&mut tap, "event: item");
    read(&mut tap, "data: {\"lineage\":");
    let mut events =
        runner_tests::events::open(&runner, &format!("/tasks/{task}/events"), "", SOON);
    read(&mut events, "event: pipeline");
    let none = runner.get(&format!("/tasks/{task}/pipeline/tap?edge=a-%3Eb"));
    let none = none.expect(422).text();
    assert!(
        none.contains("numbers->slow"),
        "which edges there are: {none}"
    );
    runner
        .ask("POST", &format!("/tasks/{task}/cancel"), None)
        .expect(200);
    read(&mut tap, "event: end");
    let end = lines.rest().pop().expect("an end");
    assert_eq!(end["state"], "cancelled", "{end}");
}

#[test]
fn a_client_that_goes_away_ends_its_pipeline_and_one_that_does_not_wait_does_not() {
    let runner = Runner::builder().plugins(["stable_plugins/demo"]).start();
    let mut lines = Lines::of(&runner, &slow(100_000, 100));
    let task = lines.task();
    lines.record().expect("an item");
    drop(lines);
    let ended = runner.finished(task);
    assert_eq!(ended["state"], "cancelled", "{ended:#}");

    let bearer = format!("Bearer {}", runner.token());
    let request = |body: &Value| {
        let request = Request::post("/pipelines/").header("Authorization", &bearer);
        request
            .header("Prefer", "respond-async")
            .header("Idempotency-Key", "k")
            .json(body)
    };
    let task = runner.accepted(&runner.send(&request(&slow(20, 100))));
    assert_eq!(
        runner.accepted(&runner.send(&request(&slow(20, 100)))),
        task
    );
    runner.send(&request(&slow(21, 100))).expect(409);
    let ended = runner.successful(runner.finished(task));
    assert_eq!(
        runner
            .output(&ended, "out.jsonl")
            .split(|byte| *byte == b'\n')
            .count(),
        21
    );
}

#[test]
fn a_client_that_goes_away_before_it_is_answered_leaves_nothing_that_runs() {
    let runner = Runner::builder().plugins(["stable_plugins/demo"]).start();
    let bearer = format!("Bearer {}", runner.token());
    let request = Request::post("/pipelines/")
        .header("Authorization", &bearer)
        .json(&slow(100_000, 100));
    let bytes = request.to_bytes(runner.address());
    // At every stage of a request, which takes some milliseconds.
    for patience in 0..40 {
        let mut stream = TcpStream::connect(runner.address()).expect("a connection");
        stream.write_all(&bytes).expect("a request");
        std::thread::sleep(Duration::from_micros(250 * patience));
        drop(stream);
    }
    let unfinished = || runner.get("/tasks/?status=PENDING").expect(200).json()["tasks"].take();
    eventually("all have ended", SOON, || {
        (unfinished() == json!([])).then_some(())
    });
    let made = runner.get("/tasks/").expect(200).json()["tasks"].take();
    assert_ne!(made, json!([]), "some were made");
}

#[test]
fn a_client_that_reads_late_gets_all_and_holds_nobody_up() {
    let runner = Runner::builder().plugins(["stable_plugins/demo"]).start();
    let count = 400_000_u64;
    let pipeline = json!({"nodes": {
        "numbers": {"use": "source", "with": {"range": count}},
        "long": {"use": "map", "with": "item ~ ' and some more text, so that no buffer has all of it'", "from": "numbers"},
        "out": {"use": "sink", "with": "output", "from": "long"},
    }});
    let mut lines = Lines::of(&runner, &pipeline);
    let task = lines.task();
    // It ends although nobody reads.
    runner.successful(runner.finished(task));
    let records = lines.rest();
    let behind: Vec<_> = records
        .iter()
        .filter(|record| record["event"] == "behind")
        .collect();
    assert_eq!(behind.len(), 1, "what a client missed is said: {behind:?}");
    assert_eq!(behind[0]["node"], "out");
    let missed = behind[0]["number"].as_u64();
    assert!(missed.is_some_and(|first| first < count), "{behind:?}");
    let items: Vec<_> = records
        .iter()
        .filter(|record| record["event"] == "item")
        .collect();
    assert_eq!(items.len() as u64, count);
    let in_order = items
        .iter()
        .zip(0..)
        .all(|(item, number)| item["number"] == number);
    assert!(in_order);
}

#[test]
fn what_cannot_be_run_is_refused_with_its_place_and_leaves_nothing() {
    let runner = Runner::builder()
        .plugins(["stable_plugins/demo"])
        .env("HOST_IDLE", 0.7)
        .start();
    let of = |nodes: Value| json!({ "nodes": nodes });
    let cases = [
        (json!({"nodes": 7}), "nodes"),
        (json!({"pipeline": "a: [", "parameters": {}}), "pipeline"),
        (json!({"pipeline": {"nodes": {}}, "more": 1}), "more"),
        (
            of(
                json!({"a": {"use": "nothing-like-it", "from": "b"}, "b": {"use": "source", "with": [1]}}),
            ),
            "nothing-like-it",
        ),
        (
            of(json!({"a": {"use": "map", "with": "item", "from": "a"}})),
            "a",
        ),
        (
            of(
                json!({"a": {"use": "source", "with": [1]}, "b": {"use": "map", "with": "item +", "from": "a"}}),
            ),
            "nodes.b",
        ),
        (
            of(json!({"a": {"use": "pipeline", "from": "b"}, "b": {"use": "source", "with": [1]}})),
            "pipeline",
        ),
    ];
    for (body, place) in cases {
        let (status, text) = post(&runner, &body);
        assert_eq!(status, 422, "{body}: {text}");
        assert!(text.contains(place), "{place} in {text}");
    }
    let bearer = format!("Bearer {}", runner.token());
    let bomb: String = (0..9)
        .map(|n| {
            format!(
                "a{n}: &a{n} [{}]\n",
                vec![
                    if n == 0 {
                        "lol".to_owned()
                    } else {
                        format!("*a{}", n - 1)
                    };
                    9
                ]
                .join(",")
            )
        })
        .collect();
    for yaml in [bomb.as_str(), "a: &a [*a]\nnodes: *a\n"] {
        let request = Request::post("/pipelines/").header("Authorization", &bearer);
        runner
            .send(&request.body("application/yaml", yaml))
            .expect(422);
    }
    let nodes: serde_json::Map<String, Value> = (0..10_001)
        .map(|n| (format!("n{n}"), json!({"use": "source", "with": [1]})))
        .collect();
    let (status, text) = post(&runner, &json!({ "nodes": nodes }));
    assert!(matches!(status, 413 | 422), "{status}: {text}");
    // A file of this machine is nobody's business.
    let file = of(
        json!({"a": {"use": "source", "with": {"lines": "/etc/passwd"}}, "b": {"use": "sink", "with": "output", "from": "a"}}),
    );
    let mut lines = Lines::of(&runner, &file);
    lines.task();
    let end = lines.rest().pop().expect("an end");
    assert_eq!(end["state"], "failed", "{end}");
    assert!(
        end["log"]
            .as_str()
            .is_some_and(|log| log.contains("reads URLs, not files")),
        "{end}"
    );
    // Without a token nobody runs code, also where nobody is asked who he is.
    let open = runner.post_json("/pipelines/", &slow(1, 1));
    open.expect(401);
    let hosts = || descendants(runner.pid()).len();
    // The launcher stays.
    eventually("no host is left", SOON, || (hosts() <= 1).then_some(()));
}

#[test]
fn expressions_without_end_and_sinks_that_fail_end_the_run_and_say_why() {
    let runner = Runner::builder().plugins(["stable_plugins/demo"]).start();
    let run = |node: Value| {
        let mut lines = Lines::of(
            &runner,
            &json!({"nodes": {
                "a": {"use": "source", "with": [1, 2]},
                "b": node,
                "out": {"use": "sink", "with": "output", "from": "b"},
            }}),
        );
        lines.task();
        lines.rest().pop().expect("an end")
    };
    let endless = run(
        json!({"use": "map", "with": "range(100000) | map('string') | join | length", "from": "a"}),
    );
    assert_eq!(endless["state"], "failed", "{endless}");
    let mut lines = Lines::of(
        &runner,
        &json!({"nodes": {
            "a": {"use": "source", "with": [1, 2]},
            "bad": {"use": "sink", "with": {"file": "no/such/folder.txt"}, "from": "a"},
        }}),
    );
    lines.task();
    let end = lines.rest().pop().expect("an end");
    assert_eq!(end["state"], "failed", "{end}");
    assert!(
        end["log"]
            .as_str()
            .is_some_and(|log| log.contains("without folders")),
        "{end}"
    );
}
