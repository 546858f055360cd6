//! What a run lets others see: counts, latencies, fill of edges, taps.
//!
//! Counters are atomics that are raised once for a batch of items, so who looks costs nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;

use crate::item::Item;

/// Sub-steps of each doubling in a [`Histogram`]: a quantile is told at most an eighth too high.
const STEPS: usize = 8;
/// Doublings from one nanosecond: more than a week.
const DOUBLINGS: usize = 50;
/// Items that a tap holds for who reads it.
const TAP_BOUND: usize = 64;

/// Latencies in steps that grow with them, as HdrHistogram has them.
#[derive(Debug)]
pub struct Histogram {
    counts: Box<[AtomicU64]>,
}

impl Default for Histogram {
    fn default() -> Self {
        let counts = (0..STEPS * DOUBLINGS).map(|_| AtomicU64::new(0));
        Self {
            counts: counts.collect(),
        }
    }
}

impl Histogram {
    /// Adds `count` items that took this long each.
    pub fn record(&self, each: Duration, count: u64) {
        let nanoseconds = u64::try_from(each.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.counts[Self::place(nanoseconds)].fetch_add(count, Relaxed);
    }

    fn place(nanoseconds: u64) -> usize {
        let doubling = nanoseconds.ilog2() as usize;
        let sub = match doubling < 3 {
            true => (nanoseconds << (3 - doubling)) as usize % STEPS,
            false => (nanoseconds >> (doubling - 3)) as usize % STEPS,
        };
        (doubling * STEPS + sub).min(STEPS * DOUBLINGS - 1)
    }

    /// The upper end of the step in which these shares of all items lie, each from 0 to 1.
    pub fn quantiles<const N: usize>(&self, shares: [f64; N]) -> [Duration; N] {
        let counts: Vec<u64> = self
            .counts
            .iter()
            .map(|count| count.load(Relaxed))
            .collect();
        let total: u64 = counts.iter().sum();
        shares.map(|share| {
            let mut left = (share * total as f64).ceil() as u64;
            for (place, count) in counts.iter().enumerate() {
                if *count >= left && total > 0 {
                    let (doubling, sub) = (place / STEPS, place % STEPS);
                    let upper = (1u64 << doubling) as f64 * (1.0 + (sub + 1) as f64 / STEPS as f64);
                    return Duration::from_nanos(upper as u64);
                }
                left = left.saturating_sub(*count);
            }
            Duration::ZERO
        })
    }
}

/// A node as it works.
#[derive(Debug, Default)]
pub struct NodeSight {
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) cached: AtomicU64,
    pub(crate) unpaired: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) latency: Histogram,
    pub(crate) is_paused: AtomicBool,
    pub(crate) is_ended: AtomicBool,
    last_error: Mutex<Option<String>>,
}

impl NodeSight {
    /// Counts an item that failed for good.
    pub(crate) fn fail(&self, reason: &str) {
        self.failed.fetch_add(1, Relaxed);
        *lock(&self.last_error) = Some(reason.to_owned());
    }

    pub(crate) fn counts(&self) -> Counts {
        let [p50, p90, p99] = self.latency.quantiles([0.5, 0.9, 0.99]);
        Counts {
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
            failed: self.failed.load(Relaxed),
            retried: self.retried.load(Relaxed),
            cached: self.cached.load(Relaxed),
            unpaired: self.unpaired.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            latency: Latency { p50, p90, p99 },
            is_paused: self.is_paused.load(Relaxed),
            is_ended: self.is_ended.load(Relaxed),
            last_error: lock(&self.last_error).clone(),
        }
    }
}

/// What a node has done so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Items, or tuples of items, that it took.
    pub received: u64,
    /// Items that it sent, each counted once however many read it.
    pub sent: u64,
    /// Items that failed for good, whatever became of them then.
    pub failed: u64,
    /// Attempts that were made again.
    pub retried: u64,
    /// Items whose result was remembered.
    pub cached: u64,
    /// Items that found no partner in a join.
    pub unpaired: u64,
    /// Items that it works on now.
    pub in_flight: u64,
    /// How long it works on an item.
    pub latency: Latency,
    /// Whether it is held.
    pub is_paused: bool,
    /// Whether it has done all it had to do.
    pub is_ended: bool,
    /// Why the last item that failed did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Latencies that half, nine tenths, and all but a hundredth of the items do not exceed, in
/// seconds when serialized.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// The median.
    #[serde(serialize_with = "seconds")]
    pub p50: Duration,
    /// Nine tenths.
    #[serde(serialize_with = "seconds")]
    pub p90: Duration,
    /// Ninety-nine hundredths.
    #[serde(serialize_with = "seconds")]
    pub p99: Duration,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// An edge as items pass.
#[derive(Debug, Default)]
pub struct EdgeSight {
    sent: AtomicU64,
    fill: AtomicUsize,
    is_tapped: AtomicBool,
    taps: Mutex<Vec<mpsc::Sender<Item>>>,
}

impl EdgeSight {
    /// Counts the items that are sent, and shows one of them to each tap that has room.
    pub(crate) fn pass(&self, items: &[Item]) {
        let values = items.iter().filter(|item| item.value.is_some()).count();
        self.sent.fetch_add(values as u64, Relaxed);
        if self.is_tapped.load(Relaxed) {
            let shown = items.iter().rfind(|item| item.value.is_some());
            let Some(shown) = shown else { return };
            let mut taps = lock(&self.taps);
            taps.retain(|tap| match tap.try_reserve() {
                Ok(room) => {
                    room.send(shown.clone());
                    true
                }
                Err(mpsc::error::TrySendError::Full(())) => true,
                Err(mpsc::error::TrySendError::Closed(())) => false,
            });
            self.is_tapped.store(!taps.is_empty(), Relaxed);
        }
    }

    pub(crate) fn filled(&self, fill: usize) {
        self.fill.store(fill, Relaxed);
    }

    /// Samples of what passes: one item of each batch, while who reads them keeps up.
    pub(crate) fn tap(&self) -> mpsc::Receiver<Item> {
        let (tap, samples) = mpsc::channel(TAP_BOUND);
        lock(&self.taps).push(tap);
        self.is_tapped.store(true, Relaxed);
        samples
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(crate) fn fill(&self) -> usize {
        self.fill.load(Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::item::Lineage;

    #[test]
    fn quantiles_are_near_and_never_too_low() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantiles([0.5]), [Duration::ZERO]);
        for micros in 1..=1000u64 {
            histogram.record(Duration::from_micros(micros), 1);
        }
        for (share, want) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let [found] = histogram.quantiles([share]);
            let found = found.as_secs_f64() * 1e6;
            assert!(found >= want && found <= want * 1.126, "{share}: {found}");
        }
        histogram.record(Duration::MAX, 1);
        histogram.record(Duration::ZERO, 1);
    }

    #[test]
    fn a_tap_that_nobody_reads_holds_little_and_ends_with_its_reader() {
        let edge = EdgeSight::default();
        let mut samples = edge.tap();
        for number in 0..1000 {
            edge.pass(&[Item::new(Lineage::new(number), Value::Null)]);
        }
        assert_eq!((edge.sent(), samples.len()), (1000, TAP_BOUND));
        assert_eq!(samples.try_recv().unwrap().lineage, Lineage::new(0));
        drop(samples);
        edge.pass(&[Item::new(Lineage::new(0), Value::Null)]);
        assert!(!edge.is_tapped.load(Relaxed));
    }
}
