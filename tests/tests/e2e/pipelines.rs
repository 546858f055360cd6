//! Pipelines in a plugin folder, and those that come with requests.

mod bad_input;
mod given;
mod seen;

use std::time::Duration;

use runner_tests::http::Request;
use runner_tests::scratch::Scratch;
use runner_tests::{Runner, proc, wait};
use serde_json::Value;

const SQUARES: &str = "
name: squares
version: 1.0.0
title: Squares
parameters:
  type: object
  properties:
    count: {type: integer, minimum: 1, maximum: 1000000, title: How many}
  required: [count]
nodes:
  numbers: {use: source, with: {range: {$expr: params.count}}}
  squares: {use: map, with: 'item * item', from: numbers}
  hello: {use: hello-world-python, with: {inputStr: {$expr: \"'input ' ~ item\"}}, from: few}
  few: {use: filter, with: 'item < 2', from: numbers}
  texts: {use: map, with: item.text, from: hello}
  out: {use: sink, with: {file: squares.txt}, from: squares}
  said: {use: sink, with: output, from: texts}
";

#[test]
fn a_pipeline_has_identity_form_and_operation_and_runs_as_a_task() {
    let folder = Scratch::new();
    folder.file("squares.pipeline.yaml", SQUARES);
    folder.file("settings.yaml", "a: 1\n");
    let runner = Runner::builder()
        .plugins([folder.path()])
        .plugins(["stable_plugins/demo"])
        .env("CONCURRENCY", 1)
        .start();
    let plugin = runner.get("/plugins/squares@1-0-0/").expect(200).json();
    assert_eq!(
        (&plugin["name"], &plugin["title"]),
        (&"squares".into(), &"Squares".into())
    );
    let form = runner.get("/plugins/squares@1-0-0/ui/").expect(200).text();
    assert!(form.contains("How many"), "{form}");
    let document = runner.get("/api-spec.json").expect(200).text();
    assert!(document.contains("/plugins/squares@1-0-0/process/"));

    let task = runner.run_well("squares@1-0-0", &[("count", "3")]);
    assert_eq!(runner.output(&task, "squares.txt"), b"0\n1\n4\n");
    let said = String::from_utf8(runner.output(&task, "said.jsonl")).expect("text");
    assert_eq!(said, "\"output 0\"\n\"output 1\"\n");
    let log: Value = task["log"].clone();
    assert!(
        log.as_str()
            .is_some_and(|log| log.contains("numbers: 3 in, 3 out")),
        "{log}"
    );
}

const FUNCTIONS: &str = r#"
import time
from runner import node, source

@source(version="1.0.0")
def numbers(to: int):
    yield from range(min(to, 3))
    while to > 3:
        print("they wait")
        time.sleep(1000)

@node(version="1.0.0")
async def squared(item: int) -> int:
    return item * item

@squared.cleanup
def end(context):
    print(context.name, "cleaned up")
"#;

const HOSTED: &str = "
name: hosted
version: 1.0.0
parameters: {type: object, properties: {to: {type: integer}}, required: [to]}
nodes:
  numbers: {use: numbers, with: {to: {$expr: params.to}}}
  squares: {use: squared, from: numbers}
  out: {use: sink, with: {file: squares.txt}, from: squares}
";

#[test]
fn nodes_of_a_task_work_in_hosts_of_their_own_and_end_with_it() {
    let folder = Scratch::new();
    folder.file("hosted_functions.py", FUNCTIONS);
    folder.file("hosted.pipeline.yaml", HOSTED);
    let runner = Runner::builder()
        .plugins([folder.path()])
        .env("CONCURRENCY", 1)
        // The one that described the module leaves soon.
        .env("HOST_IDLE", 0.7)
        .start();
    let hosts = || {
        let mut pids = proc::descendants(runner.pid());
        pids.retain(|pid| proc::command(*pid).contains("hosted_functions.py"));
        pids
    };
    let task = runner.run_well("hosted@1-0-0", &[("to", "3")]);
    assert_eq!(runner.output(&task, "squares.txt"), b"0\n1\n4\n");
    let log = task["log"].as_str().unwrap_or_default();
    assert!(log.contains("squares cleaned up"), "{log}");

    let endless = runner.submit("hosted@1-0-0", &[("to", "4")]);
    runner.wait_for(endless, "waits in its source", |task| {
        let log = task["log"].as_str();
        log.is_some_and(|log| log.contains("they wait"))
    });
    assert!(!hosts().is_empty());
    runner
        .send(&Request::post(&format!("/tasks/{endless}/cancel")))
        .expect(200);
    wait::eventually("no host of a node is left", Duration::from_secs(20), || {
        hosts().is_empty().then_some(())
    });
    // The slot is free again.
    runner.run_well("hosted@1-0-0", &[("to", "2")]);
}

const FILES: &str = r#"
from runner import node

@node(version="1.0.0")
def louder(item: dict, context):
    with open(item["path"]) as file:
        text = file.read()
    return context.file("louder.txt", text.upper(), data_type="custom/text")
"#;

#[test]
fn files_are_carried_from_tasks_to_nodes_and_become_outputs() {
    let folder = Scratch::new();
    folder.file("carried_functions.py", FILES);
    folder.file(
        "carried.pipeline.yaml",
        "
version: 1.0.0
nodes:
  words: {use: source, with: [one, two]}
  said: {use: hello-world-python, with: {inputStr: {$expr: item}}, from: words}
  once: {use: louder, from: said}
  twice: {use: louder, from: once}
  out: {use: sink, with: output, from: twice}
",
    );
    let runner = Runner::builder()
        .plugins([folder.path()])
        .plugins(["stable_plugins/demo"])
        .start();
    let task = runner.run_well("carried@1-0-0", &[]);
    let outputs = task["outputs"].as_array().expect("outputs");
    assert_eq!(outputs.len(), 2, "{task:#}");
    for output in outputs {
        assert_eq!(output["name"], "louder.txt");
        assert_eq!(output["dataType"], "custom/text");
    }
    let mut texts: Vec<Vec<u8>> = Vec::new();
    for output in outputs {
        let href = output["href"].as_str().expect("a link");
        texts.push(runner.get(&runner.path_of(href)).expect(200).body);
    }
    texts.sort();
    assert_eq!(texts, [b"ONE".to_vec(), b"TWO".to_vec()]);
}
