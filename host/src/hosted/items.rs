//! Items of a pipeline, taken from its socket: each node works in a thread of its own.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use runner_sdk::RunFailure;
use runner_sdk::failure::code;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Hosted;
use crate::protocol::{MAX_ITEMS_LINE, UNKNOWN_METHOD};

/// A plugin that was opened as a node. It is called by one thread, and dropped by it.
pub trait Node {
    /// Answers `items`, `pull` or `close`: appends `"result":…}` or `"error":…}`, with which a
    /// response ends.
    fn answer(&mut self, call: &NodeCall<'_>, response: &mut Vec<u8>);
}

/// A request to a node.
pub struct NodeCall<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its whole line.
    pub line: &'a [u8],
    id: u64,
    items: &'a Items,
}

impl NodeCall<'_> {
    /// The id of the request.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Sends the outcomes of the first items ahead of the response: JSON, separated by commas.
    pub fn part(&self, outcomes: &[u8]) {
        let id = self.id;
        let head = format!(r#"{{"jsonrpc":"2.0","method":"made","params":{{"id":{id},"made":["#);
        let line = [head.as_bytes(), outcomes, b"]}}"].concat();
        self.items.send(line);
    }
}

/// What must be known of a request to hand it on.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(default)]
    id: Option<u64>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(default)]
    params: HeadParams,
}

#[derive(Default, Deserialize)]
struct HeadParams {
    #[serde(default)]
    node: u64,
}

/// A request on its way to the thread of its node.
struct Request {
    id: u64,
    method: String,
    line: Vec<u8>,
}

impl Request {
    /// The line that closes the node that this one opens.
    fn closing(&self) -> Vec<u8> {
        let head = serde_json::from_slice::<Head<'_>>(&self.line);
        let node = head.map_or(0, |head| head.params.node);
        let message = json!({"id": 0, "method": "close", "params": {"node": node}});
        message.to_string().into_bytes()
    }
}

/// The threads of the nodes, by the number of the node.
type Nodes = HashMap<u64, (mpsc::Sender<Request>, JoinHandle<()>)>;

/// Takes items until the pipeline closes the socket. Then nodes clean up, and the process ends.
pub(super) fn serve(hosted: Arc<dyn Hosted>, socket: OwnedFd) -> io::Result<()> {
    let socket = UnixStream::from(socket);
    let items = Items {
        hosted,
        out: Arc::new(Mutex::new(socket.try_clone()?)),
    };
    let reading = move || {
        let mut nodes = Nodes::new();
        let mut input = BufReader::with_capacity(256 << 10, socket);
        let mut line = Vec::new();
        while read_line(&mut input, &mut line).is_ok_and(|has_line| has_line) {
            items.take(std::mem::take(&mut line), &mut nodes);
        }
        for (_, (requests, thread)) in nodes {
            drop(requests);
            let _ = thread.join();
        }
        std::process::exit(0);
    };
    let thread = std::thread::Builder::new().name("items".to_owned());
    thread.spawn(reading).map(drop)
}

/// Reads a line with its line break; `false` at the end, and where a line is too long.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    let limit = u64::try_from(MAX_ITEMS_LINE).unwrap_or(u64::MAX);
    input.take(limit).read_until(b'\n', line)?;
    Ok(line.ends_with(b"\n"))
}

#[derive(Clone)]
struct Items {
    hosted: Arc<dyn Hosted>,
    out: Arc<Mutex<UnixStream>>,
}

impl Items {
    /// Hands a request to the thread of its node, which `open` begins and `close` ends.
    fn take(&self, line: Vec<u8>, nodes: &mut Nodes) {
        // What is no message is passed over.
        let Ok(head) = serde_json::from_slice::<Head<'_>>(&line) else {
            return;
        };
        let (method, node) = (head.method.into_owned(), head.params.node);
        let Some(id) = head.id else { return };
        match method.as_str() {
            "ping" => return self.fail_or(id, Ok(json!({}))),
            "open" if !nodes.contains_key(&node) => {
                let items = self.clone();
                let (requests, queue) = mpsc::channel();
                let thread = std::thread::Builder::new().name(format!("node {node}"));
                match thread.spawn(move || items.work(&queue)) {
                    Ok(thread) => nodes.insert(node, (requests, thread)),
                    Err(error) => {
                        let text = format!("cannot start a thread: {error}");
                        return self.fail_or(id, Err(RunFailure::new(code::INTERNAL, text)));
                    }
                };
            }
            "open" | "items" | "pull" | "close" => {}
            _ => {
                let text = format!("unknown method {method:?}");
                return self.fail_or(id, Err(RunFailure::new(UNKNOWN_METHOD, text)));
            }
        }
        let ends = method == "close";
        let request = Request { id, method, line };
        let sent = match nodes.get(&node) {
            Some((requests, _)) => requests.send(request).is_ok(),
            None => false,
        };
        if !sent {
            let text = format!("node {node} is not open");
            self.fail_or(id, Err(RunFailure::new(code::INVALID_PARAMS, text)));
        }
        if ends {
            nodes.remove(&node);
        }
    }

    /// The work of a node, in its thread. The first request is `open`.
    fn work(&self, requests: &mpsc::Receiver<Request>) {
        let Ok(open) = requests.recv() else { return };
        let mut node = match self.hosted.open(&self.call(open.id, "open", &open.line)) {
            Ok(node) => node,
            Err(failure) => return self.fail_or(open.id, Err(failure)),
        };
        self.fail_or(open.id, Ok(json!({})));
        let mut is_closed = false;
        for Request { id, method, line } in requests {
            if method == "open" {
                let text = "this number is taken by a node that is open";
                self.fail_or(id, Err(RunFailure::new(code::INVALID_PARAMS, text)));
                continue;
            }
            let mut response = begun(id);
            node.answer(&self.call(id, &method, &line), &mut response);
            is_closed |= method == "close";
            self.send(response);
        }
        if !is_closed {
            // The pipeline is gone, and so nobody hears the answer.
            let line = open.closing();
            node.answer(&self.call(0, "close", &line), &mut Vec::new());
        }
    }

    fn call<'a>(&'a self, id: u64, method: &'a str, line: &'a [u8]) -> NodeCall<'a> {
        NodeCall {
            method,
            line,
            id,
            items: self,
        }
    }

    fn fail_or(&self, id: u64, answer: Result<Value, RunFailure>) {
        let mut response = begun(id);
        match answer {
            Ok(result) => write_result(&mut response, &result),
            Err(failure) => write_failure(&mut response, &failure),
        }
        self.send(response);
    }

    fn send(&self, mut response: Vec<u8>) {
        response.push(b'\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // A pipeline that is gone also closes the other way, which ends this process.
        let _ = out.write_all(&response);
    }
}

/// The beginning of a response.
fn begun(id: u64) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"#).into_bytes()
}

/// Ends a response well.
fn write_result(response: &mut Vec<u8>, result: &Value) {
    response.extend_from_slice(br#""result":"#);
    response.extend_from_slice(result.to_string().as_bytes());
    response.push(b'}');
}

/// Ends a response with an error.
pub fn write_failure(response: &mut Vec<u8>, failure: &RunFailure) {
    response.extend_from_slice(br#""error":"#);
    response.extend_from_slice(failure.to_json().to_string().as_bytes());
    response.push(b'}');
}
