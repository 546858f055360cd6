//! The text of a pipeline, in YAML, JSON or TOML, as a JSON value.
//!
//! YAML is read with bounds on what aliases may grow to, so that a small text does not become a
//! large value.

use std::path::Path;

use serde_json::{Map, Number, Value};

/// Bytes of a document at most.
pub const MAX_DOCUMENT: usize = 4 << 20;
/// Values within values at most.
const MAX_DEPTH: usize = 64;
/// Values that a document of YAML has at most, aliases replaced.
const MAX_VALUES: usize = 1_000_000;
/// Values that come from aliases at most.
const MAX_ALIASED: usize = 100_000;

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// JSON.
    Json,
    /// TOML 1.0.
    Toml,
}

/// Text that is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is too long.
    #[error("the document has {0} bytes; at most {MAX_DOCUMENT} are read")]
    TooLong(usize),
    /// It is not written as its format demands, or exceeds a limit.
    #[error("not valid as {format:?}: {reason}")]
    Invalid {
        /// As what it was read.
        format: Format,
        /// What the parser says, with the line.
        reason: String,
    },
}

impl Format {
    /// The format that the end of a file's name tells.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }

    /// Reads a text.
    ///
    /// # Errors
    /// It is too long, not well formed, or grows beyond a limit.
    pub fn read(self, text: &str) -> Result<Value, DocumentError> {
        if text.len() > MAX_DOCUMENT {
            return Err(DocumentError::TooLong(text.len()));
        }
        let read = match self {
            Self::Json => serde_json::from_str(text).map_err(|error| error.to_string()),
            Self::Toml => toml::from_str::<toml::Table>(text)
                .map(|table| of_toml(toml::Value::Table(table)))
                .map_err(|error| error.to_string()),
            Self::Yaml => {
                serde_saphyr::from_str_with_options(text, bounded()).map_err(|e| e.to_string())
            }
        };
        read.map_err(|reason| DocumentError::Invalid {
            format: self,
            reason: reason.trim_end().to_owned(),
        })
    }
}

fn bounded() -> serde_saphyr::Options {
    let mut options = serde_saphyr::Options::default();
    let mut budget = serde_saphyr::Budget::default();
    budget.max_depth = MAX_DEPTH;
    budget.max_nodes = MAX_VALUES;
    budget.max_documents = 1;
    // As in YAML 1.2: `n` and `off` are text.
    options.strict_booleans = true;
    options.budget = Some(budget);
    options.alias_limits.max_total_replayed_events = MAX_ALIASED;
    options
}

fn of_toml(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        toml::Value::Boolean(is) => Value::Bool(is),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(list) => list.into_iter().map(of_toml).collect(),
        toml::Value::Table(table) => {
            let entries = table.into_iter().map(|(key, value)| (key, of_toml(value)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn three_formats_say_the_same() {
        let want = json!({"nodes": {"a": {"use": "source", "with": {"list": [1, "n", true]}}}});
        let yaml = "nodes:\n  a: {use: source, with: {list: [1, n, true]}}\n";
        let toml = "[nodes.a]\nuse = \"source\"\nwith = { list = [1, \"n\", true] }\n";
        assert_eq!(Format::Yaml.read(yaml).unwrap(), want);
        assert_eq!(Format::Toml.read(toml).unwrap(), want);
        assert_eq!(Format::Json.read(&want.to_string()).unwrap(), want);
        assert_eq!(
            Format::of(Path::new("a/b.pipeline.yml")),
            Some(Format::Yaml)
        );
        assert_eq!(Format::of(Path::new("b.txt")), None);
    }

    #[test]
    fn bombs_and_anchors_within_themselves_are_refused() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let inner = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        let deep = "[".repeat(5_000);
        for text in [
            bomb.as_str(),
            "a: &a [*a]\n",
            &deep,
            "a: 1\na: 2\n",
            "--- a\n--- b\n",
        ] {
            let error = Format::Yaml.read(text).unwrap_err().to_string();
            assert!(error.starts_with("not valid as Yaml: "), "{error}");
        }
        assert!(Format::Json.read(&deep).is_err());
        assert!(Format::Toml.read(&format!("a = {deep}")).is_err());
        let long = " ".repeat(MAX_DOCUMENT + 1);
        assert!(matches!(
            Format::Yaml.read(&long),
            Err(DocumentError::TooLong(_))
        ));
    }
}
