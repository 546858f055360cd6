//! `runner pipeline`: one file per verb.

mod check;
mod graph;
mod run;
mod task;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use runner_pipeline::{Format, Graph};
use serde_json::Value;

/// What can be done with pipelines.
#[derive(Debug, Subcommand)]
pub(crate) enum Pipeline {
    /// Says what is wrong with a pipeline, and where.
    Check(check::Check),
    /// Runs a pipeline without a server, and shows it at work.
    Run(run::Run),
    /// Prints the graph of a pipeline, to be drawn.
    Graph(graph::Graph),
    /// Says how a pipeline is doing that runs, or did, as a task.
    Status(task::Status),
    /// Holds a pipeline that runs as a task, or one of its nodes.
    Pause(task::Hold),
    /// Lets it go on, or one of its nodes.
    Resume(task::Hold),
    /// Ends its sources; what is on its way goes on to the end.
    Drain(task::Drain),
    /// Shows samples of what passes on an edge of it.
    Tap(task::Tap),
}

impl Pipeline {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check(check) => check.run(),
            Self::Run(run) => run.run(),
            Self::Graph(graph) => graph.run(),
            Self::Status(status) => status.run(),
            Self::Pause(hold) => hold.run("pause"),
            Self::Resume(hold) => hold.run("resume"),
            Self::Drain(drain) => drain.run(),
            Self::Tap(tap) => tap.run(),
        }
    }
}

/// The pipeline that is meant.
#[derive(Debug, Args)]
struct Source {
    /// The file: YAML, JSON or TOML, as its name ends.
    file: PathBuf,
}

impl Source {
    /// Reads the graph.
    fn graph(&self) -> anyhow::Result<Graph> {
        Graph::from_json(&self.document()?).with_context(|| self.shown())
    }

    fn document(&self) -> anyhow::Result<Value> {
        let path = &self.file;
        let Some(format) = Format::of(path) else {
            bail!(
                "{} is no pipeline: its name ends in .yaml, .json or .toml",
                path.display()
            );
        };
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        format.read(&text).with_context(|| self.shown())
    }

    fn shown(&self) -> String {
        self.file.display().to_string()
    }

    /// What the pipeline is called: its name, else that of its file up to the first dot.
    fn name(&self, graph: &Graph) -> String {
        if let Some(name) = &graph.name {
            return name.clone();
        }
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.split('.').next().filter(|stem| !stem.is_empty());
        stem.unwrap_or("pipeline").to_owned()
    }
}

/// Whether a node is neither built in nor known by its name, so that plugins must be loaded.
fn needs_plugins(graph: &Graph, is_known: impl Fn(&str) -> bool) -> bool {
    let mut names = graph.nodes().iter().map(|node| node.uses.as_str());
    names.any(|name| !runner_pipeline::is_builtin(name) && !is_known(name))
}
