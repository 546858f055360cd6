//! What a process waits for before it starts, and what it forwards: mostly of use in containers.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, bail};

use super::sources::Sources;
use super::{parsed, seconds};

/// The most hosts that are waited for, and the most ports that are forwarded.
const MOST: usize = 100;
/// The longest wait, a day.
const LONGEST: f64 = 86_400.0;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        // As in an URL of a database, which is what people copy.
        let text = text.rsplit("://").next()?.trim_end_matches('/');
        let (host, port) = text.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(bracketed) => bracketed.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-_.:%".contains(c);
        let port = port.parse().ok().filter(|port| *port > 0)?;
        (!host.is_empty() && host.chars().all(is_host)).then(|| Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// What is around a process.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// What must accept connections first.
    pub(crate) wait_for: Vec<Place>,
    /// How long that may take.
    pub(crate) wait: Duration,
    /// Between two attempts.
    pub(crate) pause: Duration,
    /// Ports that lead from localhost here to the same ports of `forward_to`.
    pub(crate) forwarded: Vec<u16>,
    pub(crate) forward_to: String,
}

impl Surroundings {
    pub(super) fn read(sources: &Sources) -> anyhow::Result<Self> {
        let wait: f64 = parsed(sources, "WAIT_TIMEOUT")?;
        if !(0.0..=LONGEST).contains(&wait) {
            bail!(
                "WAIT_TIMEOUT is {wait} s ({}); expected 0 to {LONGEST}",
                sources.origin("WAIT_TIMEOUT")
            );
        }
        let read = Self {
            wait_for: list(
                sources,
                "WAIT_HOSTS",
                "host:port such as redis:6379",
                Place::parse,
            )?,
            wait: Duration::from_secs_f64(wait),
            pause: seconds(sources, "WAIT_SLEEP_INTERVAL")?.max(Duration::from_millis(50)),
            forwarded: list(
                sources,
                "LOCALHOST_PROXY_PORTS",
                ":port such as :9090",
                port,
            )?,
            forward_to: sources.text("LOCALHOST_PROXY_HOST").trim().to_owned(),
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if !read.forwarded.is_empty()
            && (read.forward_to.is_empty() || !read.forward_to.chars().all(is_plain))
        {
            bail!(
                "LOCALHOST_PROXY_HOST is {:?} ({}); expected the name or address of a host, without a port",
                read.forward_to,
                sources.origin("LOCALHOST_PROXY_HOST")
            );
        }
        Ok(read)
    }
}

fn port(text: &str) -> Option<u16> {
    let text = text.strip_prefix(':').unwrap_or(text);
    text.parse().ok().filter(|port| *port > 0)
}

/// What is separated by commas or blanks.
fn list<T: PartialEq>(
    sources: &Sources,
    name: &str,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> anyhow::Result<Vec<T>> {
    let text = sources.text(name);
    let mut all: Vec<T> = Vec::new();
    for part in text
        .split([',', ' ', '\t', '\n'])
        .filter(|part| !part.is_empty())
    {
        let one = parse(part).with_context(|| {
            format!(
                "{name} has {part:?} ({}); expected {expected}, separated by commas or blanks",
                sources.origin(name)
            )
        })?;
        if !all.contains(&one) {
            all.push(one);
        }
    }
    if all.len() > MOST {
        bail!(
            "{name} names {} ({}); {MOST} at most",
            all.len(),
            sources.origin(name)
        );
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> anyhow::Result<Surroundings> {
        let environment = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let nowhere = Path::new("/nonexistent");
        let sources = Sources::new(super::super::Flags::new(), environment.collect(), nowhere)?;
        Surroundings::read(&sources)
    }

    #[test]
    fn lists_are_read_as_the_reference_writes_them() {
        let read = read(&[
            (
                "WAIT_HOSTS",
                "redis:6379, postgres:5432,[::1]:80 redis:6379",
            ),
            ("LOCALHOST_PROXY_PORTS", ":9090 :5005 5018 :9090"),
            ("WAIT_TIMEOUT", "300"),
        ])
        .unwrap();
        let hosts: Vec<String> = read.wait_for.iter().map(Place::to_string).collect();
        assert_eq!(hosts, ["redis:6379", "postgres:5432", "[::1]:80"]);
        assert_eq!(read.forwarded, [9090, 5005, 5018]);
        assert_eq!(read.wait, Duration::from_secs(300));
    }

    #[test]
    fn wrong_ones_are_named_with_what_was_expected() {
        for (name, value, expected) in [
            ("WAIT_HOSTS", "redis", "\"redis\""),
            ("WAIT_HOSTS", "redis:6379 pg:x", "host:port"),
            ("WAIT_HOSTS", "a:0", "WAIT_HOSTS"),
            ("WAIT_HOSTS", "a b:99999", "WAIT_HOSTS"),
            ("WAIT_TIMEOUT", "soon", "WAIT_TIMEOUT"),
            ("WAIT_TIMEOUT", "-1", "expected 0"),
            ("WAIT_TIMEOUT", "NaN", "expected 0"),
            ("LOCALHOST_PROXY_PORTS", "http://localhost:80", ":port"),
            ("LOCALHOST_PROXY_PORTS", ":70000", ":port"),
        ] {
            let error = format!("{:#}", read(&[(name, value)]).unwrap_err());
            assert!(error.contains(name) && error.contains(expected), "{error}");
        }
        let pairs = [
            ("LOCALHOST_PROXY_PORTS", ":80"),
            ("LOCALHOST_PROXY_HOST", "a:b c"),
        ];
        let error = format!("{:#}", read(&pairs).unwrap_err());
        assert!(error.contains("LOCALHOST_PROXY_HOST"), "{error}");
    }
}
