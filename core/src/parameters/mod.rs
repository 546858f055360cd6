//! A JSON Schema as the fields of a form, and the validation of what is sent.
//!
//! [`field`] reads the schema, [`form`] turns the text of a form into values, `rules` checks values.
//! The messages are those of the reference runner, as its clients show them.

pub mod field;
pub mod form;
mod rules;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub use field::{DataField, Field, FieldKind, SchemaError};
pub use form::{Form, FormValue, UPLOAD};

use crate::file::Upload;
use rules::Rules;

/// What is wrong, by the key of the field. The empty key is the form as a whole.
pub type FieldErrors = BTreeMap<String, Vec<String>>;

/// A field that must be there and is not.
pub const MISSING: &str = "Missing data for required field.";
/// A field that is there and empty, where empty is no value.
pub const NULL: &str = "Field may not be null.";
/// A key that no field has.
pub const UNKNOWN: &str = "Unknown field.";
/// A value that is nested more than the limit.
pub const NESTED: &str = "Nested more than 64 levels deep.";

/// Arrays and objects in each other that a value may be. Readers of JSON stop at 128, and a value is put
/// into several objects on its way to the plugin.
const MAX_NESTING: usize = 64;

/// The parameters of a plugin or of a step.
#[derive(Debug)]
pub struct Parameters {
    schema: Value,
    fields: Vec<Field>,
    rules: Rules,
}

/// What became of the values that were sent.
#[derive(Debug, Default)]
pub struct Checked {
    /// The values that are right, in the order of the fields, defaults filled in.
    pub values: Map<String, Value>,
    /// What is wrong with the others.
    pub errors: FieldErrors,
}

impl Checked {
    /// The values, if nothing is wrong.
    ///
    /// # Errors
    /// What is wrong, by field.
    pub fn into_result(self) -> Result<Map<String, Value>, FieldErrors> {
        if self.errors.is_empty() {
            Ok(self.values)
        } else {
            Err(self.errors)
        }
    }
}

impl Parameters {
    /// Reads a schema; see `docs/protocol.md`. `null` means: no parameters.
    ///
    /// # Errors
    /// Says which keyword of which property is not usable.
    pub fn new(schema: Value) -> Result<Self, SchemaError> {
        let schema = field::normalised(schema)?;
        let fields = field::fields(&schema)?;
        let rules = Rules::new(&schema, &fields)?;
        Ok(Self {
            schema,
            fields,
            rules,
        })
    }

    /// The fields, in the order of the form.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The schema as the plugin gave it.
    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// The field with this key.
    pub fn field(&self, key: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.key == key)
    }

    /// The files to which values of these parameters refer.
    pub fn uploads(&self, values: &Map<String, Value>) -> Vec<Upload> {
        let of = |field: &Field| {
            let value = match &field.kind {
                FieldKind::Upload(_) => std::slice::from_ref(values.get(&field.key)?),
                FieldKind::List(items) if matches!(**items, FieldKind::Upload(_)) => {
                    values.get(&field.key)?.as_array()?.as_slice()
                }
                _ => return None,
            };
            Some(value)
        };
        let values = self.fields.iter().filter_map(of).flatten();
        values
            .filter_map(|value| serde_json::from_value(value.get(UPLOAD)?.clone()).ok())
            .collect()
    }

    /// The texts of a form that would send these values, each with its key.
    pub fn texts(&self, values: &Map<String, Value>) -> Vec<(String, String)> {
        let mut texts = Vec::new();
        for field in &self.fields {
            if let Some(value) = values.get(&field.key) {
                let of_field = field.kind.to_texts(value).into_iter();
                texts.extend(of_field.map(|text| (field.key.clone(), text)));
            }
        }
        texts
    }

    /// Checks what a form sent. Keys that no field has are ignored.
    pub fn check_form(&self, form: &Form) -> Checked {
        let mut checked = Checked::default();
        for field in &self.fields {
            let outcome = form::value(field, form);
            checked.take(field, outcome);
        }
        self.rules.check(&self.fields, &mut checked);
        checked
    }

    /// Checks a JSON object.
    pub fn check_json(&self, mut given: Map<String, Value>) -> Checked {
        let mut checked = Checked::default();
        for field in &self.fields {
            let outcome = match given.shift_remove(&field.key) {
                Some(Value::Null) if field.required => Err(NULL.to_owned()),
                Some(Value::Null) | None => Ok(None),
                Some(Value::String(text)) if text.is_empty() && field.kind.takes_url() => {
                    form::empty(&field.kind, field.required)
                }
                Some(value) => field.kind.check(value).map(Some),
            };
            checked.take(field, outcome);
        }
        for key in given.keys() {
            checked.errors.insert(key.clone(), vec![UNKNOWN.to_owned()]);
        }
        self.rules.check(&self.fields, &mut checked);
        checked
    }
}

impl Checked {
    fn take(&mut self, field: &Field, outcome: Result<Option<Value>, String>) {
        match outcome {
            Ok(Some(value)) if is_nested_deeper(&value, MAX_NESTING) => {
                self.add(&field.key, NESTED.to_owned());
            }
            Ok(Some(value)) => {
                self.values.insert(field.key.clone(), value);
            }
            Ok(None) if field.required => self.add(&field.key, field.message("required", MISSING)),
            Ok(None) => {
                if let Some(default) = &field.default {
                    self.values.insert(field.key.clone(), default.clone());
                }
            }
            Err(message) => self.add(&field.key, field.message("type", &message)),
        }
    }

    fn add(&mut self, key: &str, message: String) {
        let messages = self.errors.entry(key.to_owned()).or_default();
        if !messages.contains(&message) {
            messages.push(message);
        }
    }
}

/// Whether a value has more levels than these. Looks no deeper.
fn is_nested_deeper(value: &Value, levels: usize) -> bool {
    let mut inner: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(entries) => Box::new(entries.values()),
        _ => return false,
    };
    levels == 0 || inner.any(|value| is_nested_deeper(value, levels - 1))
}

#[cfg(test)]
mod tests;
