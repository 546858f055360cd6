//! Bad starts: one line that says what to do, and exit code 1.

use runner_tests::runner::Builder;
use runner_tests::scratch::Scratch;
use runner_tests::services::RedisServer;

use crate::audit;
use crate::load::Load;
use crate::site::{Site, mariadb, postgres};

/// A port that nobody listens on.
fn nobody() -> u16 {
    runner_tests::HookServer::start().port()
}

/// The one line that it says.
#[track_caller]
fn line(builder: Builder, parts: &[&str]) {
    for builder in [builder.clone().server(), builder.worker()] {
        let refusal = builder.expect_refusal();
        assert_eq!(refusal.status.code(), Some(1), "{}", refusal.stderr);
        let lines: Vec<_> = refusal
            .stderr
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        assert_eq!(lines.len(), 1, "one line: {}", refusal.stderr);
        for part in parts {
            assert!(lines[0].contains(part), "{part:?} is missing: {}", lines[0]);
        }
        assert!(!lines[0].contains("secret"), "a password: {}", lines[0]);
    }
}

#[test]
fn a_broker_that_is_missing_or_no_redis() {
    let site = Site::postgres();
    let with = |url: &str| site.process().env("BROKER_URL", url);
    line(with(""), &["--broker-url", "redis://", "runner up"]);
    line(
        with("amqp://user:secret@127.0.0.1/"),
        &["amqp://", "redis://"],
    );
    let port = nobody();
    let url = format!("redis://127.0.0.1:{port}/0");
    line(with(&url), &[&format!("127.0.0.1:{port}"), "Redis"]);
    let locked = RedisServer::start_with(&["--requirepass", "right"]);
    let port = locked.port();
    let parts = ["password", &format!("127.0.0.1:{port}")];
    line(with(&format!("redis://:secret@127.0.0.1:{port}/0")), &parts);
    line(with(&locked.url()), &parts);
    let well = with(&format!("redis://:right@127.0.0.1:{port}/0"));
    well.server().start();
    // Something else listens there.
    let other = format!("redis://127.0.0.1:{}/0", postgres().port());
    line(with(&other), &["Redis"]);
}

#[test]
fn a_database_that_cannot_be_used() {
    let site = Site::postgres();
    let with = |url: &str| site.process().env("DATABASE_URL", url);
    let server = postgres();
    line(
        with(&server.locked_url("postgres", "secret")),
        &["password", "locked"],
    );
    line(with(&server.url("nowhere")), &["nowhere"]);
    line(with(&mariadb().url("nowhere")), &["nowhere"]);
    let port = nobody();
    for url in [
        format!("postgresql://runner:secret@127.0.0.1:{port}/runner"),
        format!("mysql://runner:secret@127.0.0.1:{port}/runner"),
    ] {
        line(with(&url), &[&format!("127.0.0.1:{port}")]);
    }
    let port = mariadb().port();
    let url = format!("mysql://nobody:secret@127.0.0.1:{port}/mysql");
    line(with(&url), &["nobody"]);
    line(
        with("oracle://127.0.0.1/x"),
        &["DATABASE_URL", "postgresql://"],
    );
}

#[test]
fn a_schema_of_a_newer_runner() {
    for site in [Site::postgres(), Site::mariadb(), Site::sqlite()] {
        drop(site.server());
        let newer =
            "INSERT INTO runner_migrations (version, name, applied_at) VALUES (9999, 'x', 1)";
        site.database.rows(newer);
        line(site.process(), &["newer", "9999"]);
    }
}

#[test]
fn a_name_of_a_queue_that_cannot_be_one() {
    let site = Site::postgres();
    for name in ["", "a b", "a:b", "{x}", &"x".repeat(100)] {
        line(site.process().env("QUEUE", name), &["QUEUE"]);
    }
}

#[test]
fn a_worker_with_another_file_store_than_the_servers() {
    let site = Site::postgres();
    let server = site.server();
    let elsewhere = Scratch::new();
    let other = elsewhere.path().join("files");
    let builder = site.process().env("FILE_STORE_ROOT_PATH", other.display());
    let here = site.files().display().to_string();
    line(builder, &[&here, &other.display().to_string()]);
    let worker = site.worker();
    let load = Load::default();
    load.submit(&server, 10);
    load.settle(&server);
    audit::load(&site, &server, &load);
    audit::end(server, vec![worker]);
}

#[test]
fn one_alone_and_several_on_one_folder() {
    let site = Site::sqlite();
    let server = site.server();
    let refusal = site.process().expect_refusal();
    assert_eq!(refusal.status.code(), Some(1));
    assert!(refusal.stderr.contains("in use"), "{}", refusal.stderr);
    drop(server);
    site.process().start();
}
