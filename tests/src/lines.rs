//! A pipeline that is sent, and what is streamed back.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::{Request, Runner, stream};

/// How long a record may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream of JSON lines. Dropped, the client is gone.
#[derive(Debug)]
pub struct Lines(BufReader<TcpStream>);

impl Lines {
    /// Sends a pipeline to `POST /pipelines/`, with the token.
    ///
    /// # Panics
    /// If the answer is no stream.
    #[track_caller]
    pub fn of(runner: &Runner, body: &Value) -> Self {
        let bearer = format!("Bearer {}", runner.token());
        let request = Request::post("/pipelines/")
            .header("Authorization", &bearer)
            .json(body);
        let address = runner.address();
        Self(stream::open(address, &request.to_bytes(address), PATIENCE))
    }

    /// The next record; `None` at the end of the stream.
    ///
    /// # Panics
    /// If none comes in time.
    #[track_caller]
    pub fn record(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).expect("a record in time") == 0 {
                return None;
            }
            // Pieces of the body have their length before them.
            if line.starts_with('{') {
                return Some(serde_json::from_str(&line).expect("a JSON document"));
            }
        }
    }

    /// The number of its task, which is told first.
    ///
    /// # Panics
    /// If something else comes first.
    #[track_caller]
    pub fn task(&mut self) -> u64 {
        let first = self.record().expect("a record");
        assert_eq!(first["event"], "task", "{first}");
        first["task"].as_u64().expect("a number")
    }

    /// All records up to the last.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.record()).collect()
    }
}

/// The values of the items among records, of all nodes.
pub fn values(records: &[Value]) -> Vec<Value> {
    let items = records.iter().filter(|record| record["event"] == "item");
    items.map(|item| item["value"].clone()).collect()
}
