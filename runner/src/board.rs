//! The line at the bottom of a worker's terminal: what it is at work on, and how it went so far.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use runner_queue::Queue;
use runner_worker::{InProgress, Totals, Worker};

use crate::screen;

/// How often the line changes.
const TICK: Duration = Duration::from_millis(500);
/// How long the queue may take to say how much there is.
const PATIENCE: Duration = Duration::from_millis(300);
/// Runs that are named.
const NAMED: usize = 2;

/// There is one in a process.
static BOARD: OnceLock<ProgressBar> = OnceLock::new();

/// Does something, such as writing a line of the log, while the board is away.
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> T {
    match BOARD.get() {
        Some(bar) => bar.suspend(work),
        None => work(),
    }
}

/// Shows the board for as long as it is waited for; where standard error is no terminal, nothing.
pub(crate) async fn show(worker: &Worker, queue: &Queue, slots: usize) {
    let is_wanted = std::io::stderr().is_terminal()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    if !is_wanted {
        return std::future::pending().await;
    }
    let bar = BOARD.get_or_init(|| {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        bar
    });
    let _cleared = Cleared(bar);
    loop {
        let ready = match tokio::time::timeout(PATIENCE, queue.depth()).await {
            Ok(Ok(depth)) => Some(depth.ready),
            _ => None,
        };
        let (running, totals) = worker.activity();
        bar.set_message(text(&running, totals, slots, ready));
        bar.tick();
        tokio::time::sleep(TICK).await;
    }
}

/// Takes the line away when nobody waits for it any more.
struct Cleared<'a>(&'a ProgressBar);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn text(running: &[InProgress], totals: Totals, slots: usize, ready: Option<u64>) -> String {
    let mut text = format!("{} of {slots} busy", running.len());
    match ready {
        Some(ready) => text.push_str(&format!(", {ready} waiting")),
        None => text.push_str(", the queue does not answer"),
    }
    text.push_str(&format!(", {} done", totals.succeeded));
    if totals.failed > 0 {
        text.push_str(&format!(", {} failed", totals.failed));
    }
    for run in running.iter().take(NAMED) {
        let plugin = run.plugin.as_ref().map_or("?", |plugin| &plugin.identifier);
        let since = Duration::from_secs(run.since.elapsed().as_secs());
        text.push_str(&format!(
            " | {} {plugin} {}",
            run.task,
            HumanDuration(since)
        ));
    }
    if running.len() > NAMED {
        text.push_str(&format!(" | {} more", running.len() - NAMED));
    }
    screen::line(&text)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_line_tells_what_is_at_work() {
        let run = |task| InProgress {
            task,
            plugin: None,
            since: Instant::now(),
        };
        let totals = Totals {
            succeeded: 12,
            failed: 1,
            others: 0,
        };
        let running = [run(7), run(8), run(9)];
        assert_eq!(
            text(&running, totals, 4, Some(5)),
            "3 of 4 busy, 5 waiting, 12 done, 1 failed | 7 ? 0 seconds | 8 ? 0 seconds | 1 more"
        );
        assert_eq!(
            text(&[], Totals::default(), 4, None),
            "0 of 4 busy, the queue does not answer, 0 done"
        );
    }
}
