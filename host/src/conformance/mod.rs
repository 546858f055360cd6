//! What every plugin must do, checked: the suite behind `runner plugin check`, for all SDKs and for plugins
//! that speak the protocol themselves.
//!
//! Each check is a promise of `docs/protocol.md`. They are made with a real host, in its sandbox. What only a
//! plugin can do that is made for it (waiting, failing, writing outputs) is checked with one that has the tag
//! `conformance` and does as its parameter `act` says.

mod acts;
mod conversation;
mod nodes;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use runner_core::plugin::{Description, Plugin};

use crate::launcher::Launcher;
use crate::pool::Pool;
use crate::protocol::{CANCELLED, MAX_LINE, OUTPUT_TEXT, PROTOCOL, RunRequest, UNKNOWN_METHOD};
use crate::run_folder::RunFolder;
use crate::{HostError, Module};
use conversation::{Answer, Conversation};

/// How long an answer that needs no work may take, and the end of a process.
const PATIENCE: Duration = Duration::from_secs(5);
/// The tag of plugins that are made for these checks.
pub const TAG: &str = "conformance";

/// Why a check failed.
type Problem = String;

/// The checks in their order, each with what is promised.
pub const CHECKS: &[(&str, &str)] = &[
    (
        "welcome",
        "the first request is answered with protocol and framing",
    ),
    (
        "describe",
        "the description is valid, and the same each time",
    ),
    ("ping", "ping is answered with an object"),
    (
        "many-requests",
        "requests that come together are each answered once",
    ),
    (
        "unknown-request",
        "an unknown request is answered with -32601",
    ),
    ("unknown-notification", "an unknown notification is ignored"),
    ("long-line", "a line of nearly 1 MiB is read"),
    (
        "unknown-plugin",
        "a run of a plugin that is not offered is an error",
    ),
    ("late-cancel", "cancelling a run that is over is ignored"),
    ("run", "the example runs, and its outputs are there"),
    ("run-again", "the same host runs it once more"),
    ("cancel", "a cancelled run ends in time"),
    ("echo", "text comes through unchanged"),
    (
        "about",
        "the plugin knows name, uuid and arguments of its module",
    ),
    (
        "fail",
        "a plugin that fails is an error, and its host lives on",
    ),
    ("output", "outputs are kept as they were written"),
    ("print", "what is printed is log, and no message"),
    ("progress", "progress and links are told while it runs"),
    ("data", "what a run keeps comes back to the next one"),
    (
        "fetch",
        "a request that the runner refuses is an error for the plugin",
    ),
    ("ping-in-run", "ping is answered while a plugin is at work"),
    (
        "cancel-in-run",
        "a plugin at work ends with -32001 when it is cancelled",
    ),
    ("node-open", "a node is opened and closed"),
    (
        "node-items",
        "requests that come together are each answered, for each of their items",
    ),
    (
        "node-outcomes",
        "an item becomes itself, several, none or an error, and shifts no other",
    ),
    ("node-end", "the end of the items' socket ends the process"),
    ("shutdown", "shutdown ends the process"),
    ("closed-input", "the end of standard input ends the process"),
];

/// How a check went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome", content = "why")]
pub enum Outcome {
    /// As promised.
    Passed,
    /// Not as promised.
    Failed(String),
    /// It could not be made.
    Skipped(String),
}

/// A check that was made.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Its name in [`CHECKS`].
    pub check: &'static str,
    /// What is promised.
    pub promise: &'static str,
    /// How it went.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A run that is expected to succeed.
#[derive(Debug, Clone)]
pub struct Example {
    /// Identifier of the plugin.
    pub plugin: String,
    /// Its parameters, valid.
    pub parameters: Map<String, Value>,
}

/// Makes all checks with hosts of the module. `example` is a run that succeeds, if one is known; `hear` is told
/// each finding at once.
///
/// # Errors
/// The module is not running.
pub async fn examine(
    module: &Module,
    example: Option<Example>,
    limit: Duration,
    mut hear: impl FnMut(&Finding),
) -> Result<Vec<Finding>, HostError> {
    let status = module.status();
    let pool = module.running()?;
    let mut desk = Desk {
        launcher: pool.launcher().clone(),
        welcome: pool.greeting(),
        pool,
        conversation: None,
        example,
        limit,
        act: None,
        node: None,
        tasks: 0,
    };
    let mut findings = Vec::new();
    for (check, promise) in CHECKS {
        let outcome = match desk.check(check).await {
            Ok(Done::Checked) => Outcome::Passed,
            Ok(Done::Skipped(why)) => Outcome::Skipped(why),
            Err(problem) => {
                tracing::debug!(module = status.name, "{check}: {problem}");
                // The next one begins with a new host.
                desk.conversation = None;
                Outcome::Failed(problem)
            }
        };
        let finding = Finding {
            check,
            promise,
            outcome,
        };
        hear(&finding);
        findings.push(finding);
    }
    Ok(findings)
}

/// Whether a check was made.
enum Done {
    Checked,
    Skipped(String),
}

/// Where checks are made.
struct Desk {
    launcher: Launcher,
    pool: Arc<Pool>,
    welcome: Value,
    conversation: Option<Conversation>,
    example: Option<Example>,
    /// How long the example may run.
    limit: Duration,
    /// Identifier of the plugin with the tag [`TAG`].
    act: Option<String>,
    /// A plugin that is a node.
    node: Option<nodes::Subject>,
    tasks: i64,
}

impl Desk {
    async fn check(&mut self, name: &str) -> Result<Done, Problem> {
        match name {
            "welcome" => self.welcome().await?,
            "describe" => self.describe().await?,
            "ping" => self.ping().await?,
            "many-requests" => self.many_requests().await?,
            "unknown-request" => self.unknown_request().await?,
            "unknown-notification" => self.unknown_notification().await?,
            "long-line" => self.long_line().await?,
            "unknown-plugin" => self.unknown_plugin().await?,
            "late-cancel" => self.late_cancel().await?,
            "node-open" | "node-items" | "node-outcomes" | "node-end" => {
                let Some(node) = self.node.clone() else {
                    return Ok(Done::Skipped("no plugin is a node".to_owned()));
                };
                return self.node_check(name, &node).await;
            }
            "shutdown" => self.ends(true).await?,
            "closed-input" => self.ends(false).await?,
            "run" | "run-again" | "cancel" => {
                let Some(example) = self.example.clone() else {
                    return Ok(Done::Skipped("no whole example is known".to_owned()));
                };
                match name {
                    "cancel" => self.cancel(&example).await?,
                    _ => self.run(&example).await?,
                }
            }
            act => {
                let Some(plugin) = self.act.clone() else {
                    return Ok(Done::Skipped(format!("no plugin has the tag {TAG}")));
                };
                self.act(act, plugin).await?;
            }
        }
        Ok(Done::Checked)
    }

    /// A host that was greeted.
    async fn talk(&mut self) -> Result<&mut Conversation, Problem> {
        if self.conversation.is_none() {
            self.welcome().await?;
        }
        let talk = self.conversation.as_mut();
        let talk = talk.ok_or_else(|| "there is no host".to_owned())?;
        talk.told.clear();
        talk.asked.clear();
        talk.log.clear();
        Ok(talk)
    }

    async fn welcome(&mut self) -> Result<(), Problem> {
        let config = self.welcome["config"].clone();
        self.welcome_with(config, Vec::new()).await
    }

    /// Greets a new host that inherits these descriptors.
    async fn welcome_with(&mut self, config: Value, extra: Vec<OwnedFd>) -> Result<(), Problem> {
        let prepared = self.pool.prepared().await;
        let (command, folder) = prepared.map_err(|error| error.to_string())?;
        let mut params = self.welcome.clone();
        params["protocol"] = PROTOCOL.into();
        params["directory"] = folder.join("work").to_string_lossy().into();
        params["config"] = config;
        params["aKeyOfTheFuture"] = json!({"is": "ignored"});
        let mut talk = Conversation::start(&self.launcher, command, folder, extra).await?;
        let limit = self.pool.patience().describe;
        let answer = well(talk.ask("welcome", params, limit).await?)?;
        if answer["protocol"] != PROTOCOL || answer["framing"] != "lines" {
            return Err(format!(
                "welcome was answered with {}; expected {{\"protocol\": {PROTOCOL}, \"framing\": \"lines\"}}",
                short(&answer)
            ));
        }
        self.conversation = Some(talk);
        Ok(())
    }

    async fn describe(&mut self) -> Result<(), Problem> {
        let limit = self.pool.patience().describe;
        let talk = self.talk().await?;
        let first = well(talk.ask("describe", json!({}), limit).await?)?;
        let second = well(talk.ask("describe", json!({}), limit).await?)?;
        if first != second {
            return Err("the second description is not the first one".to_owned());
        }
        let description: Description =
            serde_json::from_value(first).map_err(|error| format!("it is not usable: {error}"))?;
        if description.plugins.is_empty() {
            return Err("it offers no plugin".to_owned());
        }
        let mut identifiers = BTreeSet::new();
        for plugin in description.plugins {
            let plugin = Plugin::new(plugin).map_err(|error| error.to_string())?;
            let is_made_for_it = plugin.tags.iter().any(|tag| tag == TAG);
            match &plugin.node {
                Some(node) => {
                    self.node.get_or_insert(nodes::Subject {
                        plugin: plugin.identifier.clone(),
                        node: node.clone(),
                        is_made_for_it,
                    });
                }
                None if is_made_for_it => self.act = Some(plugin.identifier.clone()),
                None => {}
            }
            if !identifiers.insert(plugin.identifier.clone()) {
                return Err(format!("it offers {} twice", plugin.identifier));
            }
        }
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), Problem> {
        let answer = well(self.talk().await?.ask("ping", json!({}), PATIENCE).await?)?;
        match answer.is_object() {
            true => Ok(()),
            false => Err(format!("ping was answered with {}", short(&answer))),
        }
    }

    async fn many_requests(&mut self) -> Result<(), Problem> {
        let talk = self.talk().await?;
        let mut open = BTreeSet::new();
        for _ in 0..8 {
            open.insert(talk.request("ping", json!({})).await?);
        }
        while !open.is_empty() {
            let Some((id, answer)) = talk.next(PATIENCE).await? else {
                return Err(format!("{} of 8 pings were not answered", open.len()));
            };
            well(answer)?;
            open.remove(&id);
        }
        Ok(())
    }

    async fn unknown_request(&mut self) -> Result<(), Problem> {
        let talk = self.talk().await?;
        match talk.ask("ofTheFuture", json!({}), PATIENCE).await? {
            Err(error) if error.code == UNKNOWN_METHOD => self.ping().await,
            Err(error) => Err(format!(
                "the code of the error is {}, expected {UNKNOWN_METHOD}",
                error.code
            )),
            Ok(result) => Err(format!("it was answered with {}", short(&result))),
        }
    }

    async fn unknown_notification(&mut self) -> Result<(), Problem> {
        let talk = self.talk().await?;
        talk.notify("ofTheFuture", json!({"a": 1})).await?;
        self.ping().await
    }

    async fn long_line(&mut self) -> Result<(), Problem> {
        // What surrounds the text takes less than 100 bytes.
        let padding = "ü".repeat((MAX_LINE - 100) / 2);
        let talk = self.talk().await?;
        well(
            talk.ask("ping", json!({"padding": padding}), PATIENCE)
                .await?,
        )?;
        self.ping().await
    }

    async fn unknown_plugin(&mut self) -> Result<(), Problem> {
        let (answer, _) = self
            .perform("no-such-plugin@v0-0-0", json!({}), Value::Null)
            .await?;
        match answer {
            Err(_) => self.ping().await,
            Ok(_) => Err("it was run as if it were there".to_owned()),
        }
    }

    async fn late_cancel(&mut self) -> Result<(), Problem> {
        let talk = self.talk().await?;
        talk.notify("cancel", json!({"task": 999_999, "run": 1}))
            .await?;
        self.ping().await
    }

    async fn run(&mut self, example: &Example) -> Result<(), Problem> {
        let parameters = Value::Object(example.parameters.clone());
        let (answer, folder) = self
            .perform(&example.plugin, parameters, Value::Null)
            .await?;
        usable(&well(answer)?)?;
        if let Some(talk) = &self.conversation {
            talk.outputs(&folder)?;
        }
        Ok(())
    }

    async fn cancel(&mut self, example: &Example) -> Result<(), Problem> {
        let grace = self.pool.patience().cancel;
        let parameters = Value::Object(example.parameters.clone());
        let (request, folder) = self
            .request(&example.plugin, parameters, Value::Null)
            .await?;
        let talk = self.talk().await?;
        let cancel = json!({"task": request.task, "run": request.run});
        talk.request("run", serde_json::to_value(&request).unwrap_or_default())
            .await?;
        talk.notify("cancel", cancel).await?;
        // A little more than the grace, for a machine that is busy.
        let answer = talk.next(grace + PATIENCE).await?;
        drop(folder);
        match answer {
            Some((_, Err(error))) if error.code != CANCELLED => Err(format!(
                "the code of the error is {}, expected {CANCELLED}: {}",
                error.code, error.message
            )),
            Some(_) => Ok(()),
            None => Err("neither a result nor an error came".to_owned()),
        }
    }

    async fn ends(&mut self, by_message: bool) -> Result<(), Problem> {
        let talk = self.talk().await?;
        match by_message {
            true => talk.notify("shutdown", json!({})).await?,
            false => talk.close_input(),
        }
        let ended = talk.ended(PATIENCE).await;
        self.conversation = None;
        match ended {
            Some(_) => Ok(()),
            None => Err(format!(
                "it still lives after {} s, and would be killed",
                PATIENCE.as_secs_f64()
            )),
        }
    }

    /// A run with a folder of its own.
    async fn request(
        &mut self,
        plugin: &str,
        parameters: Value,
        data: Value,
    ) -> Result<(RunRequest, RunFolder), Problem> {
        self.tasks += 1;
        let task = self.tasks;
        let talk = self.talk().await?;
        let folder = talk.run_folder()?;
        let request = RunRequest {
            task,
            run: 1,
            plugin: plugin.to_owned(),
            step: None,
            step_id: None,
            parameters: parameters.as_object().cloned().unwrap_or_default(),
            inputs: Map::new(),
            data,
            directory: folder.work().to_string_lossy().into_owned(),
            base_url: "http://localhost".to_owned(),
            output_text: OUTPUT_TEXT,
        };
        Ok((request, folder))
    }

    async fn perform(
        &mut self,
        plugin: &str,
        parameters: Value,
        data: Value,
    ) -> Result<(Answer, RunFolder), Problem> {
        let limit = self.limit;
        let (request, folder) = self.request(plugin, parameters, data).await?;
        let params = serde_json::to_value(&request).map_err(|error| error.to_string())?;
        let answer = self.talk().await?.ask("run", params, limit).await?;
        Ok((answer, folder))
    }
}

/// The result, which an error is not.
fn well(answer: Answer) -> Result<Value, Problem> {
    answer.map_err(|error| format!("it is an error ({}): {}", error.code, error.text()))
}

/// Whether it can be the result of a run.
fn usable(result: &Value) -> Result<(), Problem> {
    if !result.is_object() {
        return Err(format!("a run was answered with {}", short(result)));
    }
    match result.get("log") {
        None | Some(Value::String(_) | Value::Null) => Ok(()),
        Some(other) => Err(format!("`log` is {}, expected text", short(other))),
    }
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}
