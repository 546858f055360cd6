//! When a schedule is due: a cron line in a time zone, or an interval.
//!
//! A cron line whose seconds, minutes and hours have no `*` names times of day. Each of them comes once a day, also
//! on the day when clocks change: one that the clock leaves out is due at the moment of the change, one that the clock
//! shows twice is due the first time. Any other line follows the clock: `*/5 * * * *` is due every five minutes, also
//! in the hour that is shown twice.
//!
//! The rules of time zones are those that are compiled in, so that all processes of an installation have the same.

use std::fmt;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::age;

/// The longest interval, and the longest jitter.
const MAX_INTERVAL: Duration = Duration::from_secs(366 * 24 * 3_600);
const MAX_JITTER: Duration = Duration::from_secs(24 * 3_600);
/// Bytes of a cron line.
const MAX_LINE: usize = 200;

/// What kind of rule it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A cron line.
    Cron,
    /// Once in each span of time.
    Interval,
}

impl Kind {
    /// The word in SQL and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cron => "cron",
            Self::Interval => "interval",
        }
    }

    /// The kind of this word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Cron, Self::Interval]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// A rule as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What kind of rule it is.
    pub kind: Kind,
    /// A cron line of five fields, or of six with seconds; or a span such as `15m`.
    pub expression: String,
    /// The IANA name of the time zone of a cron line, such as `Europe/Berlin`.
    pub time_zone: String,
    /// Up to so many milliseconds it is fired later, each time others.
    pub jitter_ms: i64,
    /// Where intervals begin, in milliseconds since 1970 (UTC).
    pub anchor: i64,
}

/// Why a rule cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    /// The cron line or the span.
    #[error("{0}")]
    Expression(String),
    /// The time zone.
    #[error(
        "{0:?} is no time zone that is known here; expected an IANA name such as Europe/Berlin"
    )]
    TimeZone(String),
    /// The jitter.
    #[error("{0}")]
    Jitter(String),
}

/// A rule that was read.
pub struct Timing {
    when: When,
    zone: TimeZone,
    jitter_ms: i64,
}

enum When {
    Cron {
        cron: Box<Cron>,
        /// Whether it names times of day.
        is_named: bool,
    },
    Interval {
        length_ms: i64,
        anchor: i64,
    },
}

impl fmt::Debug for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, text) = match &self.when {
            When::Cron { cron, .. } => ("cron", cron.as_str().to_owned()),
            When::Interval { length_ms, .. } => ("interval", length_ms.to_string()),
        };
        write!(f, "Timing({kind} {text} {:?})", self.zone)
    }
}

impl Timing {
    /// Reads a rule.
    ///
    /// # Errors
    /// What is wrong with which part; one that is never due is refused, too.
    pub fn new(rule: &Rule) -> Result<Self, BadRule> {
        let when = match rule.kind {
            Kind::Cron => cron(&rule.expression)?,
            Kind::Interval => interval(rule)?,
        };
        let timing = Self {
            when,
            zone: zone(&rule.time_zone)?,
            jitter_ms: jitter(rule)?,
        };
        if timing.next_after(rule.anchor).is_none() {
            return Err(BadRule::Expression(format!(
                "{:?} is never due: there is no such day",
                rule.expression
            )));
        }
        Ok(timing)
    }

    /// The first time after this one at which it is due, in milliseconds since 1970. None: there is no other.
    pub fn next_after(&self, after: i64) -> Option<i64> {
        match &self.when {
            When::Interval { length_ms, anchor } => {
                let passed = after.checked_sub(*anchor)?;
                let count = passed.div_euclid(*length_ms).checked_add(1)?;
                anchor.checked_add(count.max(1).checked_mul(*length_ms)?)
            }
            When::Cron { cron, is_named } => {
                let after = Timestamp::from_millisecond(after).ok()?;
                let next = self.next_of_cron(cron, *is_named, after)?;
                // A line counts in seconds: a fraction of one would be due a second time.
                Some(next.as_second().checked_mul(1_000)?)
            }
        }
    }

    /// When it is to be fired that was due at `due`: later by a share of the jitter that nobody has to remember.
    pub fn fire_at(&self, due: i64, seed: i64) -> i64 {
        if self.jitter_ms == 0 {
            return due;
        }
        let share = mix(seed.cast_unsigned() ^ mix(due.cast_unsigned()));
        let late = share % (self.jitter_ms.cast_unsigned() + 1);
        due.saturating_add(late.cast_signed())
    }

    /// The most by which it is fired later, in milliseconds.
    pub fn jitter_ms(&self) -> i64 {
        self.jitter_ms
    }

    /// A moment as a clock in its time zone shows it.
    pub fn shown(&self, moment: i64) -> Option<String> {
        let moment = Timestamp::from_millisecond(moment).ok()?;
        let zoned = moment.to_zoned(self.zone.clone());
        Some(zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
    }

    /// The rule in words, such as "At 03:00." for a cron line.
    pub fn words(&self) -> String {
        match &self.when {
            When::Cron { cron, .. } => cron.describe(),
            When::Interval { length_ms, .. } => {
                let length = Duration::from_millis(length_ms.cast_unsigned());
                format!("Every {}.", age::show(length))
            }
        }
    }

    /// Goes from one change of the clock to the next; in between, the clock runs like any other.
    fn next_of_cron(&self, cron: &Cron, is_named: bool, after: Timestamp) -> Option<Timestamp> {
        let mut begin = after;
        let mut offset = self.zone.to_offset(after);
        let mut from = offset.to_datetime(after);
        let mut is_inclusive = false;
        if is_named && let Some(seen) = self.seen_before(after).filter(|seen| *seen > from) {
            (from, is_inclusive) = (seen, true);
        }
        loop {
            let wall = next_on_wall(cron, from, is_inclusive)?;
            let moment = offset.to_timestamp(wall).ok()?;
            let Some(change) = self.zone.following(begin).next() else {
                return Some(moment);
            };
            if moment < change.timestamp() {
                return Some(moment);
            }
            begin = change.timestamp();
            let ended = offset.to_datetime(begin);
            offset = change.offset();
            from = offset.to_datetime(begin);
            is_inclusive = true;
            if is_named {
                if wall < from {
                    return Some(begin);
                }
                from = from.max(ended);
            }
        }
    }

    /// If the clock went back last: what it had shown before.
    fn seen_before(&self, moment: Timestamp) -> Option<DateTime> {
        // A change at the very moment is one that was.
        let just_after = moment.checked_add(Duration::from_nanos(1)).ok()?;
        let change = self.zone.preceding(just_after).next()?.timestamp();
        let before = change.checked_sub(Duration::from_nanos(1)).ok()?;
        Some(self.zone.to_offset(before).to_datetime(change))
    }
}

/// The next time that a clock without changes shows and that the line names.
fn next_on_wall(cron: &Cron, from: DateTime, is_inclusive: bool) -> Option<DateTime> {
    let from = from.to_zoned(TimeZone::UTC).ok()?;
    let next = cron.find_next_occurrence(&from, is_inclusive).ok()?;
    Some(next.datetime())
}

fn cron(line: &str) -> Result<When, BadRule> {
    let wrong = |reason: String| {
        BadRule::Expression(format!(
            "{line:?} is no cron line: {reason}; expected minute, hour, day of the month, month and day of the week, \
             such as \"0 3 * * *\", or six fields with seconds in front"
        ))
    };
    if line.len() > MAX_LINE {
        return Err(BadRule::Expression(format!(
            "The cron line has {} bytes; the limit is {MAX_LINE}.",
            line.len()
        )));
    }
    let fields: Vec<_> = line.split_whitespace().collect();
    let is_nickname = fields.len() == 1 && line.trim_start().starts_with('@');
    if !is_nickname && !(5..=6).contains(&fields.len()) {
        return Err(wrong(format!("it has {} fields", fields.len())));
    }
    // A list without items would be searched for through all of time.
    let has_gap = |field: &&str| field.split(',').any(str::is_empty);
    if let Some(field) = fields.iter().find(|field| has_gap(field)) {
        return Err(wrong(format!("{field:?} has an empty item")));
    }
    let parser = CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed)
        .build();
    let cron = parser
        .parse(&fields.join(" "))
        .map_err(|error| wrong(error.to_string().trim_end_matches('.').to_owned()))?;
    // Seconds, minutes and hours; without seconds those are the first two.
    let times = fields.len().saturating_sub(3);
    let is_named = match line.trim() {
        nickname if is_nickname => !nickname.eq_ignore_ascii_case("@hourly"),
        _ => !fields[..times].iter().any(|field| field.contains('*')),
    };
    Ok(When::Cron {
        cron: Box::new(cron),
        is_named,
    })
}

fn interval(rule: &Rule) -> Result<When, BadRule> {
    let length = age::parse(&rule.expression).map_err(BadRule::Expression)?;
    if length.is_zero() || length > MAX_INTERVAL {
        return Err(BadRule::Expression(format!(
            "The interval is {:?}; expected 1s to {}.",
            rule.expression,
            age::show(MAX_INTERVAL)
        )));
    }
    Ok(When::Interval {
        length_ms: i64::try_from(length.as_millis()).unwrap_or(i64::MAX),
        anchor: rule.anchor,
    })
}

fn zone(name: &str) -> Result<TimeZone, BadRule> {
    let unknown = |_| BadRule::TimeZone(name.chars().take(100).collect());
    TimeZone::get(name).map_err(unknown)
}

fn jitter(rule: &Rule) -> Result<i64, BadRule> {
    let most = i64::try_from(MAX_JITTER.as_millis()).unwrap_or(i64::MAX);
    match rule.jitter_ms {
        jitter if (0..=most).contains(&jitter) => Ok(jitter),
        jitter => Err(BadRule::Jitter(format!(
            "The jitter is {jitter} ms; expected 0 to {}.",
            age::show(MAX_JITTER)
        ))),
    }
}

/// Spreads the bits of a number (the finish of splitmix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
