//! One suite for all: `runner plugin check` makes the checks of the protocol with the SDKs and without any.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::building::{example_of_the_sdk, shared_object, shared_object_as, wasm};
use crate::support::{Desk, repository};

fn fixture(name: &str) -> PathBuf {
    repository().join("tests/fixtures/conformance").join(name)
}

/// Puts a module into a folder with arguments, and has it checked: all checks are made and passed, those of nodes if
/// it has one.
#[track_caller]
fn conforms(desk: &Desk, module: &Path, is_node: bool) {
    conforms_with(desk, module, is_node, "");
}

/// With more lines in its manifest.
#[track_caller]
fn conforms_with(desk: &Desk, module: &Path, is_node: bool, lines: &str) {
    let name = module.file_name().unwrap().to_str().unwrap();
    let manifest = format!(
        "entry = \"{name}\"\nname = \"under another name\"\nargs = [\"a\", {{b = 1}}]\n{lines}"
    );
    desk.write("checked/plugin.toml", &manifest);
    std::fs::copy(module, desk.path("checked").join(name)).unwrap();
    let said = desk.run(["plugin", "check", "--json", "./checked"]).ok();
    let document = said.json();
    let checks = document["protocol"].as_array().unwrap();
    assert_eq!(checks.len(), 28, "{desk:?}: {document:#}");
    let is_of_nodes = |check: &Value| {
        let name = check["check"].as_str();
        name.is_some_and(|name| name.starts_with("node-"))
    };
    let wrong: Vec<&Value> = checks
        .iter()
        .filter(|check| match !is_node && is_of_nodes(check) {
            true => check["outcome"] != "skipped",
            false => check["outcome"] != "passed",
        })
        .collect();
    assert!(wrong.is_empty(), "{desk:?}: {wrong:#?}");
}

#[test]
fn python() {
    conforms(&Desk::new(), &fixture("conformance_python.py"), true);
}

#[test]
fn python_with_a_process_for_each_run() {
    for desk in Desk::everywhere() {
        let module = fixture("conformance_python.py");
        conforms_with(&desk, &module, true, "isolation = \"process\"\n");
    }
}

#[test]
fn lua() {
    conforms(&Desk::new(), &fixture("conformance_lua.lua"), true);
}

#[test]
fn without_an_sdk() {
    conforms(&Desk::new(), &fixture("conformance_exec"), false);
}

#[test]
fn rust() {
    conforms(&Desk::new(), &example_of_the_sdk("conformance"), true);
}

#[test]
fn c_of_every_age_and_cpp() {
    let desk = Desk::new();
    let source = fixture("conformance.c");
    conforms(
        &desk,
        &shared_object(&desk, &source, "conformance.so"),
        true,
    );
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
            conforms(&desk, &built, true);
        }
    }
}

#[test]
fn web_assembly() {
    let desk = Desk::new();
    conforms(&desk, &fixture("conformance.wasm"), true);
    if let Some(built) = wasm(&desk, &fixture("conformance.c"), "built.wasm") {
        conforms(&desk, &built, true);
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
