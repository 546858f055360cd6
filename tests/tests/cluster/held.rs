//! Tasks that run until the test lets them end.

use std::time::Duration;

use runner_tests::{Gate, HookServer, Reply, Runner};

/// How long a run may take to come to its gate.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gate, and tasks that wait for it.
pub(crate) struct Held {
    gate: Gate,
    server: HookServer,
}

impl Held {
    /// A closed gate.
    pub(crate) fn new() -> Self {
        let gate = Gate::new();
        let reply = Reply::file("text/plain", "open").behind(&gate);
        Self {
            gate,
            server: HookServer::with(move |_| reply.clone()),
        }
    }

    /// A task that waits at the gate; it may not run yet.
    #[track_caller]
    pub(crate) fn submit(&self, runner: &Runner, plugin: &str, more: &[(&str, &str)]) -> u64 {
        let url = self.server.url("/gate");
        let form: Vec<_> = [("url", url.as_str())]
            .iter()
            .chain(more)
            .copied()
            .collect();
        runner.submit(plugin, &form)
    }

    /// Waits until one more run has come to the gate.
    #[track_caller]
    pub(crate) fn arrived(&self) {
        assert!(self.arrived_within(PATIENCE), "nobody came to the gate");
    }

    /// Whether one more run comes to the gate in this time.
    pub(crate) fn arrived_within(&self, patience: Duration) -> bool {
        self.server.next_within(patience).is_some()
    }

    /// Lets all end.
    pub(crate) fn open(&self) {
        self.gate.open();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gate.open();
    }
}
