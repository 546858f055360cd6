//! `runner module debug`.

use clap::{Args, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::{One, block_on, items, text};
use crate::screen;

/// What is done with messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    /// They come later.
    Delay,
    /// They come when this is taken away.
    Defer,
    /// They never come.
    Drop,
    /// They come.
    None,
}

/// Arguments of `runner module debug`.
#[derive(Debug, Args)]
#[command(after_help = "\
Holds up what a module's processes say, as if it were stuck, to see what its callers and limits do then. Without an
action it shows what is held up.

Examples:
  runner module debug hello drop --messages 'run.answer'
  runner module debug hello delay --seconds 2
  runner module debug hello drop --messages cancel --to-host
  runner module debug hello none")]
pub(crate) struct Debug {
    #[command(flatten)]
    one: One,
    /// What is done with the messages
    action: Option<Action>,
    /// A glob of topics, as `module trace` shows them
    #[arg(long, default_value = "*")]
    messages: String,
    /// Holds up what is said to the processes instead
    #[arg(long)]
    to_host: bool,
    /// How much later they come
    #[arg(long, required_if_eq("action", "delay"))]
    seconds: Option<f64>,
}

impl Debug {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.one.at.server()?;
        let path = self.one.path("debug");
        let answer = match self.action {
            None => block_on(server.get(&path))?,
            Some(action) => {
                let action = action.to_possible_value();
                let action = action.map(|value| value.get_name().to_owned());
                let mut body = json!({ "messages": self.messages, "action": action });
                if self.to_host {
                    body["direction"] = json!("toHost");
                }
                if let Some(seconds) = self.seconds {
                    body["seconds"] = json!(seconds);
                }
                block_on(server.send_json(Method::POST, &path, &body))?
            }
        };
        if self.one.json {
            return screen::print_json(&answer);
        }
        let faults: Vec<String> = items(&answer, "faults").iter().map(shown).collect();
        match faults.is_empty() {
            true => screen::print("nothing is held up"),
            false => screen::print(&faults.join("\n")),
        }
    }
}

fn shown(fault: &Value) -> String {
    let seconds = fault.get("seconds").and_then(Value::as_f64);
    let seconds = seconds.map_or_else(String::new, |seconds| format!(" {seconds} s"));
    let to_host = match text(fault, "direction") {
        "toHost" => " to hosts",
        _ => "",
    };
    format!(
        "{} {}{seconds}{to_host}",
        text(fault, "messages"),
        text(fault, "action")
    )
}
