//! What plugins that are nodes must do, over their socket.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream as StdStream;

use runner_core::plugin::NodeDescription;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Desk, Done, PATIENCE, Problem, short};

/// The number of the socket in the host.
const SOCKET: i32 = 3;
/// Requests that are sent together.
const TOGETHER: usize = 4;
/// The number of the node.
const NODE: u64 = 7;

/// A plugin that is a node.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) plugin: String,
    pub(super) node: NodeDescription,
    /// Whether it is made for these checks: it gives items back, makes nothing of null, fails with the text in
    /// `fail`, and makes the values in `several`.
    pub(super) is_made_for_it: bool,
}

impl Desk {
    pub(super) async fn node_check(
        &mut self,
        name: &str,
        subject: &Subject,
    ) -> Result<Done, Problem> {
        let skipped = match name {
            "node-items" if subject.node.source => Some("the node is a source"),
            "node-outcomes" if !subject.is_made_for_it => Some("no node has the tag conformance"),
            _ => None,
        };
        if let Some(why) = skipped {
            return Ok(Done::Skipped(why.to_owned()));
        }
        let mut talk = self.items_talk().await?;
        let open = json!({
            "node": NODE, "name": "checked", "plugin": subject.plugin, "with": {}, "concurrency": 1,
        });
        talk.ask("open", open).await?;
        match name {
            "node-items" => talk.together(&subject.node.example).await?,
            "node-outcomes" => talk.outcomes().await?,
            _ => {}
        }
        if name == "node-end" {
            drop(talk);
            let host = self.talk().await?;
            let ended = host.ended(PATIENCE).await;
            self.conversation = None;
            return match ended {
                Some(_) => Ok(Done::Checked),
                None => Err("it still lives, and would be killed".to_owned()),
            };
        }
        talk.ask("close", json!({"node": NODE})).await?;
        // The next check begins with a host that knows nothing of items.
        self.conversation = None;
        Ok(Done::Checked)
    }

    /// A new host with a socket, and its other end.
    async fn items_talk(&mut self) -> Result<ItemsTalk, Problem> {
        let broken = |error: std::io::Error| format!("cannot make a socket pair: {error}");
        let (ours, theirs) = StdStream::pair().map_err(broken)?;
        ours.set_nonblocking(true).map_err(broken)?;
        let ours = UnixStream::from_std(ours).map_err(broken)?;
        let config = json!({"items": {"fd": SOCKET}});
        self.welcome_with(config, vec![theirs.into()]).await?;
        Ok(ItemsTalk {
            socket: BufReader::new(ours),
            last: 0,
        })
    }
}

/// The pipeline's end of the socket.
struct ItemsTalk {
    socket: BufReader<UnixStream>,
    last: u64,
}

impl ItemsTalk {
    async fn send(&mut self, method: &str, params: Value) -> Result<u64, Problem> {
        self.last += 1;
        let id = self.last;
        let line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let sent = self.socket.write_all(format!("{line}\n").as_bytes()).await;
        sent.map_err(|error| format!("its socket cannot be written: {error}"))?;
        Ok(id)
    }

    /// The next response.
    async fn next(&mut self) -> Result<(u64, Value), Problem> {
        let mut line = Vec::new();
        let read = timeout(PATIENCE, self.socket.read_until(b'\n', &mut line)).await;
        match read {
            Err(_) => return Err(format!("no answer within {} s", PATIENCE.as_secs())),
            Ok(Err(error)) => return Err(format!("its socket cannot be read: {error}")),
            Ok(Ok(0)) => return Err("it closed its socket".to_owned()),
            Ok(Ok(_)) => {}
        }
        let message: Value = serde_json::from_slice(&line)
            .map_err(|error| format!("it wrote a line that is no message: {error}"))?;
        let id = message["id"].as_u64();
        let id = id.ok_or_else(|| format!("{} answers no request", short(&message)))?;
        match message.get("error") {
            None => Ok((id, message["result"].clone())),
            Some(error) => Err(format!("it is an error: {}", short(error))),
        }
    }

    async fn ask(&mut self, method: &str, params: Value) -> Result<Value, Problem> {
        let id = self.send(method, params).await?;
        match self.next().await? {
            (of, result) if of == id => Ok(result),
            (of, _) => Err(format!("it answered the request {of} instead of {id}")),
        }
    }

    /// Sends several requests, and waits for the answers to all.
    async fn together(&mut self, example: &[Value]) -> Result<(), Problem> {
        let mut open = BTreeMap::new();
        let null = Value::Null;
        for number in 1..=TOGETHER {
            let items: Vec<&Value> = match example.is_empty() {
                true => vec![&null; number],
                false => example.iter().collect(),
            };
            let id = self
                .send("items", json!({"node": NODE, "items": items}))
                .await?;
            open.insert(id, items.len());
        }
        while !open.is_empty() {
            let (id, result) = self.next().await?;
            let count = open
                .remove(&id)
                .ok_or_else(|| format!("it answered {id}, which nobody asked, or twice"))?;
            let made = result["made"].as_array().map_or(0, Vec::len);
            if made != count {
                return Err(format!("it answered for {made} items of {count}"));
            }
        }
        Ok(())
    }

    async fn outcomes(&mut self) -> Result<(), Problem> {
        let text = "ü \" \u{1F600}";
        let items = json!([
            text, null, {"fail": "on purpose"}, 3, {"several": [1, 2]}, ["a", 1.5, true], "last",
        ]);
        let result = self
            .ask("items", json!({"node": NODE, "items": items}))
            .await?;
        let made = &result["made"];
        let expected: [(usize, Value); 6] = [
            (0, json!([text])),
            (1, json!([])),
            (3, json!([3])),
            (4, json!([1, 2])),
            (5, json!([["a", 1.5, true]])),
            (6, json!(["last"])),
        ];
        for (number, expected) in expected {
            if made[number] != expected {
                let (item, found) = (short(&items[number]), short(&made[number]));
                return Err(format!("of {item} it made {found}, expected {expected}"));
            }
        }
        let error = made[2]["error"].as_str().unwrap_or_default();
        match error.contains("on purpose") {
            true => Ok(()),
            false => Err(format!("the error of an item is {}", short(&made[2]))),
        }
    }
}
