//! What administrators want of modules: all processes follow it, also those that were away.

mod away;

use std::path::{Path, PathBuf};
use std::time::Duration;

use runner_tests::scratch::Scratch;
use runner_tests::wait::eventually;
use runner_tests::{Runner, Worker};
use serde_json::{Value, json};

use crate::site::{Site, on_all_databases};

/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(90);
const PLUGIN: &str = "wanted@1-0-0";

on_all_databases!(what_is_wanted_is_followed_also_by_who_was_away);

/// A module that says its mark.
fn write(folder: &Path, mark: &str) -> PathBuf {
    let path = folder.join("wanted.lua");
    let text = format!(
        "return {{ name = 'wanted', version = '1.0.0', parameters = {{}}, \
         run = function(task, p) return '{mark}' end }}\n"
    );
    std::fs::write(&path, text).expect("a module is written");
    path
}

fn list(server: &Runner) -> Value {
    server.ask("GET", "/modules/", None).expect(200).json()
}

/// The view of a worker that has followed as far as the server.
fn follows(server: &Runner, worker: &Worker) -> Option<Value> {
    let list = list(server);
    let pid = format!("-{}-", worker.pid());
    let mut others = list["others"].as_array()?.iter();
    let own = others.find(|other| {
        let process = other["process"].as_str().unwrap_or_default();
        process.contains(&pid)
    })?;
    (own["generation"] == list["generation"]).then(|| own.clone())
}

fn followed(server: &Runner, worker: &Worker) -> Value {
    eventually("a worker that has followed", LONG, || {
        follows(server, worker)
    })
}

/// The plugins that a worker tells others it has.
fn plugins(server: &Runner, worker: &Worker) -> Vec<String> {
    let workers = server.ask("GET", "/workers/", None).expect(200).json();
    let workers = workers["workers"].as_array().cloned().unwrap_or_default();
    let own = workers
        .iter()
        .find(|other| other["pid"] == json!(worker.pid()) && other["state"] == "alive");
    let plugins = own.map(|own| own["plugins"].clone());
    serde_json::from_value(plugins.unwrap_or_default()).unwrap_or_default()
}

fn has(server: &Runner, worker: &Worker, plugin: &str, is_there: bool) {
    eventually(&format!("{plugin}: {is_there}"), LONG, || {
        let plugins = plugins(server, worker);
        (!plugins.is_empty() && plugins.iter().any(|own| own == plugin) == is_there).then_some(())
    });
}

fn change(server: &Runner, method: &str, target: &str) {
    server.ask(method, target, None).expect(200);
}

fn what_is_wanted_is_followed_also_by_who_was_away(site: &Site) {
    let folder = Scratch::new();
    let mut server = site.server();
    let (mut one, mut other) = (site.worker(), site.worker());
    let path = write(folder.path(), "first");
    let loaded = server.ask("POST", "/modules/", Some(&json!({"target": path})));
    let digest = loaded.expect(201).json()["sha256"].clone();
    // Others have it from the file store.
    std::fs::remove_file(&path).expect("the file is removed");
    for worker in [&one, &other] {
        assert_eq!(followed(&server, worker)["failing"], json!({}));
        has(&server, worker, PLUGIN, true);
    }
    let task = server.run_well(PLUGIN, &[]);
    assert_eq!(task["log"], "first");
    assert_eq!(
        task["module"],
        json!({"digest": digest, "runs": [{"run": 1, "digest": digest}], "changed": false})
    );

    // While a worker is away the module is replaced, and one of the plugin folders is stopped.
    other.kill9();
    write(folder.path(), "second");
    change(&server, "POST", "/modules/wanted/reload");
    std::fs::remove_file(&path).expect("the file is removed");
    change(&server, "POST", "/modules/work/stop");
    let stopped = "pause@1-0-0";
    other.restart();
    for worker in [&one, &other] {
        followed(&server, worker);
        has(&server, worker, PLUGIN, true);
        has(&server, worker, stopped, false);
    }
    one.terminate();
    let task = server.run_well(PLUGIN, &[]);
    assert_eq!(task["log"], "second");
    one.restart();

    // A server that begins again knows it, too.
    server.kill9();
    server.restart();
    let module = server.module("wanted");
    assert_eq!(
        (&module["state"], &module["origin"]),
        (&json!("RUNNING"), &json!("administrator"))
    );
    let module = server.module("work");
    assert_eq!(
        (&module["state"], &module["reason"]),
        (&json!("EXITED"), &json!("stopped"))
    );
    change(&server, "POST", "/modules/work/start");
    one.kill9();
    change(&server, "DELETE", "/modules/wanted/");
    change(&server, "DELETE", "/modules/work/");
    one.restart();
    for worker in [&one, &other] {
        followed(&server, worker);
        has(&server, worker, PLUGIN, false);
        has(&server, worker, stopped, false);
    }
    assert_eq!(list(&server)["removed"], json!(["work"]));
    let again = server.ask("POST", "/modules/", Some(&json!({"target": "work"})));
    assert_eq!(again.expect(201).json()["origin"], "folder");
    for worker in [&one, &other] {
        has(&server, worker, stopped, true);
    }
    assert_eq!(list(&server)["removed"], json!([]));
}

#[test]
fn what_a_worker_cannot_follow_is_shown_with_the_reason() {
    let site = Site::postgres();
    let folder = Scratch::new();
    let server = site.server();
    let wary = site
        .process()
        .env("ALLOWED_MODULES", "0".repeat(64))
        .start_worker();
    let path = write(folder.path(), "first");
    let loaded = server.ask("POST", "/modules/", Some(&json!({"target": path})));
    loaded.expect(201);
    let failing = |worker: &Worker| {
        eventually("a reason", LONG, || {
            let own = follows(&server, worker)?;
            own["failing"]["wanted"].as_str().map(str::to_owned)
        })
    };
    let reason = failing(&wary);
    assert!(reason.contains("ALLOWED_MODULES"), "{reason}");
    let shown = server.module("wanted")["failing"].clone();
    assert_eq!(shown[0]["reason"], json!(reason), "{shown:#}");

    // The file store has lost it.
    let sql = "SELECT file_key FROM modules WHERE name = 'wanted' AND is_kept = 1";
    let key = site.database.rows(sql)[0][0].clone();
    let content = walk(site.files())
        .into_iter()
        .find(|path| path.ends_with(&key));
    std::fs::remove_file(content.expect("a package")).expect("it is removed");
    let late = site.worker();
    let reason = failing(&late);
    assert!(reason.contains("file store"), "{reason}");
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let below = entries.flat_map(|entry| match entry.path().is_dir() {
        true => walk(&entry.path()),
        false => vec![entry.path()],
    });
    below.collect()
}

#[test]
fn of_two_servers_that_change_a_module_at_once_all_follow_one() {
    let site = Site::postgres();
    let folder = Scratch::new();
    let servers = [site.server(), site.server()];
    let path = write(folder.path(), "first");
    let loaded = servers[0].ask("POST", "/modules/", Some(&json!({"target": path})));
    loaded.expect(201);
    eventually("the other server", LONG, || {
        let modules = servers[1].modules();
        modules
            .iter()
            .any(|module| module["name"] == "wanted" && module["state"] == "RUNNING")
            .then_some(())
    });
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let changes = servers.each_ref().map(|server| {
            scope.spawn(|| server.ask("POST", "/modules/wanted/reload", None).status)
        });
        changes
            .map(|change| change.join().expect("an answer"))
            .into()
    });
    assert!(statuses.contains(&200), "{statuses:?}");
    assert!(
        statuses.iter().all(|status| [200, 409].contains(status)),
        "{statuses:?}"
    );
    eventually("one generation", LONG, || {
        let generations = servers
            .each_ref()
            .map(|server| list(server)["generation"].clone());
        (generations[0] == generations[1]).then_some(())
    });
    // Nothing is left of what was not decided.
    let kept = site.database.number("SELECT count(*) FROM modules");
    assert_eq!(kept, 1);
}
