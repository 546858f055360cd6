//! Plugins that try to get out, or to hold up the runner. Each of these once worked.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runner_tests::{Runner, proc, wait};
use sha2::{Digest, Sha256};

use super::loading::bad;
use crate::shared::HELLO;

#[test]
fn a_link_in_place_of_the_run_directory_opens_nothing() {
    let runner = bad();
    let instance = runner.instance().to_str().expect("a path").to_owned();
    for name in ["token", "runner.sqlite", "runner.lock"] {
        let form = [("target", instance.as_str()), ("name", name)];
        let log = runner.run_badly("bad-swap@1-0-0", &form);
        assert!(log.contains("cannot open the output"), "{log}");
    }
    assert!(
        runner.instance().join("token").exists(),
        "nothing was removed either"
    );
    runner.run_well(HELLO, &[("inputStr", "x")]);
}

#[test]
fn a_plugin_that_keeps_writing_to_its_output_does_not_change_what_is_served() {
    for way in ["descriptor", "mapping", "link", "directory"] {
        let runner = Runner::builder()
            .plugins(["tests/fixtures/bad"])
            .env("DESCRIBE_TIMEOUT", 5)
            .start();
        for _ in 0..3 {
            let task = runner.run_to_end("bad-keeps@1-0-0", &[("way", way)]);
            if way == "directory" && task["status"] == "FAILURE" {
                continue;
            }
            let task = runner.successful(task);
            let path = runner.path_of(&runner.output_href(&task, "out.bin"));
            let first = runner.get(&path).expect(200);
            for _ in 0..20 {
                let served = runner.get(&path).expect(200);
                assert_eq!(served.body, first.body, "{way}");
                let digest = Sha256::digest(&served.body);
                let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                let tag = served.header("etag").expect("a tag").trim_matches('"');
                assert_eq!(tag, &digest[..32], "{way}");
            }
        }
    }
}

#[test]
fn children_that_write_for_ever_hold_up_nobody() {
    let runner = Runner::builder()
        .plugins(["stable_plugins/demo", "tests/fixtures/bad"])
        .env("DESCRIBE_TIMEOUT", 5)
        .env("CONCURRENCY", 1)
        .env("HOST_IDLE", 5)
        .start();
    let task = runner.run_well("bad-yes@1-0-0", &[]);
    let pids = runner.output(&task, "pids.txt");
    let pids: Vec<u32> = String::from_utf8_lossy(&pids)
        .split(' ')
        .filter_map(|pid| pid.parse().ok())
        .filter_map(|pid| proc::inside(runner.pid(), pid, "yes"))
        .collect();
    assert_eq!(pids.len(), 4);
    runner.run_well(HELLO, &[("inputStr", "x")]);
    assert_eq!(
        proc::wait_until_gone(&pids, Duration::from_secs(15)),
        [0_u32; 0],
        "they end with their host"
    );
}

#[test]
fn a_daemon_that_keeps_the_pipes_of_a_dead_host_holds_up_nobody_and_ends() {
    let runner = bad();
    let begin = Instant::now();
    let log = runner.run_badly("bad-escape@1-0-0", &[]);
    assert!(log.contains("exit status 3"), "{log}");
    assert!(begin.elapsed() < Duration::from_secs(20));
    let daemon = log
        .lines()
        .find_map(|line| line.strip_prefix("daemon "))
        .expect("its pid");
    let daemon = daemon.parse().expect("a number");
    wait::eventually("the daemon ends", Duration::from_secs(5), || {
        let left = proc::inside(runner.pid(), daemon, "sleep 1000");
        left.is_none().then_some(())
    });
}

#[test]
fn a_daemon_does_not_outlive_a_killed_runner() {
    let mut runner = Runner::builder()
        .plugins(["tests/fixtures/bad"])
        .env("DESCRIBE_TIMEOUT", 5)
        .start();
    let task = runner.run_well("bad-daemon@1-0-0", &[]);
    let pid = runner.output(&task, "pid.txt");
    let pid: u32 = String::from_utf8_lossy(&pid).parse().expect("a number");
    let pid = proc::inside(runner.pid(), pid, "bad_daemon").expect("it lives");
    runner.kill9();
    assert_eq!(
        proc::wait_until_gone(&[pid], Duration::from_secs(5)),
        [0_u32; 0]
    );
}

#[test]
fn an_executable_that_answers_once_serves_every_task() {
    let runner = bad();
    let tasks: Vec<u64> = (0..30)
        .map(|_| runner.submit("bad-one-shot@1-0-0", &[]))
        .collect();
    for task in tasks {
        let ended = runner.successful(runner.finished(task));
        assert_eq!(ended["log"], "once");
    }
}

#[test]
fn a_runner_without_its_launcher_ends_and_says_why() {
    let mut runner = Runner::builder().plugins(["stable_plugins/demo"]).start();
    let launcher = proc::descendants(runner.pid());
    let launcher = launcher
        .iter()
        .find(|pid| proc::command(**pid).contains("launcher"));
    let launcher = i32::try_from(*launcher.expect("the launcher")).expect("a pid");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(launcher),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("a signal");
    wait::eventually("the runner ends", Duration::from_secs(10), || {
        runner
            .stderr()
            .contains("the launcher of plugin processes ended")
            .then_some(())
    });
    runner.restart();
    runner.run_well(HELLO, &[("inputStr", "x")]);
}

#[test]
fn a_runner_is_stopped_while_its_modules_are_being_loaded() {
    let home = runner_tests::scratch::Scratch::new();
    let mut child = Command::new(runner_tests::runner::binary())
        .args(["up", "--port", "0", "--plugin-folders"])
        .arg(runner_tests::repository("tests/fixtures/bad"))
        .current_dir(home.path())
        .env("DESCRIBE_TIMEOUT", "1000")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the runner");
    // The first word of a module: others are still being loaded then, and one of them for ever.
    let mut lines = BufReader::new(child.stderr.take().expect("standard error")).lines();
    let said = lines.find(|line| {
        line.as_ref()
            .is_ok_and(|line| line.contains("was not loaded"))
    });
    assert!(said.is_some(), "the runner ended by itself");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a signal");
    let status = wait::eventually("the runner ends", Duration::from_secs(20), || {
        child.try_wait().ok()?
    });
    assert!(status.success(), "{status}");
}

#[test]
fn an_instance_folder_that_plugins_could_read_is_refused() {
    let folder = runner_tests::scratch::Scratch::new();
    folder.file("plugin.py", "");
    let refusal = Runner::builder()
        .plugins([folder.path()])
        .instance(folder.path().join("instance"))
        .expect_refusal();
    assert!(
        refusal.stderr.contains("every plugin could read it"),
        "{}",
        refusal.stderr
    );
}
