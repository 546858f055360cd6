//! Health, numbers and workers of several processes; what hangs, what is cut off, and one at another Redis.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use runner_tests::metrics::Metrics;
use runner_tests::services::{Cut, RedisServer};
use runner_tests::{Request, Runner, Worker, eventually};
use serde_json::{Value, json};

use crate::audit;
use crate::held::Held;
use crate::load::{HELLO, Load};
use crate::site::{LEASE, Site, postgres};

/// How soon a change is seen.
const SOON: Duration = Duration::from_secs(30);

/// What a health check is told, in time.
#[track_caller]
fn ready(address: SocketAddr) -> (u16, Value) {
    let begun = Instant::now();
    let answer = Request::get("/health/ready")
        .send(address)
        .expect("an answer");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    (answer.status, answer.json())
}

/// Waits until a check tells of a problem with this in it.
#[track_caller]
fn unready(address: SocketAddr, check: &str, part: &str) {
    eventually(&format!("{check} to be unready: {part}"), SOON, || {
        let (status, body) = ready(address);
        let problem = body["checks"][check]["problem"].as_str()?;
        assert_eq!(status, 503, "{body}");
        problem.contains(part).then_some(())
    });
}

#[track_caller]
fn ready_again(address: SocketAddr) {
    eventually("it to be ready", SOON, || {
        (ready(address).0 == 200).then_some(())
    });
}

fn metrics(address: SocketAddr) -> Metrics {
    let answer = Request::get("/metrics").send(address).expect("an answer");
    Metrics::read(&answer.expect(200).text())
}

/// A worker, and where it tells its numbers.
fn watched_worker(site: &Site) -> (Worker, SocketAddr) {
    let worker = site
        .process()
        .env("METRICS_ADDRESS", "127.0.0.1:0")
        .start_worker();
    let line = regex::Regex::new(r"http://(127\.0\.0\.1:\d+)/metrics").expect("valid");
    let log = worker.stderr();
    let found = line
        .captures(&log)
        .unwrap_or_else(|| panic!("no address in {log}"));
    let address = found[1].parse().expect("an address");
    (worker, address)
}

fn workers(server: &Runner) -> Vec<Value> {
    let token = server.token();
    let request = Request::get("/workers/").header("Authorization", &format!("Bearer {token}"));
    let list = server.send(&request).expect(200).json();
    list["workers"].as_array().cloned().expect("a list")
}

#[test]
fn each_process_tells_its_own_numbers_and_those_of_all() {
    let site = Site::postgres();
    let server = site.server();
    let (worker, address) = watched_worker(&site);
    ready_again(address);
    let load = Load::default();
    load.submit(&server, 40);
    load.settle(&server);
    let held = Held::new();
    let task = held.submit(&server, "gate@1-0-0", &[]);
    held.arrived();
    let (at_worker, at_server) = (metrics(address), metrics(server.address()));
    assert!(at_worker.sum("runner_runs_total", &[("outcome", "succeeded")]) >= 40.0);
    assert!(at_worker.sum("runner_wait_seconds_count", &[("plugin", HELLO)]) >= 1.0);
    assert!(!at_server.has("runner_runs_total"));
    assert!(!at_worker.has("runner_http_requests_total"));
    for found in [&at_worker, &at_server] {
        assert_eq!(found.sum("runner_queue_jobs", &[("state", "taken")]), 1.0);
        assert_eq!(found.sum("runner_processes", &[]), 2.0);
    }
    eventually("its run to be shown", SOON, || {
        let workers = workers(&server);
        assert_eq!(workers.len(), 2, "{workers:#?}");
        let runs: Vec<_> = workers
            .iter()
            .filter(|one| one["kind"] == "worker")
            .collect();
        let run = json!([{"task": task, "run": 1, "plugin": "gate@1-0-0"}]);
        assert_eq!(runs[0]["pid"], worker.pid());
        assert_eq!(runs[0]["queue"], json!(site.queue));
        let plugins = runs[0]["plugins"].as_array()?;
        assert!(plugins.contains(&json!("gate@1-0-0")), "{plugins:?}");
        (runs[0]["running"] == run).then_some(())
    });
    held.open();
    server.finished(task);
    audit::end(server, vec![worker]);
}

#[test]
fn a_worker_that_died_is_silent_and_its_leases_are_counted() {
    let site = Site::postgres();
    let server = site.server();
    let mut first = site.worker();
    let held = Held::new();
    let task = held.submit(&server, "gate@1-0-0", &[]);
    held.arrived();
    server.wait_for(task, "running", |task| task["state"] == "running");
    first.kill9();
    let (second, address) = watched_worker(&site);
    held.arrived();
    held.open();
    server.finished(task);
    let states = |pid: u32| {
        let of = workers(&server).into_iter().find(|one| one["pid"] == pid);
        of.map(|one| one["state"].clone())
    };
    eventually("the silence", SOON, || {
        (states(first.pid()) == Some(json!("silent"))).then_some(())
    });
    assert_eq!(states(second.pid()), Some(json!("alive")));
    let lost = metrics(address).sum("runner_leases_lost_total", &[])
        + metrics(server.address()).sum("runner_leases_lost_total", &[]);
    assert_eq!(lost, 1.0);
    assert!(metrics(server.address()).sum("runner_processes_silent", &[]) >= 1.0);
    audit::end(server, vec![second]);
}

#[test]
fn a_database_that_hangs_is_told_within_a_second() {
    let site = Site::postgres();
    let cut = Cut::new(postgres().port());
    let server = site.with_database_via(&cut).server().start();
    ready_again(server.address());
    cut.stall();
    unready(server.address(), "sql", "no answer");
    let begun = Instant::now();
    let found = metrics(server.address());
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(found.sum("runner_reachable", &[("what", "sql")]), 0.0);
    assert_eq!(found.sum("runner_reachable", &[("what", "queue")]), 1.0);
    assert!(found.has("runner_queue_jobs") && !found.has("runner_tasks"));
    // Whoever asks again and again does not wait longer.
    (0..5).for_each(|_| assert_eq!(ready(server.address()).0, 503));
    cut.heal();
    ready_again(server.address());
}

#[test]
fn a_redis_that_hangs_or_is_gone_is_told_within_a_second() {
    let site = Site::postgres().with_redis(RedisServer::start());
    let cut = Cut::new(site.redis.port());
    let server = site.with_redis_via(&cut).server().start();
    ready_again(server.address());
    cut.stall();
    unready(server.address(), "broker", "no answer");
    cut.cut();
    unready(server.address(), "broker", "Redis");
    cut.heal();
    ready_again(server.address());
}

#[test]
fn a_worker_at_another_redis_is_told_of_at_both_ends() {
    let site = Site::postgres();
    let server = site.server();
    let other = RedisServer::start();
    let worker = site
        .process()
        .env("BROKER_URL", other.url())
        .env("METRICS_ADDRESS", "127.0.0.1:0")
        .start_worker();
    let said = |log: String| {
        log.lines().any(|line| {
            line.contains("are not at this Redis")
                && line.contains("BROKER_URL")
                && line.contains("ERROR")
        })
    };
    eventually("both to say so", SOON, || {
        (said(server.stderr()) && said(worker.stderr())).then_some(())
    });
    assert!(
        server.stderr().contains(&format!("({} on ", worker.pid())),
        "{}",
        server.stderr()
    );
    unready(server.address(), "broker", "at another Redis");
    drop(worker);
    let right = site.worker();
    ready_again(server.address());
    let task = server.run_well(HELLO, &[("inputStr", "x")]);
    assert_eq!(task["status"], "SUCCESS");
    audit::end(server, vec![right]);
}

#[test]
fn a_redis_that_is_restarted_empty_is_no_other_redis() {
    let site = Site::postgres().with_redis(RedisServer::start());
    let server = site.server();
    let worker = site.worker();
    ready_again(server.address());
    site.redis.kill9();
    site.redis.restart();
    let until = Instant::now() + Duration::from_secs(3 * LEASE);
    while Instant::now() < until {
        let (_, body) = ready(server.address());
        let problem = body["checks"]["broker"]["problem"]
            .as_str()
            .unwrap_or_default();
        assert!(!problem.contains("another Redis"), "{body}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(
        !server.stderr().contains("are not at this Redis"),
        "{}",
        server.stderr()
    );
    ready_again(server.address());
    audit::end(server, vec![worker]);
}
