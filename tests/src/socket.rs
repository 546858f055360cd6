//! A WebSocket.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use crate::Runner;

/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A WebSocket whose messages are JSON documents. Dropped, the client is gone.
#[derive(Debug)]
pub struct Socket(WebSocket<TcpStream>);

impl Socket {
    /// Opens one, as a page of `origin` would. The error is the status of an answer that is none.
    ///
    /// # Panics
    /// If there is no answer.
    #[track_caller]
    pub fn open(runner: &Runner, target: &str, origin: Option<&str>) -> Result<Self, u16> {
        let address = runner.address();
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let request = format!("ws://{address}{target}").into_client_request();
        let mut request = request.expect("a request");
        if let Some(origin) = origin {
            let origin = origin.parse().expect("a header");
            request.headers_mut().insert("Origin", origin);
        }
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(HandshakeError::Failure(Error::Http(answer))) => Err(answer.status().as_u16()),
            Err(error) => panic!("no WebSocket: {error}"),
        }
    }

    /// The next message; `None` when the server has closed it.
    ///
    /// # Panics
    /// If none comes in time, or the connection breaks.
    #[track_caller]
    pub fn record(&mut self) -> Option<Value> {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => {
                    return Some(serde_json::from_str(text.as_str()).expect("a JSON document"));
                }
                Ok(Message::Close(_)) => return None,
                Ok(_) => {}
                Err(error) => panic!("no message: {error}"),
            }
        }
    }
}
