//! Numbers as Prometheus reads them: the text format, version 0.0.4, read strictly.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

/// Labels with their values.
pub type Labels = BTreeMap<String, String>;

/// All numbers of an answer.
#[derive(Debug, Default)]
pub struct Metrics {
    kinds: BTreeMap<String, String>,
    samples: Vec<(String, Labels, f64)>,
}

impl Metrics {
    /// Reads an answer.
    ///
    /// # Panics
    /// If it is not in the format: a line that is none, a name without kind or help, numbers of one name that are
    /// not together, a series that comes twice, a histogram whose buckets do not add up.
    #[track_caller]
    pub fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let help = Regex::new(r"^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) \S.*$").expect("valid");
        let kind = Regex::new(r"^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram)$")
            .expect("valid");
        let sample = Regex::new(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$").expect("valid");
        let label = Regex::new(r#"^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)"#)
            .expect("valid");
        let mut metrics = Self::default();
        let mut helped = BTreeSet::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(found) = help.captures(line) {
                assert!(helped.insert(found[1].to_owned()), "two helps: {line}");
                continue;
            }
            if let Some(found) = kind.captures(line) {
                family = found[1].to_owned();
                assert!(helped.contains(&family), "no help before {line}");
                let before = metrics.kinds.insert(family.clone(), found[2].to_owned());
                assert_eq!(before, None, "two kinds: {line}");
                continue;
            }
            let found = sample
                .captures(line)
                .unwrap_or_else(|| panic!("no line of the format: {line}"));
            let mut labels = Labels::new();
            let mut rest = found.get(2).map_or("", |labels| labels.as_str());
            while !rest.is_empty() {
                let pair = label
                    .captures(rest)
                    .unwrap_or_else(|| panic!("wrong labels: {line}"));
                let before = labels.insert(pair[1].to_owned(), pair[2].to_owned());
                assert_eq!(before, None, "a label comes twice: {line}");
                rest = &rest[pair[0].len()..];
            }
            let value = match &found[3] {
                "+Inf" => f64::INFINITY,
                text => text.parse().unwrap_or_else(|_| panic!("no number: {line}")),
            };
            let is_of_histogram = metrics
                .kinds
                .get(&family)
                .is_some_and(|kind| kind == "histogram");
            let base = match is_of_histogram {
                true => ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| found[1].strip_suffix(end)),
                false => Some(&found[1]),
            };
            assert_eq!(
                base,
                Some(family.as_str()),
                "not with the others of its name: {line}"
            );
            metrics.samples.push((found[1].to_owned(), labels, value));
        }
        metrics.check_once();
        metrics.check_histograms();
        metrics
    }

    #[track_caller]
    fn check_once(&self) {
        let mut seen = BTreeSet::new();
        for (name, labels, _) in &self.samples {
            assert!(seen.insert((name, labels)), "{name}{labels:?} comes twice");
        }
    }

    #[track_caller]
    fn check_histograms(&self) {
        let histograms = self.kinds.iter().filter(|(_, kind)| *kind == "histogram");
        for (name, _) in histograms {
            let counts: Vec<_> = self.all(&format!("{name}_count")).collect();
            assert!(!counts.is_empty(), "{name} has no count");
            for (labels, count) in counts {
                let buckets = self.all(&format!("{name}_bucket")).filter(|(found, _)| {
                    labels
                        .iter()
                        .all(|(key, value)| found.get(key) == Some(value))
                });
                let buckets: Vec<(f64, f64)> = buckets
                    .map(|(labels, value)| {
                        let bound = labels["le"].replace("+Inf", "inf");
                        (bound.parse().expect("a bound"), value)
                    })
                    .collect();
                let is_sorted = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
                assert!(is_sorted, "{name}{labels:?}: {buckets:?}");
                assert_eq!(
                    buckets.last(),
                    Some(&(f64::INFINITY, count)),
                    "{name}{labels:?}"
                );
                assert_eq!(
                    self.all(&format!("{name}_sum"))
                        .filter(|(found, _)| *found == labels)
                        .count(),
                    1
                );
            }
        }
    }

    fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = (&'a Labels, f64)> + use<'a> {
        let name = name.to_owned();
        let of_name = self
            .samples
            .iter()
            .filter(move |(found, ..)| *found == name);
        of_name.map(|(_, labels, value)| (labels, *value))
    }

    /// The sum of the numbers of a name that have these labels, perhaps among others.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |found: &Labels| {
            labels
                .iter()
                .all(|(key, value)| found.get(*key).is_some_and(|other| other == value))
        };
        self.all(name)
            .filter(|(found, _)| fits(found))
            .map(|(_, value)| value)
            .sum()
    }

    /// Whether there is any number of this name.
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}
