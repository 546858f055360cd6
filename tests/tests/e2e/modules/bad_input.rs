//! What cannot be loaded or changed is refused, with a reason, and leaves nothing behind.

use std::fs;

use nix::sys::stat::Mode;
use runner_tests::scratch::Scratch;
use serde_json::json;

use super::{Version, load, message, runner};

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
        (json!({"target": dangling}), 422, "No such file"),
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
