//! One suite for all: `runner plugin check` makes the checks of the protocol with the SDKs and without any.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::building::{shared_object, shared_object_as, wasm};
use crate::support::{Desk, repository};

fn fixture(name: &str) -> PathBuf {
    repository().join("tests/fixtures/conformance").join(name)
}

/// Puts a module into a folder with arguments, and has it checked: all checks are made and passed.
#[track_caller]
fn conforms(desk: &Desk, module: &Path) {
    let name = module.file_name().unwrap().to_str().unwrap();
    let manifest =
        format!("entry = \"{name}\"\nname = \"under another name\"\nargs = [\"a\", {{b = 1}}]\n");
    desk.write("checked/plugin.toml", &manifest);
    std::fs::copy(module, desk.path("checked").join(name)).unwrap();
    let said = desk.run(["plugin", "check", "--json", "./checked"]).ok();
    let document = said.json();
    let checks = document["protocol"].as_array().unwrap();
    assert_eq!(checks.len(), 24, "{document:#}");
    let wrong: Vec<&Value> = checks
        .iter()
        .filter(|check| check["outcome"] != "passed")
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn python() {
    conforms(&Desk::new(), &fixture("conformance_python.py"));
}

#[test]
fn lua() {
    conforms(&Desk::new(), &fixture("conformance_lua.lua"));
}

#[test]
fn without_an_sdk() {
    conforms(&Desk::new(), &fixture("conformance_exec"));
}

#[test]
fn rust() {
    let program = Path::new(env!("CARGO_BIN_EXE_runner"));
    let target = program.ancestors().nth(2).unwrap();
    let done = Command::new(env!("CARGO"))
        .args(["build", "-p", "runner-sdk", "--example", "conformance"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    conforms(
        &Desk::new(),
        &target.join("debug/examples/libconformance.so"),
    );
}

#[test]
fn c_of_every_age_and_cpp() {
    let desk = Desk::new();
    let source = fixture("conformance.c");
    conforms(&desk, &shared_object(&desk, &source, "conformance.so"));
    let strict = [
        "-pedantic",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-D_DEFAULT_SOURCE",
    ];
    for (compiler, language) in [
        ("cc", &["-std=c89"][..]),
        ("cc", &["-std=c99"]),
        ("c++", &["-x", "c++", "-std=c++98"]),
        ("c++", &["-x", "c++", "-std=c++17"]),
    ] {
        let arguments = [language, &strict].concat();
        let built = shared_object_as(&desk, compiler, &arguments, &source, "strict.so");
        if compiler == "c++" {
            conforms(&desk, &built);
        }
    }
}

#[test]
fn web_assembly() {
    let desk = Desk::new();
    conforms(&desk, &fixture("conformance.wasm"));
    if let Some(built) = wasm(&desk, &fixture("conformance.c"), "built.wasm") {
        conforms(&desk, &built);
    }
}

#[test]
fn what_does_not_conform_is_told_with_the_promise() {
    let desk = Desk::new();
    let path = desk.write_executable(
        "sloppy",
        "#!/usr/bin/env python3\n\
         import json, sys\n\
         plugin = {'name': 'sloppy', 'version': '1.0.0'}\n\
         for line in sys.stdin:\n\
         \x20   request = json.loads(line)\n\
         \x20   result = {'protocol': 1, 'framing': 'lines', 'plugins': [plugin]}\n\
         \x20   print(json.dumps({'jsonrpc': '2.0', 'id': request.get('id'), 'result': result}), flush=True)\n",
    );
    let path = path.to_str().unwrap();
    let said = desk.run(["plugin", "check", path]);
    assert_eq!(said.code, 1, "{said:#?}");
    for part in [
        "protocol, unknown-request: it was answered with",
        "an unknown request is answered with -32601",
        "protocol, unknown-notification",
        "protocol, unknown-plugin: it was run as if it were there",
    ] {
        assert!(said.out.contains(part), "{part}: {said:#?}");
    }
    let document = desk.run(["plugin", "check", "--json", path]).json();
    assert_eq!(document["ok"], false);
    let outcome = |check: &str| {
        let checks = document["protocol"].as_array().unwrap();
        let found = checks.iter().find(|found| found["check"] == check);
        found.map(|found| found["outcome"].as_str().unwrap().to_owned())
    };
    assert_eq!(outcome("welcome").as_deref(), Some("passed"));
    assert_eq!(outcome("unknown-request").as_deref(), Some("failed"));
    assert_eq!(outcome("echo").as_deref(), Some("skipped"));
}

#[test]
fn the_list_of_checks_stands_in_the_document() {
    let text = std::fs::read_to_string(repository().join("docs/protocol.md")).unwrap();
    let desk = Desk::new();
    let path = fixture("conformance_lua.lua");
    let document = desk
        .run(["plugin", "check", "--json", path.to_str().unwrap()])
        .json();
    for check in document["protocol"].as_array().unwrap() {
        let line = format!(
            "| `{}` | {} |",
            check["check"].as_str().unwrap(),
            check["promise"].as_str().unwrap()
        );
        assert!(text.contains(&line), "{line}");
    }
}
