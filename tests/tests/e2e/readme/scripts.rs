//! The commands of the README, and what they say where something is missing.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use runner_tests::scratch::Scratch;
use serde_json::Value;

use super::blocks;

/// How long building and starting may take.
const START: Duration = Duration::from_secs(600);
/// Variables that cargo sets for tests, and that have crates built again when they change.
const OF_CARGO: [&str; 4] = [
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_",
    "CARGO_CRATE_",
];

/// A process that ends with the test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn one_command_starts_the_runner_and_what_it_prints_works() {
    let commands: Vec<_> = blocks::of("README.md")
        .into_iter()
        .filter(|block| block.language == "sh")
        .map(|block| block.text)
        .take(2)
        .collect();
    assert_eq!(commands, ["scripts/up\n", "scripts/test\n"]);

    let folder = Scratch::new();
    let stderr = folder.path().join("stderr");
    let mut child = script("scripts/up")
        .env("RUNNER_PROFILE", "dev")
        .env("RUNNER_PORT", "0")
        .env("RUNNER_INSTANCE_FOLDER", folder.path().join("instance"))
        .stdout(Stdio::piped())
        .stderr(File::create(&stderr).unwrap())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let _started = Started(child);
    let printed = read_until(stdout, "  curl ")
        .unwrap_or_else(|e| panic!("{e}\n{}", fs::read_to_string(&stderr).unwrap()));
    let plugins = printed.iter().filter(|line| line.contains("/ui/")).count();
    assert!(
        printed[0].starts_with("runner is ready at http://127.0.0.1:"),
        "{printed:#?}"
    );
    assert!(plugins >= 7, "{printed:#?}");

    let line = printed.last().unwrap();
    let answer = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(answer.status.success(), "{line}: {answer:?}");
    let task: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert!(
        ["PENDING", "SUCCESS"].contains(&task["status"].as_str().unwrap()),
        "{task:#}"
    );
}

#[test]
fn what_is_missing_is_said_in_one_line_each() {
    let all = ["bash", "dirname", "cargo", "cc", "python3"];
    let without = |missing: &str| {
        all.into_iter()
            .filter(|name| *name != missing)
            .collect::<Vec<_>>()
    };

    for name in ["scripts/up", "scripts/test"] {
        refused(
            name,
            &without("cc"),
            &["missing: a C compiler called cc: install gcc or clang"],
        );
        refused(
            name,
            &without("cargo"),
            &["missing: Rust: install it with rustup"],
        );
        refused(
            name,
            &without("python3"),
            &["missing: Python 3.9 or newer as python3: install it"],
        );
        refused(
            name,
            &["bash", "dirname"],
            &["missing: Rust", "missing: a C compiler", "missing: Python"],
        );
    }
}

#[test]
fn what_is_too_old_is_said() {
    let old = Scratch::new();
    for (name, text) in [
        (
            "cargo",
            "#!/bin/sh\necho 'cargo 1.63.0 (fd9c4297c 2022-07-01)'\n",
        ),
        ("python3", "#!/bin/sh\nexit 1\n"),
    ] {
        let path = old.file(name, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    link(&old, &["bash", "dirname", "cc"]);
    let output = script("scripts/up")
        .env("PATH", old.path())
        .output()
        .unwrap();
    let expected = [
        "or newer (found: cargo 1.63.0 (fd9c4297c 2022-07-01)): install it with rustup",
        "missing: Python 3.9 or newer as python3",
    ];
    check_refusal(&output, &expected);
}

/// Runs a script where only these programs are.
#[track_caller]
fn refused(name: &str, programs: &[&str], expected: &[&str]) {
    let path = Scratch::new();
    link(&path, programs);
    let output = script(name).env("PATH", path.path()).output();
    check_refusal(&output.expect("cannot start bash"), expected);
}

#[track_caller]
fn check_refusal(output: &Output, expected: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = error.lines().collect();
    let is_right = lines.len() == expected.len()
        && lines
            .iter()
            .zip(expected)
            .all(|(line, part)| line.contains(part));
    assert!(is_right, "expected {expected:#?}, found {lines:#?}");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
}

fn link(folder: &Scratch, programs: &[&str]) {
    for name in programs {
        symlink(program(name), folder.path().join(name)).expect("cannot make a link");
    }
}

/// Where a program is; of Python the interpreter itself, which may lie behind a script.
fn program(name: &str) -> PathBuf {
    if name == "python3" {
        let question = ["-c", "import sys; print(sys.executable)"];
        let answer = Command::new(name).args(question).output();
        let answer = answer.expect("cannot start Python").stdout;
        return PathBuf::from(String::from_utf8_lossy(&answer).trim());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
    places
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("no {name}"))
}

/// A script of the repository, with the environment of whoever runs the tests, but no settings.
fn script(name: &str) -> Command {
    let mut command = Command::new(program("bash"));
    command
        .arg(runner_tests::repository(name))
        .current_dir(Path::new("/"))
        .stdin(Stdio::null());
    let example = blocks::read(".env.example");
    let settings: Vec<_> = example
        .lines()
        .filter_map(|line| Some(line.strip_prefix("# ")?.split_once('=')?.0))
        .collect();
    assert!(settings.contains(&"RUNNER_PORT"), "{settings:?}");
    for (variable, _) in std::env::vars_os() {
        let variable = variable.to_string_lossy();
        let is_of_cargo = OF_CARGO.iter().any(|prefix| variable.starts_with(prefix));
        if is_of_cargo || settings.contains(&&*variable) {
            command.env_remove(&*variable);
        }
    }
    command
}

/// The lines until one begins like this.
fn read_until(stdout: impl Read + Send + 'static, beginning: &str) -> Result<Vec<String>, String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let end = Instant::now() + START;
    let mut read = Vec::new();
    while read
        .last()
        .is_none_or(|line: &String| !line.starts_with(beginning))
    {
        let left = end.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(left);
        read.push(line.map_err(|e| format!("no line {beginning:?}: {e}; {read:#?}"))?);
    }
    Ok(read)
}
