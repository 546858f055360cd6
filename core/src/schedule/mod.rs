//! Work that comes again: when it is due, and what is done with what is late or still running.
//!
//! [`Timing`] says when a schedule is due, [`plan`] what is to be done about one that is, [`settle`] what that means
//! beside a task of it that has not ended. Moments are milliseconds since 1970 (UTC), by the clock of the database.

mod timing;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::age;
use crate::plugin::{Plugin, ScheduleDescription};
use crate::task::{Dispatch, NewTask};

pub use timing::{BadRule, Kind, Rule, Timing};

/// The most schedules of an installation.
pub const MAX_SCHEDULES: u32 = 1_000;
/// The most firings that were missed and are made up for at once; and the most that may wait for their turn.
pub const MAX_FIRINGS: u32 = 100;
/// The longest name, in characters: with a word before it, it is a label of the tasks.
pub const MAX_NAME: usize = 80;
/// What is fired later than this counts as missed, in milliseconds.
pub const GRACE_MS: i64 = 60_000;
/// Before the name of a schedule: the label of its tasks.
pub const LABEL: &str = "schedule:";

/// What is done with a firing while a task of an earlier one has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// It is left out.
    #[default]
    Skip,
    /// It waits for the end of the task.
    Queue,
    /// The task is cancelled.
    Cancel,
    /// It makes a task beside the other.
    Allow,
}

impl Overlap {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Skip, Self::Queue, Self::Cancel, Self::Allow];

    /// The word in SQL and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Queue => "queue",
            Self::Cancel => "cancel",
            Self::Allow => "allow",
        }
    }

    /// The policy of this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }
}

/// What is done with firings that nobody was there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// They are left out.
    Skip,
    /// One makes up for all of them.
    #[default]
    Once,
    /// Each is made up for, at most [`MAX_FIRINGS`].
    All,
}

impl Missed {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Skip, Self::Once, Self::All];

    /// The word in SQL and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Once => "once",
            Self::All => "all",
        }
    }

    /// The policy of this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }
}

/// What a schedule is to do, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSchedule {
    /// Unique in an installation.
    pub name: String,
    /// Identifier of the plugin.
    pub plugin: String,
    /// Its parameters, checked.
    pub parameters: Map<String, Value>,
    /// When it is due.
    pub rule: Rule,
    /// What is done while a task of it has not ended.
    pub overlap: Overlap,
    /// What is done with firings that were missed.
    pub missed: Missed,
    /// Whether it is fired at all.
    pub enabled: bool,
    /// Priority, retries and time limit of its tasks.
    pub dispatch: Dispatch,
    /// Labels of its tasks, beside that with its name.
    pub labels: Vec<String>,
    /// Base URL of the request that made it.
    pub base_url: String,
}

/// Who asks for the tasks of schedules, which take turns with those of clients.
const SUBMITTER: &str = "schedule";

impl NewSchedule {
    /// When, how often and before whom its tasks are run.
    pub fn dispatch(&self) -> Dispatch {
        Dispatch {
            submitter: SUBMITTER.to_owned(),
            run_at: None,
            ..self.dispatch.clone()
        }
    }

    /// The task that a firing makes. `digest`: of the module of the plugin; `base_url` is for a schedule that no
    /// request made.
    ///
    /// # Errors
    /// The parameters are not those of the plugin any more.
    pub fn task(&self, plugin: &Plugin, digest: String, base_url: &str) -> Result<NewTask, String> {
        let parameters = plugin.check_parameters(self.parameters.clone())?;
        let label = format!("{LABEL}{}", self.name);
        Ok(NewTask {
            plugin: plugin.identifier.clone(),
            digest,
            parameters,
            uploads: Vec::new(),
            labels: [label].into_iter().chain(self.labels.clone()).collect(),
            base_url: match self.base_url.as_str() {
                "" => base_url.to_owned(),
                url => url.to_owned(),
            },
            caller: None,
            dispatch: self.dispatch(),
            idempotency: None,
        })
    }
}

/// A schedule as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Its number.
    pub id: i64,
    /// What it is to do.
    pub what: NewSchedule,
    /// The module that declared it. Such a one can be disabled, and nothing else.
    pub owner: Option<String>,
    /// When it is due next.
    pub due_at: Option<i64>,
    /// When it is fired next: then, and up to the jitter later.
    pub next_at: Option<i64>,
    /// Firings that wait for the end of its task.
    pub pending: u32,
    /// When it was fired last.
    pub last_at: Option<i64>,
    /// The task that it made last.
    pub last_task: Option<i64>,
    /// What went wrong or was left out at the last firing.
    pub last_error: Option<String>,
    /// Counts its changes.
    pub version: i64,
    /// When it was made.
    pub created_at: i64,
}

/// A schedule that a plugin declares, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredSchedule {
    /// Tells it from others of the plugin.
    pub name: String,
    /// When it is due; intervals have no anchor yet.
    pub rule: Rule,
    /// What is done while a task of it has not ended.
    pub overlap: Overlap,
    /// What is done with firings that were missed.
    pub missed: Missed,
    /// Values of the parameters, as they were given.
    pub parameters: Map<String, Value>,
}

impl DeclaredSchedule {
    pub(crate) fn new(name: String, description: ScheduleDescription) -> Result<Self, String> {
        let (kind, expression) = match (&*description.cron, &*description.every) {
            (line, "") if !line.is_empty() => (Kind::Cron, description.cron),
            ("", span) if !span.is_empty() => (Kind::Interval, description.every),
            _ => return Err("expected either cron or every".to_owned()),
        };
        let jitter = match &*description.jitter {
            "" => 0,
            text => i64::try_from(age::parse(text)?.as_millis()).unwrap_or(i64::MAX),
        };
        let rule = Rule {
            kind,
            expression,
            time_zone: match description.time_zone {
                zone if zone.is_empty() => "UTC".to_owned(),
                zone => zone,
            },
            jitter_ms: jitter,
            anchor: 0,
        };
        Timing::new(&rule).map_err(|error| error.to_string())?;
        check_policies(description.overlap, description.missed)?;
        Ok(Self {
            name,
            rule,
            overlap: description.overlap,
            missed: description.missed,
            parameters: description.parameters,
        })
    }
}

/// Checks a name: 1 to 80 characters, no control characters.
///
/// # Errors
/// Says what was expected.
pub fn check_name(name: &str) -> Result<(), String> {
    let length = name.chars().count();
    let is_plain = name.trim() == name && !name.chars().any(char::is_control);
    match length {
        1..=MAX_NAME if is_plain => Ok(()),
        _ => Err(format!(
            "Not a valid name: expected 1 to {MAX_NAME} characters, no spaces around them."
        )),
    }
}

/// Checks what goes together: to make up for all, they have to be allowed beside or after one another.
///
/// # Errors
/// Says what was expected.
pub fn check_policies(overlap: Overlap, missed: Missed) -> Result<(), String> {
    match (overlap, missed) {
        (Overlap::Skip | Overlap::Cancel, Missed::All) => Err(format!(
            "all goes with an overlap of queue or allow: with {} only one of them would come to its end.",
            overlap.as_str()
        )),
        _ => Ok(()),
    }
}

/// What is to be done about a schedule that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How often it is fired now.
    pub firings: u32,
    /// When it is due next; None: never again.
    pub due_at: Option<i64>,
    /// When it is fired next.
    pub next_at: Option<i64>,
    /// What was left out, in words.
    pub note: Option<String>,
}

/// Decides about a schedule that was due at `due`, at the moment `now`.
pub fn plan(timing: &Timing, missed: Missed, due: i64, now: i64, seed: i64) -> Plan {
    let due_at = timing.next_after(now.max(due));
    let mut passed = u32::from(due <= now);
    let mut at = due;
    while passed <= MAX_FIRINGS
        && let Some(next) = timing.next_after(at).filter(|next| *next <= now)
    {
        passed += 1;
        at = next;
    }
    let recent = now.saturating_sub(GRACE_MS + timing.jitter_ms());
    let is_late = due < recent;
    let is_one_in_time = timing.next_after(recent).is_some_and(|next| next <= now);
    let firings = match missed {
        _ if passed == 0 => 0,
        Missed::All => passed.min(MAX_FIRINGS),
        Missed::Skip if is_late && !is_one_in_time => 0,
        Missed::Skip | Missed::Once => 1,
    };
    let left_out = passed - firings;
    let count = match passed > MAX_FIRINGS {
        true => format!("more than {}", left_out.saturating_sub(1).max(1)),
        false => left_out.to_string(),
    };
    let note = (is_late && left_out > 0).then(|| match missed {
        Missed::All => format!(
            "{count} firings that were missed are left out: at most {MAX_FIRINGS} are made up for"
        ),
        _ => format!("{count} firings that were missed are left out"),
    });
    Plan {
        firings,
        due_at,
        next_at: due_at.map(|due| timing.fire_at(due, seed)),
        note,
    }
}

/// What firings mean beside a task that may not have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// Tasks that are made now.
    pub start: u32,
    /// Whether the task that has not ended is cancelled first.
    pub cancels: bool,
    /// Firings that wait.
    pub pending: u32,
    /// Firings that are left out, because a task has not ended or too many wait.
    pub left_out: u32,
}

/// Decides about `firings` beside `pending` that wait; `is_live`: the last task has not ended.
pub fn settle(overlap: Overlap, is_live: bool, pending: u32, firings: u32) -> Settled {
    let all = pending.saturating_add(firings);
    match overlap {
        Overlap::Allow => Settled {
            start: all,
            ..Settled::default()
        },
        Overlap::Skip if is_live => Settled {
            left_out: all,
            ..Settled::default()
        },
        Overlap::Skip | Overlap::Cancel => Settled {
            start: all.min(1),
            cancels: is_live && all > 0,
            left_out: all.saturating_sub(1),
            pending: 0,
        },
        Overlap::Queue => {
            let start = if is_live { 0 } else { all.min(1) };
            let waiting = all - start;
            Settled {
                start,
                cancels: false,
                pending: waiting.min(MAX_FIRINGS),
                left_out: waiting.saturating_sub(MAX_FIRINGS),
            }
        }
    }
}

#[cfg(test)]
mod tests;
