//! Plugins that try to get out of their sandbox, in each language that has a loader, as root and as an ordinary
//! user, with all that this machine allows and with what every machine does.

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::Signal;
use runner_tests::scratch::Scratch;
use runner_tests::{Runner, wait};

use crate::shared::HELLO;

/// Plugins that run the attempts: one row for each language.
const LANGUAGES: &[&str] = &[
    "escape@1-0-0",
    "escape-forks@1-0-0",
    "escape-exec@1-0-0",
    "escape-native@1-0-0",
    "escape-lua@1-0-0",
    "escape-wasm@1-0-0",
];
/// A variable of the runner that no plugin must see.
const SECRET: &str = "A_SECRET_OF_THE_RUNNER";
/// An account that nobody has.
const USER: u32 = 64_998;

/// Who runs it, and with how much of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    Root,
    User,
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The folder of the attempts as a shared object.
fn native() -> &'static Path {
    static BUILT: OnceLock<Scratch> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let folder = Scratch::new();
        let done = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-I"])
            .arg(runner_tests::repository("sdk/c"))
            .arg("-o")
            .arg(folder.path().join("escape_native.so"))
            .arg(runner_tests::repository("tests/fixtures/escapes/escape.c"))
            .output()
            .expect("a C compiler");
        assert!(done.status.success(), "{done:?}");
        folder
    });
    built.path()
}

/// A runner as this account. `None`: only root can become another one.
fn runner(account: As, sandbox: &str) -> Option<Runner> {
    let builder = Runner::builder()
        .plugins(["stable_plugins/demo", "tests/fixtures/escapes"])
        .plugins([native()])
        .env("SANDBOX", sandbox)
        .env("HOST_MEMORY", 512 << 20)
        .env("HOST_PROCESSES", 100)
        .env("WORK_SIZE", 32 << 20)
        .env("WORK_FILES", 500)
        .env(SECRET, "1");
    match (account, is_root()) {
        (As::Root, true) | (As::User, false) => Some(builder.start()),
        (As::User, true) => Some(builder.account(USER).start()),
        (As::Root, false) => None,
    }
}

fn levels(runner: &Runner) -> Vec<String> {
    let task = runner.run_to_end("stay@1-0-0", &[("seconds", "0")]);
    runner.successful(task);
    let module = runner.module("escape");
    let levels = module["processes"][0]["sandbox"]["levels"]
        .as_array()
        .cloned();
    let levels = levels.unwrap_or_else(|| panic!("no living host: {module:#}"));
    levels
        .iter()
        .filter_map(|level| level.as_str().map(str::to_owned))
        .collect()
}

/// Tries all ways out that are refused one by one.
fn try_everything(account: As, sandbox: &str) {
    let Some(runner) = runner(account, sandbox) else {
        return;
    };
    let levels = levels(&runner);
    println!("{account:?}, {sandbox}: {levels:?}");
    let outside = Scratch::new();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let path = outside.path().join("socket");
    let _unix = UnixListener::bind(&path).expect("a socket");
    let name = format!("runner-escape-{}", runner.pid());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let _abstract = UnixListener::bind_addr(&address).expect("a socket");
    let port = |at: std::io::Result<std::net::SocketAddr>| at.expect("an address").to_string();
    let instance = runner.instance().display().to_string();
    let pid = runner.pid().to_string();
    let attempts: Vec<(&str, String)> = vec![
        ("read", "/etc/shadow".to_owned()),
        ("read", format!("{instance}/token")),
        ("read", format!("{instance}/runner.sqlite")),
        ("folder", format!("{instance}/files")),
        ("neighbours", format!("{instance}/hosts")),
        ("write", "/etc/runner-escaped".to_owned()),
        ("write", "/usr/runner-escaped".to_owned()),
        ("write", format!("{instance}/escaped")),
        (
            "write",
            outside.path().join("escaped").display().to_string(),
        ),
        ("write", "/proc/sys/kernel/core_pattern".to_owned()),
        ("tcp", port(tcp.local_addr())),
        ("udp", port(udp.local_addr())),
        ("tcp", runner.address().to_string()),
        ("unix", path.display().to_string()),
        ("abstract", name),
        ("kill", pid.clone()),
        ("ptrace", pid.clone()),
        ("memory", pid.clone()),
        ("environment", pid.clone()),
        ("secrets", SECRET.to_owned()),
        ("descriptors", instance.clone()),
        ("spaces", String::new()),
        ("mount", String::new()),
    ];
    for plugin in LANGUAGES {
        for (way, target) in &attempts {
            let task = runner.run_to_end(plugin, &[("way", *way), ("target", target.as_str())]);
            let log = runner.successful(task)["log"].to_string();
            // In a temporary folder of its own a plugin may write under any name.
            let is_its_own = *way == "write" && !std::path::Path::new(target).exists();
            assert!(
                log.contains("refused: ") || is_its_own,
                "{account:?}, {sandbox}, {plugin}: {way} {target}: {log}"
            );
        }
    }
    udp.set_nonblocking(true).expect("a socket");
    assert!(udp.recv(&mut [0; 10]).is_err(), "a packet came through");
    for path in ["/etc/runner-escaped", "/usr/runner-escaped"] {
        assert!(!std::path::Path::new(path).exists());
    }
    runner.run_well(HELLO, &[("inputStr", "x")]);
}

#[test]
fn every_way_out_is_closed_for_plugins_of_root() {
    try_everything(As::Root, "auto");
    try_everything(As::Root, "basic");
}

#[test]
fn every_way_out_is_closed_for_plugins_of_a_user() {
    try_everything(As::User, "auto");
    try_everything(As::User, "basic");
}

/// Something to use up.
struct Exhaustion {
    way: &'static str,
    target: &'static str,
    /// What each language says when there is no more: one of these.
    refused: &'static [&'static str],
}

const MEMORY: Exhaustion = Exhaustion {
    way: "allocate",
    target: "2000",
    refused: &["MemoryError", "emory"],
};
/// What there is an end of where a file system of its own limits the folder, and processes are counted apart.
const CONTAINED: &[Exhaustion] = &[
    MEMORY,
    Exhaustion {
        way: "forks",
        target: "3000",
        refused: &[
            "BlockingIOError",
            "Resource temporarily unavailable",
            "refused: WASI has no word for it",
            "refused: module 'posix'",
            "there is no module \\\"posix\\\"",
        ],
    },
    Exhaustion {
        way: "fill",
        target: "200",
        refused: &["No space left"],
    },
    Exhaustion {
        way: "nodes",
        target: "5000",
        refused: &["No space left"],
    },
];
/// Where the folder is watched.
const WATCHED: &[Exhaustion] = &[
    MEMORY,
    Exhaustion {
        way: "fill",
        target: "3000",
        refused: &["the limit is 33554432"],
    },
];

/// Uses up what there is; the neighbour and the runner go on.
fn exhaust(account: As, sandbox: &str, all: &[Exhaustion]) {
    let Some(runner) = runner(account, sandbox) else {
        return;
    };
    let has_spaces = levels(&runner).contains(&"L2".to_owned());
    if sandbox == "auto" && !has_spaces {
        return;
    }
    for plugin in LANGUAGES {
        for one in all {
            let (way, target) = (one.way, one.target);
            let neighbour = runner.submit("stay@1-0-0", &[("seconds", "0.5")]);
            let task = runner.run_to_end(plugin, &[("way", way), ("target", target)]);
            let log = task["log"].to_string();
            assert!(
                one.refused.iter().any(|refused| log.contains(refused)),
                "{account:?}, {sandbox}, {plugin}: {way} {target}: {log}"
            );
            runner.successful(runner.finished(neighbour));
        }
    }
    runner.run_well(HELLO, &[("inputStr", "x")]);
}

#[test]
fn what_a_plugin_of_root_uses_up_is_its_own() {
    exhaust(As::Root, "auto", CONTAINED);
    exhaust(As::Root, "basic", WATCHED);
}

#[test]
fn what_a_plugin_of_a_user_uses_up_is_its_own() {
    exhaust(As::User, "auto", CONTAINED);
    exhaust(As::User, "basic", WATCHED);
}

#[test]
fn the_levels_are_those_of_the_machine() {
    if let Some(runner) = runner(As::User, "basic") {
        assert_eq!(levels(&runner), ["L1"]);
    }
    if let Some(runner) = runner(As::User, "auto") {
        let levels = levels(&runner);
        assert!(levels.contains(&"L1".to_owned()), "{levels:?}");
    }
}

#[test]
fn a_plugin_that_crashes_fails_alone_and_its_module_rests_after_some_times() {
    let Some(runner) = runner(As::User, "auto") else {
        return;
    };
    for _ in 0..5 {
        let neighbour = runner.submit("stay@1-0-0", &[("seconds", "0.2")]);
        let log = runner.run_badly("crash@1-0-0", &[("number", "11")]);
        assert!(log.contains("signal 11 (SIGSEGV)"), "{log}");
        assert!(log.contains("the last words"), "{log}");
        runner.successful(runner.finished(neighbour));
    }
    let module = runner.module("crash");
    assert_eq!(
        (&module["failed"], &module["state"]),
        (&true.into(), &"RUNNING".into())
    );
    let reason = module["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("5 of its processes ended in a row"),
        "{reason}"
    );
    assert!(reason.contains("SIGSEGV"), "{reason}");
    let log = runner.run_badly("crash@1-0-0", &[("number", "0")]);
    assert!(log.contains("has failed"), "{log}");
    runner.run_well(HELLO, &[("inputStr", "x")]);
    let said = runner_tests::runner::command(runner.home())
        .args(["doctor", "--json"])
        .env("RUNNER_INSTANCE_FOLDER", runner.instance())
        .env(
            "PLUGIN_FOLDERS",
            runner_tests::repository("tests/fixtures/escapes"),
        )
        .output()
        .expect("doctor");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("5 of its processes ended in a row"), "{said}");
}

#[test]
fn hosts_of_a_killed_runner_end_also_in_name_spaces() {
    let Some(mut runner) = runner(As::User, "auto") else {
        return;
    };
    let _ = runner.submit("stay@1-0-0", &[("seconds", "60")]);
    let host = wait::eventually("a host", Duration::from_secs(10), || {
        let below = runner_tests::proc::descendants(runner.pid());
        let named = |pid: &u32| runner_tests::proc::command(*pid).contains("runner.host");
        below.into_iter().find(named)
    });
    runner.signal(Signal::SIGKILL);
    let left = runner_tests::proc::wait_until_gone(&[host], Duration::from_secs(5));
    assert!(left.is_empty(), "{left:?} still runs");
    runner.kill9();
}

#[test]
fn a_module_in_web_assembly_gets_no_function_that_wasi_does_not_have() {
    // (module (import "env" "socket" (func)))
    let module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x0e\x01\x03env\x06socket\0\0";
    let folder = Scratch::new();
    folder.file("wants_more.wasm", module);
    let runner = Runner::builder().plugins([folder.path()]).start();
    let module = runner.module("wants_more");
    assert_eq!(module["state"], "EXITED", "{module:#}");
    let reason = module["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("socket"), "{reason}");
}
