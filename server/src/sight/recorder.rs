//! Keeps what the rooms count and measure with the facade [`metrics`], and writes it down for Prometheus.
//!
//! Why it is not `metrics-exporter-prometheus`: that one keeps every sample until somebody looks, and with 500
//! plugins a look takes 9 ms (19,500 lines, optimised), most of it for maps that are made anew each time. Here a
//! sample is added to its bucket at once, and a look walks over series whose labels are written already: 1.2 ms.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder as Facade,
    SharedString, Unit,
};

use super::Recorded;
use super::text::Text;

/// Upper bounds of the times that something waits, in seconds.
const WAITS: &[(f64, &str)] = &[
    (0.001, "0.001"),
    (0.005, "0.005"),
    (0.025, "0.025"),
    (0.1, "0.1"),
    (0.5, "0.5"),
    (2.5, "2.5"),
    (10.0, "10"),
    (60.0, "60"),
    (300.0, "300"),
    (1800.0, "1800"),
    (7200.0, "7200"),
];
/// Of the times that runs take.
const RUNS: &[(f64, &str)] = &[
    (0.001, "0.001"),
    (0.005, "0.005"),
    (0.025, "0.025"),
    (0.1, "0.1"),
    (0.5, "0.5"),
    (1.0, "1"),
    (5.0, "5"),
    (15.0, "15"),
    (60.0, "60"),
    (300.0, "300"),
    (1800.0, "1800"),
    (3600.0, "3600"),
];
/// Of the times that requests and all else take.
const REQUESTS: &[(f64, &str)] = &[
    (0.001, "0.001"),
    (0.0025, "0.0025"),
    (0.005, "0.005"),
    (0.01, "0.01"),
    (0.025, "0.025"),
    (0.05, "0.05"),
    (0.1, "0.1"),
    (0.25, "0.25"),
    (0.5, "0.5"),
    (1.0, "1"),
    (2.5, "2.5"),
    (5.0, "5"),
    (30.0, "30"),
];

/// The bounds of a histogram.
fn bounds(name: &str) -> &'static [(f64, &'static str)] {
    match name {
        "runner_wait_seconds" => WAITS,
        "runner_run_seconds" => RUNS,
        _ => REQUESTS,
    }
}

/// Begins to keep what is counted in this process, and gives what writes it down. Once in a process: where something
/// keeps it already, nothing is written here.
pub fn record() -> Recorded {
    let recorder = Recorder::default();
    let kept = recorder.clone();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("the numbers of this process are kept elsewhere");
    }
    Arc::new(move || kept.written())
}

/// All series of this process.
#[derive(Clone, Default)]
struct Recorder(Arc<RwLock<BTreeMap<String, Family>>>);

/// The series of one name.
#[derive(Default)]
struct Family {
    help: String,
    known: HashMap<Key, usize>,
    series: Vec<Series>,
}

struct Series {
    /// As they are written, without braces.
    labels: String,
    number: Number,
}

#[derive(Clone)]
enum Number {
    Counter(Arc<AtomicU64>),
    /// The bits of a floating-point number.
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

struct Buckets {
    bounds: &'static [(f64, &'static str)],
    /// How many samples came into each and into none before it; the last has no bound.
    counts: Vec<AtomicU64>,
    /// The bits of a floating-point number.
    sum: AtomicU64,
}

impl Buckets {
    fn new(bounds: &'static [(f64, &'static str)]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0.0_f64.to_bits()),
        }
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let at = self.bounds.partition_point(|(bound, _)| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        let add = |sum: u64| Some((f64::from_bits(sum) + value).to_bits());
        // It always adds.
        let _ = self
            .sum
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

impl Recorder {
    fn describe(&self, name: &KeyName, help: &SharedString) {
        let mut families = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name.as_str().to_owned()).or_default();
        family.help = help.to_string();
    }

    fn number(&self, key: &Key, make: impl FnOnce() -> Number) -> Number {
        let mut families = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(key.name().to_owned()).or_default();
        if let Some(at) = family.known.get(key) {
            return family.series[*at].number.clone();
        }
        let mut labels = String::new();
        for label in key.labels() {
            if !labels.is_empty() {
                labels.push(',');
            }
            let _ = write!(
                labels,
                "{}=\"{}\"",
                label.key(),
                super::text::escaped(label.value())
            );
        }
        let number = make();
        family.known.insert(key.clone(), family.series.len());
        family.series.push(Series {
            labels,
            number: number.clone(),
        });
        number
    }

    fn written(&self) -> String {
        let families = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut text = Text::default();
        for (name, family) in families.iter() {
            let Some(first) = family.series.first() else {
                continue;
            };
            text.family(name, first.number.kind(), &family.help);
            for series in &family.series {
                series.write(name, &mut text);
            }
        }
        text.into_string()
    }
}

impl Number {
    fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl Series {
    fn write(&self, name: &str, text: &mut Text) {
        let labels = &self.labels;
        match &self.number {
            Number::Counter(count) => {
                text.line(name, "", labels, "", count.load(Ordering::Relaxed));
            }
            Number::Gauge(bits) => {
                let value = f64::from_bits(bits.load(Ordering::Relaxed));
                text.line(name, "", labels, "", value);
            }
            Number::Histogram(buckets) => {
                let mut count = 0;
                let bounds = buckets.bounds.iter().map(|(_, bound)| *bound);
                for (bound, found) in bounds.chain(["+Inf"]).zip(&buckets.counts) {
                    count += found.load(Ordering::Relaxed);
                    text.line(name, "_bucket", labels, bound, count);
                }
                let sum = f64::from_bits(buckets.sum.load(Ordering::Relaxed));
                text.line(name, "_sum", labels, "", sum);
                text.line(name, "_count", labels, "", count);
            }
        }
    }
}

impl Facade for Recorder {
    fn describe_counter(&self, name: KeyName, _unit: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }

    fn describe_gauge(&self, name: KeyName, _unit: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }

    fn describe_histogram(&self, name: KeyName, _unit: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        match self.number(key, || Number::Counter(Arc::default())) {
            Number::Counter(count) => Counter::from_arc(count),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        match self.number(key, || Number::Gauge(Arc::default())) {
            Number::Gauge(bits) => Gauge::from_arc(bits),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        let bounds = bounds(key.name());
        match self.number(key, || Number::Histogram(Arc::new(Buckets::new(bounds)))) {
            Number::Histogram(buckets) => Histogram::from_arc(buckets),
            _ => Histogram::noop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use metrics::{counter, describe_counter, gauge, histogram, with_local_recorder};

    use super::*;

    #[test]
    fn what_was_counted_is_written_once_by_name_and_labels() {
        let recorder = Recorder::default();
        with_local_recorder(&recorder, || {
            describe_counter!("b_total", "Counted.");
            counter!("b_total", "plugin" => "x\"y").increment(2);
            counter!("b_total", "plugin" => "x\"y").increment(1);
            gauge!("a").set(1.5);
            let wait = histogram!("runner_wait_seconds", "plugin" => "p@1");
            for value in [0.001, 0.003, 5.0, 1e9] {
                wait.record(value);
            }
        });
        let text = recorder.written();
        assert!(
            text.starts_with("# HELP a \n# TYPE a gauge\na 1.5\n"),
            "{text}"
        );
        assert!(text.contains(
            "# HELP b_total Counted.\n# TYPE b_total counter\nb_total{plugin=\"x\\\"y\"} 3\n"
        ));
        for line in [
            "runner_wait_seconds_bucket{plugin=\"p@1\",le=\"0.001\"} 1",
            "runner_wait_seconds_bucket{plugin=\"p@1\",le=\"0.005\"} 2",
            "runner_wait_seconds_bucket{plugin=\"p@1\",le=\"2.5\"} 2",
            "runner_wait_seconds_bucket{plugin=\"p@1\",le=\"10\"} 3",
            "runner_wait_seconds_bucket{plugin=\"p@1\",le=\"+Inf\"} 4",
            "runner_wait_seconds_sum{plugin=\"p@1\"} 1000000005.004",
            "runner_wait_seconds_count{plugin=\"p@1\"} 4",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn bounds_grow_and_are_written_as_they_are() {
        for bounds in [WAITS, RUNS, REQUESTS] {
            assert!(bounds.is_sorted_by(|a, b| a.0 < b.0));
            assert!(
                bounds
                    .iter()
                    .all(|(bound, text)| *bound == text.parse::<f64>().unwrap())
            );
        }
    }

    /// The promise is 5 ms for a look; here without optimisation.
    #[test]
    fn five_hundred_plugins_are_written_in_a_moment() {
        let recorder = Recorder::default();
        with_local_recorder(&recorder, || {
            for number in 0..500 {
                let plugin = format!("plugin-{number}@v1-0-{number}");
                for name in ["runner_wait_seconds", "runner_run_seconds"] {
                    histogram!(name, "plugin" => plugin.clone()).record(0.5);
                }
                for outcome in [
                    "succeeded",
                    "failed",
                    "cancelled",
                    "step",
                    "again",
                    "overtaken",
                ] {
                    counter!("runner_runs_total", "plugin" => plugin.clone(), "outcome" => outcome)
                        .increment(1);
                }
            }
        });
        let took = (0..5).map(|_| {
            let begun = Instant::now();
            assert!(recorder.written().lines().count() > 500 * 30);
            begun.elapsed()
        });
        let best = took.min().unwrap();
        println!("{best:?}");
        assert!(best < Duration::from_millis(250), "{best:?}");
    }
}
