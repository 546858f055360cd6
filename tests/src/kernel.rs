//! A client of a kernel, over a WebSocket, in either form.

use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::client::{IntoClientRequest, client};
use tungstenite::handshake::HandshakeError;
use tungstenite::{Error, Message, WebSocket};

use crate::Runner;

/// The subprotocol of binary messages.
pub const V1: &str = "v1.kernel.websocket.jupyter.org";
/// How long a message may take to come.
const DEADLINE: Duration = Duration::from_secs(30);

/// Numbers connections, so that no two requests have one id.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A connection to a kernel.
pub struct Channels {
    socket: WebSocket<TcpStream>,
    session: String,
    is_v1: bool,
    sent: usize,
}

/// How a request ended.
#[derive(Debug)]
pub struct Outcome {
    /// All that was said about it, in its order; each with `channel`, `header`, `parent_header`, `content`.
    pub said: Vec<Value>,
}

impl Outcome {
    /// The contents of messages of a type.
    pub fn contents(&self, kind: &str) -> Vec<&Value> {
        let found = self
            .said
            .iter()
            .filter(|message| message["header"]["msg_type"] == kind);
        found.map(|message| &message["content"]).collect()
    }

    /// The content of the reply.
    ///
    /// # Panics
    /// If there is none.
    pub fn reply(&self) -> &Value {
        let found = self
            .said
            .iter()
            .find(|message| message["channel"] != "iopub");
        &found.expect("a reply")["content"]
    }

    /// What it printed.
    pub fn text(&self) -> String {
        let streams = self.contents("stream");
        let texts = streams.iter().map(|content| content["text"].as_str());
        texts.map(Option::unwrap_or_default).collect()
    }
}

impl Runner {
    /// Begins a session; gives its id.
    #[track_caller]
    pub fn kernel(&self) -> String {
        let made = self
            .ask("POST", "/api/kernels", Some(&json!({})))
            .expect(201)
            .json();
        made["id"].as_str().expect("an id").to_owned()
    }

    /// Connects to a kernel, as JSON.
    #[track_caller]
    pub fn channels(&self, kernel: &str) -> Channels {
        self.connect(kernel, "", None).expect("a connection")
    }

    /// Connects to a kernel, with more in the query and an offered subprotocol. An error is the status.
    pub fn connect(
        &self,
        kernel: &str,
        query: &str,
        protocol: Option<&str>,
    ) -> Result<Channels, u16> {
        let address = self.address();
        let token = self.token();
        let url = format!("ws://{address}/api/kernels/{kernel}/channels?token={token}&{query}");
        let mut request = url.into_client_request().expect("a request");
        if let Some(protocol) = protocol {
            let value = protocol.parse().expect("a header");
            request
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", value);
        }
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(DEADLINE)).expect("a limit");
        match client(request, stream) {
            Ok((socket, _)) => Ok(Channels {
                socket,
                session: format!("{kernel}-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
                is_v1: protocol == Some(V1),
                sent: 0,
            }),
            Err(HandshakeError::Failure(Error::Http(answer))) => Err(answer.status().as_u16()),
            // An offer that is not taken: what the client makes of it is its own matter.
            Err(other) => panic!("{other}"),
        }
    }
}

impl Channels {
    /// The socket itself.
    pub fn socket(&mut self) -> &mut WebSocket<TcpStream> {
        &mut self.socket
    }

    /// Asks for something on a channel; gives the id of the request.
    pub fn ask(&mut self, channel: &str, kind: &str, content: &Value) -> String {
        self.sent += 1;
        let id = format!("{}-{}", self.session, self.sent);
        let header = json!({
            "msg_id": id, "msg_type": kind, "session": self.session, "username": "test", "version": "5.4",
        });
        let message = match self.is_v1 {
            true => Message::binary(frame(&[
                channel.as_bytes(),
                header.to_string().as_bytes(),
                b"{}",
                b"{}",
                content.to_string().as_bytes(),
            ])),
            false => Message::text(
                json!({
                    "channel": channel, "header": header, "parent_header": {}, "metadata": {},
                    "content": content, "buffers": [],
                })
                .to_string(),
            ),
        };
        self.socket.send(message).expect("a message is taken");
        id
    }

    /// Asks for code to be run; gives the id of the request.
    pub fn execute(&mut self, code: &str) -> String {
        let content = json!({"code": code, "silent": false, "store_history": true, "allow_stdin": false, "stop_on_error": true});
        self.ask("shell", "execute_request", &content)
    }

    /// The next message; nothing when the connection was closed.
    ///
    /// # Panics
    /// If none comes in time.
    #[track_caller]
    pub fn read(&mut self) -> Option<Value> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    return Some(serde_json::from_str(text.as_str()).expect("JSON"));
                }
                Ok(Message::Binary(bytes)) => return Some(message(&bytes)),
                Ok(Message::Close(_))
                | Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_)) => {
                    return None;
                }
                Ok(_) => {}
                Err(Error::Io(error)) if !is_late(&error) => {
                    return None;
                }
                Err(error) => panic!("no message: {error}"),
            }
        }
    }

    /// The code and the reason with which the other side closes.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn closed(&mut self) -> (u16, String) {
        loop {
            match self.socket.read() {
                Ok(Message::Close(Some(frame))) => {
                    return (frame.code.into(), frame.reason.as_str().to_owned());
                }
                Ok(_) => {}
                Err(error) => panic!("not closed with a reason: {error}"),
            }
        }
    }

    /// Waits for a message of a type about a request.
    #[track_caller]
    pub fn wait_for(&mut self, request: &str, kind: &str) -> Value {
        loop {
            let message = self.read().expect("the connection was closed");
            let is_it = message["parent_header"]["msg_id"] == request;
            if is_it && message["header"]["msg_type"] == kind {
                return message;
            }
        }
    }

    /// Waits for the end of a request: its reply, and that the kernel is idle.
    #[track_caller]
    pub fn outcome(&mut self, request: &str) -> Outcome {
        let mut said = Vec::new();
        let (mut has_reply, mut is_idle) = (false, false);
        while !(has_reply && is_idle) {
            let message = self.read().expect("the connection was closed");
            if message["parent_header"]["msg_id"] != request {
                continue;
            }
            has_reply |= message["channel"] == "shell" || message["channel"] == "control";
            is_idle |= message["content"]["execution_state"] == "idle";
            said.push(message);
        }
        Outcome { said }
    }

    /// Runs code to its end.
    #[track_caller]
    pub fn run(&mut self, code: &str) -> Outcome {
        let request = self.execute(code);
        self.outcome(&request)
    }
}

/// Whether nothing came in time; all else means that the connection is gone.
fn is_late(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock)
}

/// A v1 frame of these parts.
pub fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let count = parts.len() as u64 + 1;
    let mut offset = 8 * (1 + count);
    let mut bytes = [count.to_le_bytes(), offset.to_le_bytes()].concat();
    for part in parts {
        offset += part.len() as u64;
        bytes.extend(offset.to_le_bytes());
    }
    bytes.extend(parts.concat());
    bytes
}

/// The message in a v1 frame, as JSON.
fn message(frame: &[u8]) -> Value {
    let number = |at: usize| {
        let bytes = frame[8 * at..8 * at + 8].try_into().expect("eight bytes");
        usize::try_from(u64::from_le_bytes(bytes)).expect("a length")
    };
    let part = |at: usize| &frame[number(1 + at)..number(2 + at)];
    let read = |at| serde_json::from_slice::<Value>(part(at)).expect("JSON");
    json!({
        "channel": String::from_utf8_lossy(part(0)), "header": read(1), "parent_header": read(2),
        "metadata": read(3), "content": read(4),
    })
}
