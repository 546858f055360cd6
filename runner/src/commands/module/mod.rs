//! `runner module`: one file per verb, or for a few that are alike.

mod debug;
mod end;
mod list;
mod load;
mod measure;
mod reload;
mod show;
mod trace;

use clap::{Args, Subcommand};
use runner_core::identity::url_segment;
use serde_json::Value;

use super::task::block_on;
use crate::client::At;

/// What can be done with modules.
#[derive(Debug, Subcommand)]
pub(crate) enum Module {
    /// Lists modules, with what each provides and does.
    List(list::List),
    /// Shows a module: what it was loaded from, its processes, why it is not running.
    Show(show::Show),
    /// Loads a file or folder, and waits until it is RUNNING.
    Load(load::Load),
    /// Loads a module again that is EXITED.
    Start(load::Start),
    /// Puts the newer version of a module into its place; what runs on the older one goes on to its end.
    Reload(reload::Reload),
    /// Ends a module, which stays known.
    Stop(end::End),
    /// Ends a module and forgets it.
    #[command(alias = "delete")]
    Remove(end::End),
    /// What the runs and processes of a module came to.
    Stats(measure::Stats),
    /// What the living processes of a module have used.
    Rusage(measure::Rusage),
    /// Asks a process of a module for a sign of life.
    Ping(measure::Ping),
    /// Shows the messages of a module's processes as they go by.
    Trace(trace::Trace),
    /// Holds up messages of a module's processes, as if it were stuck.
    Debug(debug::Debug),
}

impl Module {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Show(show) => show.run(),
            Self::Load(load) => load.run(),
            Self::Start(start) => start.run(),
            Self::Reload(reload) => reload.run(),
            Self::Stop(end) => end.stop(),
            Self::Remove(end) => end.remove(),
            Self::Stats(stats) => stats.run(),
            Self::Rusage(rusage) => rusage.run(),
            Self::Ping(ping) => ping.run(),
            Self::Trace(trace) => trace.run(),
            Self::Debug(debug) => debug.run(),
        }
    }
}

/// The module that is meant, and where it is.
#[derive(Debug, Args)]
struct One {
    /// The name of the module.
    name: String,
    #[command(flatten)]
    at: At,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl One {
    /// The path of something about it at the server.
    fn path(&self, what: &str) -> String {
        format!("modules/{}/{what}", url_segment(&self.name))
    }
}

/// How long runs may take to end.
#[derive(Debug, Args)]
struct Deadline {
    /// Seconds that runs may take to end; then they are ended [MODULE_DRAIN of the runner, default 30]
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<f64>,
}

impl Deadline {
    fn query(&self) -> String {
        self.deadline
            .map_or_else(String::new, |seconds| format!("?deadline={seconds}"))
    }
}

/// A JSON array, as `--args` takes it.
fn array(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(Value::Array(items)) => Ok(Value::Array(items)),
        Ok(_) => Err("expected a JSON array such as '[\"a\", 1]'".to_owned()),
        Err(error) => Err(format!(
            "expected a JSON array such as '[\"a\", 1]': {error}"
        )),
    }
}

fn text<'a>(module: &'a Value, key: &str) -> &'a str {
    module.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(module: &Value, key: &str) -> u64 {
    module.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn items<'a>(module: &'a Value, key: &str) -> &'a [Value] {
    let items = module.get(key).and_then(Value::as_array);
    items.map(Vec::as_slice).unwrap_or_default()
}

/// What became of it, in a line.
fn outcome(module: &Value) -> String {
    let plugins: Vec<&str> = items(module, "plugins")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    format!(
        "{}: {}, {}",
        text(module, "name"),
        text(module, "state"),
        plugins.join(", ")
    )
}

/// Bytes for people.
fn bytes(size: u64) -> String {
    match size {
        0..10_240 => format!("{size} B"),
        10_240..10_485_760 => format!("{} KiB", size >> 10),
        _ => format!("{} MiB", size >> 20),
    }
}
