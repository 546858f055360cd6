//! JSON as expressions see it, and back.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value as Jinja, ValueKind};
use serde_json::{Map, Number, Value};

/// Values within values that a result may have.
const MAX_DEPTH: usize = 64;
/// Values, and bytes of text, that a result may have.
const MAX_VALUES: usize = 1_000_000;
const MAX_BYTES: usize = 16 << 20;

/// An object whose values are converted when they are asked for.
#[derive(Debug)]
pub(super) struct Row(pub(super) Map<String, Value>);

impl Object for Row {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        self.0.get(key.as_str()?).map(to_jinja)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.keys().map(|key| Jinja::from(key.as_str())).collect())
    }
}

pub(super) fn to_jinja(value: &Value) -> Jinja {
    match value {
        Value::Null => Jinja::from(()),
        Value::Bool(is) => Jinja::from(*is),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Jinja::from(number),
            (None, Some(number)) => Jinja::from(number),
            (None, None) => Jinja::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Jinja::from(text.as_str()),
        Value::Array(list) => Jinja::from(list.iter().map(to_jinja).collect::<Vec<_>>()),
        Value::Object(map) => Jinja::from_object(Row(map.clone())),
    }
}

/// The result of an expression as JSON.
pub(super) fn from_jinja(value: &Jinja) -> Result<Value, String> {
    let mut budget = Budget {
        values: MAX_VALUES,
        bytes: MAX_BYTES,
    };
    budget.convert(value, 0)
}

struct Budget {
    values: usize,
    bytes: usize,
}

impl Budget {
    fn convert(&mut self, value: &Jinja, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(format!("the result is more than {MAX_DEPTH} levels deep"));
        }
        self.values = self
            .values
            .checked_sub(1)
            .ok_or_else(|| format!("the result has more than {MAX_VALUES} values"))?;
        match value.kind() {
            ValueKind::Undefined => Err("the value is undefined".to_owned()),
            ValueKind::None => Ok(Value::Null),
            ValueKind::Bool => Ok(Value::Bool(value.is_true())),
            ValueKind::Number => number(value),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Map => {
                let mut map = Map::new();
                for key in value.try_iter().map_err(|error| error.to_string())? {
                    let held = value.get_item(&key).map_err(|error| error.to_string())?;
                    let held = self.convert(&held, depth + 1)?;
                    let Value::String(key) = self.text(&key.to_string())? else {
                        continue;
                    };
                    map.insert(key, held);
                }
                Ok(Value::Object(map))
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let elements = value.try_iter().map_err(|error| error.to_string())?;
                elements
                    .map(|element| self.convert(&element, depth + 1))
                    .collect()
            }
            ValueKind::Invalid => Err(value.to_string()),
            kind => Err(format!("the result is of a kind that is no JSON: {kind}")),
        }
    }

    fn text(&mut self, text: &str) -> Result<Value, String> {
        self.bytes = self
            .bytes
            .checked_sub(text.len())
            .ok_or_else(|| format!("the result has more than {MAX_BYTES} bytes of text"))?;
        Ok(Value::String(text.to_owned()))
    }
}

fn number(value: &Jinja) -> Result<Value, String> {
    if value.is_integer() {
        if let Ok(number) = i64::try_from(value.clone()) {
            return Ok(Value::from(number));
        }
        if let Ok(number) = u64::try_from(value.clone()) {
            return Ok(Value::from(number));
        }
        return Err("the result is a number beyond 64 bits".to_owned());
    }
    let number = f64::try_from(value.clone()).map_err(|error| error.to_string())?;
    Number::from_f64(number)
        .map(Value::Number)
        .ok_or_else(|| format!("the result is {number}, which JSON has no word for"))
}
