//! `runner task list`.

use anstyle::Style;
use clap::Args;
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use super::block_on;
use super::show::state_style;
use crate::client::{Asked, Server};
use crate::screen::{self, BOLD, Table, WEAK};

/// The most tasks that a server gives at once.
const PAGE: u32 = 500;

/// Arguments of `runner task list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner task list --state running --state queued
  runner task list --plugin hello-world@v0-2-1 --label nightly --limit 10
  runner task list --json | jq '.tasks[].id'")]
pub(crate) struct List {
    /// Only tasks in this state; may be repeated.
    #[arg(long, value_parser = ["queued", "running", "waiting", "succeeded", "failed", "cancelled"])]
    state: Vec<String>,
    /// Only tasks of the plugin with this identifier.
    #[arg(long, value_name = "IDENTIFIER")]
    plugin: Option<String>,
    /// Only tasks with this label; may be repeated.
    #[arg(long)]
    label: Vec<String>,
    /// The most tasks that are listed.
    #[arg(long, default_value = "50", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    #[command(flatten)]
    asked: Asked,
}

impl List {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.asked.at.server()?;
        let tasks = block_on(self.all(&server))?;
        if self.asked.json {
            return screen::print_json(&json!({ "tasks": tasks }));
        }
        if tasks.is_empty() {
            return screen::print("no tasks");
        }
        let plain = Style::new();
        let mut table = Table::new(&["ID", "STATE", "PLUGIN", "CREATED", "PROGRESS", "LABELS"]);
        for task in &tasks {
            let text = |key: &str| task.get(key).and_then(Value::as_str).unwrap_or_default();
            let id = task.get("id").map(Value::to_string).unwrap_or_default();
            let labels: Vec<&str> = task
                .get("labels")
                .and_then(Value::as_array)
                .map(|labels| labels.iter().filter_map(Value::as_str).collect())
                .unwrap_or_default();
            let progress = task.get("progress").map(progress_text).unwrap_or_default();
            table.row([
                (&id, BOLD),
                (text("state"), state_style(text("state"))),
                (text("plugin"), plain),
                (text("createdAt"), WEAK),
                (&progress, plain),
                (&labels.join(", "), WEAK),
            ]);
        }
        screen::print(&table.text())
    }

    /// Follows the pages until there are enough.
    async fn all(&self, server: &Server) -> anyhow::Result<Vec<Value>> {
        let limit = self.limit as usize;
        let mut query = Serializer::new(String::new());
        for state in &self.state {
            query.append_pair("state", state);
        }
        if let Some(plugin) = &self.plugin {
            query.append_pair("plugin", plugin);
        }
        for label in &self.label {
            query.append_pair("label", label);
        }
        query.append_pair("limit", &self.limit.min(PAGE).to_string());
        let query = query.finish();
        let mut tasks: Vec<Value> = Vec::new();
        let mut cursor = None;
        loop {
            let more = cursor
                .map(|id: i64| format!("&cursor={id}"))
                .unwrap_or_default();
            let page = server.get(&format!("tasks/?{query}{more}")).await?;
            let found = page
                .get("tasks")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            cursor = found
                .last()
                .and_then(|task| task.get("id"))
                .and_then(Value::as_i64);
            let is_last = page.get("next").is_none() || found.is_empty() || cursor.is_none();
            tasks.extend(found);
            if is_last || tasks.len() >= limit {
                tasks.truncate(limit);
                return Ok(tasks);
            }
        }
    }
}

/// How far a task is, in a few words.
pub(super) fn progress_text(progress: &Value) -> String {
    let part = |key: &str| progress.get(key).map(Value::to_string).unwrap_or_default();
    match progress.get("unit").and_then(Value::as_str) {
        Some("%") if part("target") == "100" => format!("{} %", part("value")),
        unit => format!(
            "{} of {} {}",
            part("value"),
            part("target"),
            unit.unwrap_or_default()
        ),
    }
}
