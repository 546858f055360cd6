//! What is refused before it runs, each with its place.

use crate::support::{Reply, World};

#[test]
fn graphs_that_cannot_work_are_refused() {
    let world = World::default()
        .node("texts", |_| Reply::Never)
        .node("any", |_| Reply::Never);
    let source = "a: {use: source, with: [1, 2]}";
    let out = "out: {use: sink, with: output, from: b}";
    for (nodes, want) in [
        (
            "b: {use: nothing, from: a}",
            "nodes.b.use: there is neither a built-in nor a plugin \"nothing\"",
        ),
        (
            "b: {use: map, with: item}",
            "nodes.a: it is connected to nothing",
        ),
        (
            "b: {use: map, with: item}\n  c: {use: merge, from: [a, b]}",
            "nodes.b: it has no input",
        ),
        (
            "b: {use: map, with: 'itme + 1', from: a}",
            "nodes.b.with: value: \"itme\" is not known",
        ),
        (
            "b: {use: map, from: a}",
            "nodes.b.with: value: expected an expression",
        ),
        (
            "b: {use: filter, with: {were: item}, from: a}",
            "nodes.b.with: were: unknown; it takes where",
        ),
        (
            "b: {use: batch, with: 0, from: a}",
            "nodes.b.with: size: expected a number from 1",
        ),
        (
            "b: {use: flatten, from: a}",
            "nodes.b: it takes lists, and gets whole numbers",
        ),
        (
            "b: {use: texts, from: a}",
            "nodes.b: it takes text, and gets whole numbers",
        ),
        (
            "b: {use: filter, with: item, from: a, cache: true}",
            "nodes.b.cache: \"filter\" has no such setting",
        ),
        (
            "b: {use: any, when: '(', from: a}",
            "nodes.b.when: not an expression",
        ),
        (
            "b: {use: map, with: item, from: a, join: {key: x}}",
            "nodes.b.join.key: \"x\" is not known",
        ),
        (
            "c: {use: batch, with: 2, from: a}\n  b: {use: zip, from: [a, c]}",
            "nodes.b: cannot zip: items from \"a\" come from a source as it is, those from \"c\" from \"c\"",
        ),
        (
            "c: {use: map, with: item, from: a}\n  d: {use: merge, from: [a, c]}\n  b: {use: zip, from: [d, a]}",
            "nodes.b: cannot zip: items from \"d\" may have one origin several times",
        ),
        (
            "b: {use: source, with: [1], from: a}",
            "nodes.b: a source has no inputs",
        ),
        (
            "b: {use: map, with: item, from: a}\n  c: {use: map, with: item, from: a}",
            "nodes.c: nobody takes what it makes",
        ),
        (
            "b: {use: source, with: {list: 3}}\n  c: {use: merge, from: [a, b]}",
            "nodes.b.with: list: expected a list",
        ),
        (
            "b: {use: source, with: {lines: {$expr: item}}}\n  c: {use: merge, from: [a, b]}",
            "nodes.b.with: lines: there is no `item` here",
        ),
    ] {
        let error = world.refused(&format!("nodes:\n  {source}\n  {nodes}\n  {out}\n"));
        assert!(error.starts_with(want), "{error}\nexpected {want}");
    }
}

#[tokio::test]
async fn what_is_only_known_when_it_starts_is_refused_then() {
    let world = World::default();
    for (source, want) in [
        ("{lines: absent}", "nodes.a: cannot read absent: "),
        ("{range: [0, 1, 0]}", "nodes.a: the step of `range` is 0"),
        (
            "{range: x}",
            "nodes.a: `range` has \"x\", which is no whole number",
        ),
        (
            "{list: {$expr: params.x}}",
            "nodes.a: \"params.x\": the value is undefined",
        ),
    ] {
        let yaml = format!(
            "nodes:\n  a: {{use: source, with: {source}}}\n  o: {{use: sink, with: output, from: a}}\n"
        );
        let started = world.start_with(&yaml, serde_json::Value::Null, Default::default());
        let error = started.map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with(want), "{error}\nexpected {want}");
    }
}
