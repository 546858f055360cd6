//! What a module was used for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runner_core::module::ModuleStats;
use tokio::time::Instant;

use crate::host::RunEnd;

/// Counters of one load of a module.
#[derive(Debug, Default)]
pub(crate) struct Usage(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    stats: ModuleStats,
    last: Option<Instant>,
}

impl Usage {
    pub(crate) fn stats(&self) -> ModuleStats {
        self.locked().stats.clone()
    }

    pub(crate) fn reset(&self) {
        self.locked().stats = ModuleStats::default();
    }

    /// Whole seconds since the last use.
    pub(crate) fn idle_seconds(&self) -> Option<u64> {
        self.locked().last.map(|last| last.elapsed().as_secs())
    }

    /// It is used now.
    pub(crate) fn touch(&self) {
        self.locked().last = Some(Instant::now());
    }

    pub(crate) fn visited(&self) {
        let mut state = self.locked();
        state.stats.visits += 1;
        state.last = Some(Instant::now());
    }

    pub(crate) fn started(&self, is_started: bool) {
        let stats = &mut self.locked().stats;
        match is_started {
            true => stats.hosts_started += 1,
            false => stats.hosts_failed += 1,
        }
    }

    pub(crate) fn ran(&self, end: &RunEnd, took: Duration) {
        let mut state = self.locked();
        let stats = &mut state.stats;
        stats.busy_ms += u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let count = match end {
            RunEnd::Finished(_) => &mut stats.succeeded,
            RunEnd::Failed(_) => &mut stats.failed,
            RunEnd::Cancelled => &mut stats.cancelled,
            RunEnd::TimedOut(_) => &mut stats.timed_out,
            RunEnd::Lost(_) => &mut stats.lost,
        };
        *count += 1;
        state.last = Some(Instant::now());
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
