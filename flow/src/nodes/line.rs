//! The socket between a pipeline and the host of some of its nodes.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use runner_host::protocol::{MAX_ITEMS_LINE, RpcError};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{RwLock, oneshot, watch};

/// How long a host may take to let go of a request that nobody waits for any more.
const LET_GO: Duration = Duration::from_millis(500);
/// Bytes of what is made of the items of one request at most.
const MAX_MADE: usize = 256 << 20;
/// Bytes that are read at a time.
const READ: usize = 256 << 10;

/// The host ended, or broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost;

/// What a request may be answered with.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Answer {
    /// Of `items`: what was made of the first items, in their order.
    #[serde(default)]
    pub(crate) made: Vec<Made>,
    /// Of `pull`.
    #[serde(default)]
    pub(crate) values: Vec<Value>,
    /// Of `pull`: there are no more.
    #[serde(default)]
    pub(crate) end: bool,
}

/// What was made of an item: a list of values, or an object with an error.
#[derive(Debug, PartialEq)]
pub(crate) enum Made {
    /// Values, none or several.
    Values(Vec<Value>),
    /// Why there are none.
    Failed(Failed),
}

/// Why an item failed.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Failed {
    pub(crate) error: String,
    /// Whether another attempt could not change it.
    #[serde(default)]
    pub(crate) lasting: bool,
}

impl<'de> Deserialize<'de> for Made {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Outcome;

        impl<'de> Visitor<'de> for Outcome {
            type Value = Made;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of values, or an object with `error`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Made, A::Error> {
                let mut values = Vec::with_capacity(1);
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Made::Values(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Made, A::Error> {
                let map = serde::de::value::MapAccessDeserializer::new(map);
                Failed::deserialize(map).map(Made::Failed)
            }
        }

        deserializer.deserialize_any(Outcome)
    }
}

/// A line from the host: a response, or a part of one that is to come.
#[derive(Deserialize)]
struct Said {
    id: Option<u64>,
    method: Option<String>,
    params: Option<Part>,
    result: Option<Answer>,
    error: Option<RpcError>,
}

/// The params of `made`.
#[derive(Deserialize)]
struct Part {
    id: u64,
    made: Vec<Made>,
}

type Answered = Result<Answer, RpcError>;
type Waiting = HashMap<u64, Asked>;

/// A request that is open.
#[derive(Debug)]
struct Asked {
    answer: oneshot::Sender<Answered>,
    /// What was made of its first items.
    made: Vec<Made>,
    /// Bytes of the parts so far.
    bytes: usize,
}

impl Asked {
    fn new(answer: oneshot::Sender<Answered>) -> Self {
        Self {
            answer,
            made: Vec::new(),
            bytes: 0,
        }
    }
}

/// The socket of a host, and the requests that are open on it.
#[derive(Debug)]
pub(crate) struct Line {
    /// The number of the host in this run.
    pub(crate) host: u64,
    /// Held by all that work on it, and alone by who finds out with which item it ends.
    pub(crate) turn: RwLock<()>,
    out: tokio::sync::Mutex<OwnedWriteHalf>,
    last: AtomicU64,
    /// `None` when it is lost.
    waiting: Mutex<Option<Waiting>>,
    /// What the host did that it must not.
    broken: OnceLock<String>,
    reading: OnceLock<tokio::task::AbortHandle>,
    /// Requests that the host is to let go of, and has not yet.
    letting_go: watch::Sender<usize>,
    /// Whether items have answered for its loss.
    pub(crate) is_accounted_for: AtomicBool,
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(reading) = self.reading.get() {
            reading.abort();
        }
    }
}

impl Line {
    /// Speaks with the host at the other end.
    pub(crate) fn new(host: u64, socket: std::os::unix::net::UnixStream) -> io::Result<Arc<Self>> {
        socket.set_nonblocking(true)?;
        let (input, out) = UnixStream::from_std(socket)?.into_split();
        let line = Arc::new(Self {
            host,
            turn: RwLock::default(),
            out: out.into(),
            last: AtomicU64::new(0),
            waiting: Mutex::new(Some(Waiting::new())),
            broken: OnceLock::new(),
            reading: OnceLock::new(),
            letting_go: watch::Sender::new(0),
            is_accounted_for: AtomicBool::new(false),
        });
        let heard = Arc::downgrade(&line);
        let reading = tokio::spawn(async move {
            let ended = read(input, |text| {
                let line = heard.upgrade().ok_or("nobody listens any more")?;
                line.hear(text)
            })
            .await;
            if let Some(line) = heard.upgrade() {
                line.lose(ended.err());
            }
        });
        let _ = line.reading.set(reading.abort_handle());
        Ok(line)
    }

    /// Waits until the host has let go of what is not waited for any more, or is lost.
    pub(crate) async fn settled(&self) {
        let mut letting_go = self.letting_go.subscribe();
        // The sender lives as long as self.
        let _ = letting_go.wait_for(|count| *count == 0).await;
    }

    /// Whether it is of no more use.
    pub(crate) fn is_lost(&self) -> bool {
        self.waiting().is_none()
    }

    /// What the host did that it must not, if that is why it was lost.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    /// A number for the next request.
    pub(crate) fn next_id(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Asks by a method that takes an object.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        method: &str,
        params: Value,
    ) -> Result<Answered, Lost> {
        let id = self.next_id();
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let mut text = message.to_string().into_bytes();
        text.push(b'\n');
        self.send(id, &text).await
    }

    /// Sends a request that is a line already, and waits for its answer. Where the answer is not
    /// waited for any more, the host is told, and ended if it does not let go.
    pub(crate) async fn send(self: &Arc<Self>, id: u64, text: &[u8]) -> Result<Answered, Lost> {
        let (answer, answered) = oneshot::channel();
        match &mut *self.waiting() {
            Some(waiting) => waiting.insert(id, Asked::new(answer)),
            None => return Err(Lost),
        };
        let mut open = Open {
            line: self,
            id,
            stage: Stage::Waiting,
        };
        {
            let mut out = self.out.lock().await;
            open.stage = Stage::Writing;
            if out.write_all(text).await.is_err() {
                self.lose(None);
            }
            open.stage = Stage::Sent;
        }
        let answered = answered.await.map_err(|_| Lost);
        open.settle();
        answered
    }

    fn hear(&self, text: &[u8]) -> Result<(), String> {
        let shown = || String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned();
        let said: Said = serde_json::from_slice(text)
            .map_err(|error| format!("it wrote {:?}, which is no answer ({error})", shown()))?;
        let mut waiting = self.waiting();
        let Some(waiting) = &mut *waiting else {
            return Ok(());
        };
        let unasked = || format!("it answered a request that is not open: {:?}", shown());
        let Some(id) = said.id else {
            return match (said.method.as_deref(), said.params) {
                (Some("made"), Some(part)) => {
                    let asked = waiting.get_mut(&part.id).ok_or_else(unasked)?;
                    asked.made.extend(part.made);
                    asked.bytes += text.len();
                    match asked.bytes {
                        0..=MAX_MADE => Ok(()),
                        _ => Err(format!("it made more than {MAX_MADE} bytes of one request")),
                    }
                }
                // A notification of a newer SDK.
                (Some(_), _) => Ok(()),
                _ => Err(format!("it wrote {:?}, which is no answer", shown())),
            };
        };
        let Asked {
            answer, mut made, ..
        } = waiting.remove(&id).ok_or_else(unasked)?;
        let answered = match said.error {
            Some(error) => Err(error),
            None => {
                let mut result = said.result.unwrap_or_default();
                if !made.is_empty() {
                    made.append(&mut result.made);
                    result.made = made;
                }
                Ok(result)
            }
        };
        // Who is gone meanwhile does not need it.
        let _ = answer.send(answered);
        Ok(())
    }

    /// Nobody gets an answer any more.
    fn lose(&self, why: Option<String>) {
        let waiting = self.waiting().take();
        if let Some(why) = why
            && waiting.is_some()
        {
            let _ = self.broken.set(why);
        }
    }

    /// Waits until the host has let go of a request, or ends with it.
    async fn let_go(self: Arc<Self>, id: u64, answered: oneshot::Receiver<Answered>) {
        let message = json!({"jsonrpc": "2.0", "method": "drop", "params": {"id": id}});
        let text = format!("{message}\n");
        let told = async {
            let sent = self.out.lock().await.write_all(text.as_bytes()).await;
            sent.is_ok() && answered.await.is_ok()
        };
        let has_let_go = tokio::time::timeout(LET_GO, told).await == Ok(true);
        if !has_let_go {
            // The item has failed, or the run ends.
            self.is_accounted_for.store(true, Ordering::Relaxed);
            self.lose(Some(
                "it did not let go of what was not waited for any more".to_owned(),
            ));
        }
        self.letting_go.send_modify(|count| *count -= 1);
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is open.
struct Open<'a> {
    line: &'a Arc<Line>,
    id: u64,
    stage: Stage,
}

/// How far a request has come.
enum Stage {
    Waiting,
    Writing,
    Sent,
}

impl Open<'_> {
    fn settle(self) {
        std::mem::forget(self);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        match self.stage {
            Stage::Waiting => {
                if let Some(waiting) = &mut *self.line.waiting() {
                    waiting.remove(&self.id);
                }
            }
            // The host has a part of a line, after which nothing can be said.
            Stage::Writing => {
                self.line.is_accounted_for.store(true, Ordering::Relaxed);
                self.line
                    .lose(Some("it did not read what it was sent".to_owned()));
            }
            Stage::Sent => {
                let (answer, answered) = oneshot::channel();
                match &mut *self.line.waiting() {
                    Some(waiting) => waiting.insert(self.id, Asked::new(answer)),
                    None => return,
                };
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    self.line.letting_go.send_modify(|count| *count += 1);
                    runtime.spawn(Arc::clone(self.line).let_go(self.id, answered));
                }
            }
        }
    }
}

/// Reads lines to the end. The error is what is wrong with them.
async fn read(
    input: OwnedReadHalf,
    mut hear: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let mut input = BufReader::with_capacity(READ, input);
    let mut begun = Vec::new();
    loop {
        // An end in the middle of a line is an end.
        let Ok(bytes) = input.fill_buf().await else {
            return Ok(());
        };
        if bytes.is_empty() {
            return Ok(());
        }
        let used = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) if begun.is_empty() => {
                hear(&bytes[..end])?;
                end + 1
            }
            Some(end) => {
                begun.extend_from_slice(&bytes[..end]);
                hear(&begun)?;
                begun.clear();
                end + 1
            }
            None => {
                begun.extend_from_slice(bytes);
                bytes.len()
            }
        };
        if begun.len() > MAX_ITEMS_LINE {
            return Err(format!(
                "it wrote a line of more than {MAX_ITEMS_LINE} bytes"
            ));
        }
        input.consume(used);
    }
}
