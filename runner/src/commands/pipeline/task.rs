//! `runner pipeline status`, `pause`, `resume`, `drain` and `tap`: of a pipeline that runs as a task.

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{At, Server};
use crate::commands::task::block_on;
use crate::events::Reader;
use crate::scratch::interrupted;
use crate::screen::{self, line, note};

/// The pipeline that is meant, and where it is.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// Number of the task
    task: i64,
    #[command(flatten)]
    at: At,
    /// Prints a JSON document instead of text
    #[arg(long)]
    json: bool,
}

impl One {
    fn path(&self, what: &str) -> String {
        format!("tasks/{}/pipeline{what}", self.task)
    }

    fn print(&self, pipeline: &Value) -> anyhow::Result<()> {
        match self.json {
            true => screen::print_json(pipeline),
            false => screen::print(&shown(pipeline)),
        }
    }

    fn change(&self, verb: &str, body: &Value) -> anyhow::Result<()> {
        let server = self.at.server()?;
        let path = self.path(&format!("/{verb}"));
        let changed = block_on(server.send_json(Method::POST, &path, body))?;
        self.print(&changed)
    }
}

/// Arguments of `runner pipeline status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    one: One,
}

impl Status {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let server = self.one.at.server()?;
        let pipeline = block_on(server.get(&self.one.path("")))?;
        self.one.print(&pipeline)
    }
}

/// Arguments of `runner pipeline pause` and `resume`.
#[derive(Debug, Args)]
pub(crate) struct Hold {
    #[command(flatten)]
    one: One,
    /// One node; all of them if left out
    node: Option<String>,
}

impl Hold {
    pub(super) fn run(&self, verb: &str) -> anyhow::Result<()> {
        let body = match &self.node {
            Some(node) => json!({ "node": node }),
            None => json!({}),
        };
        self.one.change(verb, &body)
    }
}

/// Arguments of `runner pipeline drain`.
#[derive(Debug, Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    one: One,
}

impl Drain {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        self.one.change("drain", &json!({}))
    }
}

/// Arguments of `runner pipeline tap`.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows samples until Ctrl-C, or until the pipeline ends; it is never slower for it.

Examples:
  runner pipeline tap 17 'words->long'
  runner pipeline tap 17 'inverse.errors->bad' --json")]
pub(crate) struct Tap {
    #[command(flatten)]
    one: One,
    /// The edge, FROM->TO
    edge: String,
}

impl Tap {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let server = self.one.at.server()?;
        let edge: String = url::form_urlencoded::byte_serialize(self.edge.as_bytes()).collect();
        let path = self.one.path(&format!("/tap?edge={edge}"));
        block_on(async {
            tokio::select! {
                done = self.follow(&server, &path) => done,
                () = interrupted() => Ok(()),
            }
        })
    }

    async fn follow(&self, server: &Server, path: &str) -> anyhow::Result<()> {
        let mut stream = server.stream(path).await?;
        let mut reader = Reader::default();
        while let Some(bytes) = stream.chunk().await? {
            for event in reader.read(&bytes)? {
                match (event.name.as_str(), self.one.json) {
                    ("item", true) => screen::print(&event.data.to_string())?,
                    ("item", false) => screen::print(&sample(&event.data))?,
                    ("behind", _) => {
                        note("samples were missed: they come faster than they are read")
                    }
                    _ => {
                        let ended = event.data["state"]
                            .as_str()
                            .or(event.data["reason"].as_str());
                        note(&format!("the pipeline {}", line(ended.unwrap_or("ended"))));
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

fn sample(item: &Value) -> String {
    let lineage = item["lineage"].as_str().unwrap_or_default();
    match item.get("value") {
        Some(value) => format!("{lineage} {}", line(&value.to_string())),
        None => format!("{lineage} ({} bytes)", item["size"]),
    }
}

/// What is to be seen of a pipeline, for people.
fn shown(pipeline: &Value) -> String {
    let mut text = format!(
        "task {}: {}",
        pipeline["task"],
        pipeline["state"].as_str().unwrap_or_default()
    );
    let seen = &pipeline["seen"];
    let is = |value: &Value, key: &str| value[key].as_bool() == Some(true);
    if is(seen, "isPaused") {
        text.push_str(", paused");
    }
    if is(seen, "isDraining") {
        text.push_str(", draining");
    }
    for node in seen["nodes"].as_array().into_iter().flatten() {
        let held = if is(node, "isPaused") { ", paused" } else { "" };
        text.push_str(&format!(
            "\n{}: {} in, {} out, {} failed, {:.0}/s, p99 {:.1} ms{held}",
            line(node["name"].as_str().unwrap_or_default()),
            node["received"],
            node["sent"],
            node["failed"],
            node["rate"].as_f64().unwrap_or_default(),
            node["latency"]["p99"].as_f64().unwrap_or_default() * 1e3,
        ));
    }
    for edge in seen["edges"].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "\n{} -> {}: {} of {} waiting, {} sent",
            line(edge["from"].as_str().unwrap_or_default()),
            line(edge["to"].as_str().unwrap_or_default()),
            edge["fill"],
            edge["bound"],
            edge["sent"],
        ));
    }
    text
}
