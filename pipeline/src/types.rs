//! What kind of items a node takes and gives, as far as that is known before it runs.

use std::fmt;

use serde_json::Value;

/// A kind of items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemType {
    /// Not known, or anything.
    Any,
    /// Null.
    Null,
    /// True or false.
    Boolean,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// Text.
    Text,
    /// A list of such.
    List(Box<ItemType>),
    /// An object.
    Object,
}

impl ItemType {
    /// The kind of a value.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(number) if number.is_f64() => Self::Number,
            Value::Number(_) => Self::Integer,
            Value::String(_) => Self::Text,
            Value::Array(list) => Self::List(Box::new(Self::common(list.iter().map(Self::of)))),
            Value::Object(_) => Self::Object,
        }
    }

    /// What all of these are.
    pub fn common(types: impl IntoIterator<Item = Self>) -> Self {
        let mut types = types.into_iter();
        let Some(first) = types.next() else {
            return Self::Any;
        };
        types.fold(first, |common, one| match (common, one) {
            (a, b) if a == b => a,
            (Self::Integer | Self::Number, Self::Integer | Self::Number) => Self::Number,
            _ => Self::Any,
        })
    }

    /// The kind that a JSON Schema describes, as far as its `type` tells.
    pub fn of_schema(schema: &Value) -> Self {
        match schema["type"].as_str() {
            Some("null") => Self::Null,
            Some("boolean") => Self::Boolean,
            Some("integer") => Self::Integer,
            Some("number") => Self::Number,
            Some("string") => Self::Text,
            Some("array") => Self::List(Box::new(Self::of_schema(&schema["items"]))),
            Some("object") => Self::Object,
            _ => Self::Any,
        }
    }

    /// Whether such items may go where others are wanted.
    pub fn fits(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Any, _) | (_, Self::Any) | (Self::Integer, Self::Number) => true,
            (Self::List(element), Self::List(wanted)) => element.fits(wanted),
            (one, other) => one == other,
        }
    }
}

impl fmt::Display for ItemType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::Null => f.write_str("null"),
            Self::Boolean => f.write_str("true or false"),
            Self::Integer => f.write_str("whole numbers"),
            Self::Number => f.write_str("numbers"),
            Self::Text => f.write_str("text"),
            Self::List(element) if **element == Self::Any => f.write_str("lists"),
            Self::List(element) => write!(f, "lists of {element}"),
            Self::Object => f.write_str("objects"),
        }
    }
}
