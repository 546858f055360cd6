//! How a run fails, on both sides of the ABI.

use std::error::Error;
use std::panic::Location;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Codes of JSON-RPC errors in the plugin protocol.
pub mod code {
    /// The plugin failed.
    pub const FAILED: i64 = -32000;
    /// The run was cancelled.
    pub const CANCELLED: i64 = -32001;
    /// No such request.
    pub const UNKNOWN_METHOD: i64 = -32601;
    /// The params are no JSON, or lack something.
    pub const INVALID_PARAMS: i64 = -32602;
    /// One side broke the protocol or the ABI.
    pub const INTERNAL: i64 = -32603;
}

/// A failed run or request as the protocol has it: the `error` of a JSON-RPC response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RunFailure {
    /// One of [`code`], or the plugin's own.
    pub code: i64,
    /// One line that names the cause.
    pub message: String,
    /// Where and why in detail.
    pub traceback: Option<String>,
}

impl RunFailure {
    /// A failure without a traceback.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            traceback: None,
        }
    }

    /// The `error` of a JSON-RPC response.
    pub fn to_json(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(traceback) = &self.traceback {
            error["data"] = json!({"traceback": traceback});
        }
        error
    }
}

/// Why a plugin could not do what it was asked: what its functions return as an error.
///
/// Every [`std::error::Error`] becomes one through `?`; its causes and the place of the `?` are
/// kept as the traceback. [`Failure::new`] is for what the plugin itself finds wrong.
///
/// ```
/// # use runner_sdk::Failure;
/// fn rows(text: &str) -> Result<u32, Failure> {
///     let rows = text.parse()?;
///     if rows == 0 {
///         return Err(Failure::new("there are no rows"));
///     }
///     Ok(rows)
/// }
/// assert_eq!(rows("0").unwrap_err().message(), "there are no rows");
/// assert_eq!(rows("x").unwrap_err().message(), "invalid digit found in string");
/// ```
#[derive(Debug)]
pub struct Failure(RunFailure);

impl Failure {
    /// A failure with a message for the user. Its first line is the message proper.
    pub fn new(message: impl Into<String>) -> Self {
        Self::with_code(code::FAILED, message)
    }

    /// What a run returns that has noticed that it is cancelled.
    pub fn cancelled() -> Self {
        Self::with_code(code::CANCELLED, "cancelled")
    }

    /// Puts `what` before the message: what was attempted when this went wrong.
    #[must_use]
    pub fn context(mut self, what: impl std::fmt::Display) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What the host answered to a request that failed.
    pub(crate) fn of_request(failure: RunFailure) -> Self {
        Self(RunFailure {
            code: code::FAILED,
            ..failure
        })
    }

    pub(crate) fn with_code(code: i64, message: impl Into<String>) -> Self {
        let (message, traceback) = split(message.into());
        Self(RunFailure {
            code,
            message,
            traceback,
        })
    }
}

impl From<Failure> for RunFailure {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

impl<E: Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        let (mut message, rest) = split(error.to_string());
        let mut traceback = format!("at {}", Location::caller());
        if let Some(rest) = rest {
            traceback.push('\n');
            traceback.push_str(&rest);
        }
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many errors quote their cause already.
            if !message.contains(&text) {
                let (line, _) = split(text.clone());
                message = format!("{message}: {line}");
            }
            traceback.push_str("\ncaused by: ");
            traceback.push_str(&text);
            cause = error.source();
        }
        Self(RunFailure {
            code: code::FAILED,
            message,
            traceback: Some(traceback),
        })
    }
}

/// The first line, and the others if there are any.
fn split(text: String) -> (String, Option<String>) {
    match text.split_once('\n') {
        Some((first, rest)) => (first.trim_end().to_owned(), Some(rest.to_owned())),
        None => (text, None),
    }
}

/// Bytes of `{"result": …}` or `{"error": …}`.
pub(crate) fn encode(answer: Result<Value, RunFailure>) -> Vec<u8> {
    let envelope = match answer {
        Ok(result) => json!({"result": result}),
        Err(failure) => json!({"error": failure.to_json()}),
    };
    envelope.to_string().into_bytes()
}

/// Reads what [`encode`] wrote on the other side. `Err` is the reason why the bytes are no answer.
pub(crate) fn decode(bytes: &[u8]) -> Result<Result<Value, RunFailure>, String> {
    #[derive(Deserialize)]
    struct Envelope {
        #[serde(default, deserialize_with = "present")]
        result: Option<Value>,
        error: Option<ErrorObject>,
    }
    #[derive(Serialize, Deserialize)]
    struct ErrorObject {
        #[serde(default = "failed")]
        code: i64,
        message: String,
        data: Option<Value>,
    }
    fn failed() -> i64 {
        code::FAILED
    }
    // A result of `null` is a result.
    fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
        Value::deserialize(value).map(Some)
    }

    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match (envelope.result, envelope.error) {
        (_, Some(error)) => Ok(Err(RunFailure {
            code: error.code,
            message: error.message,
            traceback: error
                .data
                .as_ref()
                .and_then(|data| data.get("traceback"))
                .and_then(Value::as_str)
                .map(str::to_owned),
        })),
        (Some(result), None) => Ok(Ok(result)),
        (None, None) => Err("it has neither `result` nor `error`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_one_line_its_causes_and_its_place() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot count the sheep\nthey ran")]
        struct Outer(#[source] std::io::Error);
        fn fails() -> Result<(), Failure> {
            Err(Outer(std::io::Error::other("no fence")))?;
            Ok(())
        }
        let failure = RunFailure::from(fails().unwrap_err());
        assert_eq!(failure.message, "cannot count the sheep: no fence");
        let traceback = failure.traceback.unwrap();
        assert!(traceback.contains("failure.rs:"), "{traceback}");
        assert!(
            traceback.ends_with("they ran\ncaused by: no fence"),
            "{traceback}"
        );
    }

    #[test]
    fn answers_survive_the_border() {
        let failure = RunFailure {
            traceback: Some("here".into()),
            ..RunFailure::new(-1, "no")
        };
        assert_eq!(decode(&encode(Err(failure.clone()))), Ok(Err(failure)));
        assert_eq!(decode(&encode(Ok(Value::Null))), Ok(Ok(Value::Null)));
        assert_eq!(
            decode(b"{}"),
            Err("it has neither `result` nor `error`".to_owned())
        );
        assert!(decode(b"\xff").is_err());
    }
}
