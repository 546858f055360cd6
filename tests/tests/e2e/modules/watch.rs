//! `--watch`: the plugin folders are followed.

use std::fs;

use runner_tests::Runner;
use runner_tests::scratch::Scratch;
use runner_tests::wait::eventually;
use serde_json::{Value, json};

use super::{LONG, Version};

fn states(runner: &Runner) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let modules = runner.modules();
    let mut states: Vec<_> = modules
        .iter()
        .map(|module| (text(&module["name"]), text(&module["state"])))
        .collect();
    states.sort();
    states
}

fn wait_for_states(runner: &Runner, wanted: &[(&str, &str)]) {
    eventually(&format!("{wanted:?}"), LONG, || {
        let states = states(runner);
        let states = states
            .iter()
            .map(|(name, state)| (name.as_str(), state.as_str()));
        states.eq(wanted.iter().copied()).then_some(())
    });
}

fn version<'a>(name: &'a str, mark: &'a str) -> Version<'a> {
    Version {
        name,
        mark,
        ..Version::default()
    }
}

/// Waits until a plugin answers with this mark.
fn wait_for_mark(runner: &Runner, plugin: &str, mark: &str) {
    eventually(mark, LONG, || {
        let task = runner.run_well(plugin, &[]);
        task["log"]
            .as_str()
            .is_some_and(|log| log.contains(mark))
            .then_some(())
    });
}

#[test]
fn what_changes_is_reloaded_what_is_new_is_loaded_what_is_gone_is_removed() {
    let root = Scratch::new();
    let folder = root.path().join("plugins");
    fs::create_dir(&folder).expect("a folder is made");
    version("one", "first").write(&folder, "one");
    let runner = Runner::builder().plugins([&folder]).arg("--watch").start();
    version("one", "second").write(&folder, "one");
    wait_for_mark(&runner, "one@1-0-0", "second");
    version("two", "first").write(&folder, "two");
    wait_for_states(&runner, &[("one", "RUNNING"), ("two", "RUNNING")]);
    // A version that does not start leaves the older one; what is new and does not start is shown.
    super::replace(&folder, "one", "#!/bin/sh\nexit 3\n");
    super::replace(&folder, "three", "#!/bin/sh\nexit 3\n");
    wait_for_states(
        &runner,
        &[("one", "RUNNING"), ("three", "EXITED"), ("two", "RUNNING")],
    );
    eventually("the reason", LONG, || {
        runner.module("one")["refused"].as_str().map(drop)
    });
    wait_for_mark(&runner, "one@1-0-0", "second");
    version("three", "first").write(&folder, "three");
    fs::remove_file(folder.join("two")).expect("a file is removed");
    wait_for_states(&runner, &[("one", "RUNNING"), ("three", "RUNNING")]);
    // What an administrator stopped stays so.
    runner.ask("POST", "/modules/three/stop", None).expect(200);
    version("three", "second").write(&folder, "three");
    version("one", "third").write(&folder, "one");
    wait_for_mark(&runner, "one@1-0-0", "third");
    assert_eq!(runner.module("three")["reason"], json!("stopped"));

    // A folder that disappears leaves its modules, and is followed again when it is back.
    let uuid = runner.module("one")["uuid"].clone();
    let away = root.path().join("away");
    fs::rename(&folder, &away).expect("it is moved");
    eventually("a word about it", LONG, || {
        runner.stderr().contains("is away").then_some(())
    });
    wait_for_mark(&runner, "one@1-0-0", "third");
    fs::rename(&away, &folder).expect("it is moved back");
    eventually("a word about it", LONG, || {
        runner.stderr().contains("is there").then_some(())
    });
    assert_eq!(runner.module("one")["uuid"], uuid);
    version("one", "fourth").write(&folder, "one");
    wait_for_mark(&runner, "one@1-0-0", "fourth");
}
