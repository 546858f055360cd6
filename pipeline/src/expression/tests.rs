//! What expressions say, that both ways say the same, and what is refused.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn params() -> Params {
    Params::new(json!({"least": 3}).as_object().unwrap())
}

fn value(text: &str, item: &Value) -> Result<Value, String> {
    let mut seen = item.clone();
    let value = Expression::new(text)?.value(&mut seen, &params());
    assert_eq!(seen, *item, "the item was changed");
    value
}

#[test]
fn expressions_see_item_and_params() {
    let item = json!({"name": "Ada", "years": 36, "tags": ["a", "b"], "at": {"x": 1.5}});
    for (text, want) in [
        ("item", item.clone()),
        ("item.name | upper", json!("ADA")),
        ("item['name'] | lower | reverse", json!("ada")),
        ("[item.name, item.tags[1]]", json!(["Ada", "b"])),
        ("item.years + params.least", json!(39)),
        (
            "{'n': item.name, 'at': item.at}",
            json!({"n": "Ada", "at": {"x": 1.5}}),
        ),
        ("item.missing is defined", json!(false)),
        ("item.missing | default('none')", json!("none")),
        (
            "item.tags | length > 1 and item.years >= params.least",
            json!(true),
        ),
        ("range(3)", json!([0, 1, 2])),
        ("18446744073709551615", json!(u64::MAX)),
        ("item.name ~ '-' ~ item.years", json!("Ada-36")),
    ] {
        assert_eq!(value(text, &item), Ok(want), "{text}");
    }
    let holds = |text: &str| Expression::new(text)?.holds(&mut json!({"n": 4}), &params());
    assert_eq!(holds("item.n > params.least"), Ok(true));
    assert_eq!(holds("item.n is odd"), Ok(false));
    assert!(holds("item.m").unwrap_err().contains("undefined"));
}

#[test]
fn what_cannot_be_evaluated_is_said() {
    for (text, want) in [
        ("item +", "not an expression: "),
        (
            "itme.x",
            "\"itme\" is not known; an expression sees `item` and `params`",
        ),
        ("item.x", "undefined"),
        ("item | frobnicate", "unknown filter"),
        ("1 / 0", ""),
    ] {
        let error = value(text, &json!({})).unwrap_err();
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[test]
fn no_expression_works_for_ever_or_makes_too_much() {
    let nested = "range(90000) | map('string') | join ~ (range(90000) | list | string)".to_owned();
    for text in [
        "'x' * 99999999",
        "[1] * 99999999",
        "[range(99999)] * 99999",
        "range(99999) | list | sum * 1",
        &nested,
        &format!("[{}1{}]", "range(99999)|sum + ".repeat(500), ""),
        &"[".repeat(5_000),
        &format!("{}1", "1 + ".repeat(2_000)),
    ] {
        let start = Instant::now();
        // Some are too much, others not; all end.
        let _ = value(text, &Value::Null);
        assert!(start.elapsed() < Duration::from_secs(5), "{text:.60}");
    }
    for text in ["'x' * 99999999", "[1] * 99999999", "[range(99999)] * 99999"] {
        assert!(value(text, &Value::Null).is_err(), "{text}");
    }
}

#[test]
fn templates_keep_what_is_fixed() {
    let template = json!({"a": 1, "b": [{"$expr": "item.n"}, 2], "c": {"$expr": "params.least"}});
    let template = Template::new(&template).unwrap();
    assert!(!template.is_constant());
    let value = template.value(&mut json!({"n": 5}), &params());
    assert_eq!(value, Ok(json!({"a": 1, "b": [5, 2], "c": 3})));
    assert!(
        Template::new(&json!({"$expr": "params.least"}))
            .unwrap()
            .is_constant()
    );
    let error = Template::new(&json!({"a": {"$expr": "("}})).unwrap_err();
    assert!(error.starts_with("a: not an expression"), "{error}");
}

proptest! {
    /// The short way says what the full way says.
    #[test]
    fn plain_is_full(text in "\\PC{0,12}", path in 0..5usize, filter in 0..5usize) {
        let path = ["item", "item.a", "item['a']", "item.b[1]", "item.b"][path];
        let filter = ["", "| upper", "|lower", " | reverse", "| length"][filter];
        let mut item = json!({"a": text, "b": [1, text]});
        let expression = Expression::new(&format!("{path}{filter}")).unwrap();
        let plain = expression.plain.as_ref().unwrap();
        if let Some(value) = plain.value(&item) {
            let full = expression.evaluate(&mut item, &params(), |value| from_jinja(&value));
            prop_assert_eq!(Ok(value), full);
        }
    }

    #[test]
    fn plain_comparisons_are_full(a in -3..3i64, text in "[ab]{0,2}", sign in 0..6usize) {
        let sign = ["==", "!=", "<", "<=", ">", ">="][sign];
        let mut item = json!({"n": a, "t": text});
        for right in ["n {} 1", "t {} 'ab'", "n{}0", "t {} 1", "n {} 'a'"] {
            let text = format!("item.{}", right.replace("{}", sign));
            let expression = Expression::new(&text).unwrap();
            let plain = expression.plain.as_ref().unwrap();
            if let Some(holds) = plain.holds(&item) {
                let full = expression.evaluate(&mut item, &params(), |value| Ok(value.is_true()));
                prop_assert_eq!(Ok(holds), full);
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[item.a|uperv\\[\\]'0-9+*(), ]{0,30}") {
        let _ = value(&text, &json!({"a": [1]}));
    }
}
