//! The nodes of a library that are open, and the requests to them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::failure::{RunFailure, code};
use crate::{Failure, HostCalls, Made, Node, Opening, panics};

/// Bytes of outcomes that are sent together.
const PART: usize = 1 << 20;

/// A request to a node.
#[derive(Deserialize)]
pub(crate) struct NodeRequest<'a> {
    id: u64,
    #[serde(borrow)]
    pub(crate) method: Cow<'a, str>,
    pub(crate) params: NodeParams,
}

#[derive(Deserialize)]
pub(crate) struct NodeParams {
    node: u64,
    #[serde(default)]
    pub(crate) plugin: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    directory: Option<PathBuf>,
    #[serde(default)]
    with: With,
    #[serde(default)]
    items: Vec<Value>,
    #[serde(default)]
    count: usize,
}

/// Parameters of a node, or of each item.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum With {
    Each(Vec<Map<String, Value>>),
    Fixed(Map<String, Value>),
    #[default]
    None,
}

/// A node that is open; requests to it come one after the other.
type OpenNode = Arc<Mutex<Box<dyn Node>>>;

/// The nodes that are open, by number.
#[derive(Default)]
pub(crate) struct Nodes(Mutex<HashMap<u64, OpenNode>>);

impl Nodes {
    /// Keeps a node that was opened by this request.
    pub(crate) fn open(
        &self,
        params: NodeParams,
        open: impl FnOnce(&Opening) -> Result<Box<dyn Node>, Failure>,
    ) -> Result<Vec<u8>, RunFailure> {
        let opening = Opening {
            name: params.name,
            directory: params.directory,
            with: match params.with {
                With::Fixed(with) => Some(with),
                With::Each(_) | With::None => None,
            },
        };
        let node = panics::catch(|| open(&opening))?;
        self.known().insert(params.node, Arc::new(Mutex::new(node)));
        Ok(b"{}".to_vec())
    }

    /// Answers any other request; the result is JSON.
    pub(crate) fn answer(
        &self,
        request: NodeRequest<'_>,
        host: &dyn HostCalls,
    ) -> Result<Vec<u8>, RunFailure> {
        let number = request.params.node;
        let node = match request.method.as_ref() {
            "close" => self.known().remove(&number),
            _ => self.known().get(&number).cloned(),
        };
        let refused = |text: String| RunFailure::new(code::INVALID_PARAMS, text);
        let node = node.ok_or_else(|| refused(format!("node {number} is not open")))?;
        // After a panic in the middle of an item the node is as it is.
        let mut node = node.lock().unwrap_or_else(PoisonError::into_inner);
        match request.method.as_ref() {
            "items" => Ok(items(&mut **node, request, host)),
            "pull" => pull(&mut **node, request.params.count),
            "close" => {
                panics::catch(|| node.end())?;
                Ok(b"{}".to_vec())
            }
            other => Err(refused(format!("unknown method {other:?}"))),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, OpenNode>> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn items(node: &mut dyn Node, request: NodeRequest<'_>, host: &dyn HostCalls) -> Vec<u8> {
    let NodeParams { items, with, .. } = request.params;
    let withs = match with {
        With::Each(withs) => withs,
        With::Fixed(_) | With::None => Vec::new(),
    };
    let mut made = Made::default();
    for (number, item) in items.into_iter().enumerate() {
        if made.len() > PART {
            let outcomes = [b"[", made.take().as_slice(), b"]"].concat();
            let outcomes: Value = serde_json::from_slice(&outcomes).unwrap_or_default();
            host.notify("made", json!({"id": request.id, "made": outcomes}));
        }
        made.outcome(|made| {
            let worked = panics::catch(|| Ok(node.item(item, withs.get(number), made)));
            worked.unwrap_or_else(|panic| Err(Failure::new(panic.message)))
        });
    }
    [br#"{"made":["#, made.take().as_slice(), b"]}"].concat()
}

fn pull(node: &mut dyn Node, count: usize) -> Result<Vec<u8>, RunFailure> {
    let mut made = Made::default();
    let goes_on = panics::catch(|| node.pull(count, &mut made))?;
    let values = made.take();
    let end: &[u8] = if goes_on { b"false" } else { b"true" };
    Ok([
        br#"{"values":["#,
        values.as_slice(),
        br#"],"end":"#,
        end,
        b"}",
    ]
    .concat())
}
