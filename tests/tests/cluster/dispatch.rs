//! When, how often and before whom tasks are run.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use runner_tests::{Request, Runner};

use crate::audit;
use crate::held::Held;
use crate::load::{HELLO, PAUSE};
use crate::manifests::{failing, gate, module};
use crate::site::{LEASE, Site};

fn pause(marker: &str) -> Request {
    let form = [("marker", marker), ("millis", "20")];
    Request::post(&format!("/plugins/{PAUSE}/process/")).form(&form)
}

#[test]
fn the_same_request_twenty_times_at_once_makes_one_task() {
    let site = Site::postgres();
    let (one, other) = (site.server(), site.server());
    let worker = site.worker();
    let same = pause("same").header("Idempotency-Key", "key 1");
    let tasks: BTreeSet<u64> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..20)
            .map(|n| {
                let server = if n % 2 == 0 { &one } else { &other };
                let same = &same;
                scope.spawn(move || server.accepted(&server.send(same)))
            })
            .collect();
        let tasks = asked
            .into_iter()
            .map(|asked| asked.join().expect("accepted"));
        tasks.collect()
    });
    assert_eq!(tasks.len(), 1, "{tasks:?}");
    let [task] = Vec::from_iter(tasks)[..] else {
        panic!("just counted")
    };
    one.successful(one.finished(task));
    assert_eq!(
        one.accepted(&one.send(&same)),
        task,
        "also when it has ended"
    );
    assert_eq!(site.database.number("SELECT count(*) FROM tasks"), 1);
    let different = pause("different").header("Idempotency-Key", "key 1");
    let refused = other.send(&different).expect(409).text();
    assert!(refused.contains("Idempotency-Key"), "{refused}");
    let second = pause("same").header("Idempotency-Key", "key 2");
    assert_ne!(one.accepted(&one.send(&second)), task);
    let third = one.accepted(&one.send(&pause("same")));
    one.successful(one.finished(third));
    assert_eq!(site.database.number("SELECT count(*) FROM tasks"), 3);
    drop(other);
    audit::end(one, vec![worker]);
}

#[test]
fn a_plugin_that_fails_is_run_again_as_often_as_request_or_manifest_say() {
    let mut site = Site::postgres();
    let folder = module("stubborn", "retries = 1", &failing("stubborn"));
    site.plugins.push(folder.path().to_owned());
    let server = site.server();
    let worker = site.worker();
    let cases = [
        ("fails@1-0-0", None, 0),
        ("fails@1-0-0", Some("1"), 1),
        ("stubborn@1-0-0", None, 1),
        ("stubborn@1-0-0", Some("0"), 0),
    ];
    let tasks = cases.map(|(plugin, retries, _)| {
        let form: Vec<_> = retries.iter().map(|count| ("_retries", *count)).collect();
        server.submit(plugin, &form)
    });
    for (task, (plugin, retries, again)) in tasks.into_iter().zip(cases) {
        let task = server.finished(task);
        let log = server.failed(&task);
        let runs = log.matches("Traceback").count();
        assert_eq!(runs, again + 1, "{plugin} {retries:?}: {log}");
        assert_eq!(
            task["attempts"].as_u64().unwrap_or(0),
            again as u64,
            "{task:#}"
        );
    }
    let wrong = server.post_form("/plugins/fails@1-0-0/process/", &[("_retries", "101")]);
    wrong.expect(422);
    audit::queue_is_empty(&site);
    audit::end(server, vec![worker]);
}

#[test]
fn a_task_is_run_at_its_moment_also_when_redis_forgot_it() {
    let site = Site::postgres().with_redis(runner_tests::services::RedisServer::start());
    let server = site.server();
    let worker = site.worker();
    for forgets in [false, true] {
        let held = Held::new();
        let begin = Instant::now();
        let date = Command::new("date")
            .args(["-u", "-d", "+2 seconds", "+%Y-%m-%dT%H:%M:%S.%3NZ"])
            .output();
        let moment = String::from_utf8_lossy(&date.expect("date").stdout).into_owned();
        let task = held.submit(&server, "gate@1-0-0", &[("_runAt", moment.trim())]);
        let shown = server.task(task);
        assert!(shown["runAt"].is_string(), "{shown:#}");
        if forgets {
            site.redis.command(&["FLUSHALL"]);
        }
        held.arrived();
        let waited = begin.elapsed().as_secs_f64();
        assert!((1.99..3.5).contains(&waited), "it began after {waited} s");
        held.open();
        server.successful(server.finished(task));
    }
    audit::queue_is_empty(&site);
    audit::end(server, vec![worker]);
}

#[test]
fn urgent_tasks_go_first() {
    let site = Site::postgres();
    let server = site.server();
    let worker = site.process().env("CONCURRENCY", 1).start_worker();
    let held = Held::new();
    held.submit(&server, "gate@1-0-0", &[]);
    held.arrived();
    let words = ["low", "normal", "high", "low", "normal", "high"];
    let mut tasks: Vec<(u64, &str)> = words
        .iter()
        .map(|word| {
            let form = [("marker", *word), ("millis", "20"), ("_priority", *word)];
            (server.submit(PAUSE, &form), *word)
        })
        .collect();
    held.open();
    for (task, _) in &tasks {
        server.successful(server.finished(*task));
    }
    let ended = ends(&site);
    tasks.sort_by_key(|(task, _)| ended.iter().position(|ended| ended == task));
    let order: Vec<_> = tasks.iter().map(|(_, word)| *word).collect();
    assert_eq!(order, ["high", "high", "normal", "normal", "low", "low"]);
    audit::end(server, vec![worker]);
}

/// Tasks in the order in which they ended.
fn ends(site: &Site) -> Vec<u64> {
    let rows = site
        .database
        .rows("SELECT id FROM tasks WHERE finished_at IS NOT NULL ORDER BY finished_at, id");
    let ids = rows.iter().map(|row| row[0].parse().expect("a number"));
    ids.collect()
}

#[test]
fn a_request_limits_the_time_of_its_runs() {
    let site = Site::postgres();
    let server = site.server();
    let worker = site.worker();
    let held = Held::new();
    let begin = Instant::now();
    let task = held.submit(&server, "gate@1-0-0", &[("_timeout", "0.5")]);
    let log = server.failed(&server.finished(task));
    assert!(log.contains("longer than 0.5 s"), "{log}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    audit::end(server, vec![worker]);
}

#[test]
fn only_what_failed_or_was_cancelled_is_run_once_more() {
    let site = Site::postgres();
    let server = site.server();
    let worker = site.worker();
    let well = server.accepted(&server.send(&pause("x")));
    server.successful(server.finished(well));
    let retry = |task: u64| Request::post(&format!("/tasks/{task}/retry"));
    server.send(&retry(well)).expect(409);
    server.send(&retry(999_999)).expect(404);
    let held = Held::new();
    let task = held.submit(&server, "gate@1-0-0", &[]);
    held.arrived();
    server.send(&retry(task)).expect(409);
    let cancel = Request::post(&format!("/tasks/{task}/cancel"));
    server.send(&cancel).expect(200);
    server.send(&retry(task)).expect(200);
    held.arrived();
    held.open();
    let task = server.successful(server.finished(task));
    assert_eq!(server.only_output(&task).2, b"open");
    audit::queue_is_empty(&site);
    audit::end(server, vec![worker]);
}

#[test]
fn a_plugin_runs_as_often_at_a_time_as_its_manifest_allows_over_all_workers() {
    let mut site = Site::postgres();
    let folder = module("solo", "concurrency = 1", &gate("solo"));
    site.plugins.push(folder.path().to_owned());
    let server = site.server();
    let (mut first, second) = (site.worker(), site.worker());
    let gates = [Held::new(), Held::new()];
    let kept: Vec<_> = (0..3)
        .map(|_| gates[0].submit(&server, "solo@1-0-0", &[]))
        .collect();
    gates[0].arrived();
    // Others are not held up.
    server.run_well(PAUSE, &[("marker", "x"), ("millis", "0")]);
    assert!(!gates[0].arrived_within(Duration::from_millis(500)));
    // A place that died with its worker is given to the next, not before the lease has ended.
    first.kill9();
    server.run_well(PAUSE, &[("marker", "y"), ("millis", "0")]);
    gates[0].open();
    for task in kept {
        server.successful(server.finished(task));
    }
    audit::nothing_is_stuck(&site);
    audit::queue_is_empty(&site);
    audit::end(server, vec![second]);
}

#[test]
fn who_asks_for_much_does_not_hold_up_who_asks_for_little() {
    let site = Site::postgres();
    let server = site.server();
    let form = |text: &str| {
        Request::post(&format!("/plugins/{HELLO}/process/")).form(&[("inputStr", text)])
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..125 {
                    server.accepted(&server.send(&form("many")));
                }
            });
        }
    });
    let few: Vec<u64> = (0..5)
        .map(|_| from_elsewhere(&server, &form("few")))
        .collect();
    let worker = site.process().env("CONCURRENCY", 2).start_worker();
    for task in &few {
        server.successful(server.finished(*task));
    }
    crate::load::Load::default().settle(&server);
    let ended = ends(&site);
    assert_eq!(ended.len(), 505);
    let last = few
        .iter()
        .filter_map(|task| ended.iter().position(|id| id == task));
    let last = last.max().expect("they ended");
    assert!(last < 30, "the last of the five was the {last}th of all");
    audit::queue_is_empty(&site);
    audit::end(server, vec![worker]);
}

fn from_elsewhere(server: &Runner, request: &Request) -> u64 {
    let SocketAddr::V4(address) = server.address() else {
        panic!("the tests use IPv4")
    };
    let answer = request.send_from(Ipv4Addr::new(127, 0, 0, 2), address);
    server.accepted(&answer.expect("an answer"))
}

#[test]
fn a_task_that_waits_longer_than_leases_is_run_once() {
    let site = Site::postgres();
    let server = site.server();
    let held = Held::new();
    let task = held.submit(&server, "gate@1-0-0", &[]);
    // Not for luck: nobody is there to run it for longer than any lease.
    std::thread::sleep(Duration::from_secs(LEASE + 1));
    let workers = vec![site.worker(), site.worker()];
    held.arrived();
    assert!(!held.arrived_within(Duration::from_millis(500)));
    std::thread::sleep(Duration::from_secs(LEASE + 1));
    assert!(!held.arrived_within(Duration::from_millis(100)));
    held.open();
    server.successful(server.finished(task));
    audit::queue_is_empty(&site);
    audit::end(server, workers);
}
