//! The messages of a module's hosts: shown to those who want to see them, and held up to try what happens then.
//!
//! While nobody watches and nothing is held up, a message costs two loads of a number.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use globset::{Glob, GlobMatcher};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Messages that wait for a watcher that does not read; beyond, it is told how many it missed.
const MAX_WAITING: usize = 256;
/// Bytes of a message that are shown.
const MAX_SHOWN: usize = 16 * 1024;
/// The longest time that a message can be delayed.
pub const MAX_DELAY: Duration = Duration::from_secs(3600);
/// Bytes of the messages of one host that are held up; what comes beyond is dropped.
const MAX_HELD: usize = 16 * 1024 * 1024;

/// A message of the protocol that went by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traced {
    /// Milliseconds since 1970 (UTC).
    pub at: u64,
    /// The host's process.
    pub pid: i32,
    /// Where it went.
    pub direction: Direction,
    /// The method; of an answer that of its request, with `.answer` behind it.
    pub topic: String,
    /// Its bytes.
    pub size: usize,
    /// The message, or its beginning.
    pub message: String,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// From the runner to the host.
    ToHost,
    /// From the host to the runner.
    #[default]
    FromHost,
}

/// What is done with messages, to see what happens when a module is stuck.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "action", deny_unknown_fields)]
pub enum Fault {
    /// They come later by so many seconds.
    Delay {
        /// How much later.
        seconds: f64,
    },
    /// They come when the fault is taken away.
    Defer,
    /// They never come.
    Drop,
}

/// A fault, and the messages that it is about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Faulty {
    /// A glob of topics.
    pub messages: String,
    /// Where they go.
    pub direction: Direction,
    /// What is done with them.
    #[serde(flatten)]
    pub fault: Fault,
}

/// Why a pattern or a fault is not usable.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The pattern is no glob.
    #[error("the pattern {0:?} is no glob such as \"run*\" or \"{{log,progress}}\": {1}")]
    Pattern(String, String),
    /// The time is none.
    #[error("the delay {0} is not usable; expected seconds from 0 to 3600")]
    Delay(f64),
}

/// What all hosts of a module share, also over its replacement.
#[derive(Debug)]
pub(crate) struct Tap {
    watchers: broadcast::Sender<Arc<Traced>>,
    is_faulty: AtomicBool,
    faults: Mutex<Vec<(Faulty, GlobMatcher)>>,
    /// Woken when a fault is taken away.
    changed: Notify,
    /// Cancelled when the module is gone.
    gone: CancellationToken,
}

impl Default for Tap {
    fn default() -> Self {
        Self {
            watchers: broadcast::Sender::new(MAX_WAITING),
            is_faulty: AtomicBool::new(false),
            faults: Mutex::default(),
            changed: Notify::new(),
            gone: CancellationToken::new(),
        }
    }
}

/// Sees the messages of a module whose topics match a pattern.
#[derive(Debug)]
pub struct Trace {
    receiver: broadcast::Receiver<Arc<Traced>>,
    pattern: GlobMatcher,
    gone: CancellationToken,
}

/// What is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A message.
    Message(Arc<Traced>),
    /// So many were not seen, since they came faster than they were read.
    Dropped(u64),
}

impl Trace {
    /// What comes next; `None` when the module is gone.
    pub async fn next(&mut self) -> Option<Seen> {
        loop {
            let received = tokio::select! {
                biased;
                received = self.receiver.recv() => received,
                () = self.gone.cancelled() => return None,
            };
            match received {
                Ok(message) if self.pattern.is_match(&message.topic) => {
                    return Some(Seen::Message(message));
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    return Some(Seen::Dropped(count));
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Tap {
    /// Shows messages whose topics match.
    pub(crate) fn trace(&self, pattern: &str) -> Result<Trace, TapError> {
        Ok(Trace {
            receiver: self.watchers.subscribe(),
            pattern: matcher(pattern)?,
            gone: self.gone.clone(),
        })
    }

    /// The module is gone: nobody sees anything more.
    pub(crate) fn close(&self) {
        self.gone.cancel();
    }

    /// The faults, those first that are looked at first.
    pub(crate) fn faults(&self) -> Vec<Faulty> {
        self.locked()
            .iter()
            .map(|(fault, _)| fault.clone())
            .collect()
    }

    /// Adds a fault for the messages of a pattern that go one way, in place of the one that they have; `None` takes
    /// that away.
    pub(crate) fn set_fault(
        &self,
        messages: &str,
        direction: Direction,
        fault: Option<Fault>,
    ) -> Result<(), TapError> {
        let pattern = matcher(messages)?;
        if let Some(Fault::Delay { seconds }) = fault
            && !(0.0..=MAX_DELAY.as_secs_f64()).contains(&seconds)
        {
            return Err(TapError::Delay(seconds));
        }
        let mut faults = self.locked();
        faults.retain(|(other, _)| (&*other.messages, other.direction) != (messages, direction));
        if let Some(fault) = fault {
            let messages = messages.to_owned();
            let faulty = Faulty {
                messages,
                direction,
                fault,
            };
            faults.push((faulty, pattern));
        }
        self.is_faulty.store(!faults.is_empty(), Ordering::Release);
        drop(faults);
        self.changed.notify_waiters();
        Ok(())
    }

    /// A message goes by. `asked` is the request that is open, for answers.
    pub(crate) fn pass(&self, direction: Direction, pid: i32, asked: &str, line: &[u8]) {
        if self.watchers.receiver_count() == 0 {
            return;
        }
        let shown = &line[..line.len().min(MAX_SHOWN)];
        let at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let traced = Traced {
            at: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            pid,
            direction,
            topic: topic(asked, line),
            size: line.len(),
            message: String::from_utf8_lossy(shown).into_owned(),
        };
        // The last watcher may have just left.
        let _ = self.watchers.send(Arc::new(traced));
    }

    fn fault_of(&self, direction: Direction, asked: &str, line: &[u8]) -> Option<Fault> {
        if !self.is_faulty.load(Ordering::Acquire) {
            return None;
        }
        let topic = topic(asked, line);
        let faults = self.locked();
        let mut faults = faults.iter();
        let found = faults
            .find(|(faulty, pattern)| faulty.direction == direction && pattern.is_match(&topic));
        found.map(|(faulty, _)| faulty.fault)
    }

    fn locked(&self) -> MutexGuard<'_, Vec<(Faulty, GlobMatcher)>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages of or to one host that are held up, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Held {
    tap: Arc<Tap>,
    direction: Direction,
    lines: VecDeque<(Option<Instant>, Vec<u8>)>,
    size: usize,
}

impl Held {
    pub(crate) fn new(tap: Arc<Tap>, direction: Direction) -> Self {
        Self {
            tap,
            direction,
            lines: VecDeque::new(),
            size: 0,
        }
    }

    pub(crate) fn tap(&self) -> &Tap {
        &self.tap
    }

    /// The message, unless it is held up or dropped.
    pub(crate) fn let_through(&mut self, asked: &str, line: Vec<u8>) -> Option<Vec<u8>> {
        let due = match self.tap.fault_of(self.direction, asked, &line) {
            None => return Some(line),
            Some(Fault::Drop) => return None,
            Some(Fault::Defer) => None,
            Some(Fault::Delay { seconds }) => {
                Some(Instant::now() + Duration::try_from_secs_f64(seconds).unwrap_or(MAX_DELAY))
            }
        };
        if self.size + line.len() <= MAX_HELD {
            self.size += line.len();
            self.lines.push_back((due, line));
        }
        None
    }

    /// The first of them, when it is due. Given up half way, it loses none.
    pub(crate) async fn due(&mut self, asked: &str) -> Vec<u8> {
        loop {
            let tap = Arc::clone(&self.tap);
            let changed = tap.changed.notified();
            match self.lines.front() {
                None => changed.await,
                Some((Some(due), _)) if *due <= Instant::now() => return self.take(),
                Some((Some(due), _)) => tokio::time::sleep_until(*due).await,
                Some((None, line)) => match tap.fault_of(self.direction, asked, line) {
                    Some(_) => changed.await,
                    None => return self.take(),
                },
            }
        }
    }

    fn take(&mut self) -> Vec<u8> {
        let line = self
            .lines
            .pop_front()
            .map(|(_, line)| line)
            .unwrap_or_default();
        self.size -= line.len();
        line
    }
}

fn matcher(pattern: &str) -> Result<GlobMatcher, TapError> {
    let glob = Glob::new(pattern);
    let glob =
        glob.map_err(|error| TapError::Pattern(pattern.to_owned(), error.kind().to_string()));
    Ok(glob?.compile_matcher())
}

fn topic(asked: &str, line: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Head {
        method: Option<String>,
    }
    match serde_json::from_slice::<Head>(line) {
        Ok(Head {
            method: Some(method),
        }) => method,
        Ok(Head { method: None }) => format!("{asked}.answer"),
        Err(_) => "garbage".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] = br#"{"jsonrpc":"2.0","method":"log","params":{"text":"a"}}"#;
    const ANSWER: &[u8] = br#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

    #[tokio::test]
    async fn a_watcher_sees_what_matches_and_is_told_what_it_missed() {
        let tap = Tap::default();
        tap.pass(Direction::FromHost, 7, "run", LOG);
        let mut trace = tap.trace("run*").unwrap();
        tap.pass(Direction::FromHost, 7, "run", LOG);
        tap.pass(Direction::FromHost, 7, "run", ANSWER);
        let Some(Seen::Message(message)) = trace.next().await else {
            panic!("a message")
        };
        assert_eq!(
            (message.topic.as_str(), message.size),
            ("run.answer", ANSWER.len())
        );
        for _ in 0..MAX_WAITING + 10 {
            tap.pass(Direction::FromHost, 7, "run", ANSWER);
        }
        assert_eq!(trace.next().await, Some(Seen::Dropped(10)));
        assert!(matches!(trace.next().await, Some(Seen::Message(_))));
        tap.close();
        let mut rest = 0;
        while trace.next().await.is_some() {
            rest += 1;
        }
        assert_eq!(rest, MAX_WAITING - 1);
    }

    #[tokio::test]
    async fn messages_are_delayed_deferred_and_dropped() {
        let tap = Arc::new(Tap::default());
        let mut held = Held::new(Arc::clone(&tap), Direction::FromHost);
        let through =
            |held: &mut Held, line: &[u8]| held.let_through("run", line.to_vec()).is_some();
        assert!(through(&mut held, LOG));
        tap.set_fault("log", Direction::ToHost, Some(Fault::Drop))
            .unwrap();
        assert!(through(&mut held, LOG), "it goes the other way");
        tap.set_fault("log", Direction::ToHost, None).unwrap();
        tap.set_fault("log", Direction::FromHost, Some(Fault::Drop))
            .unwrap();
        assert!(!through(&mut held, LOG) && through(&mut held, ANSWER));
        tap.set_fault(
            "log",
            Direction::FromHost,
            Some(Fault::Delay { seconds: 0.05 }),
        )
        .unwrap();
        assert!(!through(&mut held, LOG));
        let begin = Instant::now();
        assert_eq!(held.due("run").await, LOG);
        assert!(begin.elapsed() >= Duration::from_millis(50));
        tap.set_fault("*.answer", Direction::FromHost, Some(Fault::Defer))
            .unwrap();
        assert_eq!(tap.faults().len(), 2);
        assert!(!through(&mut held, ANSWER));
        {
            let mut due = std::pin::pin!(held.due("run"));
            assert!(futures::poll!(&mut due).is_pending());
            tap.set_fault("*.answer", Direction::FromHost, None)
                .unwrap();
            assert_eq!(due.await, ANSWER);
        }
        assert!(through(&mut held, ANSWER));
    }

    #[test]
    fn what_is_no_pattern_or_delay_is_refused() {
        let tap = Tap::default();
        let error = tap.trace("[").unwrap_err().to_string();
        assert!(error.contains("\"[\""), "{error}");
        for seconds in [-1.0, 3601.0, f64::NAN] {
            let fault = Some(Fault::Delay { seconds });
            assert!(
                tap.set_fault("*", Direction::FromHost, fault).is_err(),
                "{seconds}"
            );
        }
        assert!(tap.faults().is_empty());
    }
}
