//! `runner module list`.

use anstyle::Style;
use clap::Args;
use serde_json::Value;

use super::{block_on, bytes, items, number, text};
use crate::client::At;
use crate::screen::{self, BAD, BOLD, GOOD, Table, WARN, WEAK};

/// Arguments of `runner module list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Only administrators may ask: it shows RUNNER_TOKEN, or the token of the instance folder.")]
pub(crate) struct List {
    #[command(flatten)]
    at: At,
    /// Shows paths, digests and uuids too
    #[arg(long, short = 'l')]
    long: bool,
    /// Prints a JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

impl List {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.at.server()?;
        let answer = block_on(server.get("modules/"))?;
        if self.json {
            return screen::print_json(&answer);
        }
        let modules = items(&answer, "modules");
        if modules.is_empty() {
            return screen::print("no modules");
        }
        match self.long {
            true => screen::print(&long(modules)),
            false => screen::print(&short(modules)),
        }
    }
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
