//! `runner task`, against a runner that serves.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::{Desk, PLUGIN, Said, eventually};

fn desk() -> Desk {
    let desk = Desk::new();
    desk.write("plugins/things.py", PLUGIN);
    desk
}

#[test]
fn tasks_are_listed_shown_and_deleted() {
    let desk = desk();
    let server = desk.up();
    // The runner of the instance folder is found, whatever its port.
    assert_eq!(desk.run(["task", "list"]).ok().out, "no tasks\n");
    for _ in 0..3 {
        server.start("shout@1-0-0", &json!({"text": "a", "_label": "mine"}));
    }
    let failing = server.start("fail@1-0-0", &json!({}));
    for task in ["1", "2", "3"] {
        desk.run(["task", "wait", task]).ok();
    }
    desk.run(["task", "wait", &failing.to_string()])
        .failed(1, "on purpose");
    let said = desk.run(["task", "list"]).ok();
    assert!(said.out.starts_with("ID  STATE"), "{said:#?}");
    assert_eq!(said.out.lines().count(), 5, "{said:#?}");
    let ids = |arguments: &[&str]| {
        let document = desk
            .run(["task", "list", "--json"].iter().chain(arguments))
            .ok()
            .json();
        let tasks = document["tasks"].as_array().unwrap().clone();
        tasks
            .iter()
            .map(|task| task["id"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&[]), [4, 3, 2, 1]);
    assert_eq!(ids(&["--limit", "2"]), [4, 3]);
    assert_eq!(ids(&["--state", "failed", "--state", "queued"]), [4]);
    assert_eq!(
        ids(&["--label", "mine", "--plugin", "shout@1-0-0"]),
        [3, 2, 1]
    );
    let said = desk.run(["task", "show", "1"]).ok();
    for part in [
        "task 1 succeeded shout@1-0-0",
        "output",
        "out.txt",
        "first line\n  done",
    ] {
        assert!(said.out.contains(part), "{part} is not in {said:#?}");
    }
    let document = desk.run(["task", "show", "1", "--json"]).ok().json();
    assert_eq!(
        (document["state"].as_str(), document["log"].as_str()),
        (Some("succeeded"), Some("first line\ndone"))
    );
    desk.run(["task", "show", "99"])
        .failed(1, "Task not found.");
    let said = desk
        .run(["task", "delete", "1", "99", "2"])
        .failed(1, "task 99: Task not found.");
    assert_eq!(said.out, "task 1: deleted\ntask 2: deleted\n");
    assert_eq!(ids(&[]), [4, 3]);
    let document = desk.run(["task", "delete", "3", "--json"]).ok().json();
    assert_eq!(
        document["tasks"][0],
        json!({"id": 3, "deleted": true, "message": "deleted"})
    );
    drop(server);
    desk.run(["task", "list"])
        .failed(1, "cannot reach a runner at http://127.0.0.1:5005/");
}

#[test]
fn pages_are_followed_to_the_limit() {
    let desk = desk();
    let server = desk.up();
    for _ in 0..3 {
        server.start("fail@1-0-0", &json!({}));
    }
    let said = desk.run(["task", "list", "--limit", "1000", "--json"]).ok();
    assert_eq!(said.json()["tasks"].as_array().unwrap().len(), 3);
}

#[test]
fn waiting_shows_what_happens_and_ends_with_the_result() {
    let desk = desk();
    let server = desk.up();
    let task = server
        .start("sleep@1-0-0", &json!({"mark": "31431"}))
        .to_string();
    let mut child = desk
        .command(["task", "wait", &task])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "asleep");
    desk.run(["task", "wait", &task, "--timeout", "0.2"])
        .failed(4, "has not ended");
    // Ctrl-C ends the waiting, not the task.
    let other = desk
        .command(["task", "wait", &task])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    kill(Pid::from_raw(other.id().cast_signed()), Signal::SIGINT).unwrap();
    Said::from(other.wait_with_output().unwrap()).failed(130, "the task goes on");
    assert_eq!(
        desk.run(["task", "show", &task, "--json"]).ok().json()["state"],
        "running"
    );
    let said = desk.run(["task", "cancel", &task]).ok();
    assert_eq!(said.out, format!("task {task}: cancelled\n"));
    assert_eq!(child.wait().unwrap().code(), Some(3));
    desk.run(["task", "wait", &task]).failed(3, "cancelled");
    // Cancelling twice is cancelling once; what has ended otherwise cannot be cancelled.
    desk.run(["task", "cancel", &task]).ok();
    let done = server
        .start("shout@1-0-0", &json!({"text": "a"}))
        .to_string();
    let document = desk.run(["task", "wait", &done, "--json"]).ok().json();
    assert_eq!(document["state"], "succeeded");
    desk.run(["task", "cancel", &done])
        .failed(1, "The task has ended already.");
    desk.run(["task", "wait", "99"])
        .failed(1, "Task not found.");
}

#[test]
fn a_task_that_waits_for_a_form_says_where_it_is() {
    let desk = desk();
    let server = desk.up();
    let task = server
        .start("ask@1-0-0", &json!({"name": "you"}))
        .to_string();
    eventually("it waits", || {
        desk.run(["task", "show", &task]).out.contains("waiting")
    });
    let page = format!("{}/plugins/ask@1-0-0/{task}/greeting-ui/", server.url);
    assert!(desk.run(["task", "show", &task]).ok().out.contains(&page));
    desk.run(["task", "wait", &task, "--timeout", "0.5"])
        .failed(4, &page);
    desk.run(["task", "delete", &task]).ok();
}

#[test]
fn what_is_no_runner_is_said_to_be_none() {
    let desk = Desk::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            let _ = std::io::Write::write_all(
                &mut stream,
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            );
        }
    });
    desk.run(["task", "list", "--url", &url])
        .failed(1, "is no runner: its answer is no JSON");
    desk.run(["task", "list", "--url", "ftp://x"])
        .failed(1, "is not usable");
}
