//! `runner schedule set`, and what can be said of a schedule.

use anyhow::{Context, bail};
use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::show::shown;
use super::{block_on, find, path};
use crate::client::At;
use crate::screen;

/// What can be said of a schedule.
#[derive(Debug, Args)]
pub(super) struct Wishes {
    /// A cron line: minute, hour, day of the month, month, day of the week; six fields begin with seconds.
    #[arg(long, value_name = "LINE", conflicts_with = "every")]
    cron: Option<String>,
    /// An interval, such as 90s, 15m or 1h30m.
    #[arg(long, value_name = "SPAN")]
    every: Option<String>,
    /// Time zone of the cron line, such as Europe/Berlin [default UTC]
    #[arg(long, value_name = "NAME")]
    time_zone: Option<String>,
    /// Up to this span it is fired later, each time another [default 0s]
    #[arg(long, value_name = "SPAN")]
    jitter: Option<String>,
    /// What is done while its last task has not ended [default skip]
    #[arg(long, value_parser = ["skip", "queue", "cancel", "allow"])]
    overlap: Option<String>,
    /// What is done with firings for which no runner was there [default once]
    #[arg(long, value_parser = ["skip", "once", "all"])]
    missed: Option<String>,
    /// A parameter as KEY=VALUE; a value that is JSON is taken as such. May be repeated.
    #[arg(short = 'p', long = "param", value_name = "KEY=VALUE")]
    parameters: Vec<String>,
    /// Priority of its tasks [default that of the plugin]
    #[arg(long, value_parser = ["low", "normal", "high"])]
    priority: Option<String>,
    /// How often a task is run again when the plugin fails.
    #[arg(long)]
    retries: Option<u32>,
    /// Seconds that one run may take.
    #[arg(long)]
    timeout: Option<f64>,
    /// A label of its tasks; may be repeated.
    #[arg(long)]
    label: Vec<String>,
}

impl Wishes {
    /// What is said, as the server reads it.
    pub(super) fn body(&self) -> anyhow::Result<Value> {
        let mut body = json!({});
        for (key, value) in [
            ("cron", &self.cron),
            ("every", &self.every),
            ("timeZone", &self.time_zone),
            ("jitter", &self.jitter),
            ("overlap", &self.overlap),
            ("missed", &self.missed),
            ("priority", &self.priority),
        ] {
            if let Some(value) = value {
                body[key] = json!(value);
            }
        }
        if let Some(retries) = self.retries {
            body["retries"] = json!(retries);
        }
        if let Some(timeout) = self.timeout {
            body["timeout"] = json!(timeout);
        }
        if !self.label.is_empty() {
            body["labels"] = json!(self.label);
        }
        if !self.parameters.is_empty() {
            let mut parameters = Map::new();
            for given in &self.parameters {
                let (key, value) = given
                    .split_once('=')
                    .with_context(|| format!("{given:?} is no parameter; expected KEY=VALUE"))?;
                let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
                parameters.insert(key.to_owned(), value);
            }
            body["parameters"] = Value::Object(parameters);
        }
        Ok(body)
    }
}

/// Arguments of `runner schedule set`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner schedule set nightly --cron '30 4 * * MON-FRI'
  runner schedule set often -p inputStr=ho --missed skip")]
pub(crate) struct Set {
    /// Name or number of the schedule.
    schedule: String,
    /// Another name.
    #[arg(long, value_name = "NAME")]
    rename: Option<String>,
    /// Another plugin.
    #[arg(long, value_name = "IDENTIFIER")]
    plugin: Option<String>,
    #[command(flatten)]
    wishes: Wishes,
    #[command(flatten)]
    at: At,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Set {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut body = self.wishes.body()?;
        for (key, value) in [("name", &self.rename), ("plugin", &self.plugin)] {
            if let Some(value) = value {
                body[key] = json!(value);
            }
        }
        if body.as_object().is_none_or(Map::is_empty) {
            bail!("nothing is to be changed: see `runner schedule set --help`");
        }
        let server = self.at.server()?;
        let changed = block_on(async {
            let path = path(&find(&server, &self.schedule).await?)?;
            server.send_json(Method::PATCH, &path, &body).await
        })?;
        match self.json {
            true => screen::print_json(&changed),
            false => screen::print(&shown(&changed)),
        }
    }
}
