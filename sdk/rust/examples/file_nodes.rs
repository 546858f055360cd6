//! Nodes of pipelines whose items are files: one writes a text, the other reads it and writes it in capitals.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use runner_sdk::{Description, Failure, Node, Opening, Outcome, Plugin, Task, Value, each, json};

/// Files that were made: the nodes of a module share a directory.
static MADE: AtomicU64 = AtomicU64::new(0);

/// An item that is a new file in this directory.
fn file(directory: &Path, name: &str, content: &str) -> Result<Value, Failure> {
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!("made-{number}"));
    fs::write(&path, content)?;
    Ok(json!({"name": name, "dataType": "custom/text", "path": path}))
}

fn directory(opening: &Opening) -> Result<PathBuf, Failure> {
    let directory = opening.directory.clone();
    directory.ok_or_else(|| Failure::new("files cannot be made here"))
}

struct Written;

impl Plugin for Written {
    fn describe(&self) -> Description {
        Description::new("written", "1.0.0")
            .node(json!({"type": "string"}), json!({"type": "object"}))
    }

    fn run(&self, _: &Task) -> Result<Outcome, Failure> {
        Ok("it is there for pipelines".into())
    }

    fn node(&self, opening: &Opening) -> Result<Box<dyn Node>, Failure> {
        let directory = directory(opening)?;
        Ok(each(move |text: String| {
            file(&directory, &format!("{text}.txt"), &text)
        }))
    }
}

struct Louder;

impl Plugin for Louder {
    fn describe(&self) -> Description {
        Description::new("louder", "1.0.0")
            .node(json!({"type": "object"}), json!({"type": "object"}))
    }

    fn run(&self, _: &Task) -> Result<Outcome, Failure> {
        Ok("it is there for pipelines".into())
    }

    fn node(&self, opening: &Opening) -> Result<Box<dyn Node>, Failure> {
        let directory = directory(opening)?;
        Ok(each(move |item: Value| {
            let text = fs::read_to_string(item["path"].as_str().unwrap_or_default())?;
            if text == "away" {
                return Err(Failure::new("it is not to be read"));
            }
            let name = item["name"].as_str().unwrap_or_default();
            file(&directory, name, &text.to_uppercase())
        }))
    }
}

runner_sdk::export!(Written, Louder);
