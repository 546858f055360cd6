//! `runner task show`.

use anstyle::Style;
use clap::Args;
use serde_json::Value;

use super::block_on;
use super::list::progress_text;
use crate::client::At;
use crate::screen::{self, BAD, BOLD, GOOD, Table, WARN, WEAK, indent, line, lines, paint};

/// Arguments of `runner task show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner task show 17
  runner task show 17 --json | jq -r '.outputs[].href' | xargs -n 1 curl -sO")]
pub(crate) struct Show {
    /// The task's number.
    #[arg(value_name = "ID", value_parser = clap::value_parser!(i64).range(1..))]
    task: i64,
    #[command(flatten)]
    at: At,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.at.server()?;
        let task = block_on(async { server.get(&format!("tasks/{}/", self.task)).await })?;
        match self.json {
            true => screen::print_json(&task),
            false => screen::print(&shown(self.task, &task, true)),
        }
    }
}

/// The colour of a state.
pub(super) fn state_style(state: &str) -> Style {
    match state {
        "succeeded" => GOOD,
        "failed" => BAD,
        "waiting" | "cancelled" => WARN,
        _ => Style::new(),
    }
}

/// A task for people.
pub(super) fn shown(id: i64, task: &Value, with_log: bool) -> String {
    let text = |value: &Value, key: &str| {
        value
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let items = |key: &str| {
        task.get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let state = text(task, "state");
    let mut shown = format!(
        "{} {} {}\n",
        paint(BOLD, format!("task {id}")),
        paint(state_style(&state), line(&state)),
        line(&text(task, "plugin"))
    );
    if let Some(progress) = task.get("progress") {
        shown.push_str(&format!(
            "{} {}\n",
            paint(WEAK, "progress"),
            line(&progress_text(progress))
        ));
    }
    let mut table = Table::default();
    for step in items("steps") {
        if step.get("cleared") == Some(&Value::Bool(false)) {
            let id = text(&step, "stepId");
            table.row([
                ("waits for", WARN),
                (&id, BOLD),
                (&text(&step, "uiHref"), Style::new()),
            ]);
        }
    }
    for link in items("links")
        .iter()
        .filter(|link| text(link, "type") != "subscribe")
    {
        table.row([
            ("link", WEAK),
            (&text(link, "type"), BOLD),
            (&text(link, "href"), Style::new()),
        ]);
    }
    for output in items("outputs") {
        table.row([
            ("output", WEAK),
            (&text(&output, "name"), BOLD),
            (&text(&output, "href"), Style::new()),
        ]);
    }
    shown.push_str(&table.text());
    let log = text(task, "log");
    if with_log && !log.is_empty() {
        shown.push_str(&format!(
            "{}\n{}\n",
            paint(WEAK, "log"),
            indent(&lines(&log), 2)
        ));
    }
    shown
}
