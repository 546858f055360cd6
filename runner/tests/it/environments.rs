//! Packages of Python plugins: who says what is needed, and where it is installed. Packages come from a folder of
//! wheels that the tests write; one test takes real ones, where there is a network.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Desk, LONG, Said};

/// Writes a wheel that says which version it is.
const WHEEL: &str = include_str!("../../../tests/fixtures/wheel.py");

/// A plugin that tells the version of `clash` that it was given.
const TELLS: &str = r#"
import clash
from runner import plugin

@plugin(version="1")
def NAME(task):
    return "it has clash " + clash.VERSION
"#;

/// A desk with `clash` in two versions, and no other packages.
fn desk() -> Desk {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("wheels")).unwrap();
    for version in ["1.0", "2.0"] {
        let made = desk
            .other("python3", ["-c", WHEEL, "clash", version])
            .arg(desk.path("wheels"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    desk
}

/// A module folder that needs this.
fn package(desk: &Desk, name: &str, requirement: &str) {
    let toml = format!("entry = \"{name}.py\"\nrequirements = [\"{requirement}\"]\n");
    desk.write(&format!("plugins/{name}/plugin.toml"), &toml);
    let source = TELLS.replace("NAME", name);
    desk.write(&format!("plugins/{name}/{name}.py"), &source);
}

/// The command, which finds packages in the folder of wheels and nowhere else.
fn command(desk: &Desk, arguments: &[&str]) -> Command {
    let mut command = desk.command(arguments);
    command
        .env("PIP_FIND_LINKS", desk.path("wheels"))
        .env("PIP_NO_INDEX", "1")
        .env("UV_FIND_LINKS", desk.path("wheels"))
        .env("UV_OFFLINE", "1");
    command
}

fn run(desk: &Desk, arguments: &[&str]) -> Said {
    command(desk, arguments).output().unwrap().into()
}

fn install(desk: &Desk) -> Value {
    run(desk, &["plugin", "install", "--json"]).ok().json()
}

/// The states of the environments, sorted by what is in them.
fn states(document: &Value) -> Vec<(String, String)> {
    let mut states: Vec<_> = document["environments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let asked = one["requirements"].as_array().unwrap();
            let asked: Vec<&str> = asked.iter().map(|text| text.as_str().unwrap()).collect();
            (asked.join(","), one["state"].as_str().unwrap().to_owned())
        })
        .collect();
    states.sort();
    states
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = expected
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
    owned.collect()
}

/// What lies in `environments/`.
fn entries(desk: &Desk) -> Vec<String> {
    let entries = std::fs::read_dir(desk.path("instance/environments")).into_iter();
    let names = entries.flatten().flatten();
    let mut names: Vec<_> = names
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    names.sort();
    names
}

#[test]
fn the_example_of_the_guide_has_its_package() {
    let desk = desk();
    let made = desk
        .other("python3", ["-c", WHEEL, "inflection", "0.5.1"])
        .arg(desk.path("wheels"))
        .arg("def pluralize(word): return word[:-2] + 'i'")
        .status();
    assert!(made.unwrap().success());
    desk.write("wordy.py", &crate::guide::files()["wordy.py"]);
    let said = run(
        &desk,
        &["plugin", "run", "./wordy.py", "-p", "word=octopus"],
    )
    .ok();
    assert!(said.err.contains("octopi"), "{said:#?}");
}

#[test]
fn two_versions_of_a_package_work_side_by_side() {
    let desk = desk();
    package(&desk, "old", "clash==1.0");
    package(&desk, "new", "Clash >= 2");
    package(&desk, "same", "clash>=2");
    let expected = |state| pairs(&[("clash==1.0", state), ("clash>=2", state)]);
    assert_eq!(states(&install(&desk)), expected("made"));
    assert_eq!(states(&install(&desk)), expected("present"));
    for (name, version) in [("old", "1.0"), ("new", "2.0"), ("same", "2.0")] {
        let said = desk.run(["plugin", "run", name]).ok();
        let told = format!("it has clash {version}");
        assert!(said.err.contains(&told), "{said:#?}");
    }
    // Programs of a package begin with the interpreter where it is, not where it was made.
    for name in entries(&desk) {
        let folder = desk.path("instance/environments").join(name);
        let tool = std::fs::read_to_string(folder.join("bin/clash-tool")).unwrap();
        let line = tool.lines().take(3).collect::<Vec<_>>().join("\n");
        assert!(
            line.contains(&format!(
                "{}/bin/python",
                folder.canonicalize().unwrap().display()
            )),
            "{line}"
        );
    }
}

/// Variables by which an installer reaches its index from here.
fn network() -> impl Iterator<Item = (String, String)> {
    let is_of_it = |name: &str| {
        let name = name.to_ascii_uppercase();
        ["PIP_", "UV_", "SSL_CERT_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
            || name.ends_with("_PROXY")
            || name == "REQUESTS_CA_BUNDLE"
    };
    std::env::vars().filter(move |(name, _)| is_of_it(name))
}

#[test]
fn two_real_versions_of_a_package_work_side_by_side() {
    let desk = Desk::new();
    let asked = desk
        .other(
            "python3",
            [
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--dest",
                "tmp",
                "six==1.16.0",
            ],
        )
        .envs(network())
        .output()
        .unwrap();
    if !asked.status.success() {
        println!("skipped: no package index can be reached: {asked:?}");
        return;
    }
    let versions = [("older", "1.16.0"), ("newer", "1.17.0")];
    for (name, version) in versions {
        let toml = format!("entry = \"{name}.py\"\nrequirements = [\"six=={version}\"]\n");
        desk.write(&format!("plugins/{name}/plugin.toml"), &toml);
        let source = TELLS
            .replace("NAME", name)
            .replace("clash.VERSION", "clash.__version__");
        let source = source.replace("clash", "six");
        desk.write(&format!("plugins/{name}/{name}.py"), &source);
    }
    let made = desk
        .command(["plugin", "install", "--json"])
        .envs(network())
        .output()
        .unwrap();
    let made = Said::from(made).ok().json();
    let expected = pairs(&[("six==1.16.0", "made"), ("six==1.17.0", "made")]);
    assert_eq!(states(&made), expected);
    for (name, version) in versions {
        let said = desk.run(["plugin", "run", name]).ok();
        assert!(
            said.err.contains(&format!("it has six {version}")),
            "{said:#?}"
        );
    }
}

#[test]
fn a_server_makes_what_is_missing_and_tells_which_it_is() {
    let desk = desk();
    package(&desk, "old", "clash==1.0");
    package(&desk, "bad", "clash==3.0");
    desk.write(
        "plugins/plain.py",
        "from runner import plugin\n@plugin(version='1')\ndef plain(task): pass\n",
    );
    let said = run(&desk, &["plugin", "run", "old"]).ok();
    assert!(said.err.contains("it has clash 1.0"), "{said:#?}");
    let listed = desk.run(["plugin", "list", "--json"]).ok().json();
    let module = |name: &str| {
        let modules = listed["modules"].as_array().unwrap();
        modules
            .iter()
            .find(|module| module["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(module("old")["state"], "RUNNING");
    assert_eq!(
        entries(&desk),
        [module("old")["environment"].as_str().unwrap()]
    );
    assert_eq!(module("plain")["environment"], Value::Null);
    assert_eq!(module("bad")["state"], "EXITED");
    let reason = module("bad")["reason"].as_str().unwrap().to_owned();
    assert!(
        reason.contains("is missing: `runner plugin install` makes it"),
        "{reason}"
    );
    let said = desk.run(["doctor"]);
    assert!(said.out.contains("its environment"), "{said:#?}");
}

#[test]
fn what_cannot_be_installed_is_told_and_the_others_are_made() {
    let desk = desk();
    package(&desk, "bad", "clash==3.0");
    package(&desk, "good", "clash==1.0");
    let said = run(&desk, &["plugin", "install", "--json"]);
    assert_eq!(said.code, 1, "{said:#?}");
    let document = said.json();
    assert_eq!(
        states(&document),
        pairs(&[("clash==1.0", "made"), ("clash==3.0", "failed")])
    );
    let reason = document["environments"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|one| one["reason"].as_str());
    let reason = reason.unwrap();
    assert!(
        reason.contains("the environment of its requirements (clash==3.0) cannot be made"),
        "{reason}"
    );
    assert!(
        reason.matches("clash").count() >= 2,
        "the installer says why: {reason}"
    );
    assert_eq!(entries(&desk).len(), 1, "nothing half is left");
    let said = run(&desk, &["plugin", "run", "plugins/bad"]).failed(1, "cannot be made");
    assert!(said.err.contains("clash==3.0"), "{said:#?}");
    // When there is one, it is tried again.
    package(&desk, "bad", "clash");
    let document = install(&desk);
    assert_eq!(
        states(&document),
        pairs(&[("clash", "made"), ("clash==1.0", "present")])
    );
}

#[test]
fn a_dry_run_prints_who_asks_for_what_and_installs_nothing() {
    let desk = desk();
    package(&desk, "old", "Clash == 1.0");
    desk.write("plugins/requirements.txt", "# for all\nother>=1\n");
    let block = "# /// script\n# dependencies = [\"clash==1.0\"]\n# ///\n";
    desk.write("plugins/script.py", block);
    let said = desk
        .run([
            "plugin",
            "install",
            "--dry-run",
            "--skip-runner-requirements",
        ])
        .ok();
    assert_eq!(
        said.out,
        "clash==1.0  # ./plugins/old/plugin.toml, ./plugins/script.py\n\
         other>=1  # ./plugins/requirements.txt:2\n"
    );
    let said = desk
        .run(["plugin", "install", "--dry-run", "plugins/script.py"])
        .ok();
    assert!(
        said.out.contains("plugins/script.py") && !said.out.contains("plugin.toml"),
        "{said:#?}"
    );
    let document = desk
        .run(["plugin", "install", "--dry-run", "--json", "plugins"])
        .ok()
        .json();
    assert_eq!(document["requirements"][1]["requirement"], "other>=1");
    assert!(entries(&desk).is_empty());
    desk.write("plugins/requirements.txt", "a=1\n");
    desk.run(["plugin", "install", "--dry-run"])
        .failed(1, "requirements.txt:1: \"a=1\" is no requirement");
    desk.run(["plugin", "install", "nowhere"])
        .failed(1, "nowhere");
}

#[test]
fn what_no_plugin_needs_is_removed_when_it_is_asked_for() {
    let desk = desk();
    package(&desk, "old", "clash==1.0");
    install(&desk);
    let first = entries(&desk);
    package(&desk, "old", "clash==2.0");
    assert_eq!(install(&desk)["removed"].as_array().unwrap().len(), 0);
    assert_eq!(entries(&desk).len(), 2);
    let document = run(&desk, &["plugin", "install", "--prune", "--json"])
        .ok()
        .json();
    assert_eq!(document["removed"][0], first[0].as_str());
    assert_eq!(entries(&desk).len(), 1);
    // What is not understood may need anything.
    desk.write("plugins/requirements.txt", "a=1\n");
    run(&desk, &["plugin", "install", "--prune"]).failed(1, "nothing was removed");
    assert_eq!(entries(&desk).len(), 1);
}

#[test]
fn two_processes_make_one_environment() {
    let desk = desk();
    package(&desk, "old", "clash==1.0");
    let start = || {
        command(&desk, &["plugin", "install", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let both = [start(), start()].map(|child| Said::from(child.wait_with_output().unwrap()).ok());
    let mut all: Vec<_> = both.iter().flat_map(|said| states(&said.json())).collect();
    all.sort();
    assert_eq!(
        all,
        pairs(&[("clash==1.0", "made"), ("clash==1.0", "present")])
    );
    assert_eq!(entries(&desk).len(), 1);
}

/// A program in place of uv.
fn with_uv(desk: &Desk, script: &str, arguments: &[&str]) -> Command {
    desk.write_executable("bin/uv", &format!("#!/bin/sh\n{script}"));
    let path = std::env::var("PATH").unwrap();
    let mut command = command(desk, arguments);
    command.env("PATH", format!("{}:{path}", desk.path("bin").display()));
    command
}

#[test]
fn uv_is_used_where_it_is_and_its_last_words_are_the_reason() {
    let desk = desk();
    package(&desk, "old", "clash==1.0");
    let script =
        "echo \"asked for $*\"; echo $DATABASE_URL | wc -c; echo no luck today >&2; exit 7";
    let mut command = with_uv(&desk, script, &["plugin", "install"]);
    command.env("DATABASE_URL", "sqlite:///secret");
    let said = Said::from(command.output().unwrap()).failed(1, "no luck today");
    assert!(
        said.err.contains("asked for venv --no-project --python"),
        "{said:#?}"
    );
    assert!(said.err.contains("exit status: 7"), "{said:#?}");
    assert!(
        said.err.lines().any(|line| line.trim() == "1"),
        "secrets are not for installers: {said:#?}"
    );
    assert!(entries(&desk).is_empty());
}

#[test]
fn an_interrupted_installation_leaves_nothing() {
    let desk = desk();
    package(&desk, "old", "clash==1.0");
    let begun = desk.path("begun");
    nix::unistd::mkfifo(&begun, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = format!(
        "mkdir \"$5\"; echo $$ > {}; exec sleep 600",
        begun.display()
    );
    let child = with_uv(&desk, &script, &["plugin", "install"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Opening it waits for the installer.
    let installer: i32 = std::fs::read_to_string(&begun)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, 130, "{said:#?}");
    wait_for_end(installer);
    std::fs::remove_file(desk.path("bin/uv")).unwrap();
    assert_eq!(states(&install(&desk)), pairs(&[("clash==1.0", "made")]));
    assert_eq!(
        entries(&desk).len(),
        1,
        "the next one removes what was left"
    );
}

fn wait_for_end(pid: i32) {
    let begun = std::time::Instant::now();
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(begun.elapsed() < LONG, "{pid} lives on");
        std::thread::yield_now();
    }
}

#[test]
fn what_would_have_to_be_built_is_refused() {
    let desk = desk();
    package(&desk, "old", "clash @ https://example.org/clash-1.0.tar.gz");
    let said = run(&desk, &["plugin", "install"]).failed(1, "PACKAGE_BUILDS=on");
    assert!(said.err.contains("plugin.toml"), "{said:#?}");
}

#[test]
fn a_plugin_cannot_change_its_packages() {
    let desk = desk();
    package(&desk, "old", "clash==1.0");
    let source = TELLS.replace("NAME", "old").replace(
        "return",
        "import os, subprocess, sys\n    \
         task.log(subprocess.check_output([sys.executable, '-c', 'import clash; print(clash.VERSION)'], text=True))\n    \
         try: open(clash.__file__, 'a').close()\n    \
         except OSError as error: task.log('refused: ' + type(error).__name__)\n    \
         else: raise AssertionError('it was opened')\n    return",
    );
    desk.write("plugins/old/old.py", &source);
    let said = run(&desk, &["plugin", "run", "old"]).ok();
    assert!(
        said.err.contains("refused: OSError") || said.err.contains("refused: PermissionError"),
        "{said:#?}"
    );
    assert!(
        said.err.lines().any(|line| line == "1.0"),
        "its children have them too: {said:#?}"
    );
}

#[test]
fn what_an_image_brings_along_is_used_where_nobody_may_write() {
    let desk = desk();
    package(&desk, "old", "clash==1.0");
    let shared = desk.path("shared");
    let made = command(&desk, &["plugin", "install"])
        .env("ENVIRONMENTS_FOLDER", &shared)
        .output()
        .unwrap();
    Said::from(made).ok();
    assert!(
        !desk.path("instance").join("token").exists(),
        "an image is no secret place"
    );
    assert!(entries(&desk).is_empty());
    for name in lock_names(&shared) {
        std::fs::remove_file(shared.join(&name)).unwrap();
        // Root may write everywhere else.
        std::fs::create_dir(shared.join(name)).unwrap();
    }
    package(&desk, "new", "clash==2.0");
    for (name, version) in [("old", "1.0"), ("new", "2.0")] {
        let said = command(&desk, &["plugin", "run", name])
            .env("ENVIRONMENTS_FOLDER", &shared)
            .output()
            .unwrap();
        let said = Said::from(said).ok();
        assert!(
            said.err.contains(&format!("it has clash {version}")),
            "{said:#?}"
        );
    }
    assert_eq!(
        entries(&desk).len(),
        1,
        "what was missing is in the instance folder"
    );
}

fn lock_names(folder: &Path) -> Vec<std::ffi::OsString> {
    let names = std::fs::read_dir(folder).unwrap().flatten();
    names
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().ends_with(".lock"))
        .collect()
}
