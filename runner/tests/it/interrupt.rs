//! Ctrl-C: what was begun is ended, and nothing is left.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Desk, PLUGIN, eventually, processes};

fn interrupt(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

/// Starts a run that never ends and leaves a child of its own, and waits until it sleeps.
fn asleep(desk: &Desk, mark: &str) -> Child {
    desk.write("plugins/things.py", PLUGIN);
    let mut child = desk
        .command(["plugin", "run", "sleep", "-p", &format!("mark={mark}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "asleep");
    std::thread::spawn(move || lines.for_each(drop));
    assert_eq!(
        processes(mark)
            .iter()
            .filter(|line| line.starts_with("sleep"))
            .count(),
        1
    );
    child
}

#[test]
fn a_run_is_cancelled_and_nothing_is_left() {
    for (signal, mark) in [(Signal::SIGINT, "31421"), (Signal::SIGTERM, "31422")] {
        let desk = Desk::new();
        let mut child = asleep(&desk, mark);
        let start = Instant::now();
        interrupt(&child, signal);
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(130));
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{:?}",
            start.elapsed()
        );
        assert_eq!(processes(mark), [""; 0], "at once, not later");
        assert!(desk.leftovers().is_empty(), "{:?}", desk.leftovers());
        assert!(!desk.path("sleep-output").exists());
    }
}

#[test]
fn no_process_outlives_a_command_that_is_killed() {
    let desk = Desk::new();
    let mut child = asleep(&desk, "31423");
    interrupt(&child, Signal::SIGKILL);
    child.wait().unwrap();
    eventually("its processes are gone", || processes("31423").is_empty());
}

#[test]
fn loading_can_be_interrupted() {
    let desk = Desk::new();
    desk.write_executable("plugins/silent", "#!/bin/sh\nsleep 31424\n");
    let child = desk
        .command(["plugin", "list"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("it is being loaded", || !processes("31424").is_empty());
    interrupt(&child, Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(processes("31424"), [""; 0]);
    assert!(desk.leftovers().is_empty());
}
