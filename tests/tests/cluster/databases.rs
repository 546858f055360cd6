//! A database that is killed.

use std::sync::Arc;
use std::time::Duration;

use runner_tests::services::{Database, MariadbServer, PostgresServer, RedisServer};

use crate::audit;
use crate::load::Load;
use crate::site::Site;

/// Hundreds of tasks around the death of the database, twice.
fn survive(site: &Site, kill9: impl Fn(), restart: impl Fn()) {
    let server = site.server();
    let workers = vec![site.worker(), site.worker()];
    let load = Load::default();
    for round in 1..=2 {
        load.submit_during(&server, || {
            let before = load.len();
            runner_tests::eventually("some tasks", Duration::from_secs(30), || {
                (load.len() >= before + 60 * round).then_some(())
            });
            kill9();
            restart();
        });
    }
    load.settle(&server);
    audit::load(site, &server, &load);
    // Runs that ended while nothing could be written keep their outputs until it can.
    audit::strays_of_killed(site, 0);
    audit::end(server, workers);
}

#[test]
fn postgres_is_killed_and_comes_back() {
    let database = Arc::new(PostgresServer::start());
    let site = Site::on(Database::postgres(&database)).with_redis(RedisServer::start());
    survive(&site, || database.kill9(), || database.restart());
}

#[test]
fn mariadb_is_killed_and_comes_back() {
    let database = Arc::new(MariadbServer::start());
    let site = Site::on(Database::mariadb(&database)).with_redis(RedisServer::start());
    survive(&site, || database.kill9(), || database.restart());
}

#[test]
fn database_and_redis_are_killed_together_and_come_back_empty_and_whole() {
    let database = Arc::new(PostgresServer::start());
    let site = Site::on(Database::postgres(&database)).with_redis(RedisServer::start());
    let both = || {
        database.kill9();
        site.redis.kill9();
    };
    let back = || {
        database.restart();
        site.redis.restart();
    };
    survive(&site, both, back);
}
