//! `runner pipeline check`.

use clap::Args;
use runner_pipeline::surroundings::BuiltinsOnly;
use runner_pipeline::{Checked, GraphError};
use serde_json::json;

use super::{Source, needs_plugins};
use crate::commands::Folders;
use crate::nodes::Plugins;
use crate::scratch::{Missing, Scratch, What};
use crate::screen::{self, BAD, Exit, GOOD, line, note, paint};
use crate::settings::Flags;

/// Arguments of `runner pipeline check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Plugins are loaded if the pipeline names any. Files of sources and sinks are not looked at.

Examples:
  runner pipeline check words.pipeline.yaml
  runner pipeline check words.pipeline.yaml --json")]
pub(crate) struct Check {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    folders: Folders,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let document = self.source.document()?;
        let graph = match runner_pipeline::Graph::from_json(&document) {
            Ok(graph) => graph,
            Err(error) => return self.tell(Err(error)),
        };
        if !needs_plugins(&graph, |_| false) {
            return self.tell(Checked::new(graph, &BuiltinsOnly));
        }
        let settings = self.folders.settings(Flags::default())?;
        Scratch::with(settings, Missing::Told, async |scratch| {
            let table = scratch.load(&What::Folders).await?;
            self.tell(Checked::new(graph, &Plugins::new(table)))
        })
    }

    fn tell(&self, checked: Result<Checked, GraphError>) -> anyhow::Result<()> {
        let file = self.source.shown();
        match checked {
            Ok(checked) => {
                let graph = checked.graph();
                let (nodes, edges) = (graph.nodes().len(), graph.edges().len());
                if self.json {
                    return screen::print_json(&json!({
                        "file": file, "valid": true, "nodes": nodes, "edges": edges,
                    }));
                }
                let said = format!(
                    "{} is a pipeline of {nodes} nodes and {edges} edges",
                    line(&file)
                );
                screen::print(&paint(GOOD, said))
            }
            Err(error) => {
                if self.json {
                    screen::print_json(&json!({
                        "file": file, "valid": false,
                        "place": error.place, "problem": error.problem.to_string(),
                    }))?;
                }
                let said = format!("{}: {}", line(&file), line(&error.to_string()));
                note(&paint(BAD, said));
                Err(Exit(1).into())
            }
        }
    }
}
