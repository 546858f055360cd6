//! `runner db` on all three databases.

use std::process::Output;

use runner_tests::scratch::Scratch;
use runner_tests::services::Database;

use crate::audit;
use crate::load::Load;
use crate::site::{Site, mariadb, on_all_databases, postgres};

on_all_databases!(tables_are_made_shown_and_dropped);

/// Runs `runner db`.
fn db(database: &Database, home: &Scratch, words: &[&str]) -> Output {
    let mut command = runner_tests::runner::command(home.path());
    command
        .arg("db")
        .args(words)
        .args(["--database-url", &database.url()]);
    command.output().expect("it can be run")
}

#[track_caller]
fn well(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn tables_are_made_shown_and_dropped(site: &Site) {
    let home = Scratch::new();
    let db = |words: &[&str]| db(&site.database, &home, words);
    if let Database::Sqlite(path) = &site.database {
        let folder = path.parent().expect("it lies in a folder");
        std::fs::create_dir_all(folder).expect("it can be made");
    }
    assert!(well(&db(&["status"])).contains("missing"));
    // Two at once wait for each other.
    let both = std::thread::scope(|scope| {
        [
            scope.spawn(|| db(&["migrate"])),
            scope.spawn(|| db(&["upgrade"])),
        ]
        .map(|migration| migration.join().expect("it ran"))
    });
    both.iter().for_each(|output| {
        well(output);
    });
    let status = well(&db(&["status"]));
    assert!(
        status.contains("applied") && !status.contains("missing"),
        "{status}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&well(&db(&["status", "--json"]))).expect("JSON");
    let migrations = json["migrations"].as_array().expect("a list");
    assert!(
        migrations.iter().all(|one| one["appliedAt"].is_i64()),
        "{json}"
    );
    site.database.rows("CREATE TABLE not_ours (id INTEGER)");
    let server = site.server();
    let worker = site.worker();
    let load = Load::default();
    load.submit(&server, 20);
    load.settle(&server);
    audit::load(site, &server, &load);
    audit::end(server, vec![worker]);
    well(&db(&["migrate"]));
    assert!(
        site.database.number("SELECT count(*) FROM tasks") >= 20,
        "nothing is lost"
    );
    let refused = db(&["drop"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("--yes"), "{said}");
    well(&db(&["drop", "--yes"]));
    assert_eq!(site.database.number("SELECT count(*) FROM not_ours"), 0);
    assert_eq!(tables(&site.database), ["not_ours"]);
    assert!(well(&db(&["status"])).contains("missing"));
    well(&db(&["drop", "--yes"]));
    well(&db(&["migrate"]));
    assert_eq!(site.database.number("SELECT count(*) FROM tasks"), 0);
}

fn tables(database: &Database) -> Vec<String> {
    let sql = match database {
        Database::Sqlite(_) => {
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        }
        Database::Postgres(..) => {
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        }
        Database::Mariadb(..) => {
            "SELECT table_name FROM information_schema.tables WHERE table_schema = database()"
        }
    };
    database.rows(sql).into_iter().flatten().collect()
}

#[test]
fn passwords_are_never_shown() {
    let home = Scratch::new();
    for url in [
        postgres().locked_url("postgres", "secret"),
        format!("mysql://nobody:secret@127.0.0.1:{}/mysql", mariadb().port()),
    ] {
        for words in [["db", "status"], ["db", "migrate"], ["config", "--help"]] {
            let mut command = runner_tests::runner::command(home.path());
            command.args(words).env("DATABASE_URL", &url);
            let output = command.output().expect("it can be run");
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
