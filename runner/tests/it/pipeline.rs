//! `runner pipeline`: what is told, where things go, how it ends.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::Desk;

/// Fails for even numbers, and makes a file of others.
const ODD: &str = r#"
from runner import Integer, plugin

@plugin(version="1.0.0")
def odd(task, n: Integer()):
    if n % 2 == 0:
        raise ValueError(f"{n} is even")
    task.output("odd.txt", str(n), data_type="custom/odd")
"#;

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let desk = Desk::new();
    for (name, text, place, problem) in [
        ("a.yaml", "nodes: {}", "nodes", "there are no nodes"),
        (
            "b.json",
            r#"{"nodes": {"a": {"use": "source", "with": [1]}, "b": {"use": "sink", "with": "output", "from": "c"}}}"#,
            "nodes.b.from",
            "there is no node \"c\"",
        ),
        (
            "c.toml",
            "[nodes]\na = {use = \"source\", with = [1]}\nb = {use = \"frob\", from = \"a\"}\n",
            "nodes.b.use",
            "there is neither a built-in nor a plugin \"frob\"",
        ),
    ] {
        desk.write(name, text);
        let said = desk
            .run(["pipeline", "check", name, "--json"])
            .failed(1, problem);
        let document = said.json();
        assert_eq!(
            (&document["place"], &document["valid"]),
            (&Value::from(place), &Value::from(false))
        );
        desk.run(["pipeline", "run", name]).failed(1, problem);
    }
    desk.write("d.yaml", "a: &a [*a]\n");
    desk.run(["pipeline", "check", "d.yaml"])
        .failed(1, "d.yaml: not valid as Yaml: ");
    desk.write("e.txt", "");
    desk.run(["pipeline", "graph", "e.txt"])
        .failed(1, "its name ends in .yaml, .json or .toml");
    desk.run(["pipeline", "graph", "f.yaml"])
        .failed(1, "cannot read f.yaml");
}

#[test]
fn documents_that_are_or_become_too_large_are_refused() {
    let desk = Desk::new();
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    let mut many = String::from("nodes:\n");
    for number in 0..10_001 {
        many.push_str(&format!("  n{number}: {{use: source, with: [1]}}\n"));
    }
    let long = "#".repeat((4 << 20) + 1);
    for (name, text, problem) in [
        ("bomb.yaml", &bomb, "bomb.yaml: not valid as Yaml: "),
        ("many.yaml", &many, "10001 are more than the limit of 10000"),
        ("long.yaml", &long, "the document has 4194305 bytes"),
    ] {
        desk.write(name, text);
        for verb in ["check", "run", "graph"] {
            desk.run(["pipeline", verb, name]).failed(1, problem);
        }
    }
}

#[test]
fn what_becomes_too_large_or_does_not_end_fails_its_item() {
    let desk = Desk::new();
    desk.write(
        "long.jsonl",
        &format!("1\n\"{}\"\n", "x".repeat(100_000_000)),
    );
    for (source, value, problem) in [
        (
            "{jsonLines: long.jsonl}",
            "item",
            "node \"a\" failed: long.jsonl, line 2: it has more than 16777216 bytes",
        ),
        (
            "{range: 2}",
            "'x' * 100000000",
            "takes too long or makes too much",
        ),
        (
            "{range: 2}",
            "range(100000) | map('string') | join | length",
            "node \"b\" failed: item 0: ",
        ),
    ] {
        let value = Value::from(value);
        desk.write(
            "p.yaml",
            &format!(
                "
nodes:
  a: {{use: source, with: {source}}}
  b: {{use: map, with: {value}, from: a}}
  c: {{use: sink, with: {{file: out.txt}}, from: b}}
"
            ),
        );
        desk.run(["pipeline", "run", "p.yaml"]).failed(1, problem);
        assert!(!desk.path("out.txt").exists(), "{source} {value}");
    }
}

#[test]
fn a_sink_that_fails_ends_what_would_not_end() {
    let desk = Desk::new();
    for file in ["no/such/folder.txt", "plugins"] {
        desk.write(
            "p.yaml",
            &format!(
                "
nodes:
  a: {{use: source, with: {{range: 9000000000000}}}}
  out: {{use: sink, with: {{file: {file}}}, from: a}}
"
            ),
        );
        desk.run(["pipeline", "run", "p.yaml"]).failed(1, file);
    }
    assert!(desk.leftovers().is_empty(), "{:?}", desk.leftovers());
}

#[test]
fn a_failure_is_told_and_leaves_no_file() {
    let desk = Desk::new();
    desk.write(
        "p.yaml",
        "
parameters: {type: object, properties: {n: {type: integer}}, required: [n]}
nodes:
  a: {use: source, with: {range: 100}}
  b: {use: map, with: '1 // (item - params.n)', from: a}
  c: {use: sink, with: {file: out.txt}, from: b}
",
    );
    desk.run(["pipeline", "run", "p.yaml"])
        .failed(1, "Missing data for required field.");
    let said = desk.run(["pipeline", "run", "p.yaml", "-p", "n=50", "--json"]);
    let said = said.failed(1, "node \"b\" failed: item 50: ");
    let last: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    assert_eq!(last["run"]["state"], "failed");
    assert_eq!(last["run"]["seen"]["nodes"][1]["failed"], 1);
    let files = std::fs::read_dir(desk.path(".")).unwrap();
    let names: Vec<_> = files.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().contains("out")),
        "{names:?}"
    );
    desk.run(["pipeline", "run", "p.yaml", "-p", "n=-1"]).ok();
    let lines = std::fs::read_to_string(desk.path("out.txt")).unwrap();
    assert_eq!(lines.lines().count(), 100);
}

#[test]
fn plugins_are_nodes_and_their_files_are_placed() {
    let desk = Desk::new();
    desk.write("plugins/odd.py", ODD);
    desk.write(
        "p.yaml",
        "
nodes:
  a: {use: source, with: {range: 5}}
  f: {use: odd, with: {n: {$expr: item}}, from: a, concurrency: 3}
  out: {use: sink, with: output, from: f}
  bad: {use: map, with: '[item.item, item.error]', from: f.errors}
  errors: {use: sink, with: {file: errors.jsonl}, from: bad}
",
    );
    let said = desk
        .run(["pipeline", "run", "p.yaml", "--output", "files"])
        .ok();
    let items = said
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let items: Vec<Value> = items.collect();
    assert_eq!(items[0]["path"], "files/odd.txt");
    assert_eq!(
        (&items[0]["text"], &items[0]["dataType"]),
        (&"1".into(), &"custom/odd".into())
    );
    assert_eq!(items.len(), 2);
    assert_eq!(
        std::fs::read_to_string(desk.path("files/odd-2.txt")).unwrap(),
        "3"
    );
    let errors = std::fs::read_to_string(desk.path("errors.jsonl")).unwrap();
    let errors: Vec<Value> = errors
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let even: Vec<_> = errors
        .iter()
        .map(|error| error[0].as_u64().unwrap())
        .collect();
    assert_eq!(even, [0, 2, 4]);
    assert!(
        errors[1][1].as_str().unwrap().contains("2 is even"),
        "{errors:?}"
    );
    assert!(desk.leftovers().is_empty(), "{:?}", desk.leftovers());
}

#[test]
fn ctrl_c_drains_and_a_second_one_cancels() {
    let desk = Desk::new();
    let endless = "
nodes:
  a: {use: source, with: {range: 9000000000000}}
  b: {use: map, with: item, from: a, rate: RATE}
  c: {use: sink, with: output, from: b}
";
    for (rate, signals, code) in [("200", 1, 0), ("2", 2, 130)] {
        desk.write("p.yaml", &endless.replace("RATE", rate));
        let mut child = desk
            .command(["pipeline", "run", "p.yaml"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        // When the second item comes, many wait behind it.
        for item in ["0", "1"] {
            assert_eq!(lines.next().unwrap().unwrap(), item);
        }
        let pid = Pid::from_raw(child.id().cast_signed());
        kill(pid, Signal::SIGINT).unwrap();
        assert!(said.next().unwrap().unwrap().starts_with("sources end"));
        if signals == 2 {
            kill(pid, Signal::SIGINT).unwrap();
        }
        // What was on its way has come, in its order, and nothing is missing.
        let rest: Vec<u64> = lines.map(|line| line.unwrap().parse().unwrap()).collect();
        assert!(
            rest.iter().copied().eq(2..2 + rest.len() as u64),
            "{rest:?}"
        );
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(rest.len() < 2_000);
    }
}

#[test]
fn nobody_reading_on_ends_the_run() {
    let desk = Desk::new();
    desk.write(
        "p.yaml",
        "
nodes:
  a: {use: source, with: {range: 9000000000000}}
  c: {use: sink, with: output, from: a}
",
    );
    let runner = env!("CARGO_BIN_EXE_runner");
    let script = format!("{runner} pipeline run p.yaml | head -n 2; echo ${{PIPESTATUS[0]}}");
    let output = desk.other("bash", ["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n1\n0\n");
}

/// Counts words that are long enough, and has another plugin look at odd numbers.
const MODULE: &str = "
name: words
version: 1.2.0
title: Long words
parameters:
  type: object
  properties:
    file: {type: string, format: uri, title: Text, x-data: {dataType: '*', contentType: [text/plain]}}
    least: {type: integer, default: 3, minimum: 1}
  required: [file]
nodes:
  lines: {use: source, with: {lines: {$expr: params.file}}}
  words: {use: flatten, with: 'item | split', from: lines}
  long: {use: filter, with: 'item | length >= params.least', from: words}
  out: {use: sink, with: output, from: long}
  all: {use: sink, with: {file: all.txt}, from: words}
";

#[test]
fn a_pipeline_in_a_folder_is_a_plugin() {
    let desk = Desk::new();
    desk.write("plugins/words.pipeline.yaml", MODULE);
    desk.write("plugins/data.yaml", "a: 1\n");
    desk.write("text.txt", "to be or not\nthat is\n");
    let list = desk.run(["plugin", "list", "--json"]).ok().out;
    assert!(
        list.contains("words@1-2-0") && !list.contains("data"),
        "{list}"
    );
    let shown = desk.run(["plugin", "show", "words", "--json"]).ok().out;
    assert!(
        shown.contains("Long words") && shown.contains("out.jsonl"),
        "{shown}"
    );

    let run = ["plugin", "run", "words", "--input", "file=text.txt"];
    let said = desk.run(run.into_iter().chain(["-p", "least=3"])).ok();
    assert!(said.err.contains("long: 6 in, 2 out"), "{said:#?}");
    let read = |name: &str| std::fs::read_to_string(desk.path("words-output").join(name)).unwrap();
    assert_eq!(read("out.jsonl"), "\"not\"\n\"that\"\n");
    assert_eq!(read("all.txt"), "to\nbe\nor\nnot\nthat\nis\n");
    let said = desk.run(run.into_iter().chain(["-p", "least=0"]));
    said.failed(1, "least");
}

#[test]
fn a_pipeline_calls_plugins_and_others_like_it() {
    let desk = Desk::new();
    desk.write("plugins/odd.py", ODD);
    desk.write(
        "plugins/inner.pipeline.toml",
        "
version = \"1.0.0\"
[nodes]
a = {use = \"source\", with = {range = 4}}
f = {use = \"odd\", with = {n = {\"$expr\" = \"item\"}}, from = \"a\", errors = \"skip\"}
t = {use = \"map\", with = \"item.text\", from = \"f\"}
out = {use = \"sink\", with = \"output\", from = \"t\"}
",
    );
    desk.write(
        "plugins/outer.pipeline.json",
        r#"{"version": "1.0.0", "nodes": {
            "inner": {"use": "inner"},
            "lines": {"use": "flatten", "with": "item.text | lines", "from": "inner"},
            "out": {"use": "sink", "with": {"file": "out.txt"}, "from": "lines"}}}"#,
    );
    desk.run(["plugin", "run", "outer"]).ok();
    let text = std::fs::read_to_string(desk.path("outer-output/out.txt")).unwrap();
    assert_eq!(text, "\"1\"\n\"3\"\n");

    desk.write(
        "plugins/self.pipeline.yaml",
        "{name: own, version: 1.0.0, nodes: {a: {use: own@1.0.0}}}",
    );
    let own = desk.run(["plugin", "check", "plugins/self.pipeline.yaml"]);
    let said = format!("{}{}", own.out, own.err);
    assert!(said.contains("nodes.a: \"own\" contains itself"), "{said}");
    desk.write(
        "plugins/bare.pipeline.yaml",
        "nodes: {a: {use: source, with: [1]}}",
    );
    let bare = desk.run(["plugin", "check", "plugins/bare.pipeline.yaml"]);
    let said = format!("{}{}", bare.out, bare.err);
    assert!(
        said.contains("version: a pipeline that is a plugin has a version"),
        "{said}"
    );
}
