//! `runner schedule list`.

use anstyle::Style;
use clap::Args;
use serde_json::{Value, json};

use super::{all, block_on, first, rule, text};
use crate::client::Asked;
use crate::screen::{self, BAD, BOLD, Table, WEAK};

/// Arguments of `runner schedule list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    asked: Asked,
}

impl List {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.asked.at.server()?;
        let schedules = block_on(all(&server))?;
        if self.asked.json {
            return screen::print_json(&json!({ "schedules": schedules }));
        }
        if schedules.is_empty() {
            return screen::print("no schedules");
        }
        let plain = Style::new();
        let mut table = Table::new(&["ID", "NAME", "PLUGIN", "WHEN", "NEXT", "SAID"]);
        for one in &schedules {
            let id = one.get("id").map(Value::to_string).unwrap_or_default();
            table.row([
                (&id, WEAK),
                (text(one, "name"), BOLD),
                (text(one, "plugin"), plain),
                (&rule(one), plain),
                (&first(one), plain),
                (text(one, "lastError"), BAD),
            ]);
        }
        screen::print(&table.text())
    }
}
