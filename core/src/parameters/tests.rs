use serde_json::json;

use super::*;

fn parameters(properties: Value, required: &[&str]) -> Parameters {
    Parameters::new(json!({"type": "object", "properties": properties, "required": required}))
        .unwrap()
}

fn form(pairs: &[(&str, &str)]) -> Form {
    pairs.iter().copied().collect()
}

fn entity_filter() -> Parameters {
    parameters(
        json!({
            "inputFileUrl": {"type": "string", "format": "uri", "x-data": {"dataType": "entity/list"}},
            "attributes": {"type": "array", "items": {"type": "string"}},
            "attributeFilterStrategy": {"enum": ["keep", "drop"]},
            "nRows": {"type": "integer", "minimum": 1,
                      "x-messages": {"minimum": "Number of Rows must be a positive number."}},
            "shuffle": {"type": "boolean", "default": true},
        }),
        &["inputFileUrl"],
    )
}

#[test]
fn a_right_form_becomes_typed_values_with_defaults() {
    let values = entity_filter()
        .check_form(&form(&[
            ("inputFileUrl", "http://localhost:5005/files/1/?file-id=x"),
            ("attributes", "a, b\nc"),
            ("attributeFilterStrategy", "drop"),
            ("nRows", "10"),
            ("unknown", "is ignored"),
        ]))
        .into_result()
        .unwrap();
    assert_eq!(
        Value::Object(values),
        json!({"inputFileUrl": "http://localhost:5005/files/1/?file-id=x", "attributes": ["a", "b", "c"],
               "attributeFilterStrategy": "drop", "nRows": 10, "shuffle": true})
    );
}

#[test]
fn the_messages_are_those_of_the_reference() {
    let errors = entity_filter()
        .check_form(&form(&[
            ("inputFileUrl", "x"),
            ("attributeFilterStrategy", "NOPE"),
            ("nRows", "-1"),
            ("shuffle", "maybe"),
        ]))
        .errors;
    assert_eq!(
        json!(errors),
        json!({"attributeFilterStrategy": ["Not a valid choice."], "inputFileUrl": ["Not a valid URL."],
               "nRows": ["Number of Rows must be a positive number."], "shuffle": ["Not a valid boolean."]})
    );
    let errors = entity_filter()
        .check_form(&form(&[("nRows", "1.5")]))
        .errors;
    assert_eq!(
        json!(errors),
        json!({"inputFileUrl": ["Missing data for required field."], "nRows": ["Not a valid integer."]})
    );
    let errors = entity_filter()
        .check_form(&form(&[("inputFileUrl", "")]))
        .errors;
    assert_eq!(
        json!(errors),
        json!({"inputFileUrl": ["Field may not be null."]})
    );
}

#[test]
fn an_optional_field_left_empty_is_absent_and_a_repeated_one_counts_once() {
    let parameters = parameters(
        json!({"n": {"type": "integer"}, "s": {"type": "string"}}),
        &["s"],
    );
    let values = parameters
        .check_form(&form(&[("n", ""), ("s", "first"), ("s", "second")]))
        .values;
    assert_eq!(Value::Object(values), json!({"s": "first"}));
    let values = parameters.check_form(&form(&[("s", "")])).values;
    assert_eq!(
        Value::Object(values),
        json!({"s": ""}),
        "empty text is text"
    );
}

#[test]
fn json_is_checked_strictly() {
    let check = |value: Value| match value {
        Value::Object(object) => entity_filter().check_json(object),
        _ => unreachable!(),
    };
    let errors = check(json!({"inputFileUrl": null, "nRows": "1", "foo": 1})).errors;
    assert_eq!(
        json!(errors),
        json!({"inputFileUrl": ["Field may not be null."], "nRows": ["Not a valid integer."], "foo": ["Unknown field."]})
    );
    let values =
        check(json!({"inputFileUrl": "data:text/csv,ID", "nRows": 3.0, "attributes": null})).values;
    assert_eq!(
        Value::Object(values),
        json!({"inputFileUrl": "data:text/csv,ID", "nRows": 3, "shuffle": true})
    );
}

#[test]
fn urls_that_run_code_or_read_files_are_not_urls_of_plugins() {
    let parameters = parameters(
        json!({"plugin": {"type": "string", "format": "uri", "x-plugin": {}}, "url": {"type": "string", "format": "uri"}}),
        &[],
    );
    for url in [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "data:,x",
        "http://",
        "//host/x",
    ] {
        let errors = parameters
            .check_form(&form(&[("plugin", url), ("url", url)]))
            .errors;
        assert_eq!(errors.len(), 2, "{url}");
    }
}

#[test]
fn unusable_schemas_are_named() {
    for (schema, part) in [
        (json!([]), "found []"),
        (json!({"type": "string"}), "type \"string\""),
        (json!({"properties": {"a": 1}}), "property \"a\""),
        (json!({"properties": {"_a": {}}}), "property \"_a\""),
        (
            json!({"properties": {"a": {"type": "int"}}}),
            "\"int\" is no type",
        ),
        (
            json!({"properties": {}, "required": ["b"]}),
            "required names \"b\"",
        ),
        (json!({"properties": {"aB": {}, "a_b": {}}}), "id \"a_b\""),
        (
            json!({"properties": {"a": {"type": "integer", "default": "x"}}}),
            "default does not fit",
        ),
        (
            json!({"properties": {"a": {"type": "string", "pattern": "("}}}),
            "not a JSON Schema",
        ),
    ] {
        let error = Parameters::new(schema.clone()).unwrap_err().to_string();
        assert!(error.contains(part), "{schema}: {error}");
    }
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_form_makes_it_panic_and_no_wrong_value_passes(
            pairs in prop::collection::vec(("(inputFileUrl|attributes|attributeFilterStrategy|nRows|shuffle)", ".{0,20}"), 0..8)
        ) {
            let parameters = entity_filter();
            let checked = parameters.check_form(&pairs.into_iter().collect());
            if let Ok(values) = checked.into_result() {
                prop_assert!(values["inputFileUrl"].is_string());
                prop_assert!(values.get("nRows").is_none_or(|n| n.as_i64().unwrap() >= 1));
                prop_assert!(values["shuffle"].is_boolean());
                prop_assert_eq!(parameters.check_json(values.clone()).into_result().unwrap(), values);
            }
        }
    }
}
