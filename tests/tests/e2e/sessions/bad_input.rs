//! Clients that say nonsense, and code that does harm.

use std::time::Duration;

use runner_tests::kernel::{V1, frame};
use runner_tests::{Runner, eventually};
use serde_json::json;
use tungstenite::Message;

use super::{DEADLINE, model, shared};

#[test]
fn broken_frames_are_answered_with_why_and_harm_nobody() {
    let runner = shared();
    let kernel = runner.kernel();
    let mut other = runner.channels(&kernel);
    let header = br#"{"msg_id":"1","msg_type":"execute_request"}"#;
    let parts = |channel: &'static str, header: &'static [u8]| {
        Message::binary(frame(&[channel.as_bytes(), header, b"{}", b"{}", b"{}"]))
    };
    let many = [(1_u64 << 40).to_le_bytes(), [0; 8]].concat();
    let cases = [
        (None, Message::text("nonsense"), 1007),
        (None, Message::text("{}"), 1007),
        (None, Message::binary(vec![1, 2, 3]), 1007),
        (Some(V1), Message::text("{}"), 1003),
        (Some(V1), Message::binary(Vec::new()), 1007),
        (Some(V1), Message::binary(many), 1009),
        (Some(V1), parts("nowhere", header), 1007),
        (Some(V1), parts("shell", b"[]"), 1007),
    ];
    for (protocol, message, code) in cases {
        let mut client = runner.connect(&kernel, "", protocol).expect("a connection");
        client.socket().send(message.clone()).expect("it is taken");
        let (closed, reason) = client.closed();
        assert_eq!(closed, code, "{message:?}: {reason}");
        assert!(!reason.is_empty());
    }
    assert_eq!(other.run("print(1)").text(), "1\n");
}

#[test]
fn what_is_no_websocket_or_no_known_subprotocol_has_a_defined_answer() {
    let runner = shared();
    let kernel = runner.kernel();
    let path = format!("/api/kernels/{kernel}/channels");
    let refused = runner.ask("GET", &path, None).expect(400);
    assert!(refused.text().contains("WebSocket"));
    runner
        .ask("POST", "/api/kernels", Some(&json!([1])))
        .expect(400);
    runner
        .ask("POST", "/api/kernels", Some(&json!({"env": {"a=b": "c"}})))
        .expect(400);
    let long = "x".repeat(300);
    assert_eq!(
        runner
            .connect(&kernel, &format!("session_id={long}"), None)
            .err(),
        Some(400)
    );
}

#[test]
fn huge_messages_are_refused_and_large_ones_are_not() {
    let runner = shared();
    let mut client = runner.channels(&runner.kernel());
    let code = format!("print(len('{}'))", "x".repeat(8 << 20));
    assert_eq!(client.run(&code).text(), "8388608\n");
    // The server may stop reading before all is sent.
    let _ = client.socket().send(Message::text("x".repeat(65 << 20)));
    assert!(client.read().is_none());
}

#[test]
fn a_kernel_that_dies_is_replaced_and_whoever_waits_is_told() {
    let runner = shared();
    let deaths = [
        "import os; os._exit(3)",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import os; os.closerange(0, 256)",
        "import ctypes; ctypes.string_at(0)",
        "import os\nfor n in os.listdir('/proc/self/fd'):\n    try:\n        os.write(int(n), b'\\xff' * 100)\n    except OSError: pass\nos._exit(0)",
    ];
    for code in deaths {
        let kernel = runner.kernel();
        let mut client = runner.channels(&kernel);
        let outcome = client.run(code);
        assert_eq!(outcome.reply()["ename"], "KernelDied", "{code}");
        assert_eq!(client.run("print(1)").text(), "1\n", "{code}");
    }
}

#[test]
fn code_that_blocks_signals_is_ended_by_a_restart() {
    let runner = shared();
    let kernel = runner.kernel();
    let mut client = runner.channels(&kernel);
    let code = "import signal\n\
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\n\
        for n in range(1, 32):\n\
        \x20   try:\n\
        \x20       signal.signal(n, signal.SIG_IGN)\n\
        \x20   except (OSError, ValueError): pass\n\
        print('begun', flush=True)\n\
        while True: pass";
    let request = client.execute(code);
    client.wait_for(&request, "stream");
    runner
        .ask("POST", &format!("/api/kernels/{kernel}/restart"), None)
        .expect(200);
    assert_eq!(client.outcome(&request).reply()["ename"], "KernelRestarted");
    assert_eq!(client.run("print(1)").text(), "1\n");
}

#[test]
fn code_that_forks_for_ever_ends_alone() {
    let runner = Runner::builder().env("SESSION_PROCESSES", 32).start();
    let mut other = runner.channels(&runner.kernel());
    let mut client = runner.channels(&runner.kernel());
    let code = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError: pass";
    let outcome = client.run(code);
    let why = outcome.reply()["evalue"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(why.contains("SESSION_PROCESSES"), "{why}");
    assert_eq!(other.run("print(1)").text(), "1\n");
    assert_eq!(client.run("print(2)").text(), "2\n");
}

#[test]
fn code_that_fills_memory_or_files_ends_at_its_limit() {
    let runner = Runner::builder()
        .env("SESSION_MEMORY", 512 << 20)
        .env("SESSION_FILE_SIZE", 1 << 20)
        .env("SESSION_FILES", 64 << 20)
        .start();
    let kernel = runner.kernel();
    let mut other = runner.channels(&runner.kernel());
    let mut client = runner.channels(&kernel);
    let outcome = client.run("x = bytearray(2 << 30)");
    assert_eq!(outcome.reply()["ename"], "MemoryError");
    let code = "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nopen('a', 'wb').write(b'x' * (2 << 20))";
    assert_eq!(client.run(code).reply()["ename"], "OSError");
    let code = "import time\nfor n in range(1000):\n    open(str(n), 'wb').write(b'x' * (1 << 20))\ntime.sleep(60)";
    let outcome = client.run(code);
    let reply = outcome.reply();
    // Whichever comes first: the file system is full, or that is seen.
    let is_ended = reply["ename"] == "KernelDied" || reply["ename"] == "OSError";
    assert!(is_ended, "{reply}");
    eventually("room for others", DEADLINE, || {
        let outcome = other.run("open('b', 'wb').write(b'x' * 1000)");
        (outcome.reply()["status"] == "ok").then_some(())
    });
}

#[test]
fn a_client_that_reads_nothing_is_cut_and_the_kernel_goes_on() {
    let runner = shared();
    let kernel = runner.kernel();
    let mut slow = runner
        .connect(&kernel, "session_id=slow", None)
        .expect("a connection");
    let mut client = runner
        .connect(&kernel, "session_id=quick", None)
        .expect("a connection");
    slow.execute("1");
    let code = "for n in range(4):\n    for i in range(70):\n        print('x' * 100_000)";
    // Each cell stays below its quota; together they are more than a client may be behind.
    for _ in 0..4 {
        let outcome = client.run(&code.replace("range(4)", "range(1)"));
        assert_eq!(outcome.reply()["status"], "ok");
    }
    eventually(
        "the slow client to be cut",
        DEADLINE + Duration::from_secs(60),
        || (model(runner, &kernel)["connections"] == 1).then_some(()),
    );
    assert_eq!(client.run("print(1)").text(), "1\n");
}

#[test]
fn a_zygote_that_dies_takes_its_kernels_and_is_replaced() {
    let runner = Runner::builder().start();
    let kernel = runner.kernel();
    let mut client = runner.channels(&kernel);
    assert_eq!(client.run("print(1)").text(), "1\n");
    let all = runner_tests::proc::descendants(runner.pid());
    let zygote = all
        .into_iter()
        .find(|pid| runner_tests::proc::command(*pid).contains("runner.kernel"))
        .expect("a zygote");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(zygote).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it is killed");
    let died = loop {
        let message = client.read().expect("the connection was closed");
        if message["content"]["execution_state"] == "restarting" {
            break message;
        }
    };
    assert_eq!(died["channel"], "iopub");
    assert_eq!(client.run("print(2)").text(), "2\n");
}

#[test]
fn many_requests_at_once_are_answered_in_their_order() {
    let runner = shared();
    let mut client = runner.channels(&runner.kernel());
    let requests: Vec<String> = (0..500)
        .map(|n| client.execute(&format!("print({n})")))
        .collect();
    let mut answered = Vec::new();
    while answered.len() < requests.len() {
        let message = client.read().expect("the connection was closed");
        if message["header"]["msg_type"] == "execute_reply" {
            let parent = message["parent_header"]["msg_id"]
                .as_str()
                .unwrap_or_default();
            answered.push(parent.to_owned());
        }
    }
    assert_eq!(answered, requests);
}
