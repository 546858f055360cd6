//! What was decided holds over restarts.

use runner_tests::Runner;
use runner_tests::scratch::Scratch;
use serde_json::{Value, json};

use super::{Version, load, message, runner};

fn post(runner: &Runner, target: &str, body: Option<&Value>) {
    runner.ask("POST", target, body).expect(200);
}

#[test]
fn what_was_loaded_stopped_and_removed_is_so_after_a_crash() {
    let (folder, elsewhere) = (Scratch::new(), Scratch::new());
    for name in ["stays", "stopped", "removed"] {
        let version = Version {
            name: "",
            ..Version::default()
        };
        version.write(folder.path(), name);
    }
    let mut runner = runner(&folder);
    let version = Version {
        name: "",
        mark: "kept",
        ..Version::default()
    };
    let path = version.write(elsewhere.path(), "solver");
    load(
        &runner,
        &json!({"target": path, "name": "fast", "args": ["a b", 4]}),
    );
    let loaded = load(&runner, &json!({"target": path}));
    post(
        &runner,
        "/modules/stays/reload",
        Some(&json!({"args": ["other"]})),
    );
    post(&runner, "/modules/stopped/stop", None);
    post(&runner, "/modules/solver/stop", None);
    runner.ask("DELETE", "/modules/removed/", None).expect(200);
    std::fs::remove_file(&path).expect("the file is removed");
    runner.kill9();
    runner.restart();

    let state = |name: &str| {
        let module = runner.module(name);
        let text = |key: &str| module[key].as_str().unwrap_or_default().to_owned();
        (text("state"), text("reason"), text("origin"))
    };
    let is = |state: &str, reason: &str, origin: &str| {
        (state.to_owned(), reason.to_owned(), origin.to_owned())
    };
    assert_eq!(state("stays"), is("RUNNING", "", "folder"));
    assert_eq!(state("stopped"), is("EXITED", "stopped", "folder"));
    assert_eq!(state("fast"), is("RUNNING", "", "administrator"));
    assert_eq!(state("solver"), is("EXITED", "stopped", "administrator"));
    let all = runner.ask("GET", "/modules/", None).expect(200).json();
    assert_eq!(all["removed"], json!(["removed"]));
    let log = runner.run_well("fast@1-0-0", &[])["log"].clone();
    assert_eq!(log, "kept [\"a b\", 4]");
    let log = runner.run_well("stays@1-0-0", &[])["log"].clone();
    assert_eq!(log, "first [\"other\"]");

    // What was stopped is started from what was kept, and a newer version has to be where the first one was.
    post(&runner, "/modules/solver/start", None);
    let again = runner.module("solver");
    assert_eq!(
        (&again["sha256"], &again["path"]),
        (&loaded["sha256"], &json!(path))
    );
    let refused = message(runner.ask("POST", "/modules/solver/reload", None), 422);
    assert!(refused.contains("No such file"), "{refused}");
    runner.run_well("solver@1-0-0", &[]);
    let back = load(&runner, &json!({"target": "removed"}));
    assert_eq!(back["origin"], "folder");
    // What was kept and is removed is forgotten.
    runner.ask("DELETE", "/modules/fast/", None).expect(200);
    runner.kill9();
    runner.restart();
    let names: Vec<_> = runner
        .modules()
        .iter()
        .map(|module| module["name"].as_str().unwrap_or_default().to_owned())
        .collect();
    for (name, is_there) in [("fast", false), ("removed", true), ("solver", true)] {
        assert_eq!(names.iter().any(|own| own == name), is_there, "{names:?}");
    }
    runner.run_well("removed@1-0-0", &[]);
}

#[test]
fn what_an_administrator_loads_is_taken_without_its_neighbours() {
    let (folder, elsewhere) = (Scratch::new(), Scratch::new());
    Version::default().write(folder.path(), "managed");
    let runner = runner(&folder);
    elsewhere.file("beside.py", "TEXT = 'beside'\n");
    let text = "from runner import plugin\nimport beside\n\n\n@plugin(version=\"1.0.0\")\ndef lonely(task):\n    return beside.TEXT\n";
    let path = elsewhere.file("lonely.py", text);
    let refused = message(
        runner.ask("POST", "/modules/", Some(&json!({"target": path}))),
        422,
    );
    assert!(refused.contains("No module named 'beside'"), "{refused}");
}
