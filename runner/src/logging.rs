//! The log of a process that serves: on standard error, as text or as JSON, above the line that shows it at work.

use std::io::{self, IsTerminal, Stderr, Write};

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::board;
use crate::screen::Exit;
use crate::settings::{LogFormat, Settings};

/// Begins the log.
pub(crate) fn start(settings: &Settings) -> anyhow::Result<()> {
    let level = &settings.log_level;
    let filter = EnvFilter::try_new(level).with_context(|| {
        format!("LOG_LEVEL is {level:?}; expected error, warn, info, debug or trace")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(AboveBoard);
    match settings.log_format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .init(),
    }
    Ok(())
}

/// Shows, for a command that serves nobody, what these targets say: on standard error, without time and level.
pub(crate) fn of_command(targets: &str) {
    tracing_subscriber::fmt()
        .with_env_filter(targets)
        .with_writer(io::stderr)
        .without_time()
        .with_target(false)
        .with_level(false)
        .with_ansi(false)
        .init();
}

/// Why it ended, in the format of the log.
pub(crate) fn told(format: LogFormat, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
    match (format, outcome) {
        (LogFormat::Json, Err(error)) => {
            tracing::error!("{error:#}");
            Err(Exit(1).into())
        }
        (_, outcome) => outcome,
    }
}

/// Writes to standard error, with the board out of the way.
struct AboveBoard;

impl MakeWriter<'_> for AboveBoard {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line(io::stderr())
    }
}

/// Each write is a whole entry.
struct Line(Stderr);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        board::aside(|| self.0.write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
