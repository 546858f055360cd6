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

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// `[[[…]]]`.
fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[test]
fn what_is_nested_too_deeply_to_be_read_again_is_refused() {
    let parameters = parameters(
        json!({"any": {}, "list": {"type": "array", "items": {}}}),
        &[],
    );
    for (levels, is_right) in [
        (1, true),
        (64, true),
        (65, false),
        (127, false),
        (1000, false),
    ] {
        let text = nested(levels);
        let checked = parameters.check_form(&form(&[("any", &text), ("list", &text)]));
        assert_eq!(checked.errors.is_empty(), is_right, "{levels} in a form");
        let Ok(value) = serde_json::from_str::<Value>(&text) else {
            assert_eq!(checked.errors["any"], [NESTED]);
            continue;
        };
        let checked = parameters.check_json(object(json!({"any": value, "list": value})));
        assert_eq!(checked.errors.is_empty(), is_right, "{levels} in JSON");
        match is_right {
            true => {
                let text = serde_json::to_string(&checked.values).unwrap();
                assert!(serde_json::from_str::<Value>(&text).is_ok());
            }
            false => assert_eq!(
                json!(checked.errors),
                json!({"any": [NESTED], "list": [NESTED]})
            ),
        }
    }
    let deep: Value = serde_json::from_str(&nested(65)).unwrap();
    let error = Parameters::new(json!({"properties": {"a": {"default": deep}}})).unwrap_err();
    assert!(error.to_string().contains(NESTED), "{error}");
}

#[test]
fn no_message_tells_a_value() {
    let secret = "hunter2";
    let long = secret.repeat(1000);
    let rules = [
        json!({"type": "string", "writeOnly": true, "minLength": 9999}),
        json!({"type": "string", "writeOnly": true, "maxLength": 1}),
        json!({"type": "string", "writeOnly": true, "pattern": "^[0-9]+$"}),
        json!({"type": "string", "writeOnly": true, "not": {"minLength": 1}}),
        json!({"type": "string", "writeOnly": true, "anyOf": [{"maxLength": 1}, {"const": "x"}]}),
        json!({"type": "string", "writeOnly": true, "oneOf": [{"minLength": 1}, {"minLength": 2}]}),
        json!({"type": "string", "writeOnly": true, "oneOf": [{"maxLength": 1}]}),
        json!({"type": "string", "writeOnly": true, "allOf": [{"const": "x"}]}),
        json!({"type": "string", "writeOnly": true, "if": true, "then": false}),
        json!({"type": "string", "writeOnly": true, "contentEncoding": "base64"}),
        json!({"type": "array", "items": {"type": "string", "writeOnly": true, "maxLength": 1}}),
        json!({"type": "array", "items": {"type": "string"}, "contains": {"const": "x"}}),
        json!({"type": "object", "propertyNames": {"maxLength": 1}}),
        json!({"type": "object", "additionalProperties": {"type": "integer"}}),
    ];
    let mut schemas: Vec<Value> = rules
        .iter()
        .map(|rule| json!({"properties": {"key": rule}}))
        .collect();
    for rule in [
        json!({"anyOf": [{"required": ["other"]}, {"properties": {"key": {"const": "x"}}}]}),
        json!({"not": {"required": ["key"]}}),
        json!({"oneOf": [{"maxProperties": 0}]}),
        json!({"maxProperties": 0}),
        json!({"dependentRequired": {"key": ["o".repeat(1000)]}}),
    ] {
        let mut schema = json!({"properties": {"key": {}, "other": {}}});
        schema.as_object_mut().unwrap().extend(object(rule));
        schemas.push(schema);
    }
    for schema in schemas {
        let parameters = Parameters::new(schema.clone()).unwrap();
        for value in [
            json!(long),
            json!([long, long]),
            json!({ long.as_str(): long }),
        ] {
            let checked = parameters.check_json(object(json!({ "key": value })));
            for message in checked.errors.values().flatten() {
                assert!(!message.contains(secret), "{schema}: {message}");
                assert!(message.chars().count() <= 301, "{schema}: {message}");
            }
        }
        // Text that is no JSON has no kind but that of the rule.
        let is_broken = |value: Value| {
            let checked = parameters.check_json(object(json!({ "key": value })));
            !checked.errors.is_empty()
        };
        let values = [
            json!(long),
            json!([long, long]),
            json!({ long.as_str(): long }),
        ];
        assert!(
            values.into_iter().any(is_broken),
            "{schema} is never broken"
        );
    }
}

#[test]
fn a_rule_of_the_items_of_a_list_tells_its_limit() {
    let parameters = parameters(
        json!({"list": {"type": "array", "items": {"type": "integer", "minimum": 3, "multipleOf": 2}}}),
        &[],
    );
    let errors = parameters.check_form(&form(&[("list", "1")])).errors;
    assert_eq!(
        json!(errors),
        json!({"list": ["Must be greater than or equal to 3.", "Must be a multiple of 2."]})
    );
}

#[test]
fn a_choice_is_taken_whole_whatever_characters_it_has() {
    let choices = ["a,b", "[1]", " x", "", "c"];
    let parameters = parameters(
        json!({"several": {"type": "array", "items": {"enum": choices}}}),
        &[],
    );
    let several = |texts: &[&str]| {
        let form: Form = texts.iter().map(|text| ("several", *text)).collect();
        parameters
            .check_form(&form)
            .into_result()
            .map(|mut values| values.remove("several"))
    };
    for choice in choices {
        assert_eq!(several(&[choice]), Ok(Some(json!([choice]))));
    }
    assert_eq!(several(&choices), Ok(Some(json!(choices))));
    assert_eq!(
        several(&["c, c"]),
        Ok(Some(json!(["c", "c"]))),
        "typed by hand"
    );
    assert_eq!(several(&["[\"a,b\",\"c\"]"]), Ok(Some(json!(["a,b", "c"]))));
    assert!(several(&["a"]).is_err());
    assert_eq!(several(&[]), Ok(None));
}

#[test]
fn an_empty_url_is_none_in_json_too() {
    for kind in [json!({}), json!({"x-data": {}}), json!({"x-plugin": {}})] {
        let mut url = json!({"type": "string", "format": "uri"});
        url.as_object_mut().unwrap().extend(object(kind));
        let parameters = parameters(json!({"required": url, "optional": url}), &["required"]);
        let given = object(json!({"required": "", "optional": ""}));
        let checked = parameters.check_json(given);
        assert_eq!(json!(checked.errors), json!({ "required": [NULL] }));
        let given = object(json!({"required": "http://h/", "optional": ""}));
        let values = parameters.check_json(given).into_result().unwrap();
        assert_eq!(Value::Object(values), json!({"required": "http://h/"}));
    }
}

#[test]
fn a_url_has_no_characters_that_reading_it_would_drop() {
    let parameters = parameters(
        json!({
            "url": {"type": "string", "format": "uri"},
            "data": {"type": "string", "format": "uri", "x-data": {}},
            "plugin": {"type": "string", "format": "uri", "x-plugin": {}},
        }),
        &[],
    );
    for url in [
        "http://h/\r\nSet-Cookie: x",
        "http://h\n.evil/",
        "ht\ttp://h/",
        "http://h/\u{0}",
        "http://h/\u{7f}",
        " http://h/",
        "http://h/\n",
        "\u{1}http://h/",
    ] {
        assert_eq!(field::parse_url(url), None, "{url:?}");
        let given = object(json!({"url": url, "data": url, "plugin": url}));
        let errors = parameters.check_json(given).errors;
        assert_eq!(errors.len(), 3, "{url:?}: {errors:?}");
    }
    let given = json!({"url": "http://h/a b?ü", "data": "data:text/plain,a b"});
    let values = parameters.check_json(object(given.clone())).into_result();
    assert_eq!(values, Ok(object(given)));
    // Blanks around it are what pasting leaves in a form.
    let form = parameters.check_form(&form(&[("url", " http://h/\n")]));
    assert_eq!(form.values["url"], "http://h/");
}

#[test]
fn only_files_that_the_values_name_are_theirs() {
    let parameters = parameters(
        json!({
            "one": {"type": "string", "format": "binary"},
            "many": {"type": "array", "items": {"type": "string", "format": "binary"}},
            "text": {"type": "string"},
            "any": {},
        }),
        &[],
    );
    let upload = |key: &str| Upload {
        key: key.to_owned(),
        name: "x".to_owned(),
        content_type: "text/plain".to_owned(),
        size: 1,
    };
    let mut form = Form::default();
    for (field, key) in [
        ("one", "1"),
        ("one", "2"),
        ("many", "3"),
        ("many", "4"),
        ("text", "5"),
        ("no", "6"),
    ] {
        form.push(field.to_owned(), FormValue::Upload(upload(key)));
    }
    let forged = json!({ form::UPLOAD: upload("7") }).to_string();
    form.push("any".to_owned(), FormValue::Text(forged));
    let values = parameters.check_form(&form).into_result().unwrap();
    let keys: Vec<String> = parameters
        .uploads(&values)
        .into_iter()
        .map(|upload| upload.key)
        .collect();
    assert_eq!(keys, ["1", "3", "4"]);
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

        #[test]
        fn a_form_reads_the_values_that_it_shows(
            texts in prop::collection::vec(r#"[a,\n\r\[\]" ü]{0,4}"#, 1..4),
            any in prop::sample::select(vec![
                json!("text"), json!("1"), json!(1), json!([]), json!(["a", "b"]), json!([1, 2]),
                json!({"a": [1, {}]}), json!(true), json!("[1]"), json!([null]),
            ]),
        ) {
            let parameters = parameters(
                json!({
                    "texts": {"type": "array", "items": {"type": "string"}},
                    "choices": {"type": "array", "items": {"enum": texts}},
                    "any": {},
                    "anys": {"type": "array", "items": {}},
                }),
                &[],
            );
            let values = json!({"texts": texts, "choices": texts, "any": any, "anys": [any, any]});
            let values = object(values);
            let one_text_each = parameters.fields().iter();
            let one_text_each: Form = one_text_each
                .map(|field| (field.key.clone(), field.kind.to_text(&values[&field.key])))
                .collect();
            let texts: Form = parameters.texts(&values).into_iter().collect();
            for form in [one_text_each, texts] {
                let read = parameters.check_form(&form).into_result();
                prop_assert_eq!(read.as_ref(), Ok(&values));
            }
        }
    }
}
