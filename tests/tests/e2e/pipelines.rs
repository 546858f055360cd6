//! Pipelines in a plugin folder.

use runner_tests::Runner;
use runner_tests::scratch::Scratch;
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
