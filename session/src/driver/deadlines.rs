//! When a session, or a client of it, has had its time.

use std::time::Duration;

use tokio::time::Instant;

use super::Driver;
use crate::config::Face;
use crate::session::{Execution, State};

/// How long a client may hold up a kernel.
const SLOW: Duration = Duration::from_secs(10);
/// The shortest time that an idle session lives: so long, files of its last cell can be fetched.
const LEAST_IDLE: Duration = Duration::from_secs(3);

impl Driver {
    /// When something may be due next.
    pub(super) fn deadline(&self) -> Instant {
        let config = &self.shared.config;
        let mut due = self.session.began + config.lifetime;
        if let Some(since) = self.held_up {
            due = due.min(since + SLOW);
        }
        if let Some(end) = self.end_of_cell() {
            due = due.min(end);
        }
        let state = self.session.lock();
        if !state.was_attached {
            return due.min(self.session.began + config.connect);
        }
        let is_busy = state.execution == Execution::Busy;
        if !is_busy {
            due = due.min(state.active + self.idle(&state));
        }
        if let Some(since) = state.alone_since {
            due = due.min(since + self.patience(is_busy));
        }
        due
    }

    /// Does what is due. Answers why the session is to end, if it is.
    pub(super) fn due(&mut self) -> Option<&'static str> {
        let now = Instant::now();
        if self.held_up.is_some_and(|since| now >= since + SLOW) {
            self.session.cut_slow();
            self.held_up = Some(now);
        }
        if self.end_of_cell().is_some_and(|end| now >= end) {
            self.end_cell();
        }
        let config = &self.shared.config;
        if now >= self.session.began + config.lifetime {
            return Some("it lived for as long as a session may (SESSION_LIFETIME)");
        }
        let state = self.session.lock();
        if !state.was_attached {
            let is_due = now >= self.session.began + config.connect;
            return is_due.then_some("no client connected to it (SESSION_CONNECT)");
        }
        let is_busy = state.execution == Execution::Busy;
        if !is_busy && now >= state.active + self.idle(&state) {
            return Some("nothing was said for a long time (SESSION_IDLE)");
        }
        let since = state.alone_since?;
        match is_busy {
            _ if now < since + self.patience(is_busy) => None,
            true => Some("its clients left long ago (SESSION_UNATTENDED)"),
            false => Some("its clients left (SESSION_LEFT)"),
        }
    }

    /// How long it lives without messages. A cell of Sage Cell may end its session; it is given the time to come, and its
    /// files that to be fetched.
    fn idle(&self, state: &State) -> Duration {
        let config = &self.shared.config;
        match (config.face, self.asked) {
            (Face::Jupyter, _) => state.idle,
            (Face::SageCell, 0) => state.idle.max(config.connect),
            (Face::SageCell, _) => state.idle.max(LEAST_IDLE),
        }
    }

    /// How long it lives without clients.
    fn patience(&self, is_busy: bool) -> Duration {
        let config = &self.shared.config;
        // Nobody has ever said anything.
        let is_empty = self.folder.is_none() && self.session.log.end() == 0;
        match is_busy {
            _ if is_empty => Duration::ZERO,
            true => config.unattended,
            false => config.left,
        }
    }
}
