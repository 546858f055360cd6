//! Files in a plugin folder that are no modules, or bad ones: each is listed with its reason, and takes nothing
//! else down. And a great many good ones.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use runner_tests::scratch::Scratch;
use runner_tests::{Runner, proc, repository};
use serde_json::Value;

/// How an executable begins that speaks the protocol; what it does is said by its last lines.
const SPEAKS: &str = r#"#!/usr/bin/env python3
import json, os, signal, sys, time
PLUGIN = {"name": NAME, "version": "1.0.0"}
def send(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
def answer(request):
    results = {"welcome": {"protocol": 1, "framing": "lines"}, "describe": {"plugins": [PLUGIN]}}
    send(id=request["id"], result=results.get(request["method"], {}))
"#;

/// An executable of this name, with these lines for each request.
fn script(folder: &Path, name: &str, before: &str, each: &str) {
    let each: String = each.lines().map(|line| format!("    {line}\n")).collect();
    let plugin = name.replace('_', "-");
    let text = SPEAKS.replace("NAME", &format!("{plugin:?}"));
    let text = format!("{text}{before}\nfor request in map(json.loads, sys.stdin):\n{each}");
    executable(folder, name, text.as_bytes());
}

fn executable(folder: &Path, name: &str, content: &[u8]) {
    let path = folder.join(name);
    fs::write(&path, content).expect("cannot write a module");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&path, mode).expect("cannot make it executable");
}

/// A shared object of this source.
fn shared_object(folder: &Path, name: &str, source: &str) {
    let from = Scratch::new();
    let done = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(folder.join(name))
        .arg(from.file("source.c", source))
        .output()
        .expect("a C compiler");
    assert!(done.status.success(), "{done:?}");
}

/// Writes what cannot be loaded; answers each with a part of its reason.
fn write_bad(folder: &Path) -> Vec<(&'static str, &'static str)> {
    let file = |name: &str, content: &[u8]| {
        fs::write(folder.join(name), content).expect("cannot make a bad module")
    };
    let program = fs::read("/bin/true").expect("cannot make a bad module");
    file("elf_cut.so", &program[..500]);
    let mut foreign = program.clone();
    foreign[18..20].copy_from_slice(&243_u16.to_le_bytes());
    file("elf_foreign.so", &foreign);
    file("elf_other.so", &program);
    file("elf_text.so", b"no library");
    shared_object(
        folder,
        "elf_version.so",
        "unsigned runner_plugin_abi(void) { return 7; }\n\
         const void *runner_plugin_table(void) { return 0; }\n",
    );
    // A regular file that even root cannot read.
    symlink("/proc/self/mem", folder.join("unreadable.py")).expect("cannot make a bad module");
    let wasm = repository("tests/fixtures/conformance/conformance.wasm");
    let wasm = fs::read(wasm).expect("cannot make a bad module");
    file("wasm_cut.wasm", &wasm[..1000]);
    file("wasm_component.wasm", b"\0asm\x0d\0\x01\0");
    file("lua_broken.lua", b"return {");
    file("lua_compiled.lua", b"\x1bLua\x54\0");
    file("python_bytes.py", b"x = '\xff\xfe'\n");
    script(folder, "silent", "time.sleep(600)", "pass");
    script(
        folder,
        "wrong_types",
        "",
        "send(id=request['id'], result=5)",
    );
    script(
        folder,
        "wrong_description",
        "",
        "if request['method'] == 'describe': send(id=request['id'], result={'plugins': 'none'})\n\
         else: answer(request)",
    );
    script(
        folder,
        "other_protocol",
        "",
        "send(id=request['id'], result={'protocol': 99})",
    );
    script(
        folder,
        "long_line",
        "",
        "for _ in range(100): sys.stdout.write('x' * (1 << 20))\nprint()",
    );
    executable(
        folder,
        "no_text",
        b"#!/bin/sh\nprintf '\\377\\376{}\\n'\nsleep 60\n",
    );
    script(folder, "exits_loading", "sys.exit(3)", "pass");
    script(
        folder,
        "killed_loading",
        "os.kill(os.getpid(), signal.SIGSEGV)",
        "pass",
    );
    script(
        folder,
        "closes_output",
        "os.close(1)\ntime.sleep(600)",
        "pass",
    );
    script(
        folder,
        "closes_input",
        "os.close(0)\ntime.sleep(600)",
        "pass",
    );
    script(
        folder,
        "ignores_term",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)",
        "pass",
    );
    script(
        folder,
        "forks_away",
        "if os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\nos._exit(0)",
        "pass",
    );
    executable(folder, "no_interpreter", b"#!/no/such/thing\n");
    file("not_executable", b"#!/bin/sh\n");
    symlink(folder.join("loop_b.py"), folder.join("loop_a.py")).expect("cannot make a bad module");
    symlink(folder.join("loop_a.py"), folder.join("loop_b.py")).expect("cannot make a bad module");
    symlink("nowhere", folder.join("dangling.py")).expect("cannot make a bad module");
    nix::unistd::mkfifo(&folder.join("pipe.py"), nix::sys::stat::Mode::S_IRWXU)
        .expect("cannot make a bad module");
    file(
        "two words \u{1f980}.py",
        b"raise RuntimeError('odd, and said so')\n",
    );
    fs::write(folder.join(OsStr::from_bytes(b"no_utf8_\xff.py")), "x")
        .expect("cannot make a bad module");
    vec![
        ("elf_cut", "no whole ELF file"),
        ("elf_foreign", "made for riscv64"),
        ("elf_other", "no symbol `runner_plugin_abi`"),
        ("elf_text", "no ELF file"),
        ("elf_version", "has version 7 of the plugin ABI"),
        ("unreadable", "cannot read"),
        ("wasm_cut", "after 1000 bytes"),
        ("wasm_component", "a component"),
        ("lua_broken", "lua_broken.lua:1"),
        ("lua_compiled", "compiled Lua is not loaded"),
        ("python_bytes", "no UTF-8 text, from byte 5 on"),
        ("silent", "no answer to welcome within 5 s"),
        ("wrong_types", "speaks version no of the plugin protocol"),
        ("wrong_description", "its description is not usable"),
        ("other_protocol", "speaks version 99"),
        ("long_line", "a line of more than 1048576 bytes"),
        ("no_text", "no message of the plugin protocol"),
        ("exits_loading", "exit status 3"),
        ("killed_loading", "SIGSEGV"),
        ("closes_output", "closed its output"),
        ("closes_input", "no answer to welcome within 5 s"),
        ("ignores_term", "no answer to welcome within 5 s"),
        ("forks_away", "ended during welcome"),
        ("no_interpreter", "/no/such/thing is not here"),
        ("not_executable", "chmod +x"),
        ("loop_a", "symbolic links"),
        ("dangling", "No such file"),
        ("pipe", "neither a regular file"),
        ("two words \u{1f980}", "odd, and said so"),
        ("no_utf8_\u{fffd}", "is not UTF-8"),
    ]
}

#[test]
fn bad_files_are_listed_with_their_reasons_and_good_ones_work() {
    let folder = Scratch::new();
    let expected = write_bad(folder.path());
    // Bad habits that harm nobody: answers that nobody asked for, twice the same, names of the future.
    script(
        folder.path(),
        "talkative",
        "",
        "send(id=77, result={})\nsend(method='ofTheFuture', params=[])\nanswer(request)\nanswer(request)",
    );
    folder.file("notes.txt", "no module");
    // Odd, and good.
    let lua = |name: &str| {
        format!(
            "return {{ name = \"{name}\", version = \"1.0.0\", run = function() return \"ran\" end }}\n"
        )
    };
    folder.file("line\nbreak.lua", lua("line-break"));
    let round = folder.path().join("round");
    fs::create_dir(&round).expect("cannot make a module");
    fs::write(round.join("plugin.toml"), "entry = \"p.lua\"\n").expect("cannot make a module");
    fs::write(round.join("p.lua"), lua("round")).expect("cannot make a module");
    symlink(".", round.join("again")).expect("cannot make a module");
    let runner = Runner::builder()
        .plugins([folder.path()])
        .env("DESCRIBE_TIMEOUT", 5)
        .env("CONCURRENCY", 4)
        .start();
    for (name, reason) in &expected {
        let module = runner.module(name);
        assert_eq!(module["state"], "EXITED", "{module:#}");
        let told = module["reason"].as_str().unwrap_or_default();
        assert!(
            told.contains(reason),
            "{name}: {reason:?} is not in {told:?}"
        );
        assert!(told.len() < 2_000, "{name}: {told}");
    }
    let names: Vec<Value> = runner.modules().iter().map(|m| m["name"].clone()).collect();
    assert!(!names.iter().any(|name| name == "notes"), "{names:?}");
    for _ in 0..3 {
        runner.run_well("talkative@1-0-0", &[]);
    }
    for odd in ["line-break@1-0-0", "round@1-0-0"] {
        assert_eq!(runner.run_well(odd, &[])["log"], "ran");
    }
    // Nothing of what failed is left: no process, no folder.
    let left: Vec<String> = proc::descendants(runner.pid())
        .into_iter()
        .map(proc::command)
        .filter(|command| expected.iter().any(|(name, _)| command.contains(name)))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn plugin_folders_that_are_none_take_nothing_down_and_are_named() {
    let root = Scratch::new();
    let odd = root.path().join("two words \u{1f980}\n");
    fs::create_dir(&odd).expect("cannot make a folder");
    fs::write(
        odd.join("good.lua"),
        "return { name = \"good\", version = \"1.0.0\", run = function() return \"ran\" end }\n",
    )
    .expect("cannot make a module");
    let link = root.path().join("link");
    symlink(&odd, &link).expect("cannot make a link");
    let round = root.path().join("round");
    symlink(&round, &round).expect("cannot make a link");
    let file = root.file("file.lua", "return 1\n");
    let missing = root.path().join("missing");
    let runner = Runner::builder()
        .plugins([&missing, &file, &round, &odd, &link])
        .start();
    assert_eq!(runner.run_well("good@1-0-0", &[])["log"], "ran");
    let told = runner.stderr();
    for (folder, reason) in [
        (missing, "No such file"),
        (file, "Not a directory"),
        (round, "symbolic links"),
    ] {
        let is_named = |line: &str| {
            line.contains(&format!("{} cannot be read", folder.display())) && line.contains(reason)
        };
        assert!(told.lines().any(is_named), "{folder:?}: {told}");
    }
    // What is there twice is loaded once.
    let twice = runner.module("good-2");
    let reason = twice["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("already provided by the module good"),
        "{twice:#}"
    );
}

#[test]
fn five_hundred_modules_are_listed_without_starting_a_host() {
    const COUNT: usize = 500;
    let folder = Scratch::new();
    for number in 0..COUNT {
        let text = format!(
            "return {{ name = \"many-{number}\", version = \"1.0.0\", run = function() return \"{number}\" end }}\n"
        );
        folder.file(&format!("many_{number}.lua"), text);
    }
    let mut runner = Runner::builder().plugins([folder.path()]).start();
    assert!(runner.terminate().success());
    runner.restart_only();
    let list = runner.get("/plugins/").expect(200).json();
    assert_eq!(list["plugins"].as_array().map(Vec::len), Some(COUNT));
    // The launcher is there from the start; nothing was started by it.
    let below = proc::descendants(runner.pid());
    assert!(below.len() <= 1, "{below:?}");
    assert_eq!(runner.modules().len(), COUNT);
    let task = runner.run_well("many-499@1-0-0", &[]);
    assert_eq!(task["log"], "499");
}
