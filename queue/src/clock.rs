use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Longer delays count as this: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What is left until a time in milliseconds since 1970 by this machine's clock; `None` when it has come.
pub(crate) fn time_left(not_before: i64) -> Option<Duration> {
    let not_before = Duration::from_millis(u64::try_from(not_before).ok()?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    not_before
        .checked_sub(now)
        .filter(|left| !left.is_zero())
        .map(|left| left.min(LONGEST))
}

/// The time after a while, by the clock that never jumps.
pub(crate) fn after(duration: Duration) -> Instant {
    Instant::now() + duration.min(LONGEST)
}
