//! `runner module list`.

use anstyle::Style;
use clap::Args;
use serde_json::Value;

use super::{block_on, bytes, items, number, text};
use crate::client::Asked;
use crate::screen::{self, BAD, BOLD, GOOD, Table, WARN, WEAK, line};

/// Arguments of `runner module list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Only administrators may ask: it shows RUNNER_TOKEN, or the token of the instance folder.")]
pub(crate) struct List {
    /// Shows paths, digests and uuids too
    #[arg(long, short = 'l')]
    long: bool,
    #[command(flatten)]
    asked: Asked,
}

impl List {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.asked.at.server()?;
        let answer = block_on(server.get("modules/"))?;
        if self.asked.json {
            return screen::print_json(&answer);
        }
        let modules = items(&answer, "modules");
        if modules.is_empty() {
            return screen::print("no modules");
        }
        let table = match self.long {
            true => long(modules),
            false => short(modules),
        };
        screen::print(&[vec![table], elsewhere(&answer)].concat().join("\n"))
    }
}

/// What was removed, and what other processes have not as it should be.
fn elsewhere(answer: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let removed: Vec<&str> = items(answer, "removed")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if !removed.is_empty() {
        lines.push(format!("removed: {}", line(&removed.join(", "))));
    }
    for other in items(answer, "others") {
        let about = format!("{} at {}", text(other, "kind"), text(other, "host"));
        if number(other, "generation") < number(answer, "generation") {
            lines.push(format!("{} has not followed yet", line(&about)));
        }
        let failing = other.get("failing").and_then(Value::as_object);
        for (name, reason) in failing.into_iter().flatten() {
            let reason = reason.as_str().unwrap_or_default();
            lines.push(line(&format!("{about}: {name}: {reason}")));
        }
    }
    lines
}

fn style(state: &str) -> Style {
    match state {
        "RUNNING" => GOOD,
        "EXITED" => BAD,
        _ => WARN,
    }
}

fn idle(module: &Value) -> String {
    match module.get("idleSeconds").and_then(Value::as_u64) {
        Some(seconds) => format!("{seconds} s"),
        None => "-".to_owned(),
    }
}

/// What it provides, or why it does not.
fn about(module: &Value) -> String {
    let plugins: Vec<&str> = items(module, "plugins")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let reason = text(module, "reason");
    match (plugins.is_empty(), reason.is_empty()) {
        (_, true) => plugins.join(", "),
        (true, false) => reason.to_owned(),
        (false, false) => format!("{} ({reason})", plugins.join(", ")),
    }
}

fn short(modules: &[Value]) -> String {
    let plain = Style::new();
    let mut table = Table::new(&[
        "NAME", "STATE", "LOADER", "IDLE", "QUEUED", "HOSTS", "PLUGINS",
    ]);
    for module in modules {
        let state = text(module, "state");
        table.row([
            (text(module, "name"), BOLD),
            (state, style(state)),
            (text(module, "loader"), plain),
            (&idle(module), plain),
            (&number(module, "queued").to_string(), plain),
            (&items(module, "processes").len().to_string(), plain),
            (&about(module), WEAK),
        ]);
    }
    table.text()
}

fn long(modules: &[Value]) -> String {
    let plain = Style::new();
    let mut table = Table::new(&["NAME", "STATE", "SIZE", "SHA256", "UUID", "PATH"]);
    for module in modules {
        let state = text(module, "state");
        let digest: String = text(module, "sha256").chars().take(12).collect();
        table.row([
            (text(module, "name"), BOLD),
            (state, style(state)),
            (&bytes(number(module, "size")), plain),
            (&digest, plain),
            (text(module, "uuid"), plain),
            (text(module, "path"), WEAK),
        ]);
    }
    table.text()
}
