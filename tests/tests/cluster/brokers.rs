//! A Redis that is killed, emptied or halted.

use runner_tests::services::RedisServer;

use crate::audit;
use crate::load::Load;
use crate::site::{LEASE, Site};

/// Hundreds of tasks around a disaster of Redis.
fn survive(site: &Site, disaster: impl FnOnce(&Load, &runner_tests::Runner)) {
    let server = site.server();
    let workers = vec![site.worker(), site.worker()];
    let load = Load::default();
    load.submit(&server, 150);
    load.wait_for_ended(&server, 20);
    disaster(&load, &server);
    load.submit(&server, 50);
    load.settle(&server);
    audit::load(site, &server, &load);
    audit::strays_of_killed(site, 0);
    audit::end(server, workers);
}

#[test]
fn redis_is_killed_and_comes_back_empty() {
    let site = Site::postgres().with_redis(RedisServer::start());
    survive(&site, |load, server| {
        site.redis.kill9();
        // SQL is the truth: what is accepted now waits there.
        load.submit(server, 50);
        site.redis.restart();
    });
}

#[test]
fn redis_is_killed_and_comes_back_empty_beside_sqlite() {
    let site = Site::sqlite().with_redis(RedisServer::start());
    survive(&site, |load, server| {
        site.redis.kill9();
        load.submit(server, 50);
        site.redis.restart();
    });
}

#[test]
fn redis_is_killed_and_remembers() {
    let site = Site::postgres().with_redis(RedisServer::start_with_aof());
    survive(&site, |load, server| {
        site.redis.kill9();
        load.submit(server, 50);
        site.redis.restart();
    });
}

#[test]
fn redis_is_flushed() {
    let site = Site::mariadb().with_redis(RedisServer::start());
    survive(&site, |load, server| {
        for _ in 0..3 {
            site.redis.command(&["FLUSHALL"]);
            load.submit(server, 20);
        }
    });
}

#[test]
fn redis_is_halted_for_longer_than_a_lease() {
    let site = Site::postgres().with_redis(RedisServer::start());
    survive(&site, |load, server| {
        site.redis.halt();
        load.submit(server, 50);
        // Not for luck: the lease has to pass.
        std::thread::sleep(std::time::Duration::from_secs(LEASE + 1));
        site.redis.go_on();
    });
}

#[test]
fn an_entry_in_redis_that_nobody_can_read_harms_nobody() {
    let site = Site::postgres().with_redis(RedisServer::start());
    let server = site.server();
    let worker = site.worker();
    let key = |name: &str| format!("runner:{{{}}}:{name}", site.queue);
    let ring = ["RPUSH", &key("ring:2"), "stranger"];
    let jobs = ["RPUSH", &key("jobs:2:stranger"), "no entry at all"];
    let front = ["RPUSH", &key("front:1"), "", "7 7 7 7 7 7 7"];
    let delayed = ["ZADD", &key("delayed"), "1", "\u{0} no entry either"];
    for words in [&ring[..], &jobs, &front, &delayed] {
        site.redis.command(words);
    }
    let load = Load::default();
    load.submit(&server, 50);
    load.settle(&server);
    // What cannot be read is kept for people.
    runner_tests::eventually(
        "four dead entries",
        std::time::Duration::from_secs(10),
        || (site.redis.command(&["XLEN", &key("dead")]).number() == 4).then_some(()),
    );
    site.redis.command(&["DEL", &key("dead")]);
    audit::load(&site, &server, &load);
    audit::end(server, vec![worker]);
}
