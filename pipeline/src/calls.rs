//! A node that is called: by a task of its own, several items at a time if it may, with all that
//! its policy says.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};

use futures::StreamExt;
use futures::stream::{FuturesOrdered, FuturesUnordered};
use serde_json::Value;
use tokio::time::Instant;

use crate::control::Control;
use crate::edge::{Received, Receiver};
use crate::expression::{Expression, Params, Template};
use crate::graph::{OnError, Policy};
use crate::item::{Item, Lineage};
use crate::output::{Output, count};
use crate::policy::{Memory, Rate, backoff};
use crate::run::UnitError;
use crate::segment::error_item;
use crate::sight::NodeSight;
use crate::surroundings::{Argument, Call, CallFuture, Failure};

/// A node and its edges.
pub(crate) struct CallUnit {
    pub(crate) caller: Arc<Caller>,
    pub(crate) receiver: Receiver,
    pub(crate) bound: usize,
    pub(crate) main: Vec<Output>,
    pub(crate) errors: Vec<Output>,
    pub(crate) has_tombstones: bool,
    pub(crate) is_ordered: bool,
    pub(crate) on_error: OnError,
    pub(crate) control: Control,
}

/// What attempts share.
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) node: Arc<dyn Call>,
    pub(crate) with: Template,
    pub(crate) params: Params,
    pub(crate) when: Option<Expression>,
    pub(crate) policy: Policy,
    /// Items that go into one call at most.
    pub(crate) batch: usize,
    /// Calls that may be open.
    pub(crate) open: usize,
    pub(crate) rate: Option<Rate>,
    pub(crate) memory: Option<Memory>,
    pub(crate) sight: Arc<NodeSight>,
}

/// What became of an item.
struct Outcome {
    lineage: Lineage,
    /// The item itself, if it may be needed.
    item: Option<Value>,
    /// `None`: it was a tombstone.
    made: Option<Result<Vec<Value>, Failure>>,
}

type Batch = Pin<Box<dyn Future<Output = Vec<Outcome>> + Send>>;

/// Calls in progress, whose results come in their order or as they are ready.
enum Flying {
    Ordered(FuturesOrdered<Batch>),
    Unordered(FuturesUnordered<Batch>),
}

impl Flying {
    fn len(&self) -> usize {
        match self {
            Self::Ordered(calls) => calls.len(),
            Self::Unordered(calls) => calls.len(),
        }
    }

    fn push(&mut self, call: Batch) {
        match self {
            Self::Ordered(calls) => calls.push_back(call),
            Self::Unordered(calls) => calls.push(call),
        }
    }

    async fn next(&mut self) -> Option<Vec<Outcome>> {
        match self {
            Self::Ordered(calls) => calls.next().await,
            Self::Unordered(calls) => calls.next().await,
        }
    }
}

impl CallUnit {
    /// Works until its input ends.
    pub(crate) async fn run(mut self) -> Result<(), UnitError> {
        let mut flying = match self.is_ordered {
            true => Flying::Ordered(FuturesOrdered::new()),
            false => Flying::Unordered(FuturesUnordered::new()),
        };
        let (mut queue, mut is_ended) = (VecDeque::new(), false);
        let mut watch = self.control.watch();
        let (open, most) = (self.caller.open, self.caller.batch);
        loop {
            let is_held = self.control.is_held(&self.caller.sight);
            let has_room = self.flush_now();
            if self.is_unread() {
                break;
            }
            let may_begin = !is_held && has_room;
            while may_begin && flying.len() < open && !queue.is_empty() {
                let items: Vec<Item> = queue.drain(..queue.len().min(most)).collect();
                let keeps = !self.errors.is_empty();
                let caller = Arc::clone(&self.caller);
                flying.push(Box::pin(async move { caller.work(items, keeps).await }));
            }
            if is_ended && queue.is_empty() && flying.len() == 0 && has_room {
                break;
            }
            tokio::select! {
                Some(outcomes) = flying.next(), if flying.len() > 0 => {
                    self.take(outcomes)?;
                }
                received = self.receiver.take(self.bound, &mut queue),
                    if !is_ended && queue.is_empty() =>
                {
                    match received {
                        Ok(Received::Items(_)) => {}
                        Ok(Received::End) => is_ended = true,
                        Err(_) => return Err(UnitError::Broken(self.caller.name.clone())),
                    }
                }
                () = flushed(&mut self.main, &mut self.errors), if !has_room => {}
                () = watch.changed(), if is_held => {}
            }
        }
        end(&self.caller.name, &*self.caller.node).await?;
        for output in self.main.iter_mut().chain(&mut self.errors) {
            output.end();
        }
        self.caller.sight.is_ended.store(true, Relaxed);
        Ok(())
    }

    /// Sends results on.
    fn take(&mut self, outcomes: Vec<Outcome>) -> Result<(), UnitError> {
        let (mut made, mut failed) = (Vec::new(), Vec::new());
        let sight = &self.caller.sight;
        for Outcome {
            lineage,
            item,
            made: result,
        } in outcomes
        {
            let tombstone = |to: &mut Vec<Item>, lineage: &Lineage| {
                if self.has_tombstones {
                    to.push(Item::tombstone(lineage.clone()));
                }
            };
            match result {
                None => {
                    tombstone(&mut made, &lineage);
                    tombstone(&mut failed, &lineage);
                }
                Some(Ok(mut values)) => {
                    tombstone(&mut failed, &lineage);
                    match values.len() {
                        0 => tombstone(&mut made, &lineage),
                        1 => made.extend(values.pop().map(|value| Item::new(lineage, value))),
                        _ => made.extend(
                            (0..)
                                .zip(values)
                                .map(|(n, value)| Item::new(lineage.child(n), value)),
                        ),
                    }
                }
                Some(Err(failure)) => {
                    sight.fail(&failure.reason);
                    if self.on_error == OnError::Fail {
                        let (name, reason) = (&self.caller.name, failure.reason);
                        return Err(UnitError::failed(name, Some(&lineage), reason));
                    }
                    tombstone(&mut made, &lineage);
                    if self.on_error == OnError::Edge {
                        let value = error_item(&self.caller.name, item, &failure.reason);
                        failed.push(Item::new(lineage, value));
                    }
                }
            }
        }
        count(&made, sight);
        for (outputs, items) in [(&mut self.main, made), (&mut self.errors, failed)] {
            for output in outputs {
                output.sight().pass(&items);
                output.put(items.iter().cloned());
            }
        }
        Ok(())
    }

    /// Whether all results are sent.
    fn flush_now(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        poll_flush(&mut self.main, &mut self.errors, &mut cx).is_ready()
    }

    fn is_unread(&self) -> bool {
        let mut outputs = self.main.iter().chain(&self.errors).peekable();
        outputs.peek().is_some() && outputs.all(Output::is_unread)
    }
}

/// Lets a node clean up after its last item.
pub(crate) async fn end(name: &str, node: &dyn Call) -> Result<(), UnitError> {
    let ended = node.end().await;
    ended.map_err(|failure| UnitError::failed(name, None, failure.reason))
}

/// Waits until all results are sent.
pub(crate) async fn flushed(main: &mut [Output], errors: &mut [Output]) {
    std::future::poll_fn(|cx| poll_flush(main, errors, cx)).await;
}

/// Ready when all results are sent. Every edge is asked, since each wakes by itself.
fn poll_flush(main: &mut [Output], errors: &mut [Output], cx: &mut Context<'_>) -> Poll<()> {
    let mut all = Poll::Ready(());
    for output in main.iter_mut().chain(errors) {
        if output.poll_flush(cx).is_pending() {
            all = Poll::Pending;
        }
    }
    all
}

impl Caller {
    /// Works on a batch: what need not be called is settled first, the rest is called, and what
    /// failed once more.
    async fn work(&self, items: Vec<Item>, keeps: bool) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(items.len());
        // The places of items that must be called, with their arguments and keys.
        let mut due = Vec::new();
        for Item { lineage, value } in items {
            let mut outcome = Outcome {
                lineage,
                item: None,
                made: None,
            };
            if let Some(mut item) = value {
                self.sight.received.fetch_add(1, Relaxed);
                let settled = self.settle(&mut item);
                outcome.item = keeps.then(|| item.clone());
                match settled {
                    Settled::Made(values) => outcome.made = Some(Ok(values)),
                    Settled::AsItIs => outcome.made = Some(Ok(vec![item])),
                    Settled::Failed(reason) => outcome.made = Some(Err(Failure::lasting(reason))),
                    Settled::Due(with, key) => {
                        due.push((outcomes.len(), Argument { item, with }, key));
                    }
                }
            }
            outcomes.push(outcome);
        }
        let retry = &self.policy.retry;
        for attempt in 1.. {
            if due.is_empty() {
                break;
            }
            let is_last = attempt >= retry.attempts;
            let arguments: Vec<Argument> = match is_last {
                true => due
                    .iter_mut()
                    .map(|(_, argument, _)| std::mem::replace(argument, EMPTY))
                    .collect(),
                false => due
                    .iter()
                    .map(|(_, argument, _)| argument.clone())
                    .collect(),
            };
            let results = self.attempt(arguments).await;
            let mut again = Vec::new();
            for ((place, argument, key), result) in due.into_iter().zip(results) {
                match result {
                    Err(failure) if !is_last && !failure.is_final => {
                        again.push((place, argument, key));
                    }
                    result => {
                        if let (Some(memory), Some(key), Ok(values)) = (&self.memory, key, &result)
                        {
                            memory.put(key, values);
                        }
                        outcomes[place].made = Some(result);
                    }
                }
            }
            due = again;
            if !due.is_empty() {
                self.sight.retried.fetch_add(due.len() as u64, Relaxed);
                tokio::time::sleep(backoff(retry, attempt)).await;
            }
        }
        outcomes
    }

    /// What can be said of an item without a call.
    fn settle(&self, item: &mut Value) -> Settled {
        if let Some(when) = &self.when {
            match when.holds(item, &self.params) {
                Ok(true) => {}
                Ok(false) => return Settled::AsItIs,
                Err(reason) => return Settled::Failed(reason),
            }
        }
        let with = match self.with.value(item, &self.params) {
            Ok(with) => with,
            Err(reason) => return Settled::Failed(reason),
        };
        let Some(memory) = &self.memory else {
            return Settled::Due(with, None);
        };
        let key = format!("{}\n{with}\n{item}", memory.fingerprint);
        match memory.get(&key) {
            Some(values) => {
                self.sight.cached.fetch_add(1, Relaxed);
                Settled::Made(values)
            }
            None => Settled::Due(with, Some(key)),
        }
    }

    /// Calls once, and gives an answer for each item.
    async fn attempt(&self, arguments: Vec<Argument>) -> Vec<Result<Vec<Value>, Failure>> {
        let count = arguments.len();
        if let Some(rate) = &self.rate {
            rate.wait(count).await;
        }
        if self.policy.timeout.is_some() {
            self.node.ready().await;
        }
        let _in_flight = InFlight::new(&self.sight, count);
        let start = Instant::now();
        let call = self.node.call(arguments);
        let mut results = match self.policy.timeout {
            None => call.await,
            Some(timeout) => match tokio::time::timeout(timeout, call).await {
                Ok(results) => results,
                Err(_) => {
                    let text = format!("it took longer than {} s", timeout.as_secs_f64());
                    vec![Err(Failure::passing(text)); count]
                }
            },
        };
        self.sight.latency.record(start.elapsed(), count as u64);
        let missing = || Err(Failure::passing("the node did not answer for it"));
        results.resize_with(count, missing);
        results
    }
}

const EMPTY: Argument = Argument {
    item: Value::Null,
    with: Value::Null,
};

enum Settled {
    Made(Vec<Value>),
    AsItIs,
    Failed(String),
    Due(Value, Option<String>),
}

/// Items counted as being worked on, until it is dropped.
struct InFlight<'a>(&'a NodeSight, u64);

impl<'a> InFlight<'a> {
    fn new(sight: &'a NodeSight, count: usize) -> Self {
        sight.in_flight.fetch_add(count as u64, Relaxed);
        Self(sight, count as u64)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(self.1, Relaxed);
    }
}

/// `map` as a node that is called, where its policy asks for what only those have.
pub(crate) struct MapCall(pub(crate) Arc<Expression>, pub(crate) Params);

impl Call for MapCall {
    fn call(&self, items: Vec<Argument>) -> CallFuture<'_> {
        Box::pin(async move {
            let value = |mut argument: Argument| {
                let value = self.0.value(&mut argument.item, &self.1);
                value.map(|value| vec![value]).map_err(Failure::lasting)
            };
            items.into_iter().map(value).collect()
        })
    }

    fn fingerprint(&self) -> String {
        self.0.text().to_owned()
    }
}
