//! `runner module trace`.

use clap::Args;
use serde_json::Value;

use super::{One, block_on, number, text};
use crate::events::Reader;
use crate::scratch::interrupted;
use crate::screen::{self, WARN, line, note, paint};

/// Arguments of `runner module trace`.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows messages until Ctrl-C, or until the module is removed. Topics are the methods of docs/protocol.md; that of an
answer is the method of its request with `.answer` behind it. With --json each message is a line.

Examples:
  runner module trace hello
  runner module trace hello 'run*'
  runner module trace hello '{log,progress}' --json")]
pub(crate) struct Trace {
    #[command(flatten)]
    one: One,
    /// A glob of topics
    #[arg(default_value = "*")]
    messages: String,
}

impl Trace {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let server = self.one.at.server()?;
        let query: String =
            url::form_urlencoded::byte_serialize(self.messages.as_bytes()).collect();
        let path = self.one.path(&format!("trace?messages={query}"));
        block_on(async {
            tokio::select! {
                done = self.follow(&server, &path) => done,
                () = interrupted() => Ok(()),
            }
        })
    }

    async fn follow(&self, server: &crate::client::Server, path: &str) -> anyhow::Result<()> {
        let mut stream = server.stream(path).await?;
        let mut reader = Reader::default();
        while let Some(bytes) = stream.chunk().await? {
            for event in reader.read(&bytes)? {
                match (event.name.as_str(), self.one.json) {
                    ("message", true) => screen::print(&event.data.to_string())?,
                    ("message", false) => screen::print(&shown(&event.data))?,
                    ("dropped", _) => note(&paint(
                        WARN,
                        format!("{} messages were not seen", number(&event.data, "count")),
                    )),
                    _ => return Ok(()),
                }
            }
        }
        Ok(())
    }
}

fn shown(message: &Value) -> String {
    let arrow = match text(message, "direction") {
        "toHost" => "->",
        _ => "<-",
    };
    let time = i64::try_from(number(message, "at")).unwrap_or_default();
    let time = jiff::Timestamp::from_millisecond(time).unwrap_or_default();
    format!(
        "{time:.3} {arrow} {} {} {}",
        number(message, "pid"),
        text(message, "topic"),
        line(text(message, "message"))
    )
}
