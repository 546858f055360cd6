//! What is read at the moment of a look. It costs one statement whose counts end at a limit, one question to the
//! queue, and a walk over the modules in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runner_core::module::ModuleState;
use runner_store::{MOST_COUNTED, WorkerKind};

use super::SightParts;
use super::text::Text;

/// How long SQL and the queue may take; a look has no numbers of who takes longer.
const PATIENCE: Duration = Duration::from_millis(500);

/// What Linux counts processor time in, per second.
const TICKS: f64 = 100.0;

/// The disk of the file store, which may be one of another machine and hang.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// It is asked once at a time: each question that hangs holds a thread.
    is_asked: AtomicBool,
}

impl Disk {
    async fn free(self: &Arc<Self>, parts: &SightParts) -> Option<u64> {
        if self.is_asked.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (disk, files) = (Arc::clone(self), parts.store.files().clone());
        let asking = tokio::task::spawn_blocking(move || {
            let free = files.free_bytes();
            disk.is_asked.store(false, Ordering::Release);
            free.ok()
        });
        asking.await.ok().flatten()
    }
}

/// All of them, as text.
pub(super) async fn read(parts: &SightParts, disk: &Arc<Disk>) -> String {
    let mut text = Text::default();
    text.family(
        "runner_info",
        "gauge",
        "Version of the runner, and what the process does.",
    );
    let version = env!("CARGO_PKG_VERSION");
    text.number(
        "runner_info",
        &[("version", version), ("kind", parts.kind.as_str())],
        1,
    );
    let counts = tokio::time::timeout(PATIENCE, parts.store.counts(parts.lease));
    let depth = tokio::time::timeout(PATIENCE, parts.queue.depth());
    let free = tokio::time::timeout(PATIENCE, disk.free(parts));
    let (counts, depth, free) = tokio::join!(counts, depth, free);
    let counts = counts.ok().and_then(Result::ok);
    let depth = depth.ok().and_then(Result::ok);
    text.family(
        "runner_reachable",
        "gauge",
        "Whether SQL and the queue answered this look in time; without that their numbers are missing.",
    );
    text.number(
        "runner_reachable",
        &[("what", "sql")],
        u8::from(counts.is_some()),
    );
    text.number(
        "runner_reachable",
        &[("what", "queue")],
        u8::from(depth.is_some()),
    );
    if let Some(depth) = depth {
        text.family(
            "runner_queue_jobs",
            "gauge",
            "Jobs of the queue: ready for a worker, delayed until their time, taken (leased by a worker), parked \
             until another of their module ends, dead (unreadable).",
        );
        for (state, count) in [
            ("ready", depth.ready),
            ("delayed", depth.delayed),
            ("taken", depth.taken),
            ("parked", depth.parked),
            ("dead", depth.dead),
        ] {
            text.number("runner_queue_jobs", &[("state", state)], count);
        }
    }
    if let Some(counts) = counts {
        text.family(
            "runner_tasks",
            "gauge",
            &format!(
                "Tasks in SQL that have not ended, counted up to {MOST_COUNTED}; of all queues."
            ),
        );
        for (state, count) in [
            ("queued", counts.queued),
            ("running", counts.running),
            ("waiting", counts.waiting),
        ] {
            text.number("runner_tasks", &[("state", state)], count);
        }
        text.family(
            "runner_webhook_deliveries",
            "gauge",
            &format!("Webhooks that are still to be told, and given up ones, counted up to {MOST_COUNTED}."),
        );
        for (state, count) in [
            ("pending", counts.deliveries),
            ("given_up", counts.given_up),
        ] {
            text.number("runner_webhook_deliveries", &[("state", state)], count);
        }
        text.family(
            "runner_processes",
            "gauge",
            "Processes of the installation that give signs of life, by what they do.",
        );
        for kind in [WorkerKind::Server, WorkerKind::Worker, WorkerKind::Both] {
            text.number(
                "runner_processes",
                &[("kind", kind.as_str())],
                counts.living(kind),
            );
        }
        text.one(
            "runner_processes_silent",
            "gauge",
            "Processes whose lease ended in the last hour without a word.",
            counts.silent,
        );
    }
    modules(parts, &mut text);
    files(free.ok().flatten(), parts.disk_floor, &mut text);
    process(&mut text);
    text.into_string()
}

fn modules(parts: &SightParts, text: &mut Text) {
    let table = parts.modules.table();
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for state in [
        ModuleState::Init,
        ModuleState::Running,
        ModuleState::Finalizing,
        ModuleState::Exited,
    ] {
        states.insert(state.as_str(), 0);
    }
    text.family(
        "runner_hosts",
        "gauge",
        "Processes of modules that live: idle, busy with a run, or web (they answer the own routes of plugins). \
         Modules without any are left out.",
    );
    for module in &table.modules {
        let (name, state) = module.name_and_state();
        *states.entry(state.as_str()).or_default() += 1;
        let hosts = module.count_hosts();
        for (what, count) in [
            ("idle", hosts.idle),
            ("busy", hosts.busy),
            ("web", hosts.web),
        ] {
            if count > 0 {
                text.number("runner_hosts", &[("module", &name), ("state", what)], count);
            }
        }
    }
    text.family(
        "runner_modules",
        "gauge",
        "Modules by their state; EXITED ones were not loaded.",
    );
    for (state, count) in states {
        text.number("runner_modules", &[("state", state)], count);
    }
    let plugins = table.plugins().len();
    text.one(
        "runner_plugins",
        "gauge",
        "Plugins that can be run here.",
        plugins,
    );
}

fn files(free: Option<u64>, floor: u64, text: &mut Text) {
    if let Some(free) = free {
        text.one(
            "runner_files_free_bytes",
            "gauge",
            "Bytes that are free on the disk of the file store.",
            free,
        );
    }
    text.one(
        "runner_files_floor_bytes",
        "gauge",
        "Bytes that must be free there for tasks to be accepted (DISK_FLOOR).",
        floor,
    );
}

/// What the system knows of this process, by the usual names.
fn process(text: &mut Text) {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return;
    };
    // The name of the program stands in brackets and may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<f64> = fields
        .split_whitespace()
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    if let [user, system] = fields.get(11..13).unwrap_or_default() {
        text.one(
            "process_cpu_seconds_total",
            "counter",
            "Seconds of processor time of this process, without those of plugins.",
            (user + system) / TICKS,
        );
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name| {
        status
            .lines()
            .find_map(|line: &str| line.strip_prefix(name))
    };
    let number = |name| {
        line(name)?
            .trim()
            .trim_end_matches(" kB")
            .parse::<u64>()
            .ok()
    };
    if let Some(kibibytes) = number("VmRSS:") {
        text.one(
            "process_resident_memory_bytes",
            "gauge",
            "Bytes of memory of this process, without those of plugins.",
            kibibytes * 1024,
        );
    }
    if let Some(threads) = number("Threads:") {
        text.one(
            "process_threads",
            "gauge",
            "Threads of this process.",
            threads,
        );
    }
    if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
        let count = descriptors.count();
        text.one(
            "process_open_fds",
            "gauge",
            "Descriptors that this process has open.",
            count,
        );
    }
}
