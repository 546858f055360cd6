//! Arguments and folders that cannot be used.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::support::{Desk, PLUGIN, Said};

#[test]
fn arguments_that_are_not_utf_8() {
    let desk = Desk::new();
    desk.write("plugins/things.py", PLUGIN);
    let wrong = OsStr::from_bytes(b"x\xff");
    let run = |arguments: &[&OsStr]| desk.run(arguments);
    let word = OsStr::new;
    run(&[wrong]).failed(2, "");
    run(&[word("plugin"), word("run"), wrong]).failed(1, "there is no plugin");
    run(&[
        word("plugin"),
        word("run"),
        word("shout"),
        word("-p"),
        wrong,
    ])
    .failed(2, "invalid UTF-8");
    run(&[word("plugin"), word("check"), wrong]).failed(1, "cannot read");
    run(&[
        word("plugin"),
        word("new"),
        wrong,
        word("--lang"),
        word("exec"),
    ])
    .failed(2, "invalid UTF-8");
    // Files may have any name.
    std::fs::write(desk.path("").join(wrong), "abc").unwrap();
    let mut input = OsString::from("data=");
    input.push(wrong);
    let said = run(&[
        word("plugin"),
        word("run"),
        word("count"),
        word("-i"),
        &input,
        word("--json"),
    ])
    .ok();
    assert_eq!(said.json()["log"], "3 bytes and 0");
    // So may plugins, as far as their hosts can be told.
    let path = desk.path("").join(OsStr::from_bytes(b"y\xff.py"));
    std::fs::write(&path, PLUGIN).unwrap();
    let said = run(&[word("plugin"), word("check"), path.as_os_str()]);
    assert!(
        said.code <= 1 && !said.err.contains("panicked"),
        "{said:#?}"
    );
}

#[test]
fn outputs_that_cannot_be_written_are_refused_before_the_run() {
    let desk = Desk::new();
    desk.write("plugins/things.py", PLUGIN);
    desk.write("file", "x");
    for folder in ["file", "file/x", "/proc/nothing"] {
        let said = desk
            .run(["plugin", "run", "shout", "-p", "text=a", "-o", folder])
            .failed(1, "cannot write outputs into");
        assert!(!said.err.contains("first line"), "it ran: {said:#?}");
    }
    // A folder in the place of an output.
    std::fs::create_dir_all(desk.path("out/out.txt/x")).unwrap();
    desk.run(["plugin", "run", "shout", "-p", "text=a", "-o", "out"])
        .failed(1, "cannot write the output out/out.txt");
    assert!(desk.leftovers().is_empty());
}

#[test]
fn settings_and_folders_that_cannot_be_used() {
    let desk = Desk::new();
    let with = |name: &str, value: &str, arguments: &[&str]| -> Said {
        desk.command(arguments)
            .env(name, value)
            .output()
            .unwrap()
            .into()
    };
    with("PYTHON", "/nothing", &["plugin", "check", "x"]).failed(1, "cannot read x");
    with("TMPDIR", "/nothing", &["plugin", "list"]).failed(1, "cannot make a temporary folder");
    with("RUN_TIMEOUT", "x", &["plugin", "list"]).failed(1, "RUN_TIMEOUT is \"x\"");
    with("RUNNER_URL", "nonsense", &["plugin", "list"]).failed(1, "expected one such as http://");
    with("RUNNER_URL", "http://127.0.0.1:1", &["task", "list"])
        .failed(1, "start one with `runner up`");
    with("RUNNER_INSTANCE_FOLDER", "/proc/x", &["plugin", "sdk"])
        .failed(1, "cannot make the instance folder");
    desk.run(["plugin", "list", "--plugin-folders", "nothing"])
        .ok();
    desk.run(["plugin", "run", "x", "--timeout", "-1"])
        .failed(2, "");
}
