//! The end of a load: what is in progress goes on to its end, for as long as it may.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Modules;
use super::module::Module;
use crate::pool::Pool;

/// Between two looks at the tasks that are queued for plugins that leave.
const LOOK: Duration = Duration::from_millis(250);
/// How long the system may take to end processes that were killed.
const DEATH: Duration = Duration::from_secs(5);

impl Modules {
    /// Ends a load that is FINALIZING: when its runs have ended, those of tasks too that were queued for plugins
    /// which nobody else offers, or at the deadline. Answers how many processes were killed.
    pub(super) async fn drain(&self, module: &Arc<Module>, limit: Duration, reason: &str) -> usize {
        let deadline = Instant::now() + limit;
        let mut killed = 0;
        if let Some(pool) = module.pool() {
            let left = self.table().left_by(module);
            // Also when nothing is queued: who was just accepted may not be in SQL yet.
            let work = async {
                while !left.is_empty() {
                    tokio::time::sleep(LOOK).await;
                    if self.backlog.queued(&left).await.iter().sum::<u64>() == 0 {
                        break;
                    }
                }
            };
            let _ = tokio::time::timeout_at(deadline, work).await;
            pool.finalize();
            killed = end(&pool, deadline).await;
        }
        self.replace(|table| {
            table.take_away(module, true);
            table
                .replaced
                .retain(|replaced| !Arc::ptr_eq(replaced, module));
        });
        let name = module.name();
        match killed {
            0 => tracing::info!(module = name, "the module has ended: {reason}"),
            _ => tracing::warn!(
                module = name,
                "the module has ended: {reason}; {killed} processes were killed after {} s",
                limit.as_secs_f64()
            ),
        }
        module.exit(reason);
        killed
    }
}

/// Waits for the end of what is in progress, and makes one at the deadline.
async fn end(pool: &Pool, deadline: Instant) -> usize {
    if tokio::time::timeout_at(deadline, pool.drained())
        .await
        .is_ok()
    {
        return 0;
    }
    let killed = pool.kill();
    // Who still works with a process that is gone must not hold up who ends the module.
    let _ = tokio::time::timeout(DEATH, pool.drained()).await;
    killed
}
