//! `runner openapi`: the document of the runner and its plugins, without a server.

use std::net::SocketAddr;

use clap::Args;

use super::Folders;
use crate::instance;
use crate::scratch::{Missing, Scratch, What};
use crate::screen::{self, note};
use crate::settings::{Flags, Settings};

/// Arguments of `runner openapi`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner openapi > api-spec.json
  runner openapi --base-url https://example.org/runner")]
pub(crate) struct Openapi {
    /// Where the runner will be [default: as `runner up` would be]
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    #[command(flatten)]
    folders: Folders,
}

impl Openapi {
    /// Prints the document. Modules that cannot be loaded are left out, and named.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let settings = self.folders.settings(Flags::new())?;
        let base = self.base_url.clone().unwrap_or_else(|| usual(&settings));
        let document = Scratch::with(settings, Missing::Told, async |scratch| {
            let table = scratch.load(&What::Folders).await?;
            for module in &table.modules {
                let status = module.status();
                if let Some(reason) = status.reason {
                    note(&format!("left out: the module {}: {reason}", status.name));
                }
            }
            Ok(runner_server::openapi(&table, base.trim_end_matches('/')))
        })?;
        screen::print_json(&document)
    }
}

fn usual(settings: &Settings) -> String {
    match &settings.server_name {
        Some(name) => format!("http://{name}"),
        None => instance::base_url(&SocketAddr::new(settings.host, settings.port)),
    }
}
