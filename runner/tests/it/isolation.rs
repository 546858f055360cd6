//! Modules in Python that ask for a process for each run: what one run leaves, the next does not find.

use serde_json::json;

use crate::support::{Desk, Server, eventually};

/// Leaves whatever it can, and tells what it finds.
const LEAVES: &str = r#"
import os, signal, subprocess, sys, time
from runner import plugin

STATE = []
LOADED = os.getpid()

@plugin(version="1")
def leaves(task, act: str):
    if act == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if act == "exit":
        os._exit(3)
    if act == "fail":
        raise ValueError("as was asked for")
    if act == "count":
        STATE.append(1)
        return f"{len(STATE)} forked={os.getpid() != LOADED}"
    if act == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            try: time.sleep(60)
            except BaseException: pass
    found = [str(len(STATE)), f"forked={os.getpid() != LOADED}"]
    STATE.append(1)
    for folder in ("/tmp", "/dev/shm", os.path.dirname(os.getcwd())):
        path = os.path.join(folder, "left-by-a-run")
        found.append(f"{folder}:{os.path.exists(path)}")
        try:
            os.makedirs(path + "/deep")
            os.chmod(path + "/deep", 0)
        except OSError:
            pass
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    others = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                if "sleep" in file.read() and int(pid) != child.pid:
                    others.append(pid)
        except OSError:
            pass
    found.append(f"others={len(others) if os.getpid() < 1000 else 0}")
    for what in ("mem", "environ"):
        try:
            open(f"/proc/{LOADED}/{what}", "rb").close()
            found.append(what)
        except OSError:
            pass
    try:
        os.kill(LOADED, signal.SIGTERM)
        found.append("signal")
    except OSError:
        pass
    return " ".join(found)
"#;

fn desk(source: &str) -> Desk {
    let desk = Desk::new();
    desk.write("plugins/leaves/leaves.py", source);
    desk.write(
        "plugins/leaves/plugin.toml",
        "entry = \"leaves.py\"\nisolation = \"process\"\nmax_hosts = 1\n",
    );
    desk
}

/// The log of a task that succeeded, or not.
fn log(desk: &Desk, server: &Server, act: &str, code: i32) -> String {
    let task = server.start("leaves@1", &json!({"act": act})).to_string();
    let said = desk.run(["task", "wait", &task]);
    assert_eq!(said.code, code, "{said:#?}");
    said.err
}

#[test]
fn a_run_finds_nothing_of_the_one_before() {
    let desk = desk(LEAVES);
    let server = desk.up();
    let first = log(&desk, &server, "leave", 0);
    assert!(first.contains("0 forked=True"), "{first}");
    for _ in 0..3 {
        let next = log(&desk, &server, "leave", 0);
        assert_eq!(next, first);
    }
    for found in [":True", "others=1", "mem", "environ"] {
        assert!(!first.contains(found), "{found}: {first}");
    }
}

#[test]
fn a_crash_is_that_of_one_run() {
    let desk = desk(LEAVES);
    let server = desk.up();
    for (act, reason) in [
        (
            "crash",
            "the process of the run ended (signal 11 (SIGSEGV))",
        ),
        ("exit", "the process of the run ended (exit status 3)"),
        ("fail", "as was asked for"),
    ] {
        let told = log(&desk, &server, act, 1);
        assert!(told.contains(reason), "{told}");
        let next = log(&desk, &server, "leave", 0);
        assert!(next.contains("0 forked=True"), "{next}");
    }
}

#[test]
fn a_cancelled_run_ends_with_all_that_it_started() {
    let desk = desk(LEAVES);
    let server = desk.up();
    let task = server
        .start("leaves@1", &json!({"act": "deaf"}))
        .to_string();
    eventually("it runs", || {
        let shown = desk.run(["task", "show", &task, "--json"]).ok().json();
        shown["state"] == "running"
    });
    desk.run(["task", "cancel", &task]).ok();
    let said = desk.run(["task", "wait", &task]);
    assert_eq!(said.code, 3, "{said:#?}");
    assert!(log(&desk, &server, "leave", 0).contains("0 forked=True"));
}

#[test]
fn a_module_with_threads_has_a_fresh_process_for_each_run_and_says_so() {
    let threads = "import threading, time\n\
                   threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n";
    let desk = desk(&format!("{threads}{LEAVES}"));
    let server = desk.up();
    for _ in 0..2 {
        let told = log(&desk, &server, "count", 0);
        assert!(told.contains("1 forked=False"), "{told}");
    }
    let said = desk.run(["plugin", "check", "plugins/leaves", "--no-run"]);
    assert!(
        said.err.contains("started 1 threads when it was loaded"),
        "{said:#?}"
    );
}
