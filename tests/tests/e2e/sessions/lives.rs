//! How long sessions live, how many there are, and what is left of them.

use std::time::Duration;

use runner_tests::proc::{descendants, wait_until_gone};
use runner_tests::{Request, Runner, eventually};
use serde_json::json;

use super::{DEADLINE, model};

#[test]
fn more_than_may_live_are_refused_with_when_to_come_again() {
    let runner = Runner::builder().env("SESSION_MAX", 2).start();
    let (first, _second) = (runner.kernel(), runner.kernel());
    let bearer = format!("token {}", runner.token());
    let post = Request::post("/api/kernels")
        .header("Authorization", &bearer)
        .json(&json!({}));
    let full = runner.send(&post).expect(503);
    assert!(full.header("Retry-After").is_some());
    assert!(full.text().contains("SESSION_MAX"));
    let unknown = "0b3e7a0c-5bb1-4f1d-9d53-6f2f4c1d8c11";
    assert_eq!(runner.connect(unknown, "", None).err(), Some(503));
    runner
        .ask("DELETE", &format!("/api/kernels/{first}"), None)
        .expect(204);
    runner.send(&post).expect(201);
}

#[test]
fn a_message_for_an_unknown_id_starts_a_kernel_and_two_who_race_get_the_same() {
    let runner = Runner::builder().start();
    let unknown = "0b3e7a0c-5bb1-4f1d-9d53-6f2f4c1d8c12";
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let runner = &runner;
            scope.spawn(move || {
                let query = format!("session_id={name}");
                let mut client = runner.connect(unknown, &query, None).expect("a connection");
                let code = format!("names = globals().get('names', []) + ['{name}']");
                assert_eq!(client.run(&code).reply()["status"], "ok");
            });
        }
    });
    let mut client = runner.channels(unknown);
    assert_eq!(client.run("print(sorted(names))").text(), "['a', 'b']\n");
    runner.ask("GET", "/api/kernels/no-id", None).expect(404);
    assert_eq!(runner.connect("no-id", "", None).err(), Some(404));
}

#[test]
fn nobody_is_waited_for_longer_than_is_set() {
    let runner = Runner::builder()
        .env("SESSION_CONNECT", "1")
        .env("SESSION_LEFT", "1")
        .env("SESSION_UNATTENDED", "2")
        .start();
    let (never, left, busy, kept) = (
        runner.kernel(),
        runner.kernel(),
        runner.kernel(),
        runner.kernel(),
    );
    let mut keeper = runner.channels(&kept);
    runner.channels(&left).run("1");
    let mut client = runner.channels(&busy);
    let request = client.execute("print('begun', flush=True)\nwhile True: pass");
    client.wait_for(&request, "stream");
    drop(client);
    for kernel in [&never, &left, &busy] {
        eventually("the end of a session", DEADLINE, || {
            let path = format!("/api/kernels/{kernel}");
            (runner.ask("GET", &path, None).status == 404).then_some(())
        });
    }
    assert_eq!(keeper.run("print(1)").text(), "1\n");
}

#[test]
fn clients_that_vanish_leave_nothing() {
    let runner = Runner::builder()
        .env("SESSION_CONNECT", "5")
        .env("SESSION_LEFT", "0.2")
        .env("SESSION_UNATTENDED", "0.2")
        .env("SESSION_WARM", "0")
        .start();
    runner.channels(&runner.kernel()).run("1");
    std::thread::scope(|scope| {
        for number in 0..20 {
            let runner = &runner;
            scope.spawn(move || {
                let kernel = runner.kernel();
                if number % 4 == 0 {
                    return;
                }
                let mut client = runner.channels(&kernel);
                let code = "import subprocess, time\nsubprocess.Popen(['sleep', '100'])\nprint(1, flush=True)\ntime.sleep(100)";
                let request = client.execute(code);
                if number % 4 == 1 {
                    return;
                }
                client.wait_for(&request, "stream");
            });
        }
    });
    eventually("the end of all sessions", DEADLINE, || {
        let all = runner.ask("GET", "/api/kernels", None).expect(200).json();
        all.as_array().is_some_and(Vec::is_empty).then_some(())
    });
    // The zygote and its keeper stay.
    let is_kernel = |pid: &u32| {
        let command = runner_tests::proc::command(*pid);
        command.contains("sleep") || command.contains("runner.kernel")
    };
    let left = eventually("the end of all kernels", DEADLINE, || {
        let all: Vec<u32> = descendants(runner.pid())
            .into_iter()
            .filter(is_kernel)
            .collect();
        (all.len() <= 1).then_some(all)
    });
    let folder = runner.instance().join("sessions");
    eventually("the end of all files", DEADLINE, || {
        let entries = std::fs::read_dir(&folder).map_or(0, Iterator::count);
        (entries == 0).then_some(())
    });
    let mut runner = runner;
    runner.terminate();
    assert_eq!(wait_until_gone(&left, Duration::from_secs(5)), [0; 0]);
}

#[test]
fn the_command_lists_shows_and_stops() {
    let runner = Runner::builder().start();
    let kernel = runner.kernel();
    let mut client = runner.channels(&kernel);
    client.run("import sys; print('to the log', file=sys.__stderr__)");
    let run = |arguments: &[&str]| {
        let output = runner_tests::runner::command(runner.home())
            .arg("session")
            .args(arguments)
            .args(["--url", &runner.base()])
            .env("RUNNER_TOKEN", runner.token())
            .output()
            .expect("the command");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let list = run(&["list"]);
    assert!(list.contains(&kernel) && list.contains("idle"), "{list}");
    let shown = eventually("the error log", DEADLINE, || {
        let shown = run(&["show", &kernel]);
        shown.contains("to the log").then_some(shown)
    });
    assert!(shown.contains("levels"), "{shown}");
    assert_eq!(run(&["stop", &kernel]), format!("{kernel}: stopped\n"));
    assert_eq!(run(&["list"]), "no sessions\n");
    assert!(
        client
            .read()
            .is_none_or(|said| said["content"]["execution_state"] == "dead")
    );
}

#[test]
fn sessions_can_be_switched_off() {
    let runner = Runner::builder().env("SESSIONS", "off").start();
    let refused = runner
        .ask("POST", "/api/kernels", Some(&json!({})))
        .expect(501);
    assert!(refused.text().contains("SESSIONS"));
}

#[test]
fn a_session_ends_at_its_lifetime_however_busy() {
    let runner = Runner::builder().env("SESSION_LIFETIME", "2").start();
    let kernel = runner.kernel();
    let mut client = runner.channels(&kernel);
    let request = client.execute("while True: pass");
    assert_eq!(client.outcome(&request).reply()["ename"], "SessionEnded");
    while client.read().is_some() {}
    runner
        .ask("GET", &format!("/api/kernels/{kernel}"), None)
        .expect(404);
    let other = runner.kernel();
    assert_ne!(model(&runner, &other)["execution_state"], "dead");
}
