//! `runner session`: kernels of clients.

use anstyle::Style;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::task::block_on;
use crate::client::Asked;
use crate::screen::{self, BOLD, Table, WEAK, indent, line, lines};

/// What can be done with sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// Lists sessions, the oldest first.
    List(List),
    /// Shows a session: what it is at, how it is confined, what it wrote to its standard error.
    Show(One),
    /// Ends a session, with its kernel and its files.
    #[command(alias = "delete")]
    Stop(One),
}

/// Arguments of `runner session list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    asked: Asked,
}

/// Arguments of commands about one session.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// Id of the session.
    session: String,
    #[command(flatten)]
    asked: Asked,
}

impl Session {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Show(one) => one.show(),
            Self::Stop(one) => one.stop(),
        }
    }
}

impl List {
    fn run(&self) -> anyhow::Result<()> {
        let server = self.asked.at.server()?;
        let sessions = block_on(server.get("api/kernels"))?;
        if self.asked.json {
            return screen::print_json(&json!({ "sessions": sessions }));
        }
        let sessions = sessions.as_array().cloned().unwrap_or_default();
        if sessions.is_empty() {
            return screen::print("no sessions");
        }
        let plain = Style::new();
        let mut table = Table::new(&["ID", "STATE", "CLIENTS", "AGE", "LAST ACTIVITY", "OWNER"]);
        for one in &sessions {
            table.row([
                (text(one, "id"), BOLD),
                (text(one, "execution_state"), plain),
                (&number(one, "connections"), plain),
                (&format!("{} s", number(one, "age")), plain),
                (text(one, "last_activity"), WEAK),
                (text(one, "owner"), plain),
            ]);
        }
        screen::print(&table.text())
    }
}

impl One {
    fn show(&self) -> anyhow::Result<()> {
        let server = self.asked.at.server()?;
        let path = self.path();
        let (session, errors) = block_on(async {
            let session = server.get(&path).await?;
            let errors = server.stream(&format!("{path}/stderr")).await?;
            Ok((session, errors.text().await?))
        })?;
        if self.asked.json {
            return screen::print_json(&json!({ "session": session, "stderr": errors }));
        }
        let mut shown = Table::new(&[]);
        for name in ["id", "execution_state", "last_activity", "owner"] {
            shown.row([(name, WEAK), (text(&session, name), Style::new())]);
        }
        for name in ["connections", "age", "offset"] {
            shown.row([(name, WEAK), (&number(&session, name), Style::new())]);
        }
        let confinement = session.get("confinement");
        for name in ["levels", "layers", "missing"] {
            let all = confinement.and_then(|one| one.get(name));
            let all = all.and_then(Value::as_array).into_iter().flatten();
            let all: Vec<_> = all.filter_map(Value::as_str).map(line).collect();
            shown.row([(name, WEAK), (&all.join(", "), Style::new())]);
        }
        let mut told = shown.text();
        if !errors.is_empty() {
            told.push_str(&format!("stderr\n{}\n", indent(&lines(&errors), 2)));
        }
        screen::print(&told)
    }

    fn stop(&self) -> anyhow::Result<()> {
        let server = self.asked.at.server()?;
        block_on(server.delete(&self.path()))?;
        match self.asked.json {
            true => screen::print_json(&json!({ "stopped": self.session })),
            false => screen::print(&format!("{}: stopped", line(&self.session))),
        }
    }

    fn path(&self) -> String {
        let id = &self.session;
        let id = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
        // The dashes of an id may stand as they are.
        format!("api/kernels/{}", id.to_string().replace("%2D", "-"))
    }
}

fn text<'a>(session: &'a Value, key: &str) -> &'a str {
    session.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(session: &Value, key: &str) -> String {
    session.get(key).map(Value::to_string).unwrap_or_default()
}
