//! The keys of an object in a document, each with its place.

use std::time::Duration;

use serde_json::{Map, Value};

use super::error::{GraphError, GraphProblem, error, expected};

/// How long a wait may be at most: a week.
const MAX_SECONDS: f64 = 604_800.0;

/// An object, and where it stands.
pub(super) struct Fields<'a> {
    pub(super) place: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The value as an object that has no other keys than these.
    pub(super) fn of(place: String, value: &'a Value, known: &[&str]) -> Result<Self, GraphError> {
        let Value::Object(map) = value else {
            return expected(place, "an object");
        };
        for key in map.keys() {
            if !known.contains(&key.as_str()) {
                let place = match place.is_empty() {
                    true => key.clone(),
                    false => format!("{place}.{key}"),
                };
                return error(place, GraphProblem::UnknownKey(known.join(", ")));
            }
        }
        Ok(Self { place, map })
    }

    /// Where a key stands.
    pub(super) fn at(&self, key: &str) -> String {
        match self.place.is_empty() {
            true => key.to_owned(),
            false => format!("{}.{key}", self.place),
        }
    }

    /// A value; null is none.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, GraphError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => expected(self.at(key), "text"),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, GraphError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(is)) => Ok(Some(*is)),
            Some(_) => expected(self.at(key), "true or false"),
        }
    }

    /// A whole number from one to `most`.
    pub(super) fn count(&self, key: &str, most: u64) -> Result<Option<usize>, GraphError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_u64().filter(|number| (1..=most).contains(number)) {
            Some(number) => Ok(usize::try_from(number).ok()),
            None => expected(self.at(key), &format!("a number from 1 to {most}")),
        }
    }

    /// A number above zero.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, GraphError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_f64().filter(|number| *number > 0.0) {
            Some(number) => Ok(Some(number)),
            None => expected(self.at(key), "a number above 0"),
        }
    }

    pub(super) fn seconds(&self, key: &str) -> Result<Option<Duration>, GraphError> {
        match self.number(key)? {
            None => Ok(None),
            Some(seconds) if seconds <= MAX_SECONDS => Ok(Some(Duration::from_secs_f64(seconds))),
            Some(_) => expected(self.at(key), "seconds, at most 604800"),
        }
    }
}
