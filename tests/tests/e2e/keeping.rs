//! Schedules and retention, against a runner that serves.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use runner_tests::Runner;
use runner_tests::disk::Disk;
use runner_tests::http::Request;
use runner_tests::scratch::Scratch;
use runner_tests::wait::eventually;
use serde_json::{Value, json};

/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(90);

const HELLO: &str = "hello-world@v0-2-1";

fn make(runner: &Runner, schedule: &Value) -> Value {
    let made = runner
        .ask("POST", "/schedules/", Some(schedule))
        .expect(201);
    let location = runner.path_of(made.header("Location").expect("a location"));
    let shown = made.json();
    assert_eq!(
        runner.path_of(shown["href"].as_str().unwrap_or_default()),
        location
    );
    shown
}

fn schedule(name: &str) -> Value {
    json!({"name": name, "plugin": HELLO, "parameters": {"inputStr": "again"}, "every": "1s", "overlap": "allow"})
}

/// The tasks of a schedule, the newest first.
fn tasks(runner: &Runner, name: &str) -> Vec<Value> {
    let page = runner.get(&format!("/tasks/?limit=500&label=schedule:{name}"));
    let page = page.expect(200).json();
    page["tasks"].as_array().cloned().unwrap_or_default()
}

fn wait_for_tasks(runner: &Runner, name: &str, count: usize) {
    let what = format!("{count} tasks of {name}");
    eventually(&what, LONG, || {
        (tasks(runner, name).len() >= count).then_some(())
    });
}

#[test]
fn a_schedule_is_made_changed_fired_and_removed() {
    let runner = Runner::builder().plugins(["stable_plugins/demo"]).start();
    runner.get("/schedules/").expect(401);
    runner.get("/retention/").expect(401);
    let wish = json!({
        "name": "nightly", "plugin": "hello-world", "parameters": {"inputStr": "night"}, "cron": "30 2 * * *",
        "timeZone": "Europe/Berlin", "jitter": "5m", "missed": "skip", "priority": "low", "retries": 2, "timeout": 1.5,
        "labels": ["mine"],
    });
    let made = make(&runner, &wish);
    for (key, value) in wish.as_object().expect("an object") {
        assert_eq!(made[key], *value, "{key}");
    }
    assert_eq!(made["next"].as_array().map(Vec::len), Some(5));
    assert_eq!(made["description"], "At 02:30.");
    let target = runner.path_of(made["href"].as_str().expect("a href"));
    let answer = runner.ask("GET", &target, None).expect(200);
    assert_eq!(answer.json(), made);
    assert_eq!(answer.header("Access-Control-Allow-Origin"), None);

    // Fired by hand, though it is disabled.
    let off = runner
        .ask("PATCH", &target, Some(&json!({"enabled": false})))
        .expect(200)
        .json();
    assert_eq!((&off["enabled"], &off["next"]), (&json!(false), &json!([])));
    let fired = runner.ask("POST", &format!("{target}run"), None);
    let task = runner.accepted(&fired);
    let task = runner.finished(task);
    assert_eq!(
        (&task["status"], &task["priority"]),
        (&json!("SUCCESS"), &json!("low"))
    );
    assert_eq!(task["labels"], json!(["schedule:nightly", "mine"]));
    let other = json!({"every": "1h30m", "enabled": true, "retries": null});
    let changed = runner
        .ask("PATCH", &target, Some(&other))
        .expect(200)
        .json();
    assert_eq!(
        (&changed["every"], &changed["cron"]),
        (&json!("1h30m"), &Value::Null)
    );
    assert_eq!(
        (&changed["retries"], &changed["missed"]),
        (&Value::Null, &json!("skip"))
    );
    assert!(changed["lastTask"].is_string() && changed["firesAt"].is_string());

    runner.ask("DELETE", &target, None).expect(204);
    runner.ask("DELETE", &target, None).expect(404);
    runner
        .ask("GET", "/schedules/99999999999999999999/", None)
        .expect(404);
    assert_eq!(tasks(&runner, "nightly").len(), 1, "its tasks stay");
}

#[test]
fn what_is_wrong_with_a_schedule_is_told_by_field() {
    let runner = Runner::builder().plugins(["stable_plugins/demo"]).start();
    make(&runner, &schedule("taken"));
    for (change, key, part) in [
        (
            json!({"every": null, "cron": "0 0 30 2 *"}),
            "cron",
            "never due",
        ),
        (
            json!({"every": null, "cron": "61 * * * *"}),
            "cron",
            "no cron line",
        ),
        (json!({"every": "0s"}), "every", "1s"),
        (json!({"cron": "0 3 * * *"}), "every", "either"),
        (
            json!({"timeZone": "Europe/Atlantis"}),
            "timeZone",
            "Europe/Berlin",
        ),
        (json!({"plugin": "nothing"}), "plugin", "No plugin"),
        (
            json!({"parameters": {"x": 1}}),
            "parameters.x",
            "Unknown field",
        ),
        (json!({"name": "taken"}), "name", "this name"),
        (
            json!({"missed": "all", "overlap": "skip"}),
            "missed",
            "overlap",
        ),
        (json!({"surprise": 1}), "surprise", "Unknown field"),
    ] {
        let mut wish = schedule("new");
        if let (Value::Object(wish), Value::Object(change)) = (&mut wish, change) {
            wish.extend(change);
        }
        let answer = runner
            .ask("POST", "/schedules/", Some(&wish))
            .expect(422)
            .json();
        let told = answer["errors"]["json"][key].to_string();
        assert!(told.contains(part), "{key}: {answer}");
    }
    let bearer = format!("Bearer {}", runner.token());
    let broken = Request::post("/schedules/").header("Authorization", &bearer);
    runner
        .send(&broken.clone().body("application/json", "{"))
        .expect(400);
    runner
        .send(&broken.body("application/json", vec![b' '; 2_000_000]))
        .expect(413);
    let all = runner.ask("GET", "/schedules/", None).expect(200).json();
    assert_eq!(all["schedules"].as_array().map(Vec::len), Some(1));
}

#[test]
fn schedules_go_on_after_kill_9_and_each_firing_is_one_task() {
    let mut runner = Runner::builder().plugins(["stable_plugins/demo"]).start();
    let made = make(&runner, &schedule("often"));
    for round in 1..=3 {
        wait_for_tasks(&runner, "often", round * 2);
        runner.kill9();
        runner.restart();
    }
    wait_for_tasks(&runner, "often", 8);
    let target = runner.path_of(made["href"].as_str().expect("a href"));
    runner.ask("DELETE", &target, None).expect(204);
    let tasks = tasks(&runner, "often");
    // Never two within one second of the clock that they are due by, in whatever state the runner was.
    let mut seconds: Vec<i64> = tasks
        .iter()
        .map(|task| moment(&task["createdAt"]))
        .collect();
    seconds.sort_unstable();
    let span = (seconds[seconds.len() - 1] - seconds[0]) / 1_000;
    assert!(
        i64::try_from(tasks.len()).unwrap_or(0) <= span + 2,
        "{} in {span} s",
        tasks.len()
    );
    for task in &tasks {
        let number = task["id"].as_u64().expect("a number");
        assert_eq!(runner.finished(number)["status"], "SUCCESS");
    }
}

/// Milliseconds of a day, from `2026-11-28T21:00:00.123Z`.
fn moment(text: &Value) -> i64 {
    let text = text.as_str().unwrap_or_default();
    let (_, time) = text.split_once('T').expect("a moment");
    let digits = time.trim_end_matches('Z').replace(['.'], ":");
    let parts: Vec<i64> = digits
        .split(':')
        .map(|part| part.parse().unwrap_or(0))
        .collect();
    ((parts[0] * 60 + parts[1]) * 60 + parts[2]) * 1_000 + parts[3]
}

#[test]
fn schedules_of_plugins_are_there_and_stay_disabled() {
    let mut runner = Runner::builder()
        .plugins(["tests/fixtures/keeping"])
        .start();
    wait_for_tasks(&runner, "sweeping/sweeping/often", 2);
    let all = runner.ask("GET", "/schedules/", None).expect(200).json();
    let all = all["schedules"].as_array().cloned().unwrap_or_default();
    let names: Vec<_> = all
        .iter()
        .map(|one| one["name"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(
        names,
        ["sweeping/sweeping/default", "sweeping/sweeping/often"]
    );
    assert_eq!(all[0]["module"], "sweeping");
    assert_eq!(all[0]["parameters"], json!({"days": 30}));
    let target = runner.path_of(all[1]["href"].as_str().unwrap_or_default());
    runner.ask("DELETE", &target, None).expect(409);
    runner
        .ask("PATCH", &target, Some(&json!({"every": "2s"})))
        .expect(409);
    runner
        .ask("PATCH", &target, Some(&json!({"enabled": false})))
        .expect(200);
    runner.terminate();
    runner.restart();
    // The other one is fired, so that schedules are known to be looked at.
    let first = runner.path_of(all[0]["href"].as_str().unwrap_or_default());
    let task = runner.accepted(&runner.ask("POST", &format!("{first}run"), None));
    assert_eq!(runner.finished(task)["log"], "30 days");
    assert_eq!(
        runner.ask("GET", &target, None).expect(200).json()["enabled"],
        false
    );
}

#[test]
fn old_tasks_go_and_what_they_left_is_counted() {
    let runner = Runner::builder()
        .plugins(["stable_plugins/demo"])
        .env("RETAIN_TASKS", "1s")
        .start();
    runner.run_well(HELLO, &[("inputStr", "old")]);
    let shown = runner.ask("GET", "/retention/", None).expect(200).json();
    assert_eq!(
        shown["keep"],
        json!({"tasks": "1s", "files": "forever", "temporary": "2d", "permalinks": "730d"})
    );
    assert!(shown["usage"]["database"].as_u64() > Some(0));
    eventually("the task is removed", LONG, || {
        let answer = runner.ask("POST", "/retention/run", None);
        let is_gone = runner.get("/tasks/1/").status == 404;
        assert!(matches!(answer.status, 200 | 409), "{}", answer.text());
        is_gone.then_some(())
    });
    let shown = runner.ask("GET", "/retention/", None).expect(200).json();
    assert_eq!(shown["usage"]["outputs"], json!({"count": 0, "bytes": 0}));
    assert_eq!(shown["usage"]["content"], json!({"count": 0, "bytes": 0}));
    assert!(shown["lastAt"].is_string() && shown["last"]["errors"] == json!([]));
}

/// A folder that is read-only until this is dropped.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn new(folder: &Path) -> Self {
        let none: Option<&str> = None;
        let bind = |flags: MsFlags| {
            mount(Some(folder), folder, none, MsFlags::MS_BIND | flags, none)
                .expect("cannot mount");
        };
        bind(MsFlags::empty());
        let read_only = Self(folder.to_owned());
        bind(MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
        read_only
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// The folder of the only content of a file store: `files/a/b`.
fn folder_of_content(files: &Path) -> PathBuf {
    let below = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        let folders = entries
            .map(|entry| entry.path())
            .filter(|path| path.is_dir());
        folders.filter(|path| !path.ends_with("tmp")).collect()
    };
    let folders: Vec<_> = below(files)
        .iter()
        .flat_map(|folder| below(folder))
        .collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders[0].clone()
}

#[test]
fn a_file_store_that_cannot_be_written_is_told_and_cleaned_later() {
    let Some(disk) = Disk::mount(32 << 20) else {
        return;
    };
    let folder = Scratch::new();
    let runner = Runner::builder()
        .plugins(["stable_plugins/demo"])
        .env("RETAIN_TASKS", "1s")
        .env("DISK_FLOOR", 0)
        .env("FILE_STORE_ROOT_PATH", disk.path().join("files").display())
        .instance(folder.path().join("instance"))
        .start();
    // Longer than what is kept in a row.
    runner.run_well(HELLO, &[("inputStr", &"old".repeat(2_000))]);
    let contents = || {
        let shown = runner.ask("GET", "/retention/", None).expect(200).json();
        shown["usage"]["content"]["count"].as_u64()
    };
    let read_only = ReadOnly::new(&folder_of_content(&disk.path().join("files")));
    let errors = eventually("the task is removed, and its file is not", LONG, || {
        // A worker may have done it just now.
        let last = runner.ask("GET", "/retention/", None).expect(200).json();
        let answer = runner.ask("POST", "/retention/run", None).json();
        let errors = format!("{}{}", last["last"]["errors"], answer["errors"]);
        (runner.get("/tasks/1/").status == 404 && errors.contains("Read-only")).then_some(errors)
    });
    assert!(errors.contains("content of removed files"), "{errors}");
    assert_eq!(contents(), Some(1));
    drop(read_only);
    // A full one can be cleaned.
    let filling = disk.fill();
    let answer = runner
        .ask("POST", "/retention/run", None)
        .expect(200)
        .json();
    assert_eq!(answer["errors"], json!([]));
    fs::remove_file(filling).expect("cannot free the disk");
    runner.run_well(HELLO, &[("inputStr", "new")]);
}
