//! What clients do with a runner: submit, poll, download.

use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::http::{Part, Request, Response};
use crate::runner::Runner;
use crate::wait::poll;

/// How long a task may take.
const DEADLINE: Duration = Duration::from_secs(30);

impl Runner {
    /// GETs a path of this runner, or a URL that leads to it.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.send(&Request::get(&self.path_of(target)))
    }

    /// POSTs an urlencoded form.
    #[track_caller]
    pub fn post_form(&self, target: &str, form: &[(&str, &str)]) -> Response {
        self.send(&Request::post(&self.path_of(target)).form(form))
    }

    /// POSTs a multipart form.
    #[track_caller]
    pub fn post_multipart(&self, target: &str, parts: &[Part<'_>]) -> Response {
        self.send(&Request::post(&self.path_of(target)).multipart(parts))
    }

    /// POSTs JSON.
    #[track_caller]
    pub fn post_json(&self, target: &str, body: &Value) -> Response {
        self.send(&Request::post(&self.path_of(target)).json(body))
    }

    /// Path and query of a URL; a path is left as it is.
    #[track_caller]
    pub fn path_of(&self, target: &str) -> String {
        if target.starts_with('/') {
            return target.to_owned();
        }
        let url = Url::parse(target).unwrap_or_else(|e| self.fail(&format!("{target}: {e}")));
        url[url::Position::BeforePath..].to_owned()
    }

    /// Submits a form to a plugin; gives the task's number.
    ///
    /// # Panics
    /// If it is not accepted.
    #[track_caller]
    pub fn submit(&self, plugin: &str, form: &[(&str, &str)]) -> u64 {
        let answer = self.post_form(&format!("/plugins/{plugin}/process/"), form);
        self.accepted(&answer)
    }

    /// Submits a multipart form to a plugin; gives the task's number.
    ///
    /// # Panics
    /// If it is not accepted.
    #[track_caller]
    pub fn submit_multipart(&self, plugin: &str, parts: &[Part<'_>]) -> u64 {
        let answer = self.post_multipart(&format!("/plugins/{plugin}/process/"), parts);
        self.accepted(&answer)
    }

    /// The number of the task to which an answer redirects.
    ///
    /// # Panics
    /// If it is no such answer.
    #[track_caller]
    pub fn accepted(&self, answer: &Response) -> u64 {
        let number = answer.header("Location").and_then(task_number);
        match number {
            Some(number) if answer.status == 303 => number,
            _ => self.fail(&format!(
                "not accepted: {} {}",
                answer.status,
                answer.text()
            )),
        }
    }

    /// A task as it is now.
    #[track_caller]
    pub fn task(&self, task: u64) -> Value {
        self.get(&format!("/tasks/{task}/")).expect(200).json()
    }

    /// Polls a task until the condition holds.
    ///
    /// # Panics
    /// If it does not hold in time.
    #[track_caller]
    pub fn wait_for(&self, task: u64, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = poll(DEADLINE, || {
            last = self.task(task);
            holds(&last).then(|| last.clone())
        });
        let problem = || format!("task {task} was not {what} within {DEADLINE:?}: {last:#}");
        found.unwrap_or_else(|| self.fail(&problem()))
    }

    /// Waits for the end of a task.
    #[track_caller]
    pub fn finished(&self, task: u64) -> Value {
        self.wait_for(task, "finished", |task| task["status"] != "PENDING")
    }

    /// Submits a form and waits for the end.
    #[track_caller]
    pub fn run_to_end(&self, plugin: &str, form: &[(&str, &str)]) -> Value {
        self.finished(self.submit(plugin, form))
    }

    /// As [`run_to_end`](Self::run_to_end), and the end must be a success.
    #[track_caller]
    pub fn run_well(&self, plugin: &str, form: &[(&str, &str)]) -> Value {
        self.successful(self.run_to_end(plugin, form))
    }

    /// As [`run_to_end`](Self::run_to_end), and the end must be a failure; gives the log.
    #[track_caller]
    pub fn run_badly(&self, plugin: &str, form: &[(&str, &str)]) -> String {
        self.failed(&self.run_to_end(plugin, form))
    }

    /// Checks that a task succeeded.
    #[track_caller]
    pub fn successful(&self, task: Value) -> Value {
        if task["status"] != "SUCCESS" {
            self.fail(&format!("no success: {task:#}"));
        }
        task
    }

    /// Checks that a task failed, without outputs and with a reason; gives the log.
    #[track_caller]
    pub fn failed(&self, task: &Value) -> String {
        let log = task["log"].as_str().unwrap_or_default();
        if task["status"] != "FAILURE" || log.is_empty() {
            self.fail(&format!("no failure with a reason: {task:#}"));
        }
        log.to_owned()
    }

    /// The bytes of a task's output.
    #[track_caller]
    pub fn output(&self, task: &Value, name: &str) -> Vec<u8> {
        self.get(&self.output_href(task, name)).expect(200).body
    }

    /// The URL of a task's output.
    ///
    /// # Panics
    /// If it has none of this name.
    #[track_caller]
    pub fn output_href(&self, task: &Value, name: &str) -> String {
        let outputs = task["outputs"].as_array().into_iter().flatten();
        let found = outputs.clone().find(|output| output["name"] == name);
        let href = found.and_then(|output| output["href"].as_str());
        match href {
            Some(href) => href.to_owned(),
            None => self.fail(&format!("no output {name}: {task:#}")),
        }
    }

    /// The only output of a task: its name, URL and bytes.
    ///
    /// # Panics
    /// If it has none or several.
    #[track_caller]
    pub fn only_output(&self, task: &Value) -> (String, String, Vec<u8>) {
        let outputs = task["outputs"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let [output] = outputs else {
            self.fail(&format!("not one output: {task:#}"));
        };
        let text = |key: &str| output[key].as_str().unwrap_or_default().to_owned();
        let (name, href) = (text("name"), text("href"));
        let body = self.get(&href).expect(200).body;
        (name, href, body)
    }

    /// Subscribes a webhook; `None` for all events.
    #[track_caller]
    pub fn subscribe(&self, task: u64, href: &str, event: Option<&str>) -> Response {
        let body = serde_json::json!({"command": "subscribe", "webhookHref": href, "event": event});
        self.post_json(&format!("/tasks/{task}/"), &body)
    }

    /// What is known about the modules.
    ///
    /// # Panics
    /// If there is no such list.
    #[track_caller]
    pub fn modules(&self) -> Vec<Value> {
        let bearer = format!("Bearer {}", self.token());
        let request = Request::get("/modules/").header("Authorization", &bearer);
        let body = self.send(&request).expect(200).json();
        let list = body.get("modules").unwrap_or(&body).as_array().cloned();
        list.unwrap_or_else(|| self.fail(&format!("no list of modules: {body:#}")))
    }

    /// The module whose name or file begins like this.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn module(&self, name: &str) -> Value {
        let modules = self.modules();
        let plain = |text: &str| text.replace('_', "-");
        let is = |module: &&Value| {
            let path = module["path"].as_str().unwrap_or_default();
            let file = path.rsplit('/').next().unwrap_or_default();
            let stem = file.split('.').next().unwrap_or_default();
            let called = module["name"].as_str().unwrap_or_default();
            plain(stem) == plain(name) || plain(called) == plain(name)
        };
        let found = modules.iter().find(is).cloned();
        found.unwrap_or_else(|| self.fail(&format!("no module {name}: {modules:#?}")))
    }
}

/// The number in the path or URL of a task.
pub fn task_number(location: &str) -> Option<u64> {
    let (_, rest) = location.rsplit_once("/tasks/")?;
    rest.strip_suffix('/')?.parse().ok()
}
