//! Schedules: fired once, however many workers there are and die.

use std::collections::BTreeSet;
use std::time::Duration;

use runner_tests::Runner;
use runner_tests::wait::eventually;
use serde_json::{Value, json};

use crate::site::{Site, on_all_databases};

/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(90);

on_all_databases!(many_workers_fire_once_and_die_in_between);

fn tasks(server: &Runner) -> Vec<Value> {
    let page = server.get("/tasks/?limit=500&label=schedule:often");
    let page = page.expect(200).json();
    page["tasks"].as_array().cloned().unwrap_or_default()
}

fn many_workers_fire_once_and_die_in_between(site: &Site) {
    let server = site.server();
    let mut workers: Vec<_> = (0..3).map(|_| site.worker()).collect();
    let schedule = json!({
        "name": "often", "plugin": "hello-world@v0-2-1", "parameters": {"inputStr": "again"}, "every": "1s",
        "overlap": "allow", "missed": "all",
    });
    let made = server
        .ask("POST", "/schedules/", Some(&schedule))
        .expect(201)
        .json();
    let target = server.path_of(made["href"].as_str().expect("a href"));
    for round in 1..=3 {
        eventually("tasks of the schedule", LONG, || {
            (tasks(&server).len() >= round * 3).then_some(())
        });
        workers.remove(0).kill9();
        workers.push(site.worker());
    }
    eventually("tasks of the schedule", LONG, || {
        (tasks(&server).len() >= 12).then_some(())
    });
    let off = json!({"enabled": false});
    let last = server.ask("PATCH", &target, Some(&off)).expect(200).json();
    let all = tasks(&server);
    // Each second is due once, and each that was due is made up for: as many tasks as seconds.
    let due = |text: &Value| text.as_str().map(|text| text[..19].to_owned());
    let first = due(&made["next"][0]).expect("a first");
    let end = due(&last["lastAt"]).expect("a last");
    // It may be midnight in between.
    let seconds = (seconds(&end) - seconds(&first)).rem_euclid(24 * 3_600);
    let count = i64::try_from(all.len()).unwrap_or(0);
    assert!(
        (count - seconds - 1).abs() <= 1,
        "{count} tasks in {seconds} s"
    );
    let numbers: BTreeSet<_> = all.iter().filter_map(|task| task["id"].as_u64()).collect();
    for number in numbers {
        assert_eq!(server.finished(number)["status"], "SUCCESS", "{number}");
    }
}

/// Of a day, from `2026-11-28T21:00:00`.
fn seconds(text: &str) -> i64 {
    let (_, time) = text.split_once('T').expect("a moment");
    time.split(':')
        .fold(0, |sum, part| sum * 60 + part.parse::<i64>().unwrap_or(0))
}
