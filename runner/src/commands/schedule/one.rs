//! `runner schedule enable`, `disable`, `run` and `remove`.

use clap::Args;
use reqwest::Method;
use serde_json::json;

use super::show::shown;
use super::{block_on, find, path, text};
use crate::client::At;
use crate::screen::{self, line};

/// Arguments of commands that do one thing to one schedule.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// Name or number of the schedule.
    schedule: String,
    #[command(flatten)]
    at: At,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl One {
    /// Enables or disables it.
    pub(super) fn switch(&self, enabled: bool) -> anyhow::Result<()> {
        let server = self.at.server()?;
        let changed = block_on(async {
            let path = path(&find(&server, &self.schedule).await?)?;
            let body = json!({ "enabled": enabled });
            server.send_json(Method::PATCH, &path, &body).await
        })?;
        match self.json {
            true => screen::print_json(&changed),
            false => screen::print(&shown(&changed)),
        }
    }

    /// Fires it.
    pub(super) fn fire(&self) -> anyhow::Result<()> {
        let server = self.at.server()?;
        let (schedule, answer) = block_on(async {
            let schedule = find(&server, &self.schedule).await?;
            let path = format!("{}run", path(&schedule)?);
            Ok((schedule, server.post_for_location(&path).await?))
        })?;
        let name = line(text(&schedule, "name"));
        let task = answer
            .as_deref()
            .and_then(|location| location.trim_end_matches('/').rsplit('/').next())
            .and_then(|number| number.parse::<i64>().ok());
        match (self.json, task) {
            (true, task) => {
                screen::print_json(&json!({ "schedule": text(&schedule, "name"), "task": task }))
            }
            (false, Some(task)) => screen::print(&format!(
                "{name}: task {task} (`runner task wait {task}` follows it)"
            )),
            (false, None) => screen::print(&format!("{name}: waits for the end of its last task")),
        }
    }

    /// Removes it.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        let server = self.at.server()?;
        let schedule = block_on(async {
            let schedule = find(&server, &self.schedule).await?;
            server.delete(&path(&schedule)?).await?;
            Ok(schedule)
        })?;
        match self.json {
            true => screen::print_json(&json!({ "removed": text(&schedule, "name") })),
            false => screen::print(&format!("{}: removed", line(text(&schedule, "name")))),
        }
    }
}
