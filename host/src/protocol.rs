//! The messages between runner and host. `docs/protocol.md` is their prose.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use runner_core::plugin::Link;
use runner_core::task::Progress;

/// The version of the protocol that this runner speaks.
pub const PROTOCOL: u64 = 1;
/// The longest line, in bytes.
pub const MAX_LINE: usize = 1024 * 1024;
/// The longest item of a pipeline that goes to a host or comes from one, as JSON, in bytes.
pub const MAX_ITEM: usize = 16 * 1024 * 1024;
/// The longest line between a pipeline and a host: an item, and what stands around it.
pub const MAX_ITEMS_LINE: usize = MAX_ITEM + 2 * MAX_LINE;
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
    /// What is seen of a pipeline.
    Pipeline(PipelineNote),
    /// Items that pass, for who follows the run.
    Items(ItemsNote),
}

/// The parameters of `pipeline`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct PipelineNote {
    /// Its nodes and edges, told once.
    #[serde(default)]
    pub graph: Option<Value>,
    /// What they have done by now.
    pub seen: Value,
}

/// The parameters of `items`. They are not kept: who does not follow misses them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemsNote {
    /// Where they passed.
    #[serde(flatten)]
    pub place: ItemsPlace,
    /// The items, as JSON values.
    pub items: Vec<Value>,
}

/// Where items passed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ItemsPlace {
    /// They left the pipeline at this node.
    Output {
        /// The node.
        node: String,
        /// How many had left there before them in this run.
        first: u64,
    },
    /// They are samples of what passes on this edge.
    Tap {
        /// The edge, `FROM->TO`.
        edge: String,
    },
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

/// What a run asks for and waits, perhaps for long.
#[derive(Debug, Clone, PartialEq)]
pub enum CallRequest {
    /// `call`: that another plugin is run.
    Plugin(PluginCall),
    /// `wanted`: what is wanted of the pipeline, as soon as it is another version than this.
    Wanted(WantedAfter),
}

/// The parameters of `call`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct PluginCall {
    /// Identifier, name or URL of the plugin.
    pub plugin: String,
    /// What is submitted to it.
    #[serde(default)]
    pub parameters: Map<String, Value>,
}

/// The parameters of `node`: a pipeline needs a host in which a plugin is a node, asks how one ended, or exchanges files
/// with one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NodeRequest {
    /// Identifier or name of the plugin; empty if none is to be opened.
    #[serde(default)]
    pub plugin: String,
    /// Its parameters, where they are the same for every item.
    #[serde(default)]
    pub with: Option<Map<String, Value>>,
    /// The host that it had, and that is of no more use.
    #[serde(default)]
    pub lost: Option<u64>,
    /// The host with which files are exchanged, where that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<u64>,
    /// Files of the pipeline that the host is to read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub give: Vec<String>,
    /// Files that the host has made, for the pipeline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub take: Vec<String>,
    /// What these are called, where that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Files that were given, and are of no more use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forget: Vec<String>,
}

/// A file that was given or taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Where it is for the one that gets it.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Under which URL other plugins may read it, if they may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// The answer to `node`. A host that was not named before comes with a descriptor.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NodeOpened {
    /// The number of the host in this run; none if the plugin is called instead.
    pub host: Option<u64>,
    /// Whether the host was not named before, and its socket was handed over.
    #[serde(default, rename = "isNew")]
    pub is_new: bool,
    /// Identifier of the plugin.
    pub plugin: String,
    /// Its parameters, checked, defaults filled in; what was asked for if that was nothing.
    pub with: Option<Map<String, Value>>,
    /// Whether it makes items of nothing.
    #[serde(default)]
    pub source: bool,
    /// What its results depend on beside items and parameters: the digest of its module.
    #[serde(default)]
    pub digest: String,
    /// Whether an item may be worked on again after its host was lost.
    pub repeatable: bool,
    /// How the lost host ended.
    #[serde(default)]
    pub lost: Option<String>,
    /// Where the host may write files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// What was given, and what was taken, in the order of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carried: Vec<Carried>,
}

/// The parameters of `wanted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct WantedAfter {
    /// The version that is known.
    pub version: u64,
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
    Node {
        id: Value,
        node: NodeRequest,
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
                call: CallRequest::Plugin(read(&method, params)?),
            }),
            "wanted" => Ok(Incoming::Call {
                id: message.id,
                call: CallRequest::Wanted(read(&method, params)?),
            }),
            "node" => Ok(Incoming::Node {
                id: message.id,
                node: read(&method, params)?,
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
        "pipeline" => RunEvent::Pipeline(read(&method, params)?),
        "items" => RunEvent::Items(read(&method, params)?),
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
    fn what_pipelines_tell_and_ask_is_understood() {
        let line = br#"{"method":"items","params":{"output":{"node":"a","first":3},"items":[1]}}"#;
        let place = ItemsPlace::Output {
            node: "a".to_owned(),
            first: 3,
        };
        let items = vec![json!(1)];
        assert_eq!(
            parse(line, Some(1)),
            Ok(Incoming::Event(RunEvent::Items(ItemsNote { place, items })))
        );
        let line = br#"{"id":7,"method":"wanted","params":{"task":1,"version":2}}"#;
        assert_eq!(
            parse(line, Some(1)),
            Ok(Incoming::Call {
                id: json!(7),
                call: CallRequest::Wanted(WantedAfter { version: 2 })
            })
        );
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
