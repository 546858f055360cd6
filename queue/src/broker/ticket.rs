use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::outbox::{End, Settle};
use super::{Broker, entry};

/// The right to settle a job, once.
pub(crate) struct Ticket {
    broker: Arc<Broker>,
    /// As it stands in `taken`.
    entry: Arc<str>,
    deliveries: u32,
}

impl Ticket {
    pub(super) fn new(broker: Arc<Broker>, entry: Arc<str>, deliveries: u32) -> Self {
        Self {
            broker,
            entry,
            deliveries,
        }
    }

    pub(crate) fn done(self) {
        self.settle(End::Done);
    }

    pub(crate) fn hand_back(self) {
        self.settle(End::Back(self.uncounted()));
    }

    pub(crate) fn hand_back_later(self, after: Duration) {
        let due = crate::clock::after(after);
        self.settle(End::Later(due, self.uncounted()));
    }

    /// Neither done nor handed back: as if the worker had died.
    pub(crate) fn dropped(self) {
        self.forget();
        self.settle(End::Dropped);
    }

    /// A place in a group, or the job is parked.
    pub(crate) async fn enter(&self, group: &str, max: u32) -> bool {
        let shared = &self.broker.shared;
        let (group, parked) = (entry::bounded(group), self.uncounted());
        let call = shared.scripts.enter(&self.entry, &group, max, &parked);
        let answer = shared.link.script_until::<i64>(&call, &shared.gone).await;
        let has_entered = answer == Some(1);
        if !has_entered {
            self.forget();
        }
        has_entered
    }

    fn settle(&self, end: End) {
        self.broker.shared.settles.push_all([Settle {
            entry: Arc::clone(&self.entry),
            end,
        }]);
    }

    /// The lease is not prolonged any more.
    fn forget(&self) {
        self.broker.shared.held.remove_all([&self.entry]);
    }

    /// The entry as if there had not been this delivery.
    fn uncounted(&self) -> String {
        entry::with_deliveries(&self.entry, self.deliveries.saturating_sub(1))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.entry).finish()
    }
}
