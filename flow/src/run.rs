//! One run of a pipeline as a task.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runner_host::hosted::Calls;
use runner_pipeline::{Control, Lowering, Outputs, RunError, Seen, start};
use runner_sdk::failure::code;
use runner_sdk::{HostCalls, RunFailure};
use serde_json::{Map, Value, json};

use crate::module::{ITEMS, LINES, Module};
use crate::world::World;

/// Runs the pipeline to its end. Hands out its control as soon as there is one.
pub(crate) fn perform(
    module: &Module,
    params: &Value,
    calls: &Arc<Calls>,
    begun: impl FnOnce(Control),
) -> Result<Value, RunFailure> {
    let failed = |reason: String| RunFailure::new(code::FAILED, reason);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| failed(format!("cannot start the runtime: {error}")))?;
    let directory = PathBuf::from(params["directory"].as_str().unwrap_or_default());
    let world = World::new(module, params, &directory, calls);
    let result = runtime.block_on(async {
        let started = start(
            &module.checked,
            &parameters(params),
            &world,
            Lowering::default(),
        );
        let (run, outputs) = started.map_err(|error| failed(error.to_string()))?;
        let control = run.control();
        begun(control.clone());
        let writing = async {
            let written = write(outputs, &directory).await;
            if written.is_err() {
                control.cancel();
            }
            written
        };
        let (written, ended) = tokio::join!(writing, run.wait());
        let files = written.map_err(|error| failed(format!("cannot write an output: {error}")))?;
        let seen = ended.map_err(|error| match error {
            RunError::Cancelled => RunFailure::new(code::CANCELLED, "cancelled"),
            error => failed(error.to_string()),
        })?;
        for name in files {
            calls.notify(
                "output",
                json!({
                    "task": params["task"], "path": name, "name": name,
                    "dataType": ITEMS, "contentType": LINES,
                }),
            );
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

/// Writes what leaves the pipeline, for each node a file; their names.
async fn write(mut outputs: Outputs, directory: &Path) -> std::io::Result<Vec<String>> {
    let mut files: HashMap<Arc<str>, BufWriter<File>> = HashMap::new();
    let mut names = Vec::new();
    while let Some(made) = outputs.next().await {
        let file = match files.get_mut(&made.node) {
            Some(file) => file,
            None => {
                let name = format!("{}.jsonl", made.node.replace('/', "_"));
                let file = BufWriter::new(File::create(directory.join(&name))?);
                names.push(name);
                files.entry(made.node).or_insert(file)
            }
        };
        writeln!(file, "{}", made.value)?;
    }
    for file in files.values_mut() {
        file.flush()?;
    }
    Ok(names)
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
