//! Hosts of a module that end by themselves: the next one waits a little, and after several in a row the module
//! has failed for a while. A host that works makes up for all of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::HostError;

/// Pause after the first crash; each one after that doubles it.
const PAUSE: Duration = Duration::from_millis(100);
/// So many in a row, and the module has failed.
const MOST: u32 = 5;
/// How long no host is started then; each further crash doubles it.
const REST: Duration = Duration::from_secs(30);
/// The longest time without a host.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// What a pool knows of its crashes.
#[derive(Debug, Default)]
pub(crate) struct Crashes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    in_a_row: u32,
    until: Option<Instant>,
    why: String,
}

impl Crashes {
    /// A host ended that should not have.
    pub(crate) fn count(&self, module: &str, why: &str) {
        let mut state = self.state();
        state.in_a_row += 1;
        why.clone_into(&mut state.why);
        let pause = pause(state.in_a_row);
        state.until = Some(Instant::now() + pause);
        if state.in_a_row >= MOST {
            tracing::error!(
                module,
                "the module has failed, {} processes in a row; the next one is started in {pause:?}: {why}",
                state.in_a_row
            );
        }
    }

    /// A host did what it should.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        if state.in_a_row > 0 {
            *state = State::default();
        }
    }

    /// Why the module has failed, if it has.
    pub(crate) fn failure(&self) -> Option<String> {
        let state = self.state();
        (state.in_a_row >= MOST).then(|| {
            let left = state.until.map_or(Duration::ZERO, |until| {
                until.saturating_duration_since(Instant::now())
            });
            format!(
                "{} of its processes ended in a row; the next one is started in {} s. The last one: {}",
                state.in_a_row,
                left.as_secs(),
                state.why
            )
        })
    }

    /// Waits until another host may be started.
    ///
    /// # Errors
    /// The module has failed, and it is too early to try it again.
    pub(crate) async fn rest(&self, module: &str) -> Result<(), HostError> {
        let until = self.state().until.filter(|until| *until > Instant::now());
        let Some(until) = until else { return Ok(()) };
        if let Some(why) = self.failure() {
            return Err(HostError::Module(format!(
                "the module {module} has failed: {why}"
            )));
        }
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long no host is started after so many crashes in a row.
fn pause(crashes: u32) -> Duration {
    let doubled = |first: Duration, times: u32| first.saturating_mul(1 << times.min(16));
    match crashes {
        0 => Duration::ZERO,
        few @ ..MOST => doubled(PAUSE, few - 1),
        many => doubled(REST, many - MOST).min(LONGEST_REST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_end() {
        let pauses = (0..8).map(|crashes| pause(crashes).as_millis());
        let expected = [0, 100, 200, 400, 800, 30_000, 60_000, 120_000];
        assert_eq!(pauses.collect::<Vec<_>>(), expected);
        assert_eq!(pause(u32::MAX), LONGEST_REST);
    }

    #[tokio::test]
    async fn after_some_crashes_it_has_failed_and_one_success_makes_up_for_all() {
        let crashes = Crashes::default();
        crashes.rest("m").await.unwrap();
        crashes.count("m", "signal 11");
        let begin = Instant::now();
        crashes.rest("m").await.unwrap();
        assert!(begin.elapsed() >= PAUSE / 2);
        for _ in 1..MOST {
            assert_eq!(crashes.failure(), None);
            crashes.count("m", "signal 11");
        }
        assert!(crashes.failure().is_some());
        let error = crashes.rest("m").await.unwrap_err().to_string();
        assert!(
            error.contains("has failed") && error.contains("signal 11"),
            "{error}"
        );
        crashes.forget();
        assert_eq!(crashes.failure(), None);
        crashes.rest("m").await.unwrap();
    }
}
