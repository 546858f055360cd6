//! What a registry of plugins reads when it crawls a runner: `/`, `/plugins`, and each `apiRoot`.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use runner_tests::scratch::Scratch;
use runner_tests::{Request, Runner};
use serde_json::{Map, Value, json};
use url::Url;

use crate::shared::{HARNESS, STABLE};

/// An object with all of these is a plugin to a registry; one without is a runner.
const PLUGIN_KEYS: [&str; 7] = [
    "description",
    "entryPoint",
    "name",
    "tags",
    "title",
    "type",
    "version",
];

/// Three versions of one plugin, and one with every kind of data; described without the help of an SDK.
const DESCRIBED: &str = r##"#!/usr/bin/env python3
import json, sys

DATA = lambda **data: {"type": "string", "format": "uri", "x-data": data}
PLUGIN = lambda **plugin: {"type": "string", "format": "uri", "x-plugin": plugin}
LIST = lambda items: {"type": "array", "items": items}
PLUGINS = [{"name": "versions", "version": version} for version in ("1.9.0", "1.10.0", "v2.0rc1")] + [{
    "name": "kinds of data", "version": "1!2.0.post1+local.1", "type": "dataloader",
    "title": "Ünïcode <b>", "tags": ["a b", "ä"], "links": [{"type": "docs", "href": "http://example.org/"}],
    "parameters": {"type": "object", "required": ["all"], "properties": {
        "all": DATA(),
        "half": DATA(dataType="entity/*", contentType=["text/*", "*"]),
        "linked": DATA(dataType="any", contentType=["text/csv"], fetch=False),
        "many": LIST(DATA(dataType="entity/list", contentType=["text/csv"])),
        "helper": PLUGIN(tags=["demo", "!slow"]),
        "named": PLUGIN(name="versions", version=">=1.9.0"),
        "helpers": LIST(PLUGIN(tags=["demo"])),
        "nRows": {"type": "integer"},
    }},
    "dataOutput": [{"dataType": "*"}, {"dataType": "custom/*", "contentType": ["text/*"], "required": False, "name": "x"}],
}]
ANSWERS = {"welcome": {"protocol": 1, "framing": "lines"}, "describe": {"plugins": PLUGINS}}
for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        result = ANSWERS.get(request["method"], {})
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}), flush=True)
"##;

fn runner() -> (Runner, Scratch) {
    let plugins = Scratch::new();
    let described = plugins.file("described", DESCRIBED);
    std::fs::set_permissions(described, std::fs::Permissions::from_mode(0o755)).unwrap();
    let runner = Runner::builder()
        .plugins(STABLE)
        .plugins(["tests/fixtures/plugins", "tests/fixtures/routes", HARNESS])
        .plugins([plugins.path()])
        .start();
    (runner, plugins)
}

/// The metadata of all plugins as a crawler comes to them: each with its `apiRoot`.
fn crawl(runner: &Runner) -> Vec<(String, Map<String, Value>)> {
    let root = runner.get("/").expect(200).json();
    let root = root.as_object().expect("the root is an object");
    assert!(
        !PLUGIN_KEYS.iter().all(|key| root.contains_key(*key)),
        "the root is no plugin"
    );
    // A crawler adds `/plugins`, and follows redirects.
    let redirect = runner.get("/plugins");
    let location = redirect.header("Location").expect("a redirect").to_owned();
    let listed = runner.get(&location).expect(200).json();
    let listed = listed["plugins"].as_array().expect("plugins").clone();
    let metadata = |entry: &Value| {
        let root = entry["apiRoot"].as_str().expect("an apiRoot").to_owned();
        let plugin = runner.get(&root).expect(200).json();
        for key in ["name", "version", "tags", "description"] {
            assert_eq!(plugin[key], entry[key], "{key} of {root}");
        }
        (root, plugin.as_object().expect("an object").clone())
    };
    listed.iter().map(metadata).collect()
}

fn text<'a>(value: &'a Value, what: &str) -> &'a str {
    value.as_str().unwrap_or_else(|| panic!("{what}: {value}"))
}

fn list<'a>(value: &'a Value, what: &str) -> &'a [Value] {
    let list = value.as_array();
    list.unwrap_or_else(|| panic!("{what}: {value}"))
}

/// Fields and lengths are those of the registry's tables.
fn check_data(data: &Value, identifier: &str, what: &str) {
    let data_type = text(&data["dataType"], what);
    assert!((1..=255).contains(&data_type.len()), "{what}: {data}");
    let kinds = list(&data["contentType"], what);
    assert!(
        !kinds.is_empty(),
        "what has no media type fits nothing, {what}"
    );
    assert!(kinds.iter().all(Value::is_string), "{what}: {data}");
    assert!(data["required"].is_boolean(), "{what}: {data}");
    assert!(
        data[identifier].is_string() || identifier == "name",
        "{what}"
    );
}

#[test]
fn a_registry_reads_every_plugin_with_all_that_it_needs() {
    let (runner, _plugins) = runner();
    let plugins = crawl(&runner);
    assert!(plugins.len() > 30, "{} plugins", plugins.len());
    let mut identities = BTreeSet::new();
    for (root, plugin) in &plugins {
        for key in PLUGIN_KEYS {
            assert!(plugin.contains_key(key), "{root} has no {key}");
        }
        let (name, version) = (text(&plugin["name"], root), text(&plugin["version"], root));
        assert!(name.len() <= 255 && root.len() <= 2048, "{root}");
        assert!(identities.insert((name, version)), "{root} is there twice");
        for key in ["title", "description", "type"] {
            assert!(plugin[key].is_string(), "{key} of {root}");
        }
        assert!(list(&plugin["tags"], root).iter().all(Value::is_string));
        let entry = &plugin["entryPoint"];
        let base = Url::parse(root).expect("a URL");
        assert!(root.ends_with('/'), "{root}");
        for (key, status) in [("href", 405), ("uiHref", 200)] {
            let url = base.join(text(&entry[key], root)).expect("a URL");
            runner.get(url.as_str()).expect(status);
        }
        let form = runner.get(&format!("{root}ui/")).expect(200).text();
        for input in list(&entry["dataInput"], root) {
            check_data(input, "parameter", root);
            let field = format!("name=\"{}\"", text(&input["parameter"], root));
            assert!(form.contains(&field), "{root} has no field {field}");
        }
        for output in list(&entry["dataOutput"], root) {
            check_data(output, "name", root);
        }
        for dependency in list(&entry["pluginDependencies"], root) {
            assert!(dependency["parameter"].is_string(), "{root}: {dependency}");
            assert!(dependency["required"].is_boolean(), "{root}: {dependency}");
            assert!(list(&dependency["tags"], root).iter().all(Value::is_string));
        }
    }
    let versions = identities.iter().filter(|(name, _)| *name == "versions");
    assert_eq!(versions.count(), 3);
}

#[test]
fn a_registry_reads_what_the_plugin_declared() {
    let (runner, _plugins) = runner();
    let plugins = crawl(&runner);
    let (_, plugin) = plugins
        .iter()
        .find(|(_, plugin)| plugin["name"] == "kinds of data")
        .expect("the plugin");
    assert_eq!(plugin["version"], "1!2.0.post1+local.1");
    assert_eq!(plugin["type"], "dataloader");
    assert_eq!(plugin["title"], "Ünïcode <b>");
    assert_eq!(plugin["tags"], json!(["a b", "ä"]));
    assert_eq!(
        plugin["links"],
        json!([{"type": "docs", "href": "http://example.org/"}])
    );
    let entry = &plugin["entryPoint"];
    let input = |parameter: &str, data_type: &str, content_type: Value, required: bool| {
        json!({
            "parameter": parameter, "dataType": data_type, "contentType": content_type, "required": required,
        })
    };
    assert_eq!(
        entry["dataInput"],
        json!([
            input("all", "*", json!(["*"]), true),
            input("half", "entity/*", json!(["text/*", "*"]), false),
            input("linked", "any", json!(["text/csv"]), false),
            input("many", "entity/list", json!(["text/csv"]), false),
        ])
    );
    assert_eq!(
        entry["dataOutput"],
        json!([
            {"dataType": "*", "contentType": ["*"], "required": true},
            {"dataType": "custom/*", "contentType": ["text/*"], "required": false, "name": "x"},
        ])
    );
    assert_eq!(
        entry["pluginDependencies"],
        json!([
            {"parameter": "helper", "required": false, "tags": ["demo", "!slow"]},
            {"parameter": "named", "required": false, "tags": [], "name": "versions", "version": ">=1.9.0"},
            {"parameter": "helpers", "required": false, "tags": ["demo"]},
        ])
    );
}

#[test]
fn a_registry_that_looks_again_learns_that_a_plugin_is_gone() {
    let (mut runner, plugins) = runner();
    let before = crawl(&runner);
    std::fs::remove_file(plugins.path().join("described")).unwrap();
    runner.terminate();
    runner.restart();
    let after = crawl(&runner);
    assert_eq!(after.len() + 4, before.len());
    // The port is another one now; only the path counts.
    for (root, _) in &before {
        let path = runner.path_of(root);
        let is_listed = after.iter().any(|(left, _)| runner.path_of(left) == path);
        let answer = runner.send(&Request::get(&path));
        // Whoever asks for a certain plugin takes it off its list at 404, and at nothing else.
        assert_eq!(answer.status, if is_listed { 200 } else { 404 }, "{path}");
    }
}
