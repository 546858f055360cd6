//! `runner pipeline`: one file per verb.

mod check;
mod graph;
mod run;

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
}

impl Pipeline {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check(check) => check.run(),
            Self::Run(run) => run.run(),
            Self::Graph(graph) => graph.run(),
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

/// Whether a node is not built in, so that plugins must be loaded.
fn needs_plugins(graph: &Graph) -> bool {
    let mut nodes = graph.nodes().iter();
    nodes.any(|node| !runner_pipeline::is_builtin(&node.uses))
}
