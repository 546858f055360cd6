//! The pauses between attempts while SQL is out of reach.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The first pause.
const FIRST: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(10);

/// Pauses that double up to a limit.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
}

impl Pauses {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// Waits. `false`: the worker stops before.
    pub(crate) async fn pause(&mut self, abort: &CancellationToken) -> bool {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = abort.cancelled() => false,
        }
    }
}
