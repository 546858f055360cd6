//! The figures, for people and for scripts.

use std::time::Duration;

use serde_json::{Value, json};

/// Times that were measured.
#[derive(Debug, Default)]
pub(crate) struct Histogram(Vec<Duration>);

impl Histogram {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn merged(parts: Vec<Self>) -> Self {
        Self(parts.into_iter().flat_map(|part| part.0).collect())
    }

    /// The times below which these shares of all lie, in milliseconds.
    fn percentiles<const N: usize>(&self, shares: [f64; N]) -> [f64; N] {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        shares.map(|share| {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "an index below the number of times"
            )]
            let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
            sorted
                .get(at)
                .map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        })
    }
}

/// All figures of a run.
#[derive(Debug, Default)]
pub struct Report {
    figures: Vec<Figure>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// How much.
    pub value: f64,
    /// In which unit.
    pub unit: &'static str,
    /// How many times better than the reference, where it has a figure.
    pub ratio: Option<f64>,
    /// More, for people.
    pub note: String,
}

impl Report {
    /// Adds a figure that was measured elsewhere. A smaller value is better.
    pub fn less_is_better(
        &mut self,
        name: &str,
        value: f64,
        unit: &'static str,
        reference: Option<f64>,
    ) {
        let ratio = reference.map(|reference| reference / value);
        self.push(name, value, unit, ratio, String::new());
    }

    pub(crate) fn rate(
        &mut self,
        name: &str,
        unit: &'static str,
        count: usize,
        took: Duration,
        reference: Option<f64>,
    ) {
        #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
        let value = count as f64 / took.as_secs_f64();
        self.push(
            name,
            value,
            unit,
            reference.map(|reference| value / reference),
            String::new(),
        );
    }

    pub(crate) fn latency(&mut self, name: &str, times: &Histogram, reference: Option<f64>) {
        let [p50, p90, p99, most] = times.percentiles([0.5, 0.9, 0.99, 1.0]);
        let note = format!("p90 {p90:.2}, p99 {p99:.2}, most {most:.2}");
        let ratio = reference.map(|reference| reference / p50);
        self.push(&format!("{name}, p50"), p50, "ms", ratio, note);
    }

    pub(crate) fn share(&mut self, name: &str, share: f64) {
        self.push(name, share * 100.0, "%", None, String::new());
    }

    fn push(
        &mut self,
        name: &str,
        value: f64,
        unit: &'static str,
        ratio: Option<f64>,
        note: String,
    ) {
        self.figures.push(Figure {
            name: name.to_owned(),
            value,
            unit,
            ratio,
            note,
        });
    }

    /// The figures in the order in which they were measured.
    pub fn figures(&self) -> &[Figure] {
        &self.figures
    }

    /// For scripts.
    pub fn to_json(&self) -> Value {
        let figure = |figure: &Figure| {
            json!({
                "name": figure.name,
                "value": figure.value,
                "unit": figure.unit,
                "ratio": figure.ratio,
                "note": figure.note,
            })
        };
        self.figures.iter().map(figure).collect()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self
            .figures
            .iter()
            .map(|figure| figure.name.len())
            .max()
            .unwrap_or_default();
        for figure in &self.figures {
            let ratio = figure
                .ratio
                .map(|ratio| format!("{ratio:7.1} x"))
                .unwrap_or_default();
            let line = format!(
                "{:<width$}  {:>10.2} {:<10}  {ratio:>9}  {}",
                figure.name, figure.value, figure.unit, figure.note
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_ratios_are_those_of_the_times() {
        let mut times = Histogram::default();
        (1..=100)
            .rev()
            .for_each(|ms| times.add(Duration::from_millis(ms)));
        assert_eq!(
            times.percentiles([0.0, 0.5, 0.99, 1.0]),
            [1.0, 51.0, 100.0, 100.0]
        );
        let mut report = Report::default();
        report.latency("a", &times, Some(102.0));
        report.rate("b", "tasks/s", 100, Duration::from_secs(2), Some(10.0));
        let ratios: Vec<_> = report.figures().iter().map(|figure| figure.ratio).collect();
        assert_eq!(ratios, [Some(2.0), Some(5.0)]);
        assert!(report.to_string().contains("p99 100.00"));
    }
}
