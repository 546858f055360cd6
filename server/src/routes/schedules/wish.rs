//! What somebody says of a schedule.

use runner_core::age;
use runner_core::parameters::{FieldErrors, MISSING, UNKNOWN};
use runner_core::schedule::{
    BadRule, Kind, Missed, NewSchedule, Overlap, Rule, Timing, check_name, check_policies,
};
use runner_core::task::{Dispatch, MAX_LABELS, MAX_RETRIES, Priority, check_labels};
use runner_host::Provided;
use runner_host::modules::Table;
use serde_json::{Map, Value};

/// The keys that are known.
const KEYS: [&str; 14] = [
    "name",
    "plugin",
    "parameters",
    "cron",
    "every",
    "timeZone",
    "jitter",
    "overlap",
    "missed",
    "enabled",
    "priority",
    "retries",
    "timeout",
    "labels",
];

/// Reads what is wanted; `now` is where an interval begins. Parameters are checked as the plugin's form is, and kept
/// as they were given: its defaults are those of the day.
pub(super) fn read(
    body: &Map<String, Value>,
    table: &Table,
    now: i64,
    base_url: String,
) -> Result<NewSchedule, FieldErrors> {
    let mut reader = Reader {
        body,
        errors: FieldErrors::new(),
    };
    for key in body.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        reader.wrong(key, UNKNOWN);
    }
    let name = reader.required("name");
    if !name.is_empty()
        && let Err(problem) = check_name(&name)
    {
        reader.wrong("name", problem);
    }
    let plugin = reader.required("plugin");
    let parameters = reader.parameters();
    let provided = table.plugin(&plugin).or_else(|| table.newest(&plugin));
    match provided {
        Some(provided) => reader.check(provided, &parameters),
        None if plugin.is_empty() => {}
        None => reader.wrong("plugin", "No plugin registered with that name."),
    }
    let usual = provided.map(|provided| provided.module.run_rules().priority);
    let rule = reader.rule(now);
    let overlap = reader.word("overlap", Overlap::parse, "skip, queue, cancel, allow");
    let missed = reader.word("missed", Missed::parse, "skip, once, all");
    let (overlap, missed) = (overlap.unwrap_or_default(), missed.unwrap_or_default());
    if let Err(problem) = check_policies(overlap, missed) {
        reader.wrong("missed", problem);
    }
    let priority = reader.word("priority", Priority::parse, "low, normal, high");
    let priority = priority.filter(|priority| *priority != Priority::Called);
    let schedule = NewSchedule {
        name,
        plugin,
        parameters,
        rule,
        overlap,
        missed,
        enabled: reader.enabled(),
        dispatch: Dispatch {
            priority: priority.or(usual).unwrap_or_default(),
            retries: reader.retries(),
            timeout_ms: reader.timeout(),
            ..Dispatch::default()
        },
        labels: reader.labels(),
        base_url,
    };
    match reader.errors.is_empty() {
        true => Ok(schedule),
        false => Err(reader.errors),
    }
}

struct Reader<'a> {
    body: &'a Map<String, Value>,
    errors: FieldErrors,
}

impl Reader<'_> {
    fn wrong(&mut self, key: &str, problem: impl Into<String>) {
        let problems = self.errors.entry(key.to_owned()).or_default();
        problems.push(problem.into());
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.body.get(key).filter(|value| !value.is_null())
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match self.get(key)? {
            Value::String(text) => Some(text.clone()),
            _ => {
                self.wrong(key, "Not a valid string.");
                None
            }
        }
    }

    fn required(&mut self, key: &str) -> String {
        if self.get(key).is_none() {
            self.wrong(key, MISSING);
        }
        let text = self.text(key);
        if text.as_deref() == Some("") {
            self.wrong(key, MISSING);
        }
        text.unwrap_or_default()
    }

    fn word<T>(&mut self, key: &str, parse: fn(&str) -> Option<T>, words: &str) -> Option<T> {
        let text = self.text(key)?;
        let known = words.split(", ").any(|word| word == text);
        let parsed = parse(&text).filter(|_| known);
        if parsed.is_none() {
            self.wrong(key, format!("Must be one of: {words}."));
        }
        parsed
    }

    fn parameters(&mut self) -> Map<String, Value> {
        match self.get("parameters") {
            None => Map::new(),
            Some(Value::Object(parameters)) => parameters.clone(),
            Some(_) => {
                self.wrong("parameters", "Not a valid object.");
                Map::new()
            }
        }
    }

    /// Each error names its parameter.
    fn check(&mut self, provided: &Provided, parameters: &Map<String, Value>) {
        let form = &provided.plugin.form.parameters;
        let checked = form.check_json(parameters.clone());
        for (key, problems) in checked.errors {
            for problem in problems {
                self.wrong(&format!("parameters.{key}"), problem);
            }
        }
    }

    fn rule(&mut self, now: i64) -> Rule {
        let line = self.text("cron");
        let span = self.text("every");
        let (kind, key, expression) = match (line, span) {
            (Some(line), None) => (Kind::Cron, "cron", line),
            (None, Some(span)) => (Kind::Interval, "every", span),
            (None, None) => {
                self.wrong("cron", "Expected either cron or every.");
                (Kind::Interval, "every", "1d".to_owned())
            }
            (Some(_), Some(_)) => {
                self.wrong("every", "Expected either cron or every.");
                (Kind::Interval, "every", "1d".to_owned())
            }
        };
        let jitter = self.text("jitter").map(|text| age::parse(&text));
        let jitter_ms = match jitter.transpose() {
            Ok(jitter) => jitter.map_or(0, |span| i64::try_from(span.as_millis()).unwrap_or(-1)),
            Err(problem) => {
                self.wrong("jitter", problem);
                0
            }
        };
        let rule = Rule {
            kind,
            expression,
            time_zone: self.text("timeZone").unwrap_or_else(|| "UTC".to_owned()),
            jitter_ms,
            anchor: now,
        };
        match Timing::new(&rule) {
            Ok(_) => {}
            Err(BadRule::Expression(problem)) => self.wrong(key, problem),
            Err(error @ BadRule::TimeZone(_)) => self.wrong("timeZone", error.to_string()),
            Err(BadRule::Jitter(problem)) => self.wrong("jitter", problem),
        }
        rule
    }

    fn enabled(&mut self) -> bool {
        match self.get("enabled") {
            None => true,
            Some(Value::Bool(enabled)) => *enabled,
            Some(_) => {
                self.wrong("enabled", "Not a valid boolean.");
                true
            }
        }
    }

    fn number(&mut self, key: &str, expected: std::ops::RangeInclusive<f64>) -> Option<f64> {
        let number = self.get(key)?.as_f64();
        let number = number.filter(|number| expected.contains(number));
        if number.is_none() {
            let (least, most) = expected.into_inner();
            self.wrong(key, format!("Must be a number between {least} and {most}."));
        }
        number
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number between 0 and 100"
    )]
    fn retries(&mut self) -> Option<u32> {
        let number = self.number("retries", 0.0..=f64::from(MAX_RETRIES))?;
        if number.fract() != 0.0 {
            self.wrong("retries", "Not a valid integer.");
        }
        Some(number as u32)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 10^12"
    )]
    fn timeout(&mut self) -> Option<u64> {
        let seconds = self.number("timeout", 0.001..=1e9)?;
        Some((seconds * 1000.0) as u64)
    }

    fn labels(&mut self) -> Vec<String> {
        let labels = match self.get("labels") {
            None => return Vec::new(),
            Some(Value::Array(labels)) => labels
                .iter()
                .map(|label| label.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>(),
            Some(_) => None,
        };
        let checked = labels
            .ok_or_else(|| "Not a valid list of labels.".to_owned())
            .and_then(check_labels);
        match checked {
            // One more is the name of the schedule.
            Ok(labels) if labels.len() < MAX_LABELS => labels,
            Ok(labels) => {
                let problem = format!("{} labels; the limit is {}.", labels.len(), MAX_LABELS - 1);
                self.wrong("labels", problem);
                Vec::new()
            }
            Err(problem) => {
                self.wrong("labels", problem);
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(body: Value) -> Vec<String> {
        let table = Table::default();
        let errors = read(body.as_object().unwrap(), &table, 0, String::new()).unwrap_err();
        errors.into_keys().collect()
    }

    #[test]
    fn each_field_that_is_wrong_is_named() {
        assert_eq!(errors(json!({})), ["cron", "name", "plugin"]);
        assert_eq!(
            errors(json!({"name": "n", "plugin": "p", "cron": "0 3 * * *"})),
            ["plugin"]
        );
        let wrong = json!({
            "name": " n", "plugin": 5, "parameters": [], "cron": "61 * * * *", "timeZone": "Moon", "jitter": "soon",
            "overlap": "x", "missed": true, "enabled": 1, "priority": "called", "retries": -1, "timeout": 0,
            "labels": ["", 1], "x": null,
        });
        let named = errors(wrong);
        for key in KEYS
            .into_iter()
            .filter(|key| !["every", "timeZone"].contains(key))
        {
            assert!(named.contains(&key.to_owned()), "{key}: {named:?}");
        }
        assert!(named.contains(&"x".to_owned()));
        let both = json!({"name": "n", "plugin": "p", "cron": "0 3 * * *", "every": "1h"});
        assert_eq!(errors(both), ["every", "plugin"]);
        let zone = json!({"name": "n", "plugin": "p", "every": "1h", "timeZone": "Moon"});
        assert_eq!(errors(zone), ["plugin", "timeZone"]);
        let all = json!({"name": "n", "plugin": "p", "every": "1h", "missed": "all"});
        assert_eq!(errors(all), ["missed", "plugin"]);
    }
}
