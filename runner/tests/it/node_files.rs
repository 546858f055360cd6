//! Files as items of nodes in hosts.

use serde_json::Value;

use crate::building::{example_of_the_sdk, shared_object, wasm};
use crate::nodes::{none_is_left, values};
use crate::support::{Desk, Said};

/// A plugin that makes files as a task, and nodes that read and make some.
const FILES: &str = r#"
import os
from runner import Integer, node, plugin, source

@plugin(version="1.0.0")
def task_file(task, n: Integer()):
    task.output(f"{n}.txt", f"task {n}", data_type="custom/text")

@source(version="1.0.0")
def several(context, count: int):
    for n in range(count):
        (context.directory / f"own-{n}").write_text(f"source {n}")
        yield context.file(f"{n}.txt", path=f"own-{n}", data_type="custom/text")

@node(version="1.0.0")
def louder(item: dict, context):
    with open(item["path"]) as file:
        text = file.read()
    yield context.file(item["name"], text.upper(), data_type="custom/text")
    yield len(text)

@node(version="1.0.0")
def bad(item, context):
    if item == "dies":
        os._exit(9)
    if item == "link":
        os.symlink("/etc/hostname", context.directory / "link")
    return {"name": "x", "dataType": "custom/text", "path": item}

@node(version="1.0.0")
def left(item: dict, context):
    return [os.listdir(context.directory), os.path.exists(item["path"])]
"#;

#[test]
fn files_are_carried_between_tasks_nodes_and_outputs() {
    let desk = Desk::new();
    desk.write("plugins/file_nodes.py", FILES);
    desk.write(
        "p.yaml",
        "
nodes:
  numbers: {use: source, with: {range: 2}}
  task: {use: task-file, with: {n: {$expr: item}}, from: numbers}
  own: {use: several, with: {count: 40}}
  all: {use: merge, from: [task, own]}
  once: {use: louder, from: all}
  files: {use: filter, with: item is mapping, from: once}
  twice: {use: louder, from: files}
  out: {use: sink, with: output, from: twice}
",
    );
    let said = desk
        .run(["pipeline", "run", "p.yaml", "--output", "files"])
        .ok();
    let (files, sizes): (Vec<_>, Vec<_>) = values(&said).into_iter().partition(Value::is_object);
    assert_eq!((files.len(), sizes.len()), (42, 42), "{}", said.out);
    let mut texts: Vec<String> = files
        .iter()
        .map(|file| {
            let path = file["path"].as_str().unwrap();
            let text = std::fs::read_to_string(desk.path(path)).unwrap();
            assert_eq!(file["size"], text.len(), "{file}");
            text
        })
        .collect();
    texts.sort();
    let mut want: Vec<String> = (0..40).map(|n| format!("SOURCE {n}")).collect();
    want.extend((0..2).map(|n| format!("TASK {n}")));
    want.sort();
    assert_eq!(texts, want);
    none_is_left("file_nodes.py");
    assert!(desk.leftovers().is_empty(), "{:?}", desk.leftovers());
}

#[test]
fn what_is_no_file_of_the_node_is_not_handed_on_and_files_do_not_stay() {
    let desk = Desk::new();
    desk.write("plugins/bad_files.py", FILES);
    desk.write(
        "p.yaml",
        "
nodes:
  a: {use: source, with: [/etc/hostname, link, ../../in, missing, dies]}
  n: {use: bad, from: a}
  out: {use: sink, with: output, from: n}
  bad: {use: sink, with: {file: bad.jsonl}, from: n.errors}
",
    );
    let said = desk.run(["pipeline", "run", "p.yaml"]).ok();
    assert!(values(&said).is_empty(), "{}", said.out);
    let bad = std::fs::read_to_string(desk.path("bad.jsonl")).unwrap();
    let bad: Vec<Value> = bad
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(bad.len(), 5, "{bad:?}");
    let error = bad[0]["error"].as_str().unwrap();
    assert!(error.contains("is not in the run's directory"), "{error}");

    // What the pipeline itself has not got from a plugin is given to nobody.
    desk.write(
        "q.yaml",
        "
nodes:
  a: {use: source, with: {list: [{name: x, dataType: custom/text, path: /etc/hostname}]}}
  n: {use: louder, from: a}
  out: {use: sink, with: output, from: n}
",
    );
    desk.run(["pipeline", "run", "q.yaml"])
        .failed(1, "\"/etc/hostname\" is no file that a plugin made");
    desk.write(
        "r.yaml",
        "
nodes:
  a: {use: several, with: {count: 3}}
  n: {use: left, from: a}
  out: {use: sink, with: output, from: n}
",
    );
    let said = desk.run(["pipeline", "run", "r.yaml"]).ok();
    let last = values(&said).pop().unwrap();
    assert_eq!(last, serde_json::json!([[], true]), "{}", said.out);
    none_is_left("bad_files.py");
}

#[test]
fn a_file_of_a_node_is_given_to_a_plugin_that_is_a_task() {
    let desk = Desk::new();
    let plugin = r#"
from runner import Data, plugin

@plugin(version="1.0.0")
def copied(task, file: Data("custom/text")):
    task.output("copy.txt", file.read_text() + "!", data_type="custom/text", content_type="text/plain")
"#;
    desk.write("plugins/given_files.py", FILES);
    desk.write("plugins/copied.py", plugin);
    desk.write(
        "p.yaml",
        "
nodes:
  own: {use: several, with: {count: 2}}
  copied: {use: copied, with: {file: {$expr: item.url}}, from: own}
  texts: {use: map, with: item.text, from: copied}
  out: {use: sink, with: output, from: texts}
",
    );
    let said = desk.run(["pipeline", "run", "p.yaml"]).ok();
    assert_eq!(said.out, "source 0!\nsource 1!\n", "{}", said.err);
}

/// Nodes that make a file of a text, and one of a file with its text in capitals.
const LUA: &str = r#"
local function written(item, _, context)
  return context:file(item .. ".txt", item, "custom/text", "text/plain")
end
local function louder(item, _, context)
  local text = context:read(item)
  if text == "away" then
    return context:read({ path = "/etc/hostname" })
  end
  return context:file(item.name, text:upper(), "custom/text")
end
return {
  { name = "written", version = "1.0.0", node = written },
  {
    name = "louder", version = "1.0.0", node = louder,
    setup = function(_, context) print("works in " .. context.directory) end,
  },
}
"#;

/// The same in C, for shared objects and WebAssembly.
const C: &str = r#"
#include "runner_plugin.h"

static long count;

static const char *made(struct runner_task *task, const char *node, const char *name, const char *text)
{
    char path[1024], item[2048];
    FILE *file;
    snprintf(path, sizeof path, "%s/%s-%ld", runner_directory(task), node,
             __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED));
    file = fopen(path, "wb");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
        return "the file cannot be written";
    }
    snprintf(item, sizeof item, "{\"name\": \"%s\", \"dataType\": \"custom/text\", \"path\": \"%s\"}", name, path);
    runner_make_json(task, item);
    return NULL;
}
static const char *written(struct runner_task *task)
{
    const char *text = runner_item_text(task, NULL);
    char name[100];
    snprintf(name, sizeof name, "%s.txt", text);
    return made(task, "written", name, text);
}
static const char *louder(struct runner_task *task)
{
    FILE *file = fopen(runner_item_text(task, "path"), "rb");
    char text[100];
    size_t length, at;
    if (file == NULL) {
        return "the file cannot be read";
    }
    length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = 0;
    if (strcmp(text, "away") == 0) {
        file = fopen("/etc/passwd", "rb");
        return file == NULL ? "away is not readable" : "it reads what it must not";
    }
    for (at = 0; at < length; at++) {
        text[at] = (char)(text[at] & ~32);
    }
    return made(task, "louder", runner_item_text(task, "name"), text);
}
static const struct runner_definition plugins[] = {
    {"written", "1.0.0", "Writes.", "{}", NULL, NULL},
    {"louder", "1.0.0", "Louder.", "{}", NULL, NULL}};
static const struct runner_node nodes[] = {
    {"written", NULL, NULL, written, NULL, NULL},
    {"louder", NULL, NULL, louder, NULL, NULL}};
RUNNER_PLUGINS_AND_NODES(plugins, nodes);
"#;

/// Runs `written` and `louder`, and checks what they make. Answers what was said of the text `away`.
#[track_caller]
fn writes_and_reads(desk: &Desk, module: &str) -> String {
    desk.write(
        "p.yaml",
        "
nodes:
  texts: {use: source, with: [a, b, away, c]}
  one: {use: written, from: texts}
  two: {use: louder, from: one}
  out: {use: sink, with: output, from: two}
  bad: {use: sink, with: {file: bad.jsonl}, from: two.errors}
",
    );
    let said = desk.run(["pipeline", "run", "p.yaml"]).ok();
    let files = values(&said);
    let texts: Vec<String> = files
        .iter()
        .map(|file| std::fs::read_to_string(desk.path(file["path"].as_str().unwrap())).unwrap())
        .collect();
    assert_eq!(texts, ["A", "B", "C"], "{}", said.err);
    assert_eq!(files[1]["name"], "b.txt");
    none_is_left(module);
    assert!(desk.leftovers().is_empty(), "{:?}", desk.leftovers());
    std::fs::read_to_string(desk.path("bad.jsonl")).unwrap()
}

#[test]
fn nodes_in_lua_make_and_read_files() {
    let desk = Desk::new();
    desk.write("plugins/lua_files.lua", LUA);
    let away = writes_and_reads(&desk, "lua_files.lua");
    assert!(away.contains("neither an input nor"), "{away}");
    let run = ["plugin", "run", "written", "-p", "items=[\"a\"]"];
    desk.run(run).ok();
    let made = std::fs::read_to_string(desk.path("written-output/a.txt")).unwrap();
    assert_eq!(made, "a");
}

#[test]
fn nodes_in_c_make_and_read_files() {
    let desk = Desk::new();
    let source = desk.write("c_files.c", C);
    shared_object(&desk, &source, "plugins/c_files.so");
    writes_and_reads(&desk, "c_files.so");
}

#[test]
fn nodes_in_web_assembly_make_and_read_files() {
    let desk = Desk::new();
    let source = desk.write("wasm_files.c", C);
    if wasm(&desk, &source, "plugins/wasm_files.wasm").is_some() {
        let away = writes_and_reads(&desk, desk.path("tmp").to_str().unwrap());
        assert!(away.contains("away is not readable"), "{away}");
    }
}

#[test]
fn nodes_in_rust_make_and_read_files() {
    let desk = Desk::new();
    let built = example_of_the_sdk("file_nodes");
    std::fs::create_dir_all(desk.path("plugins")).unwrap();
    std::fs::copy(built, desk.path("plugins/libfile_nodes.so")).unwrap();
    writes_and_reads(&desk, "libfile_nodes.so");
}

#[test]
fn files_beyond_the_limit_fail_their_item() {
    let desk = Desk::new();
    desk.write("plugins/much.py", FILES);
    desk.write(
        "p.yaml",
        "
nodes:
  own: {use: several, with: {count: 4}}
  out: {use: sink, with: output, from: own}
",
    );
    desk.write(
        "q.yaml",
        "
nodes:
  tasks: {use: source, with: [1, 2]}
  made: {use: task-file, with: {n: {$expr: item}}, from: tasks}
  loud: {use: louder, from: made, errors: edge}
  out: {use: sink, with: output, from: loud}
  bad: {use: sink, with: {file: bad.jsonl}, from: loud.errors}
",
    );
    // Each has 8 bytes.
    let run = |file: &str, limit: &str| {
        let mut command = desk.command(["pipeline", "run", file]);
        Said::from(command.env("NODE_FILES_SIZE", limit).output().unwrap())
    };
    let said = run("p.yaml", "32").ok();
    assert_eq!(values(&said).len(), 4, "{}", said.err);
    run("p.yaml", "31").failed(1, "they may make 31 in all (NODE_FILES_SIZE)");
    let said = run("q.yaml", "6").ok();
    assert_eq!(values(&said).len(), 2, "{}", said.out);
    let bad = std::fs::read_to_string(desk.path("bad.jsonl")).unwrap();
    assert!(
        bad.contains("has 6 bytes, and the nodes of this run have made files of 6 bytes"),
        "{bad}"
    );
    none_is_left("much.py");
}
