//! `runner plugin install` for plugins from git: their packages are installed from what was fetched.

use std::process::{Command, Output};

use runner_tests::Runner;
use runner_tests::scratch::Scratch;
use serde_json::{Value, json};

use super::{Repository, command, log_of};

/// Writes a wheel that says which version it is.
const WHEEL: &str = include_str!("../../../fixtures/wheel.py");

/// A plugin that tells the version of `clash` that it was given.
const TELLS: &str = "import clash\nfrom runner import plugin\n\n\n@plugin(version=\"1.0.0\")\n\
                     def needy(task):\n    return \"clash \" + clash.VERSION\n";

/// A folder with `clash` in two versions.
fn wheels() -> Scratch {
    let folder = Scratch::new();
    for version in ["1.0", "2.0"] {
        let made = Command::new("python3")
            .args(["-c", WHEEL, "clash", version])
            .arg(folder.path())
            .output()
            .expect("Python is installed");
        assert!(made.status.success(), "{made:?}");
    }
    folder
}

/// Commits a plugin that needs this.
fn commit(repository: &Repository, requirement: &str) {
    let manifest = format!("entry = \"needy.py\"\nrequirements = [\"{requirement}\"]\n");
    repository.file("plugins/needy/plugin.toml", &manifest);
    repository.file("plugins/needy/needy.py", TELLS);
    repository.commit_all();
}

/// What an installation made of each environment, by what is in it.
fn states(said: &Output) -> Value {
    assert!(said.status.success(), "{said:?}");
    let document: Value = serde_json::from_slice(&said.stdout).expect("JSON");
    let environments = document["environments"].as_array().expect("a list");
    let shown = environments.iter().map(|one| {
        let modules = &one["modules"];
        json!([one["requirements"], one["state"], modules])
    });
    shown.collect()
}

#[test]
fn packages_of_plugins_from_git_are_installed_from_what_was_fetched() {
    let (from, wheels) = (Repository::new(), wheels());
    commit(&from, "clash==1.0");
    let source = from.source("@main#subdirectory=plugins");
    let mut runner = Runner::builder().start();
    let packages = wheels.path().to_str().expect("UTF-8").to_owned();
    let run = |runner: &Runner, arguments: &[&str]| {
        let variables = [
            ("GIT_PLUGINS", source.as_str()),
            ("PIP_NO_INDEX", "1"),
            ("PIP_FIND_LINKS", packages.as_str()),
            ("UV_OFFLINE", "1"),
            ("UV_FIND_LINKS", packages.as_str()),
        ];
        command(runner, arguments, &variables)
    };
    assert!(runner.terminate().success());

    // Nothing was fetched: it is told, and what to do about it.
    let early = run(&runner, &["plugin", "install"]);
    assert_eq!(early.status.code(), Some(1), "{early:?}");
    let told = String::from_utf8_lossy(&early.stderr);
    assert!(
        told.contains("it was not fetched yet: `runner plugin fetch` does"),
        "{told}"
    );

    assert!(run(&runner, &["plugin", "fetch"]).status.success());
    let dry = run(&runner, &["plugin", "install", "--dry-run"]);
    let printed = String::from_utf8_lossy(&dry.stdout);
    assert!(dry.status.success(), "{dry:?}");
    let (requirement, by) = printed.trim().split_once("  # ").expect("who asks for it");
    assert_eq!(requirement, "clash==1.0");
    assert!(by.ends_with("plugins/needy/plugin.toml"), "{by}");
    let install = ["plugin", "install", "--json"];
    let first = |state: &str| json!([[["clash==1.0"], state, ["needy"]]]);
    assert_eq!(states(&run(&runner, &install)), first("made"));
    assert_eq!(states(&run(&runner, &install)), first("present"));

    // What is newer counts as soon as it was fetched.
    commit(&from, "clash==2.0");
    assert_eq!(states(&run(&runner, &install)), first("present"));
    assert!(run(&runner, &["plugin", "fetch"]).status.success());
    let second = json!([[["clash==2.0"], "made", ["needy"]]]);
    assert_eq!(states(&run(&runner, &install)), second);

    // Without the repository, and without a place that has packages.
    drop((from, wheels));
    let instance = runner.instance().to_owned();
    let served = Runner::builder()
        .instance(instance)
        .env("GIT_PLUGINS", &source)
        .env("PIP_NO_INDEX", 1)
        .env("UV_OFFLINE", 1)
        .start();
    assert_eq!(log_of(&served, "needy@1-0-0"), "clash 2.0");
}
