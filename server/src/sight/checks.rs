//! Whether everything can be used that a process needs. Each check is really done, but not more often than once in a
//! second however many ask, and one that hangs is not begun again: whoever asks is told after a moment.
//!
//! What is told names no address, account or path, since anybody may ask; the log does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runner_store::StoreError;
use tokio::sync::Notify;

use super::SightParts;

/// How long an answer counts.
const FRESH: Duration = Duration::from_secs(1);
/// How long who asks waits for an answer.
const PATIENCE: Duration = Duration::from_millis(700);

/// All checks.
#[derive(Default)]
pub(super) struct Checks {
    sql: Arc<Check>,
    broker: Arc<Check>,
    files: Arc<Check>,
}

/// What is wrong.
struct Problem {
    /// For whoever asks.
    told: String,
    /// For the log.
    cause: String,
}

/// One check, and what it found last.
#[derive(Default)]
struct Check {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    /// When the one that is being done was begun.
    begun: Option<Instant>,
    /// When the last one ended, and what was wrong.
    last: Option<(Instant, Option<String>)>,
    /// What the log has.
    said: Option<String>,
}

impl Checks {
    /// What is wrong with each; nothing where all is well.
    pub(super) async fn look(&self, parts: &SightParts) -> Vec<(&'static str, Option<String>)> {
        let (store, queue) = (parts.store.clone(), parts.queue.clone());
        let (files, floor) = (parts.store.clone(), parts.disk_floor);
        let sql = self.sql.ask("sql", async move {
            let written = store.check_sql().await;
            written.map_err(|error| of_store(&error, "the database cannot be written"))
        });
        let broker = self.broker.ask("broker", async move {
            queue.check().await.map_err(|error| Problem {
                told: "Redis does not answer as it should".to_owned(),
                cause: error.to_string(),
            })?;
            queue.apart().map_or(Ok(()), |cause| {
                let told = "the other processes of the queue are at another Redis".to_owned();
                Err(Problem { told, cause })
            })
        });
        let files = self.files.ask("files", async move {
            let looked = tokio::task::spawn_blocking(move || look_at_files(&files, floor));
            looked.await.unwrap_or_else(|error| {
                Err(Problem {
                    told: "the file store cannot be looked at".to_owned(),
                    cause: error.to_string(),
                })
            })
        });
        let (sql, broker, files) = tokio::join!(sql, broker, files);
        let modules =
            (!parts.modules.is_ready()).then(|| "the plugins are still being loaded".to_owned());
        vec![
            ("sql", sql),
            ("broker", broker),
            ("files", files),
            ("modules", modules),
        ]
    }
}

fn look_at_files(store: &runner_store::Store, floor: u64) -> Result<(), Problem> {
    let unusable = |error: StoreError| of_store(&error, "the file store cannot be written");
    store.probe_files().map_err(unusable)?;
    let free = store.files().free_bytes().map_err(unusable)?;
    if free < floor {
        // The log has it once, and not again with each byte.
        return Err(Problem {
            told: format!(
                "{free} bytes are free, and DISK_FLOOR asks for {floor}: tasks are refused"
            ),
            cause: format!("fewer than {floor} bytes (DISK_FLOOR) are free: tasks are refused"),
        });
    }
    Ok(())
}

fn of_store(error: &StoreError, otherwise: &str) -> Problem {
    let told = match error {
        StoreError::DiskFull { .. } => "the disk is full",
        StoreError::Away { .. } => "the database is away",
        StoreError::FilesChanged(_) => {
            "the folder of the file store is another one than at the start"
        }
        StoreError::Closed => "the runner ends",
        error if error.is_read_only() => "the disk is read-only",
        _ => otherwise,
    };
    Problem {
        told: told.to_owned(),
        cause: error.with_causes(),
    }
}

impl Check {
    /// What the check found in the last moment; else it is done, unless that is going on already.
    async fn ask(
        self: &Arc<Self>,
        name: &'static str,
        check: impl Future<Output = Result<(), Problem>> + Send + 'static,
    ) -> Option<String> {
        let mut ended = std::pin::pin!(self.ended.notified());
        ended.as_mut().enable();
        {
            let mut state = self.state();
            match &state.last {
                Some((at, problem)) if at.elapsed() < FRESH => return problem.clone(),
                _ => {}
            }
            if state.begun.is_none() {
                state.begun = Some(Instant::now());
                tokio::spawn(Arc::clone(self).perform(name, check));
            }
        }
        match tokio::time::timeout(PATIENCE, ended).await {
            Ok(()) => self
                .state()
                .last
                .as_ref()
                .and_then(|(_, problem)| problem.clone()),
            Err(_elapsed) => {
                let mut state = self.state();
                let seconds = state
                    .begun
                    .map_or(PATIENCE, |begun| begun.elapsed())
                    .as_secs_f64();
                state.say(name, Some("it does not answer".to_owned()));
                Some(format!("no answer for {seconds:.1} s"))
            }
        }
    }

    async fn perform(
        self: Arc<Self>,
        name: &'static str,
        check: impl Future<Output = Result<(), Problem>>,
    ) {
        // Whatever becomes of it, the next one can be begun.
        let _end = End(&self);
        let problem = check.await.err();
        let mut state = self.state();
        state.say(name, problem.as_ref().map(|problem| problem.cause.clone()));
        state.begun = None;
        state.last = Some((Instant::now(), problem.map(|problem| problem.told)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Says what is new.
    fn say(&mut self, name: &str, cause: Option<String>) {
        if self.said == cause {
            return;
        }
        match &cause {
            Some(cause) => tracing::error!(check = name, "not ready: {cause}"),
            None => tracing::info!(check = name, "ready again"),
        }
        self.said = cause;
    }
}

/// Lets those go on who wait for a check.
struct End<'a>(&'a Check);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        // It came to no result.
        if state.begun.take().is_some() {
            let problem = "the check failed with an error of the runner".to_owned();
            state.last = Some((Instant::now(), Some(problem)));
        }
        drop(state);
        self.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_that_hangs_is_told_in_time_and_begun_once() {
        let check = Arc::new(Check::default());
        let begun = Arc::new(AtomicUsize::new(0));
        let hanging = || {
            let begun = Arc::clone(&begun);
            async move {
                begun.fetch_add(1, Ordering::Relaxed);
                std::future::pending().await
            }
        };
        for _ in 0..3 {
            let at = Instant::now();
            let problem = check.ask("sql", hanging()).await.unwrap();
            assert!(problem.contains("no answer"), "{problem}");
            assert!(at.elapsed() < Duration::from_secs(1));
        }
        assert_eq!(begun.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn many_who_ask_at_once_share_one_check() {
        let check = Arc::new(Check::default());
        let done = Arc::new(AtomicUsize::new(0));
        let asked = (0..20).map(|_| {
            let done = Arc::clone(&done);
            check.ask("sql", async move {
                done.fetch_add(1, Ordering::Relaxed);
                Err(Problem {
                    told: "bad".to_owned(),
                    cause: "secret".to_owned(),
                })
            })
        });
        let found = futures::future::join_all(asked).await;
        assert!(
            found
                .iter()
                .all(|problem| problem.as_deref() == Some("bad"))
        );
        assert_eq!(done.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn one_that_panics_does_not_stop_the_next() {
        let check = Arc::new(Check::default());
        let panics = async { panic!("on purpose") };
        let problem = check.ask("sql", panics).await.unwrap();
        assert!(problem.contains("error of the runner"), "{problem}");
        check.state().last = None;
        assert_eq!(check.ask("sql", async { Ok(()) }).await, None);
    }
}
