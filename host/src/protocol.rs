//! The messages between runner and host. `docs/protocol.md` is their prose.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use runner_core::plugin::Link;
use runner_core::task::Progress;

/// The version of the protocol that this runner speaks.
pub const PROTOCOL: u64 = 1;
/// The longest line, in bytes.
pub const MAX_LINE: usize = 1024 * 1024;
/// Bytes of the outputs of one run that may come as text instead of as files.
pub const OUTPUT_TEXT: usize = 1024 * 1024;
/// Error code of a run that was cancelled.
pub const CANCELLED: i64 = -32001;
/// Error code of a plugin's failure.
pub const FAILED: i64 = -32000;
/// Error code of an unknown method, from JSON-RPC 2.0.
pub const UNKNOWN_METHOD: i64 = -32601;

/// The parameters of `run`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRequest {
    /// Number of the task.
    pub task: i64,
    /// Which dispatch of the task this is.
    pub run: i64,
    /// Identifier of the plugin.
    pub plugin: String,
    /// The step to process, as declared.
    pub step: Option<String>,
    /// The id under which the step was added.
    pub step_id: Option<String>,
    /// What was submitted.
    pub parameters: Map<String, Value>,
    /// Files by parameter.
    pub inputs: Map<String, Value>,
    /// What the previous run of the task kept.
    pub data: Value,
    /// The run's own directory.
    pub directory: String,
    /// The base URL of the request that made the task, without a slash at the end.
    pub base_url: String,
    /// Bytes of its outputs that may come as text: [`OUTPUT_TEXT`].
    pub output_text: usize,
}

/// A file for a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// Where it lies.
    pub path: String,
    /// Its plain name.
    pub name: String,
    /// Media type.
    pub content_type: String,
    /// What it means.
    pub data_type: String,
    /// Where it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Bytes.
    pub size: u64,
}

/// The answer to `run`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RunAnswer {
    /// An entry of the log.
    #[serde(default)]
    pub log: Option<String>,
    /// What the task keeps; `Some(Null)` clears it.
    #[serde(default, deserialize_with = "present")]
    pub data: Option<Value>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What a host tells during a run.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEvent {
    /// An entry of the log.
    Log(String),
    /// How far it is.
    Progress(Progress),
    /// A file to keep.
    Output(OutputNote),
    /// A step to wait for.
    Step(StepNote),
    /// A link to show.
    Link(Link),
}

/// The parameters of `output`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputNote {
    /// Where its content is.
    #[serde(flatten)]
    pub content: OutputContent,
    /// What it is called; its file name if absent.
    #[serde(default)]
    pub name: Option<String>,
    /// What it means.
    #[serde(default)]
    pub data_type: Option<String>,
    /// Media type; guessed from the name if absent.
    #[serde(default)]
    pub content_type: Option<String>,
}

/// Where the content of an output is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OutputContent {
    /// In a file: its path, relative to the run's directory, or absolute inside of it.
    Path(String),
    /// Here: what was short was never a file in the run's directory.
    Text(String),
    /// Elsewhere: it is not taken over.
    Url(String),
}

/// The parameters of `step`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepNote {
    /// The step as declared.
    pub step: String,
    /// Its id in the task; `step` if absent.
    #[serde(default)]
    pub step_id: Option<String>,
    /// Values that prefill its form.
    #[serde(default)]
    pub values: Map<String, Value>,
}

/// The parameters of `call`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct CallRequest {
    /// Identifier, name or URL of the plugin.
    pub plugin: String,
    /// What is submitted to it.
    #[serde(default)]
    pub parameters: Map<String, Value>,
}

/// An error of JSON-RPC 2.0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RpcError {
    /// What kind.
    pub code: i64,
    /// One line.
    pub message: String,
    /// More; `traceback` is text.
    #[serde(default)]
    pub data: Value,
}

impl RpcError {
    /// The message, an empty line, and the traceback if there is one.
    pub fn text(&self) -> String {
        match self.data.get("traceback").and_then(Value::as_str) {
            Some(traceback) => format!("{}\n\n{traceback}", self.message),
            None => self.message.clone(),
        }
    }
}

/// A line from a host, understood.
#[derive(Debug, PartialEq)]
pub(crate) enum Incoming {
    Answer {
        id: u64,
        result: Result<Value, RpcError>,
    },
    Event(RunEvent),
    Fetch {
        id: Value,
        url: String,
    },
    Call {
        id: Value,
        call: CallRequest,
    },
    UnknownRequest {
        id: Value,
        method: String,
    },
    /// A notification of a newer protocol.
    Ignored,
}

/// Understands a line. What a notification or request says about another task than `task` is ignored: a
/// thread of an earlier run may have sent it. The error says what is wrong with the line.
pub(crate) fn parse(line: &[u8], task: Option<i64>) -> Result<Incoming, String> {
    #[derive(Deserialize)]
    struct Message {
        #[serde(default)]
        id: Value,
        method: Option<String>,
        #[serde(default)]
        params: Value,
        #[serde(default, deserialize_with = "present")]
        result: Option<Value>,
        error: Option<RpcError>,
    }
    let message: Message = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let Some(method) = message.method else {
        let id = message
            .id
            .as_u64()
            .ok_or("neither a method nor the id of a request")?;
        let result = match (message.error, message.result) {
            (Some(error), _) => Err(error),
            (None, Some(result)) => Ok(result),
            (None, None) => return Err("an answer without result or error".to_owned()),
        };
        return Ok(Incoming::Answer { id, result });
    };
    let params = message.params;
    let about = params.get("task").and_then(Value::as_i64);
    let is_other = about.is_some() && task.is_some() && about != task;
    if is_other && message.id.is_null() {
        return Ok(Incoming::Ignored);
    }
    fn read<T: serde::de::DeserializeOwned>(method: &str, params: Value) -> Result<T, String> {
        serde_json::from_value(params).map_err(|error| format!("params of {method}: {error}"))
    }
    #[derive(Deserialize)]
    struct Text {
        text: String,
    }
    #[derive(Deserialize)]
    struct Url {
        url: String,
    }
    if !message.id.is_null() {
        return match method.as_str() {
            "call" => Ok(Incoming::Call {
                id: message.id,
                call: read(&method, params)?,
            }),
            "fetch" => Ok(Incoming::Fetch {
                id: message.id,
                url: read::<Url>(&method, params)?.url,
            }),
            _ => Ok(Incoming::UnknownRequest {
                id: message.id,
                method,
            }),
        };
    }
    Ok(Incoming::Event(match method.as_str() {
        "log" => RunEvent::Log(read::<Text>(&method, params)?.text),
        "progress" => RunEvent::Progress(read(&method, params)?),
        "output" => RunEvent::Output(read(&method, params)?),
        "step" => RunEvent::Step(read(&method, params)?),
        "link" => RunEvent::Link(read(&method, params)?),
        _ => return Ok(Incoming::Ignored),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn answers_events_and_requests_are_told_apart() {
        assert_eq!(
            parse(br#"{"jsonrpc":"2.0","id":1,"result":null}"#, Some(1)),
            Ok(Incoming::Answer {
                id: 1,
                result: Ok(Value::Null)
            })
        );
        assert_eq!(
            parse(
                br#"{"method":"log","params":{"text":"x","task":1}}"#,
                Some(1)
            ),
            Ok(Incoming::Event(RunEvent::Log("x".to_owned())))
        );
        assert_eq!(
            parse(
                br#"{"id":"a","method":"fetch","params":{"url":"u"}}"#,
                Some(1)
            ),
            Ok(Incoming::Fetch {
                id: json!("a"),
                url: "u".to_owned()
            })
        );
        assert_eq!(
            parse(
                br#"{"method":"log","params":{"text":"x","task":2}}"#,
                Some(1)
            ),
            Ok(Incoming::Ignored),
            "a late word about another task"
        );
        assert_eq!(
            parse(br#"{"method":"future","params":{}}"#, Some(1)),
            Ok(Incoming::Ignored)
        );
    }

    #[test]
    fn an_output_is_a_file_or_a_text_or_elsewhere() {
        let content = |line: &[u8]| match parse(line, Some(1)) {
            Ok(Incoming::Event(RunEvent::Output(note))) => Ok(note.content),
            other => Err(format!("{other:?}")),
        };
        assert_eq!(
            content(br#"{"method":"output","params":{"name":"n","path":"a/b","task":1}}"#),
            Ok(OutputContent::Path("a/b".to_owned()))
        );
        assert_eq!(
            content(br#"{"method":"output","params":{"text":"\u00fc\u0000","name":"n"}}"#),
            Ok(OutputContent::Text("ü\0".to_owned()))
        );
        assert_eq!(
            content(br#"{"method":"output","params":{"url":"http://a/b","name":"n"}}"#),
            Ok(OutputContent::Url("http://a/b".to_owned()))
        );
        for params in [r#"{"name":"n"}"#, r#"{"path":1}"#, r#"{"text":null}"#] {
            let line = format!(r#"{{"method":"output","params":{params}}}"#);
            let error = parse(line.as_bytes(), Some(1)).unwrap_err();
            assert!(error.contains("params of output"), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(parse(b"hello", Some(1)).is_err());
        assert!(
            parse(br#"{"method":"log","params":{}}"#, Some(1))
                .unwrap_err()
                .contains("params of log")
        );
        assert!(
            parse(br#"{"id":1}"#, Some(1))
                .unwrap_err()
                .contains("without result")
        );
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&line, None);
        }
    }
}
