//! `runner module show`.

use clap::Args;
use serde_json::Value;

use super::{One, block_on, bytes, items, number, text};
use crate::screen::{self, BOLD, line, paint};

/// Arguments of `runner module show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    one: One,
}

impl Show {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.one.at.server()?;
        let module = block_on(server.get(&self.one.path("")))?;
        match self.one.json {
            true => screen::print_json(&module),
            false => screen::print(&shown(&module)),
        }
    }
}

fn shown(module: &Value) -> String {
    let mut text_lines = vec![format!(
        "{} {}",
        paint(BOLD, line(text(module, "name"))),
        text(module, "state")
    )];
    let mut add = |label: &str, value: String| {
        if !value.is_empty() {
            text_lines.push(format!("{label:<9} {}", line(&value)));
        }
    };
    let args = module.get("args").map(Value::to_string).unwrap_or_default();
    add("reason", text(module, "reason").to_owned());
    add("refused", text(module, "refused").to_owned());
    add("path", text(module, "path").to_owned());
    add("loader", text(module, "loader").to_owned());
    add("origin", text(module, "origin").to_owned());
    add("args", if args == "[]" { String::new() } else { args });
    add("size", bytes(number(module, "size")));
    add("sha256", text(module, "sha256").to_owned());
    add("uuid", text(module, "uuid").to_owned());
    for plugin in items(module, "plugins").iter().filter_map(Value::as_str) {
        add("plugin", plugin.to_owned());
    }
    add("queued", number(module, "queued").to_string());
    for other in items(module, "differing") {
        let digest: String = text(other, "sha256").chars().take(12).collect();
        add(
            "differs",
            format!(
                "{} at {}: {digest}",
                text(other, "plugin"),
                text(other, "host")
            ),
        );
    }
    for other in items(module, "failing") {
        let (host, reason) = (text(other, "host"), text(other, "reason"));
        add("failing", format!("at {host}: {reason}"));
    }
    for process in items(module, "processes") {
        let levels: Vec<&str> = process
            .pointer("/sandbox/levels")
            .map(|_| items(&process["sandbox"], "levels"))
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let work = match process.get("task").and_then(Value::as_i64) {
            Some(task) => format!("task {task}"),
            None => "idle".to_owned(),
        };
        add(
            "host",
            format!(
                "{} {work}, {}, sandbox {}",
                number(process, "pid"),
                bytes(number(process, "resident")),
                levels.join("+")
            ),
        );
    }
    text_lines.join("\n")
}
