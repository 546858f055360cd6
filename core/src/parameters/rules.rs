//! Checks values against the bounds of the schema.

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::Checked;
use super::field::{Field, FieldKind, SchemaError};

/// The schema, compiled. Presence and kinds of values are checked elsewhere, so `required` and the
/// schemas of uploads are left out.
#[derive(Debug)]
pub(super) struct Rules(Validator);

impl Rules {
    pub(super) fn new(schema: &Value, fields: &[Field]) -> Result<Self, SchemaError> {
        let mut schema = schema.clone();
        if let Some(object) = schema.as_object_mut() {
            object.shift_remove("required");
        }
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            for field in fields {
                let holds_uploads = match &field.kind {
                    FieldKind::Upload(_) => true,
                    FieldKind::List(items) => matches!(**items, FieldKind::Upload(_)),
                    _ => false,
                };
                if holds_uploads {
                    properties.insert(field.key.clone(), json!({}));
                }
            }
        }
        let validator = jsonschema::validator_for(&schema).map_err(|error| {
            SchemaError::Invalid(format!("{error} at {}", error.instance_path()))
        })?;
        let rules = Self(validator);
        for field in fields {
            rules.check_default(field)?;
        }
        Ok(rules)
    }

    fn check_default(&self, field: &Field) -> Result<(), SchemaError> {
        let Some(default) = &field.default else {
            return Ok(());
        };
        let alone: Map<_, _> = [(field.key.clone(), default.clone())].into_iter().collect();
        let alone = Value::Object(alone);
        match self
            .0
            .iter_errors(&alone)
            .find(|error| key_of(error).as_deref() == Some(&field.key))
        {
            None => Ok(()),
            Some(error) => Err(SchemaError::Property {
                key: field.key.clone(),
                problem: format!("its default does not fit its schema: {error}"),
            }),
        }
    }

    pub(super) fn check(&self, fields: &[Field], checked: &mut Checked) {
        let values = Value::Object(std::mem::take(&mut checked.values));
        let mut broken = Vec::new();
        for error in self.0.iter_errors(&values) {
            let keyword = error.kind().keyword();
            let field = key_of(&error).and_then(|key| fields.iter().find(|field| field.key == key));
            broken.push(match field {
                Some(field) => (
                    field.key.clone(),
                    field.message(keyword, &message(field, &error)),
                ),
                None => (String::new(), error.to_string()),
            });
        }
        if let Value::Object(values) = values {
            checked.values = values;
        }
        for (key, text) in broken {
            // A rule over several fields says nothing new while one of them is wrong.
            if key.is_empty() && !checked.errors.is_empty() {
                continue;
            }
            checked.values.shift_remove(&key);
            checked.add(&key, text);
        }
    }
}

fn key_of(error: &jsonschema::ValidationError<'_>) -> Option<String> {
    let path = error.instance_path().to_string();
    let first = path.strip_prefix('/')?.split('/').next()?;
    Some(first.replace("~1", "/").replace("~0", "~"))
}

fn message(field: &Field, error: &jsonschema::ValidationError<'_>) -> String {
    let keyword = error.kind().keyword();
    let limit = field
        .schema
        .get(keyword)
        .map(ToString::to_string)
        .unwrap_or_default();
    match keyword {
        "minimum" => format!("Must be greater than or equal to {limit}."),
        "exclusiveMinimum" => format!("Must be greater than {limit}."),
        "maximum" => format!("Must be less than or equal to {limit}."),
        "exclusiveMaximum" => format!("Must be less than {limit}."),
        "minLength" | "minItems" => format!("Shorter than minimum length {limit}."),
        "maxLength" | "maxItems" => format!("Longer than maximum length {limit}."),
        "pattern" => "String does not match expected pattern.".to_owned(),
        "enum" | "const" => FieldKind::Choice(Vec::new()).expectation().to_owned(),
        "type" => field.kind.expectation().to_owned(),
        _ => {
            let mut text = error.to_string();
            if text.len() > 300 {
                text = text.chars().take(300).collect::<String>() + "…";
            }
            text
        }
    }
}
