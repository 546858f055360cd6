//! What differs between two JSON values, and where.

use serde_json::Value;

/// A difference: at `place`, one side says `theirs` and the other `ours`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Where, such as `body.outputs[0].name`.
    pub place: String,
    /// What was recorded.
    pub theirs: String,
    /// What was answered.
    pub ours: String,
}

impl Difference {
    /// A difference of two texts; `None` is said as `(none)`.
    pub fn new(place: &str, theirs: Option<&str>, ours: Option<&str>) -> Self {
        let text = |side: Option<&str>| side.unwrap_or("(none)").to_owned();
        Self {
            place: place.to_owned(),
            theirs: text(theirs),
            ours: text(ours),
        }
    }
}

/// Collects all differences of two values. The order of keys does not count; arrays of different
/// lengths differ as a whole.
pub fn compare(place: &str, theirs: &Value, ours: &Value, found: &mut Vec<Difference>) {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let place = format!("{place}.{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => compare(&place, a, b, found),
                    (a, b) => found.push(differ(&place, a, b)),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{place}[{i}]"), a, b, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(differ(place, Some(a), Some(b))),
    }
}

fn differ(place: &str, theirs: Option<&Value>, ours: Option<&Value>) -> Difference {
    let (theirs, ours) = (theirs.map(Value::to_string), ours.map(Value::to_string));
    Difference::new(place, theirs.as_deref(), ours.as_deref())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_are_named() {
        let theirs = json!({"a": [{"b": 1}, 2], "c": "x", "gone": null, "list": [1]});
        let ours = json!({"c": "y", "a": [{"b": 3}, 2], "new": true, "list": []});
        let mut found = Vec::new();
        compare("body", &theirs, &ours, &mut found);
        let text: Vec<_> = found
            .iter()
            .map(|d| format!("{} {} {}", d.place, d.theirs, d.ours))
            .collect();
        assert_eq!(
            text,
            [
                "body.a[0].b 1 3",
                "body.c \"x\" \"y\"",
                "body.gone null (none)",
                "body.list [1] []",
                "body.new (none) true",
            ]
        );
    }
}
