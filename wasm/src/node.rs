//! A plugin as a node of a pipeline: one instance while it is open, in a thread of its own.

use std::sync::Arc;

use runner_host::hosted::{Node, NodeCall, write_failure};
use runner_host::manifest::GuestLimits;
use runner_sdk::RunFailure;
use runner_sdk::failure::code;
use serde_json::Value;
use wasmtime::{Engine, InstancePre};

use crate::guest::{Answer, Guest, Heard, Request, Talk, live};

/// A node that is open.
pub(crate) struct WasmNode {
    engine: Engine,
    talk: Arc<Talk>,
}

impl WasmNode {
    /// Starts an instance and has it answer the request `open`.
    ///
    /// # Errors
    /// There is no such node, its setup failed, or the instance ended.
    pub(crate) fn open(
        engine: &Engine,
        pre: &InstancePre<Guest>,
        talk: Talk,
        limits: GuestLimits,
        call: &NodeCall<'_>,
    ) -> Result<Self, RunFailure> {
        let opening: Value = serde_json::from_slice(call.line).unwrap_or_default();
        let node = Self {
            engine: engine.clone(),
            talk: Arc::new(talk),
        };
        let (engine, pre, talk) = (engine.clone(), pre.clone(), Arc::clone(&node.talk));
        let instance = move || {
            let request = Request {
                method: "open",
                params: &opening["params"],
                welcome: &Value::Null,
                limits,
            };
            live(&engine, &pre, &request, &talk);
        };
        let thread = std::thread::Builder::new().name("instance".to_owned());
        let started = thread.spawn(instance);
        let failed = |text: String| RunFailure::new(code::FAILED, text);
        started.map_err(|error| failed(format!("cannot start a thread: {error}")))?;
        node.ask(call).map_err(failed)??;
        Ok(node)
    }

    /// Has the instance answer a request. The error says why it has ended instead.
    fn ask(&self, call: &NodeCall<'_>) -> Result<Answer, String> {
        self.talk.ask(call.id(), call.line);
        loop {
            match self.talk.heard() {
                Heard::Part(outcomes) => call.part(outcomes.as_bytes()),
                Heard::Answer(answer) => return Ok(answer),
                Heard::End(why) => return Err(why),
            }
        }
    }
}

impl Node for WasmNode {
    fn answer(&mut self, call: &NodeCall<'_>, response: &mut Vec<u8>) {
        match self.ask(call) {
            Ok(Ok(result)) => {
                response.extend_from_slice(br#""result":"#);
                response.extend_from_slice(result.get().as_bytes());
                response.push(b'}');
            }
            Ok(Err(failure)) => write_failure(response, &failure),
            Err(why) if call.method == "close" => {
                write_failure(response, &RunFailure::new(code::FAILED, why));
            }
            Err(why) => {
                // Which item ended it the pipeline finds out: it sends the others again, one by one.
                eprintln!("{why}");
                std::process::exit(1);
            }
        }
    }
}

impl Drop for WasmNode {
    fn drop(&mut self) {
        self.talk.cancel();
        self.engine.increment_epoch();
    }
}
