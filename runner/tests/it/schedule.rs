//! `runner schedule`, `runner files` and `runner housekeeping`.

use serde_json::json;

use crate::support::{Desk, PLUGIN};

fn desk() -> Desk {
    let desk = Desk::new();
    desk.write("plugins/things.py", PLUGIN);
    desk
}

#[test]
fn what_is_typed_wrongly_is_told_with_the_reason() {
    let desk = desk();
    for (rule, part) in [
        ("0 0 31 2 *", "is never due"),
        ("0 25 * * *", "no cron line"),
        ("367d", "expected 1s to"),
    ] {
        desk.run(["schedule", "next", rule]).failed(1, part);
    }
    desk.run(["schedule", "next", "1h", "--time-zone", "Moon"])
        .failed(1, "no time zone");
    desk.run(["schedule", "next", "1h", "--after", "soon"])
        .failed(2, "--after");
    desk.run(["schedule", "list"])
        .failed(1, "cannot reach a runner");
    desk.run(["schedule", "set", "x"])
        .failed(1, "nothing is to be changed");
    for command in [["files", "usage"], ["files", "check"]] {
        desk.run(command).failed(1, "there is no database");
    }
    desk.run(["housekeeping"]).failed(1, "there is no database");
    for (name, value, part) in [
        ("RETAIN_TASKS", "soon", "RETAIN_TASKS"),
        (
            "RETAIN_FILES",
            "running=1d",
            "succeeded, failed or cancelled",
        ),
        ("RETAIN_TEMPORARY", "5s", "is too short"),
        ("RETAIN_TEMPORARY", "forever", "expected numbers"),
        ("RETAIN_PERMALINKS", "1h", "is too short"),
    ] {
        let mut command = desk.command(["housekeeping"]);
        let said: crate::support::Said = command.env(name, value).output().unwrap().into();
        said.failed(1, part);
    }
}

#[test]
fn schedules_are_for_who_has_the_token() {
    let desk = desk();
    let server = desk.up();
    let add = [
        "schedule", "add", "a", "shout", "-p", "text=5", "--every", "1d", "--json",
    ];
    // Five is a number, and this is a text.
    desk.run(add).failed(1, "parameters.text");
    let add = [
        "schedule",
        "add",
        "a",
        "shout",
        "-p",
        "text=\"5\"",
        "--every",
        "1d",
        "--json",
    ];
    let made = desk.run(add).ok().json();
    assert_eq!(made["parameters"], json!({"text": "5"}));
    desk.run(add).failed(1, "this name");
    let elsewhere = Desk::new();
    let list = ["schedule", "list", "--url", &server.url];
    elsewhere.run(list).failed(1, "token");
    let token = std::fs::read_to_string(desk.path("instance/token")).unwrap();
    let mut command = elsewhere.command(list);
    let said: crate::support::Said = command
        .env("RUNNER_TOKEN", token.trim())
        .output()
        .unwrap()
        .into();
    assert!(said.ok().out.contains("every 1d"));
    desk.run(["schedule", "show", "b"])
        .failed(1, "there is no schedule \"b\"; there are: a");
    let fired = desk.run(["schedule", "run", "a", "--json"]).ok().json();
    assert_eq!(fired, json!({"schedule": "a", "task": 1}));
    desk.run(["task", "wait", "1"]).ok();
    let removed = desk.run(["schedule", "remove", "1", "--json"]).ok().json();
    assert_eq!(removed, json!({"removed": "a"}));
    assert_eq!(desk.run(["schedule", "list"]).ok().out, "no schedules\n");
}

#[test]
fn files_are_checked_beside_a_runner_that_serves() {
    let desk = desk();
    let server = desk.up();
    server.start("shout@1-0-0", &json!({"text": "a".repeat(5_000)}));
    desk.run(["task", "wait", "1"]).ok();
    let all = [
        "files",
        "check",
        "--older-than",
        "0s",
        "--digests",
        "--json",
    ];
    let checked = desk.run(all).ok().json();
    assert_eq!(
        (&checked["rows"], &checked["findings"]),
        (&json!(1), &json!([]))
    );
    let orphan = "instance/files/a/b/000000000000000000000000000000ab";
    desk.write(orphan, "nobody's");
    desk.run(all).failed(1, "");
    let repaired = desk.run(all.iter().chain(&["--repair"])).ok().json();
    assert_eq!(repaired["repaired"], 1);
    assert!(!desk.path(orphan).exists());
    let due = desk
        .run(["housekeeping", "--dry-run", "--json"])
        .ok()
        .json();
    assert_eq!(due["due"]["tasks"], 0);
    // The runner that serves does it itself.
    let said = desk.run(["housekeeping"]).ok();
    assert!(said.out.contains("of the runner that serves"), "{said:#?}");
    let usage = desk.run(["files", "usage", "--json"]).ok().json();
    assert_eq!(usage["tasks"]["succeeded"], 1);
}
