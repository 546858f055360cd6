//! How a message travels over a WebSocket.
//!
//! - [`Framing::V1`], subprotocol `v1.kernel.websocket.jupyter.org`, binary frames:
//!
//! ```text
//! u64le n | n * u64le offsets | channel | header | parent_header | metadata | content | buffers…
//! ```
//!
//!   `n` is the number of offsets, which is one more than that of the parts: offset `i` is the
//!   beginning of part `i`, counted from the beginning of the frame, and the last one is the end
//!   of the frame.
//! - [`Framing::Plain`], no subprotocol: a text frame with one JSON object and its `channel`. A
//!   message with buffers is a binary frame instead, as Jupyter servers have it:
//!
//! ```text
//! u32be n | n * u32be offsets | JSON object | buffers…
//! ```
//!
//!   where `n` counts the parts and there is no offset for the end.
//!
//! Buffers are slices of the frame that was received: nothing is copied.

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::message::{Channel, Header, Json, Message};

/// The subprotocol of [`Framing::V1`].
pub const V1_SUBPROTOCOL: &str = "v1.kernel.websocket.jupyter.org";

/// Parts of a v1 frame before the buffers.
const V1_PARTS: [&str; 5] = ["channel", "header", "parent_header", "metadata", "content"];

/// How messages are put into frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Binary, by offsets.
    V1,
    /// JSON text, or binary where there are buffers.
    Plain,
}

/// A frame of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A text frame.
    Text(String),
    /// A binary frame.
    Binary(Bytes),
}

/// What a message may have at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a frame. Default: 64 MiB.
    pub frame: usize,
    /// Number of buffers. Default: 1,000.
    pub buffers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: 64 << 20,
            buffers: 1000,
        }
    }
}

/// A frame that is no message, or a message that fits in no frame.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Larger than allowed.
    #[error("a frame of {size} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Bytes of the frame.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// More buffers than allowed.
    #[error("{count} buffers are more than the limit of {limit}")]
    TooManyBuffers {
        /// Number of buffers.
        count: u64,
        /// The limit.
        limit: usize,
    },
    /// Text where there must be binary.
    #[error("a text frame, but subprotocol {V1_SUBPROTOCOL} has only binary ones")]
    TextInV1,
    /// The numbers at the beginning contradict each other or the frame.
    #[error("broken frame: {0}")]
    Layout(String),
    /// A part is not the JSON that it should be.
    #[error("broken {part}: {source}")]
    Json {
        /// The part of the message.
        part: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The channel is none that exists.
    #[error("unknown channel {0:?}; possible are shell, iopub, stdin and control")]
    Channel(String),
    /// A text frame with binary parts.
    #[error("a text frame cannot have buffers")]
    BuffersInText,
}

impl Framing {
    /// Chooses from what a client offers in `Sec-WebSocket-Protocol`; the first that is answered
    /// is [`V1_SUBPROTOCOL`], everything else means none.
    pub fn of_offer<'a>(offered: impl IntoIterator<Item = &'a str>) -> Self {
        let found = offered
            .into_iter()
            .any(|name| name.trim() == V1_SUBPROTOCOL);
        if found { Self::V1 } else { Self::Plain }
    }

    /// The subprotocol to answer with.
    pub fn subprotocol(self) -> Option<&'static str> {
        match self {
            Self::V1 => Some(V1_SUBPROTOCOL),
            Self::Plain => None,
        }
    }

    /// Puts a message into a frame.
    pub fn encode(self, message: &Message) -> Result<Frame, WireError> {
        match self {
            Self::V1 => encode_v1(message).map(Frame::Binary),
            Self::Plain if message.buffers.is_empty() => {
                let json = to_json(&PlainOut::of(message), "message")?;
                // What serde_json writes is UTF-8; without `unsafe` that is checked once more.
                let text = String::from_utf8(json).map_err(|e| WireError::Layout(e.to_string()))?;
                Ok(Frame::Text(text))
            }
            Self::Plain => encode_plain_binary(message).map(Frame::Binary),
        }
    }

    /// Takes a message out of a frame.
    pub fn decode(self, frame: Frame, limits: &Limits) -> Result<Message, WireError> {
        let size = match &frame {
            Frame::Text(text) => text.len(),
            Frame::Binary(bytes) => bytes.len(),
        };
        if size > limits.frame {
            return Err(WireError::TooLarge {
                size,
                limit: limits.frame,
            });
        }
        match (self, frame) {
            (Self::V1, Frame::Binary(bytes)) => decode_v1(&bytes, limits),
            (Self::V1, Frame::Text(_)) => Err(WireError::TextInV1),
            (Self::Plain, Frame::Text(text)) => decode_plain_json(text.as_bytes(), Vec::new()),
            (Self::Plain, Frame::Binary(bytes)) => decode_plain_binary(&bytes, limits),
        }
    }
}

/// Writes a v1 frame.
fn encode_v1(message: &Message) -> Result<Bytes, WireError> {
    let header = to_json(&message.header, "header")?;
    let parent = match &message.parent_header {
        Some(parent) => to_json(parent, "parent_header")?,
        None => b"{}".to_vec(),
    };
    let parts = [
        message.channel.as_str().as_bytes(),
        &header,
        &parent,
        message.metadata.as_str().as_bytes(),
        message.content.as_str().as_bytes(),
    ];
    let all = || {
        parts
            .iter()
            .copied()
            .chain(message.buffers.iter().map(|buffer| &buffer[..]))
    };
    let count = parts.len() + message.buffers.len() + 1;
    let mut offset = 8 * (1 + count);
    let total = offset + all().map(<[u8]>::len).sum::<usize>();

    let mut frame = BytesMut::with_capacity(total);
    frame.put_u64_le(count as u64);
    frame.put_u64_le(offset as u64);
    for part in all() {
        offset += part.len();
        frame.put_u64_le(offset as u64);
    }
    all().for_each(|part| frame.put_slice(part));
    Ok(frame.freeze())
}

/// Reads a v1 frame.
fn decode_v1(frame: &Bytes, limits: &Limits) -> Result<Message, WireError> {
    let layout = |text: String| WireError::Layout(text);
    let number = |i: usize| {
        let bytes = frame.get(8 * i..8 * i + 8)?;
        bytes.try_into().map(u64::from_le_bytes).ok()
    };
    let count = number(0).ok_or_else(|| layout("shorter than its first number".to_owned()))?;
    let count = checked_count(count, V1_PARTS.len() as u64 + 1, limits)?;
    let table = 8 * (1 + count);
    if frame.len() < table {
        return Err(layout(format!(
            "{} bytes cannot hold {count} offsets",
            frame.len()
        )));
    }
    let offsets: Vec<u64> = (1..=count).filter_map(number).collect();
    let end = offsets.last().copied().unwrap_or_default();
    if end != frame.len() as u64 {
        let size = frame.len();
        return Err(layout(format!(
            "the last offset is {end}, the frame has {size} bytes"
        )));
    }
    let slices = slices(frame, table, &offsets)?;
    let (parts, buffers) = slices.split_at(V1_PARTS.len());
    let channel = Channel::parse(&String::from_utf8_lossy(&parts[0]))
        .ok_or_else(|| WireError::Channel(shown(&parts[0])))?;
    let parent: ParentIn = match &parts[2][..] {
        b"" => None,
        bytes => of_json(bytes, V1_PARTS[2])?,
    };
    Ok(Message {
        channel,
        header: of_json(&parts[1], V1_PARTS[1])?,
        parent_header: parent_of(parent)?,
        metadata: of_json(&parts[3], V1_PARTS[3])?,
        content: of_json(&parts[4], V1_PARTS[4])?,
        buffers: buffers.to_vec(),
    })
}

/// Writes the binary frame of a plain message with buffers.
fn encode_plain_binary(message: &Message) -> Result<Bytes, WireError> {
    let json = to_json(&PlainOut::of(message), "message")?;
    let all = || std::iter::once(&json[..]).chain(message.buffers.iter().map(|buffer| &buffer[..]));
    let count = 1 + message.buffers.len();
    let total = 4 * (1 + count) + all().map(<[u8]>::len).sum::<usize>();
    if u32::try_from(total).is_err() {
        return Err(WireError::TooLarge {
            size: total,
            limit: u32::MAX as usize,
        });
    }
    let mut frame = BytesMut::with_capacity(total);
    // Each of these is below the total, which fits.
    frame.put_u32(count as u32);
    let mut offset = 4 * (1 + count);
    for part in all() {
        frame.put_u32(offset as u32);
        offset += part.len();
    }
    all().for_each(|part| frame.put_slice(part));
    Ok(frame.freeze())
}

/// Reads the binary frame of a plain message.
fn decode_plain_binary(frame: &Bytes, limits: &Limits) -> Result<Message, WireError> {
    let layout = |text: String| WireError::Layout(text);
    let number = |i: usize| {
        let bytes = frame.get(4 * i..4 * i + 4)?;
        bytes.try_into().map(u32::from_be_bytes).ok()
    };
    let count = number(0).ok_or_else(|| layout("shorter than its first number".to_owned()))?;
    let count = checked_count(u64::from(count), 1, limits)?;
    let table = 4 * (1 + count);
    if frame.len() < table {
        return Err(layout(format!(
            "{} bytes cannot hold {count} offsets",
            frame.len()
        )));
    }
    let mut offsets: Vec<u64> = (1..=count).filter_map(number).map(u64::from).collect();
    offsets.push(frame.len() as u64);
    let mut slices = slices(frame, table, &offsets)?;
    let json = slices.remove(0);
    decode_plain_json(&json, slices)
}

/// Checks the number of offsets, of which `least` must be there and the others are of buffers.
fn checked_count(count: u64, least: u64, limits: &Limits) -> Result<usize, WireError> {
    if count < least {
        return Err(WireError::Layout(format!(
            "{count} offsets, at least {least} are needed"
        )));
    }
    let buffers = count - least;
    match usize::try_from(buffers) {
        Ok(number) if number <= limits.buffers => Ok(number + least as usize),
        _ => Err(WireError::TooManyBuffers {
            count: buffers,
            limit: limits.buffers,
        }),
    }
}

/// The parts between the offsets, which must not go back, nor into the table before them.
fn slices(frame: &Bytes, table: usize, offsets: &[u64]) -> Result<Vec<Bytes>, WireError> {
    let mut slices = Vec::with_capacity(offsets.len());
    let mut least = table as u64;
    let mut start = None;
    for (i, &offset) in offsets.iter().enumerate() {
        if offset < least || offset > frame.len() as u64 {
            let size = frame.len();
            return Err(WireError::Layout(format!(
                "offset {i} is {offset}, possible is {least} to {size}"
            )));
        }
        // Within the frame, so that it fits.
        let end = offset as usize;
        if let Some(start) = start {
            slices.push(frame.slice(start..end));
        }
        (least, start) = (offset, Some(end));
    }
    Ok(slices)
}

/// The JSON object of a plain frame, as it is written.
#[derive(Serialize)]
struct PlainOut<'a> {
    channel: Channel,
    /// Repeated from the header, as Jupyter servers do.
    msg_id: &'a str,
    msg_type: &'a str,
    header: &'a Header,
    parent_header: ParentOut<'a>,
    metadata: &'a Json,
    content: &'a Json,
    /// Always empty: buffers travel beside the object.
    buffers: [(); 0],
}

/// A parent, or an empty object.
#[derive(Serialize)]
#[serde(untagged)]
enum ParentOut<'a> {
    Some(&'a Header),
    None {},
}

impl<'a> PlainOut<'a> {
    fn of(message: &'a Message) -> Self {
        Self {
            channel: message.channel,
            msg_id: &message.header.msg_id,
            msg_type: &message.header.msg_type,
            header: &message.header,
            parent_header: message
                .parent_header
                .as_ref()
                .map_or(ParentOut::None {}, ParentOut::Some),
            metadata: &message.metadata,
            content: &message.content,
            buffers: [],
        }
    }
}

/// The JSON object of a plain frame, as it is read.
#[derive(Deserialize)]
struct PlainIn {
    /// `shell` where it is missing, as Jupyter servers assume.
    channel: Option<String>,
    header: Header,
    #[serde(default)]
    parent_header: ParentIn,
    metadata: Option<Json>,
    content: Json,
    #[serde(default)]
    buffers: Option<Vec<serde::de::IgnoredAny>>,
}

/// A parent header as it is read.
type ParentIn = Option<Map<String, Value>>;

/// The parent header, unless it is missing, null or an empty object: then there is none.
fn parent_of(read: ParentIn) -> Result<Option<Header>, WireError> {
    let fields = read.filter(|fields| !fields.is_empty());
    let header = fields
        .map(|fields| serde_json::from_value(Value::Object(fields)))
        .transpose();
    header.map_err(|source| WireError::Json {
        part: V1_PARTS[2],
        source,
    })
}

/// Reads the JSON object of a plain frame, whose buffers came beside it.
fn decode_plain_json(json: &[u8], buffers: Vec<Bytes>) -> Result<Message, WireError> {
    let read: PlainIn = of_json(json, "message")?;
    if read.buffers.is_some_and(|listed| !listed.is_empty()) {
        return Err(WireError::BuffersInText);
    }
    let channel = match read.channel {
        None => Channel::Shell,
        Some(name) => {
            Channel::parse(&name).ok_or_else(|| WireError::Channel(shown(name.as_bytes())))?
        }
    };
    Ok(Message {
        channel,
        header: read.header,
        parent_header: parent_of(read.parent_header)?,
        metadata: read.metadata.unwrap_or_default(),
        content: read.content,
        buffers,
    })
}

fn to_json<T: Serialize>(value: &T, part: &'static str) -> Result<Vec<u8>, WireError> {
    serde_json::to_vec(value).map_err(|source| WireError::Json { part, source })
}

fn of_json<T: DeserializeOwned>(bytes: &[u8], part: &'static str) -> Result<T, WireError> {
    serde_json::from_slice(bytes).map_err(|source| WireError::Json { part, source })
}

/// The beginning of what should have been a name.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(40).collect()
}

#[cfg(test)]
mod tests;
