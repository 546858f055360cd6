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
    if act == "call":
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(2) as pool:
            return ", ".join(one.log for one in pool.map(task.call, ["called"] * 2))
    if act == "bomb":
        try:
            while os.fork():
                pass
            time.sleep(600)
        except OSError as error:
            return f"no more: {error}"
    if act == "asleep":
        task.log("begun")
        time.sleep(600)
    if act == "deaf":
        task.log("begun")
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

/// With a limit that is soon reached.
const LIMITED: &str =
    "entry = \"leaves.py\"\nisolation = \"process\"\nmax_hosts = 1\n[limits]\nprocesses = 40\n";

/// A desk for each place in which hosts are kept apart from others, with the module.
fn desks(source: &str) -> Vec<Desk> {
    let desks = Desk::everywhere();
    for desk in &desks {
        put(desk, source);
    }
    desks
}

fn put(desk: &Desk, source: &str) {
    desk.write("plugins/leaves/leaves.py", source);
    desk.write(
        "plugins/leaves/plugin.toml",
        "entry = \"leaves.py\"\nisolation = \"process\"\nmax_hosts = 1\n",
    );
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
    for desk in desks(LEAVES) {
        let server = desk.up();
        let first = log(&desk, &server, "leave", 0);
        assert!(first.contains("0 forked=True"), "{desk:?}: {first}");
        for _ in 0..3 {
            let next = log(&desk, &server, "leave", 0);
            assert_eq!(next, first, "{desk:?}");
        }
        for found in [":True", "others=1", "mem", "environ"] {
            assert!(!first.contains(found), "{desk:?}: {found}: {first}");
        }
    }
}

#[test]
fn a_crash_is_that_of_one_run() {
    for desk in desks(LEAVES) {
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
            assert!(told.contains(reason), "{desk:?}: {told}");
            let next = log(&desk, &server, "leave", 0);
            assert!(next.contains("0 forked=True"), "{desk:?}: {next}");
        }
    }
}

#[test]
fn a_cancelled_run_ends_with_all_that_it_started() {
    for desk in desks(LEAVES) {
        let server = desk.up();
        for act in ["deaf", "asleep"] {
            let task = server.start("leaves@1", &json!({"act": act})).to_string();
            eventually("it runs", || {
                let shown = desk.run(["task", "show", &task, "--json"]).ok().json();
                shown["log"]
                    .as_str()
                    .is_some_and(|log| log.contains("begun"))
            });
            desk.run(["task", "cancel", &task]).ok();
            let said = desk.run(["task", "wait", &task]);
            assert_eq!(said.code, 3, "{desk:?}: {said:#?}");
            assert!(log(&desk, &server, "leave", 0).contains("0 forked=True"));
        }
    }
}

#[test]
fn a_run_that_uses_up_all_processes_is_not_the_end_of_the_next() {
    // Elsewhere nothing limits the processes of root.
    for desk in desks(LEAVES)
        .into_iter()
        .filter(|desk| desk.sandbox == Some("auto"))
    {
        desk.write("plugins/leaves/plugin.toml", LIMITED);
        let server = desk.up();
        for _ in 0..2 {
            let told = log(&desk, &server, "bomb", 0);
            assert!(told.contains("no more"), "{desk:?}: {told}");
            let next = log(&desk, &server, "count", 0);
            assert!(next.contains("1 forked=True"), "{desk:?}: {next}");
        }
    }
}

#[test]
fn a_run_asks_the_runner_from_its_process() {
    let called = "from runner import plugin\n@plugin(version=\"1\")\ndef called(task): return \"it was called\"\n";
    for desk in desks(LEAVES) {
        desk.write("plugins/called.py", called);
        let server = desk.up();
        let told = log(&desk, &server, "call", 0);
        assert!(
            told.contains("it was called, it was called"),
            "{desk:?}: {told}"
        );
    }
}

#[test]
fn a_module_with_threads_has_a_fresh_process_for_each_run_and_says_so() {
    let threads = "import threading, time\n\
                   threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n";
    for desk in desks(&format!("{threads}{LEAVES}")) {
        let server = desk.up();
        for _ in 0..2 {
            let told = log(&desk, &server, "count", 0);
            assert!(told.contains("1 forked=False"), "{desk:?}: {told}");
        }
        let said = desk.run(["plugin", "check", "plugins/leaves", "--no-run"]);
        assert!(
            said.err.contains("started 1 threads when it was loaded"),
            "{desk:?}: {said:#?}"
        );
    }
}
