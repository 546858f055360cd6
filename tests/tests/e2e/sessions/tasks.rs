//! Plugins and files of sessions: what goes from one to the other.

use std::time::Duration;

use runner_tests::{Request, Runner, eventually};
use serde_json::Value;

use super::DEADLINE;
use crate::shared::HELLO;

fn runner() -> Runner {
    Runner::builder()
        .plugins(["stable_plugins/demo", "tests/fixtures/e2e"])
        .start()
}

fn listed(runner: &Runner, kernel: &str) -> Vec<Value> {
    let path = format!("/tasks/?label=session%20{kernel}");
    let page = runner.get(&path).expect(200).json();
    page["tasks"].as_array().expect("tasks").clone()
}

#[test]
fn a_session_runs_a_plugin_and_has_its_outputs() {
    let runner = runner();
    let kernel = runner.kernel();
    let mut client = runner.channels(&kernel);
    let code = "import runner\nresult = runner.run('hello-world', inputStr='from a session')\n\
                print(result.task, result.status, result.outputs[0].path)";
    let outcome = client.run(code);
    let said = outcome.text();
    let last = said.lines().last().unwrap_or_default();
    let words: Vec<_> = last.split(' ').collect();
    let [task, status, path] = words.as_slice() else {
        panic!("{said} {}", outcome.reply());
    };
    assert_eq!(*status, "SUCCESS");
    let listed = listed(&runner, &kernel);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["id"].to_string(), *task);
    let file = format!("/api/kernels/{kernel}/files/{path}");
    let text = runner.ask("GET", &file, None).expect(200).text();
    assert!(text.contains("from a session"), "{text}");
    // And an output of a task that a client made.
    let made = runner.run_well(HELLO, &[("inputStr", "from a client")]);
    let url = made["outputs"][0]["href"].as_str().expect("a URL");
    let url = url.replace('?', "%3F").replace('&', "%26");
    let bring = format!("/api/kernels/{kernel}/files/brought.txt?from={url}");
    let brought = runner.ask("POST", &bring, None).expect(201).json();
    assert_eq!(brought["path"], "brought.txt");
    let text = client.run("print(open('brought.txt').read())").text();
    assert!(text.contains("from a client"), "{text}");
}

#[test]
fn the_end_of_a_session_cancels_what_it_waits_for() {
    let runner = runner();
    let kernel = runner.kernel();
    let mut client = runner.channels(&kernel);
    client.execute("import runner\nrunner.run('patient')");
    eventually("the task", DEADLINE, || {
        let all = listed(&runner, &kernel);
        all.iter()
            .any(|task| task["state"] == "running")
            .then_some(())
    });
    runner
        .ask("DELETE", &format!("/api/kernels/{kernel}"), None)
        .expect(204);
    eventually("its end", DEADLINE, || {
        let all = listed(&runner, &kernel);
        (all[0]["state"] == "cancelled").then_some(())
    });
}

#[test]
fn a_session_has_a_quota_and_a_cell_its_time() {
    let runner = Runner::builder()
        .env("SESSION_FILES_PER_SESSION", 1 << 20)
        .env("SESSION_CELL_TIME", 1)
        .start();
    let kernel = runner.kernel();
    let mut client = runner.channels(&kernel);
    let bearer = format!("Bearer {}", runner.token());
    let put = |size: usize| {
        let path = format!("/api/kernels/{kernel}/files/a.bin");
        let request = Request::new("PUT", &path).header("Authorization", &bearer);
        runner.send(&request.body("application/octet-stream", "x".repeat(size)))
    };
    put(1 << 19).expect(204);
    let full = put(2 << 20).expect(507);
    assert!(full.text().contains("SESSION_FILES_PER_SESSION") && full.text().contains("1048576"));
    let begun = std::time::Instant::now();
    let outcome = client.run("while True: pass");
    assert_eq!(outcome.reply()["ename"], "KeyboardInterrupt");
    assert!(outcome.text().contains("SESSION_CELL_TIME"));
    assert!(begun.elapsed() >= Duration::from_secs(1));
}
