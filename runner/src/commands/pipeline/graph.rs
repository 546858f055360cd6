//! `runner pipeline graph`.

use clap::{Args, ValueEnum};

use super::Source;
use crate::screen;

/// Arguments of `runner pipeline graph`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner pipeline graph words.pipeline.yaml                         for a Markdown page
  runner pipeline graph words.pipeline.yaml --format dot | dot -Tsvg > words.svg")]
pub(crate) struct Graph {
    #[command(flatten)]
    source: Source,
    /// The language of the graph.
    #[arg(long, value_enum, default_value_t = Language::Mermaid)]
    format: Language,
}

/// A language of graphs.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Language {
    /// Flow charts of Mermaid.
    Mermaid,
    /// Graphviz.
    Dot,
    /// Nodes and edges as JSON.
    Json,
}

impl Graph {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let graph = self.source.graph()?;
        match self.format {
            Language::Mermaid => screen::print(&graph.mermaid()),
            Language::Dot => screen::print(&graph.dot()),
            Language::Json => screen::print_json(&serde_json::to_value(graph.picture())?),
        }
    }
}
