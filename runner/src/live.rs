//! A task as it runs: its log line by line, and on a terminal a bar with its progress.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::screen::{self, lines, note};

/// Pieces of a log that are this long may end within a line.
const LONG_PIECE: usize = 60 * 1024;
/// Steps of the bar from start to target.
const STEPS: u64 = 1_000;
/// How often the bar moves by itself, to show that something lives.
const TICK: Duration = Duration::from_millis(120);

/// Shows one task on standard error.
#[derive(Debug)]
pub(crate) struct Live {
    bar: Option<ProgressBar>,
    /// The beginning of a line whose end is still to come.
    held: String,
    is_first: bool,
}

impl Live {
    /// Begins with a bar that knows nothing yet.
    pub(crate) fn new(what: &str) -> Self {
        let is_wanted = std::io::stderr().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let bar = is_wanted.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style("{spinner} {prefix} {elapsed} {msg}"));
            bar.set_prefix(screen::line(what));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self {
            bar,
            held: String::new(),
            is_first: true,
        }
    }

    /// A piece of the log. Entries are separated by line breaks, which come with the next entry.
    pub(crate) fn log(&mut self, piece: &str) {
        let piece = match piece.strip_prefix('\n') {
            Some(rest) if self.held.is_empty() && !self.is_first => rest,
            _ => piece,
        };
        self.is_first = false;
        self.held.push_str(piece);
        let end = match piece.len() < LONG_PIECE {
            true => self.held.len(),
            false => self.held.rfind('\n').unwrap_or(0),
        };
        let rest = self.held.split_off(end);
        let text = std::mem::replace(&mut self.held, rest);
        if !text.is_empty() {
            self.say(&lines(text.trim_end_matches('\n')));
        }
    }

    /// How far the task is.
    pub(crate) fn progress(&mut self, value: f64, start: f64, target: f64, unit: &str) {
        let Some(bar) = &self.bar else { return };
        let share = match (value - start) / (target - start) {
            share if share.is_finite() => share.clamp(0.0, 1.0),
            _ => 0.0,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and 1000"
        )]
        let position = (share * STEPS as f64) as u64;
        if bar.length().is_none() {
            bar.set_style(style("{spinner} {prefix} {elapsed} [{wide_bar}] {msg}"));
            bar.set_length(STEPS);
        }
        bar.set_position(position);
        let unit = screen::line(unit);
        bar.set_message(match unit.as_str() {
            "%" if start == 0.0 && target == 100.0 => format!("{value:.0} %"),
            "%" => format!("{value} of {target}"),
            unit => format!("{value} of {target} {unit}"),
        });
    }

    /// A line above the bar.
    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(text)),
            None => note(text),
        }
    }

    /// Says what is still to be said, and removes the bar.
    pub(crate) fn end(&mut self) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            self.say(&lines(held.trim_matches('\n')));
        }
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.end();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
