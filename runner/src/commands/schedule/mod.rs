//! `runner schedule`: one file per verb, or for a few that are alike.

mod add;
mod list;
mod next;
mod one;
mod set;
mod show;

use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::Value;

use super::task::block_on;
use crate::client::Server;
use crate::screen::line;

/// What can be done with schedules.
#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    /// Lists schedules by their names, with when they are due next.
    List(list::List),
    /// Shows a schedule: what it does, when it is due, what became of it.
    Show(show::Show),
    /// Makes a schedule for a plugin.
    Add(add::Add),
    /// Changes what is named of a schedule.
    Set(set::Set),
    /// Lets a schedule be fired again.
    Enable(one::One),
    /// Lets a schedule be fired no more, until it is enabled.
    Disable(one::One),
    /// Fires a schedule now.
    Run(one::One),
    /// Removes a schedule; its tasks stay.
    #[command(alias = "delete")]
    Remove(one::One),
    /// Says when a cron line or an interval is due, without a server.
    Next(next::Next),
}

impl Schedule {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Show(show) => show.run(),
            Self::Add(add) => add.run(),
            Self::Set(set) => set.run(),
            Self::Enable(one) => one.switch(true),
            Self::Disable(one) => one.switch(false),
            Self::Run(one) => one.fire(),
            Self::Remove(one) => one.remove(),
            Self::Next(next) => next.run(),
        }
    }
}

async fn all(server: &Server) -> anyhow::Result<Vec<Value>> {
    let document = server.get("schedules/").await?;
    let schedules = document.get("schedules").and_then(Value::as_array);
    Ok(schedules.cloned().unwrap_or_default())
}

/// The schedule of this name or number.
async fn find(server: &Server, wanted: &str) -> anyhow::Result<Value> {
    let schedules = all(server).await?;
    let named = |one: &&Value| one.get("name").and_then(Value::as_str) == Some(wanted);
    let numbered = |one: &&Value| one.get("id").map(Value::to_string).as_deref() == Some(wanted);
    let found = schedules
        .iter()
        .find(named)
        .or_else(|| schedules.iter().find(numbered));
    match found {
        Some(schedule) => Ok(schedule.clone()),
        None if schedules.is_empty() => {
            bail!("there are no schedules: make one with `runner schedule add`")
        }
        None => {
            let names: Vec<_> = schedules
                .iter()
                .map(|one| line(text(one, "name")))
                .collect();
            bail!(
                "there is no schedule {wanted:?}; there are: {}",
                names.join(", ")
            )
        }
    }
}

/// Its path at the server.
fn path(schedule: &Value) -> anyhow::Result<String> {
    let id = schedule.get("id").and_then(Value::as_i64);
    let id = id.context("what answers is no runner: a schedule has no number")?;
    Ok(format!("schedules/{id}/"))
}

fn text<'a>(schedule: &'a Value, key: &str) -> &'a str {
    schedule
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// When it is due, as it was written.
fn rule(schedule: &Value) -> String {
    let jitter = match text(schedule, "jitter") {
        "" | "0s" => String::new(),
        jitter => format!(" +{jitter}"),
    };
    match (text(schedule, "cron"), text(schedule, "every")) {
        ("", span) => format!("every {span}{jitter}"),
        (line, _) => format!("{line} {}{jitter}", text(schedule, "timeZone")),
    }
}

/// When it is due first of all the times that are shown; or that it is not.
fn first(schedule: &Value) -> String {
    if schedule.get("enabled") == Some(&Value::Bool(false)) {
        return "disabled".to_owned();
    }
    let next = schedule.get("next").and_then(Value::as_array);
    let first = next.and_then(|next| next.first()).and_then(Value::as_str);
    first.unwrap_or("never").to_owned()
}
