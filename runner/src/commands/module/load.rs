//! `runner module load` and `runner module start`.

use std::path::Path;

use anyhow::Context;
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::{One, array, block_on, outcome};
use crate::client::At;
use crate::screen;

/// Arguments of `runner module load`.
#[derive(Debug, Args)]
#[command(after_help = "\
What has a slash, or is a file here, is a path, which the runner must see as well. All else is looked for in the
plugin folders of the runner.

Examples:
  runner module load ./hello.py
  runner module load hello.py --name hello-again
  runner module load /srv/modules/solver --args '[\"fast\", 4]'")]
pub(crate) struct Load {
    /// A path; or the name of a module or file in the plugin folders.
    target: String,
    /// Its name, instead of the one in its manifest or that of its file
    #[arg(long)]
    name: Option<String>,
    /// Its arguments, a JSON array, instead of those in its manifest
    #[arg(long, value_parser = array)]
    args: Option<Value>,
    /// Its loader, instead of the one that its file has
    #[arg(long)]
    loader: Option<String>,
    #[command(flatten)]
    at: At,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Load {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut body = json!({ "target": self.target()? });
        for (key, value) in [("name", &self.name), ("loader", &self.loader)] {
            if let Some(value) = value {
                body[key] = json!(value);
            }
        }
        if let Some(args) = &self.args {
            body["args"] = args.clone();
        }
        let server = self.at.server()?;
        let loaded = block_on(server.send_json(Method::POST, "modules/", &body))?;
        match self.json {
            true => screen::print_json(&loaded),
            false => screen::print(&outcome(&loaded)),
        }
    }

    fn target(&self) -> anyhow::Result<String> {
        let path = Path::new(&self.target);
        if !self.target.contains('/') && !path.is_file() {
            return Ok(self.target.clone());
        }
        let path = std::path::absolute(path)
            .with_context(|| format!("{} is no usable path", self.target))?;
        path.into_os_string()
            .into_string()
            .map_err(|path| anyhow::anyhow!("the path {} is not UTF-8", path.display()))
    }
}

/// Arguments of `runner module start`.
#[derive(Debug, Args)]
pub(crate) struct Start {
    #[command(flatten)]
    one: One,
}

impl Start {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.one.at.server()?;
        let started = block_on(server.post(&self.one.path("start")))?;
        match self.one.json {
            true => screen::print_json(&started),
            false => screen::print(&outcome(&started)),
        }
    }
}
