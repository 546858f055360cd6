//! `runner plugin new`: what it writes is right, runs, and passes its own test.

use std::process::Command;

use crate::support::{Desk, Said, repository};

fn run(mut command: Command) -> Said {
    Said::from(command.output().unwrap())
}

/// Checks and runs a new plugin.
fn is_right(desk: &Desk, folder: &str, name: &str) {
    let said = desk.run(["plugin", "check", folder]).ok();
    assert!(
        said.out.contains("its example succeeds, with 1 output"),
        "{said:#?}"
    );
    assert!(!said.out.contains("warning"), "{said:#?}");
    desk.run(["plugin", "run", folder, "-p", "text=hello", "-p", "times=3"])
        .ok();
    let output = std::fs::read_to_string(desk.path(&format!("{name}-output/lines.txt"))).unwrap();
    assert_eq!(output, "hello\nhello\nhello");
    desk.run(["plugin", "run", folder, "-p", "text=hello", "-p", "times=0"])
        .failed(1, "times (Times)");
}

#[test]
fn python() {
    let desk = Desk::new();
    let said = desk
        .run(["plugin", "new", "my-shout", "--lang", "python"])
        .ok();
    assert!(
        said.out.contains("runner plugin check ./plugins/my-shout"),
        "{said:#?}"
    );
    is_right(&desk, "./plugins/my-shout", "my-shout");
    // It is where the runner looks.
    assert!(desk.run(["plugin", "list"]).ok().out.contains("my-shout"));
    let sdk = desk.run(["plugin", "sdk"]).ok().out;
    let mut test = desk.other(
        "python3",
        ["-m", "unittest", "discover", "-s", "plugins/my-shout/tests"],
    );
    test.env("PYTHONPATH", sdk.trim());
    run(test).failed(0, "Ran 2 tests");
}

#[test]
fn lua() {
    let desk = Desk::new();
    desk.run(["plugin", "new", "my-shout", "--lang", "lua"])
        .ok();
    is_right(&desk, "./plugins/my-shout", "my-shout");
}

#[test]
fn c_and_web_assembly() {
    let desk = Desk::new();
    let make = |folder: &str| {
        let make = desk.other("make", ["-C", folder]);
        run(make)
    };
    desk.run(["plugin", "new", "my-shout", "--lang", "c"]).ok();
    make("plugins/my-shout").ok();
    is_right(&desk, "./plugins/my-shout", "my-shout");
    desk.run(["plugin", "new", "my-web", "--lang", "wasm"]).ok();
    if crate::building::has("clang") {
        make("plugins/my-web").ok();
        is_right(&desk, "./plugins/my-web", "my-web");
    }
}

#[test]
fn exec() {
    let desk = Desk::new();
    desk.run([
        "plugin",
        "new",
        "my-shout",
        "--lang",
        "exec",
        "--folder",
        "mine/more",
    ])
    .ok();
    is_right(&desk, "./mine/more/my-shout", "my-shout");
    let test = desk.other(
        "python3",
        [
            "-m",
            "unittest",
            "discover",
            "-s",
            "mine/more/my-shout/tests",
        ],
    );
    run(test).failed(0, "Ran 1 test");
}

#[test]
fn rust() {
    let desk = Desk::new();
    let sdk = repository().join("sdk/rust");
    desk.run([
        "plugin",
        "new",
        "my-shout",
        "--lang",
        "rust",
        "--sdk",
        sdk.to_str().unwrap(),
    ])
    .ok();
    let folder = desk.path("plugins/my-shout");
    // The versions of the workspace are at hand.
    std::fs::copy(repository().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_runner"));
    let target = program.ancestors().nth(2).unwrap().join("plugin-new");
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        command
            .args(arguments)
            .arg("--offline")
            .current_dir(&folder)
            .env("CARGO_TARGET_DIR", &target);
        run(command)
    };
    let said = cargo(&["test"]).ok();
    assert!(said.out.contains("test result: ok. 1 passed"), "{said:#?}");
    let said = desk.run(["plugin", "check", "./plugins/my-shout"]);
    assert!(
        said.code == 1 && said.out.contains("build it first"),
        "{said:#?}"
    );
    cargo(&["build"]).ok();
    std::fs::copy(
        target.join("debug/libmy_shout.so"),
        folder.join("libmy_shout.so"),
    )
    .unwrap();
    is_right(&desk, "./plugins/my-shout", "my-shout");
}

#[test]
fn the_sdk_of_rust_is_found_in_the_repository_and_missed_elsewhere() {
    let desk = Desk::new();
    // The program that is tested lies in the repository, unless the target folder is elsewhere.
    let said = desk.run(["plugin", "new", "found", "--lang", "rust"]).ok();
    let manifest = std::fs::read_to_string(desk.path("plugins/found/Cargo.toml")).unwrap();
    assert!(manifest.contains("sdk/rust\" }"), "{manifest}");
    assert_eq!(
        manifest.contains("# Where the folder"),
        said.err.contains("is not here")
    );
    // A program that was copied alone.
    std::fs::copy(env!("CARGO_BIN_EXE_runner"), desk.path("alone")).unwrap();
    let alone = desk.path("alone");
    let said = run(desk.other(
        alone.to_str().unwrap(),
        ["plugin", "new", "alone-one", "--lang", "rust"],
    ))
    .ok();
    assert!(
        said.err
            .contains("write the path of its folder sdk/rust into Cargo.toml"),
        "{said:#?}"
    );
    desk.run(["plugin", "new", "x", "--lang", "rust", "--sdk", "plugins"])
        .failed(1, "is not the crate runner-sdk");
}

#[test]
fn nothing_is_overwritten_and_names_are_checked() {
    let desk = Desk::new();
    desk.write("plugins/taken/file", "mine");
    desk.run(["plugin", "new", "taken", "--lang", "exec"])
        .failed(1, "is there already");
    for name in ["", "A", "a/b", "../x", "a b", "1a", "a_b"] {
        desk.run(["plugin", "new", name, "--lang", "exec"])
            .failed(1, "expected small letters, digits and dashes");
    }
    desk.run(["plugin", "new", "class", "--lang", "python"])
        .failed(1, "is a word of Python");
    desk.run([
        "plugin", "new", "x", "--lang", "exec", "--folder", "/proc/x",
    ])
    .failed(1, "cannot make /proc/x");
    let names: Vec<_> = std::fs::read_dir(desk.path("plugins")).unwrap().collect();
    assert_eq!(names.len(), 1);
}
