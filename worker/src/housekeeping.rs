//! Removes what is old. One process does it for all; when it is due stands in SQL.

use std::sync::Arc;
use std::time::Duration;

use runner_core::retention::Retention;
use runner_store::{Removed, StoreError};

use crate::Shared;

/// The longest pause between two rounds, and the shortest.
const LONGEST: Duration = Duration::from_secs(3_600);
const SHORTEST: Duration = Duration::from_secs(10);
/// What is removed may be older than is said by this part of its age.
const SHARE: u32 = 4;
/// After SQL could not be read or written.
const PAUSE: Duration = Duration::from_secs(60);

/// Keeps house until the worker stops.
pub(crate) async fn keep(shared: Arc<Shared>, retention: Retention) {
    let work = async {
        let mut told = Vec::new();
        loop {
            let sleep = match round(&shared, &retention, &mut told).await {
                Ok(sleep) => sleep,
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tell(&mut told, vec![error.to_string()]);
                    PAUSE
                }
            };
            tokio::time::sleep(sleep).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = shared.abort.cancelled() => {}
    }
}

/// Between two rounds: so that what is to be kept for minutes is not kept for an hour.
fn pause(retention: &Retention) -> Duration {
    (retention.shortest() / SHARE).clamp(SHORTEST, LONGEST)
}

/// Does what is due. Answers how long nothing will be.
async fn round(
    shared: &Shared,
    retention: &Retention,
    told: &mut Vec<String>,
) -> Result<Duration, StoreError> {
    let store = &shared.tools.store;
    let pause = pause(retention);
    if let Some(removed) = store.keep_house(retention, pause, false).await? {
        let Removed {
            due,
            temporary,
            permalinks,
            errors,
        } = removed;
        if due.tasks + due.files + temporary + permalinks > 0 {
            tracing::info!(
                "{} old tasks, {} files of tasks ({} bytes), {temporary} files of no task and {permalinks} permalinks were \
                 removed",
                due.tasks,
                due.files,
                due.bytes
            );
        }
        tell(told, errors);
    }
    let known = store.housekeeping().await?;
    let now = store.database_now().await?;
    let next = known.next_at.map_or(0, |next| next.saturating_sub(now));
    let next = Duration::from_millis(next.max(0).cast_unsigned());
    Ok(next.clamp(Duration::from_secs(1), pause))
}

/// Says what went wrong, once for as long as it stays the same.
fn tell(told: &mut Vec<String>, errors: Vec<String>) {
    for error in errors.iter().filter(|error| !told.contains(error)) {
        tracing::error!("housekeeping: {error}");
    }
    *told = errors;
}
