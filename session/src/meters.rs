//! What is counted of sessions and kernels.

use metrics::{Counter, Gauge, Unit};

use crate::config::Face;

/// What is counted.
#[derive(Debug)]
pub(crate) struct Meters {
    pub(crate) said: Counter,
    /// Sessions that live.
    pub(crate) living: Gauge,
    pub(crate) warm: Counter,
    pub(crate) forked: Counter,
    pub(crate) failed: Counter,
}

impl Meters {
    pub(crate) fn new(face: Face) -> Self {
        use metrics::{counter, describe_counter, describe_gauge, gauge};
        describe_gauge!("runner_sessions", "Sessions that live.");
        describe_counter!(
            "runner_kernel_starts_total",
            "Kernels that were had from those that waited (warm), forked for a session, or failed."
        );
        describe_counter!(
            "runner_kernel_ends_total",
            "Kernels that died, were restarted, or ended with their session."
        );
        describe_counter!(
            "runner_session_messages_total",
            Unit::Count,
            "Messages of clients and of kernels."
        );
        let living = gauge!("runner_sessions", "face" => face.as_str());
        living.set(0.0);
        for how in ["died", "restarted", "ended"] {
            counter!("runner_kernel_ends_total", "how" => how).increment(0);
        }
        counter!("runner_session_messages_total", "from" => "client").increment(0);
        let started = |how: &'static str| {
            let counter = counter!("runner_kernel_starts_total", "how" => how);
            counter.increment(0);
            counter
        };
        Self {
            said: counter!("runner_session_messages_total", "from" => "kernel"),
            living,
            warm: started("warm"),
            forked: started("forked"),
            failed: started("failed"),
        }
    }

    pub(crate) fn ended(&self, how: &'static str) {
        metrics::counter!("runner_kernel_ends_total", "how" => how).increment(1);
    }
}
