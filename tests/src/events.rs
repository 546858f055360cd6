//! A connection to the events of a task.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::{Runner, stream};

/// An event: id, name, data.
pub type Told = (String, String, Value);

/// Opens a stream of events, each of which comes within `patience`. `headers` are lines of the request.
///
/// # Panics
/// If there is no stream.
pub fn open(
    runner: &Runner,
    target: &str,
    headers: &str,
    patience: Duration,
) -> BufReader<TcpStream> {
    let host = runner.address();
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
    stream::open(host, request.as_bytes(), patience)
}

/// One connection to the events of a task.
#[derive(Debug)]
pub struct Stream {
    reader: BufReader<TcpStream>,
}

impl Stream {
    /// Connects; `last_id` is the event that was seen last.
    ///
    /// # Panics
    /// If there is no stream.
    pub fn open(runner: &Runner, task: u64, last_id: Option<&str>) -> Self {
        let last_id = last_id
            .map(|id| format!("Last-Event-ID: {id}\r\n"))
            .unwrap_or_default();
        let target = format!("/tasks/{task}/events");
        let reader = open(runner, &target, &last_id, Duration::from_secs(20));
        Self { reader }
    }

    /// The next event: id, name, data.
    ///
    /// # Panics
    /// If the stream ends or is silent for too long.
    #[expect(clippy::should_implement_trait, reason = "it never ends by itself")]
    pub fn next(&mut self) -> Told {
        let (mut id, mut name, mut data) = (String::new(), String::new(), String::new());
        loop {
            let mut line = String::new();
            assert!(
                self.reader.read_line(&mut line).expect("an event") > 0,
                "the stream ended"
            );
            match line.trim_end().split_once(": ") {
                Some(("id", text)) => text.clone_into(&mut id),
                Some(("event", text)) => text.clone_into(&mut name),
                Some(("data", text)) => data.push_str(text),
                // Lengths of chunks, comments, the empty line that ends an event.
                _ if line.trim().is_empty() && !data.is_empty() => {
                    return (id, name, serde_json::from_str(&data).expect("JSON"));
                }
                _ => {}
            }
        }
    }

    /// All events up to the one that ends the stream.
    pub fn until_end(&mut self) -> Vec<Told> {
        let mut events = Vec::new();
        loop {
            let event = self.next();
            let is_end = event.1 == "end";
            events.push(event);
            if is_end {
                return events;
            }
        }
    }
}

/// The log that events tell.
pub fn log_of(events: &[Told]) -> String {
    let texts = events.iter().filter(|(_, name, _)| name == "log");
    texts
        .filter_map(|(_, _, data)| data["text"].as_str())
        .collect()
}
