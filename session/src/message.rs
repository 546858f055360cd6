//! A Jupyter message: who says what, in answer to what.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Which of a kernel's sockets a message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// Requests to the kernel, one after the other, and their replies.
    Shell,
    /// What the kernel tells everyone: status, output.
    Iopub,
    /// The kernel asks the user.
    Stdin,
    /// Interrupt and shutdown, beside the queue of `shell`.
    Control,
}

impl Channel {
    /// All channels.
    pub const ALL: [Self; 4] = [Self::Shell, Self::Iopub, Self::Stdin, Self::Control];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Iopub => "iopub",
            Self::Stdin => "stdin",
            Self::Control => "control",
        }
    }

    /// The channel of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|channel| channel.as_str() == name)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a message is and which. Only the two identifying fields are always there: Sage Cell
/// clients leave out `date` and `version`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Header {
    /// Unique among the messages of a session.
    pub msg_id: String,
    /// What is said, such as `execute_request`.
    pub msg_type: String,
    /// The client's session.
    #[serde(default)]
    pub session: String,
    /// The user's name.
    #[serde(default)]
    pub username: String,
    /// When it was made, ISO 8601; kept as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Version of the messaging protocol, such as `5.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Further fields, which are passed on.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A JSON object that is passed on as it was written; read with [`Json::read`] where its content
/// matters.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The object of any value that serialises to one.
    pub fn new<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Self> {
        Self::of_raw(serde_json::value::to_raw_value(value)?)
    }

    /// Reads the object as a type.
    pub fn read<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.0.get())
    }

    /// The object as written.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    fn of_raw(raw: Box<RawValue>) -> serde_json::Result<Self> {
        if raw.get().starts_with('{') {
            Ok(Self(raw))
        } else {
            Err(serde_json::Error::custom("expected an object"))
        }
    }
}

impl Default for Json {
    /// The empty object.
    fn default() -> Self {
        Self(RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for Json {
    /// Whether both are written alike.
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of_raw(Box::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A Jupyter message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Where it belongs.
    pub channel: Channel,
    /// What it is.
    pub header: Header,
    /// What it answers, if anything.
    pub parent_header: Option<Header>,
    /// Remarks.
    pub metadata: Json,
    /// What is said.
    pub content: Json,
    /// Binary parts.
    pub buffers: Vec<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn channels_by_name() {
        for channel in Channel::ALL {
            assert_eq!(Channel::parse(channel.as_str()), Some(channel));
            assert_eq!(
                serde_json::to_value(channel).unwrap(),
                json!(channel.as_str())
            );
        }
        assert_eq!(Channel::parse("hb"), None);
    }

    #[test]
    fn headers_may_lack_fields_and_have_more() {
        let text =
            r#"{"msg_id":"1","msg_type":"x","session":"s","username":"u","subshell_id":null}"#;
        let header: Header = serde_json::from_str(text).unwrap();
        assert_eq!(header.date, None);
        assert_eq!(header.more["subshell_id"], Value::Null);
        assert_eq!(serde_json::to_string(&header).unwrap(), text);
        assert!(serde_json::from_str::<Header>(r#"{"msg_id":"1"}"#).is_err());
    }

    #[test]
    fn objects_only() {
        assert_eq!(Json::default().as_str(), "{}");
        assert_eq!(
            Json::new(&json!({"a": 1}))
                .unwrap()
                .read::<Value>()
                .unwrap(),
            json!({"a": 1})
        );
        assert!(Json::new("text").is_err());
        assert!(serde_json::from_str::<Json>("[1]").is_err());
        assert!(serde_json::from_str::<Json>(" {\"a\": 1} ").is_ok());
    }
}
