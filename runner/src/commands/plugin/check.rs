//! `runner plugin check`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use runner_core::file::File;
use runner_core::module::ModuleState;
use runner_core::parameters::field::as_text;
use runner_core::parameters::{FieldKind, Form, FormValue};
use runner_core::plugin::{FormDescription, Plugin};
use runner_core::task::TaskState;
use runner_host::conformance::{self, Finding, Outcome};
use runner_host::loader::Look;
use runner_host::{Module, Provided};
use serde_json::{Value, json};

use crate::commands::Folders;
use crate::live::Live;
use crate::scratch::{Missing, Scratch, What};
use crate::screen::{self, BAD, Exit, GOOD, WARN, indent, line, lines, note, paint};
use crate::settings::Flags;
use crate::trial::Trial;
use crate::values::{Filled, shown_errors};

/// Arguments of `runner plugin check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Says what the file is, loads it, makes the checks of the plugin protocol with its processes, and runs its \
examples. The exit code is 1 if something is wrong; what is only worth a look does not count.

Examples:
  runner plugin check ./plugins/shout.py
  runner plugin check ./plugins/shout --no-run")]
pub(crate) struct Check {
    /// The plugin's file or folder.
    path: PathBuf,
    /// What loads the file, instead of choosing by its content and name: python, lua, native, wasm, pipeline, process, or one
    /// of the setting LOADERS.
    #[arg(long, value_name = "LOADER")]
    loader: Option<String>,
    /// Does not run the examples.
    #[arg(long)]
    no_run: bool,
    /// Seconds that the run of an example may take.
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    timeout: String,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

/// How a part of the check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Ok,
    Warning,
    Problem,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What was found, in the order in which it was looked for.
#[derive(Debug, Default)]
struct Report {
    findings: Vec<(Level, String, String)>,
    /// What the file is, without starting it.
    look: Option<Look>,
    /// The digest of the module.
    sha256: String,
    /// The checks of the protocol.
    protocol: Vec<Finding>,
    is_quiet: bool,
}

impl Report {
    /// Adds a finding, and shows it at once.
    fn add(&mut self, level: Level, what: &str, detail: impl Into<String>) -> anyhow::Result<()> {
        let detail = detail.into();
        if !self.is_quiet {
            let mark = match level {
                Level::Ok => paint(GOOD, "ok      "),
                Level::Warning => paint(WARN, "warning "),
                Level::Problem => paint(BAD, "problem "),
            };
            let detail = lines(&detail);
            let (first, rest) = detail.split_once('\n').unwrap_or((&detail, ""));
            let rest = if rest.is_empty() {
                String::new()
            } else {
                format!("\n{}", indent(rest, 10))
            };
            screen::print(&format!("{mark}{what}: {first}{rest}"))?;
        }
        self.findings.push((level, what.to_owned(), detail));
        Ok(())
    }

    fn has_problems(&self) -> bool {
        self.findings
            .iter()
            .any(|(level, ..)| *level == Level::Problem)
    }
}

impl Check {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let flags = Flags::from([("RUN_TIMEOUT", self.timeout.clone())]);
        let settings = Folders {
            plugin_folders: None,
        }
        .settings(flags)?;
        // What the plugin prints while it is loaded.
        crate::logging::of_command("runner_host::host=info,runner_host::environments=info");
        let mut report = Report {
            is_quiet: self.json,
            ..Report::default()
        };
        Scratch::with(settings, Missing::Made, async |scratch| {
            self.check(scratch, &mut report).await
        })?;
        let is_ok = !report.has_problems();
        if self.json {
            let findings: Vec<Value> = report
                .findings
                .iter()
                .map(|(level, what, detail)| json!({"level": level.word(), "what": what, "detail": detail}))
                .collect();
            screen::print_json(&json!({
                "path": self.path,
                "ok": is_ok,
                "sha256": report.sha256,
                "look": report.look,
                "findings": findings,
                "protocol": report.protocol,
            }))?;
        }
        if is_ok { Ok(()) } else { Err(Exit(1).into()) }
    }

    async fn check(&self, scratch: &Scratch, report: &mut Report) -> anyhow::Result<()> {
        let table = scratch
            .load(&What::Path(self.path.clone(), self.loader.clone()))
            .await?;
        let module = table.modules.first().context("nothing was loaded")?;
        let status = module.status();
        if status.loader.is_empty() {
            return report.add(Level::Problem, "module", status.reason.unwrap_or_default());
        }
        report.sha256.clone_from(&status.sha256);
        report.look = module.look();
        let what = report.look.as_ref().map(|look| look.what.as_str());
        report.add(
            Level::Ok,
            "module",
            match what {
                Some(what) => format!("{} ({}): {what}", status.name, status.loader),
                None => format!("{} ({})", status.name, status.loader),
            },
        )?;
        report.add(Level::Ok, "sha256", status.sha256.clone())?;
        if status.state != ModuleState::Running {
            return report.add(Level::Problem, "loading", status.reason.unwrap_or_default());
        }
        self.check_protocol(module, table.plugins(), report).await?;
        for provided in table.plugins() {
            self.check_plugin(scratch, provided, report).await?;
        }
        Ok(())
    }

    /// Makes the checks that every plugin must pass, whatever it is written in.
    async fn check_protocol(
        &self,
        module: &Module,
        plugins: &[Provided],
        report: &mut Report,
    ) -> anyhow::Result<()> {
        const WHAT: &str = "protocol";
        let runnable = plugins.iter().find_map(|provided| {
            let plugin = &provided.plugin;
            match example(&plugin.form) {
                Example::Whole(filled) if !needs_files(plugin) && !is_only_node(plugin) => {
                    Some(conformance::Example {
                        plugin: plugin.identifier.clone(),
                        parameters: filled.parameters,
                    })
                }
                _ => None,
            }
        });
        let runnable = runnable.filter(|_| !self.no_run);
        let limit: f64 = self.timeout.trim().parse().unwrap_or(60.0);
        let limit = Duration::try_from_secs_f64(limit).unwrap_or(Duration::MAX);
        report.protocol = conformance::examine(module, runnable, limit, |_| {}).await?;
        let mut passed = 0;
        for finding in report.protocol.clone() {
            match finding.outcome {
                Outcome::Passed => passed += 1,
                Outcome::Skipped(_) => {}
                Outcome::Failed(why) => report.add(
                    Level::Problem,
                    &format!("{WHAT}, {}", finding.check),
                    format!("{why}\npromised is: {}", finding.promise),
                )?,
            }
        }
        report.add(
            Level::Ok,
            WHAT,
            format!(
                "{} passed (docs/protocol.md has their list)",
                counted(passed, "check")
            ),
        )
    }

    async fn check_plugin(
        &self,
        scratch: &Scratch,
        provided: &Provided,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let plugin = &provided.plugin;
        let what = line(&plugin.identity.to_string());
        let count = plugin.form.parameters.fields().len();
        report.add(
            Level::Ok,
            &what,
            format!(
                "{}, {}",
                counted(count, "parameter"),
                counted(plugin.steps.len(), "step")
            ),
        )?;
        if plugin.description.is_empty() && plugin.form.help.is_empty() {
            report.add(
                Level::Warning,
                &what,
                "it says neither in `description` nor in `help` what it does",
            )?;
        }
        for (name, step) in &plugin.steps {
            if let Example::Wrong(errors) = example(step) {
                report.add(
                    Level::Problem,
                    &what,
                    format!("the example of the step {name} is not valid:{errors}"),
                )?;
            }
        }
        match example(&plugin.form) {
            Example::Wrong(errors) => {
                report.add(Level::Problem, &what, format!("the example is not valid:{errors}"))
            }
            Example::None => report.add(
                Level::Warning,
                &what,
                "it has no `example`: people find none in its form, and it was not run here",
            ),
            Example::Partial(missing) => report.add(
                Level::Warning,
                &what,
                format!(
                    "not run, as the example has no value for {missing}; try it with `runner plugin run {}`",
                    self.path.display()
                ),
            ),
            Example::Whole(_) if self.no_run => Ok(()),
            Example::Whole(_) if is_only_node(&provided.plugin) => report.add(
                Level::Ok,
                &what,
                "a node of pipelines without parameters: there is no example to run",
            ),
            Example::Whole(filled) => self.run_example(scratch, provided, filled, report).await,
        }
    }

    async fn run_example(
        &self,
        scratch: &Scratch,
        provided: &Provided,
        filled: Filled,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let plugin = &provided.plugin;
        let what = line(&plugin.identity.to_string());
        let trial = Trial::start(scratch, Vec::new(), None).await?;
        let mut live = Live::new(plugin.identity.name());
        let ended = trial.run(provided, filled, Vec::new(), &mut live).await;
        live.end();
        trial.stop().await?;
        let ended = ended?;
        if let Some(stuck) = ended.stuck {
            return report.add(
                Level::Ok,
                &what,
                format!("its example runs as far as a step: {stuck}"),
            );
        }
        let task = ended.task;
        match task.state {
            TaskState::Succeeded => {
                let outputs = counted(task.outputs.len(), "output");
                report.add(
                    Level::Ok,
                    &what,
                    format!("its example succeeds, with {outputs}"),
                )?;
            }
            TaskState::Cancelled => return Err(Exit(crate::scratch::INTERRUPTED).into()),
            _ => {
                note("");
                return report.add(
                    Level::Problem,
                    &what,
                    "its example fails; the log above says why",
                );
            }
        }
        for problem in broken_promises(plugin, &task.outputs) {
            report.add(Level::Warning, &what, problem)?;
        }
        Ok(())
    }
}

/// Whether it may do nothing by itself.
fn is_only_node(plugin: &Plugin) -> bool {
    plugin.node.is_some() && plugin.form.parameters.fields().is_empty()
}

/// Whether its example cannot be run without fetching something.
fn needs_files(plugin: &Plugin) -> bool {
    fn is_file(kind: &FieldKind) -> bool {
        match kind {
            FieldKind::Data(_) | FieldKind::Upload(_) => true,
            FieldKind::List(items) => is_file(items),
            _ => false,
        }
    }
    let fields = plugin.form.parameters.fields();
    fields.iter().any(|field| is_file(&field.kind))
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What the example values are worth.
enum Example {
    None,
    Whole(Filled),
    /// These required fields have no value.
    Partial(String),
    Wrong(String),
}

/// Checks the example values as a form would send them.
fn example(form: &FormDescription) -> Example {
    let parameters = &form.parameters;
    if form.example.is_empty() && !parameters.fields().is_empty() {
        return Example::None;
    }
    let mut sent = Form::default();
    for field in parameters.fields() {
        let is_upload = matches!(field.kind, FieldKind::Upload(_));
        let value = form
            .example
            .get(&field.key)
            .or_else(|| form.example.get(&field.id));
        if let Some(value) = value.filter(|_| !is_upload) {
            sent.push(field.key.clone(), FormValue::Text(as_text(value)));
        }
    }
    let mut checked = parameters.check_form(&sent);
    for key in form.example.keys() {
        let is_known = parameters
            .fields()
            .iter()
            .any(|field| field.key == *key || field.id == *key);
        if !is_known {
            checked.errors.insert(
                key.clone(),
                vec![runner_core::parameters::UNKNOWN.to_owned()],
            );
        }
    }
    let missing = |key: &String| {
        let field = parameters.field(key);
        field.is_some_and(|field| field.required && sent.all(&field.key).next().is_none())
    };
    let (partial, wrong): (Vec<String>, Vec<String>) =
        checked.errors.keys().cloned().partition(missing);
    if !wrong.is_empty() {
        checked.errors.retain(|key, _| wrong.contains(key));
        return Example::Wrong(shown_errors(parameters, &checked.errors));
    }
    match partial.is_empty() {
        true => Example::Whole(Filled {
            parameters: checked.values,
            uploads: Vec::new(),
        }),
        false => Example::Partial(partial.join(", ")),
    }
}

/// Where `dataOutput` and the outputs differ.
fn broken_promises(plugin: &Plugin, outputs: &[File]) -> Vec<String> {
    let fits = |data_type: &str, content_types: &[String], file: &File| {
        (data_type == "*" || data_type == file.data_type)
            && (content_types.is_empty() || content_types.contains(&file.content_type))
    };
    let mut problems = Vec::new();
    for promise in plugin.data_output.iter().filter(|promise| promise.required) {
        if !outputs
            .iter()
            .any(|file| fits(&promise.data_type, &promise.content_type, file))
        {
            let types = promise.content_type.join(" or ");
            problems.push(format!(
                "it promises an output {} ({types}), and its example made none",
                promise.data_type
            ));
        }
    }
    for file in outputs {
        if !plugin
            .data_output
            .iter()
            .any(|promise| fits(&promise.data_type, &promise.content_type, file))
        {
            let File {
                name,
                data_type,
                content_type,
                ..
            } = file;
            problems.push(format!(
                "the output {name} ({data_type}, {content_type}) is not in its list of outputs, so other \
                 plugins are not offered it"
            ));
        }
    }
    problems
}
