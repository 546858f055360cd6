use super::*;

use std::collections::BTreeSet;

use axum::http::Method;

use crate::route::Route;
use crate::router;

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/openapi/snapshot.json");

fn plugin(description: Value) -> Plugin {
    Plugin::new(serde_json::from_value(description).unwrap()).unwrap()
}

/// Every kind of parameter, a file that must be there, a step, names that are awkward.
fn fixtures() -> Vec<Plugin> {
    vec![
        plugin(json!({
            "name": "every kind", "version": "v1.0.0", "title": "Every kind", "description": "Has all parameters.",
            "help": "Runs *nothing*.", "example": {"text": "a"},
            "parameters": {"type": "object", "required": ["text", "nRows"], "$defs": {"pair": {"type": "array", "maxItems": 2}}, "properties": {
                "text": {"type": "string", "title": "Text", "x-multiline": true, "x-messages": {"required": "!"}},
                "secret": {"type": "string", "writeOnly": true},
                "nRows": {"type": "integer", "minimum": 1, "x-id": "rows"},
                "factor": {"type": "number", "exclusiveMinimum": 0, "default": 0.5},
                "flag": {"type": "boolean", "default": false},
                "choice": {"enum": ["a", "b"], "x-labels": {"a": "The first"}, "default": "a"},
                "list": {"type": "array", "items": {"type": "integer"}},
                "url": {"type": "string", "format": "uri"},
                "data": {"type": "string", "format": "uri", "x-data": {"dataType": "entity/list", "contentType": ["text/csv"]}},
                "plugin": {"type": "string", "format": "uri", "x-plugin": {"tags": ["qasm-2"]}},
                "file": {"type": "string", "format": "binary", "x-data": {"dataType": "*", "contentType": ["text/csv", "application/json"]}},
                "json": {"type": "object", "title": "Any", "properties": {"pair": {"$ref": "#/$defs/pair"}}},
                "a/b": {"type": "string"},
            }},
            "steps": [{"step": "confirm", "title": "Confirm", "parameters": {"type": "object", "required": ["sure"], "properties": {"sure": {"type": "boolean"}}}}],
        })),
        plugin(json!({
            "name": "needs-file", "version": "1.0.0",
            "parameters": {"type": "object", "required": ["file"], "properties": {
                "file": {"type": "string", "format": "binary"}}},
        })),
        plugin(json!({"name": "nothing", "version": "1.0"})),
        plugin(json!({"name": "pages", "version": "1.0", "title": "Pages", "routes": true})),
        plugin(json!({"name": "nothing", "version": "1-0"})),
    ]
}

fn fixture_document() -> Value {
    let plugins = fixtures();
    let mut document = document(plugins.iter(), None);
    document["info"]["version"] = json!("0.0.0");
    serde_json::to_value(WithServer::new(&document, "http://localhost:5005")).unwrap()
}

#[test]
fn every_route_is_documented() {
    let document = document(std::iter::empty(), Some(Access::User));
    let mut expected = BTreeSet::new();
    let of_cells = router::sage_cell_table(Access::User);
    for route in router::table().iter().chain(&of_cells) {
        for (path, method, _) in route.documented() {
            let operation = &document["paths"][*path][method.as_str().to_lowercase()];
            assert!(operation.is_object(), "{method} {path} is not documented");
            expected.insert((*path, method.clone()));
        }
    }
    let paths = document["paths"].as_object().unwrap();
    let documented = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys();
        methods.map(move |method| {
            (
                path.as_str(),
                Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(),
            )
        })
    });
    assert_eq!(documented.collect::<BTreeSet<_>>(), expected);
}

/// The roles that an operation says it needs; nothing where it does not say.
fn declared(operation: &Value) -> Option<&str> {
    let ways = operation.get("security")?.as_array()?;
    let Some(first) = ways.first() else {
        return Some("public");
    };
    let role = first["bearer"][0].as_str()?;
    let is_open = ways.last() == Some(&json!({}));
    // Who sends code shows a token everywhere.
    let is_session = operation["tags"][0] == "sessions" && role == "user";
    let is_code = operation["operationId"] == "runPipeline" || is_session;
    let may_be_open = role != "admin" && !is_code;
    (ways[1]["query"][0] == role && is_open == may_be_open).then_some(role)
}

#[test]
fn every_operation_declares_what_its_route_demands() {
    for access in [Access::User, Access::Public] {
        let mut table = router::table();
        table.extend(router::sage_cell_table(access));
        let plugins = fixtures();
        let document = Value::Object(document(plugins.iter(), Some(access)));
        check_rules(&document, &table);
    }
}

fn check_rules(document: &Value, table: &[Route]) {
    let mut checked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let role = declared(operation);
            let role = role.unwrap_or_else(|| panic!("{method} {path} declares no rule"));
            let demanded = demanded(table, path, &method);
            assert_eq!(Some(role), demanded, "{method} {path}");
            let answers = &operation["responses"];
            let is_any = answers["default"].is_object();
            assert_eq!(answers["401"].is_object(), !is_any, "{method} {path}");
            let may_forbid = role != "public" && !is_any;
            assert_eq!(answers["403"].is_object(), may_forbid, "{method} {path}");
            checked += 1;
        }
    }
    assert!(checked > 50);
}

/// What the table has for a path of the document, be it of the runner itself or of one plugin.
fn demanded(table: &[Route], path: &str, method: &Method) -> Option<&'static str> {
    let of_plugin = path
        .strip_prefix("/plugins/")
        .and_then(|rest| rest.split_once('/'));
    let path = match of_plugin {
        Some((_, rest)) => format!("/plugins/{{identifier}}/{}", step_of(rest)),
        None => path.to_owned(),
    };
    let mut rows = table.iter().flat_map(|route| route.documented());
    let row = rows.find(|(known, of, _)| *known == path && of == method);
    match row {
        Some((_, _, access)) => Some(access.as_str()),
        None if path.ends_with("/{path}") && method.is_safe() => Some("viewer"),
        None if path.ends_with("/{path}") => Some("user"),
        None => None,
    }
}

/// The path of a step without its name.
fn step_of(rest: &str) -> String {
    match rest
        .strip_prefix("{task}/")
        .and_then(|step| step.rsplit_once('-'))
    {
        Some((_, action)) => format!("{{task}}/{{stepId}}-{action}"),
        None => rest.to_owned(),
    }
}

#[test]
fn the_document_of_fixtures_is_as_it_was() {
    let text = serde_json::to_string_pretty(&fixture_document()).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(SNAPSHOT, &text).unwrap();
    }
    let expected = std::fs::read_to_string(SNAPSHOT).unwrap_or_default();
    let line = text
        .lines()
        .zip(expected.lines())
        .position(|(is, was)| is != was);
    assert!(
        text == expected,
        "{SNAPSHOT} differs from line {:?} on. If it should, write it anew with UPDATE=1 cargo test \
         -p runner-server openapi",
        line.map(|line| line + 1)
    );
}

#[test]
fn references_lead_somewhere_and_ids_are_unique() {
    let document = fixture_document();
    let mut references = Vec::new();
    collect(&document, "$ref", &mut references);
    assert!(references.len() > 100);
    for reference in references {
        let pointer = percent_encoding::percent_decode_str(reference.trim_start_matches('#'));
        let pointer = pointer.decode_utf8().unwrap();
        assert!(document.pointer(&pointer).is_some(), "{reference}");
    }
    let mut ids = Vec::new();
    collect(&document["paths"], "operationId", &mut ids);
    let unique: BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len());
    for operation in operations(&document) {
        assert!(operation["summary"].is_string() && operation["operationId"].is_string());
        let tag = operation["tags"][0].as_str().unwrap();
        let mut tags = document["tags"].as_array().unwrap().iter();
        assert!(tags.any(|known| known["name"] == tag), "{tag}");
    }
}

#[test]
fn the_operations_of_sage_cell_are_there_where_it_is() {
    let open = Value::Object(document(std::iter::empty(), Some(Access::User)));
    let closed = Value::Object(document(std::iter::empty(), None));
    assert!(open["paths"]["/kernel"]["post"].is_object());
    assert!(closed["paths"]["/kernel"].is_null());
    let mut references = Vec::new();
    collect(&open, "$ref", &mut references);
    for reference in references {
        let pointer = reference.trim_start_matches('#');
        assert!(open.pointer(pointer).is_some(), "{reference}");
    }
    let mut ids = Vec::new();
    collect(&open["paths"], "operationId", &mut ids);
    let unique: BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len());
}

#[test]
fn plugins_that_take_files_take_no_other_bodies() {
    let document = fixture_document();
    let body = |path: &str| {
        let content = &document["paths"][path]["post"]["requestBody"]["content"];
        content
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        body("/plugins/needs-file@1-0-0/process/"),
        ["multipart/form-data"]
    );
    assert_eq!(body("/plugins/every%20kind@v1-0-0/process/").len(), 3);
    let schemas = &document["components"]["schemas"];
    assert!(schemas["every_kind.v1-0-0.form"]["properties"]["file"].is_object());
    assert!(schemas["every_kind.v1-0-0.json"]["properties"]["file"].is_null());
}

#[test]
fn own_routes_are_where_the_proxy_takes_them_and_promise_nothing_else() {
    let document = fixture_document();
    let item = document["paths"]["/plugins/pages@1-0/{path}"]
        .as_object()
        .unwrap();
    let mut methods: Vec<_> = item.keys().map(|key| key.to_uppercase()).collect();
    methods.sort();
    let mut proxied: Vec<_> = crate::routes::plugins::proxy::METHODS.split(',').collect();
    proxied.sort_unstable();
    assert_eq!(methods, proxied);
    for operation in item.values() {
        let answers: Vec<_> = operation["responses"].as_object().unwrap().keys().collect();
        assert_eq!(answers, ["default"]);
        assert!(operation["responses"]["default"]["content"].is_null());
    }
    let paths = document["paths"].as_object().unwrap().keys();
    let with_routes =
        paths.filter(|path| path.starts_with("/plugins/") && path.ends_with("/{path}"));
    let with_routes = with_routes.count();
    assert_eq!(with_routes, 1, "plugins without routes have none");
}

#[test]
fn a_document_is_made_once_for_a_state_of_the_modules() {
    let kept = Kept::new(None);
    let table = Arc::new(Table::default());
    let first = kept.of(&table);
    assert!(Arc::ptr_eq(&first, &kept.of(&table)));
    assert!(!Arc::ptr_eq(&first, &kept.of(&Arc::new(Table::default()))));
    let text = with_server(&first, "https://example.org/runner");
    let document: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(document, openapi(&table, "https://example.org/runner"));
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(
        document["servers"],
        json!([{"url": "https://example.org/runner"}])
    );
}

fn operations(document: &Value) -> impl Iterator<Item = &Value> {
    let paths = document["paths"].as_object().unwrap().values();
    paths.flat_map(|item| item.as_object().unwrap().values())
}

fn collect<'a>(value: &'a Value, wanted: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if key == wanted => found.push(text),
                    value => collect(value, wanted, found),
                }
            }
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| collect(value, wanted, found)),
        _ => {}
    }
}
