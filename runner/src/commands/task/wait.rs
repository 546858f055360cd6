//! `runner task wait`.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;
use tokio::time::Instant;

use super::block_on;
use super::show::shown;
use crate::client::{At, Refusal, Server};
use crate::events::{Event, Reader};
use crate::live::Live;
use crate::scratch::{INTERRUPTED, interrupted};
use crate::screen::{self, Exit, WARN, line, note, paint};

/// The exit code of a task that was cancelled.
const CANCELLED: u8 = 3;
/// The exit code when the time is over.
const TIMED_OUT: u8 = 4;
/// How long a server may be away, as while it is started again.
const AWAY: Duration = Duration::from_secs(30);
/// Between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(500);

/// Arguments of `runner task wait`.
#[derive(Debug, Args)]
#[command(after_help = "\
The exit code is 0 if the task succeeded, 1 if it failed, 3 if it was cancelled, 4 if --timeout was over. \
Ctrl-C ends the waiting, not the task.

Examples:
  runner task wait 17 && echo done
  runner task wait 17 --timeout 60 --json")]
pub(crate) struct Wait {
    /// The task's number.
    #[arg(value_name = "ID", value_parser = clap::value_parser!(i64).range(1..))]
    task: i64,
    /// Seconds to wait at most [default: for ever]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    at: At,
    /// Prints the task as a JSON document.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Why the waiting is over.
enum Over {
    Ended,
    TimedOut,
    Interrupted,
}

impl Wait {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.at.server()?;
        block_on(self.wait(&server))
    }

    async fn wait(&self, server: &Server) -> anyhow::Result<()> {
        // A far moment stands for none.
        let limit = self
            .timeout
            .unwrap_or(Duration::from_secs(u64::from(u32::MAX)));
        let until = Instant::now().checked_add(limit);
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let mut live = Live::new(&format!("task {}", self.task));
        let over = tokio::select! {
            followed = self.follow(server, &mut live) => followed.map(|()| Over::Ended)?,
            () = timer => Over::TimedOut,
            () = interrupted() => Over::Interrupted,
        };
        live.end();
        if let Over::Interrupted = over {
            note(&format!(
                "the task goes on; `runner task cancel {}` ends it",
                self.task
            ));
            return Err(Exit(INTERRUPTED).into());
        }
        let task = server.get(&format!("tasks/{}/", self.task)).await?;
        match self.json {
            true => screen::print_json(&task)?,
            // Its log was shown as it came.
            false => screen::print(&shown(self.task, &task, false))?,
        }
        match (over, task.get("state").and_then(Value::as_str)) {
            (_, Some("succeeded")) => Ok(()),
            (_, Some("failed")) => Err(Exit(1).into()),
            (_, Some("cancelled")) => Err(Exit(CANCELLED).into()),
            _ => {
                note(&paint(WARN, "the time is over, and the task has not ended"));
                Err(Exit(TIMED_OUT).into())
            }
        }
    }

    /// Shows what happens until the task ends. A stream that breaks off is taken up where it was.
    async fn follow(&self, server: &Server, live: &mut Live) -> anyhow::Result<()> {
        let mut last: Option<String> = None;
        let mut away_since: Option<Instant> = None;
        loop {
            let mut response = match server.events(self.task, last.as_deref()).await {
                Ok(response) => response,
                Err(error) if last.is_none() || error.is::<Refusal>() => return Err(error),
                Err(error) if away_since.is_some_and(|since| since.elapsed() > AWAY) => {
                    return Err(error);
                }
                Err(_) => {
                    away_since.get_or_insert_with(|| {
                        live.say("the runner is away; waiting for it");
                        Instant::now()
                    });
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            away_since = None;
            let mut reader = Reader::default();
            while let Ok(Some(bytes)) = response.chunk().await {
                for event in reader.read(&bytes)? {
                    if self.show(&event, live)? {
                        return Ok(());
                    }
                    last = Some(event.id);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether this was the last event.
    fn show(&self, event: &Event, live: &mut Live) -> anyhow::Result<bool> {
        let data = &event.data;
        let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default();
        match event.name.as_str() {
            "log" => live.log(text("text")),
            "progress" => {
                let number =
                    |key: &str, usual: f64| data.get(key).and_then(Value::as_f64).unwrap_or(usual);
                let (value, start, target) = (
                    number("value", 0.0),
                    number("start", 0.0),
                    number("target", 100.0),
                );
                live.progress(value, start, target, text("unit"));
            }
            "steps" => {
                let steps = data.as_array().context("an event that is not usable")?;
                for step in steps
                    .iter()
                    .filter(|step| step.get("cleared") == Some(&Value::Bool(false)))
                {
                    let page = step
                        .get("uiHref")
                        .and_then(Value::as_str)
                        .unwrap_or_default();
                    live.say(&format!(
                        "{} {}",
                        paint(WARN, "the task waits for a form:"),
                        line(page)
                    ));
                }
            }
            "end" => match data.get("reason").and_then(Value::as_str) {
                Some(reason) => bail!("task {}: {}", self.task, line(reason)),
                None => return Ok(true),
            },
            _ => {}
        }
        Ok(false)
    }
}
