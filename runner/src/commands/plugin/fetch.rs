//! `runner plugin fetch`.

use anstyle::Style;
use clap::Args;
use runner_fetch::GitPlugin;
use serde_json::{Value, json};

use crate::commands::task::block_on;
use crate::instance;
use crate::screen::{self, BAD, BOLD, Exit, Table, note};
use crate::settings::sources::Sources;
use crate::settings::{Flags, Settings};

/// Arguments of `runner plugin fetch`.
#[derive(Debug, Args)]
#[command(after_help = "\
The exit code is 1 if something could not be fetched; what was fetched before stays.

Examples:
  GIT_PLUGINS=git+https://github.com/me/plugins@v1 runner plugin fetch
  GIT_PLUGINS='git+file:///srv/plugins.git#subdirectory=stable' runner plugin fetch --json")]
pub(crate) struct Fetch {
    /// Prints a JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

impl Fetch {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let settings = Settings::read(&Sources::read(Flags::new())?)?;
        if settings.git_plugins.is_empty() {
            note("GIT_PLUGINS names nothing");
        }
        instance::make(&settings.instance)?;
        let fetched = block_on(async { Ok(settings.git_plugins.fetch().await) })?;
        match self.json {
            true => screen::print_json(&document(&fetched))?,
            false => screen::print(&shown(&fetched))?,
        }
        match fetched.iter().all(|plugin| plugin.problem.is_none()) {
            true => Ok(()),
            false => Err(Exit(1).into()),
        }
    }
}

fn document(fetched: &[GitPlugin]) -> Value {
    let all = fetched.iter().map(|plugin| {
        json!({
            "source": plugin.source,
            "commit": plugin.clone.as_ref().map(|clone| &clone.commit),
            "path": plugin.clone.as_ref().map(|clone| clone.path.display().to_string()),
            "problem": plugin.problem.as_ref().map(ToString::to_string),
        })
    });
    json!({ "plugins": all.collect::<Vec<_>>() })
}

fn shown(fetched: &[GitPlugin]) -> String {
    if fetched.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["SOURCE", "COMMIT", ""]);
    for plugin in fetched {
        let commit = plugin
            .clone
            .as_ref()
            .map_or("none", |clone| &clone.commit[..clone.commit.len().min(12)]);
        let (outcome, style) = match (&plugin.problem, &plugin.clone) {
            (Some(problem), _) => (problem.to_string(), BAD),
            (None, Some(clone)) => (clone.path.display().to_string(), Style::new()),
            (None, None) => (String::new(), Style::new()),
        };
        table.row([
            (&plugin.source, BOLD),
            (commit, Style::new()),
            (&outcome, style),
        ]);
    }
    table.text()
}
