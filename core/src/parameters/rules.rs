//! Checks values against the bounds of the schema.

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Value, json};

use super::field::{Field, FieldKind, SchemaError};
use super::{Checked, MAX_NESTING, NESTED, is_nested_deeper};

/// Characters of a message; what is cut comes from the schema or the names of keys.
const MAX_MESSAGE: usize = 300;

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
        if is_nested_deeper(default, MAX_NESTING) {
            return Err(SchemaError::Property {
                key: field.key.clone(),
                problem: format!("its default is not usable: {NESTED}"),
            });
        }
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
                None => (String::new(), broken_rule(&error)),
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

fn key_of(error: &ValidationError<'_>) -> Option<String> {
    let path = error.instance_path().to_string();
    let first = path.strip_prefix('/')?.split('/').next()?;
    Some(first.replace("~1", "/").replace("~0", "~"))
}

fn message(field: &Field, error: &ValidationError<'_>) -> String {
    match error.kind() {
        Kind::Enum { .. } | Kind::Constant { .. } => {
            FieldKind::Choice(Vec::new()).expectation().to_owned()
        }
        Kind::Type { .. } => field.kind.expectation().to_owned(),
        _ => broken_rule(error),
    }
}

/// Which rule is broken. Never with the value, which may be a secret or very long.
fn broken_rule(error: &ValidationError<'_>) -> String {
    let text = match error.kind() {
        Kind::Minimum { limit } => format!("Must be greater than or equal to {limit}."),
        Kind::ExclusiveMinimum { limit } => format!("Must be greater than {limit}."),
        Kind::Maximum { limit } => format!("Must be less than or equal to {limit}."),
        Kind::ExclusiveMaximum { limit } => format!("Must be less than {limit}."),
        Kind::MultipleOf { multiple_of } => format!("Must be a multiple of {multiple_of}."),
        Kind::MinLength { limit } | Kind::MinItems { limit } => {
            format!("Shorter than minimum length {limit}.")
        }
        Kind::MaxLength { limit } | Kind::MaxItems { limit } => {
            format!("Longer than maximum length {limit}.")
        }
        Kind::Pattern { .. }
        | Kind::BacktrackLimitExceeded { .. }
        | Kind::RegexEngineFailure { .. } => "String does not match expected pattern.".to_owned(),
        Kind::UniqueItems => "Has an item twice.".to_owned(),
        Kind::Contains => "Lacks an item that must be there.".to_owned(),
        Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => {
            "Fits none of the allowed forms.".to_owned()
        }
        Kind::OneOfMultipleValid { .. } => "Fits more than one of the allowed forms.".to_owned(),
        Kind::Not { .. } | Kind::FalseSchema => "Is not allowed.".to_owned(),
        Kind::PropertyNames { .. } => "Has a key that is not allowed.".to_owned(),
        _ => error.masked_with("The value").to_string(),
    };
    match text.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
