//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// The longest pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until there is something, with growing pauses; `None` after the deadline.
pub fn poll<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE);
    }
}

/// Looks until there is something.
///
/// # Panics
/// If there is nothing before the deadline.
pub fn eventually<T>(what: &str, deadline: Duration, look: impl FnMut() -> Option<T>) -> T {
    poll(deadline, look).unwrap_or_else(|| panic!("waited {deadline:?} in vain for {what}"))
}
