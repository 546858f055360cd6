//! Events, cancelling and webhooks, whichever server is asked, and wherever the run is.

use std::time::{Duration, Instant};

use runner_tests::{HookServer, Reply, Request, Runner, eventually, proc};

use crate::audit;
use crate::held::Held;
use crate::load::PAUSE;
use crate::site::Site;

#[test]
fn whoever_waits_is_told_at_either_server() {
    let site = Site::postgres();
    let (one, other) = (site.server(), site.server());
    let worker = site.worker();
    let held = Held::new();
    let task = held.submit(&one, "gate@1-0-0", &[]);
    held.arrived();
    let running = |task: &serde_json::Value| task["state"] == "running";
    let version = one.wait_for(task, "running", running)["version"].clone();
    let hook = HookServer::start();
    other
        .subscribe(task, &hook.url("/hook"), Some("status"))
        .expect(200);
    let targets = [
        format!("/tasks/{task}/?wait=30&version={version}"),
        format!("/tasks/{task}/events"),
    ];
    std::thread::scope(|scope| {
        let asked: Vec<_> = [&one, &other]
            .into_iter()
            .flat_map(|server| targets.iter().map(move |target| (server, target)))
            .map(|(server, target)| {
                scope.spawn(move || {
                    (
                        server.send(&Request::get(target).header("Accept", "*/*")),
                        Instant::now(),
                    )
                })
            })
            .collect();
        // They have asked when the servers have their connections.
        eventually("four connections", Duration::from_secs(10), || {
            let open = connections(&one) + connections(&other);
            (open >= 4).then_some(())
        });
        held.open();
        one.successful(one.finished(task));
        let ended = Instant::now();
        for asked in asked {
            let (answer, at) = asked.join().expect("an answer");
            assert_eq!(answer.status, 200);
            assert!(answer.text().contains("SUCCESS"), "{}", answer.text());
            let late = at.saturating_duration_since(ended);
            assert!(late < Duration::from_secs(1), "{late:?} after the end");
        }
    });
    let told = hook.next();
    let source = format!("{}/tasks/{task}/", one.base());
    assert_eq!(told.query("source"), Some(source));
    drop(other);
    audit::end(one, vec![worker]);
}

/// Established connections to a server.
fn connections(server: &Runner) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let local = format!("0100007F:{:04X}", server.port());
    let lines = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|fields| fields.get(1) == Some(&local.as_str()) && fields.get(3) == Some(&"01"))
        .count()
}

#[test]
fn cancelling_and_deleting_at_one_server_ends_a_run_elsewhere() {
    let site = Site::postgres();
    let (one, other) = (site.server(), site.server());
    let worker = site.worker();
    for method in ["cancel", "delete"] {
        let held = Held::new();
        let task = held.submit(&one, "family@1-0-0", &[]);
        let told = |task: &serde_json::Value| {
            task["log"]
                .as_str()
                .is_some_and(|log| log.contains("pids "))
        };
        let log = one.wait_for(task, "telling its pids", told)["log"].to_string();
        let (_, rest) = log.split_once("pids ").expect("just waited for");
        let (pids, _) = rest.split_once('.').expect("it ends with a stop");
        let pids: Vec<u32> = pids
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect();
        // Numbers of the sandbox's own are no processes here.
        let family: Vec<u32> = audit::below(&[worker.pid()])
            .into_iter()
            .filter(|pid| proc::command(*pid).contains("time.sleep(600)"))
            .collect();
        assert_eq!((pids.len(), family.len()), (2, 2), "{log}");
        let begin = Instant::now();
        if method == "cancel" {
            let answer = other.post_form(&format!("/tasks/{task}/cancel"), &[]);
            assert_eq!(answer.expect(200).json()["state"], "cancelled");
        } else {
            other
                .send(&Request::new("DELETE", &format!("/tasks/{task}/")))
                .expect(204);
            one.get(&format!("/tasks/{task}/")).expect(404);
        }
        let left = proc::wait_until_gone(&family, Duration::from_secs(5));
        assert!(left.is_empty(), "{left:?}");
        let took = begin.elapsed();
        assert!(
            took < Duration::from_secs(1),
            "{method}: {took:?} until its processes were gone"
        );
    }
    audit::queue_is_empty(&site);
    drop(other);
    audit::end(one, vec![worker]);
}

#[test]
fn webhooks_survive_a_restart_of_everything_and_keep_their_order() {
    let site = Site::postgres();
    let mut server = site.server();
    let mut worker = site.worker();
    // A port that was open a moment ago: its connections are refused.
    let port = HookServer::start().port();
    let href = format!("http://127.0.0.1:{port}/hook");
    let plugin = crate::load::MULTI_STEP;
    let task = server.submit(plugin, &[("inputStr", "x")]);
    let waiting = |task: &serde_json::Value| task["state"] == "waiting";
    server.wait_for(task, "waiting", waiting);
    server.subscribe(task, &href, None).expect(200);
    let step = format!("/plugins/{plugin}/{task}/demo-step-process/");
    server.accepted(&server.post_form(&step, &[("inputStr", "y")]));
    server.successful(server.finished(task));
    let listed = |server: &Runner| {
        let shown = server
            .get(&format!("/tasks/{task}/webhooks"))
            .expect(200)
            .json();
        shown["deliveries"].as_array().expect("a list").clone()
    };
    let tried = |server: &Runner| {
        eventually("an attempt", Duration::from_secs(15), || {
            let listed = listed(server);
            let first = listed.first()?;
            (first["attempts"].as_u64()? > 0 && first["lastError"].is_string()).then_some(listed)
        })
    };
    let before = tried(&server);
    assert!(before.len() >= 3, "{before:?}");
    worker.kill9();
    server.kill9();
    server.restart();
    let events = |listed: &[serde_json::Value]| -> Vec<String> {
        listed.iter().map(|one| one["event"].to_string()).collect()
    };
    assert_eq!(events(&listed(&server)), events(&before));
    let target = HookServer::bind(port, |_| Reply::status(200));
    worker.restart();
    // It is tried again when its pause is over, not at once.
    let told: Vec<_> = target.take(before.len());
    let order: Vec<_> = told.iter().filter_map(|told| told.query("event")).collect();
    let expected: Vec<_> = before
        .iter()
        .filter_map(|one| one["event"].as_str())
        .collect();
    assert_eq!(order, expected);
    eventually("an empty list", Duration::from_secs(5), || {
        listed(&server).is_empty().then_some(())
    });
    target.expect_no_more();
    audit::end(server, vec![worker]);
}

#[test]
fn webhooks_that_are_given_up_are_shown_and_hold_up_no_others() {
    let site = Site::postgres();
    let server = site.server();
    let worker = site.worker();
    let port = HookServer::start().port();
    let held = Held::new();
    let task = held.submit(&server, "gate@1-0-0", &[]);
    held.arrived();
    let href = format!("http://127.0.0.1:{port}/hook");
    server.subscribe(task, &href, Some("status")).expect(200);
    let hook = HookServer::start();
    server
        .subscribe(task, &hook.url("/other"), Some("status"))
        .expect(200);
    held.open();
    server.successful(server.finished(task));
    assert_eq!(hook.next().path(), "/other");
    // As after two hours of attempts.
    let show = || {
        server
            .get(&format!("/tasks/{task}/webhooks"))
            .expect(200)
            .json()["deliveries"][0]
            .clone()
    };
    eventually("an attempt", Duration::from_secs(10), || {
        (show()["attempts"].as_u64()? > 0).then_some(())
    });
    site.database.rows("UPDATE deliveries SET attempts = 15");
    let shown = eventually("giving up", Duration::from_secs(15), || {
        let shown = show();
        (shown["givenUp"] == true).then_some(shown)
    });
    assert_eq!(shown["webhook"], href, "{shown:#}");
    assert!(shown["lastError"].is_string(), "{shown:#}");
    let again = server.run_well(PAUSE, &[("marker", "x"), ("millis", "0")]);
    assert_eq!(again["status"], "SUCCESS");
    server
        .send(&Request::new("DELETE", &format!("/tasks/{task}/")))
        .expect(204);
    assert_eq!(site.database.number("SELECT count(*) FROM deliveries"), 0);
    audit::end(server, vec![worker]);
}
