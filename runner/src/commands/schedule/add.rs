//! `runner schedule add`.

use clap::Args;
use reqwest::Method;
use serde_json::json;

use super::block_on;
use super::set::Wishes;
use super::show::shown;
use crate::client::At;
use crate::screen;

/// Arguments of `runner schedule add`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner schedule add nightly hello-world -p inputStr=hi --cron '0 3 * * *' --time-zone Europe/Berlin
  runner schedule add often hello-world -p inputStr=hi --every 15m --jitter 30s --overlap queue")]
pub(crate) struct Add {
    /// Its name.
    name: String,
    /// Identifier of the plugin; or its name, for its newest version.
    plugin: String,
    #[command(flatten)]
    wishes: Wishes,
    /// Makes it without letting it be fired.
    #[arg(long)]
    disabled: bool,
    #[command(flatten)]
    at: At,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Add {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut body = self.wishes.body()?;
        body["name"] = json!(self.name);
        body["plugin"] = json!(self.plugin);
        if self.disabled {
            body["enabled"] = json!(false);
        }
        let server = self.at.server()?;
        let made = block_on(server.send_json(Method::POST, "schedules/", &body))?;
        match self.json {
            true => screen::print_json(&made),
            false => screen::print(&shown(&made)),
        }
    }
}
