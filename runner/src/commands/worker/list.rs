//! `runner worker list`.

use anstyle::Style;
use clap::Args;
use serde_json::Value;

use super::super::task::block_on;
use crate::client::Asked;
use crate::screen::{self, BAD, BOLD, GOOD, Table, WEAK};

/// Arguments of `runner worker list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Only administrators may ask: it shows RUNNER_TOKEN, or the token of the instance folder. What is over
in a moment is not shown as running.")]
pub(crate) struct List {
    #[command(flatten)]
    asked: Asked,
}

impl List {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.asked.at.server()?;
        let answer = block_on(server.get("workers/"))?;
        if self.asked.json {
            return screen::print_json(&answer);
        }
        let plain = Style::new();
        let mut table = Table::new(&[
            "KIND", "STATE", "HOST", "PID", "QUEUE", "RUNS", "PLUGINS", "RUNNING",
        ]);
        let workers = answer.get("workers").and_then(Value::as_array);
        for worker in workers.into_iter().flatten() {
            let text = |key: &str| worker.get(key).and_then(Value::as_str).unwrap_or_default();
            let number = |key: &str| worker.get(key).and_then(Value::as_i64).unwrap_or_default();
            let many = |key: &str| {
                worker
                    .get(key)
                    .and_then(Value::as_array)
                    .map_or(&[][..], Vec::as_slice)
            };
            let state = text("state");
            let shown = match state {
                "silent" => format!("silent for {} s", number("silentSeconds")),
                _ => state.to_owned(),
            };
            let style = match state {
                "alive" => GOOD,
                "silent" => BAD,
                _ => WEAK,
            };
            table.row([
                (text("kind"), BOLD),
                (&shown, style),
                (text("host"), plain),
                (&number("pid").to_string(), plain),
                (text("queue"), plain),
                (&number("concurrency").to_string(), plain),
                (&many("plugins").len().to_string(), plain),
                (&running(many("running")), WEAK),
            ]);
        }
        screen::print(&table.text())
    }
}

/// What one is at work on, in a line.
fn running(tasks: &[Value]) -> String {
    let one = |task: &Value| {
        let plugin = task
            .get("plugin")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let number = task.get("task").map(Value::to_string).unwrap_or_default();
        format!("{number} {plugin}")
    };
    tasks.iter().map(one).collect::<Vec<_>>().join(", ")
}
