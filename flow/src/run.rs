//! One run of a pipeline as a task.

use std::path::PathBuf;
use std::sync::Arc;

use runner_host::hosted::{Calls, Sockets};
use runner_pipeline::{Control, Lowering, RunError, Seen, start};
use runner_sdk::failure::code;
use runner_sdk::{HostCalls, RunFailure};
use serde_json::{Map, Value, json};

use crate::hosts::ByRunner;
use crate::leaving::{Shown, write};
use crate::live::Live;
use crate::module::Module;
use crate::nodes::Nodes;
use crate::world::World;

/// Runs the pipeline to its end. Hands out its control as soon as there is one.
pub(crate) fn perform(
    module: &Module,
    params: &Value,
    calls: &Arc<Calls>,
    sockets: Option<&Arc<Sockets>>,
    begun: impl FnOnce(Control),
) -> Result<Value, RunFailure> {
    let failed = |reason: String| RunFailure::new(code::FAILED, reason);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| failed(format!("cannot start the runtime: {error}")))?;
    let directory = PathBuf::from(params["directory"].as_str().unwrap_or_default());
    let values = module.values(parameters(params));
    let result = runtime.block_on(async {
        let nodes = match sockets {
            Some(sockets) => {
                let hosts = ByRunner {
                    calls: Arc::clone(calls),
                    sockets: Arc::clone(sockets),
                    task: params["task"].clone(),
                };
                let graph = module.checked.graph();
                let opened = Nodes::open(Arc::new(hosts), graph, &values).await;
                Some(opened.map_err(failed)?)
            }
            None => None,
        };
        let world = World::new(module, params, &directory, calls, nodes);
        let started = start(&module.checked, &values, &world, Lowering::default());
        let (run, outputs) = started.map_err(|error| failed(error.to_string()))?;
        let control = run.control();
        begun(control.clone());
        let live = Live::begin(control.clone(), module.checked.graph(), params, calls);
        let shown = module.is_given.then_some(Shown {
            calls,
            task: &params["task"],
        });
        let writing = async {
            let written = write(outputs, &directory, shown).await;
            if written.is_err() {
                control.cancel();
            }
            written
        };
        let (written, ended) = tokio::join!(writing, run.wait());
        live.end();
        let files = written.map_err(|error| failed(format!("cannot write an output: {error}")))?;
        let seen = ended.map_err(|error| match error {
            RunError::Cancelled => RunFailure::new(code::CANCELLED, "cancelled"),
            error => failed(error.to_string()),
        })?;
        for mut file in files {
            file["task"] = params["task"].clone();
            calls.notify("output", file);
        }
        Ok(json!({"log": summary(&seen)}))
    });
    // A call that is not waited for any more ends with its task.
    runtime.shutdown_background();
    result
}

/// The parameters; for one that is a file, where that is.
fn parameters(params: &Value) -> Map<String, Value> {
    let mut values = params["parameters"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    for (key, input) in params["inputs"].as_object().into_iter().flatten() {
        let path = match input {
            Value::Array(list) => list.iter().map(|input| input["path"].clone()).collect(),
            input => input["path"].clone(),
        };
        values.insert(key.clone(), path);
    }
    values
}

/// What each node did, a line each.
fn summary(seen: &Seen) -> String {
    let lines = seen.nodes.iter().map(|node| {
        let counts = &node.counts;
        let failed = match counts.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        format!(
            "{}: {} in, {} out{failed}",
            node.name, counts.received, counts.sent
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}
