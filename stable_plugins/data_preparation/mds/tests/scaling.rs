//! The plugin on distances of known points, on those of facts.json, and on nonsense.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;

use mds::{Distances, Embedding, Mds, embed};
use runner_sdk::RunFailure;
use runner_sdk::testing::{Report, Trial};
use serde_json::{Value, json};

fn row(one: &str, other: &str, distance: impl Into<Value>) -> Value {
    json!({"entity_1_ID": one, "entity_2_ID": other, "distance": distance.into()})
}

fn run(rows: &Value, dimensions: u32) -> Result<Report, RunFailure> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("distances.json");
    std::fs::write(&path, rows.to_string()).unwrap();
    Trial::new()
        .input("entityDistancesUrl", &path, "application/json")
        .parameter("dimensions", dimensions)
        .run(&Mds)
}

fn refused(rows: &Value) -> String {
    run(rows, 2).unwrap_err().message
}

fn apart(one: &[f64], other: &[f64]) -> f64 {
    let squares = one.iter().zip(other).map(|(a, b)| (a - b) * (a - b));
    squares.sum::<f64>().sqrt()
}

/// The distances of points, named by their numbers.
fn distances_of(points: &[Vec<f64>]) -> Value {
    let mut rows = Vec::new();
    for (i, one) in points.iter().enumerate() {
        for (j, other) in points.iter().enumerate().skip(i + 1) {
            rows.push(row(&i.to_string(), &j.to_string(), apart(one, other)));
        }
    }
    Value::Array(rows)
}

fn embedded(rows: &Value, dimensions: usize) -> (Distances, Embedding) {
    let distances = Distances::read(rows.to_string().as_bytes()).unwrap();
    let embedding = embed(&distances, dimensions);
    (distances, embedding)
}

#[test]
fn points_are_found_again_up_to_where_they_lie() {
    // A spiral: no two distances are the same.
    let points: Vec<Vec<f64>> = (0..40)
        .map(f64::from)
        .map(|t| vec![t * (t / 3.0).cos(), t * (t / 3.0).sin(), t * t / 40.0])
        .collect();
    let (_, embedding) = embedded(&distances_of(&points), 3);
    assert!(
        (embedding.share - 1.0).abs() < 1e-9 && embedding.negative < 1e-9,
        "{embedding:?}"
    );
    for (i, one) in points.iter().enumerate() {
        for (j, other) in points.iter().enumerate() {
            let found = apart(&embedding.points[i], &embedding.points[j]);
            assert!((found - apart(one, other)).abs() < 1e-8, "{i} {j}");
        }
    }
    for dimension in 0..3 {
        let axis = embedding.points.iter().map(|point| point[dimension]);
        let (low, high) = axis.fold((0.0_f64, 0.0_f64), |(low, high), at| {
            (low.min(at), high.max(at))
        });
        assert!(
            high >= -low * (1.0 - 1e-9),
            "axis {dimension} points the other way"
        );
    }
}

#[test]
fn what_needs_fewer_dimensions_has_zeros_in_the_others() {
    let line: Vec<Vec<f64>> = [0.0, 1.0, 3.0, 7.0].map(|at| vec![at]).to_vec();
    let (_, embedding) = embedded(&distances_of(&line), 3);
    assert!(
        embedding
            .points
            .iter()
            .all(|point| point[1..] == [0.0, 0.0]),
        "{embedding:?}"
    );
    let one = vec![vec![2.0]; 3];
    let (_, embedding) = embedded(&distances_of(&one), 2);
    assert_eq!(embedding.points, vec![vec![0.0, 0.0]; 3]);
}

#[test]
fn distances_that_no_points_have_are_said_to_be_so() {
    // From everywhere to the middle it is 1, from end to end more than twice that.
    let rows = json!([row("m", "a", 1), row("m", "b", 1), row("a", "b", 3)]);
    let report = run(&rows, 2).unwrap();
    assert!(
        report.log[0].contains("are not those of points"),
        "{:?}",
        report.log
    );
    let points: Value = serde_json::from_slice(&report.outputs[0].content).unwrap();
    assert_eq!(points[0]["ID"], "m");
    assert_eq!(
        points[0].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["ID", "href", "dim0", "dim1"]
    );
    assert_eq!(report.outputs[0].data_type, "entity/vector");
}

#[test]
fn it_agrees_with_numpy() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/data/taxonomy/facts.json");
    let facts: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let pairs = facts["rootHasMeaning"]["entities"].as_array().unwrap();
    let rows = pairs.iter().map(|pair| {
        let is_same = pair[0] == pair[1];
        let distance = if is_same {
            0.0
        } else {
            1.0 - pair[2].as_f64().unwrap()
        };
        row(
            pair[0].as_str().unwrap(),
            pair[1].as_str().unwrap(),
            distance,
        )
    });
    let (distances, embedding) = embedded(&rows.collect(), 2);
    let known = &facts["scaled"];
    assert!((embedding.share - known["share"].as_f64().unwrap()).abs() < 1e-9);
    let at = |id: &Value| distances.ids().iter().position(|one| id == one).unwrap();
    for pair in known["distances"].as_array().unwrap() {
        let found = apart(
            &embedding.points[at(&pair[0])],
            &embedding.points[at(&pair[1])],
        );
        assert!((found - pair[2].as_f64().unwrap()).abs() < 1e-9, "{pair}");
    }
}

#[test]
fn what_is_no_distance_is_told_with_its_place() {
    for (rows, part) in [
        (
            json!({"a": 1}),
            "distances.json: expected a list of objects with entity_1_ID",
        ),
        (json!([{"entity_1_ID": "a"}]), "missing field `entity_2_ID`"),
        (
            json!([row("a", "b", -1)]),
            "entry 1: expected a distance of 0 or more, found -1",
        ),
        (
            json!([row("a", "b", Value::Null)]),
            "entry 1: expected a distance of 0 or more, found null",
        ),
        (
            json!([row("a", "a", 2)]),
            "entry 1: expected 0, the distance of \"a\" to itself, found 2",
        ),
        (
            json!([row("a", "b", 1), row("b", "a", 2)]),
            "entry 2: \"b\" and \"a\" have two distances, 1 and 2",
        ),
        (
            json!([row("a", "b", 1), row("b", "c", 2)]),
            "the distance of \"c\" and \"a\" is not there",
        ),
    ] {
        let told = refused(&rows);
        assert!(told.contains(part), "{part:?} is not in {told:?}");
    }
    let many: Vec<Value> = (0..1501).map(|at| row("0", &at.to_string(), 0)).collect();
    assert!(refused(&Value::Array(many)).contains("there are 1501 entities, the limit is 1500"));
    assert_eq!(run(&json!([]), 2).unwrap().outputs[0].content, b"[]");
}
