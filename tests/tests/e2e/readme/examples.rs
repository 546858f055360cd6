//! Plugins and requests of the README, run as they stand there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use regex::Regex;
use runner_tests::Runner;
use runner_tests::scratch::Scratch;
use serde_json::Value;

use super::blocks::{self, Block};

/// The address in the documents.
const ADDRESS: &str = "http://127.0.0.1:5005";
/// How long an output that is shown may take to come.
const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn examples_of_the_readme_do_what_it_says() {
    let folder = Scratch::new();
    let all = blocks::of("README.md");
    let plugins = write_plugins(folder.path(), &all);
    assert_eq!(plugins, ["shout.py", "reverse"]);
    let runner = start(folder.path());

    let mut shown = 0;
    let mut following = all.iter().peekable();
    while let Some(block) = following.next() {
        if block.language != "sh" || !block.text.contains(ADDRESS) {
            continue;
        }
        let commands = block.text.replace(ADDRESS, &runner.base());
        let output = following.next_if(|next| ["json", "text"].contains(&next.language.as_str()));
        match output {
            // A request that makes something is made once.
            None => drop(run(&commands)),
            Some(output) => {
                shown += 1;
                let expected = output.text.replace(ADDRESS, &runner.base());
                expect(&runner, &commands, &output.language, &expected);
            }
        }
    }
    assert_eq!(shown, 3);
}

#[test]
fn the_plugin_of_the_folder_for_plugins_works() {
    let folder = Scratch::new();
    let plugins = write_plugins(folder.path(), &blocks::of("plugins/README.md"));
    assert_eq!(plugins, ["word_count.py"]);
    let runner = start(folder.path());
    let form = [("text", "to be or not"), ("shortest", "3")];
    let task = runner.run_well("word-count@1-0-0", &form);
    assert_eq!(task["log"], "1 words");
    assert_eq!(runner.output(&task, "words.txt"), b"not");
}

/// Writes the blocks that are files; gives their names.
fn write_plugins(folder: &Path, blocks: &[Block]) -> Vec<String> {
    let files = blocks
        .iter()
        .filter_map(|block| Some((block.path()?, block)));
    let written = files.map(|(name, block)| {
        let path = folder.join(name);
        fs::write(&path, &block.text).expect("cannot write a plugin");
        if block.text.starts_with("#!") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                .expect("cannot make it executable");
        }
        name.to_owned()
    });
    written.collect()
}

fn start(plugins: &Path) -> Runner {
    Runner::builder().plugins([plugins]).start()
}

fn run(commands: &str) -> String {
    let script = format!("set -e\n{commands}");
    let output = Command::new("sh").args(["-c", &script]).output();
    let output = output.expect("cannot start sh");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands}\n{error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs the commands until they put out what is shown: tasks take their time.
fn expect(runner: &Runner, commands: &str, language: &str, expected: &str) {
    let end = Instant::now() + DEADLINE;
    loop {
        let found = run(commands);
        let is_same = match language {
            "json" => {
                let parse = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
                matches(&parse(expected), &parse(&found))
            }
            _ => expected.trim() == found.trim(),
        };
        if is_same {
            return;
        }
        if Instant::now() > end {
            runner.fail(&format!("{commands}\nexpected {expected}\nfound {found}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether both are the same; `…` in a text stands for anything, as a key for more keys.
fn matches(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::String(expected), Value::String(found)) => {
            let pattern = regex::escape(expected).replace('…', ".+");
            Regex::new(&format!("^{pattern}$")).is_ok_and(|pattern| pattern.is_match(found))
        }
        (Value::Array(expected), Value::Array(found)) => {
            let pairs = || expected.iter().zip(found);
            expected.len() == found.len() && pairs().all(|(a, b)| matches(a, b))
        }
        (Value::Object(expected), Value::Object(found)) => {
            let has_more = expected.contains_key("…");
            let mut shown = expected.iter().filter(|(key, _)| *key != "…");
            (has_more || expected.len() == found.len())
                && shown.all(|(key, value)| found.get(key).is_some_and(|b| matches(value, b)))
        }
        _ => expected == found && !expected.is_null(),
    }
}
