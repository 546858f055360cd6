//! `runner module stop` and `runner module remove`.

use clap::Args;
use reqwest::Method;

use super::{Deadline, One, block_on, number};
use crate::screen;

/// Arguments of the commands that end a module.
#[derive(Debug, Args)]
pub(crate) struct End {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    deadline: Deadline,
}

impl End {
    pub(crate) fn stop(&self) -> anyhow::Result<()> {
        let path = format!("stop{}", self.deadline.query());
        self.end(Method::POST, &path, "stopped")
    }

    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        self.end(Method::DELETE, &self.deadline.query(), "removed")
    }

    fn end(&self, method: Method, what: &str, done: &str) -> anyhow::Result<()> {
        let server = self.one.at.server()?;
        let ended = block_on(server.document(method, &self.one.path(what)))?;
        if self.one.json {
            return screen::print_json(&ended);
        }
        let killed = match number(&ended, "killed") {
            0 => String::new(),
            1 => ", 1 process was killed".to_owned(),
            many => format!(", {many} processes were killed"),
        };
        screen::print(&format!("{}: {done}{killed}", self.one.name))
    }
}
