//! `runner plugin run`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use futures::TryStreamExt as _;
use runner_core::file::File;
use runner_core::parameters::FieldErrors;
use runner_core::plugin::Plugin;
use runner_core::task::TaskState;
use runner_host::Provided;
use runner_store::Store;
use serde_json::{Value, json};

use crate::commands::Folders;
use crate::draft::Draft;
use crate::live::Live;
use crate::scratch::{INTERRUPTED, Missing, Scratch, interrupted};
use crate::screen::{self, BAD, Exit, GOOD, Table, WARN, WEAK, line, note, paint};
use crate::settings::Flags;
use crate::trial::{Ended, Trial};
use crate::values::{Filled, Given, GivenStep, errors_json, files, shown_errors, usage};

/// Arguments of `runner plugin run`.
#[derive(Debug, Args)]
#[command(after_help = "\
The exit code is 0 if the plugin succeeded, else 1. Its log goes to standard error, the list of its outputs \
to standard output. Ctrl-C cancels.

Examples:
  runner plugin run hello-world -p inputStr='my input'
  runner plugin run ./plugins/shout.py -p text=hello --output out
  runner plugin run entity-filter --input inputFileUrl=entities.csv -p numberOfRows=10
  runner plugin run hello-world-multi-step -p inputStr=a --step step1 inputStr=b")]
pub(crate) struct Run {
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
    /// A parameter, as it would be typed into the form.
    #[arg(short, long = "parameter", value_name = "KEY=VALUE")]
    parameters: Vec<String>,
    /// A file, or a URL, for a parameter that takes data or an upload.
    #[arg(short, long = "input", value_name = "KEY=FILE")]
    inputs: Vec<OsString>,
    /// A step that is submitted when the task asks for it: its id, then its values. Stands last; may be repeated.
    #[arg(long = "step", value_name = "ID KEY=VALUE", num_args = 1..)]
    steps: Vec<OsString>,
    /// Folder of the outputs; a file of the same name in it is replaced [default: NAME-output]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Seconds that a run may take [RUN_TIMEOUT, default 3600]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<String>,
    #[command(flatten)]
    folders: Folders,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Run {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut given = Vec::new();
        for text in &self.parameters {
            given.push(Given::read(text.as_ref(), false)?);
        }
        for text in &self.inputs {
            given.push(Given::read(text, true)?);
        }
        let steps = GivenStep::read_all(&self.steps)?;
        let timeout = self.timeout.clone().map(|timeout| ("RUN_TIMEOUT", timeout));
        let settings = self.folders.settings(Flags::from_iter(timeout))?;
        // Packages may have to be installed, which takes a while.
        crate::logging::of_command("runner_host::environments=info");
        Scratch::with_signals(settings, Missing::Made, async |scratch| {
            let prepared = tokio::select! {
                prepared = self.prepare(scratch, &given, &steps) => prepared?,
                () = interrupted() => return Err(Exit(INTERRUPTED).into()),
            };
            self.perform(prepared, steps).await
        })
    }

    async fn prepare<'a>(
        &self,
        scratch: &'a Scratch,
        given: &[Given],
        steps: &[GivenStep],
    ) -> anyhow::Result<Prepared<'a>> {
        let provided = scratch
            .find(&self.plugin, self.name.as_deref(), self.loader.as_deref())
            .await?;
        let mut roots = files(&[&provided.plugin.form.parameters], given);
        // A step may be that of a plugin that is called.
        let table = scratch.modules.table();
        let forms: Vec<_> = table
            .plugins()
            .iter()
            .flat_map(|provided| {
                provided
                    .plugin
                    .steps
                    .iter()
                    .map(|(_, form)| &form.parameters)
            })
            .collect();
        roots.extend(files(&forms, steps.iter().flat_map(|step| &step.values)));
        let trial = Trial::start(scratch, roots, None).await?;
        let filled = trial.fill(&provided.plugin, given).await;
        Ok(Prepared {
            provided,
            trial,
            filled,
        })
    }

    async fn perform(&self, prepared: Prepared<'_>, steps: Vec<GivenStep>) -> anyhow::Result<()> {
        let Prepared {
            provided,
            trial,
            filled,
        } = prepared;
        let plugin = &provided.plugin;
        let filled = match filled {
            Ok(filled) => filled,
            Err(errors) => {
                trial.stop().await?;
                return self.refuse(plugin, &errors);
            }
        };
        let outputs = Outputs::new(match &self.output {
            Some(folder) => folder.clone(),
            None => PathBuf::from(format!("{}-output", plugin.identity.name())),
        })?;
        let mut live = Live::new(plugin.identity.name());
        let ended = trial.run(&provided, filled, steps, &mut live).await;
        live.end();
        let placed = match &ended {
            Ok(ended) => outputs.take(trial.store(), &ended.task.outputs).await,
            Err(_) => Ok(Vec::new()),
        };
        trial.stop().await?;
        self.tell(plugin, &ended?, &placed?)
    }

    fn refuse(&self, plugin: &Plugin, errors: &FieldErrors) -> anyhow::Result<()> {
        if self.json {
            screen::print_json(&json!({
                "plugin": plugin.identifier,
                "state": "invalid",
                "errors": errors_json(errors),
            }))?;
        }
        let form = &plugin.form.parameters;
        bail!(
            "{} does not take these values:{}\nIt takes {}; `runner plugin show {}` says more.",
            line(&plugin.identity.to_string()),
            shown_errors(form, errors),
            usage(form),
            line(&self.plugin.to_string_lossy()),
        )
    }

    fn tell(&self, plugin: &Plugin, ended: &Ended, placed: &[Placed]) -> anyhow::Result<()> {
        let task = &ended.task;
        let state = match &ended.stuck {
            Some(_) => TaskState::Waiting,
            None => task.state,
        };
        if self.json {
            let outputs: Vec<Value> = placed.iter().map(|placed| placed.document()).collect();
            screen::print_json(&json!({
                "plugin": plugin.identifier,
                "state": state,
                "log": task.log,
                "progress": task.progress,
                "outputs": outputs,
                "links": task.links,
                "waitsFor": ended.stuck,
            }))?;
        } else {
            let mut table = Table::default();
            for placed in placed {
                let file = &placed.file;
                let (path, size) = match &placed.path {
                    Some(path) => (path.display().to_string(), format!("{} bytes", file.size)),
                    None => (file.url.clone().unwrap_or_default(), String::new()),
                };
                table.row([
                    (&path, screen::BOLD),
                    (&file.data_type, WEAK),
                    (&file.content_type, WEAK),
                    (&size, WEAK),
                ]);
            }
            for link in &task.links {
                table.row([
                    (&link.href, screen::BOLD),
                    (&link.kind, WEAK),
                    ("", WEAK),
                    ("", WEAK),
                ]);
            }
            screen::print(&table.text())?;
        }
        let name = line(&plugin.identity.to_string());
        match (state, &ended.stuck) {
            (_, Some(stuck)) => note(&format!("{} {stuck}", paint(WARN, "not finished:"))),
            (TaskState::Succeeded, _) => {
                note(&paint(GOOD, format!("{name} succeeded")));
                return Ok(());
            }
            (TaskState::Cancelled, _) => {
                note(&paint(WARN, format!("{name} was cancelled")));
                return Err(Exit(INTERRUPTED).into());
            }
            _ => note(&paint(BAD, format!("{name} failed"))),
        }
        Err(Exit(1).into())
    }
}

/// All that is needed for the run.
struct Prepared<'a> {
    provided: Provided,
    trial: Trial<'a>,
    filled: Result<Filled, FieldErrors>,
}

/// Where outputs go.
struct Outputs {
    folder: PathBuf,
    /// Whether it is ours to remove if nothing comes.
    is_new: bool,
}

/// An output in its place.
struct Placed {
    /// None: its content stands elsewhere.
    path: Option<PathBuf>,
    file: File,
}

impl Placed {
    fn document(&self) -> Value {
        let File {
            name,
            data_type,
            content_type,
            ..
        } = &self.file;
        match &self.path {
            Some(path) => json!({
                "path": path,
                "name": name,
                "dataType": data_type,
                "contentType": content_type,
                "size": self.file.size,
                "sha256": self.file.digest,
            }),
            None => json!({
                "url": self.file.url,
                "name": name,
                "dataType": data_type,
                "contentType": content_type,
            }),
        }
    }
}

impl Outputs {
    /// Makes the folder and makes sure that it can be written, before a plugin works for an hour.
    fn new(folder: PathBuf) -> anyhow::Result<Self> {
        let is_new = !folder.exists();
        let unusable = || {
            format!(
                "cannot write outputs into {} (--output names another folder)",
                folder.display()
            )
        };
        fs::create_dir_all(&folder).with_context(unusable)?;
        let outputs = Self {
            folder: folder.clone(),
            is_new,
        };
        tempfile::Builder::new()
            .prefix(".runner-")
            .tempfile_in(&folder)
            .with_context(unusable)?;
        Ok(outputs)
    }

    /// Moves the outputs here. Two of one name get numbers.
    async fn take(&self, store: &Store, outputs: &[File]) -> anyhow::Result<Vec<Placed>> {
        let mut names = BTreeSet::new();
        let mut placed = Vec::new();
        for file in outputs {
            let path = match file.url {
                Some(_) => None,
                None => {
                    let path = self.folder.join(unique(&file.name, &mut names));
                    place(store, file, &path)
                        .await
                        .with_context(|| format!("cannot write the output {}", path.display()))?;
                    Some(path)
                }
            };
            placed.push(Placed {
                path,
                file: file.clone(),
            });
        }
        Ok(placed)
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        if self.is_new {
            // Only an empty folder can be removed so.
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// The name, with a number where it was given already.
pub(crate) fn unique(name: &str, names: &mut BTreeSet<String>) -> String {
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
        _ => (name, String::new()),
    };
    let mut candidate = name.to_owned();
    let mut number = 2;
    while !names.insert(candidate.clone()) {
        candidate = format!("{stem}-{number}{extension}");
        number += 1;
    }
    candidate
}

/// Writes an output, whole or not at all. What stood there is replaced.
async fn place(store: &Store, file: &File, to: &Path) -> anyhow::Result<()> {
    let mut draft = Draft::create(to)?;
    let mut content = store.content(file, 0..file.size).await?;
    while let Some(piece) = content.try_next().await? {
        draft.write_all(&piece)?;
    }
    Ok(draft.keep()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_one_name_get_numbers() {
        let mut names = BTreeSet::new();
        let given = ["a.txt", "a.txt", "a-2.txt", "b", "b", ".x", ".x"];
        let unique = given.map(|name| unique(name, &mut names));
        assert_eq!(
            unique,
            ["a.txt", "a-2.txt", "a-2-2.txt", "b", "b-2", ".x", ".x-2"]
        );
    }
}
