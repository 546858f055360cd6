//! The cell that runs: how long it may, and what its kernel has beside its messages.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Driver;
use crate::kernel::Aside;
use crate::message::Header;
use crate::{requests, told};

/// How long a cell that ran for too long may go on after it was interrupted.
const LATE: Duration = Duration::from_secs(5);

/// A cell while it runs, or what else a client asked of the code of its kernel.
pub(super) struct Cell {
    header: Header,
    began: Instant,
    /// Whether it was interrupted since it ran for too long.
    is_late: bool,
}

impl Cell {
    /// The cell that begins when its kernel is busy with this request.
    pub(super) fn of(request: &Header) -> Self {
        Self {
            header: request.clone(),
            began: Instant::now(),
            is_late: false,
        }
    }

    /// Whether it is that of a request.
    pub(super) fn is_of(&self, request: &Header) -> bool {
        self.header.msg_id == request.msg_id
    }
}

impl Driver {
    /// Answers what a kernel asks beside its messages, and hears what is said of it.
    pub(super) fn attend(&self, aside: Aside, end: watch::Receiver<Option<String>>) {
        let (tasks, session) = (Arc::clone(&self.shared.tasks), Arc::clone(&self.session));
        tokio::spawn(requests::serve(aside.requests, session, tasks, end));
        let (mut warnings, session) = (aside.warnings, Arc::clone(&self.session));
        tokio::spawn(async move {
            while let Some(why) = warnings.recv().await {
                session.warn(why);
            }
        });
    }

    /// Interrupts the cell that runs, and says why.
    pub(super) fn warn(&self, why: &str) {
        let cell = self.cell.as_ref().map(|cell| &cell.header);
        let why = self.shared.config.face.named(why);
        self.session
            .say(None, &told::note(&format!("[{why}]"), cell));
        self.interrupt();
    }

    /// When the cell that runs is interrupted, or its kernel ended.
    pub(super) fn end_of_cell(&self) -> Option<Instant> {
        let (cell, limit) = (self.cell.as_ref()?, self.shared.config.cell_time?);
        let patience = match cell.is_late {
            true => LATE,
            false => Duration::ZERO,
        };
        Some(cell.began + limit + patience)
    }

    /// Does that.
    pub(super) fn end_cell(&mut self) {
        let (Some(cell), Some(limit)) = (&mut self.cell, self.shared.config.cell_time) else {
            return;
        };
        let limit = limit.as_secs_f64();
        if !std::mem::replace(&mut cell.is_late, true) {
            let why = format!(
                "the cell runs for {limit} s, which is as long as one may (SESSION_CELL_TIME); it is interrupted"
            );
            return self.warn(&why);
        }
        self.cell = None;
        if let Some(kernel) = &self.kernel {
            kernel.kill_since(format!(
                "a cell went on {} s after it was interrupted, since it ran for {limit} s, which is as long as one may \
                 (SESSION_CELL_TIME)",
                LATE.as_secs()
            ));
        }
    }
}
