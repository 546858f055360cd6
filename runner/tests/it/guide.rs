//! The examples of docs/plugins.md: each is built, checked and run as it stands there.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::building::{shared_object, wasm};
use crate::support::{Desk, repository};

/// The most lines of a hello-world, beside empty ones.
const MOST: usize = 10;

/// The blocks that are files, by their names.
pub(crate) fn files() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(repository().join("docs/plugins.md")).unwrap();
    let mut files = BTreeMap::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => {
                let name = info.split_whitespace().nth(1).unwrap_or("").to_owned();
                open = Some((name, String::new()));
            }
            (Some(_), Some(_)) => files.extend(open.take().filter(|(name, _)| !name.is_empty())),
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    files
}

/// Greets the world, without a word of complaint.
#[track_caller]
fn greets(desk: &Desk, path: &Path) {
    let path = path.to_str().unwrap();
    let said = desk.run(["plugin", "check", path]).ok();
    assert!(said.out.contains("its example succeeds"), "{said:#?}");
    let said = desk.run(["plugin", "run", path, "-p", "name=World"]).ok();
    assert!(said.err.contains("Hello, World"), "{said:#?}");
}

#[test]
fn six_languages_greet_in_ten_lines() {
    let desk = Desk::new();
    let files = files();
    for name in [
        "hello_python.py",
        "hello.lua",
        "hello.c",
        "hello.rs",
        "hello-exec",
    ] {
        let text = &files[name];
        let count = text.lines().filter(|line| !line.trim().is_empty()).count();
        let shebang = usize::from(text.starts_with("#!"));
        assert!(count - shebang <= MOST, "{name} has {count} lines");
        let path = desk.write(name, text);
        if shebang == 1 {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        match name {
            "hello.c" => {
                greets(&desk, &shared_object(&desk, &path, "hello.so"));
                if let Some(module) = wasm(&desk, &path, "hello.wasm") {
                    greets(&desk, &module);
                }
            }
            "hello.rs" => greets(&desk, &rust(&desk, text)),
            _ => greets(&desk, &path),
        }
    }
}

fn rust(desk: &Desk, text: &str) -> std::path::PathBuf {
    let sdk = repository().join("sdk/rust");
    let sdk = sdk.to_str().unwrap();
    desk.run(["plugin", "new", "hello", "--lang", "rust", "--sdk", sdk])
        .ok();
    let folder = desk.path("plugins/hello");
    desk.write("plugins/hello/src/lib.rs", &format!("//! Greets.\n{text}"));
    std::fs::copy(repository().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_runner"));
    let target = program.ancestors().nth(2).unwrap().join("plugin-new");
    let done = Command::new("cargo")
        .args(["build", "--offline"])
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", &target)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let library = desk.path("libhello.so");
    std::fs::copy(target.join("debug/libhello.so"), &library).unwrap();
    library
}

#[test]
fn a_loader_of_the_configuration_makes_plugins_of_texts() {
    let desk = Desk::new();
    for (name, text) in files() {
        if ["runner.toml", "template_host.py", "letter.tmpl"].contains(&name.as_str()) {
            desk.write(&name, &text);
        }
    }
    // Without the loader nobody knows such files.
    let unknown = desk
        .other("sh", ["-c", "mv runner.toml away.toml"])
        .status();
    assert!(unknown.unwrap().success());
    let said = desk.run(["plugin", "check", "./letter.tmpl"]);
    assert!(said.failed(1, "").out.contains("is no module"));
    std::fs::rename(desk.path("away.toml"), desk.path("runner.toml")).unwrap();

    let said = desk.run(["plugin", "check", "./letter.tmpl"]).ok();
    assert!(
        said.out.contains("letter (template): file for"),
        "{said:#?}"
    );
    let arguments = [
        "plugin",
        "run",
        "./letter.tmpl",
        "-p",
        "name=Ada",
        "-p",
        "place=home",
    ];
    desk.run(arguments).ok();
    let output = std::fs::read_to_string(desk.path("letter-output/filled.txt")).unwrap();
    assert_eq!(output, "Dear Ada, greetings from home.\n");
    let doctor = desk.run(["doctor"]);
    assert!(
        doctor
            .out
            .contains("template: .tmpl by python3 template_host.py {module}"),
        "{doctor:#?}"
    );
    let config = desk.run(["config"]).ok();
    assert!(config.out.contains("loaders in runner.toml"), "{config:#?}");
}

/// The first block of a language in a document.
fn first_block(document: &str, language: &str) -> String {
    let text = std::fs::read_to_string(repository().join(document)).unwrap();
    let (_, rest) = text.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_plugins_of_the_sdks_readmes_work() {
    let desk = Desk::new();
    let shouts = |path: &Path, expected: &str| {
        let path = path.to_str().unwrap();
        let run = [
            "plugin",
            "run",
            path,
            "-p",
            "inputStr=hello",
            "--output",
            "out",
        ];
        let said = desk.run(run).ok();
        assert!(said.err.contains("done"), "{said:#?}");
        let output = std::fs::read_to_string(desk.path("out/out.txt")).unwrap();
        assert_eq!(output, expected);
    };
    let lua = desk.write("shout.lua", &first_block("sdk/lua/README.md", "lua"));
    shouts(&lua, "HELLO");
    let c = desk.write("shout.c", &first_block("sdk/c/README.md", "c"));
    shouts(&shared_object(&desk, &c, "shout.so"), "hello");
}
