//! What cannot be loaded or changed is refused, with a reason, and leaves nothing behind.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::stat::Mode;
use runner_tests::Runner;
use runner_tests::scratch::Scratch;
use runner_tests::wait::eventually;
use serde_json::json;

use super::{LONG, Version, load, message, runner};

/// An account that nobody has.
const USER: u32 = 64_996;

#[test]
fn what_cannot_be_loaded_is_refused_with_a_reason() {
    let folder = Scratch::new();
    let first = Version::default().write(folder.path(), "managed");
    let runner = runner(&folder);
    let before = runner.modules();
    let there = Scratch::new();
    let fifo = there.path().join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).expect("a pipe is made");
    let dangling = there.path().join("dangling.py");
    std::os::unix::fs::symlink("nowhere", &dangling).expect("a link is made");
    let text = there.file("notes.txt", "no module");
    let broken = there.file("broken.py", "import nothing_like_this\n");
    let truncated = there.file("truncated.so", &b"\x7fELF\x02\x01\x01"[..]);
    let empty = there.path().join("folder");
    fs::create_dir(&empty).expect("a folder is made");
    let socket = there.path().join("socket.py");
    let _socket = UnixListener::bind(&socket).expect("a socket is made");
    let piped = there.path().join("piped");
    fs::create_dir(&piped).expect("a folder is made");
    fs::write(piped.join("plugin.toml"), "entry = \"run.lua\"\n").expect("a manifest");
    fs::write(piped.join("run.lua"), "return {}\n").expect("a module");
    nix::unistd::mkfifo(&piped.join("data"), Mode::S_IRWXU).expect("a pipe is made");
    let twin = there.file("twin", fs::read(&first).expect("it can be read"));
    fs::set_permissions(
        &twin,
        fs::metadata(&first).expect("it is there").permissions(),
    )
    .expect("executable");
    for (body, status, reason) in [
        (
            json!({"target": there.path().join("missing.py")}),
            422,
            "No such file",
        ),
        (
            json!({"target": fifo}),
            422,
            "neither a regular file nor a folder",
        ),
        (
            json!({"target": socket}),
            422,
            "neither a regular file nor a folder",
        ),
        (
            json!({"target": "/dev/zero"}),
            422,
            "neither a regular file nor a folder",
        ),
        (json!({"target": piped}), 422, "is not a regular file"),
        (json!({"target": dangling}), 422, "No such file"),
        // A regular file that even root cannot read.
        (json!({"target": "/proc/self/mem"}), 422, "cannot read"),
        (json!({"target": text}), 422, "is no module"),
        (json!({"target": empty}), 422, "is no module"),
        (json!({"target": broken}), 422, "nothing_like_this"),
        (json!({"target": truncated}), 422, "was not loaded"),
        (
            json!({"target": twin}),
            422,
            "already provided by the module managed",
        ),
        (json!({"target": first}), 409, "already loaded"),
        (
            json!({"target": twin, "name": "managed"}),
            409,
            "give it another name",
        ),
        (json!({"target": "nobody"}), 422, "a path has a slash"),
        (json!({"target": "some/where"}), 422, "not absolute"),
        (json!({"target": ""}), 422, "is not said"),
        (json!({"target": "/a\nb"}), 422, "control characters"),
        (
            json!({"target": twin, "name": "a/b"}),
            422,
            "\"a/b\" is not usable",
        ),
        (
            json!({"target": twin, "name": "a\u{1b}[1m"}),
            422,
            "is not usable",
        ),
        (
            json!({"target": twin, "name": "x".repeat(101)}),
            422,
            "is not usable",
        ),
        (json!({"target": twin, "loader": "cobol"}), 422, "cobol"),
        (json!({"target": twin, "args": {}}), 422, "args"),
        (json!({"target": twin, "nmae": "x"}), 422, "nmae"),
        (json!({}), 422, "target"),
        (json!([]), 422, "not usable"),
    ] {
        let refused = message(runner.ask("POST", "/modules/", Some(&body)), status);
        assert!(refused.contains(reason), "{body}: {refused}");
    }
    let names = |modules: &[serde_json::Value]| {
        modules
            .iter()
            .map(|m| m["uuid"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&runner.modules()), names(&before));
    runner.run_well("managed@1-0-0", &[]);
}

#[test]
fn what_its_account_may_not_read_is_refused() {
    let (folder, there) = (Scratch::new(), Scratch::new());
    let lock = |path: &std::path::Path| {
        fs::set_permissions(path, Permissions::from_mode(0o000)).expect("it is closed");
    };
    Version::default().write(folder.path(), "managed");
    let secret = folder.file("secret.py", "x = 1\n");
    let elsewhere = there.file("elsewhere.py", "x = 1\n");
    let closed = there.path().join("closed");
    fs::create_dir(&closed).expect("a folder is made");
    for path in [&secret, &elsewhere, &closed] {
        lock(path);
    }
    let builder = Runner::builder().plugins([folder.path()]);
    // Root may read everything.
    let runner = match nix::unistd::geteuid().is_root() {
        true => builder.account(USER).start(),
        false => builder.start(),
    };
    let module = runner.module("secret");
    let reason = module["reason"].as_str().unwrap_or_default();
    assert_eq!(module["state"], "EXITED", "{module:#}");
    assert!(
        reason.contains("secret.py") && reason.contains("Permission denied"),
        "{reason}"
    );
    for target in [elsewhere, closed.join("x.py"), closed] {
        let refused = message(
            runner.ask("POST", "/modules/", Some(&json!({"target": target}))),
            422,
        );
        assert!(refused.contains("Permission denied"), "{refused}");
    }
    runner.run_well("managed@1-0-0", &[]);
}

/// Tells whoever looks that it is over, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused_and_taken_when_it_is_at_rest() {
    let (folder, elsewhere) = (Scratch::new(), Scratch::new());
    let runner = runner(&folder);
    let package = elsewhere.path().join("growing");
    fs::create_dir(&package).expect("a folder is made");
    fs::write(package.join("plugin.toml"), "entry = \"run\"\n").expect("a manifest");
    Version::default().write(&package, "run");
    let data = package.join("data.bin");
    // Reading it takes longer than a change.
    fs::write(&data, vec![0; 32 << 20]).expect("data");
    let body = json!({"target": package});
    let is_over = AtomicBool::new(false);
    let refused = std::thread::scope(|scope| {
        let _over = Over(&is_over);
        scope.spawn(|| {
            let file = fs::OpenOptions::new().write(true).open(&data);
            let file = file.expect("it can be written");
            let mut number: u64 = 0;
            while !is_over.load(Ordering::Relaxed) {
                number += 1;
                file.write_all_at(&number.to_le_bytes(), 0)
                    .expect("it is written");
            }
        });
        message(runner.ask("POST", "/modules/", Some(&body)), 422)
    });
    assert!(
        refused.contains("data.bin changed while it was being read"),
        "{refused}"
    );
    assert_eq!(runner.modules().len(), 0);
    load(&runner, &body);
    runner.run_well("managed@1-0-0", &[]);
}

#[test]
fn a_file_that_is_replaced_while_it_is_loaded_is_loaded_as_it_was() {
    let (folder, elsewhere) = (Scratch::new(), Scratch::new());
    let runner = runner(&folder);
    let slow = Version {
        start: 2.0,
        ..Version::default()
    };
    let path = slow.write(elsewhere.path(), "managed");
    let body = json!({"target": path});
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| runner.ask("POST", "/modules/", Some(&body)));
        eventually("its copy", LONG, || {
            let modules = runner.modules();
            let module = modules.first()?;
            (module["state"] == "INIT" && module["sha256"] != "").then_some(())
        });
        let newer = Version {
            mark: "second",
            ..Version::default()
        };
        newer.write(elsewhere.path(), "managed");
        loading.join().expect("an answer").expect(201);
    });
    let mark = |runner: &runner_tests::Runner| {
        let log = runner.run_well("managed@1-0-0", &[])["log"].clone();
        log.as_str().unwrap_or_default().to_owned()
    };
    assert!(mark(&runner).starts_with("first"));
    runner
        .ask("POST", "/modules/managed/reload", None)
        .expect(200);
    assert!(mark(&runner).starts_with("second"));
}

#[test]
fn unknown_modules_and_wrong_deadlines_are_named() {
    let folder = Scratch::new();
    Version::default().write(folder.path(), "managed");
    let runner = runner(&folder);
    for (method, what) in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "start"),
        ("POST", "stop"),
        ("POST", "reload"),
        ("POST", "ping"),
        ("GET", "stats"),
        ("DELETE", "stats"),
        ("GET", "rusage"),
    ] {
        for name in ["nobody", "a%2Fb", "a%0Ab"] {
            let unknown = message(
                runner.ask(method, &format!("/modules/{name}/{what}"), None),
                404,
            );
            assert!(unknown.contains("There is no module"), "{unknown}");
        }
        let target = format!("/modules/managed/{what}");
        let request = runner_tests::http::Request::new(method, &target);
        runner.send(&request).expect(401);
    }
    for deadline in ["x", "-1", "1e9"] {
        let wrong = runner.ask(
            "DELETE",
            &format!("/modules/managed/?deadline={deadline}"),
            None,
        );
        assert!(message(wrong, 422).contains("expected seconds"));
    }
    let wrong = runner.ask("POST", "/modules/managed/reload", Some(&json!({"arg": 1})));
    assert!(message(wrong, 422).contains("arg"));
}

#[test]
fn a_name_with_spaces_and_other_letters_is_found_by_its_url() {
    let folder = Scratch::new();
    let path = Version::default().write(folder.path(), "managed");
    let runner = runner(&folder);
    runner.ask("DELETE", "/modules/managed/", None).expect(200);
    let module = load(&runner, &json!({"target": path, "name": "größe 2"}));
    assert_eq!(module["name"], "größe 2");
    let made = runner
        .ask("GET", "/modules/gr%C3%B6%C3%9Fe%202/", None)
        .expect(200)
        .json();
    assert_eq!(made["uuid"], module["uuid"]);
}
