//! What the guides name is there, and what there is is named.

use std::collections::BTreeSet;

use regex::Regex;
use runner_tests::runner::command;
use runner_tests::scratch::Scratch;
use serde_json::Value;

use super::blocks;
use crate::shared::{HELLO, with_all};

/// The variables of the contract with the software around.
const CONTRACT: [&str; 20] = [
    "PLUGIN_FOLDERS",
    "BROKER_URL",
    "RESULT_BACKEND",
    "CELERY_QUEUE",
    "SQLALCHEMY_DATABASE_URI",
    "DEFAULT_FILE_STORE",
    "FILE_STORE_ROOT_PATH",
    "URL_MAP",
    "SERVER_NAME",
    "PLUGIN_REGISTRY_URL",
    "REVERSE_PROXY_COUNT",
    "GIT_PLUGINS",
    "CONTAINER_MODE",
    "CONCURRENCY",
    "PERIODIC_SCHEDULER",
    "DEFAULT_LOG_LEVEL",
    "LOCALHOST_PROXY_PORTS",
    "WAIT_HOSTS",
    "WAIT_TIMEOUT",
    "QHANA_PLUGIN_RUNNER_INSTANCE_FOLDER",
];

#[test]
fn every_number_is_explained_and_every_explained_one_is_told() {
    let page = blocks::read("docs/production.md");
    let (begin, end) = ("| name | what |", "Counters belong to a process");
    let table = page
        .split(begin)
        .nth(1)
        .and_then(|rest| rest.split(end).next());
    let name = Regex::new(r"`((?:runner|process)_[a-z_*]+)").expect("valid");
    let explained: BTreeSet<String> = name
        .captures_iter(table.expect("the table of numbers"))
        .map(|found| found[1].to_owned())
        .collect();
    let runner = with_all().start();
    runner.run_well(HELLO, &[("inputStr", "x")]);
    let text = runner.get("/metrics").expect(200).text();
    let told: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    for name in &told {
        let is_explained = explained.contains(*name)
            || explained.iter().any(|one| {
                one.strip_suffix('*')
                    .is_some_and(|begin| name.starts_with(begin))
            });
        assert!(
            is_explained || *name == "runner_info",
            "{name} is not in docs/production.md"
        );
    }
    // What is only there when it has happened.
    let rare = ["runner_leases_lost_total"];
    for name in explained.iter().filter(|name| !name.ends_with('*')) {
        assert!(
            told.contains(name.as_str()) || rare.contains(&name.as_str()),
            "{name} is not told"
        );
    }
}

#[test]
fn every_variable_of_the_reference_has_its_row() {
    let page = blocks::read("docs/moving.md");
    for name in CONTRACT {
        let has_row = page.lines().any(|line| {
            let first = line.split('|').nth(1).unwrap_or_default();
            first.contains(&format!("`{name}`"))
        });
        assert!(has_row, "{name} has no row in docs/moving.md");
    }
}

#[test]
fn commands_that_the_guides_name_are_commands() {
    let word = Regex::new(r"`runner ((?:[a-z]+)(?: [a-z]+)?)").expect("valid");
    let home = Scratch::new();
    let mut seen = BTreeSet::new();
    for document in blocks::documents() {
        if !document.starts_with("docs/") {
            continue;
        }
        for found in word.captures_iter(&blocks::read(&document)) {
            seen.insert(found[1].to_owned());
        }
    }
    assert!(seen.len() > 10, "{seen:?}");
    for words in seen {
        let all: Vec<&str> = words.split(' ').collect();
        let is_known = |words: &[&str]| {
            let mut help = command(home.path());
            help.arg("help")
                .args(words)
                .output()
                .expect("it can be run")
                .status
                .success()
        };
        assert!(is_known(&all) || is_known(&all[..1]), "runner {words}");
    }
}

#[test]
fn the_debugger_starts_commands_with_settings_that_there_are() {
    let text = blocks::read("default-launch.json");
    let launch: Value = serde_json::from_str(&text).expect("JSON");
    let example = blocks::read(".env.example");
    let configurations = launch["configurations"].as_array().expect("a list");
    let mut names = Vec::new();
    for one in configurations {
        names.push(one["name"].clone());
        let first = one["args"][0].as_str().expect("a command");
        assert!(["up", "server", "worker"].contains(&first), "{one}");
        for variable in one["env"].as_object().expect("variables").keys() {
            assert!(example.contains(&format!("# {variable}=")), "{variable}");
        }
    }
    let both = launch["compounds"][0]["configurations"]
        .as_array()
        .expect("a list");
    assert!(both.iter().all(|name| names.contains(name)), "{both:?}");
}

#[test]
fn variables_of_the_compose_file_are_settings() {
    let text = blocks::read("docker-compose.yml");
    let example = blocks::read(".env.example");
    let settings = text
        .split("x-settings: &settings")
        .nth(1)
        .expect("the settings");
    let settings = settings.split("\nx-").next().unwrap_or_default();
    let names = settings
        .lines()
        .filter_map(|line| line.trim().split_once(": "));
    let names: Vec<_> = names
        .map(|(name, _)| name)
        .filter(|name| !name.starts_with('#'))
        .collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        let is_known = example.contains(&format!("# {name}="))
            || example.contains(&format!("Also read from {name}"))
            || example
                .replace("\n## ", " ")
                .contains(&format!("Also read from {name}"));
        // These are read, or answered by a notice, elsewhere.
        let is_apart = name.starts_with("AUTH");
        assert!(is_known || is_apart, "{name} is no setting");
    }
}
