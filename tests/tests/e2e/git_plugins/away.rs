//! A repository on another machine, and the network between.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runner_tests::Runner;
use runner_tests::process::Process;
use runner_tests::services::{Cut, free_port};
use runner_tests::wait::eventually;

use super::{Repository, log_of};

/// How long a fetch may take, in seconds.
const TIMEOUT: u64 = 3;
/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Serves the repositories in a folder by git's own protocol. Answers the port.
fn serve(folder: &Path) -> (Process, u16) {
    let found = Command::new("git").arg("--exec-path").output();
    let found = found.expect("git is installed");
    let programs = String::from_utf8(found.stdout).expect("a path");
    let port = free_port();
    let mut command = Command::new(PathBuf::from(programs.trim()).join("git-daemon"));
    command
        .args(["--export-all", "--reuseaddr", "--listen=127.0.0.1"])
        .arg(format!("--port={port}"))
        .arg(format!("--base-path={}", folder.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let daemon = Process::start(command);
    eventually("git's daemon", LONG, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    (daemon, port)
}

/// Starts it again. Answers how long that took.
fn restart(runner: &mut Runner) -> Duration {
    assert!(runner.terminate().success());
    let begin = Instant::now();
    runner.restart();
    begin.elapsed()
}

#[test]
fn while_the_network_is_cut_or_silent_the_last_good_clone_serves() {
    let from = Repository::new();
    let folder = from.path().parent().expect("a folder");
    let name = from.path().strip_prefix(folder).expect("a name");
    let (_daemon, port) = serve(folder);
    let cut = Cut::new(port);
    let source = format!(
        "git+git://127.0.0.1:{}/{}@main#subdirectory=plugins",
        cut.port(),
        name.display()
    );
    let mut runner = Runner::builder()
        .env("GIT_PLUGINS", &source)
        .env("GIT_TIMEOUT", TIMEOUT)
        .start();
    let plugin = "git-one@1-0-0";
    assert_eq!(log_of(&runner, plugin), "first");

    from.commit("second");
    let reasons = [
        "git fetch failed: ",
        "longer than 3 s, which is GIT_TIMEOUT",
    ];
    for (outage, reason) in [Cut::cut, Cut::stall].into_iter().zip(reasons) {
        outage(&cut);
        let passed = restart(&mut runner);
        // It holds up the start for as long as it may, and for no longer.
        assert!(
            passed < Duration::from_secs(TIMEOUT) + LONG / 2,
            "{passed:?}"
        );
        assert_eq!(log_of(&runner, plugin), "first");
        let told = runner.stderr();
        assert!(told.contains(reason), "{told}");
        assert!(told.contains("what was fetched before is used"), "{told}");
        assert_eq!(runner.module("one")["state"], "RUNNING");
        cut.heal();
    }
    restart(&mut runner);
    assert_eq!(log_of(&runner, plugin), "second");
    assert!(!runner.stderr().contains("what was fetched before is used"));
}
