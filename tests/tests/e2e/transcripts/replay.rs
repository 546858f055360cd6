//! Sends a recorded request and compares the answer with the recorded one.

use std::collections::BTreeSet;

use runner_tests::diff::{Difference, compare};
use runner_tests::http::{Headers, find};
use runner_tests::{HookServer, Request, Response, Runner, page};
use serde_json::{Value, json};

use super::deviations::Deviation;
use super::ids::{Ids, map_texts};

/// Headers that must be equal.
const EQUAL: [&str; 3] = [
    "Location",
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Headers",
];
/// Headers that are lists and must be equal as sets.
const LISTS: [&str; 2] = ["Allow", "Access-Control-Allow-Methods"];
/// Headers that must be equal where they are recorded.
const KEPT: [&str; 3] = ["Content-Disposition", "Cache-Control", "Content-Range"];
/// Headers that must be there where they are recorded.
const PRESENT: [&str; 2] = ["ETag", "Last-Modified"];

/// A recorded answer.
struct Recorded {
    status: u16,
    headers: Headers,
    body: String,
}

impl Recorded {
    fn read(answer: &Value) -> Self {
        let pairs = answer["headers"].as_array().into_iter().flatten();
        let pair = |pair: &Value| (text(&pair[0]), text(&pair[1]));
        Self {
            status: answer["status"]
                .as_u64()
                .and_then(|n| n.try_into().ok())
                .unwrap_or_default(),
            headers: pairs.map(pair).collect(),
            body: text(&answer["body"]),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body of an answer that shows a task.
    fn task(&self) -> Option<Value> {
        let body: Value = serde_json::from_str(&self.body).ok()?;
        (self.status == 200 && body.get("outputs").is_some()).then_some(body)
    }
}

/// The state of a replay: what ours is called, and what differed so far.
pub(super) struct Replay<'a> {
    runner: &'a Runner,
    /// Where the webhooks of single requests go; nobody looks at them.
    _hooks: HookServer,
    ids: Ids,
    /// The task made last.
    last: Option<u64>,
    pub(super) seen: BTreeSet<Deviation>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(runner: &'a Runner) -> Self {
        let hooks = HookServer::start();
        let hooks_base = hooks.url("");
        Self {
            runner,
            ids: Ids::new(runner.base(), hooks_base),
            _hooks: hooks,
            last: None,
            seen: BTreeSet::new(),
        }
    }

    /// The task made last.
    pub(super) fn last(&self) -> Option<u64> {
        self.last
    }

    /// Plays one transcript.
    pub(super) fn play(&mut self, number: &str, transcript: &Value) {
        let request = &transcript["request"];
        let theirs = Recorded::read(&transcript["response"]);
        let target = text(&request["path"]);
        self.prepare(&target, &theirs);
        let ours = self.runner.send(&self.request(request));
        self.note_ids(&theirs, &ours);
        let mut found = Vec::new();
        if theirs.status == ours.status {
            self.compare_headers(&text(&request["method"]), &theirs, &ours, &mut found);
            self.compare_bodies(&theirs, &ours, &mut found);
        } else {
            let status = |status: u16| Some(status.to_string());
            let (a, b) = (status(theirs.status), status(ours.status));
            found.push(Difference::new("status", a.as_deref(), b.as_deref()));
        }
        self.seen
            .extend(found.into_iter().map(|difference| Deviation {
                transcript: number.to_owned(),
                difference,
            }));
    }

    /// Waits until a task is where the recording shows it, and finds files by their task.
    fn prepare(&mut self, target: &str, theirs: &Recorded) {
        if let (Some(task), Some(number)) = (theirs.task(), self.ids.task(target)) {
            if task["status"] != "PENDING" {
                self.runner.finished(number);
            } else if open_step(&task) {
                self.runner
                    .wait_for(number, "waiting for a step", open_step);
            }
        }
        if theirs.status < 400
            && !self.ids.knows_file(target)
            && let Some(task) = self.last
        {
            let task = self.runner.finished(task);
            let (_, href, _) = self.runner.only_output(&task);
            self.ids.add_file(target, &href);
        }
    }

    fn request(&self, recorded: &Value) -> Request {
        let mut request = Request::new(
            &text(&recorded["method"]),
            &self.ids.to_ours(&text(&recorded["path"])),
        );
        for (name, value) in recorded["headers"].as_object().into_iter().flatten() {
            request = request.header(name, &self.ids.to_ours(&text(value)));
        }
        match recorded["body"].as_str() {
            Some(body) => request.body("", self.ids.to_ours(body)),
            None => request,
        }
    }

    /// Remembers what ours is called.
    fn note_ids(&mut self, theirs: &Recorded, ours: &Response) {
        if let Some(number) = ours
            .header("Location")
            .and_then(runner_tests::api::task_number)
        {
            self.last = Some(number);
            let recorded = theirs
                .header("Location")
                .and_then(runner_tests::api::task_number);
            if let Some(recorded) = recorded {
                self.ids
                    .add_task(&recorded.to_string(), &number.to_string());
            }
        }
        if let (Some(theirs), Some(ours)) = (theirs.header("ETag"), ours.header("ETag")) {
            self.ids.add_etag(theirs, ours);
        }
        if let Some(recorded) = theirs.task()
            && ours.status == 200
        {
            let ours = ours.json();
            let outputs = |task: &Value| task["outputs"].as_array().cloned().unwrap_or_default();
            for (theirs, ours) in outputs(&recorded).iter().zip(outputs(&ours)) {
                self.ids
                    .add_file(&text(&theirs["href"]), &text(&ours["href"]));
            }
        }
    }

    fn compare_headers(
        &self,
        method: &str,
        theirs: &Recorded,
        ours: &Response,
        found: &mut Vec<Difference>,
    ) {
        let mut check = |name: &str, a: Option<String>, b: Option<String>| {
            if a != b {
                let place = format!("header {name}");
                found.push(Difference::new(&place, a.as_deref(), b.as_deref()));
            }
        };
        for name in EQUAL {
            let ours = ours.header(name).map(|value| self.ids.to_recorded(value));
            check(name, theirs.header(name).map(str::to_owned), ours);
        }
        for name in LISTS {
            check(
                name,
                theirs.header(name).map(sorted),
                ours.header(name).map(sorted),
            );
        }
        for name in KEPT
            .into_iter()
            .filter(|name| theirs.header(name).is_some())
        {
            let own = |value: Option<&str>| value.map(str::to_owned);
            check(name, own(theirs.header(name)), own(ours.header(name)));
        }
        for name in PRESENT
            .into_iter()
            .filter(|name| theirs.header(name).is_some())
        {
            let there = |value: Option<&str>| value.map(|_| "(some)".to_owned());
            check(name, there(theirs.header(name)), there(ours.header(name)));
        }
        let varies = |value: Option<&str>| {
            let list = value.unwrap_or_default().to_ascii_lowercase();
            list.split(',')
                .any(|name| name.trim() == "origin")
                .then(|| "Origin".to_owned())
        };
        check(
            "Vary",
            varies(theirs.header("Vary")),
            varies(ours.header("Vary")),
        );
        if !(300..400).contains(&theirs.status) && method != "OPTIONS" {
            let plain = |kind: Option<&str>| kind.map(str::to_ascii_lowercase);
            let name = "Content-Type";
            check(name, plain(theirs.header(name)), plain(ours.header(name)));
        }
        if theirs.header("ETag").is_some() && theirs.status != 304 {
            let own = |value: Option<&str>| value.map(str::to_owned);
            let name = "Content-Length";
            check(name, own(theirs.header(name)), own(ours.header(name)));
        }
    }

    fn compare_bodies(&self, theirs: &Recorded, ours: &Response, found: &mut Vec<Difference>) {
        let kind = theirs.header("Content-Type").unwrap_or_default();
        let is_page = kind.starts_with("text/html") && theirs.header("ETag").is_none();
        if (300..400).contains(&theirs.status) {
            return;
        }
        if theirs.body.is_empty() || !(kind == "application/json" || is_page) {
            if theirs.body.as_bytes() != ours.body {
                found.push(Difference::new(
                    "body",
                    Some(&theirs.body),
                    Some(&ours.text()),
                ));
            }
            return;
        }
        let (theirs, ours) = if is_page {
            (page::structure(&theirs.body), page::structure(&ours.text()))
        } else {
            let Ok(ours) = serde_json::from_slice(&ours.body) else {
                return found.push(Difference::new("body", Some("JSON"), Some(&ours.text())));
            };
            (theirs.body.parse().unwrap_or(Value::Null), ours)
        };
        let theirs = map_texts(&theirs, &|text| self.ids.without_tags(text));
        let ours = map_texts(&ours, &|text| self.ids.to_recorded(text));
        let (theirs, ours) = comparable(theirs, ours);
        compare("body", &theirs, &ours, found);
    }
}

/// What ours tells of a task beside what is recorded.
const MORE_KEYS: [&str; 5] = ["labels", "module", "plugin", "state", "version"];

/// Both bodies without what need not be equal.
fn comparable(mut theirs: Value, mut ours: Value) -> (Value, Value) {
    if theirs["status"] == "PENDING" && !open_step(&theirs) && has_shape(&ours) {
        let lasting = |task: &Value| json!({"links": task["links"], "steps": task["steps"]});
        return (lasting(&theirs), lasting(&ours));
    }
    if has_shape(&ours)
        && let Some(task) = ours.as_object_mut()
    {
        task.retain(|key, _| !MORE_KEYS.contains(&key.as_str()) || theirs.get(key).is_some());
    }
    if theirs["status"] == "FAILURE" && ours.get("log").is_some() {
        for task in [&mut theirs, &mut ours] {
            let log = text(&task["log"]);
            task["log"] = log.lines().next().unwrap_or_default().into();
        }
    }
    // Not by index, which would add the key to what lacks it.
    let list = ours.get_mut("plugins").and_then(Value::as_array_mut);
    if let (Some(known), Some(list)) = (theirs["plugins"].as_array(), list) {
        let is_known = |plugin: &Value| {
            known
                .iter()
                .any(|known| known["identifier"] == plugin["identifier"])
        };
        list.retain(is_known);
    }
    (theirs, ours)
}

/// Whether this is a task as clients know it, in progress or finished.
fn has_shape(task: &Value) -> bool {
    let status = ["PENDING", "SUCCESS", "FAILURE"]
        .iter()
        .any(|status| task["status"] == *status);
    status && task["log"].is_string() && task["outputs"].is_array() && task["links"].is_array()
}

/// Whether a task waits for somebody to submit a step.
pub(super) fn open_step(task: &Value) -> bool {
    let mut steps = task["steps"].as_array().into_iter().flatten();
    task["status"] == "PENDING" && steps.any(|step| step["cleared"] == false)
}

fn sorted(list: &str) -> String {
    let mut items: Vec<_> = list.split(',').map(str::trim).collect();
    items.sort_unstable();
    items.join(", ")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
