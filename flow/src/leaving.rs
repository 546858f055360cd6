//! What leaves a pipeline: it is written into files, and shown to who waits for it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runner_host::hosted::Calls;
use runner_pipeline::Outputs;
use runner_sdk::HostCalls;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use crate::module::{ITEMS, LINES};
use crate::nodes::path_of;

/// How long an item waits for others that are shown with it.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of items that are shown together, and of one that is shown. Who waits finds larger ones in the files.
const MAX_SHOWN: usize = 48 << 10;

/// What left at one node.
struct Leaving {
    file: BufWriter<File>,
    /// How many were written.
    count: u64,
    pending: Vec<Value>,
    /// Bytes of these.
    size: usize,
}

/// Where what leaves is shown.
pub(crate) struct Shown<'a> {
    pub(crate) calls: &'a Calls,
    pub(crate) task: &'a Value,
}

/// Writes what leaves the pipeline: a file that a plugin made as it is, all else as lines, a file for each node.
/// Answers the outputs, as the protocol has them. Lines are shown if somebody may wait for them.
pub(crate) async fn write(
    mut outputs: Outputs,
    directory: &Path,
    shown: Option<Shown<'_>>,
) -> std::io::Result<Vec<Value>> {
    let mut all: HashMap<Arc<str>, Leaving> = HashMap::new();
    let mut told = Vec::new();
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let made = tokio::select! {
            made = outputs.next() => made,
            _ = ticks.tick(), if shown.is_some() => {
                show_all(&mut all, shown.as_ref());
                continue;
            }
        };
        let Some(made) = made else { break };
        if let Some(path) = file_of(&made.value) {
            // Its own name may be that of another one.
            let copy = format!(".file-{}", told.len());
            std::fs::copy(path, directory.join(&copy))?;
            told.push(json!({
                "path": copy, "name": made.value["name"], "dataType": made.value["dataType"],
                "contentType": made.value["contentType"],
            }));
            continue;
        }
        let leaving = match all.get_mut(&made.node) {
            Some(leaving) => leaving,
            None => {
                let name = file_name(&made.node);
                let file = BufWriter::new(File::create(directory.join(&name))?);
                told.push(json!({
                    "path": name, "name": name, "dataType": ITEMS, "contentType": LINES,
                }));
                let new = Leaving {
                    file,
                    count: 0,
                    pending: Vec::new(),
                    size: 0,
                };
                all.entry(Arc::clone(&made.node)).or_insert(new)
            }
        };
        let text = made.value.to_string();
        writeln!(leaving.file, "{text}")?;
        if let Some(shown) = &shown {
            leaving.add(made.value, text.len(), &made.node, shown);
        }
    }
    show_all(&mut all, shown.as_ref());
    for leaving in all.values_mut() {
        leaving.file.flush()?;
    }
    Ok(told)
}

/// Where the file is that an item stands for, if a plugin has made it.
fn file_of(item: &Value) -> Option<&Path> {
    let path = Path::new(path_of(item)?);
    path.is_file().then_some(path)
}

/// The output with what leaves at a node.
fn file_name(node: &str) -> String {
    format!("{}.jsonl", node.replace('/', "_"))
}

fn show_all(all: &mut HashMap<Arc<str>, Leaving>, shown: Option<&Shown<'_>>) {
    if let Some(shown) = shown {
        for (node, leaving) in all {
            leaving.show(node, shown);
        }
    }
}

impl Leaving {
    fn add(&mut self, value: Value, size: usize, node: &str, shown: &Shown<'_>) {
        if self.size + size > MAX_SHOWN {
            self.show(node, shown);
        }
        self.count += 1;
        // The count goes on, so that who waits sees that one is missing. None is pending then.
        if size <= MAX_SHOWN {
            self.pending.push(value);
            self.size += size + 1;
        }
    }

    fn show(&mut self, node: &str, shown: &Shown<'_>) {
        if self.pending.is_empty() {
            return;
        }
        let items = std::mem::take(&mut self.pending);
        let first = self.count - items.len() as u64;
        self.size = 0;
        shown.calls.notify(
            "items",
            json!({
                "task": shown.task, "output": {"node": node, "first": first}, "items": items,
            }),
        );
    }
}
