//! Which loader is taken, what it says of a file without starting it, and what cannot be loaded.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::building::{has, shared_object, shared_object_as};
use crate::support::{Desk, Said, repository};

fn check(desk: &Desk, path: &Path) -> Said {
    desk.run(["plugin", "check", path.to_str().unwrap()])
}

/// It is refused for this reason, and with nothing worse.
#[track_caller]
fn is_refused(desk: &Desk, path: &Path, reason: &str) {
    let said = check(desk, path);
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(said.out.contains(reason), "{reason}: {said:#?}");
    assert!(!said.err.contains("panicked"), "{said:#?}");
}

fn conformance(name: &str) -> std::path::PathBuf {
    repository().join("tests/fixtures/conformance").join(name)
}

#[test]
fn broken_shared_objects() {
    let desk = Desk::new();
    let source = conformance("conformance.c");
    let whole = std::fs::read(shared_object(&desk, &source, "whole.so")).unwrap();
    for size in [0, 10, 64, whole.len() / 3] {
        let path = desk.path("truncated.so");
        std::fs::write(&path, &whole[..size]).unwrap();
        is_refused(&desk, &path, &format!("{size} bytes"));
    }
    let path = desk.path("foreign.so");
    let mut foreign = whole;
    foreign[18..20].copy_from_slice(&243_u16.to_le_bytes());
    std::fs::write(&path, &foreign).unwrap();
    is_refused(&desk, &path, "it was made for riscv64, and this machine is");

    let empty = desk.write("empty.c", "int nothing;\n");
    let path = shared_object(&desk, &empty, "none.so");
    is_refused(&desk, &path, "it has no symbol `runner_plugin_abi`");
    let half = desk.write("half.c", "unsigned runner_plugin_abi(void) { return 1; }\n");
    let path = shared_object(&desk, &half, "half.so");
    is_refused(&desk, &path, "it has no symbol `runner_plugin_table`");
    let other = desk.write(
        "other.c",
        "unsigned runner_plugin_abi(void) { return 7; }\n\
         const void *runner_plugin_table(void) { return 0; }\n",
    );
    let path = shared_object(&desk, &other, "other.so");
    is_refused(&desk, &path, "has version 7 of the plugin ABI");
    let missing = desk.write(
        "missing.c",
        "extern int nowhere(void);\n\
         unsigned runner_plugin_abi(void) { return 1 + nowhere(); }\n\
         const void *runner_plugin_table(void) { return 0; }\n",
    );
    let path = shared_object(&desk, &missing, "missing.so");
    is_refused(&desk, &path, "undefined symbol: nowhere");
    let dies = desk.write(
        "dies.c",
        "#include <stdlib.h>\n\
         __attribute__((constructor)) static void dies(void) { abort(); }\n\
         unsigned runner_plugin_abi(void) { return 1; }\n\
         const void *runner_plugin_table(void) { return 0; }\n",
    );
    let path = shared_object(&desk, &dies, "dies.so");
    is_refused(&desk, &path, "signal 6 (SIGABRT)");
}

#[test]
fn broken_web_assembly() {
    let desk = Desk::new();
    let whole = std::fs::read(conformance("conformance.wasm")).unwrap();
    for size in [4, 7, 100, whole.len() - 1] {
        let path = desk.path("truncated.wasm");
        std::fs::write(&path, &whole[..size]).unwrap();
        is_refused(&desk, &path, &format!("after {size} bytes"));
    }
    let path = desk.write("text.wasm", "hello");
    is_refused(&desk, &path, "it does not begin with \\0asm");
    let path = desk.path("component.wasm");
    std::fs::write(&path, b"\0asm\x0d\0\x01\0").unwrap();
    is_refused(&desk, &path, "it is a component");
    // Whole by its sections, and damaged within them.
    let mut damaged = whole;
    let middle = damaged.len() / 3;
    for byte in &mut damaged[middle..middle + 64] {
        *byte = 0xff;
    }
    std::fs::write(&path, &damaged).unwrap();
    is_refused(&desk, &path, "cannot be compiled");
}

#[test]
fn broken_lua() {
    let desk = Desk::new();
    for (text, reason) in [
        ("", "it returned nil"),
        ("return {", "broken.lua:1:"),
        ("return 7", "it returned integer"),
        ("error('not today')", "not today"),
        (
            "return { name = 'a', version = '1' }",
            "\"run\" of a plugin or step must be a function",
        ),
        (
            "return { name = 'a', version = '1', run = print, colour = 1 }",
            "no field \"colour\"",
        ),
        ("return { name = 'a', run = print }", "not usable"),
        (
            "os.execute('true')",
            "attempt to call a nil value (field 'execute')",
        ),
        ("io.open('/etc/passwd')", "global 'io'"),
        ("load('\\27Lua')()", "attempt to call a nil value"),
        ("require('../secret')", "there is no module"),
        ("require('/etc/passwd')", "there is no module"),
        ("while true do end", "no answer to describe within"),
        (
            "local t = {} while true do t[#t + 1] = ('x'):rep(1000000) end",
            "memory",
        ),
        (
            "local f f = function() return f() + 1 end f()",
            "stack overflow",
        ),
    ] {
        let path = desk.write("broken.lua", text);
        is_refused(&desk, &path, reason);
    }
    let path = desk.path("compiled.lua");
    std::fs::write(&path, b"\x1bLua\x54\0\x19\x93").unwrap();
    is_refused(&desk, &path, "compiled Lua is not loaded");
    std::fs::write(&path, b"return \"\xff\"").unwrap();
    is_refused(&desk, &path, "no UTF-8 text, from byte 8 on");
}

#[test]
fn broken_scripts_and_odd_files() {
    let desk = Desk::new();
    let path = desk.write_executable("nowhere", "#!/no/such/interpreter\n");
    is_refused(
        &desk,
        &path,
        "its interpreter /no/such/interpreter is not here",
    );
    let path = desk.write_executable("windows", "#!/bin/sh\r\nexit 0\r\n");
    is_refused(&desk, &path, "carriage return");
    let path = desk.write("plain", "#!/bin/sh\n");
    is_refused(&desk, &path, "chmod +x");
    let (one, two) = (desk.path("one.py"), desk.path("two.py"));
    symlink(&one, &two).unwrap();
    symlink(&two, &one).unwrap();
    desk.run(["plugin", "check", one.to_str().unwrap()])
        .failed(1, "symbolic links");
    let fifo = desk.path("fifo.py");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    is_refused(&desk, &fifo, "neither a regular file nor a folder");
    if !nix::unistd::geteuid().is_root() {
        let path = desk.write("secret.py", "x");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
        is_refused(&desk, &path, "Permission denied");
    }
}

#[test]
fn another_loader_can_be_asked_for() {
    let desk = Desk::new();
    let text = std::fs::read_to_string(conformance("conformance_lua.lua")).unwrap();
    let path = desk.write("plugin.txt", &text);
    is_refused(&desk, &path, "--loader says what else it is");
    let said = desk.run(["plugin", "check", "--loader", "lua", "./plugin.txt"]);
    assert!(said.ok().out.contains("plugin (lua): Lua source"));
    let run = [
        "plugin",
        "run",
        "./plugin.txt",
        "-p",
        "act=echo",
        "-p",
        "text=it runs",
    ];
    desk.run(run).failed(1, "is no module");
    let as_lua = ["--loader", "lua", "--plugin", "conformance-lua"];
    let said = desk.run(run.iter().chain(&as_lua)).ok();
    assert!(said.err.contains("it runs"), "{said:#?}");
    let said = desk.run(["plugin", "check", "--loader", "perl", "./plugin.txt"]);
    assert!(
        said.out
            .contains("expected one of native, process, python, lua, wasm"),
        "{said:#?}"
    );
}

#[test]
fn loaders_of_the_configuration_are_checked() {
    let desk = Desk::new();
    let with = |loaders: &str, arguments: &[&str]| {
        let mut command = desk.command(arguments);
        command.env("LOADERS", loaders);
        Said::from(command.output().unwrap())
    };
    with("{\"a\": {}}", &["plugin", "list"]).failed(1, "missing field `command`");
    let missing = "{\"a\": {\"extensions\": [\"aa\"], \"command\": [\"no-such-program\"]}}";
    let path = desk.write("x.aa", "x");
    let said = with(missing, &["plugin", "check", path.to_str().unwrap()]);
    assert!(
        said.out.contains("needs the program \"no-such-program\""),
        "{said:#?}"
    );
    // A magic number is enough.
    let magic = "{\"a\": {\"magic\": \"TOY\\\\x01\", \"command\": [\"false\"]}}";
    let path = desk.write("toy", "TOY\u{1}");
    let said = with(magic, &["plugin", "check", path.to_str().unwrap()]);
    assert!(
        said.out.contains("ended during welcome (exit status 1)"),
        "{said:#?}"
    );
}

#[test]
fn a_shared_object_in_fortran() {
    if !has("gfortran") {
        return;
    }
    let desk = Desk::new();
    let source = repository().join("tests/fixtures/languages/hello.f90");
    let path = shared_object_as(&desk, "gfortran", &[], &source, "hello.so");
    let said = check(&desk, &path).ok();
    assert!(said.out.contains("shared object for"), "{said:#?}");
    let run = ["plugin", "run", path.to_str().unwrap(), "-p", "text=four"];
    assert!(desk.run(run).ok().err.contains("4 letters"));
}

#[test]
fn limits_of_what_is_interpreted_are_said() {
    let desk = Desk::new();
    let text = std::fs::read_to_string(conformance("conformance_lua.lua")).unwrap();
    desk.write("limited/plugin.lua", &text);
    desk.write(
        "limited/plugin.toml",
        "entry = \"plugin.lua\"\n[guest]\ninstructions = 100000\n",
    );
    let run = [
        "plugin",
        "run",
        "./limited",
        "--plugin",
        "conformance-lua",
        "-p",
        "act=sleep",
        "-p",
        "text=30",
    ];
    desk.run(run)
        .failed(1, "more than its limit of 100000 instructions");
    std::fs::copy(
        conformance("conformance.wasm"),
        desk.path("limited/plugin.wasm"),
    )
    .unwrap();
    desk.write(
        "limited/plugin.toml",
        "entry = \"plugin.wasm\"\n[guest]\nmemory = 65536\n",
    );
    let said = desk.run(["plugin", "check", "./limited"]);
    assert!(said.code == 1 && said.out.contains("memory"), "{said:#?}");
}

#[test]
fn web_assembly_sees_the_folder_of_its_run_and_nothing_else() {
    let desk = Desk::new();
    let source = desk.write(
        "escape.c",
        r#"#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "runner_plugin.h"
static const char *escape(struct runner_task *task) {
    static const char *outside[] = {"/etc/passwd", "../../../../../../etc/passwd", "../run/../../in/../work/x",
                                    "/proc/self/environ", "..", "/usr"};
    FILE *file;
    unsigned index;
    for (index = 0; index < sizeof outside / sizeof outside[0]; index++) {
        if (open(outside[index], O_RDONLY) >= 0) return outside[index];
    }
    if (symlink("/etc/passwd", "link") == 0) return "a link was made";
    if (mkdir("deep", 0755) != 0 || (file = fopen("deep/../deep/a", "w")) == NULL) return strerror(errno);
    fputs("inside", file);
    fclose(file);
    if (rename("deep/a", "b") != 0 || rmdir("deep") != 0) return strerror(errno);
    if ((file = fopen(runner_directory(task), "r")) == NULL) return strerror(errno);
    fclose(file);
    runner_done(task, access("b", R_OK) == 0 ? "contained" : "lost");
    return unlink("b") == 0 ? NULL : strerror(errno);
}
static const struct runner_definition plugins[] = {
    {"escape", "1.0.0", "Tries to get out.", "{}", escape, NULL}};
RUNNER_PLUGINS(plugins);
"#,
    );
    let Some(module) = crate::building::wasm(&desk, &source, "escape.wasm") else {
        return;
    };
    let said = desk.run(["plugin", "run", module.to_str().unwrap()]).ok();
    assert!(said.err.contains("contained"), "{said:#?}");
}
