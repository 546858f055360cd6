//! Instances that tests share where they do not disturb each other, and small helpers.

use std::sync::OnceLock;

use runner_tests::runner::Builder;
use runner_tests::{Gate, HookServer, Reply, Runner};

/// Folders of the plugins that come with the runner.
pub(crate) const STABLE: [&str; 4] = [
    "stable_plugins/demo",
    "stable_plugins/data_preparation",
    "stable_plugins/conversion",
    "stable_plugins/file_utils",
];
/// Plugins that only these tests need: gate, pace, inspect, inbox, twins,
/// family.
pub(crate) const HARNESS: &str = "tests/fixtures/e2e";
/// The identifiers most used.
pub(crate) const HELLO: &str = "hello-world@v0-2-1";
pub(crate) const MULTI_STEP: &str = "hello-world-multi-step@v0-2-1";

/// A runner with all good plugins and eight slots, not started.
pub(crate) fn with_all() -> Builder {
    Runner::builder()
        .plugins(STABLE)
        .plugins([HARNESS])
        .env("CONCURRENCY", 8)
}

/// One that all tests may use that leave it as it is.
pub(crate) fn runner() -> &'static Runner {
    static RUNNER: OnceLock<Runner> = OnceLock::new();
    RUNNER.get_or_init(|| with_all().start())
}

/// A task that runs until its gate is opened.
pub(crate) struct Held {
    pub(crate) task: u64,
    gate: Gate,
    _server: HookServer,
}

impl Held {
    /// Starts one with the plugin `gate`; it runs when this returns.
    pub(crate) fn start(runner: &Runner) -> Self {
        Self::start_plugin(runner, "gate@1-0-0")
    }

    /// Starts one with a plugin that fetches its parameter `url`.
    pub(crate) fn start_plugin(runner: &Runner, plugin: &str) -> Self {
        let gate = Gate::new();
        let reply = Reply::file("text/plain", "open").behind(&gate);
        let server = HookServer::with(move |_| reply.clone());
        let task = runner.submit(plugin, &[("url", &server.url("/gate"))]);
        if server
            .next_within(std::time::Duration::from_secs(30))
            .is_none()
        {
            let task = runner.task(task);
            runner.fail(&format!("{plugin} did not fetch its gate: {task:#}"));
        }
        Self {
            task,
            gate,
            _server: server,
        }
    }

    /// Lets it end.
    pub(crate) fn open(&self) {
        self.gate.open();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gate.open();
    }
}
