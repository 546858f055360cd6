//! The lines of `docs/production.md` on backup: what was kept is there again, on SQLite and PostgreSQL.

use std::path::Path;
use std::process::Command;

use runner_tests::Runner;
use runner_tests::scratch::Scratch;
use runner_tests::services::{Database, RedisServer};
use serde_json::Value;

use crate::audit;
use crate::load::HELLO;
use crate::site::{Site, postgres};

/// The blocks of shell of the page: backup and restoring, each on SQLite and PostgreSQL.
fn blocks() -> [String; 4] {
    let path = runner_tests::repository("docs/production.md");
    let text = std::fs::read_to_string(path).expect("docs/production.md");
    let blocks = text.split("```sh\n").skip(1);
    let blocks: Vec<_> = blocks
        .map(|block| block.split("```").next().unwrap_or_default().to_owned())
        .collect();
    let [backup, backup_postgres, restore, restore_postgres] = &blocks[..] else {
        panic!("{blocks:#?}");
    };
    [backup, backup_postgres, restore, restore_postgres].map(String::clone)
}

#[track_caller]
fn run(folder: &Path, commands: &str, variables: &[(&str, String)]) {
    let mut shell = Command::new("sh");
    shell.args(["-euc", commands]).current_dir(folder);
    let output = shell
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .output();
    let output = output.expect("sh can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands}\n{said}");
}

/// Some tasks that have ended, one of them with an upload.
fn some(runner: &Runner) -> Vec<(u64, Vec<u8>)> {
    (0..5)
        .map(|n| {
            let number = runner.submit(HELLO, &[("inputStr", &format!("kept {n}"))]);
            let task = runner.successful(runner.finished(number));
            (number, runner.only_output(&task).2)
        })
        .collect()
}

#[track_caller]
fn are_there(runner: &Runner, kept: &[(u64, Vec<u8>)]) {
    for (number, content) in kept {
        let task: Value = runner.successful(runner.task(*number));
        assert_eq!(runner.only_output(&task).2, *content, "{task:#}");
    }
    // And it goes on.
    runner.run_well(HELLO, &[("inputStr", "new")]);
}

#[test]
fn of_sqlite_while_it_serves() {
    let [backup, _, restore, _] = blocks();
    let start = || Runner::builder().plugins(["stable_plugins/demo"]);
    let mut runner = start().start();
    let kept = some(&runner);
    run(runner.home(), &backup, &[]);
    some(&runner);
    run(runner.home(), &restore, &[]);
    let restored = start().instance(runner.home().join("restored")).start();
    are_there(&restored, &kept);
    assert_eq!(restored.token(), runner.token());
    let after = kept.len() as u64 + 2;
    restored.get(&format!("/tasks/{after}/")).expect(404);
    assert!(runner.terminate().success());
}

#[test]
fn of_postgresql_while_it_serves() {
    let [_, backup, _, restore] = blocks();
    let site = Site::postgres();
    let server = site.server();
    let worker = site.worker();
    let kept = some(&server);
    let folder = Scratch::new();
    let files = folder.path().join("new-files");
    let new = Database::postgres(postgres());
    let variables = [
        ("DATABASE_URL", site.database.url()),
        ("FILE_STORE_ROOT_PATH", site.files().display().to_string()),
        ("NEW_DATABASE_URL", new.url()),
        ("NEW_FILE_STORE", files.display().to_string()),
    ];
    run(folder.path(), &backup, &variables);
    some(&server);
    run(folder.path(), &restore, &variables);
    let again = Site::on(new)
        .with_files(&files)
        .with_redis(RedisServer::start());
    let new_server = again.server();
    let new_worker = again.worker();
    are_there(&new_server, &kept);
    audit::end(new_server, vec![new_worker]);
    audit::end(server, vec![worker]);
}
