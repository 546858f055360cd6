//! `runner schedule next`.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use clap::Args;
use jiff::Timestamp;
use runner_core::age;
use runner_core::schedule::{Kind, Rule, Timing};
use serde_json::json;

use crate::screen;

/// Arguments of `runner schedule next`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner schedule next '0 3 * * *' --time-zone Europe/Berlin
  runner schedule next '30 2 * * *' --time-zone Europe/Berlin --after 2026-03-28T00:00:00Z
  runner schedule next 1h30m")]
pub(crate) struct Next {
    /// A cron line, or an interval such as 15m.
    #[arg(value_name = "RULE")]
    expression: String,
    /// Time zone, such as Europe/Berlin.
    #[arg(long, value_name = "NAME", default_value = "UTC")]
    time_zone: String,
    /// After this moment [default now]
    #[arg(long, value_name = "MOMENT")]
    after: Option<Timestamp>,
    /// How many times are shown.
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    count: u16,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Next {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let after = match self.after {
            Some(after) => after.as_millisecond(),
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
                i64::try_from(since.as_millis())?
            }
        };
        let kind = match age::parse(&self.expression) {
            Ok(_) => Kind::Interval,
            Err(_) => Kind::Cron,
        };
        let timing = Timing::new(&Rule {
            kind,
            expression: self.expression.clone(),
            time_zone: self.time_zone.clone(),
            jitter_ms: 0,
            anchor: after,
        })
        .map_err(|error| anyhow!("{error}"))?;
        let due = std::iter::successors(timing.next_after(after), |due| timing.next_after(*due));
        let shown: Vec<String> = due
            .take(usize::from(self.count))
            .filter_map(|due| timing.shown(due))
            .collect();
        match self.json {
            true => {
                let kind = kind.as_str();
                screen::print_json(
                    &json!({ "kind": kind, "description": timing.words(), "next": shown }),
                )
            }
            false => screen::print(&format!("{}\n{}", timing.words(), shown.join("\n"))),
        }
    }
}
