//! `runner schedule show`.

use anstyle::Style;
use clap::Args;
use serde_json::Value;

use super::{block_on, find, rule, text};
use crate::client::At;
use crate::screen::{self, BAD, BOLD, Table, WARN, WEAK, line, paint};

/// Arguments of `runner schedule show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Name or number of the schedule.
    schedule: String,
    #[command(flatten)]
    at: At,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.at.server()?;
        let schedule = block_on(find(&server, &self.schedule))?;
        match self.json {
            true => screen::print_json(&schedule),
            false => screen::print(&shown(&schedule)),
        }
    }
}

/// A schedule for people.
pub(super) fn shown(schedule: &Value) -> String {
    let id = schedule.get("id").map(Value::to_string).unwrap_or_default();
    let mut shown = format!(
        "{} {}{}\n",
        paint(BOLD, format!("schedule {id}")),
        line(text(schedule, "name")),
        match schedule.get("enabled") {
            Some(Value::Bool(false)) => format!(" {}", paint(WARN, "disabled")),
            _ => String::new(),
        }
    );
    let mut table = Table::default();
    let mut row = |key: &str, value: &str, style: Style| {
        if !value.is_empty() {
            table.row([(key, WEAK), (value, style)]);
        }
    };
    let plain = Style::new();
    let object = |key: &str| match schedule.get(key) {
        Some(Value::Object(object)) if object.is_empty() => String::new(),
        Some(Value::Array(list)) if list.is_empty() => String::new(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    row("plugin", text(schedule, "plugin"), plain);
    row("parameters", &object("parameters"), plain);
    row("when", &rule(schedule), plain);
    row("", text(schedule, "description"), WEAK);
    row("module", text(schedule, "module"), plain);
    let policies = format!(
        "overlap {}, missed {}",
        text(schedule, "overlap"),
        text(schedule, "missed")
    );
    row("policies", &policies, plain);
    row("labels", &object("labels"), plain);
    let next = schedule.get("next").and_then(Value::as_array);
    for moment in next.into_iter().flatten().filter_map(Value::as_str) {
        row("next", moment, plain);
    }
    row("last", text(schedule, "lastAt"), plain);
    row("last task", text(schedule, "lastTask"), plain);
    row("said", text(schedule, "lastError"), BAD);
    shown.push_str(&table.text());
    shown
}
