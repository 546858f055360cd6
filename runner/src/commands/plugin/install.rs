//! `runner plugin install`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anstyle::Style;
use anyhow::Context;
use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use runner_host::discovery::{Candidate, Discovery};
use runner_host::loader::Loaders;
use runner_host::{Environments, EnvironmentsConfig, HostError, Requirements};
use serde_json::{Value, json};

use crate::commands::Folders;
use crate::git;
use crate::scratch::{INTERRUPTED, interrupted};
use crate::screen::{self, BAD, Exit, GOOD, Table, WEAK, line, lines, note};
use crate::settings::{Flags, Settings};

/// How often a bar moves by itself, to show that something lives.
const TICK: Duration = Duration::from_millis(120);
/// Digits of a digest that people are shown.
const SHORT: usize = 8;

/// Arguments of `runner plugin install`.
#[derive(Debug, Args)]
#[command(after_help = "\
Packages come from requirements.txt, pyproject.toml, plugin.toml and the head of a source (# /// script). Each set of \
them is an environment in the instance folder, made by uv where it is installed, else by venv and pip; what the \
variables of these say (UV_INDEX_URL, PIP_INDEX_URL, …) holds. `runner up` makes what is missing by itself.

Examples:
  runner plugin install
  runner plugin install --dry-run
  runner plugin install ./plugins/shout.py
  runner plugin install --prune")]
pub(crate) struct Install {
    /// Plugins (files or folders), or plugin folders; all plugin folders, and what was fetched for
    /// GIT_PLUGINS, if none is named.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    folders: Folders,
    /// Prints the requirements, with the files that ask for them, and installs nothing.
    #[arg(long)]
    dry_run: bool,
    /// Removes the environments that no plugin of the plugin folders needs, and that no runner uses.
    #[arg(long, conflicts_with_all = ["dry_run", "paths"])]
    prune: bool,
    /// Changes nothing: the runner needs no packages of Python for itself. Accepted for scripts that say it.
    #[arg(long)]
    skip_runner_requirements: bool,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

/// What a module needs.
struct Module {
    name: String,
    path: PathBuf,
    wanted: Result<Requirements, HostError>,
}

/// An environment, and the modules that need it.
struct Wanted {
    requirements: Requirements,
    modules: Vec<String>,
}

/// What became of an environment.
enum Outcome {
    Made,
    Present,
    Failed(String),
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Present => "present",
            Self::Failed(_) => "failed",
        }
    }
}

impl Install {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let settings = self.folders.settings(Flags::new())?;
        let modules = self.modules(&settings)?;
        if self.dry_run {
            return self.tell(&modules);
        }
        // Hosts of a runner that is root are another account, which has to read what is installed.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(async {
            tokio::select! {
                done = self.install(&settings, modules) => done,
                () = interrupted() => {
                    note("interrupted; what was not made to its end is not there");
                    Err(Exit(INTERRUPTED).into())
                }
            }
        })
    }

    /// The modules that are meant, without starting any.
    fn modules(&self, settings: &Settings) -> anyhow::Result<Vec<Module>> {
        let runner = std::env::current_exe().context("cannot find the runner's own program")?;
        let loaders = Loaders::with(settings.loaders.clone());
        let discovery = Discovery {
            loaders: &loaders,
            beside: runner.parent().unwrap_or(Path::new("/")),
            forced: None,
        };
        let (mut candidates, mut names) = (Vec::new(), BTreeSet::new());
        if self.paths.is_empty() {
            if settings.plugin_folders.is_empty() {
                note("there is no plugin folder here: name folders, or set PLUGIN_FOLDERS");
            }
            candidates = discovery.discover(&settings.plugin_folders, &mut names);
            let fetched = git::there(&settings.git_plugins);
            candidates.extend(discovery.look_at_fetched(fetched, &mut names));
        }
        for path in &self.paths {
            std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
            match discovery.is_plugin_folder(path) {
                true => {
                    candidates.extend(discovery.discover(std::slice::from_ref(path), &mut names))
                }
                false => {
                    let candidate = discovery.look_at_one(path);
                    candidates.push(candidate);
                }
            }
        }
        Ok(candidates.into_iter().map(module).collect())
    }

    fn tell(&self, modules: &[Module]) -> anyhow::Result<()> {
        let mut all = Requirements::default();
        for module in modules {
            if let Ok(wanted) = &module.wanted {
                all.extend(wanted.clone());
            }
        }
        if self.json {
            let asked: Vec<Value> = all
                .asked()
                .map(|(text, by)| json!({"requirement": text, "askedBy": by}))
                .collect();
            let modules: Vec<Value> = modules.iter().map(document).collect();
            screen::print_json(&json!({"requirements": asked, "modules": modules}))?;
        } else {
            let text: String = all
                .asked()
                .map(|(text, by)| format!("{}  # {}\n", line(text), line(&by.join(", "))))
                .collect();
            screen::print(&text)?;
        }
        failed(modules)
    }

    async fn install(&self, settings: &Settings, modules: Vec<Module>) -> anyhow::Result<()> {
        let config = place(settings)?;
        let environments = Environments::new(config, settings.python.clone());
        let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
        let mut refused = Vec::new();
        for mut module in modules {
            let asked = match &module.wanted {
                Ok(requirements) => environments.digest(requirements).await,
                Err(_) => Ok(None),
            };
            match (asked, &module.wanted) {
                (Ok(Some(digest)), Ok(requirements)) => {
                    let entry = wanted.entry(digest).or_insert_with(|| Wanted {
                        requirements: Requirements::default(),
                        modules: Vec::new(),
                    });
                    entry.requirements.extend(requirements.clone());
                    entry.modules.push(module.name);
                }
                (Err(error), _) => {
                    module.wanted = Err(error);
                    refused.push(module);
                }
                (_, Err(_)) => refused.push(module),
                (Ok(None), Ok(_)) => {}
            }
        }
        let outcomes = make(&environments, &wanted).await;
        let removed = match self.prune && refused.is_empty() {
            true => {
                let kept: BTreeSet<String> = wanted.keys().cloned().collect();
                environments.prune(kept, Duration::ZERO).await?
            }
            false => Vec::new(),
        };
        if self.prune && !refused.is_empty() {
            note("nothing was removed: it is not known what all plugins need");
        }
        self.report(&wanted, &outcomes, &removed)?;
        let is_whole = !outcomes
            .iter()
            .any(|outcome| matches!(outcome, Outcome::Failed(_)));
        failed(&refused)?;
        if is_whole {
            Ok(())
        } else {
            Err(Exit(1).into())
        }
    }

    fn report(
        &self,
        wanted: &BTreeMap<String, Wanted>,
        outcomes: &[Outcome],
        removed: &[String],
    ) -> anyhow::Result<()> {
        if self.json {
            let environments: Vec<Value> = wanted
                .iter()
                .zip(outcomes)
                .map(|((digest, wanted), outcome)| {
                    let asked: Vec<&str> =
                        wanted.requirements.asked().map(|(text, _)| text).collect();
                    let mut document = json!({"environment": digest, "state": outcome.word(),
                        "requirements": asked, "modules": wanted.modules});
                    if let Outcome::Failed(reason) = outcome {
                        document["reason"] = json!(reason);
                    }
                    document
                })
                .collect();
            return screen::print_json(&json!({"environments": environments, "removed": removed}));
        }
        for outcome in outcomes {
            if let Outcome::Failed(reason) = outcome {
                note(&lines(reason));
            }
        }
        if wanted.is_empty() && removed.is_empty() {
            return screen::print("no plugin needs packages");
        }
        let mut table = Table::new(&["ENVIRONMENT", "STATE", "PLUGINS", "PACKAGES"]);
        for ((digest, wanted), outcome) in wanted.iter().zip(outcomes) {
            let style = match outcome {
                Outcome::Failed(_) => BAD,
                _ => GOOD,
            };
            table.row([
                (&digest[..SHORT], WEAK),
                (outcome.word(), style),
                (&wanted.modules.join(", "), Style::new()),
                (&wanted.requirements.shown(), Style::new()),
            ]);
        }
        for digest in removed {
            table.row([
                (&digest[..SHORT], WEAK),
                ("removed", WEAK),
                ("", Style::new()),
                ("", Style::new()),
            ]);
        }
        screen::print(&table.text())
    }
}

/// Where environments are installed: in the shared folder, if there is one.
fn place(settings: &Settings) -> anyhow::Result<EnvironmentsConfig> {
    let config = settings.environments(&settings.instance, true);
    if let Some(shared) = config.shared {
        return Ok(EnvironmentsConfig {
            folder: shared,
            shared: None,
            ..config
        });
    }
    let instance = crate::instance::make(&settings.instance)?;
    Ok(settings.environments(&instance, true))
}

fn module(candidate: Candidate) -> Module {
    let wanted = candidate
        .found
        .and_then(|found| Requirements::of(&candidate.path, &found));
    Module {
        name: candidate.name,
        path: candidate.path,
        wanted,
    }
}

fn document(module: &Module) -> Value {
    let mut document = json!({"name": module.name, "path": module.path});
    match &module.wanted {
        Ok(wanted) => {
            let asked: Vec<&str> = wanted.asked().map(|(text, _)| text).collect();
            document["requirements"] = json!(asked);
        }
        Err(error) => document["reason"] = json!(error.to_string()),
    }
    document
}

/// Says which modules it is not known of what they need.
fn failed(modules: &[Module]) -> anyhow::Result<()> {
    let mut is_whole = true;
    for module in modules {
        if let Err(error) = &module.wanted {
            is_whole = false;
            note(&line(&format!("{}: {error}", module.name)));
        }
    }
    if is_whole {
        Ok(())
    } else {
        Err(Exit(1).into())
    }
}

/// Makes what is missing; the outcomes are in the order of what is wanted.
async fn make(environments: &Environments, wanted: &BTreeMap<String, Wanted>) -> Vec<Outcome> {
    let is_wanted = std::io::stderr().is_terminal()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let bars = is_wanted.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
    let one = async |digest: &String, wanted: &Wanted| {
        let bar = bars.as_ref().map(|bars| bars.add(bar(&digest[..SHORT])));
        let told = |text: &str| match &bar {
            Some(bar) => bar.set_message(line(text)),
            None => note(&format!("{}  {}", &digest[..SHORT], line(text))),
        };
        let made = environments.get(digest, &wanted.requirements, &told).await;
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        match made {
            Ok(environment) if environment.is_new => Outcome::Made,
            Ok(_) => Outcome::Present,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    };
    let made = wanted.iter().map(|(digest, wanted)| one(digest, wanted));
    futures::future::join_all(made).await
}

fn bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(name.to_owned());
    bar.enable_steady_tick(TICK);
    bar
}
