//! Nodes in WebAssembly: each has an instance while it is open.

use serde_json::Value;

use crate::building::wasm;
use crate::node_languages::{C, counts_and_scales};
use crate::nodes::{none_is_left, through, values};
use crate::support::Desk;

/// A node that does what none should, with the item 3, as its parameter says.
const BAD: &str = r#"
#include "runner_plugin.h"

static const char *opened(struct runner_task *task)
{
    const char *how = runner_text(task, "how");
    if (how != NULL && strcmp(how, "setup") == 0) {
        __builtin_trap();
    }
    return how != NULL && strcmp(how, "refuses") == 0 ? "not today" : NULL;
}
static const char *bad(struct runner_task *task)
{
    const char *how = runner_text(task, "how");
    long count;
    if (runner_item_number(task, NULL, -1) != 3) {
        printf("fine\n");
        runner_make_json(task, runner_item_json(task));
        return NULL;
    }
    if (strcmp(how, "traps") == 0) {
        __builtin_trap();
    } else if (strcmp(how, "fails") == 0) {
        return "three";
    } else if (strcmp(how, "exits") == 0) {
        exit(7);
    } else if (strcmp(how, "garbage") == 0) {
        fputs("nonsense\n", stdout);
        fflush(stdout);
    } else if (strcmp(how, "stranger") == 0) {
        fputs("{\"jsonrpc\":\"2.0\",\"id\":99999,\"result\":{}}\n", stdout);
        fflush(stdout);
    } else if (strcmp(how, "asks") == 0) {
        return runner_fetch(task, "http://127.0.0.1/") == NULL ? runner_error(task) : "it was answered";
    } else if (strcmp(how, "stuck") == 0) {
        for (;;) {
            __asm__ volatile("");
        }
    } else if (strcmp(how, "long") == 0) {
        for (count = 0; count < 20000000; count++) {
            fputc('x', stdout);
        }
    } else if (strcmp(how, "large") == 0) {
        char *text = (char *)malloc(17000001);
        if (text == NULL) {
            return "no memory";
        }
        memset(text, 'x', 17000000);
        text[17000000] = 0;
        runner_make_text(task, text);
        free(text);
    } else if (strcmp(how, "many") == 0) {
        for (count = 0; count < 100000; count++) {
            runner_make_number(task, 1);
        }
    } else if (strcmp(how, "hungry") == 0) {
        struct block {
            struct block *next;
            char rest[1 << 20];
        } *volatile last = NULL, *block;
        while ((block = (struct block *)malloc(sizeof *block)) != NULL) {
            block->next = last;
            last = block;
        }
        while ((block = last) != NULL) {
            last = block->next;
            free(block);
        }
        return "no memory is left";
    } else if (strcmp(how, "deep") == 0) {
        return bad(task) == NULL ? "nothing" : "something";
    }
    return NULL;
}
static const char *flood(struct runner_task *task, long most, int *is_end)
{
    (void)most;
    *is_end = 0;
    for (most = 0; most < 70000; most++) {
        runner_make_number(task, 1);
    }
    return NULL;
}
static const struct runner_definition plugins[] = {
    {"bad", "1.0.0", "Bad.", "{\"how\": {\"type\": \"string\"}}", NULL, NULL},
    {"flood", "1.0.0", "Floods.", "{}", NULL, NULL}};
static const struct runner_node nodes[] = {
    {"bad", NULL, opened, bad, NULL, NULL},
    {"flood", NULL, NULL, NULL, flood, NULL}};
RUNNER_PLUGINS_AND_NODES(plugins, nodes);
"#;

#[test]
fn functions_in_web_assembly_are_nodes() {
    let desk = Desk::new();
    let source = desk.write("wasm_nodes.c", C);
    if wasm(&desk, &source, "plugins/wasm_nodes.wasm").is_none() {
        return;
    }
    counts_and_scales(&desk);
    none_is_left(desk.path("tmp").to_str().unwrap());
    assert!(desk.leftovers().is_empty(), "{:?}", desk.leftovers());
}

#[test]
fn an_item_that_goes_wrong_in_web_assembly_shifts_no_other() {
    let desk = Desk::new();
    let source = desk.write("wasm_bad.c", BAD);
    if wasm(&desk, &source, "plugins/wasm_bad.wasm").is_none() {
        return;
    }
    let others = [0, 1, 2, 4, 5].map(Value::from);
    for (how, more, problem) in [
        ("fails", "", "three"),
        ("traps", "", "the module trapped"),
        ("exits", "", "exit status 7"),
        ("garbage", "", "which is no message of the plugin protocol"),
        ("stranger", "", "it answers what was not asked"),
        ("asks", "", "nodes ask for nothing"),
        ("stuck", ", timeout: 0.5", "it took longer than 0.5 s"),
        ("long", "", "a line of more than"),
        ("large", "", "an item has at most 16777216"),
        ("many", "", "more than 65536 items of one"),
        ("hungry", "", "no memory is left"),
        ("deep", "", "the module trapped"),
    ] {
        let node = format!("bad, with: {{how: {how}}}");
        let (said, bad) = through(&desk, &node, more);
        assert_eq!(values(&said), others, "{how}: {}", said.err);
        assert_eq!(bad.len(), 1, "{how}: {bad:?}");
        assert_eq!(bad[0]["item"], 3);
        let error = bad[0]["error"].as_str().unwrap();
        // Of a host that ended, the log says why.
        let told = match error.contains("its host ended while it worked on the item") {
            true => said.err.as_str(),
            false => error,
        };
        assert!(told.contains(problem), "{how}: {error}: {}", said.err);
        assert!(said.err.contains("fine"), "{}", said.err);
    }
    none_is_left(desk.path("tmp").to_str().unwrap());
    assert!(desk.leftovers().is_empty(), "{:?}", desk.leftovers());
}

#[test]
fn a_node_in_web_assembly_that_cannot_begin_ends_the_run() {
    let desk = Desk::new();
    let source = desk.write("wasm_begin.c", BAD);
    if wasm(&desk, &source, "plugins/wasm_begin.wasm").is_none() {
        return;
    }
    for (node, problem) in [
        (
            "a: {use: source, with: [1]}, b: {use: bad, with: {how: setup}, from: a}",
            "the module trapped",
        ),
        (
            "a: {use: source, with: [1]}, b: {use: bad, with: {how: refuses}, from: a}",
            "not today",
        ),
        ("b: {use: flood}", "more than 65536 items"),
    ] {
        let document = format!("nodes: {{{node}, out: {{use: sink, with: output, from: b}}}}");
        desk.write("p.yaml", &document);
        desk.run(["pipeline", "run", "p.yaml"]).failed(1, problem);
    }
    none_is_left(desk.path("tmp").to_str().unwrap());
}
