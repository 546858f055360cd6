//! `runner pipeline run`.

use std::collections::BTreeSet;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use runner_core::parameters::{Form, FormValue, Parameters};
use runner_flow::{Hosts, Nodes};
use runner_host::NodeHosts;
use runner_pipeline::surroundings::BuiltinsOnly;
use runner_pipeline::{
    Checked, Control, Graph, Lowering, Made, Outputs, RunError, Seen, Surroundings, start,
};
use serde_json::{Map, Value, json};

use super::{Source, needs_plugins};
use crate::caller::{Caller, CallerNodes, Known, KnownHosts};
use crate::commands::Folders;
use crate::commands::plugin::run::unique;
use crate::nodes::{PluginHosts, PluginNodes, Plugins, file_of};
use crate::scratch::{INTERRUPTED, Interrupts, Missing, Scratch, What, interrupted};
use crate::screen::{self, BAD, Exit, GOOD, WARN, line, lines, note, paint};
use crate::settings::Flags;
use crate::trial::Trial;
use crate::values::{errors_json, shown_errors, usage};

/// How often what is shown changes.
const TICK: Duration = Duration::from_millis(250);

/// Arguments of `runner pipeline run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Items of sinks with `output` go to standard output, one a line: text as it is, others as JSON. On a terminal, \
standard error shows the nodes at work. Ctrl-C ends the sources and lets go on what is on its way; a second one \
ends all. The exit code is 0 if the run succeeded, 1 if it failed, 130 if it was cancelled.

Examples:
  runner pipeline run words.pipeline.yaml
  runner pipeline run words.pipeline.yaml -p least=3 --json | tail -n 1")]
pub(crate) struct Run {
    #[command(flatten)]
    source: Source,
    /// A parameter of the pipeline, as it would be typed into a form.
    #[arg(short, long = "parameter", value_name = "KEY=VALUE")]
    parameters: Vec<String>,
    /// Folder of files that plugins make, if they reach a sink with `output` [default: NAME-output]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    folders: Folders,
    /// Prints each item as JSON with its node and lineage, and last what each node and edge did.
    #[arg(long)]
    json: bool,
    /// Functions of the program that runs this one, which are nodes, as JSON.
    #[arg(long, hide = true, value_name = "JSON")]
    caller: Option<String>,
}

impl Run {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let graph = self.source.graph()?;
        let params = self.params(&graph)?;
        let folder = match &self.output {
            Some(folder) => folder.clone(),
            None => PathBuf::from(format!("{}-output", self.source.name(&graph))),
        };
        let mut placing = Placing {
            folder,
            names: BTreeSet::new(),
        };
        let caller = self.caller.as_deref().map(Caller::new).transpose()?;
        let caller = caller.map(Arc::new);
        let is_own = |name: &str| caller.as_ref().is_some_and(|caller| caller.has(name));
        match needs_plugins(&graph, is_own) {
            true => self.with_plugins(graph, &params, &mut placing, caller),
            false => self.without_plugins(graph, &params, &mut placing, caller),
        }
    }

    /// Runs a pipeline of built-ins and functions of the caller.
    fn without_plugins(
        &self,
        graph: Graph,
        params: &Map<String, Value>,
        placing: &mut Placing,
        caller: Option<Arc<Caller>>,
    ) -> anyhow::Result<()> {
        let known = Known {
            caller: caller.as_deref(),
            others: &BuiltinsOnly,
        };
        let checked = Checked::new(graph, &known).with_context(|| self.source.shown())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(async {
            let hosts = KnownHosts::<PluginHosts> {
                caller,
                others: None,
            };
            let nodes = self.open(Arc::new(hosts), checked.graph(), params).await?;
            let nodes = CallerNodes(nodes);
            self.perform(&checked, params, &nodes, placing).await
        })
    }

    /// Runs a pipeline with plugins, each in its hosts.
    fn with_plugins(
        &self,
        graph: Graph,
        params: &Map<String, Value>,
        placing: &mut Placing,
        caller: Option<Arc<Caller>>,
    ) -> anyhow::Result<()> {
        let settings = self.folders.settings(Flags::default())?;
        let most_files = settings.node_files;
        Scratch::with_signals(settings, Missing::Made, async |scratch| {
            let table = tokio::select! {
                table = scratch.load(&What::Folders) => table?,
                () = interrupted() => return Err(Exit(INTERRUPTED).into()),
            };
            let known = Known {
                caller: caller.as_deref(),
                others: &Plugins::new(Arc::clone(&table)),
            };
            let checked = Checked::new(graph, &known).with_context(|| self.source.shown())?;
            // Files that plugins make are read by others from here.
            let made = scratch.folder.join("made");
            fs::create_dir(&made).context("cannot make a temporary folder")?;
            let trial = Trial::start(scratch, vec![made.clone()], None).await?;
            let hosts = Arc::new(NodeHosts::new(
                Arc::new(|text| note(&line(&text))),
                most_files,
            ));
            let performed = async {
                let known = KnownHosts {
                    caller,
                    others: Some(PluginHosts::new(
                        Arc::clone(&table),
                        Arc::clone(&hosts),
                        made.clone(),
                    )),
                };
                let nodes = self.open(Arc::new(known), checked.graph(), params).await?;
                let nodes = PluginNodes::new(trial.tasks(), table, made, nodes);
                self.perform(&checked, params, &nodes, placing).await
            };
            let performed = performed.await;
            hosts.end().await;
            trial.stop().await?;
            performed
        })
    }

    /// Opens the nodes that work in hosts.
    async fn open(
        &self,
        hosts: Arc<dyn Hosts>,
        graph: &Graph,
        params: &Map<String, Value>,
    ) -> anyhow::Result<Nodes> {
        tokio::select! {
            nodes = Nodes::open(hosts, graph, params) => nodes.map_err(|reason| {
                anyhow::anyhow!("{}: {}", line(&self.source.shown()), line(&reason))
            }),
            () = interrupted() => Err(Exit(INTERRUPTED).into()),
        }
    }

    /// The parameters, defaults filled in.
    fn params(&self, graph: &Graph) -> anyhow::Result<Map<String, Value>> {
        let parameters = Parameters::new(graph.parameters.clone())
            .with_context(|| format!("{}: parameters", self.source.shown()))?;
        let mut form = Form::default();
        for text in &self.parameters {
            let Some((key, value)) = text.split_once('=') else {
                bail!("{text:?} is no KEY=VALUE: there is no =");
            };
            form.push(key.to_owned(), FormValue::Text(value.to_owned()));
        }
        let errors = match parameters.check_form(&form).into_result() {
            Ok(values) => return Ok(values),
            Err(errors) => errors,
        };
        if self.json {
            let errors = errors_json(&errors);
            screen::print_json(&json!({"state": "invalid", "errors": errors}))?;
        }
        bail!(
            "{} does not take these values:{}\nIt takes {}",
            line(&self.source.shown()),
            shown_errors(&parameters, &errors),
            usage(&parameters),
        )
    }

    async fn perform(
        &self,
        checked: &Checked,
        params: &Map<String, Value>,
        surroundings: &dyn Surroundings,
        placing: &mut Placing,
    ) -> anyhow::Result<()> {
        let (run, outputs) = start(checked, params, surroundings, Lowering::default())
            .with_context(|| self.source.shown())?;
        let control = run.control();
        let board = Board::new();
        let result = {
            let work = async {
                let (printed, result) =
                    tokio::join!(self.print(outputs, placing, &board, &control), run.wait());
                printed.map(|()| result)
            };
            tokio::select! {
                result = work => result,
                () = watch(&control, &board) => return Err(Exit(INTERRUPTED).into()),
            }
        };
        board.end();
        self.tell(&control.look(), result?)
    }

    /// Prints what the run makes. A failure to print ends the run.
    async fn print(
        &self,
        mut outputs: Outputs,
        placing: &mut Placing,
        board: &Board,
        control: &Control,
    ) -> anyhow::Result<()> {
        while let Some(mut made) = outputs.next().await {
            let printed = placing.take(&mut made.value).and_then(|()| {
                let text = self.text(&made)?;
                board.aside(|| screen::print(&text))
            });
            if let Err(error) = printed {
                control.cancel();
                return Err(error);
            }
        }
        Ok(())
    }

    fn text(&self, made: &Made) -> anyhow::Result<String> {
        Ok(match &made.value {
            _ if self.json => format!("{}\n", serde_json::to_string(made)?),
            // Also an empty text is a line.
            Value::String(text) => format!("{}\n", lines(text)),
            value => format!("{value}\n"),
        })
    }

    fn tell(&self, seen: &Seen, result: Result<Seen, RunError>) -> anyhow::Result<()> {
        let state = match &result {
            Ok(_) => "succeeded",
            Err(RunError::Cancelled) => "cancelled",
            Err(RunError::Failed { .. }) => "failed",
        };
        if self.json {
            let reason = result.as_ref().err().map(ToString::to_string);
            let run = json!({"run": {"state": state, "reason": reason, "seen": seen}});
            screen::print(&format!("{run}\n"))?;
        }
        let name = line(&self.source.shown());
        match result {
            Ok(_) => {
                note(&paint(GOOD, format!("{name} succeeded")));
                Ok(())
            }
            Err(RunError::Cancelled) => {
                note(&paint(WARN, format!("{name} was cancelled")));
                Err(Exit(INTERRUPTED).into())
            }
            Err(error) => {
                let reason = line(&error.to_string());
                note(&format!(
                    "{} {reason}",
                    paint(BAD, format!("{name} failed:"))
                ));
                Err(Exit(1).into())
            }
        }
    }
}

/// Shows the run until it ends. Ctrl-C drains it, a second one cancels it, a third one is not waited
/// for.
async fn watch(control: &Control, board: &Board) {
    let mut interrupts = Interrupts::new();
    let mut heard = 0;
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = ticks.tick() => board.show(control),
            () = interrupts.next() => {
                heard += 1;
                match heard {
                    1 => {
                        control.drain();
                        board.say("sources end, and what is on its way goes on; Ctrl-C again ends all");
                    }
                    2 => control.cancel(),
                    _ => return,
                }
            }
        }
    }
}

/// Where files go that leave the pipeline.
struct Placing {
    folder: PathBuf,
    names: BTreeSet<String>,
}

impl Placing {
    /// Moves the file that an item is, if it is one, and names its new place.
    fn take(&mut self, value: &mut Value) -> anyhow::Result<()> {
        let Some(from) = file_of(value) else {
            return Ok(());
        };
        let name = from.file_name().unwrap_or_default().to_string_lossy();
        let name = value["name"].as_str().unwrap_or(&name).to_owned();
        let to = self.folder.join(unique(&name, &mut self.names));
        copy(&from, &to).with_context(|| format!("cannot write the output {}", to.display()))?;
        if let Value::Object(item) = value {
            item.shift_remove("url");
            item.insert("path".to_owned(), json!(to));
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).map(drop)
}

/// The nodes at work, at the bottom of a terminal.
struct Board(Option<ProgressBar>);

impl Board {
    fn new() -> Self {
        let is_wanted = std::io::stderr().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self(is_wanted.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        }))
    }

    fn show(&self, control: &Control) {
        if let Some(bar) = &self.0 {
            bar.set_message(shown(&control.look()));
            bar.tick();
        }
    }

    fn say(&self, text: &str) {
        self.aside(|| note(text));
    }

    fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(bar) => bar.suspend(work),
            None => work(),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// A line for each node: what it took, sent and lost, how fast, how full its inputs are.
fn shown(seen: &Seen) -> String {
    let width = seen
        .nodes
        .iter()
        .map(|node| node.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for node in &seen.nodes {
        let counts = &node.counts;
        let state = match (counts.is_ended, counts.is_paused || seen.is_paused) {
            (true, _) => "done",
            (false, true) => "held",
            (false, false) => "    ",
        };
        text.push_str(&format!(
            "{state} {:width$}  {:>10} in  {:>10} out  {:>9.0}/s",
            line(&node.name),
            counts.received,
            counts.sent,
            node.rate,
        ));
        let mut inputs = seen
            .edges
            .iter()
            .filter(|edge| edge.to == node.name && !edge.is_fused);
        if let Some(edge) = inputs.next() {
            text.push_str(&format!("  {}/{} waiting", edge.fill, edge.bound));
        }
        if counts.failed > 0 {
            text.push_str(&format!("  {} failed", counts.failed));
        }
        text.push('\n');
    }
    text.pop();
    text
}
