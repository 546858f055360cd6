//! What goes by between the runner and a module: seen, and held up.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::time::Instant;

use runner_tests::scratch::Scratch;
use runner_tests::{Runner, events};
use serde_json::{Value, json};

use super::{LONG, Version, message, runner};

const PLUGIN: &str = "managed@1-0-0";

/// A connection to the messages of the module.
fn open(runner: &Runner, pattern: &str) -> BufReader<TcpStream> {
    open_of(runner, "managed", pattern)
}

fn open_of(runner: &Runner, module: &str, pattern: &str) -> BufReader<TcpStream> {
    let target = format!("/modules/{module}/trace?messages={pattern}");
    let token = format!("Authorization: Bearer {}\r\n", runner.token());
    events::open(runner, &target, &token, LONG)
}

/// Name and data of the next event.
fn event(reader: &mut BufReader<TcpStream>) -> (String, Value) {
    let mut name = String::new();
    loop {
        let mut line = String::new();
        let read = reader.read_line(&mut line).expect("an event");
        assert!(read > 0, "the stream ended");
        if let Some(text) = line.strip_prefix("event: ") {
            text.trim().clone_into(&mut name);
        }
        if let Some(data) = line.strip_prefix("data: ") {
            return (name, serde_json::from_str(data).expect("JSON"));
        }
    }
}

#[test]
fn messages_are_seen_by_their_topics_also_over_a_reload() {
    let folder = Scratch::new();
    Version::default().write(folder.path(), "managed");
    let runner = runner(&folder);
    let mut runs = open(&runner, "run*");
    for _ in 0..2 {
        let task = runner.run_well(PLUGIN, &[]);
        let (name, asked) = event(&mut runs);
        assert_eq!(
            (name.as_str(), &asked["topic"], &asked["direction"]),
            ("message", &json!("run"), &json!("toHost"))
        );
        let (_, answer) = event(&mut runs);
        assert_eq!(
            (&answer["topic"], &answer["direction"]),
            (&json!("run.answer"), &json!("fromHost"))
        );
        assert_eq!(answer["pid"], asked["pid"]);
        assert!(
            answer["message"]
                .as_str()
                .is_some_and(|text| text.contains("first")),
            "{task:#}"
        );
        runner
            .ask("POST", "/modules/managed/reload", None)
            .expect(200);
    }
    runner.ask("DELETE", "/modules/managed/", None).expect(200);
    assert_eq!(event(&mut runs).0, "end");
    runner
        .ask("GET", "/modules/managed/trace", None)
        .expect(404);
}

/// A module that says many long lines.
const TALKS: &str = r#"
from runner import Integer, plugin

@plugin(version="1.0.0")
def talks(task, lines: Integer() = 0):
    for number in range(lines):
        task.log(f"{number} ".ljust(8000, "."))
"#;

#[test]
fn who_does_not_read_messages_holds_up_nobody_and_is_told_how_many_were_missed() {
    // More than the network holds of what is not read.
    const LINES: u64 = 3_000;
    let folder = Scratch::new();
    folder.file("talks.py", TALKS);
    let runner = runner(&folder);
    let mut silent = open_of(&runner, "talks", "*");
    let mut reader = open_of(&runner, "talks", "run*");
    let begin = Instant::now();
    runner.run_well("talks@1-0-0", &[("lines", &LINES.to_string())]);
    println!("{LINES} lines after {:?}", begin.elapsed());
    // Another one is not held up, whatever it missed of what it did not ask for.
    while event(&mut reader).1["topic"] != "run.answer" {}
    runner.ask("POST", "/modules/talks/ping", None).expect(200);
    let begin = Instant::now();
    runner.ask("DELETE", "/modules/talks/", None).expect(200);
    assert!(begin.elapsed() < LONG / 4, "{:?}", begin.elapsed());

    let (mut seen, mut missed) = (0, 0);
    loop {
        let (name, data) = event(&mut silent);
        match name.as_str() {
            "message" => seen += 1,
            "dropped" => missed += data["count"].as_u64().unwrap_or_default(),
            _ => {
                assert_eq!(name, "end");
                break;
            }
        }
    }
    assert!(seen > 0 && missed > 0, "{seen} seen, {missed} missed");
    // None is lost without a word.
    assert!(seen + missed > LINES, "{seen} seen, {missed} missed");
}

#[test]
fn a_module_that_seems_stuck_meets_the_limits_of_its_runs() {
    let folder = Scratch::new();
    Version::default().write(folder.path(), "managed");
    let runner = Runner::builder()
        .plugins([folder.path()])
        .env("RUN_TIMEOUT", 1)
        .start();
    let fault = |body: &Value| runner.ask("POST", "/modules/managed/debug", Some(body));
    let drop = json!({"messages": "run.answer", "action": "drop"});
    let faults = fault(&drop).expect(200).json();
    let shown = json!({"messages": "run.answer", "direction": "fromHost", "action": "drop"});
    assert_eq!(faults, json!({"faults": [shown]}));
    let log = runner.run_badly(PLUGIN, &[]);
    assert!(log.contains("longer than 1 s"), "{log}");
    let delay = json!({"messages": "run.answer", "action": "delay", "seconds": 0.4});
    fault(&delay).expect(200);
    let begin = std::time::Instant::now();
    runner.run_well(PLUGIN, &[]);
    assert!(begin.elapsed().as_secs_f64() > 0.4);
    let none = fault(&json!({"messages": "run.answer", "action": "none"}));
    assert_eq!(none.expect(200).json(), json!({"faults": []}));
    runner.run_well(PLUGIN, &[]);
    // What the runner says can be held up as well.
    let lost = json!({"messages": "run", "direction": "toHost", "action": "drop"});
    fault(&lost).expect(200);
    let log = runner.run_badly(PLUGIN, &[]);
    assert!(log.contains("longer than 1 s"), "{log}");
    fault(&json!({"messages": "run", "direction": "toHost", "action": "none"})).expect(200);
    runner.run_well(PLUGIN, &[]);
    for (body, part) in [
        (
            json!({"messages": "*", "direction": "sideways", "action": "drop"}),
            "expected \"fromHost\"",
        ),
        (json!({"messages": "[", "action": "drop"}), "is no glob"),
        (json!({"messages": "*", "action": "explode"}), "explode"),
        (json!({"messages": "*", "action": "delay"}), "seconds"),
        (
            json!({"messages": "*", "action": "delay", "seconds": -1}),
            "expected seconds",
        ),
        (json!({"action": "drop"}), "messages is not said"),
    ] {
        let wrong = message(fault(&body), 422);
        assert!(wrong.contains(part), "{body}: {wrong}");
    }
}
