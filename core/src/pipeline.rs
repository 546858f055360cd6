//! Pipelines as tasks: what is wanted of one that runs, from outside.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The plugin of a task whose pipeline came with the request. No identifier of a plugin is like it: those have an `@`.
pub const GIVEN: &str = "pipeline";
/// With this key alone a document says that pipelines come with their tasks.
pub const GIVEN_MARK: &str = "given";
/// Under this parameter such a task has its pipeline.
pub const DOCUMENT: &str = "pipeline";
/// Under this one, the parameters of the pipeline.
pub const PARAMETERS: &str = "parameters";

/// The longest that an edge is tapped without being asked for again, in milliseconds.
pub const TAP_LEASE_MS: i64 = 15_000;
/// Edges of one run that are tapped at a time.
pub const MAX_TAPS: usize = 16;

/// A change of what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// The run is held, or one node.
    Pause(Option<String>),
    /// The run goes on, or one node.
    Resume(Option<String>),
    /// Sources end, and what is on its way goes on to the end.
    Drain,
    /// What passes on an edge is shown until this moment, in milliseconds since 1970.
    Tap {
        /// The edge, `FROM->TO`.
        edge: String,
        /// Until when.
        until: i64,
    },
}

/// What is wanted of a pipeline. It stands in SQL, so that it is not lost with a message; whoever runs the pipeline follows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wanted {
    /// Counts changes.
    pub version: u64,
    /// Whether all of it is to be held.
    pub is_paused: bool,
    /// Nodes that are to be held.
    pub paused_nodes: BTreeSet<String>,
    /// The run whose sources are to end; a later run of the task is another one.
    pub drained_run: Option<i64>,
    /// Edges that are to be tapped, and until when.
    pub taps: BTreeMap<String, i64>,
}

/// So many edges are tapped already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_TAPS} edges of this pipeline are tapped already, which is the limit")]
pub struct TooManyTaps;

impl Wanted {
    /// Applies a change to what is wanted of the run `run`, at the moment `now` (milliseconds since 1970).
    ///
    /// # Errors
    /// It is beyond a limit.
    pub fn apply(&mut self, want: &Want, run: i64, now: i64) -> Result<(), TooManyTaps> {
        self.taps.retain(|_, until| *until > now);
        match want {
            Want::Pause(None) => self.is_paused = true,
            Want::Pause(Some(node)) => drop(self.paused_nodes.insert(node.clone())),
            Want::Resume(None) => self.is_paused = false,
            Want::Resume(Some(node)) => drop(self.paused_nodes.remove(node)),
            Want::Drain => self.drained_run = Some(run),
            Want::Tap { edge, until } => {
                if self.taps.len() >= MAX_TAPS && !self.taps.contains_key(edge) {
                    return Err(TooManyTaps);
                }
                self.taps.insert(edge.clone(), *until);
            }
        }
        self.version += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_add_up_and_are_counted() {
        let mut wanted = Wanted::default();
        let changes = [
            Want::Pause(None),
            Want::Pause(Some("a".to_owned())),
            Want::Resume(None),
            Want::Drain,
        ];
        for want in &changes {
            wanted.apply(want, 3, 0).unwrap();
        }
        assert_eq!(wanted.version, 4);
        assert!(!wanted.is_paused && wanted.paused_nodes.contains("a"));
        assert_eq!(wanted.drained_run, Some(3));
        let text = serde_json::to_string(&wanted).unwrap();
        assert_eq!(serde_json::from_str::<Wanted>(&text).unwrap(), wanted);
        assert_eq!(
            serde_json::from_str::<Wanted>("{}").unwrap(),
            Wanted::default()
        );
    }

    #[test]
    fn taps_end_by_themselves_and_are_limited() {
        let mut wanted = Wanted::default();
        let tap = |edge: usize| Want::Tap {
            edge: format!("{edge}->z"),
            until: 100,
        };
        for edge in 0..MAX_TAPS {
            wanted.apply(&tap(edge), 1, 50).unwrap();
        }
        assert_eq!(wanted.apply(&tap(0), 1, 50), Ok(()), "once more");
        assert_eq!(wanted.apply(&tap(99), 1, 50), Err(TooManyTaps));
        assert_eq!(wanted.apply(&tap(99), 1, 100), Ok(()));
        assert_eq!(wanted.taps.len(), 1);
    }
}
