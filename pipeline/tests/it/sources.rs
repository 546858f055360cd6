//! Sources and sinks, with files that are whole or absent.

use serde_json::{Value, json};

use crate::support::World;

fn piped(source: &str, sink: &str) -> String {
    format!(
        "nodes:\n  a: {{use: source, with: {source}}}\n  out: {{use: sink, with: {sink}, from: a}}\n"
    )
}

#[tokio::test]
async fn every_source_gives_its_items() {
    let world = World::default()
        .file("words", "one\r\ntwo\n\nthree")
        .file("rows.csv", "name,years\nAda,36\n\"Bob, Jr.\",4\n")
        .file("rows.jsonl", "{\"a\": 1}\n[2]\n");
    for (source, want) in [
        ("{list: [1, [x], null]}", json!([1, ["x"], null])),
        ("[5, 6]", json!([5, 6])),
        ("{list: {$expr: params.words}}", json!(["p"])),
        ("{lines: words}", json!(["one", "two", "", "three"])),
        (
            "{csv: rows.csv}",
            json!([{"name": "Ada", "years": "36"}, {"name": "Bob, Jr.", "years": "4"}]),
        ),
        ("{jsonLines: rows.jsonl}", json!([{"a": 1}, [2]])),
        ("{range: 3}", json!([0, 1, 2])),
        ("{range: [7, 1, -3]}", json!([7, 4])),
        ("{range: [0, {$expr: params.n}]}", json!([0, 1])),
        (
            "{range: [9223372036854775806, 9223372036854775807, 9]}",
            json!([i64::MAX - 1]),
        ),
    ] {
        let params = json!({"words": ["p"], "n": 2});
        let ended = world
            .run_with(&piped(source, "output"), params, Default::default())
            .await;
        assert_eq!(Value::Array(ended.values()), want, "{source}");
    }
}

#[tokio::test]
async fn every_file_is_written_in_its_format() {
    let list = "[{a: 1, b: 'x,y'}, {a: null}]";
    for (sink, want) in [
        ("{file: out.csv}", "a,b\n1,\"x,y\"\n,\n"),
        (
            "{file: out.json}",
            "[\n{\"a\":1,\"b\":\"x,y\"},\n{\"a\":null}\n]\n",
        ),
        (
            "{file: out.jsonl}",
            "{\"a\":1,\"b\":\"x,y\"}\n{\"a\":null}\n",
        ),
        ("out.txt", "{\"a\":1,\"b\":\"x,y\"}\n{\"a\":null}\n"),
        (
            "{file: out, format: json}",
            "[\n{\"a\":1,\"b\":\"x,y\"},\n{\"a\":null}\n]\n",
        ),
    ] {
        let world = World::default();
        let ended = world.run(&piped(list, sink)).await;
        ended.result.unwrap();
        let files = world.files.lock().unwrap();
        let (_, written) = files.iter().next().unwrap();
        assert_eq!(String::from_utf8_lossy(written), want, "{sink}");
    }
    let world = World::default();
    world
        .run(&piped("[]", "{file: none.json}"))
        .await
        .result
        .unwrap();
    world
        .run(&piped("[a, b]", "{file: text}"))
        .await
        .result
        .unwrap();
    assert_eq!(world.read("none.json").unwrap(), "[]\n");
    assert_eq!(world.read("text").unwrap(), "a\nb\n");
}

#[tokio::test]
async fn a_sink_that_fails_fails_the_run_and_leaves_no_file() {
    let world = World::default();
    let ended = world
        .run(&piped("{range: 100000}", "{file: full.txt}"))
        .await;
    let failure = ended.failure();
    assert!(
        failure.starts_with("node \"out\" failed: item "),
        "{failure}"
    );
    assert!(failure.contains("cannot write full.txt: "), "{failure}");
    assert_eq!(world.read("full.txt"), None);

    let failing = "
nodes:
  a: {use: source, with: {range: 1000}}
  m: {use: map, with: '1 // (900 - item)', from: a}
  out: {use: sink, with: {file: part.txt}, from: m}
";
    let failure = world.run(failing).await.failure();
    assert!(
        failure.starts_with("node \"m\" failed: item 900: "),
        "{failure}"
    );
    assert_eq!(world.read("part.txt"), None);

    let ended = world
        .run(&piped("[{a: 1}, {b: 2}]", "{file: out.csv}"))
        .await;
    assert!(
        ended.failure().contains("none of the columns"),
        "{}",
        ended.failure()
    );
}
