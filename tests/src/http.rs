//! Requests sent byte for byte as written, and their responses. One connection per request.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use serde_json::Value;
use url::form_urlencoded;

/// How long a response may take between two bytes.
const PATIENCE: Duration = Duration::from_secs(60);
/// The boundary of multipart bodies.
pub const BOUNDARY: &str = "XboundaryX";

/// A request. Nothing is added but `Host`, `Connection: close` and `Content-Length`, and these only
/// where they are not given.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Its target as in the first line, with the query.
    pub target: String,
    /// Its headers in order.
    pub headers: Vec<(String, String)>,
    /// Its body; `None` sends no `Content-Length` either.
    pub body: Option<Vec<u8>>,
}

impl Request {
    /// A request without body.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// A GET.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST with an empty body.
    pub fn post(target: &str) -> Self {
        Self::new("POST", target).body("", "")
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body, with its media type unless that is empty.
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        if content_type.is_empty() {
            return self;
        }
        self.header("Content-Type", content_type)
    }

    /// Sets an urlencoded body.
    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        self.body("application/x-www-form-urlencoded", body)
    }

    /// Sets a JSON body.
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// Sets a multipart body.
    pub fn multipart(self, parts: &[Part<'_>]) -> Self {
        let mut body = Vec::new();
        for part in parts {
            let file = part.file.map(|(name, _)| format!("; filename=\"{name}\""));
            let kind = part
                .file
                .map(|(_, kind)| format!("\r\nContent-Type: {kind}"));
            let head = format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{}\"{}{}\r\n\r\n",
                part.name,
                file.unwrap_or_default(),
                kind.unwrap_or_default(),
            );
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(part.content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        self.body(&format!("multipart/form-data; boundary={BOUNDARY}"), body)
    }

    /// The bytes on the wire.
    pub fn to_bytes(&self, address: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let mut line = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
        let given = |name: &str| {
            self.headers
                .iter()
                .any(|(key, _)| key.eq_ignore_ascii_case(name))
        };
        if !given("Host") {
            line("Host", &address.to_string());
        }
        if !given("Connection") {
            line("Connection", "close");
        }
        for (name, value) in &self.headers {
            line(name, value);
        }
        if let Some(body) = &self.body
            && !given("Content-Length")
            && !given("Transfer-Encoding")
        {
            line("Content-Length", &body.len().to_string());
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Sends it and reads the response.
    ///
    /// # Errors
    /// If there is no connection, or no whole response.
    pub fn send(&self, address: SocketAddr) -> io::Result<Response> {
        exchange(address, self.to_bytes(address), self.method == "HEAD")
    }

    /// As [`send`](Self::send), from this address of this machine.
    ///
    /// # Errors
    /// If there is no connection, or no whole response.
    pub fn send_from(&self, own: Ipv4Addr, address: SocketAddrV4) -> io::Result<Response> {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::empty(),
            None,
        )?;
        bind(
            socket.as_raw_fd(),
            &SockaddrIn::from(SocketAddrV4::new(own, 0)),
        )?;
        connect(socket.as_raw_fd(), &SockaddrIn::from(address))?;
        let request = self.to_bytes(address.into());
        exchange_on(TcpStream::from(socket), request, self.method == "HEAD")
    }
}

/// A part of a multipart body.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The name of the field.
    pub name: &'a str,
    /// Name and media type of a file.
    pub file: Option<(&'a str, &'a str)>,
    /// The bytes.
    pub content: &'a [u8],
}

impl<'a> Part<'a> {
    /// A plain field.
    pub fn field(name: &'a str, value: &'a str) -> Self {
        Self {
            name,
            file: None,
            content: value.as_bytes(),
        }
    }

    /// A file.
    pub fn file(name: &'a str, file: &'a str, content_type: &'a str, content: &'a [u8]) -> Self {
        Self {
            name,
            file: Some((file, content_type)),
            content,
        }
    }
}

/// A response, read to its end.
#[derive(Debug, Clone)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its headers in order.
    pub headers: Vec<(String, String)>,
    /// Its body, without transfer encoding.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| {
            panic!("no JSON ({e}) with status {}: {}", self.status, self.text())
        })
    }

    /// Checks the status and, if it is one of an error, its JSON.
    ///
    /// # Panics
    /// If it is another one, or the body is not the JSON of errors.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?}\n{}", self.headers, self.text());
        if status >= 400 && !self.body.is_empty() {
            let body = self.json();
            assert_eq!(body["code"], status, "{body}");
            assert!(
                body["status"].is_string(),
                "an error without `status`: {body}"
            );
        }
        self
    }
}

/// The first header of this name.
pub fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut headers = headers.iter();
    let found = headers.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(&found.1)
}

/// Sends bytes as they are and reads one response. `head`: it has no body, whatever it says.
///
/// # Errors
/// If there is no connection, or no whole response.
pub fn exchange(address: SocketAddr, request: Vec<u8>, head: bool) -> io::Result<Response> {
    exchange_on(TcpStream::connect(address)?, request, head)
}

fn exchange_on(stream: TcpStream, request: Vec<u8>, head: bool) -> io::Result<Response> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // Beside the reading: a large request may be answered and cut off before it was sent.
    let mut sink = stream.try_clone()?;
    let writer = std::thread::spawn(move || sink.write_all(&request));
    let response = read_response(&stream, head);
    let _ = stream.shutdown(Shutdown::Both);
    let written = writer.join().unwrap_or(Ok(()));
    match (response, written) {
        (Err(_), Err(error)) => Err(error),
        (response, _) => response,
    }
}

/// Reads one response.
///
/// # Errors
/// If it ends too early or is none.
pub fn read_response(mut stream: impl Read, head: bool) -> io::Result<Response> {
    let mut buffer = Vec::new();
    let (length, status, headers) = loop {
        if let Some((length, status, headers)) = parse_response(&buffer)? {
            if (100..200).contains(&status) {
                buffer.drain(..length);
                continue;
            }
            break (length, status, headers);
        }
        read_more(&mut stream, &mut buffer)?;
    };
    buffer.drain(..length);
    let empty = head || matches!(status, 204 | 304);
    let body = if empty {
        Vec::new()
    } else {
        read_body(&mut stream, buffer, &headers, true)?
    };
    Ok(Response {
        status,
        headers,
        body,
    })
}

/// Headers in order.
pub type Headers = Vec<(String, String)>;

fn parse_response(buffer: &[u8]) -> io::Result<Option<(usize, u16, Headers)>> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(buffer).map_err(invalid)? {
        httparse::Status::Complete(length) => {
            let status = response.code.unwrap_or_default();
            Ok(Some((length, status, owned(response.headers))))
        }
        httparse::Status::Partial => Ok(None),
    }
}

/// Header fields as text.
pub(crate) fn owned(headers: &[httparse::Header<'_>]) -> Headers {
    let text = |header: &httparse::Header<'_>| {
        let value = String::from_utf8_lossy(header.value).into_owned();
        (header.name.to_owned(), value)
    };
    headers.iter().map(text).collect()
}

/// Reads a body whose beginning was read with the headers. `until_close`: without a length it ends
/// with the connection, else there is none.
pub(crate) fn read_body(
    stream: &mut impl Read,
    mut buffer: Vec<u8>,
    headers: &Headers,
    until_close: bool,
) -> io::Result<Vec<u8>> {
    let coding = find(headers, "Transfer-Encoding").unwrap_or_default();
    if coding.eq_ignore_ascii_case("chunked") {
        return read_chunks(stream, buffer);
    }
    if let Some(length) = find(headers, "Content-Length") {
        let length: usize = length.parse().map_err(invalid)?;
        while buffer.len() < length {
            read_more(stream, &mut buffer)?;
        }
        buffer.truncate(length);
        return Ok(buffer);
    }
    if until_close {
        stream.read_to_end(&mut buffer)?;
    }
    Ok(buffer)
}

fn read_chunks(stream: &mut impl Read, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        match httparse::parse_chunk_size(&buffer).map_err(|_| invalid("invalid chunk"))? {
            httparse::Status::Complete((head, size)) => {
                let end = head + usize::try_from(size).map_err(invalid)?;
                while buffer.len() < end + 2 {
                    read_more(stream, &mut buffer)?;
                }
                body.extend_from_slice(&buffer[head..end]);
                buffer.drain(..end + 2);
                if size == 0 {
                    return Ok(body);
                }
            }
            httparse::Status::Partial => read_more(stream, &mut buffer)?,
        }
    }
}

pub(crate) fn read_more(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 64 * 1024];
    match stream.read(&mut chunk)? {
        0 => Err(io::Error::new(
            ErrorKind::UnexpectedEof,
            "the connection ended too early",
        )),
        n => {
            buffer.extend_from_slice(&chunk[..n]);
            Ok(())
        }
    }
}

pub(crate) fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_read_in_every_framing() {
        for (wire, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", "abc"),
            ("HTTP/1.1 200 OK\r\n\r\nto the end", "to the end"),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
                "abcde",
            ),
        ] {
            assert_eq!(read_response(wire.as_bytes(), false).unwrap().text(), body);
        }
        let cut = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab";
        assert!(read_response(cut.as_bytes(), false).is_err());
        assert_eq!(read_response(cut.as_bytes(), true).unwrap().body, b"");
    }

    #[test]
    fn nothing_is_added_to_a_request_that_says_it_all() {
        let request = Request::get("/x")
            .header("host", "h")
            .header("connection", "x")
            .header("Content-Length", "9")
            .body("", "a");
        let address = "127.0.0.1:1".parse().unwrap();
        let text = String::from_utf8(request.to_bytes(address)).unwrap();
        assert_eq!(
            text,
            "GET /x HTTP/1.1\r\nhost: h\r\nconnection: x\r\nContent-Length: 9\r\n\r\na"
        );
    }
}
