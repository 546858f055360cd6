//! What tries to be too much.

use runner_pipeline::{Lowering, MAX_HELD};
use serde_json::Value;

use crate::support::{World, finish};

#[tokio::test]
async fn lines_and_rows_have_a_limit() {
    let world = World::default().file("long", vec![b'x'; 100 << 20]).file(
        "rows.csv",
        [b"a,b\n1,\"".as_slice(), &vec![b'x'; 40 << 20]].concat(),
    );
    for (source, want) in [
        (
            "{lines: long}",
            "long, line 1: it has more than 16777216 bytes",
        ),
        ("{csv: rows.csv}", "a row has more than 16777216 bytes"),
        (
            "{jsonLines: long}",
            "long, line 1: it has more than 16777216 bytes",
        ),
    ] {
        let yaml = format!(
            "nodes:\n  a: {{use: source, with: {source}}}\n  o: {{use: sink, with: output, from: a}}\n"
        );
        let failure = world.run(&yaml).await.failure();
        assert!(failure.contains(want), "{failure}");
    }
}

#[tokio::test]
async fn expressions_that_do_not_end_fail_the_item() {
    let yaml = "
nodes:
  a: {use: source, with: {range: 2}}
  b: {use: map, with: '\"x\" * 99999999', from: a}
  out: {use: sink, with: output, from: b}
";
    let failure = World::default().run(yaml).await.failure();
    assert!(
        failure.starts_with("node \"b\" failed: item 0: "),
        "{failure}"
    );
    assert!(
        failure.contains("takes too long or makes too much"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_join_whose_partners_do_not_come_gives_up() {
    let yaml = "
nodes:
  a: {use: source, with: {range: 1000000}}
  b: {use: source, with: {range: [2000000, 3000000]}}
  j: {use: map, with: item, from: [a, b], join: {key: item}}
  out: {use: sink, with: output, from: j}
";
    let failure = World::default().run(yaml).await.failure();
    let want = format!("node \"j\" failed: the join holds more than {MAX_HELD} items");
    assert!(failure.starts_with(&want), "{failure}");
}

#[tokio::test]
async fn a_graph_of_ten_thousand_nodes_runs() {
    let mut yaml = String::from("nodes:\n  n0: {use: source, with: {range: 3}}\n");
    for number in 1..9_999 {
        yaml.push_str(&format!(
            "  n{number}: {{use: map, with: item, from: n{}}}\n",
            number - 1
        ));
    }
    yaml.push_str("  out: {use: sink, with: output, from: n9998}\n");
    for fuses in [true, false] {
        let (run, outputs) = World::default()
            .start_with(&yaml, Value::Null, Lowering { fuses })
            .unwrap();
        assert_eq!(finish(run, outputs).await.values().len(), 3);
    }
}
