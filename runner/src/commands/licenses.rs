//! `runner licenses`: what the runner is made of.

use clap::Args;
use serde_json::json;

use crate::screen::{self, BOLD, Table, WEAK};

/// Arguments of `runner licenses`.
#[derive(Debug, Args)]
pub(crate) struct Licenses {
    /// Prints a JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

impl Licenses {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let components = runner_server::licenses();
        if self.json {
            return screen::print_json(&json!({ "components": components }));
        }
        let plain = anstyle::Style::new();
        let mut table = Table::new(&["NAME", "VERSION", "LICENSE", "SOURCE"]);
        for component in components {
            table.row([
                (&component.name, BOLD),
                (&component.version, plain),
                (&component.license, plain),
                (component.repository.as_deref().unwrap_or_default(), WEAK),
            ]);
        }
        screen::print(&table.text())
    }
}
