//! `runner plugin list`.

use anstyle::Style;
use clap::Args;
use runner_host::Trust;
use runner_host::modules::Table as Modules;
use serde_json::{Value, json};

use crate::client::At;
use crate::commands::Folders;
use crate::scratch::{Missing, Scratch, What};
use crate::screen::{self, BAD, BOLD, Table, WEAK, line, note};
use crate::settings::Flags;

/// Arguments of `runner plugin list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --url and RUNNER_URL the plugins are loaded from their folders, whether a runner serves or not.

Examples:
  runner plugin list
  runner plugin list --plugin-folders ~/plugins
  runner plugin list --url http://127.0.0.1:5005
  runner plugin list --json | jq -r '.plugins[].identifier'")]
pub(crate) struct List {
    #[command(flatten)]
    folders: Folders,
    #[command(flatten)]
    at: At,
    /// Prints the digests of all modules instead, as ALLOWED_MODULES takes them. Nothing is started for it.
    #[arg(long, conflicts_with_all = ["json", "url"])]
    digests: bool,
    /// Prints a JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

impl List {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        if self.digests {
            return self.print_digests();
        }
        let document = match self.at.given()? {
            Some(_) => {
                let server = self.at.server()?;
                crate::commands::task::block_on(async { server.get("plugins/").await })?
            }
            None => {
                let settings = self.folders.settings(Flags::new())?;
                if settings.plugin_folders.is_empty() {
                    note(
                        "there is no plugin folder here: make a folder `plugins`, or name others with --plugin-folders",
                    );
                }
                Scratch::with(settings, Missing::Told, async |scratch| {
                    Ok(document(&*scratch.load(&What::Folders).await?))
                })?
            }
        };
        if self.json {
            return screen::print_json(&document);
        }
        screen::print(&shown(&document))
    }
}

impl List {
    fn print_digests(&self) -> anyhow::Result<()> {
        let mut settings = self.folders.settings(Flags::new())?;
        // Only what is trusted is started.
        settings.trust = Trust::none();
        let table = Scratch::with(settings, Missing::Told, async |scratch| {
            scratch.load(&What::Folders).await
        })?;
        let mut text = String::new();
        for module in &table.modules {
            let status = module.status();
            let (name, path) = (line(&status.name), line(&status.path));
            text.push_str(&match status.sha256.as_str() {
                "" => format!("# {name} ({path}) cannot be read\n"),
                digest => format!("{digest}  # {name} ({path})\n"),
            });
        }
        screen::print(&text)
    }
}

fn document(table: &Modules) -> Value {
    let plugins: Vec<Value> = table
        .plugins()
        .iter()
        .map(|provided| {
            let plugin = &provided.plugin;
            json!({
                "identifier": plugin.identifier,
                "name": plugin.identity.name(),
                "version": plugin.identity.version(),
                "title": plugin.title,
                "description": plugin.description,
                "type": plugin.kind,
                "tags": plugin.tags,
                "module": provided.module.status().name,
            })
        })
        .collect();
    let modules: Vec<Value> = table
        .modules
        .iter()
        .map(|module| json!(module.status()))
        .collect();
    json!({ "plugins": plugins, "modules": modules })
}

fn shown(document: &Value) -> String {
    let items = |key: &str| {
        document
            .get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let text = |item: &Value, key: &str| {
        item.get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let plain = Style::new();
    let mut shown = String::new();
    let plugins = items("plugins");
    if plugins.is_empty() {
        shown.push_str("no plugins\n");
    } else {
        let mut table = Table::new(&["NAME", "VERSION", "TAGS", "DESCRIPTION"]);
        for plugin in &plugins {
            let tags: Vec<&str> = plugin
                .get("tags")
                .and_then(Value::as_array)
                .map(|tags| tags.iter().filter_map(Value::as_str).collect())
                .unwrap_or_default();
            table.row([
                (&text(plugin, "name"), BOLD),
                (&text(plugin, "version"), plain),
                (&tags.join(", "), WEAK),
                (&text(plugin, "description"), plain),
            ]);
        }
        shown.push_str(&table.text());
    }
    let failed: Vec<Value> = items("modules")
        .into_iter()
        .filter(|module| module.get("reason").is_some())
        .collect();
    if !failed.is_empty() {
        let mut table = Table::new(&["NOT LOADED", "REASON"]);
        for module in &failed {
            table.row([
                (&text(module, "path"), BAD),
                (&text(module, "reason"), plain),
            ]);
        }
        shown.push('\n');
        shown.push_str(&table.text());
        shown.push_str("`runner plugin check PATH` says more.\n");
    }
    shown
}
