//! The JSON that is answered, as schemas.

use std::collections::BTreeMap;

use runner_core::task::TaskState;
use serde_json::{Value, json};

/// All schemas that do not depend on plugins.
pub(super) fn all() -> BTreeMap<String, Value> {
    let states = TaskState::ALL.map(TaskState::as_str);
    let schemas = [
        ("Error", error()),
        (
            "Root",
            object(json!({"title": {"type": "string"}}), &["title"]),
        ),
        (
            "PluginList",
            object(json!({"plugins": array("PluginSummary")}), &["plugins"]),
        ),
        ("PluginSummary", plugin_summary()),
        ("Plugin", plugin()),
        ("EntryPoint", entry_point()),
        ("DataInput", data_input()),
        ("DataOutput", data_output()),
        ("PluginDependency", plugin_dependency()),
        ("Link", link()),
        ("Task", task()),
        ("TaskState", json!({"type": "string", "enum": states})),
        (
            "TaskStatus",
            json!({"type": "string", "enum": ["PENDING", "SUCCESS", "FAILURE", "UNKNOWN"]}),
        ),
        ("Progress", progress()),
        ("Step", step()),
        ("Output", output()),
        ("Event", event()),
        ("TaskList", task_list()),
        ("TaskSummary", task_summary()),
        ("Subscription", subscription()),
        ("DeliveryList", delivery_list()),
        (
            "WorkerList",
            object(json!({"workers": array("Worker")}), &["workers"]),
        ),
        ("Worker", worker()),
        ("Live", closed(json!({"live": {"type": "boolean"}}))),
        ("Readiness", readiness()),
        ("Licenses", licenses()),
        ("Component", component()),
    ];
    let of_keeping = super::keeping::schemas();
    let mut all: BTreeMap<String, Value> = schemas
        .map(|(name, schema)| (name.to_owned(), schema))
        .into();
    all.extend(of_keeping);
    all.extend(super::modules::schemas());
    all.extend(super::pipelines::schemas());
    all.extend(super::sessions::schemas());
    all
}

/// An object; what is not required may be absent.
pub(super) fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}

/// An object that has these keys only, all of them.
pub(super) fn closed(properties: Value) -> Value {
    let required: Vec<_> = properties
        .as_object()
        .into_iter()
        .flat_map(|all| all.keys())
        .collect();
    json!({"type": "object", "required": required, "additionalProperties": false, "properties": properties})
}

pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

pub(super) fn array(name: &str) -> Value {
    json!({"type": "array", "items": reference(name)})
}

pub(super) fn strings() -> Value {
    json!({"type": "array", "items": {"type": "string"}})
}

fn error() -> Value {
    let fields = json!({"type": "object", "additionalProperties": strings()});
    let properties = json!({
        "code": {"type": "integer", "description": "The status, again."},
        "status": {"type": "string", "description": "The status in words."},
        "message": {"type": "string", "description": "What was wrong and what was expected."},
        "errors": {
            "type": "object",
            "description": "What is wrong, by place and field.",
            "properties": {"form": fields, "query": fields, "json": {"anyOf": [fields, strings()]}},
            "additionalProperties": false,
        },
    });
    object(properties, &["code", "status"])
}

fn plugin_summary() -> Value {
    closed(json!({
        "apiRoot": {"type": "string", "format": "uri", "description": "Where its metadata is; ends in a slash."},
        "description": {"type": "string"},
        "identifier": {"type": "string", "examples": ["hello-world@v0-2-1"]},
        "name": {"type": "string"},
        "tags": strings(),
        "version": {"type": "string"},
    }))
}

fn plugin() -> Value {
    closed(json!({
        "name": {"type": "string"},
        "version": {"type": "string", "description": "PEP 440."},
        "title": {"type": "string"},
        "description": {"type": "string"},
        "type": {"type": "string", "enum": ["processing", "visualization", "conversion", "dataloader", "interaction"]},
        "tags": strings(),
        "links": array("Link"),
        "entryPoint": reference("EntryPoint"),
    }))
}

fn entry_point() -> Value {
    closed(json!({
        "href": {"type": "string", "format": "uri-reference", "description": "Where its parameters are posted."},
        "uiHref": {"type": "string", "format": "uri-reference", "description": "Where its form is shown."},
        "pluginDependencies": array("PluginDependency"),
        "dataInput": array("DataInput"),
        "dataOutput": array("DataOutput"),
    }))
}

fn data_input() -> Value {
    closed(json!({
        "dataType": {"type": "string", "examples": ["entity/list"]},
        "contentType": strings(),
        "parameter": {"type": "string", "description": "Key of the parameter."},
        "required": {"type": "boolean"},
    }))
}

fn data_output() -> Value {
    let properties = json!({
        "dataType": {"type": "string", "examples": ["entity/list"]},
        "contentType": strings(),
        "required": {"type": "boolean", "description": "Whether it is always made."},
        "name": {"type": "string"},
    });
    object(properties, &["dataType", "contentType", "required"])
}

fn plugin_dependency() -> Value {
    let properties = json!({
        "parameter": {"type": "string", "description": "Key of the parameter."},
        "required": {"type": "boolean"},
        "tags": strings(),
        "name": {"type": "string"},
        "version": {"type": "string"},
    });
    object(properties, &["parameter", "required", "tags"])
}

fn link() -> Value {
    closed(json!({"type": {"type": "string"}, "href": {"type": "string"}}))
}

fn task() -> Value {
    let properties = json!({
        "status": reference("TaskStatus"),
        "state": reference("TaskState"),
        "plugin": {"type": "string", "description": "Identifier of the plugin."},
        "version": {"type": "integer", "description": "Counts the changes; for `wait`."},
        "labels": strings(),
        "module": closed(json!({
            "digest": {"type": "string", "description": "SHA-256 of the module when the task was made."},
            "runs": {"type": "array", "items": closed(json!({
                "run": {"type": "integer"},
                "digest": {"type": "string"},
            })), "description": "The digest of the module that did each run, of the last hundred."},
            "changed": {"type": "boolean", "description": "Whether one of them is another one."},
        })),
        "priority": {"type": "string", "enum": ["low", "high", "called"], "description": "Absent: normal."},
        "attempts": {"type": "integer", "minimum": 1, "description": "Runs that failed or were lost before; absent: none."},
        "runAt": {"type": "string", "format": "date-time", "description": "It is run not before this moment."},
        "log": {"type": "string"},
        "progress": reference("Progress"),
        "steps": array("Step"),
        "outputs": array("Output"),
        "links": array("Link"),
    });
    object(
        properties,
        &[
            "status", "state", "plugin", "version", "labels", "module", "log", "outputs", "links",
        ],
    )
}

fn progress() -> Value {
    closed(json!({
        "value": {"type": "number"},
        "start": {"type": "number"},
        "target": {"type": "number"},
        "unit": {"type": "string"},
    }))
}

fn step() -> Value {
    closed(json!({
        "href": {"type": "string", "format": "uri", "description": "Where its form is posted."},
        "uiHref": {"type": "string", "format": "uri", "description": "Where its form is shown."},
        "stepId": {"type": "string"},
        "cleared": {"type": "boolean", "description": "Whether it was submitted, or is no longer wanted."},
    }))
}

fn output() -> Value {
    closed(json!({
        "href": {"type": "string", "format": "uri"},
        "dataType": {"type": "string"},
        "contentType": {"type": "string"},
        "name": {"type": "string"},
    }))
}

/// One event of a stream.
fn event() -> Value {
    closed(json!({
        "id": {"type": "string", "description": "Where to go on: for `Last-Event-ID`."},
        "event": {"type": "string", "enum": ["state", "log", "progress", "steps", "link", "output", "pipeline", "end"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    }))
}

fn task_list() -> Value {
    let properties = json!({
        "tasks": array("TaskSummary"),
        "next": {"type": "string", "format": "uri", "description": "The next page; absent on the last."},
    });
    object(properties, &["tasks"])
}

fn task_summary() -> Value {
    let properties = json!({
        "id": {"type": "integer"},
        "href": {"type": "string", "format": "uri"},
        "plugin": {"type": "string", "description": "Identifier of the plugin."},
        "state": reference("TaskState"),
        "status": reference("TaskStatus"),
        "labels": strings(),
        "createdAt": {"type": "string", "format": "date-time"},
        "finishedAt": {"type": "string", "format": "date-time"},
        "progress": reference("Progress"),
    });
    object(
        properties,
        &[
            "id",
            "href",
            "plugin",
            "state",
            "status",
            "labels",
            "createdAt",
        ],
    )
}

fn subscription() -> Value {
    json!({
        "type": "object",
        "required": ["command", "webhookHref"],
        "additionalProperties": false,
        "properties": {
            "command": {"type": "string", "enum": ["subscribe", "unsubscribe"]},
            "webhookHref": {"type": "string", "format": "uri", "pattern": "^https?://", "maxLength": 2000,
                "description": "Posted to with `source` and `event` in its query.",
                "examples": ["http://backend:9090/update"]},
            "event": {"type": ["string", "null"], "enum": ["status", "steps", "details", null],
                "description": "Which changes; all if left out."},
        },
    })
}

fn delivery_list() -> Value {
    let delivery = closed(json!({
        "webhook": {"type": "string"},
        "event": {"type": "string", "enum": ["status", "steps", "details"]},
        "attempts": {"type": "integer", "minimum": 0},
        "lastError": {"type": ["string", "null"]},
        "givenUp": {"type": "boolean"},
        "dueAt": {"type": ["string", "null"], "format": "date-time"},
    }));
    closed(json!({"deliveries": {"type": "array", "items": delivery}}))
}

fn worker() -> Value {
    let running = closed(json!({
        "task": {"type": "integer"},
        "run": {"type": "integer"},
        "plugin": {"type": "string", "description": "Identifier of the plugin."},
    }));
    let mut worker = closed(json!({
        "name": {"type": "string", "description": "Another one at each start."},
        "kind": {"type": "string", "enum": ["server", "worker", "both"]},
        "state": {
            "type": "string",
            "enum": ["alive", "silent", "stopped"],
            "description": "`silent`: its lease ended without a word, and its work is given to others.",
        },
        "host": {"type": "string"},
        "pid": {"type": "integer"},
        "queue": {"type": "string"},
        "concurrency": {"type": "integer", "description": "Runs at a time; 0 of a server."},
        "startedAt": {"type": "string", "format": "date-time"},
        "seenAt": {"type": "string", "format": "date-time", "description": "Its last sign of life."},
        "silentSeconds": {"type": "integer", "description": "Seconds since then."},
        "running": {"type": "array", "items": running},
        "plugins": strings(),
    }));
    let only = |what: &str| json!({"type": "integer", "description": what});
    worker["properties"]["sessions"] =
        only("Kernels of clients; only of a worker that may have some.");
    worker["properties"]["sessionRoom"] = only("How many more it takes.");
    worker["properties"]["cells"] = only("Kernels for cells; only of a worker that may have some.");
    worker["properties"]["cellRoom"] = only("How many more of them it takes.");
    worker
}

fn readiness() -> Value {
    let check = json!({
        "type": "object",
        "required": ["ok"],
        "properties": {"ok": {"type": "boolean"}, "problem": {"type": "string"}},
        "additionalProperties": false,
    });
    let properties = json!({
        "ready": {"type": "boolean"},
        "checks": closed(json!({"sql": check, "broker": check, "files": check, "modules": check})),
        "code": {"type": "integer", "description": "503, where it is not ready."},
        "status": {"type": "string"},
        "message": {"type": "string", "description": "What is wrong."},
    });
    object(properties, &["ready", "checks"])
}

fn licenses() -> Value {
    closed(json!({
        "name": {"type": "string"},
        "version": {"type": "string"},
        "license": {"type": "string", "description": "An SPDX expression."},
        "components": array("Component"),
    }))
}

fn component() -> Value {
    let properties = json!({
        "name": {"type": "string"},
        "version": {"type": "string"},
        "kind": {"type": "string", "enum": ["rust", "web"]},
        "license": {"type": "string", "description": "An SPDX expression."},
        "repository": {"type": "string"},
    });
    object(properties, &["name", "version", "kind", "license"])
}
