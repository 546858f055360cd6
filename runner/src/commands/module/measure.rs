//! `runner module stats`, `rusage` and `ping`.

use std::time::Duration;

use anstyle::Style;
use clap::Args;
use serde_json::Value;

use super::{One, block_on, bytes, items, number};
use crate::screen::{self, BOLD, Table};

/// The most signs of life that are asked for.
const MAX_PINGS: u32 = 1_000;
/// Between two of them.
const PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `runner module stats`.
#[derive(Debug, Args)]
pub(crate) struct Stats {
    #[command(flatten)]
    one: One,
    /// Sets the numbers to zero, after they were shown
    #[arg(long)]
    reset: bool,
}

impl Stats {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.one.at.server()?;
        let path = self.one.path("stats");
        let stats = block_on(async {
            let stats = server.get(&path).await?;
            if self.reset {
                server.delete(&path).await?;
            }
            Ok(stats)
        })?;
        if self.one.json {
            return screen::print_json(&stats);
        }
        let numbers = stats.as_object().into_iter().flatten();
        let lines: Vec<String> = numbers
            .map(|(key, value)| format!("{key:<12} {value}"))
            .collect();
        screen::print(&lines.join("\n"))
    }
}

/// Arguments of `runner module rusage`.
#[derive(Debug, Args)]
pub(crate) struct Rusage {
    #[command(flatten)]
    one: One,
}

impl Rusage {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.one.at.server()?;
        let usage = block_on(server.get(&self.one.path("rusage")))?;
        if self.one.json {
            return screen::print_json(&usage);
        }
        let plain = Style::new();
        let mut table = Table::new(&["PID", "USER", "SYSTEM", "RESIDENT", "PROCESSES"]);
        let seconds = |host: &Value, key: &str| {
            let seconds = host.get(key).and_then(Value::as_f64).unwrap_or_default();
            format!("{seconds:.2} s")
        };
        for host in items(&usage, "hosts") {
            table.row([
                (&number(host, "pid").to_string(), BOLD),
                (&seconds(host, "userSeconds"), plain),
                (&seconds(host, "systemSeconds"), plain),
                (&bytes(number(host, "resident")), plain),
                (&number(host, "processes").to_string(), plain),
            ]);
        }
        screen::print(&table.text())
    }
}

/// Arguments of `runner module ping`.
#[derive(Debug, Args)]
pub(crate) struct Ping {
    #[command(flatten)]
    one: One,
    /// How often
    #[arg(long, short = 'c', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PINGS)))]
    count: u32,
}

impl Ping {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.one.at.server()?;
        let path = self.one.path("ping");
        block_on(async {
            for count in 0..self.count {
                if count > 0 {
                    tokio::time::sleep(PAUSE).await;
                }
                let pong = server.post(&path).await?;
                if self.one.json {
                    screen::print_json(&pong)?;
                    continue;
                }
                let milliseconds = pong.get("milliseconds").and_then(Value::as_f64);
                screen::print(&format!(
                    "{}: process {} answered in {:.2} ms",
                    self.one.name,
                    number(&pong, "pid"),
                    milliseconds.unwrap_or_default()
                ))?;
            }
            Ok(())
        })
    }
}
