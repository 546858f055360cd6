//! A plugin that is a node in a host.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use runner_host::protocol::{MAX_ITEM, MAX_LINE, NodeOpened, NodeRequest, RpcError};
use runner_pipeline::{
    Argument, Call, CallFuture, EndFuture, Failure, PullFuture, Pulled, ReadyFuture,
};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::line::{Answer, Failed, Line, Lost, Made};
use super::{Opener, path_of};

/// Items that go into one request at most, unless the node says how many.
const BATCH: usize = 1024;
/// How long a node may take to be set up.
const SETUP: Duration = Duration::from_secs(60);
/// Hosts that may end one after the other with an item, before no more is tried.
const MAX_LOST: u32 = 3;

/// A node, which has the same number in each host that it comes to have.
pub(crate) struct HostedNode {
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) opener: Arc<Opener>,
    pub(crate) plugin: String,
    /// Its parameters, where they are the same for every item.
    pub(crate) with: Option<Map<String, Value>>,
    pub(crate) concurrency: usize,
    pub(crate) opened: NodeOpened,
    /// Where it is open.
    pub(crate) line: Mutex<Option<Arc<Line>>>,
    /// Hosts that ended with an item since the last item that was worked on.
    pub(crate) lost: AtomicU32,
}

impl Call for HostedNode {
    fn call(&self, items: Vec<Argument>) -> CallFuture<'_> {
        Box::pin(async move {
            let mut results = Vec::with_capacity(items.len());
            while results.len() < items.len() {
                self.work(&items[results.len()..], &mut results).await;
            }
            results
        })
    }

    fn ready(&self) -> ReadyFuture<'_> {
        Box::pin(async move {
            let current = self.line.lock().await.clone();
            if let Some(line) = current {
                line.settled().await;
            }
            // Why it cannot be opened again, the call tells.
            let _ = self.line().await;
        })
    }

    fn batch(&self) -> usize {
        BATCH
    }

    fn ahead(&self) -> usize {
        1
    }

    fn is_source(&self) -> bool {
        self.opened.source
    }

    fn pull(&self, most: usize) -> PullFuture<'_> {
        Box::pin(async move {
            let line = self.line().await?;
            let asked = json!({"node": self.number, "count": most});
            let Answer {
                mut values, end, ..
            } = match line.ask("pull", asked).await {
                Ok(answer) => answer.map_err(|error| Failure::lasting(error.text()))?,
                Err(Lost) => return Err(self.how(&line, "while it made items").await),
            };
            if values.len() > most {
                let text = format!("it made {} items where {most} were asked for", values.len());
                return Err(Failure::lasting(text));
            }
            self.opener.take(line.host, &mut values).await?;
            Ok(Pulled {
                values,
                is_end: end,
            })
        })
    }

    fn end(&self) -> EndFuture<'_> {
        Box::pin(async move {
            let Some(line) = self.line.lock().await.take() else {
                return Ok(());
            };
            match line.ask("close", json!({"node": self.number})).await {
                Ok(answer) => answer.map(drop).map_err(|error| {
                    Failure::lasting(format!("its cleanup failed: {}", error.text()))
                }),
                // What was lost with it, items have told.
                Err(Lost) if line.is_accounted_for.load(Ordering::Relaxed) => Ok(()),
                Err(Lost) => Err(self.how(&line, "in its cleanup").await),
            }
        })
    }

    fn fingerprint(&self) -> String {
        format!("{} {}", self.opened.plugin, self.opened.digest)
    }
}

impl HostedNode {
    /// Works on the first of these items, on one at least.
    async fn work(&self, items: &[Argument], results: &mut Vec<Result<Vec<Value>, Failure>>) {
        // An item that is a file goes by itself.
        let first = items.iter().position(|item| path_of(&item.item).is_some());
        let items = match first {
            Some(0) => return results.push(self.file(&items[0]).await),
            Some(first) => &items[..first],
            None => items,
        };
        let line = match self.line().await {
            Ok(line) => line,
            Err(failure) => {
                results.extend(items.iter().map(|_| Err(failure.clone())));
                return;
            }
        };
        let id = line.next_id();
        let request = match Request::new(id, self, items) {
            Ok(request) => request,
            Err(failure) => return results.push(Err(failure)),
        };
        let asked = {
            let _turn = line.turn.read().await;
            line.send(id, &request.text).await
        };
        match asked {
            Ok(answer) => {
                let first = results.len();
                self.settle(answer, request.count, results);
                self.take(&line, &mut results[first..]).await;
            }
            Err(Lost) if self.opened.repeatable => {
                line.is_accounted_for.store(true, Ordering::Relaxed);
                for item in &items[..request.count] {
                    results.push(self.alone(item).await);
                }
            }
            Err(Lost) => {
                line.is_accounted_for.store(true, Ordering::Relaxed);
                let failure = self.how(&line, "while it worked on the item").await;
                results.extend((0..request.count).map(|_| Err(failure.clone())));
            }
        }
    }

    /// Works on one item that is a file.
    async fn file(&self, item: &Argument) -> Result<Vec<Value>, Failure> {
        let line = self.line().await?;
        let asked = {
            let _turn = line.turn.read().await;
            self.one(&line, item).await?
        };
        if let Some(made) = asked {
            return made;
        }
        line.is_accounted_for.store(true, Ordering::Relaxed);
        match self.opened.repeatable {
            true => self.alone(item).await,
            false => Err(self.how(&line, "while it worked on the item").await),
        }
    }

    /// Works on one item. `None`: the host was lost.
    async fn one(
        &self,
        line: &Arc<Line>,
        item: &Argument,
    ) -> Result<Option<Result<Vec<Value>, Failure>>, Failure> {
        let given = self.opener.give(line.host, item).await?;
        let id = line.next_id();
        let request = Request::new(
            id,
            self,
            std::slice::from_ref(given.as_ref().unwrap_or(item)),
        )?;
        let Ok(answer) = line.send(id, &request.text).await else {
            return Ok(None);
        };
        let mut result = Vec::with_capacity(1);
        self.settle(answer, 1, &mut result);
        self.take(line, &mut result).await;
        if let Some(given) = given {
            self.opener.forget(line.host, &given).await;
        }
        Ok(Some(result.pop().unwrap_or_else(|| Ok(Vec::new()))))
    }

    /// Takes the files that were made.
    async fn take(&self, line: &Arc<Line>, results: &mut [Result<Vec<Value>, Failure>]) {
        for result in results {
            if let Ok(values) = result
                && let Err(failure) = self.opener.take(line.host, values).await
            {
                *result = Err(failure);
            }
        }
    }

    /// Works on one item that may be the one with which a host ended, while nothing else does.
    async fn alone(&self, item: &Argument) -> Result<Vec<Value>, Failure> {
        let line = self.line().await?;
        let asked = {
            let _turn = line.turn.write().await;
            self.one(&line, item).await?
        };
        if let Some(made) = asked {
            return made;
        }
        line.is_accounted_for.store(true, Ordering::Relaxed);
        self.lost.fetch_add(1, Ordering::Relaxed);
        Err(self.how(&line, "while it worked on the item").await)
    }

    /// Takes what was made of the first items.
    fn settle(
        &self,
        answer: Result<Answer, RpcError>,
        count: usize,
        results: &mut Vec<Result<Vec<Value>, Failure>>,
    ) {
        let failure = match answer {
            Ok(Answer { made, .. }) if made.len() == count => {
                self.lost.store(0, Ordering::Relaxed);
                results.extend(made.into_iter().map(|made| match made {
                    Made::Values(values) => Ok(values),
                    Made::Failed(Failed { error, lasting }) => Err(Failure {
                        reason: error,
                        is_final: lasting,
                    }),
                }));
                return;
            }
            Ok(Answer { made, .. }) => Failure::lasting(format!(
                "it answered for {} items where it was given {count}",
                made.len()
            )),
            Err(error) => Failure::passing(error.text()),
        };
        results.extend((0..count).map(|_| Err(failure.clone())));
    }

    /// Where it is open; opened again in another host where that was lost.
    async fn line(&self) -> Result<Arc<Line>, Failure> {
        let mut current = self.line.lock().await;
        if let Some(line) = &*current
            && !line.is_lost()
        {
            return Ok(Arc::clone(line));
        }
        if self.lost.load(Ordering::Relaxed) >= MAX_LOST {
            return Err(Failure::lasting(format!(
                "{MAX_LOST} hosts in a row ended with an item; it is given no more"
            )));
        }
        let lost = current.as_ref().map(|line| line.host);
        let line = self.open(lost).await.map_err(Failure::passing)?;
        *current = Some(Arc::clone(&line));
        Ok(line)
    }

    /// Opens it in a host.
    pub(crate) async fn open(&self, lost: Option<u64>) -> Result<Arc<Line>, String> {
        let request = NodeRequest {
            plugin: self.plugin.clone(),
            with: self.with.clone(),
            lost,
            ..NodeRequest::default()
        };
        let (opened, line) = self.opener.open(request).await?;
        let line = line.ok_or_else(|| format!("{} has no host", self.plugin))?;
        self.set_up(&line, opened.directory).await?;
        Ok(line)
    }

    /// Sets it up in a host, which may write files into `directory`.
    pub(crate) async fn set_up(
        &self,
        line: &Arc<Line>,
        directory: Option<String>,
    ) -> Result<(), String> {
        let params = json!({
            "node": self.number, "name": self.name, "plugin": self.opened.plugin,
            "with": self.opened.with, "concurrency": self.concurrency, "directory": directory,
        });
        let opened = tokio::time::timeout(SETUP, line.ask("open", params)).await;
        match opened {
            Err(_) => Err(format!("it was not set up within {} s", SETUP.as_secs())),
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err(error))) => Err(error.text()),
            Ok(Err(Lost)) => Err(self.how(line, "during its setup").await.reason),
        }
    }

    /// How a host ended, which who starts the next one knows.
    async fn how(&self, line: &Arc<Line>, when: &str) -> Failure {
        let how = match line.broken() {
            Some(why) => Some(why.to_owned()),
            None => self.opener.how(line.host).await,
        };
        let how = how.unwrap_or_else(|| "no more is known".to_owned());
        Failure::passing(format!("its host ended {when}: {how}"))
    }
}

/// A request for some items.
struct Request {
    text: Vec<u8>,
    /// How many items are in it.
    count: usize,
}

impl Request {
    /// Takes the first items, as many as fit into a line of usual length. The failure is that of the
    /// first.
    fn new(id: u64, node: &HostedNode, items: &[Argument]) -> Result<Self, Failure> {
        let number = node.number;
        let mut text = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"items","params":{{"node":{number},"items":["#
        )
        .into_bytes();
        let mut withs = Vec::new();
        let mut count = 0;
        for Argument { item, with } in items {
            let begin = (text.len(), withs.len());
            let separator: &[u8] = if count == 0 { b"" } else { b"," };
            text.extend_from_slice(separator);
            write(&mut text, item)?;
            if node.with.is_none() {
                withs.extend_from_slice(separator);
                write(&mut withs, with)?;
            }
            let size = text.len() - begin.0 + withs.len() - begin.1;
            if count == 0 && size > MAX_ITEM {
                return Err(Failure::lasting(format!(
                    "the item has {size} bytes as JSON; one that goes to a host has at most {MAX_ITEM}"
                )));
            }
            if count > 0 && text.len() + withs.len() > MAX_LINE {
                text.truncate(begin.0);
                withs.truncate(begin.1);
                break;
            }
            count += 1;
        }
        text.push(b']');
        if node.with.is_none() {
            text.extend_from_slice(br#","with":["#);
            text.append(&mut withs);
            text.push(b']');
        }
        text.extend_from_slice(b"}}\n");
        Ok(Self { text, count })
    }
}

fn write(text: &mut Vec<u8>, value: &Value) -> Result<(), Failure> {
    serde_json::to_writer(text, value).map_err(|error| Failure::lasting(error.to_string()))
}
