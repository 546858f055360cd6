//! `runner module reload`.

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Deadline, One, array, block_on, outcome};
use crate::screen;

/// Arguments of `runner module reload`.
#[derive(Debug, Args)]
#[command(after_help = "\
If the newer version cannot be loaded, the older one stays, and the command says why.")]
pub(crate) struct Reload {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    deadline: Deadline,
    /// Other arguments than before, a JSON array
    #[arg(long, value_parser = array)]
    args: Option<Value>,
}

impl Reload {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.one.at.server()?;
        let path = self.one.path(&format!("reload{}", self.deadline.query()));
        let body = match &self.args {
            Some(args) => json!({ "args": args }),
            None => json!({}),
        };
        let reloaded = block_on(server.send_json(Method::POST, &path, &body))?;
        match self.one.json {
            true => screen::print_json(&reloaded),
            false => screen::print(&outcome(&reloaded)),
        }
    }
}
