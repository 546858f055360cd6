//! Server-sent events, as a runner sends them for a task.

use serde_json::Value;

/// Bytes of the longest line: a piece of a log, as JSON.
const MAX_LINE: usize = 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    /// Where to go on after it.
    pub(crate) id: String,
    /// `log`, `progress`, `steps`, `link`, `output`, `state` or `end`.
    pub(crate) name: String,
    /// What happened.
    pub(crate) data: Value,
}

/// Makes events of the bytes of a stream, however they are cut.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    line: Vec<u8>,
    id: String,
    name: String,
    data: String,
}

impl Reader {
    /// The events that these bytes complete.
    ///
    /// # Errors
    /// A line that is longer than any runner sends.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> anyhow::Result<Vec<Event>> {
        let mut events = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.len() > MAX_LINE {
                anyhow::bail!("the stream of events has a line of more than {MAX_LINE} bytes");
            }
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                events.extend(
                    self.take(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n'])),
                );
            }
        }
        Ok(events)
    }

    fn take(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            let name = std::mem::take(&mut self.name);
            if data.is_empty() {
                return None;
            }
            let data = serde_json::from_str(&data).unwrap_or_default();
            return Some(Event {
                id: self.id.clone(),
                name,
                data,
            });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut self.id),
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // A comment keeps the connection alive.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_come_out_whole_however_the_stream_is_cut() {
        let stream = ":\n\nid: 1-0\nevent: log\ndata: {\"text\":\"a\"}\n\nid: 2-0\r\nevent: end\r\ndata: {}\r\n\r\n";
        let event = |id: &str, name: &str, data| Event {
            id: id.to_owned(),
            name: name.to_owned(),
            data,
        };
        let expected = [
            event("1-0", "log", json!({"text": "a"})),
            event("2-0", "end", json!({})),
        ];
        for size in 1..stream.len() {
            let mut reader = Reader::default();
            let events: Vec<Event> = stream
                .as_bytes()
                .chunks(size)
                .flat_map(|bytes| reader.read(bytes).unwrap())
                .collect();
            assert_eq!(events, expected, "{size}");
        }
        assert!(Reader::default().read(&vec![b'x'; MAX_LINE + 1]).is_err());
    }
}
