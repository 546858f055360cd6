//! Entities compared by a taxonomy, as points: the plugins of this theme, and the pipeline over them. What they have
//! to put out is in `tests/data/taxonomy/facts.json`, computed by other means.

use std::fs;
use std::sync::OnceLock;

use runner_tests::Runner;
use runner_tests::scratch::Scratch;
use serde_json::{Value, json};

const FOLDERS: [&str; 4] = [
    "stable_plugins/conversion",
    "stable_plugins/data_preparation",
    "stable_plugins/visualization",
    "stable_plugins/pipelines",
];
/// How far a number may be from that of another library.
const NEAR: f64 = 1e-9;

fn runner() -> &'static Runner {
    static RUNNER: OnceLock<Runner> = OnceLock::new();
    RUNNER.get_or_init(|| Runner::builder().plugins(FOLDERS).start())
}

fn text(name: &str) -> String {
    let path = runner_tests::repository("tests/data/taxonomy").join(name);
    fs::read_to_string(path).expect("a file of the taxonomy")
}

fn file(name: &str) -> Value {
    serde_json::from_str(&text(name)).expect("JSON")
}

/// A URL that is its own content.
fn data(content: &str) -> String {
    let escaped: String = content
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    format!("data:application/json,{escaped}")
}

/// A task of a plugin with these parameters, when it has ended.
fn run(plugin: &str, parameters: &Value) -> Value {
    let answer = runner().post_json(&format!("/plugins/{plugin}/process/"), parameters);
    let task = runner().accepted(&answer);
    runner().finished(task)
}

fn put_out(plugin: &str, parameters: &Value) -> Value {
    let task = runner().successful(run(plugin, parameters));
    let (_, _, content) = runner().only_output(&task);
    serde_json::from_slice(&content).expect("JSON")
}

fn refused(plugin: &str, parameters: &Value) -> String {
    runner().failed(&run(plugin, parameters))
}

#[track_caller]
fn near(found: &Value, known: &Value, what: &Value) {
    let (found, known) = (found.as_f64(), known.as_f64());
    let difference = found.zip(known).map(|(found, known)| (found - known).abs());
    assert!(
        difference.is_some_and(|difference| difference < NEAR),
        "{what}: {found:?} is not {known:?}"
    );
}

fn compared(entities: &str, taxonomy: &str, more: &Value) -> Value {
    let mut parameters = json!({
        "entitiesUrl": data(entities), "taxonomyUrl": data(taxonomy), "attribute": "colour",
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        parameters[key] = value.clone();
    }
    parameters
}

#[test]
fn wu_palmer_is_that_of_the_paths_in_the_taxonomy() {
    let facts = file("facts.json");
    // Each element as an entity, to compare them all.
    let taxonomy = file("taxonomy.json");
    let elements = taxonomy["entities"].as_array().expect("a list");
    let each: Vec<Value> = elements
        .iter()
        .map(|element| json!({"ID": element, "colour": element}))
        .collect();
    for (has_meaning, name) in [(true, "rootHasMeaning"), (false, "rootHasNoMeaning")] {
        let more = json!({"rootHasMeaning": has_meaning});
        let parameters = compared(&text("entities.json"), &text("taxonomy.json"), &more);
        let found = put_out("wu-palmer@1-0-0", &parameters);
        let known = facts[name]["entities"].as_array().expect("a list");
        assert_eq!(found.as_array().map(Vec::len), Some(known.len()));
        for (found, known) in found.as_array().into_iter().flatten().zip(known) {
            assert_eq!(
                (&found["entity_1_ID"], &found["entity_2_ID"]),
                (&known[0], &known[1])
            );
            near(&found["similarity"], &known[2], known);
        }
        let each = Value::from(each.clone()).to_string();
        let found = put_out(
            "wu-palmer@1-0-0",
            &compared(&each, &text("taxonomy.json"), &more),
        );
        let found = found.as_array().into_iter().flatten();
        let found = found.filter(|pair| pair["entity_1_ID"] != pair["entity_2_ID"]);
        let known = facts[name]["elements"].as_array().expect("a list");
        for (found, known) in found.zip(known) {
            assert_eq!(
                (&found["entity_1_ID"], &found["entity_2_ID"]),
                (&known[0], &known[1])
            );
            near(&found["similarity"], &known[2], known);
        }
    }
    let nothing = json!([{"ID": "a", "colour": "red"}, {"ID": "b"}, {"ID": "c", "colour": []}]);
    let found = put_out(
        "wu-palmer@1-0-0",
        &compared(&nothing.to_string(), &text("taxonomy.json"), &Value::Null),
    );
    let known: Vec<&Value> = found
        .as_array()
        .into_iter()
        .flatten()
        .map(|pair| &pair["similarity"])
        .collect();
    assert_eq!(known[0], &json!(1.0));
    assert!(
        known[1..].iter().all(|similarity| similarity.is_null()),
        "{found:#}"
    );
}

#[test]
fn what_cannot_be_compared_is_told() {
    let entities = r#"[{"ID": "a", "colour": "red"}]"#;
    let tree = |relations: Value| {
        json!({"type": "tree", "entities": ["colour", "red", "blue"], "relations": relations})
            .to_string()
    };
    let edge = |source: &str, target: &str| json!({"source": source, "target": target});
    let whole = tree(json!([edge("colour", "red"), edge("colour", "blue")]));
    for (entities, taxonomy, part) in [
        ("{", &*whole, "entities: expected JSON: EOF"),
        (r#"{"ID": "a"}"#, &whole, "expected a JSON list of objects"),
        (
            r#"[{"colour": "red"}]"#,
            &whole,
            "entry 1: expected an object with an ID",
        ),
        (
            r#"[{"ID": "a"}, {"ID": "a"}]"#,
            &whole,
            "\"a\" is there twice",
        ),
        (
            r#"[{"ID": "a", "colour": "pink"}]"#,
            &whole,
            "\"pink\" is no element of the taxonomy",
        ),
        (
            entities,
            r#"{"type": "graph"}"#,
            "expected an object with type \"tree\"",
        ),
        (
            entities,
            r#"{"type": "tree"}"#,
            "expected lists of entities and of relations",
        ),
        (
            entities,
            &tree(json!([edge("colour", "pink")])),
            "relation 1: \"pink\" is no entity",
        ),
        (
            entities,
            &tree(json!([
                edge("colour", "red"),
                edge("blue", "red"),
                edge("colour", "blue")
            ])),
            "two parents",
        ),
        (
            entities,
            &tree(json!([
                edge("red", "blue"),
                edge("blue", "red"),
                edge("red", "colour")
            ])),
            "its own ancestor",
        ),
        (
            entities,
            &tree(json!([edge("colour", "red")])),
            "have no parent: a tree has one root",
        ),
    ] {
        let told = refused(
            "wu-palmer@1-0-0",
            &compared(entities, taxonomy, &Value::Null),
        );
        assert!(told.contains(part), "{part:?} is not in {told:?}");
    }
    let many: Vec<Value> = (0..1001).map(|at| json!({"ID": at.to_string()})).collect();
    let many = Value::from(many).to_string();
    let told = refused("wu-palmer@1-0-0", &compared(&many, &whole, &Value::Null));
    assert!(told.contains("there are 1001, the limit is 1000"), "{told}");
}

fn pair(one: &str, other: &str, similarity: Value) -> Value {
    json!({"entity_1_ID": one, "entity_2_ID": other, "similarity": similarity})
}

#[test]
fn similarities_become_distances_by_each_formula() {
    let list = |pairs: Vec<Value>| data(&Value::from(pairs).to_string());
    let distance = |urls: &[String], more: Value| {
        let mut parameters = json!({"similaritiesUrls": urls});
        for (key, value) in more.as_object().into_iter().flatten() {
            parameters[key] = value.clone();
        }
        put_out("similarity-to-distance@1-0-0", &parameters)
    };
    let one = [list(vec![
        pair("a", "b", json!(0.36)),
        pair("a", "a", json!(1)),
    ])];
    for (transformer, known) in [
        ("linear_inverse", 0.64),
        ("square_inverse", 0.8),
        ("exponential_inverse", 0.697_676_326_071_031),
        ("gaussian_inverse", 0.878_446_739_349_931_3),
        ("polynomial_inverse", 0.735_294_117_647_058_8),
    ] {
        let found = distance(&one, json!({"transformer": transformer}));
        near(&found[0]["distance"], &json!(known), &json!(transformer));
        assert_eq!(found[1]["distance"], 0.0, "{transformer}");
    }
    // The mean of several, whatever the order of a pair, without those that are not known.
    let several = [
        list(vec![
            pair("a", "b", json!(0.5)),
            pair("a", "c", Value::Null),
            pair("b", "c", json!(1)),
        ]),
        list(vec![
            pair("b", "a", json!(0.1)),
            pair("a", "c", Value::Null),
            pair("b", "c", Value::Null),
        ]),
    ];
    let found = distance(&several, json!({"missing": 0.75}));
    for (at, known) in [0.7, 0.75, 0.0].into_iter().enumerate() {
        near(&found[at]["distance"], &json!(known), &found[at]);
    }
    for (content, part) in [
        ("{", "is no JSON"),
        ("{}", "expected a list of pairs, found dict"),
        (
            "[1]",
            "entry 1: expected entity_1_ID, entity_2_ID and similarity",
        ),
        (
            r#"[{"entity_1_ID":"a","entity_2_ID":"b","similarity":2}]"#,
            "entry 1: expected a similarity from 0 to 1",
        ),
        (
            r#"[{"entity_1_ID":"a","entity_2_ID":"b","similarity":true}]"#,
            "found True",
        ),
    ] {
        let parameters = json!({"similaritiesUrls": [data(content)]});
        let told = refused("similarity-to-distance@1-0-0", &parameters);
        assert!(told.contains(part), "{part:?} is not in {told:?}");
    }
}

fn agrees(points: &[Value]) {
    let facts = file("facts.json");
    let ids: Vec<&Value> = points.iter().map(|point| &point["ID"]).collect();
    let expected: Vec<&Value> = facts["ids"].as_array().into_iter().flatten().collect();
    assert_eq!(ids, expected);
    let at = |id: &Value, dimension: &str| {
        let point = points.iter().find(|point| point["ID"] == *id);
        point
            .and_then(|point| point[dimension].as_f64())
            .unwrap_or(f64::NAN)
    };
    for known in facts["scaled"]["distances"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let of = |dimension| at(&known[0], dimension) - at(&known[1], dimension);
        near(&json!(of("dim0").hypot(of("dim1"))), &known[2], known);
    }
}

#[test]
fn the_pipeline_puts_out_points_and_a_picture_of_them() {
    let parameters = json!({
        "entities": data(&text("entities.json")), "taxonomy": data(&text("taxonomy.json")), "attribute": "colour",
    });
    let task = runner().successful(run("taxonomy-map@1-0-0", &parameters));
    let points: Value =
        serde_json::from_slice(&runner().output(&task, "points.json")).expect("JSON");
    agrees(points.as_array().expect("a list"));
    let outputs = task["outputs"].as_array().expect("a list");
    let kinds: Vec<&str> = outputs
        .iter()
        .filter_map(|output| output["dataType"].as_str())
        .collect();
    assert!(
        kinds.contains(&"entity/vector") && kinds.contains(&"image/svg"),
        "{task:#}"
    );
    let picture = outputs
        .iter()
        .find(|output| output["dataType"] == "image/svg");
    let name = picture
        .and_then(|picture| picture["name"].as_str())
        .expect("a picture");
    let picture = String::from_utf8(runner().output(&task, name)).expect("SVG");
    assert!(
        picture.contains("<svg") && picture.contains("24 points"),
        "{picture}"
    );
    // Of some entities only; and one that is not there is the reason of the failure.
    let mut few = parameters.clone();
    few["ids"] = json!(["costume-01", "costume-02", "costume-05"]);
    let task = runner().successful(run("taxonomy-map@1-0-0", &few));
    let points: Value =
        serde_json::from_slice(&runner().output(&task, "points.json")).expect("JSON");
    assert_eq!(points.as_array().map(Vec::len), Some(3));
    few["ids"] = json!(["costume-99"]);
    let told = refused("taxonomy-map@1-0-0", &few);
    assert!(told.contains("costume-99"), "{told}");
}

#[test]
fn the_pipeline_runs_without_a_server() {
    let folder = Scratch::new();
    let list = FOLDERS.map(|name| runner_tests::repository(name).display().to_string());
    let document = runner_tests::repository("stable_plugins/pipelines/taxonomy-map.pipeline.yaml");
    let said = runner_tests::runner::command(folder.path())
        .args(["pipeline", "run"])
        .arg(document)
        .args(["-p", &format!("entities={}", data(&text("entities.json")))])
        .args(["-p", &format!("taxonomy={}", data(&text("taxonomy.json")))])
        .args(["-p", "attribute=colour"])
        .env("PLUGIN_FOLDERS", list.join(":"))
        .current_dir(folder.path())
        .output()
        .expect("the command");
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    let made = folder.path().join("taxonomy-map-output");
    let points = fs::read(made.join("points.json")).expect("the points");
    let points: Value = serde_json::from_slice(&points).expect("JSON");
    agrees(points.as_array().expect("a list"));
    let pictures = fs::read_dir(&made).expect("outputs").flatten();
    let names: Vec<_> = pictures.map(|entry| entry.file_name()).collect();
    assert!(
        names
            .iter()
            .any(|name| name.to_string_lossy().ends_with(".svg")),
        "{names:?}"
    );
}
