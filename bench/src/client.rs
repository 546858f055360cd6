//! One connection, one request at a time, kept alive. A general client would cost more than the answers.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Target;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The connection failed.
    #[error("no connection with {address}: {source}")]
    Connection {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The answer is not the one that is measured.
    #[error("{request} was answered with {found}; expected {expected}")]
    Answer {
        /// What was asked.
        request: String,
        /// What came.
        found: String,
        /// What should have come.
        expected: &'static str,
    },
}

/// A connection.
pub(crate) struct Client {
    address: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The line of each request that shows a token, if there is one.
    authorization: String,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// Connects with what is measured.
    pub(crate) async fn to(target: &Target) -> Result<Self, BenchError> {
        let mut client = Self::connect(target.address).await?;
        if let Some(token) = &target.token {
            client.authorization = format!("Authorization: Bearer {token}\r\n");
        }
        Ok(client)
    }

    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, BenchError> {
        let failed = |source| BenchError::Connection { address, source };
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(Self {
            address,
            stream,
            buffer: Vec::with_capacity(16 * 1024),
            authorization: String::new(),
        })
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer, BenchError> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\n{}\r\n",
            self.address, self.authorization
        );
        self.exchange(&request).await
    }

    pub(crate) async fn post(&mut self, path: &str, form: &str) -> Result<Answer, BenchError> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n{}\r\n{form}",
            self.address,
            form.len(),
            self.authorization
        );
        self.exchange(&request).await
    }

    /// Submits a task; answers its path.
    pub(crate) async fn submit(&mut self, plugin: &str, form: &str) -> Result<String, BenchError> {
        let path = format!("/plugins/{plugin}/process/");
        let answer = self.post(&path, form).await?;
        match (answer.status, answer.location) {
            (303, Some(location)) => Ok(location),
            (status, _) => Err(unexpected(&path, status, &answer.body, "303 and a task")),
        }
    }

    /// Waits for the end of a task.
    pub(crate) async fn finish(&mut self, task: &str) -> Result<(), BenchError> {
        let path = format!("{task}?wait=30");
        loop {
            let answer = self.get(&path).await?;
            let shown: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            match shown["status"].as_str() {
                Some("SUCCESS") => return Ok(()),
                Some("PENDING") => {}
                _ => return Err(unexpected(&path, answer.status, &answer.body, "SUCCESS")),
            }
        }
    }

    async fn exchange(&mut self, request: &str) -> Result<Answer, BenchError> {
        let address = self.address;
        let failed = |source| BenchError::Connection { address, source };
        self.stream
            .write_all(request.as_bytes())
            .await
            .map_err(failed)?;
        loop {
            if let Some((size, answer)) = parse(&self.buffer).map_err(failed)? {
                self.buffer.drain(..size);
                return Ok(answer);
            }
            if self
                .stream
                .read_buf(&mut self.buffer)
                .await
                .map_err(failed)?
                == 0
            {
                return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

fn unexpected(request: &str, status: u16, body: &[u8], expected: &'static str) -> BenchError {
    let body: String = String::from_utf8_lossy(body).chars().take(300).collect();
    BenchError::Answer {
        request: request.to_owned(),
        found: format!("{status} {body}"),
        expected,
    }
}

/// A whole answer at the beginning of the bytes, and its length. All that is measured has a Content-Length.
fn parse(bytes: &[u8]) -> std::io::Result<Option<(usize, Answer)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes).map_err(std::io::Error::other)? {
        httparse::Status::Complete(head) => head,
        httparse::Status::Partial => return Ok(None),
    };
    let header = |name: &str| {
        let found = response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let length: usize = header("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    if bytes.len() < head + length {
        return Ok(None);
    }
    let answer = Answer {
        status: response.code.unwrap_or_default(),
        location: header("location").map(str::to_owned),
        body: bytes[head..head + length].to_vec(),
    };
    Ok(Some((head + length, answer)))
}
