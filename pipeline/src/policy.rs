//! What a policy needs to remember between calls: when the next may be made, and what came of
//! earlier ones.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::graph::Retry;

/// Bytes of a result that is remembered at most.
const MAX_REMEMBERED: usize = 64 << 10;

/// The wait before the next attempt: between half and all of what has grown so far, so that those
/// that failed together do not come back together.
pub(crate) fn backoff(retry: &Retry, attempt: u32) -> Duration {
    let exponent = i32::try_from(attempt - 1).unwrap_or(i32::MAX);
    let grown = retry.backoff.as_secs_f64() * retry.factor.powi(exponent);
    let whole = grown.min(retry.most.as_secs_f64());
    let random = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
    Duration::from_secs_f64(whole * (0.5 + random / 2.0))
}

/// So many items a second, evenly.
pub(crate) struct Rate {
    each: Duration,
    next: Mutex<Option<Instant>>,
}

impl Rate {
    pub(crate) fn new(per_second: f64) -> Self {
        // Never longer than a day for one item.
        let each = Duration::from_secs_f64((1.0 / per_second).min(86_400.0));
        Self {
            each,
            next: Mutex::new(None),
        }
    }

    /// Waits for the turn of so many items.
    pub(crate) async fn wait(&self, count: usize) {
        let now = Instant::now();
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = next.map_or(now, |next| next.max(now));
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            *next = Some(turn + self.each.saturating_mul(count));
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

/// Results by what they were made of; the oldest are forgotten.
pub(crate) struct Memory {
    pub(crate) fingerprint: String,
    most: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    results: HashMap<String, Vec<Value>>,
    /// Keys, the oldest first.
    order: VecDeque<String>,
}

impl Memory {
    pub(crate) fn new(fingerprint: String, most: usize) -> Self {
        Self {
            fingerprint,
            most,
            known: Mutex::default(),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Vec<Value>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.results.get(key).cloned()
    }

    pub(crate) fn put(&self, key: String, values: &[Value]) {
        let size: usize = values.iter().map(|value| value.to_string().len()).sum();
        if key.len() + size > MAX_REMEMBERED {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { results, order } = &mut *known;
        if results.insert(key.clone(), values.to_vec()).is_none() {
            order.push_back(key);
        }
        if order.len() > self.most
            && let Some(oldest) = order.pop_front()
        {
            results.remove(&oldest);
        }
    }
}
