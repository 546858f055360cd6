//! The examples of docs/command.md and docs/schedules.md do what they say.

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
    run_examples("docs/command.md");
}

#[test]
fn the_examples_of_schedules_work() {
    run_examples("docs/schedules.md");
}

/// Commands and what they print, one after the other in one folder. `…` stands for anything in a line, and
/// in a line of its own for any lines.
fn run_examples(page: &str) {
    let text = std::fs::read_to_string(repository().join(page)).unwrap();
    let desk = Desk::new();
    let _up = Up(&desk);
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_runner"))
        .parent()
        .unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut count = 0;
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for example in block.strip_prefix("$ ").unwrap().split("\n$ ") {
            let (command, expected) = example.split_once('\n').unwrap_or((example, ""));
            let mut shell = desk.other("bash", ["-c", &format!("exec 2>&1\n{command}")]);
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
    assert!(count >= 10, "{count}");
}
