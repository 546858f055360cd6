//! A small server for webhooks, inputs, redirects and bodies that wait for a test.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::http::{self, Headers};

/// How long a test waits for requests that must come.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long after the last one an unwanted one is waited for.
const SETTLE: Duration = Duration::from_millis(400);
/// How long a gate holds a response at most.
const HELD: Duration = Duration::from_secs(60);

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its method.
    pub method: String,
    /// Its target with the query.
    pub target: String,
    /// Its headers in order.
    pub headers: Headers,
    /// Its body.
    pub body: Vec<u8>,
}

impl Recorded {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A value of the query, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        Some(pairs.find(|(key, _)| key == name)?.1.into_owned())
    }
}

/// Holds responses back until it is opened.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// A closed one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets all through, now and later.
    pub fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _open = self.0.1.wait_timeout_while(open, HELD, |open| !*open);
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Headers,
    body: Vec<u8>,
    gate: Option<Gate>,
    endless: bool,
}

impl Reply {
    /// An empty body.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            gate: None,
            endless: false,
        }
    }

    /// A file.
    pub fn file(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut reply = Self::status(200).header("Content-Type", content_type);
        reply.body = body.into();
        reply
    }

    /// A redirect.
    pub fn redirect(location: &str) -> Self {
        Self::status(302).header("Location", location)
    }

    /// A body without announced length that does not end.
    pub fn endless() -> Self {
        Self {
            endless: true,
            ..Self::file("text/plain", "x".repeat(64))
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Answers only when the gate is open.
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    fn write(&self, stream: &mut TcpStream, head: bool) -> io::Result<()> {
        if let Some(gate) = &self.gate {
            gate.wait();
        }
        let mut text = format!("HTTP/1.1 {} Answer\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.endless {
            text.push_str("Transfer-Encoding: chunked\r\n\r\n");
            stream.write_all(text.as_bytes())?;
            let end = Instant::now() + HELD;
            while Instant::now() < end {
                let chunk = format!("{:x}\r\n", self.body.len());
                stream.write_all(&[chunk.as_bytes(), &self.body, b"\r\n"].concat())?;
            }
            return Ok(());
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        stream.write_all(text.as_bytes())?;
        if !head {
            stream.write_all(&self.body)?;
        }
        stream.flush()
    }
}

type Handler = dyn Fn(&Recorded) -> Reply + Send + Sync;

/// A server on a thread of its own, one thread per connection. Dropping it closes the port.
pub struct HookServer {
    address: SocketAddr,
    requests: Mutex<Receiver<Recorded>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for HookServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HookServer({})", self.address)
    }
}

impl HookServer {
    /// Answers everything with an empty 200.
    pub fn start() -> Self {
        Self::with(|_| Reply::status(200))
    }

    /// Answers as the handler says.
    pub fn with(handler: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        Self::bind(0, handler)
    }

    /// Answers everything with this file.
    pub fn serving(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let reply = Reply::file(content_type, body);
        Self::with(move |_| reply.clone())
    }

    /// Listens on this port; 0 takes a free one.
    pub fn bind(port: u16, handler: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("cannot listen");
        let address = listener.local_addr().expect("a listener has an address");
        let (sender, requests) = channel();
        let stopped = Arc::new(AtomicBool::new(false));
        let handler: Arc<Handler> = Arc::new(handler);
        let flag = Arc::clone(&stopped);
        let thread = std::thread::spawn(move || accept(&listener, &flag, &handler, &sender));
        Self {
            address,
            requests: Mutex::new(requests),
            stopped,
            thread: Some(thread),
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL of a path, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next request, waited for.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn next(&self) -> Recorded {
        self.next_within(DEADLINE)
            .unwrap_or_else(|| panic!("no request within {DEADLINE:?}"))
    }

    /// The next request, if it comes within this time.
    pub fn next_within(&self, patience: Duration) -> Option<Recorded> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.recv_timeout(patience).ok()
    }

    /// The next `count` requests.
    ///
    /// # Panics
    /// If fewer come.
    #[track_caller]
    pub fn take(&self, count: usize) -> Vec<Recorded> {
        let mut taken = Vec::new();
        let end = Instant::now() + DEADLINE;
        while taken.len() < count {
            let left = end.saturating_duration_since(Instant::now());
            let Some(request) = self.next_within(left) else {
                panic!(
                    "{} of {count} requests within {DEADLINE:?}: {taken:#?}",
                    taken.len()
                );
            };
            taken.push(request);
        }
        taken
    }

    /// Checks that nothing more comes. That something does not happen can only be seen by waiting;
    /// call it when all that is wanted has come.
    ///
    /// # Panics
    /// If something comes.
    #[track_caller]
    pub fn expect_no_more(&self) {
        let extra = self.next_within(SETTLE);
        assert!(extra.is_none(), "an unwanted request: {extra:#?}");
    }
}

impl Drop for HookServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(
    listener: &TcpListener,
    stopped: &AtomicBool,
    handler: &Arc<Handler>,
    sender: &Sender<Recorded>,
) {
    for stream in listener.incoming().flatten() {
        if stopped.load(Ordering::Acquire) {
            return;
        }
        let (handler, sender) = (Arc::clone(handler), sender.clone());
        std::thread::spawn(move || serve(stream, &*handler, &sender));
    }
}

fn serve(mut stream: TcpStream, handler: &Handler, sender: &Sender<Recorded>) -> io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    let request = read_request(&mut stream)?;
    let reply = handler(&request);
    let head = request.method == "HEAD";
    let _ = sender.send(request);
    reply.write(&mut stream, head)
}

fn read_request(stream: &mut TcpStream) -> io::Result<Recorded> {
    let mut buffer = Vec::new();
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut headers);
        if let httparse::Status::Complete(length) = request.parse(&buffer).map_err(http::invalid)? {
            let method = request.method.unwrap_or_default().to_owned();
            let target = request.path.unwrap_or_default().to_owned();
            let headers = http::owned(request.headers);
            buffer.drain(..length);
            let body = http::read_body(stream, buffer, &headers, false)?;
            return Ok(Recorded {
                method,
                target,
                headers,
                body,
            });
        }
        http::read_more(stream, &mut buffer)?;
    }
}
