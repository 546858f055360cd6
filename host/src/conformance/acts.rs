//! Checks with a plugin that is made for them: it does as its parameter `act` says, with `text`.

use std::time::Duration;

use serde_json::{Value, json};

use super::conversation::Answer;
use super::{Desk, PATIENCE, Problem, short, usable, well};
use crate::protocol::{CANCELLED, RunEvent};
use crate::run_folder::RunFolder;

/// Text that is hard to carry: quotes, escapes, other scripts, characters beyond 16 bits.
const HARD: &str = "a \"b\" \\ / \u{7}\t\u{1f} ü 字 🦀 \u{2028} end";
/// Bytes of an output that is no short one.
const LONG: usize = 100_000;
/// How long the plugin is let work before something is asked of it.
const BEGINNING: Duration = Duration::from_millis(50);

impl Desk {
    pub(super) async fn act(&mut self, act: &str, plugin: String) -> Result<(), Problem> {
        match act {
            "echo" => self.echo(&plugin).await,
            "about" => self.about(&plugin).await,
            "fail" => self.fail(&plugin).await,
            "output" => self.output(&plugin).await,
            "print" => self.print(&plugin).await,
            "progress" => self.progress(&plugin).await,
            "data" => self.data(&plugin).await,
            "fetch" => self.fetch(&plugin).await,
            "ping-in-run" => self.in_run(&plugin, false).await,
            "cancel-in-run" => self.in_run(&plugin, true).await,
            other => Err(format!("there is no check {other}")),
        }
    }

    async fn acted(
        &mut self,
        plugin: &str,
        act: &str,
        text: &str,
        data: Value,
    ) -> Result<(Answer, RunFolder), Problem> {
        self.perform(plugin, json!({"act": act, "text": text}), data)
            .await
    }

    /// The log that a run of this act answers.
    async fn log_of(&mut self, plugin: &str, act: &str, text: &str) -> Result<String, Problem> {
        let (answer, _) = self.acted(plugin, act, text, Value::Null).await?;
        let result = well(answer)?;
        usable(&result)?;
        let log = result["log"].as_str().map(str::to_owned);
        log.ok_or_else(|| format!("a run was answered with {}, without a log", short(&result)))
    }

    async fn echo(&mut self, plugin: &str) -> Result<(), Problem> {
        for text in [HARD, "", &"ü".repeat(10_000)] {
            let log = self.log_of(plugin, "echo", text).await?;
            if log != text {
                let (log, text) = (short(&log.into()), short(&text.into()));
                return Err(format!("{text} came back as {log}"));
            }
        }
        Ok(())
    }

    async fn about(&mut self, plugin: &str) -> Result<(), Problem> {
        let log = self.log_of(plugin, "about", "").await?;
        let about: Value =
            serde_json::from_str(&log).map_err(|error| format!("{log:?} is no JSON: {error}"))?;
        for key in ["name", "uuid", "args"] {
            if about[key] != self.welcome[key] {
                return Err(format!(
                    "{key} is {}, and the module was greeted with {}",
                    short(&about[key]),
                    short(&self.welcome[key])
                ));
            }
        }
        Ok(())
    }

    async fn fail(&mut self, plugin: &str) -> Result<(), Problem> {
        let (answer, _) = self
            .acted(plugin, "fail", "it is broken", Value::Null)
            .await?;
        match answer {
            Ok(result) => Err(format!("it was answered with {}", short(&result))),
            Err(error) if error.code == CANCELLED => {
                Err(format!("its code is {CANCELLED}, which means cancelled"))
            }
            Err(error) if !error.message.contains("it is broken") => Err(format!(
                "the message does not name the cause: {:?}",
                error.message
            )),
            Err(error) if error.message.contains('\n') => {
                Err("the message has more than one line".to_owned())
            }
            Err(_) => {
                let log = self.log_of(plugin, "echo", "alive").await?;
                match log == "alive" {
                    true => Ok(()),
                    false => Err(format!("the next run is not right: {log:?}")),
                }
            }
        }
    }

    async fn output(&mut self, plugin: &str) -> Result<(), Problem> {
        for text in [
            HARD.to_owned(),
            String::new(),
            "0123456789".repeat(LONG / 10),
        ] {
            let (answer, folder) = self.acted(plugin, "output", &text, Value::Null).await?;
            usable(&well(answer)?)?;
            let outputs = match &self.conversation {
                Some(talk) => talk.outputs(&folder)?,
                None => Vec::new(),
            };
            match outputs.as_slice() {
                [(name, content)] if name == "out.txt" && *content == text.as_bytes() => {}
                [(name, content)] => {
                    return Err(format!(
                        "the output {name:?} has {} bytes; expected out.txt with the {} that were written",
                        content.len(),
                        text.len()
                    ));
                }
                several => return Err(format!("there are {} outputs, not one", several.len())),
            }
        }
        Ok(())
    }

    async fn print(&mut self, plugin: &str) -> Result<(), Problem> {
        self.log_of(plugin, "print", "printed text").await?;
        // What was printed lies in the pipe when the answer has come.
        self.ping_only().await?;
        let log = self.conversation.as_ref().map(|talk| talk.log.join("\n"));
        match log.is_some_and(|log| log.contains("printed text")) {
            true => Ok(()),
            false => Err("what was printed is not on standard error".to_owned()),
        }
    }

    /// A ping that keeps what was heard before.
    async fn ping_only(&mut self) -> Result<(), Problem> {
        let talk = self.conversation.as_mut();
        let talk = talk.ok_or_else(|| "there is no host".to_owned())?;
        well(talk.ask("ping", json!({}), PATIENCE).await?).map(drop)
    }

    async fn progress(&mut self, plugin: &str) -> Result<(), Problem> {
        self.log_of(plugin, "progress", "").await?;
        let told = self.conversation.as_ref().map(|talk| talk.told.clone());
        let told = told.unwrap_or_default();
        let has = |wanted: fn(&RunEvent) -> bool| told.iter().any(wanted);
        for (what, is_there) in [
            (
                "log",
                has(|event| matches!(event, RunEvent::Log(text) if text == "half")),
            ),
            (
                "progress",
                has(|event| matches!(event, RunEvent::Progress(p) if p.value == 50.0)),
            ),
            (
                "link",
                has(|event| matches!(event, RunEvent::Link(link) if link.href == "page")),
            ),
        ] {
            if !is_there {
                return Err(format!("no {what} was told as expected; told was {told:?}"));
            }
        }
        Ok(())
    }

    async fn data(&mut self, plugin: &str) -> Result<(), Problem> {
        // Null is what the first run of a task gets.
        for kept in [Value::Null, json!({"list": [1, 2.5, HARD], "empty": []})] {
            let (answer, _) = self.acted(plugin, "data", "", kept.clone()).await?;
            let result = well(answer)?;
            if result["data"] != kept {
                return Err(format!(
                    "{} came back as {}",
                    short(&kept),
                    short(&result["data"])
                ));
            }
        }
        Ok(())
    }

    async fn fetch(&mut self, plugin: &str) -> Result<(), Problem> {
        let (answer, _) = self
            .acted(plugin, "fetch", "http://localhost/x", Value::Null)
            .await?;
        let asked = self.conversation.as_ref().map(|talk| talk.asked.clone());
        match (answer, asked.unwrap_or_default().as_slice()) {
            (Err(error), [method]) if method == "fetch" => {
                match error.message.contains("there is no fetch") {
                    true => Ok(()),
                    false => Err(format!("the reason was not passed on: {}", error.message)),
                }
            }
            (answer, asked) => Err(format!("it asked for {asked:?} and answered {answer:?}")),
        }
    }

    /// Something happens while the plugin waits.
    async fn in_run(&mut self, plugin: &str, is_cancelled: bool) -> Result<(), Problem> {
        let grace = self.pool.patience().cancel;
        let seconds = if is_cancelled { "600" } else { "1" };
        let parameters = json!({"act": "sleep", "text": seconds});
        let (request, folder) = self.request(plugin, parameters, Value::Null).await?;
        let cancel = json!({"task": request.task, "run": request.run});
        let talk = self.talk().await?;
        let run = talk
            .request("run", serde_json::to_value(&request).unwrap_or_default())
            .await?;
        if let Some((_, answer)) = talk.next(BEGINNING).await? {
            return Err(format!("the plugin did not wait: {answer:?}"));
        }
        if is_cancelled {
            talk.notify("cancel", cancel).await?;
            let answer = talk.next(grace).await?;
            drop(folder);
            return match answer {
                Some((_, Err(error))) if error.code == CANCELLED => self.ping().await,
                Some((_, answer)) => Err(format!("it was answered with {answer:?}")),
                None => Err(format!(
                    "it goes on {} ms after it was cancelled, and would be killed",
                    grace.as_millis()
                )),
            };
        }
        let ping = talk.request("ping", json!({})).await?;
        let answer = talk.next(Duration::from_millis(900)).await?;
        if !matches!(answer, Some((id, Ok(_))) if id == ping) {
            return Err("ping was not answered before the run".to_owned());
        }
        let Some((id, answer)) = talk.next(PATIENCE).await? else {
            return Err("the run was not answered".to_owned());
        };
        drop(folder);
        match id == run {
            true => well(answer).map(drop),
            false => Err(format!("it answered {id} instead of the run")),
        }
    }
}
