//! What a request says about when, how often and before whom its task is run.
//!
//! The fields begin with `_`, as no parameter of a plugin does.

use std::str::FromStr;

use jiff::Timestamp;
use runner_core::task::{Dispatch, MAX_RETRIES, Priority};
use serde_json::Value;

use super::Sent;
use crate::error::ApiError;

/// `low`, `normal` or `high`.
pub(crate) const PRIORITY: &str = "_priority";
/// Not before this moment, as RFC 3339 has it.
pub(crate) const RUN_AT: &str = "_runAt";
/// How often the task is run again when the plugin fails.
pub(crate) const RETRIES: &str = "_retries";
/// Seconds that one run may take.
pub(crate) const TIMEOUT: &str = "_timeout";

impl Sent {
    /// Takes out what is said about the runs of the task. The priority is `usual` where none is named.
    pub(crate) fn take_dispatch(
        &mut self,
        usual: Priority,
        submitter: String,
    ) -> Result<Dispatch, ApiError> {
        Ok(Dispatch {
            priority: self.one(PRIORITY, priority)?.unwrap_or(usual),
            submitter,
            run_at: self.one(RUN_AT, moment)?,
            retries: self.one(RETRIES, retries)?,
            timeout_ms: self.one(TIMEOUT, timeout)?,
        })
    }

    fn one<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Result<Option<T>, ApiError> {
        let values = self.take_option(name);
        let parsed = match values.as_slice() {
            [] => return Ok(None),
            [value] => parse(value),
            _ => Err("Expected one value.".to_owned()),
        };
        parsed
            .map(Some)
            .map_err(|problem| self.wrong(name, problem))
    }
}

fn priority(value: &Value) -> Result<Priority, String> {
    let known = value.as_str().and_then(Priority::parse);
    known
        .filter(|priority| *priority != Priority::Called)
        .ok_or_else(|| "Must be one of: low, normal, high.".to_owned())
}

fn moment(value: &Value) -> Result<i64, String> {
    let text = value.as_str().unwrap_or_default();
    let moment: Timestamp = text.trim().parse().map_err(|_| {
        "Not a valid moment; expected date, time and offset, such as 2030-01-31T09:00:00+01:00."
            .to_owned()
    })?;
    Ok(moment.as_millisecond())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number between 0 and 100"
)]
fn retries(value: &Value) -> Result<u32, String> {
    // 3.0 is a whole number, too.
    let whole = number::<f64>(value).filter(|number| number.fract() == 0.0 && *number >= 0.0);
    whole
        .filter(|retries| *retries <= f64::from(MAX_RETRIES))
        .map(|retries| retries as u32)
        .ok_or_else(|| format!("Not a valid number of retries; expected 0 to {MAX_RETRIES}."))
}

fn timeout(value: &Value) -> Result<u64, String> {
    let seconds = number::<f64>(value).filter(|seconds| (0.001..1e9).contains(seconds));
    let seconds = seconds.ok_or("Not a valid number of seconds; expected 0.001 or more.")?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 10^12"
    )]
    Ok((seconds * 1000.0) as u64)
}

/// A number, also as the text of a form.
fn number<T: FromStr>(value: &Value) -> Option<T> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_read_from_texts_and_from_json() {
        assert_eq!(priority(&json!("low")), Ok(Priority::Low));
        assert!(priority(&json!("called")).is_err());
        assert!(priority(&json!(3)).is_err());
        assert_eq!(retries(&json!("3")), Ok(3));
        assert_eq!(retries(&json!(100)), Ok(100));
        assert_eq!(retries(&json!(3.0)), Ok(3));
        for wrong in [json!(101), json!(-1), json!(1.5), json!("x"), json!([1])] {
            assert!(retries(&wrong).is_err(), "{wrong}");
        }
        assert_eq!(timeout(&json!("1.5")), Ok(1500));
        for wrong in [json!(0), json!(-1), json!("NaN"), json!("inf"), json!(true)] {
            assert!(timeout(&wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            moment(&json!("2026-01-31T09:00:00+01:00")),
            moment(&json!("2026-01-31T08:00:00Z"))
        );
        for wrong in [json!("tomorrow"), json!("2026-01-31"), json!(5)] {
            assert!(moment(&wrong).is_err(), "{wrong}");
        }
    }
}
