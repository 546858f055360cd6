//! When, how often and before whom a task is run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The most times that a task may be run again because its plugin failed.
pub const MAX_RETRIES: u32 = 100;
/// The pause before the first retry; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two runs of a task.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// Which of two jobs is taken first.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// When nothing else is to be done.
    Low,
    /// As most are.
    #[default]
    Normal,
    /// Before most others.
    High,
    /// Somebody who holds up others waits for it: tasks that were called by a run.
    Called,
}

impl Priority {
    /// All of them, what is taken first in front.
    pub const ALL: [Self; 4] = [Self::Called, Self::High, Self::Normal, Self::Low];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Called => "called",
        }
    }

    /// The priority of this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|priority| priority.as_str() == word)
    }
}

/// When, how often and before whom a task is run. `None` is what the plugin says, else the runner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dispatch {
    /// Which of two jobs is taken first.
    pub priority: Priority,
    /// Who asked for it. Those who ask at the same priority take turns.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub submitter: String,
    /// Not before this moment, in milliseconds since 1970 (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at: Option<i64>,
    /// How often it is run again when the plugin fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// How long one run may take, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// By what a request is known when it comes again, as it does when its answer was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// A digest of the key that the client chose, and of what it is for.
    pub key: String,
    /// A digest of what was asked: the same key with another request is a mistake of the client.
    pub fingerprint: String,
}

/// The pause before a task is run again after its plugin failed for the `failures`-th time: exponential
/// backoff, of which a random share between a half and all is taken, so that tasks that failed together
/// do not come back together. `random` is between 0 and 1.
pub fn retry_pause(failures: i64, random: f64) -> Duration {
    let doubled = u32::try_from(failures.clamp(1, 31) - 1).unwrap_or(0);
    let full = FIRST_PAUSE
        .saturating_mul(2_u32.saturating_pow(doubled))
        .min(LONGEST_PAUSE);
    full.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        assert_eq!(retry_pause(1, 1.0), Duration::from_secs(1));
        assert_eq!(retry_pause(1, 0.0), Duration::from_millis(500));
        assert_eq!(retry_pause(4, 1.0), Duration::from_secs(8));
        assert_eq!(retry_pause(60, 1.0), LONGEST_PAUSE);
        assert_eq!(retry_pause(i64::MAX, 7.0), LONGEST_PAUSE);
        assert_eq!(retry_pause(0, 1.0), FIRST_PAUSE);
    }

    #[test]
    fn words_of_priorities_are_their_names() {
        for priority in Priority::ALL {
            assert_eq!(Priority::parse(priority.as_str()), Some(priority));
            let json = serde_json::to_string(&priority).unwrap();
            assert_eq!(json, format!("\"{}\"", priority.as_str()));
        }
        assert!(Priority::ALL.is_sorted_by(|a, b| a > b));
    }
}
