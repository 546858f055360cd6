//! What is counted and measured of runs and webhooks, and what is in progress.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, Unit};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use runner_core::plugin::Plugin;
use tokio_util::sync::CancellationToken;

/// Plugins that are told apart; those beyond are one. Who loads new versions again and again does not fill the
/// memory of whoever collects the numbers.
const MOST_PLUGINS: usize = 2_000;
/// The name of all other plugins.
const OTHER: &str = "other";

/// How a run ended, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The task is finished, and well.
    Succeeded,
    /// The task failed.
    Failed,
    /// The task was cancelled.
    Cancelled,
    /// The task waits for a form to be filled in.
    Step,
    /// The task is run again: its plugin failed, its host was lost, or the worker stops.
    Again,
    /// Another run of the task had begun meanwhile; this one left nothing.
    Overtaken,
}

impl Ended {
    const ALL: [Self; 6] = [
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Step,
        Self::Again,
        Self::Overtaken,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Step => "step",
            Self::Again => "again",
            Self::Overtaken => "overtaken",
        }
    }
}

/// How often runs of this process ended, by how they did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Well.
    pub succeeded: u64,
    /// Badly.
    pub failed: u64,
    /// In any other way.
    pub others: u64,
}

/// A run in progress, for people.
#[derive(Debug, Clone)]
pub struct InProgress {
    /// The number of the task.
    pub task: i64,
    /// Identifier of the plugin; none where it is not loaded.
    pub plugin: Option<Arc<Plugin>>,
    /// When it began.
    pub since: Instant,
}

/// A run in progress.
pub(crate) struct Running {
    pub(crate) run: i64,
    pub(crate) cancel: CancellationToken,
    plugin: Option<Arc<Plugin>>,
    since: Instant,
}

/// The runs in progress of a worker, by their task.
pub(crate) struct InHand {
    runs: Mutex<HashMap<i64, Running>>,
    count: Gauge,
}

impl InHand {
    pub(crate) fn new(slots: usize) -> Self {
        describe_gauge!(
            "runner_runs_in_progress",
            "Runs in progress in this process."
        );
        describe_gauge!(
            "runner_slots",
            "Runs that this process works on at a time, at most."
        );
        #[expect(clippy::cast_precision_loss, reason = "nobody has so many slots")]
        gauge!("runner_slots").set(slots as f64);
        Self {
            runs: Mutex::default(),
            count: gauge!("runner_runs_in_progress"),
        }
    }

    /// A run begins; the token is cancelled when it is to end.
    pub(crate) fn begin(
        &self,
        task: i64,
        run: i64,
        plugin: Option<Arc<Plugin>>,
    ) -> CancellationToken {
        let cancel = CancellationToken::new();
        let running = Running {
            run,
            cancel: cancel.clone(),
            plugin,
            since: Instant::now(),
        };
        let mut runs = self.lock();
        runs.insert(task, running);
        self.tell(&runs);
        cancel
    }

    /// A run has ended.
    pub(crate) fn end(&self, task: i64, run: i64) {
        let mut runs = self.lock();
        // A later run of the same task may have begun here.
        if runs.get(&task).is_some_and(|held| held.run == run) {
            runs.remove(&task);
            self.tell(&runs);
        }
    }

    /// The runs, for a look.
    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<i64, Running>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For people, those that last longest first.
    pub(crate) fn shown(&self) -> Vec<InProgress> {
        let mut shown: Vec<_> = self
            .lock()
            .iter()
            .map(|(task, running)| InProgress {
                task: *task,
                plugin: running.plugin.clone(),
                since: running.since,
            })
            .collect();
        shown.sort_by_key(|run| run.since);
        shown
    }

    fn tell(&self, runs: &HashMap<i64, Running>) {
        #[expect(clippy::cast_precision_loss, reason = "nobody has so many runs")]
        self.count.set(runs.len() as f64);
    }
}

/// What is counted of a worker.
pub(crate) struct Meters {
    plugins: RwLock<HashMap<String, Arc<PluginMeters>>>,
    /// All that are not told apart, once there are any.
    others: OnceLock<Arc<PluginMeters>>,
    succeeded: AtomicU64,
    failed: AtomicU64,
    unlike: AtomicU64,
    pub(crate) webhooks: Webhooks,
}

/// What is counted of one plugin.
struct PluginMeters {
    name: String,
    wait: Histogram,
    duration: Histogram,
    ended: [Counter; Ended::ALL.len()],
}

/// What is counted of one run.
pub(crate) struct RunMeter<'a> {
    all: &'a Meters,
    plugin: Arc<PluginMeters>,
    begun: Instant,
}

impl RunMeter<'_> {
    /// How long it had to wait for a worker.
    pub(crate) fn waited(&self, waited: Duration) {
        self.plugin.wait.record(waited.as_secs_f64());
        tracing::debug!(
            plugin = self.plugin.name,
            waited_seconds = waited.as_secs_f64(),
            "the run begins"
        );
    }

    /// How it ended.
    pub(crate) fn ended(&self, ended: Ended) {
        tracing::debug!(
            plugin = self.plugin.name,
            outcome = ended.as_str(),
            seconds = self.begun.elapsed().as_secs_f64(),
            "the run has ended"
        );
        self.plugin
            .duration
            .record(self.begun.elapsed().as_secs_f64());
        self.plugin.ended[ended as usize].increment(1);
        let total = match ended {
            Ended::Succeeded => &self.all.succeeded,
            Ended::Failed => &self.all.failed,
            _ => &self.all.unlike,
        };
        total.fetch_add(1, Ordering::Relaxed);
    }
}

/// What became of attempts to tell webhooks.
pub(crate) struct Webhooks {
    pub(crate) delivered: Counter,
    pub(crate) failed: Counter,
    pub(crate) given_up: Counter,
}

impl Meters {
    pub(crate) fn new() -> Self {
        describe_histogram!(
            "runner_wait_seconds",
            Unit::Seconds,
            "Time from a run being due to its being taken by a worker."
        );
        describe_histogram!(
            "runner_run_seconds",
            Unit::Seconds,
            "Time that runs took, with their inputs, hosts and outputs."
        );
        describe_counter!("runner_runs_total", "Runs by plugin and by how they ended.");
        describe_counter!(
            "runner_webhooks_total",
            "Attempts to tell webhooks, by how they ended."
        );
        let webhooks =
            |outcome: &'static str| counter!("runner_webhooks_total", "outcome" => outcome);
        Self {
            plugins: RwLock::default(),
            others: OnceLock::new(),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            unlike: AtomicU64::new(0),
            webhooks: Webhooks {
                delivered: webhooks("delivered"),
                failed: webhooks("failed"),
                given_up: webhooks("given_up"),
            },
        }
    }

    /// A run of this plugin begins.
    pub(crate) fn run_of(&self, plugin: &str) -> RunMeter<'_> {
        RunMeter {
            all: self,
            plugin: self.of(plugin),
            begun: Instant::now(),
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            others: self.unlike.load(Ordering::Relaxed),
        }
    }

    /// The label of a plugin: its identifier, or one for all beyond the limit.
    pub(crate) fn label(&self, plugin: &str) -> String {
        self.of(plugin);
        let known = self.plugins.read().unwrap_or_else(PoisonError::into_inner);
        match known.contains_key(plugin) {
            true => plugin.to_owned(),
            false => OTHER.to_owned(),
        }
    }

    fn of(&self, plugin: &str) -> Arc<PluginMeters> {
        let known = self.plugins.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(meters) = known.get(plugin) {
            return Arc::clone(meters);
        }
        drop(known);
        let mut known = self.plugins.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_PLUGINS && !known.contains_key(plugin) {
            let others = || Arc::new(PluginMeters::new(OTHER));
            return Arc::clone(self.others.get_or_init(others));
        }
        let meters = known.entry(plugin.to_owned());
        Arc::clone(meters.or_insert_with(|| Arc::new(PluginMeters::new(plugin))))
    }
}

impl PluginMeters {
    fn new(plugin: &str) -> Self {
        let name = plugin.to_owned();
        Self {
            wait: histogram!("runner_wait_seconds", "plugin" => name.clone()),
            duration: histogram!("runner_run_seconds", "plugin" => name.clone()),
            ended: Ended::ALL.map(|ended| {
                counter!("runner_runs_total", "plugin" => name.clone(), "outcome" => ended.as_str())
            }),
            name,
        }
    }
}

/// Counts runs that were lost with their worker. `by`: who noticed; it may be a server, which has no [`Meters`].
pub(crate) fn leases_lost(by: &'static str, count: usize) {
    if count > 0 {
        describe_counter!(
            "runner_leases_lost_total",
            "Runs that were given to others since their worker was not heard of in time, by who noticed it."
        );
        counter!("runner_leases_lost_total", "by" => by).increment(count as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_beyond_the_most_are_one() {
        let meters = Meters::new();
        for number in 0..MOST_PLUGINS + 10 {
            meters.run_of(&format!("p-{number}@1")).ended(Ended::Failed);
        }
        assert_eq!(meters.plugins.read().unwrap().len(), MOST_PLUGINS);
        let others = meters.others.get().unwrap();
        assert!(Arc::ptr_eq(&meters.of("new@1"), others));
        assert!(!Arc::ptr_eq(&meters.of("p-0@1"), others));
        assert_eq!(meters.totals().failed, MOST_PLUGINS as u64 + 10);
    }

    #[test]
    fn a_later_run_of_a_task_is_not_ended_with_an_earlier_one() {
        let hand = InHand::new(1);
        let first = hand.begin(7, 1, None);
        let second = hand.begin(7, 2, None);
        hand.end(7, 1);
        assert_eq!(hand.shown().len(), 1);
        assert!(!first.is_cancelled() && !second.is_cancelled());
        hand.end(7, 2);
        assert!(hand.shown().is_empty());
    }
}
