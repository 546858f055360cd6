use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use runner_core::task::Priority;

use crate::Job;
use crate::job::Entry;

/// Longer names of submitters and groups are cut, and told apart by a hash.
const MAX_NAME: usize = 200;

/// The entry of a job that is offered, with a new id.
pub(super) fn encode_new(job: Job, priority: Priority, submitter: &str) -> String {
    static PROCESS: LazyLock<String> = LazyLock::new(|| {
        let id = uuid::Uuid::new_v4().simple().to_string();
        id[..12].to_owned()
    });
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let (process, digit) = (PROCESS.as_str(), digit(priority));
    let Job { task, run } = job;
    format!("{process}.{number:x} 0 {digit} {task} {run} {submitter}")
}

/// Reads the entry of a job that was taken.
pub(super) fn decode(text: &str) -> Option<Entry> {
    let mut parts = text.splitn(6, ' ');
    let _id = parts.next().filter(|id| !id.is_empty())?;
    let deliveries = parts.next()?.parse().ok()?;
    let priority = match parts.next()? {
        "0" => Priority::Called,
        "1" => Priority::High,
        "2" => Priority::Normal,
        "3" => Priority::Low,
        _ => return None,
    };
    let task = parts.next()?.parse().ok()?;
    let run = parts.next()?.parse().ok()?;
    Some(Entry {
        job: Job { task, run },
        deliveries,
        priority,
        submitter: Arc::from(parts.next()?),
        place: None,
    })
}

/// The entry with another number of deliveries.
pub(super) fn with_deliveries(text: &str, deliveries: u32) -> String {
    let mut parts = text.splitn(3, ' ');
    let (id, _, rest) = (
        parts.next().unwrap_or_default(),
        parts.next(),
        parts.next().unwrap_or_default(),
    );
    format!("{id} {deliveries} {rest}")
}

/// The priority as a key and an entry have it.
pub(super) fn digit(priority: Priority) -> char {
    match priority {
        Priority::Called => '0',
        Priority::High => '1',
        Priority::Normal => '2',
        Priority::Low => '3',
    }
}

/// A name as keys have it.
pub(super) fn bounded(name: &str) -> String {
    if name.len() <= MAX_NAME {
        return name.to_owned();
    }
    let mut short: String = name.chars().take(MAX_NAME / 4).collect();
    // Must be the same in all processes, so not a hasher with random keys.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let _ = write!(short, "~{hash:016x}");
    short
}

/// A random number, good enough to spread things.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(task: i64, run: i64, lane in 0..4_usize, submitter: String, deliveries: u32) {
            let (job, priority) = (Job { task, run }, Priority::ALL[lane]);
            let text = with_deliveries(&encode_new(job, priority, &submitter), deliveries);
            let submitter = Arc::from(submitter);
            prop_assert_eq!(decode(&text), Some(Entry { job, deliveries, priority, submitter, place: None }));
        }

        #[test]
        fn nothing_that_is_read_panics(text: String) {
            let _ = decode(&text);
            let _ = with_deliveries(&text, 3);
            prop_assert!(bounded(&text).len() <= MAX_NAME + 17);
        }
    }
}
