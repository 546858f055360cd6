//! What clients are told that come back, and output that is too much for messages.

use runner_tests::{Runner, eventually};

use super::{DEADLINE, model, shared};

#[test]
fn who_comes_back_is_told_what_was_missed_and_nothing_twice() {
    let runner = shared();
    let kernel = runner.kernel();
    let mut first = runner
        .connect(&kernel, "session_id=one", None)
        .expect("a connection");
    let before = first.run("print('before')");
    assert_eq!(before.text(), "before\n");
    let request =
        first.execute("import time\nprint('now', flush=True)\ntime.sleep(0.5)\nprint('missed')");
    first.wait_for(&request, "stream");
    drop(first);
    eventually("the end of the cell", DEADLINE, || {
        let shown = model(runner, &kernel);
        (shown["connections"] == 0 && shown["execution_state"] == "idle").then_some(())
    });
    let mut again = runner
        .connect(&kernel, "session_id=one", None)
        .expect("a connection");
    let outcome = again.outcome(&request);
    assert_eq!(outcome.text(), "missed\n");
    assert_eq!(outcome.reply()["status"], "ok");
    // A stock client that was never here hears of what comes.
    let mut other = runner
        .connect(&kernel, "session_id=two", None)
        .expect("a connection");
    assert_eq!(other.run("print('other')").text(), "other\n");
}

#[test]
fn all_that_was_said_is_told_from_any_offset() {
    let runner = shared();
    let kernel = runner.kernel();
    let mut first = runner.channels(&kernel);
    for number in 0..3 {
        // One write is one message; those of `print` are two, which mostly come together.
        first.run(&format!("import sys; _ = sys.stdout.write('{number}\\n')"));
    }
    let mut second = runner
        .connect(&kernel, "offset=0", None)
        .expect("a connection");
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let message = second.read().expect("the connection was closed");
        if message["header"]["msg_type"] == "stream" {
            let offset = message["metadata"]["offset"].as_u64().expect("an offset");
            seen.push((
                message["content"]["text"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                offset,
            ));
        }
    }
    assert_eq!(
        seen.iter()
            .map(|(text, _)| text.as_str())
            .collect::<Vec<_>>(),
        ["0\n", "1\n", "2\n"]
    );
    let query = format!("offset={}", seen[1].1);
    let mut third = runner.connect(&kernel, &query, None).expect("a connection");
    let message = loop {
        let message = third.read().expect("the connection was closed");
        if message["header"]["msg_type"] == "stream" {
            break message;
        }
    };
    assert_eq!(message["content"]["text"], "2\n");
    assert_eq!(runner.connect(&kernel, "offset=x", None).err(), Some(400));
}

#[test]
fn the_log_stays_readable_over_a_restart_and_a_message_starts_a_kernel() {
    let mut runner = Runner::builder().start();
    let kernel = runner.kernel();
    let mut client = runner.channels(&kernel);
    client.run("x = 1\nprint('said before')");
    drop(client);
    runner.terminate();
    runner.restart();
    assert_eq!(model(&runner, &kernel)["execution_state"], "dead");
    let mut client = runner
        .connect(&kernel, "offset=0", None)
        .expect("a connection");
    let text = loop {
        let message = client.read().expect("the connection was closed");
        if message["header"]["msg_type"] == "stream" {
            break message["content"]["text"].clone();
        }
    };
    assert_eq!(text, "said before\n");
    assert_eq!(client.run("print('x' in globals())").text(), "False\n");
}

#[test]
fn ten_thousand_flushed_prints_are_all_delivered() {
    let runner = shared();
    let mut client = runner.channels(&runner.kernel());
    let outcome = client.run("for i in range(10_000): print(i, flush=True)");
    let expected: String = (0..10_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(outcome.text(), expected);
}

#[test]
fn output_beyond_the_quota_is_linked_whole() {
    let runner = Runner::builder()
        .env("SESSION_CELL_OUTPUT", 1 << 20)
        .start();
    let mut client = runner.channels(&runner.kernel());
    let outcome = client.run("for i in range(40_000): print(str(i).rjust(99))");
    let shown = outcome.text();
    let shown = shown.split('[').next().unwrap_or_default();
    // The file begins with the line that was cut.
    let shown = &shown[..shown.rfind('\n').map_or(0, |at| at + 1)];
    let link = outcome.contents("display_data")[0]["metadata"]["runner"]["output"].clone();
    let rest = runner
        .get(link.as_str().expect("a path"))
        .expect(200)
        .text();
    let whole = format!("{shown}{rest}");
    assert_eq!(whole.len(), 4_000_000);
    let lines = whole.lines().enumerate();
    assert!({ lines }.all(|(number, line)| line.trim() == number.to_string()));
    assert!(
        shown.len() <= 1 << 20 && shown.len() > 500_000,
        "{}",
        shown.len()
    );
    // The next cell has its own.
    assert_eq!(client.run("print(1)").text(), "1\n");
    let wrong = format!("{}x", link.as_str().unwrap_or_default());
    runner.get(&wrong).expect(404);
}

#[test]
fn a_cell_that_prints_for_ever_is_interrupted_at_its_limit() {
    let runner = Runner::builder()
        .env("SESSION_CELL_OUTPUT", 1 << 20)
        .env("SESSION_OUTPUT_FILES", 4 << 20)
        .start();
    let mut client = runner.channels(&runner.kernel());
    let outcome = client.run("while True: print('x' * 1000)");
    assert_eq!(outcome.reply()["ename"], "KeyboardInterrupt");
    assert!(outcome.text().contains("is interrupted"));
    // One that goes on nevertheless is ended.
    let code = "while True:\n    try:\n        while True: print('x' * 1000)\n    except KeyboardInterrupt: pass";
    let outcome = client.run(code);
    assert_eq!(outcome.reply()["ename"], "KernelDied");
    assert_eq!(client.run("print(1)").contents("execute_result").len(), 0);
}
