//! Nodes in Lua and C.

use crate::building::shared_object;
use crate::nodes::none_is_left;
use crate::support::Desk;

/// A source and nodes in Lua, one of which has its own parameters for each item.
const LUA: &str = r#"
return {
  {
    name = "count", version = "1.0.0", gives = { type = "integer" },
    parameters = { { "to", type = "integer", default = 4 } },
    source = function(with)
      local at = 0
      return function()
        at = at + 1
        if at <= with.to then return at end
      end
    end,
  },
  {
    name = "times", version = "1.0.0",
    parameters = { { "factor", type = "integer" } },
    setup = function() print("set up") end,
    cleanup = function() print("cleaned up") end,
    node = function(item, with)
      if item == 3 then error("no three") end
      return item * with.factor, -item
    end,
  },
}
"#;

#[test]
fn lua_functions_are_nodes() {
    let desk = Desk::new();
    desk.write("plugins/lua_nodes.lua", LUA);
    desk.write(
        "p.yaml",
        "
nodes:
  a: {use: count}
  fixed: {use: times, with: {factor: 10}, from: a, errors: skip}
  own: {use: times, with: {factor: {$expr: item}}, from: a, errors: skip}
  out: {use: sink, with: {file: fixed.jsonl}, from: fixed}
  out2: {use: sink, with: {file: own.jsonl}, from: own}
",
    );
    let said = desk.run(["pipeline", "run", "p.yaml"]).ok();
    let read = |name: &str| std::fs::read_to_string(desk.path(name)).unwrap();
    assert_eq!(read("fixed.jsonl"), "10\n-1\n20\n-2\n40\n-4\n");
    assert_eq!(read("own.jsonl"), "1\n-1\n4\n-2\n16\n-4\n");
    assert_eq!(said.err.matches("set up").count(), 2, "{}", said.err);
    assert_eq!(said.err.matches("cleaned up").count(), 2, "{}", said.err);
    let said = desk
        .run([
            "plugin",
            "run",
            "times",
            "-p",
            "factor=2",
            "-p",
            "items=[1,2]",
        ])
        .ok();
    assert!(said.err.contains("2 in, 4 out"), "{}", said.err);
    none_is_left("lua_nodes.lua");
}

/// A source and a node in C.
pub(crate) const C: &str = r#"
#include "runner_plugin.h"

static const char *opened(struct runner_task *task)
{
    long *count = (long *)calloc(1, sizeof *count);
    if (count == NULL) {
        return "out of memory";
    }
    runner_keep_state(task, count);
    return NULL;
}
static const char *scaled(struct runner_task *task)
{
    long *count = (long *)runner_state(task);
    double item = runner_item_number(task, NULL, -1);
    if (item == 3) {
        return "three";
    }
    ++*count;
    runner_make_number(task, item * runner_number(task, "factor", 1));
    return NULL;
}
static void closed(struct runner_task *task)
{
    free(runner_state(task));
}
static const char *counted(struct runner_task *task, long most, int *is_end)
{
    long *count = (long *)runner_state(task);
    double to = runner_number(task, "to", 0);
    while (most-- > 0 && *count < to) {
        runner_make_number(task, (double)++*count);
    }
    *is_end = *count >= to;
    return NULL;
}
static const struct runner_definition plugins[] = {
    {"scaled", "1.0.0", "Scales.", "{\"factor\": {\"type\": \"number\"}}", NULL, NULL},
    {"counted", "1.0.0", "Counts.", "{\"to\": {\"type\": \"integer\"}}", NULL, NULL}};
static const struct runner_node nodes[] = {
    {"scaled", "\"takes\": {\"type\": \"number\"}", opened, scaled, NULL, closed},
    {"counted", "\"gives\": {\"type\": \"integer\"}", opened, NULL, counted, closed}};
RUNNER_PLUGINS_AND_NODES(plugins, nodes);
"#;

/// The nodes of [`C`], whatever they were compiled to, do what they say.
pub(crate) fn counts_and_scales(desk: &Desk) {
    desk.write(
        "p.yaml",
        "
nodes:
  a: {use: counted, with: {to: 3000}}
  fixed: {use: scaled, with: {factor: 10}, from: a, errors: skip}
  own: {use: scaled, with: {factor: {$expr: item}}, from: a, errors: skip}
  out: {use: sink, with: {file: fixed.jsonl}, from: fixed}
  out2: {use: sink, with: {file: own.jsonl}, from: own}
",
    );
    desk.run(["pipeline", "run", "p.yaml"]).ok();
    let read = |name: &str| -> Vec<f64> {
        let text = std::fs::read_to_string(desk.path(name)).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    let numbers = || (1..=3000).filter(|n| *n != 3).map(f64::from);
    let fixed: Vec<f64> = numbers().map(|n| n * 10.0).collect();
    let own: Vec<f64> = numbers().map(|n| n * n).collect();
    assert_eq!((read("fixed.jsonl"), read("own.jsonl")), (fixed, own));
}

#[test]
fn functions_in_c_are_nodes() {
    let desk = Desk::new();
    let source = desk.write("c_nodes.c", C);
    shared_object(&desk, &source, "plugins/c_nodes.so");
    counts_and_scales(&desk);
    desk.write(
        "q.yaml",
        "nodes: {a: {use: counted, with: {to: 3}}, b: {use: scaled, with: {factor: 1}, from: a}, c: {use: sink, with: output, from: b}}",
    );
    desk.run(["pipeline", "run", "q.yaml"])
        .failed(1, "node \"b\" failed: item 2: three");
    let run = ["plugin", "run", "scaled", "-p", "factor=2"];
    desk.run(run).failed(1, "it is a node of pipelines");
    none_is_left("c_nodes.so");
}
