//! The examples of docs/command.md, docs/authentication.md, docs/schedules.md, docs/sessions.md,
//! docs/sage-cell.md, docs/interacts.md and docs/pipelines.md do what they say.

use regex::Regex;

use crate::support::{Desk, repository};

/// Ends the runner that an example starts.
struct Up<'a>(&'a Desk);

impl Drop for Up<'_> {
    fn drop(&mut self) {
        let lock = std::fs::read_to_string(self.0.path("instance/runner.lock")).unwrap_or_default();
        let pid = lock.lines().next().and_then(|pid| pid.parse().ok());
        if let Some(pid) = pid {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

#[test]
fn the_examples_of_the_reference_work() {
    assert!(examples("docs/command.md") >= 10);
}

#[test]
fn the_examples_of_authentication_work() {
    assert!(examples("docs/authentication.md") >= 7);
}

#[test]
fn the_examples_of_schedules_work() {
    assert!(examples("docs/schedules.md") >= 5);
}

#[test]
fn the_examples_of_sessions_work() {
    assert!(examples("docs/sessions.md") >= 12);
}

#[test]
fn the_examples_of_cells_work() {
    assert!(examples("docs/sage-cell.md") >= 7);
}

#[test]
fn the_examples_of_interacts_work() {
    assert!(examples("docs/interacts.md") >= 6);
}

#[test]
fn the_examples_of_pipelines_work() {
    assert!(examples("docs/pipelines.md") >= 10);
}

/// Writes the blocks of a document that are files: behind their language stands a name.
fn write_files(desk: &Desk, text: &str) {
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => {
                let name = info.split_whitespace().nth(1).unwrap_or_default();
                open = Some((name.to_owned(), String::new()));
            }
            (Some(_), Some((name, block))) => {
                if !name.is_empty() {
                    desk.write(name, block);
                }
                open = None;
            }
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
}

/// Runs the examples of a document: commands and what they print, one after the other in one folder. `…` stands for
/// anything in a line, and in a line of its own for any lines; gives their number. Variables that one exports are there for the others.
fn examples(document: &str) -> usize {
    let text = std::fs::read_to_string(repository().join(document)).unwrap();
    let desk = Desk::new();
    write_files(&desk, &text);
    let _up = Up(&desk);
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_runner"))
        .parent()
        .unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut count = 0;
    let mut exported = String::new();
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for example in block.strip_prefix("$ ").unwrap().split("\n$ ") {
            let (command, expected) = example.split_once('\n').unwrap_or((example, ""));
            if command.starts_with("export ") {
                exported.push_str(&frozen(&desk, &path, &exported, command));
                continue;
            }
            let script = format!("exec 2>&1\n{exported}{command}");
            let mut shell = desk.other("bash", ["-c", &script]);
            let output = shell.env("PATH", &path).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let lines = expected.trim_end().lines().map(|line| match line {
                "…" => "(?s:.*?)".to_owned(),
                line => format!("{}\n", regex::escape(line).replace('…', ".*")),
            });
            let pattern = Regex::new(&format!("^{}\\s*$", lines.collect::<String>())).unwrap();
            let said: String = said
                .lines()
                .map(|line| format!("{}\n", line.trim_end()))
                .collect();
            assert!(
                pattern.is_match(&said),
                "$ {command}\nexpected:\n{expected}\nfound:\n{said}"
            );
            count += 1;
        }
    }
    count
}

/// The exports of a line with the values that they have now, for later shells.
fn frozen(desk: &Desk, path: &str, exported: &str, command: &str) -> String {
    let script = format!("{exported}{command}\nexport -p");
    let mut shell = desk.other("bash", ["-c", &script]);
    let output = shell.env("PATH", path).output().unwrap();
    let named = command.strip_prefix("export ").unwrap_or_default();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_named = |line: &&str| {
        let name = line
            .strip_prefix("declare -x ")
            .and_then(|rest| rest.split('=').next());
        name.is_some_and(|name| named.contains(&format!("{name}=")))
    };
    let lines = said
        .lines()
        .filter(is_named)
        .map(|line| format!("{line}\n"));
    lines.collect()
}
