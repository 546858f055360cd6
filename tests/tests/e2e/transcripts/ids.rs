//! What the recording calls by other names: addresses, ids of tasks and files, tags.

use std::collections::HashMap;

use regex::{Captures, Regex};
use serde_json::Value;

/// Where the reference ran.
const RECORDED: &str = "http://127.0.0.1:5005";
/// Where its webhooks were heard.
const RECORDED_HOOKS: &str = "http://127.0.0.1:5599";

/// A file: its id and tag.
type File = (String, String);

/// Names of the recording and ours, in both directions.
pub(super) struct Ids {
    base: String,
    hooks: String,
    tasks: HashMap<String, String>,
    files: HashMap<String, File>,
    etags: HashMap<String, String>,
    task_path: Regex,
    step_path: Regex,
    file_path: Regex,
}

impl Ids {
    pub(super) fn new(base: String, hooks: String) -> Self {
        let regex = |text: &str| Regex::new(text).expect("a valid expression");
        Self {
            base,
            hooks,
            tasks: HashMap::new(),
            files: HashMap::new(),
            etags: HashMap::new(),
            task_path: regex(r"(/tasks/0*)(\d+)"),
            step_path: regex(r"(/plugins/[^/]+/)(\d+)(/)"),
            file_path: regex(r"/files/(\d+)/(?:\?file-id=([\w-]+))?"),
        }
    }

    pub(super) fn add_task(&mut self, recorded: &str, ours: &str) {
        self.tasks.insert(recorded.to_owned(), ours.to_owned());
    }

    pub(super) fn add_etag(&mut self, recorded: &str, ours: &str) {
        self.etags.insert(recorded.to_owned(), ours.to_owned());
    }

    /// Notes that two URLs lead to the same file.
    pub(super) fn add_file(&mut self, recorded: &str, ours: &str) {
        let (Some(recorded), Some(ours)) = (self.file(recorded), self.file(ours)) else {
            return;
        };
        self.files.entry(recorded.0).or_insert(ours);
    }

    pub(super) fn knows_file(&self, target: &str) -> bool {
        self.file(target)
            .is_none_or(|(id, _)| self.files.contains_key(&id))
    }

    /// Our number of a recorded task.
    pub(super) fn task(&self, recorded: &str) -> Option<u64> {
        let found = self.task_path.captures(recorded)?;
        self.tasks.get(&found[2])?.parse().ok()
    }

    fn file(&self, href: &str) -> Option<File> {
        let found = self.file_path.captures(href)?;
        let tag = found.get(2).map_or("", |tag| tag.as_str());
        Some((found[1].to_owned(), tag.to_owned()))
    }

    /// A recorded target, header or body of a request as it has to be sent.
    pub(super) fn to_ours(&self, text: &str) -> String {
        let text = text
            .replace(RECORDED, &self.base)
            .replace(RECORDED_HOOKS, &self.hooks);
        let text = self.etags.get(&text).cloned().unwrap_or(text);
        let text = self.replace_tasks(&text, &self.tasks);
        let file = |found: &Captures<'_>| {
            let Some((id, tag)) = self.files.get(&found[1]) else {
                return found[0].to_owned();
            };
            match found.get(2).map(|tag| tag.as_str()) {
                None => format!("/files/{id}/"),
                // Tags of the recording are long; a short one is meant to be wrong.
                Some(given) if given.len() < 40 => format!("/files/{id}/?file-id={given}"),
                Some(_) => format!("/files/{id}/?file-id={tag}"),
            }
        };
        self.file_path.replace_all(&text, file).into_owned()
    }

    /// A text of our answer as the reference would have said it.
    pub(super) fn to_recorded(&self, text: &str) -> String {
        let text = text.replace(&self.base, RECORDED);
        let back = self
            .tasks
            .iter()
            .map(|(a, b)| (b.clone(), a.clone()))
            .collect();
        let text = self.replace_tasks(&text, &back);
        let file = |found: &Captures<'_>| {
            let known = self.files.iter().find(|(_, (id, _))| *id == found[1]);
            match (known, found.get(2)) {
                (Some((id, (_, ours))), Some(tag)) if ours == tag.as_str() => {
                    format!("/files/{id}/?file-id=<tag>")
                }
                _ => found[0].to_owned(),
            }
        };
        self.file_path.replace_all(&text, file).into_owned()
    }

    /// A recorded text without the tags of its files.
    pub(super) fn without_tags(&self, text: &str) -> String {
        let file = |found: &Captures<'_>| match found.get(2) {
            Some(_) => format!("/files/{}/?file-id=<tag>", &found[1]),
            None => found[0].to_owned(),
        };
        self.file_path.replace_all(text, file).into_owned()
    }

    fn replace_tasks(&self, text: &str, tasks: &HashMap<String, String>) -> String {
        let new = |number: &str| {
            tasks
                .get(number)
                .cloned()
                .unwrap_or_else(|| number.to_owned())
        };
        let task = |found: &Captures<'_>| format!("{}{}", &found[1], new(&found[2]));
        let text = self.task_path.replace_all(text, task);
        let step = |found: &Captures<'_>| format!("{}{}{}", &found[1], new(&found[2]), &found[3]);
        self.step_path.replace_all(&text, step).into_owned()
    }
}

/// Applies a change to every text of a JSON value.
pub(super) fn map_texts(value: &Value, change: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(items) => items.iter().map(|item| map_texts(item, change)).collect(),
        Value::Object(object) => {
            let pairs = object
                .iter()
                .map(|(key, item)| (key.clone(), map_texts(item, change)));
            Value::Object(pairs.collect())
        }
        other => other.clone(),
    }
}
