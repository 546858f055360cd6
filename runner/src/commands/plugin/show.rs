//! `runner plugin show`.

use std::path::PathBuf;

use anstyle::Style;
use clap::Args;
use runner_core::parameters::Parameters;
use runner_core::parameters::field::as_text;
use runner_core::plugin::{FormDescription, Plugin};
use runner_host::Provided;
use serde_json::{Value, json};

use crate::client::{At, Server};
use crate::commands::Folders;
use crate::commands::task::block_on;
use crate::scratch::{Missing, Scratch};
use crate::screen::{self, BOLD, Table, WEAK, indent, line, lines, paint};
use crate::settings::Flags;
use crate::values::{is_file, kind_name};

/// Arguments of `runner plugin show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner plugin show hello-world
  runner plugin show hello-world@v0.2.1 --json
  runner plugin show ./plugins/shout.py")]
pub(crate) struct Show {
    /// The plugin's name (its newest version), name@version or identifier; or the path of its file or folder.
    #[arg(value_name = "NAME_OR_PATH")]
    plugin: PathBuf,
    /// Which one, where the path has several.
    #[arg(long = "plugin", value_name = "NAME")]
    name: Option<String>,
    /// What loads the file, instead of choosing by its content and name: python, lua, native, wasm, pipeline, process, or one
    /// of the setting LOADERS.
    #[arg(long, value_name = "LOADER")]
    loader: Option<String>,
    #[command(flatten)]
    folders: Folders,
    #[command(flatten)]
    at: At,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        if let Some(url) = self.at.given()? {
            // What a server tells is a document; its form is for browsers.
            let server = Server::new(&url)?;
            let name = self.plugin.to_string_lossy();
            let path = format!("plugins/{}/", runner_core::identity::url_segment(&name));
            return screen::print_json(&block_on(async { server.get(&path).await })?);
        }
        let settings = self.folders.settings(Flags::new())?;
        let provided = Scratch::with(settings, Missing::Told, async |scratch| {
            scratch
                .find(&self.plugin, self.name.as_deref(), self.loader.as_deref())
                .await
        })?;
        match self.json {
            true => screen::print_json(&document(&provided)),
            false => screen::print(&shown(&provided)),
        }
    }
}

fn document(provided: &Provided) -> Value {
    let plugin = &provided.plugin;
    let form = |form: &FormDescription| {
        json!({
            "title": form.title,
            "help": form.help,
            "parameters": form.parameters.schema(),
            "example": form.example,
        })
    };
    let steps: Vec<Value> = plugin
        .steps
        .iter()
        .map(|(name, step)| {
            let mut shown = form(step);
            shown["step"] = json!(name);
            shown
        })
        .collect();
    let mut shown = form(&plugin.form);
    for (key, value) in [
        ("identifier", json!(plugin.identifier)),
        ("name", json!(plugin.identity.name())),
        ("version", json!(plugin.identity.version())),
        ("description", json!(plugin.description)),
        ("type", json!(plugin.kind)),
        ("tags", json!(plugin.tags)),
        ("dataInput", json!(plugin.data_inputs())),
        ("dataOutput", json!(plugin.data_output)),
        ("pluginDependencies", json!(plugin.plugin_dependencies())),
        ("links", json!(plugin.links)),
        ("steps", json!(steps)),
        ("module", json!(provided.module.status())),
    ] {
        shown[key] = value;
    }
    shown
}

fn shown(provided: &Provided) -> String {
    let plugin = &provided.plugin;
    let module = provided.module.status();
    let mut text = format!("{}\n", paint(BOLD, line(&plugin.identity.to_string())));
    if plugin.title != plugin.identity.name() {
        text.push_str(&format!("{}\n", line(&plugin.title)));
    }
    if !plugin.description.is_empty() {
        text.push_str(&format!("{}\n", line(&plugin.description)));
    }
    let mut facts = Table::default();
    let plain = Style::new();
    facts.row([("identifier", WEAK), (&plugin.identifier, plain)]);
    facts.row([("type", WEAK), (&as_text(&json!(plugin.kind)), plain)]);
    if !plugin.tags.is_empty() {
        facts.row([("tags", WEAK), (&plugin.tags.join(", "), plain)]);
    }
    facts.row([
        ("module", WEAK),
        (&format!("{} ({})", module.path, module.loader), plain),
    ]);
    facts.row([("sha256", WEAK), (&module.sha256, plain)]);
    text.push_str(&format!("\n{}", facts.text()));
    if !plugin.form.help.is_empty() {
        text.push_str(&format!(
            "\n{}\n",
            indent(&lines(plugin.form.help.trim()), 2)
        ));
    }
    text.push_str(&format!(
        "\n{}",
        parameters("parameters", &plugin.form.parameters)
    ));
    for (name, step) in &plugin.steps {
        text.push_str(&format!(
            "\n{}",
            parameters(&format!("step {name}"), &step.parameters)
        ));
    }
    if !plugin.data_output.is_empty() {
        let mut table = Table::default();
        for output in &plugin.data_output {
            let is_optional = if output.required { "" } else { "optional" };
            let types = output.content_type.join(", ");
            table.row([
                (&output.data_type, BOLD),
                (&types, plain),
                (is_optional, WEAK),
            ]);
        }
        text.push_str(&format!(
            "\n{}\n{}",
            paint(WEAK, "outputs"),
            indent(&table.text(), 2)
        ));
        text.push('\n');
    }
    text.push_str(&format!(
        "\n{}\n  {}\n",
        paint(WEAK, "run it"),
        lines(&example(plugin))
    ));
    text
}

fn parameters(heading: &str, parameters: &Parameters) -> String {
    let heading = paint(WEAK, heading);
    if parameters.fields().is_empty() {
        return format!("{heading}\n  none\n");
    }
    let plain = Style::new();
    let mut table = Table::default();
    for field in parameters.fields() {
        let need = match &field.default {
            _ if field.required => "required".to_owned(),
            Some(default) => format!("default {}", as_text(default)),
            None => "optional".to_owned(),
        };
        let label = match field.help.is_empty() {
            true => field.label.clone(),
            false => format!("{}: {}", field.label, field.help),
        };
        table.row([
            (&field.key, BOLD),
            (&kind_name(&field.kind), plain),
            (&need, plain),
            (&label, WEAK),
        ]);
    }
    format!("{heading}\n{}\n", indent(&table.text(), 2))
}

/// A command to paste, with the example values where there are any.
fn example(plugin: &Plugin) -> String {
    let mut command = format!("runner plugin run {}", quoted(plugin.identity.name()));
    for field in plugin.form.parameters.fields() {
        let value = plugin.form.example.get(&field.key);
        if value.is_none() && !field.required {
            continue;
        }
        let flag = if is_file(&field.kind) {
            "--input"
        } else {
            "-p"
        };
        let value = value.map_or_else(|| "…".to_owned(), as_text);
        command.push_str(&format!(
            " {flag} {}",
            quoted(&format!("{}={value}", field.key))
        ));
    }
    command
}

/// As a shell reads it as one word.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:@,+%".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}
