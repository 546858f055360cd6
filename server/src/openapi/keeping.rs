//! The operations of schedules and of retention, and their JSON.

use serde_json::{Map, Value, json};
use utoipa::openapi::Required;
use utoipa::openapi::path::{HttpMethod, Parameter};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::Type;

use super::Parts;
use super::parts::{answers, content, header, json, number, operation, redirect, segment};
use super::schemas::{array, closed, object, strings};
use crate::access::Access::Admin;

pub(super) fn add(parts: &mut Parts) {
    schedules(parts);
    retention(parts);
}

fn schedules(parts: &mut Parts) {
    let one = "/schedules/{id}/";
    let list = operation(
        "schedules",
        "listSchedules",
        "All schedules, by their names",
    )
    .responses(answers(
        [(200, json("The schedules.", "ScheduleList"))],
        &[],
    ));
    parts.add("/schedules/", HttpMethod::Get, Admin, list);
    let made = header(
        json("It was made.", "Schedule"),
        "Location",
        "Where it is.",
        Type::String,
    );
    let make = operation("schedules", "makeSchedule", "Make a schedule")
        .description(Some(
            "Either `cron` or `every`. What is never due is refused, and so are parameters that its plugin does not take.",
        ))
        .request_body(Some(body("NewSchedule")))
        .responses(answers([(201, made)], &[409, 413, 422, 503, 507]));
    parts.add("/schedules/", HttpMethod::Post, Admin, make);
    let show = operation("schedules", "getSchedule", "A schedule")
        .parameter(id())
        .responses(answers([(200, json("The schedule.", "Schedule"))], &[404]));
    parts.add(one, HttpMethod::Get, Admin, show);
    let change = operation("schedules", "changeSchedule", "Change a schedule")
        .description(Some(
            "What is not named stays as it is. Of one that a module declares only `enabled` can be changed.",
        ))
        .parameter(id())
        .request_body(Some(body("ScheduleChange")))
        .responses(answers(
            [(200, json("The schedule.", "Schedule"))],
            &[404, 409, 413, 422, 503, 507],
        ));
    parts.add(one, HttpMethod::Patch, Admin, change);
    let gone = ResponseBuilder::new().description("It is gone; its tasks stay.");
    let remove = operation("schedules", "removeSchedule", "Remove a schedule")
        .parameter(id())
        .responses(answers([(204, gone)], &[404, 409, 503, 507]));
    parts.add(one, HttpMethod::Delete, Admin, remove);
    let run = operation("schedules", "runSchedule", "Fire a schedule now")
        .description(Some(
            "Also one that is disabled. Its `overlap` holds: with `skip` 409 while its last task has not ended.",
        ))
        .parameter(id())
        .responses(answers(
            [
                (202, json("It waits for a task of the schedule.", "Schedule")),
                (303, redirect("The task that was made.")),
            ],
            &[404, 409, 503, 507],
        ));
    parts.add("/schedules/{id}/run", HttpMethod::Post, Admin, run);
}

fn retention(parts: &mut Parts) {
    let show = operation(
        "retention",
        "getRetention",
        "What is kept, and what is removed",
    )
    .responses(answers(
        [(
            200,
            json("How much there is, and for how long.", "Retention"),
        )],
        &[],
    ));
    parts.add("/retention/", HttpMethod::Get, Admin, show);
    let run = operation("retention", "runRetention", "Remove what is old now").responses(answers(
        [(200, json("What was removed.", "Removed"))],
        &[409, 503, 507],
    ));
    parts.add("/retention/run", HttpMethod::Post, Admin, run);
}

fn id() -> Parameter {
    segment("id", "Number of the schedule.", number())
}

fn body(schema: &str) -> RequestBody {
    RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content("application/json", content(schema))
        .build()
}

/// The schemas of all this.
pub(super) fn schemas() -> impl Iterator<Item = (String, Value)> {
    let list = closed(json!({"schedules": array("Schedule")}));
    let schemas = [
        ("ScheduleList", list),
        ("Schedule", schedule()),
        ("NewSchedule", wish(&["name", "plugin"])),
        ("ScheduleChange", wish(&[])),
        ("Retention", retention_schema()),
        ("Removed", removed()),
    ];
    schemas
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema))
}

/// What can be said of a schedule.
fn said() -> Map<String, Value> {
    let properties = json!({
        "name": {"type": "string", "minLength": 1, "maxLength": 80, "description": "Unique."},
        "plugin": {"type": "string", "minLength": 1, "description": "Identifier; or a name alone, for its newest version.",
            "examples": ["hello-world@v0-2-1"]},
        "parameters": {"type": "object", "description": "As the plugin's own operation takes them."},
        "cron": {"type": "string", "maxLength": 200, "description": "Minute, hour, day of the month, month, day of the week.",
            "examples": ["0 3 * * *"]},
        "every": {"type": "string", "description": "A span of time.", "examples": ["15m"]},
        "timeZone": {"type": "string", "description": "IANA name; of `cron`.", "examples": ["Europe/Berlin"]},
        "jitter": {"type": "string", "description": "Up to this span it is fired later.", "examples": ["30s"]},
        "overlap": {"type": "string", "enum": ["skip", "queue", "cancel", "allow"],
            "description": "What is done while its last task has not ended."},
        "missed": {"type": "string", "enum": ["skip", "once", "all"],
            "description": "What is done with firings for which no runner was there."},
        "enabled": {"type": "boolean"},
        "priority": {"type": "string", "enum": ["low", "normal", "high"]},
        "retries": {"type": "integer", "minimum": 0, "maximum": 100},
        "timeout": {"type": "number", "minimum": 0.001, "maximum": 1e9, "description": "Seconds of one run."},
        "labels": {"type": "array", "maxItems": 19,
            "items": {"type": "string", "minLength": 1, "maxLength": 100}},
    });
    match properties {
        Value::Object(properties) => properties,
        // It is one.
        _ => Map::new(),
    }
}

fn wish(required: &[&str]) -> Value {
    let mut properties = said();
    for (key, schema) in &mut properties {
        // Nothing is the same as not said; what is required is there.
        if !required.contains(&key.as_str()) {
            *schema = json!({"anyOf": [schema, {"type": "null"}]});
        }
    }
    json!({
        "type": "object",
        "required": required,
        "additionalProperties": false,
        "properties": properties,
    })
}

fn schedule() -> Value {
    let mut properties = said();
    let more = json!({
        "id": {"type": "integer"},
        "href": {"type": "string", "format": "uri"},
        "module": {"type": "string", "description": "The module that declares it."},
        "description": {"type": "string", "description": "When it is due, in words."},
        "next": {"type": "array", "items": {"type": "string"}, "maxItems": 5,
            "description": "When it is due next, as a clock in its time zone shows it."},
        "firesAt": {"type": "string", "format": "date-time", "description": "When it is fired next, with its jitter."},
        "pending": {"type": "integer", "minimum": 0, "description": "Firings that wait for the end of its task."},
        "lastAt": {"type": "string", "format": "date-time"},
        "lastTask": {"type": "string", "format": "uri"},
        "lastError": {"type": "string", "description": "What went wrong or was left out the last time."},
    });
    if let Value::Object(more) = more {
        properties.extend(more);
    }
    object(
        Value::Object(properties),
        &[
            "id",
            "href",
            "name",
            "plugin",
            "parameters",
            "timeZone",
            "jitter",
            "overlap",
            "missed",
            "enabled",
            "priority",
            "labels",
            "next",
            "pending",
        ],
    )
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn counted() -> Value {
    closed(json!({"count": count(), "bytes": count()}))
}

fn due() -> Value {
    json!({
        "tasks": count(), "files": count(), "bytes": count(),
        "kept": {"type": "integer", "minimum": 0,
            "description": "Old tasks that something needs which has not ended."},
    })
}

fn removed() -> Value {
    let mut properties = due();
    properties["temporary"] = count();
    properties["permalinks"] = count();
    properties["errors"] = strings();
    closed(properties)
}

fn retention_schema() -> Value {
    let keep = json!({"type": "string", "examples": ["30d", "forever", "succeeded=7d,failed=90d,cancelled=7d"]});
    let usage = json!({
        "tasks": {"type": "object", "additionalProperties": count()},
        "outputs": counted(),
        "uploads": counted(),
        "temporary": counted(),
        "content": counted(),
        "database": count(),
        "free": count(),
    });
    let usage = object(
        usage,
        &[
            "tasks",
            "outputs",
            "uploads",
            "temporary",
            "content",
            "free",
        ],
    );
    let properties = json!({
        "keep": closed(json!({"tasks": keep, "files": keep, "temporary": keep, "permalinks": keep})),
        "usage": usage,
        "due": closed(due()),
        "lastAt": {"type": "string", "format": "date-time"},
        "nextAt": {"type": "string", "format": "date-time"},
        "last": {"$ref": "#/components/schemas/Removed"},
    });
    object(properties, &["keep", "usage", "due"])
}
