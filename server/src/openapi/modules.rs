//! The operations of modules, and their JSON.

use serde_json::{Value, json};
use utoipa::openapi::Required;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::Parts;
use super::parts::{answers, content, header, json, operation, optional, segment, string};
use super::schemas::{array, closed, object, strings};
use crate::access::Access::Admin;

pub(super) fn add(parts: &mut Parts) {
    all(parts);
    one(parts);
    changes(parts);
    measures(parts);
    messages(parts);
}

fn all(parts: &mut Parts) {
    let list = operation(
        "modules",
        "listModules",
        "All modules, and why one was not loaded",
    )
    .description(Some(
        "With loads that a newer one has replaced, while what runs on them ends: these are FINALIZING.",
    ))
    .responses(answers([(200, json("The modules.", "ModuleList"))], &[]));
    parts.add("/modules/", HttpMethod::Get, Admin, list);
    let made = header(
        json("It is RUNNING.", "Module"),
        "Location",
        "Where it is.",
        Type::String,
    );
    let body = RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content("application/json", content("NewModule"));
    let load = operation("modules", "loadModule", "Load a module")
        .description(Some(
            "Answered when it is RUNNING, or with the reason why it is not; then nothing of it is left.",
        ))
        .request_body(Some(body.build()))
        .responses(answers([(201, made)], &[409, 413, 422]));
    parts.add("/modules/", HttpMethod::Post, Admin, load);
}

fn one(parts: &mut Parts) {
    let show = named("getModule", "A module")
        .responses(answers([(200, json("The module.", "Module"))], &[404]));
    parts.add("/modules/{name}/", HttpMethod::Get, Admin, show);
    let remove = named("removeModule", "End a module and forget it")
        .description(Some(
            "What runs goes on to its end, until the deadline; then its processes are killed, with all that they have \
             started. A load that is in progress is given up. One of a plugin folder is found again at the next start.",
        ))
        .parameter(deadline())
        .responses(answers([(200, json("It is gone.", "Ended"))], &[404, 409, 422]));
    parts.add("/modules/{name}/", HttpMethod::Delete, Admin, remove);
}

fn changes(parts: &mut Parts) {
    let start = named("startModule", "Load a module again that is EXITED").responses(answers(
        [(200, json("It is RUNNING.", "Module"))],
        &[404, 409, 422],
    ));
    parts.add("/modules/{name}/start", HttpMethod::Post, Admin, start);
    let stop = named("stopModule", "End a module, which stays known")
        .parameter(deadline())
        .responses(answers(
            [(200, json("It is EXITED.", "Ended"))],
            &[404, 409, 422],
        ));
    parts.add("/modules/{name}/stop", HttpMethod::Post, Admin, stop);
    let body = RequestBodyBuilder::new()
        .required(Some(Required::False))
        .content("application/json", content("ModuleReload"));
    let reload = named("reloadModule", "Put the newer version of a module into its place")
        .description(Some(
            "Answered when the newer one is RUNNING. The older one takes nothing more from then on, and ends when what \
             runs on it has. If the newer one cannot be loaded, the older one is as it was.",
        ))
        .parameter(deadline())
        .request_body(Some(body.build()))
        .responses(answers([(200, json("It is RUNNING.", "Module"))], &[404, 409, 413, 422]));
    parts.add("/modules/{name}/reload", HttpMethod::Post, Admin, reload);
}

fn measures(parts: &mut Parts) {
    let stats = named(
        "getModuleStats",
        "What the runs and processes of a module came to",
    )
    .responses(answers(
        [(200, json("The numbers.", "ModuleStats"))],
        &[404],
    ));
    parts.add("/modules/{name}/stats", HttpMethod::Get, Admin, stats);
    let gone = ResponseBuilder::new().description("They are zero.");
    let reset = named("resetModuleStats", "Set the numbers of a module to zero")
        .responses(answers([(204, gone)], &[404]));
    parts.add("/modules/{name}/stats", HttpMethod::Delete, Admin, reset);
    let rusage = named(
        "getModuleUsage",
        "What the living processes of a module have used",
    )
    .responses(answers(
        [(200, json("The processes.", "ModuleUsage"))],
        &[404],
    ));
    parts.add("/modules/{name}/rusage", HttpMethod::Get, Admin, rusage);
    let ping = named("pingModule", "Ask a process of a module for a sign of life")
        .description(Some("One that runs nothing, or a new one."))
        .responses(answers(
            [(200, json("It answered.", "Pong"))],
            &[404, 409, 502],
        ));
    parts.add("/modules/{name}/ping", HttpMethod::Post, Admin, ping);
}

fn messages(parts: &mut Parts) {
    let pattern = optional(
        ParameterIn::Query,
        "messages",
        "A glob of topics: the methods of the plugin protocol, with `.answer` behind that of a request for its answer.",
        string(),
    );
    let stream = ResponseBuilder::new()
        .description(
            "Events: `message`; `dropped` with a `count`, for who reads too slowly; `end`.",
        )
        .content("text/event-stream", content("TraceEvent"));
    let trace = named(
        "traceModule",
        "See the messages of the processes of a module",
    )
    .parameter(pattern)
    .responses(answers([(200, stream)], &[404, 422]));
    parts.add("/modules/{name}/trace", HttpMethod::Get, Admin, trace);
    let show = named("getModuleFaults", "Which messages of a module are held up").responses(
        answers([(200, json("The faults.", "ModuleFaults"))], &[404]),
    );
    parts.add("/modules/{name}/debug", HttpMethod::Get, Admin, show);
    let body = RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content("application/json", content("ModuleFault"));
    let set = named(
        "setModuleFault",
        "Hold up messages of a module, as if it were stuck",
    )
    .description(Some(
        "One fault for each pattern; the action `none` takes it away.",
    ))
    .request_body(Some(body.build()))
    .responses(answers(
        [(200, json("The faults.", "ModuleFaults"))],
        &[404, 413, 422],
    ));
    parts.add("/modules/{name}/debug", HttpMethod::Post, Admin, set);
}

fn named(id: &str, summary: &str) -> OperationBuilder {
    operation("modules", id, summary).parameter(name())
}

fn name() -> Parameter {
    segment("name", "Name of the module.", string())
}

fn deadline() -> Parameter {
    let seconds = ObjectBuilder::new()
        .schema_type(Type::Number)
        .minimum(Some(0))
        .maximum(Some(86_400));
    let description = "Seconds that runs may take to end; MODULE_DRAIN if absent.";
    optional(ParameterIn::Query, "deadline", description, seconds)
}

/// The schemas of all this.
pub(super) fn schemas() -> impl Iterator<Item = (String, Value)> {
    let generation = || json!({"type": "integer", "description": "Of what is wanted of modules: as far as it was followed."});
    let other = closed(json!({
        "process": {"type": "string"},
        "host": {"type": "string"},
        "kind": {"type": "string", "enum": ["server", "worker", "both"]},
        "generation": generation(),
        "failing": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Why it has not what it should have, by the names of modules."},
    }));
    let list = object(
        json!({
            "modules": array("Module"),
            "sandbox": confined(),
            "generation": generation(),
            "removed": {"type": "array", "items": {"type": "string"}, "description": "Modules of plugin folders that an administrator removed."},
            "others": {"type": "array", "items": other, "description": "The other processes of the queue."},
        }),
        &["modules", "sandbox", "generation", "removed", "others"],
    );
    let schemas = [
        ("ModuleList", list),
        ("Module", module()),
        ("TraceEvent", trace_event()),
        ("NewModule", new_module()),
        (
            "ModuleReload",
            json!({"type": "object", "additionalProperties": false, "properties": {"args": args()}}),
        ),
        (
            "Ended",
            closed(
                json!({"killed": {"type": "integer", "description": "Processes that were still at work at the deadline."}}),
            ),
        ),
        ("ModuleStats", stats()),
        ("ModuleUsage", closed(json!({"hosts": array("HostUsage")}))),
        ("HostUsage", host_usage()),
        (
            "ModuleFaults",
            closed(json!({"faults": array("ModuleFault")})),
        ),
        ("ModuleFault", fault()),
        (
            "Pong",
            closed(json!({
                "pid": {"type": "integer"},
                "milliseconds": {"type": "number", "description": "From the question to the answer."},
            })),
        ),
    ];
    schemas
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema))
}

fn confined() -> Value {
    json!({"type": "string", "description": "How hosts are confined on this machine."})
}

fn args() -> Value {
    json!({"type": "array", "items": true, "description": "Handed to the module, instead of those in its manifest."})
}

fn new_module() -> Value {
    json!({"type": "object", "additionalProperties": false, "required": ["target"], "properties": {
        "target": {"type": "string", "description": "An absolute path; without a slash the name of a module or file in the plugin folders."},
        "name": {"type": "string", "minLength": 1, "maxLength": 100, "description": "Its name; that in its manifest, or of its file, if absent."},
        "args": args(),
        "loader": {"type": "string", "description": "Instead of the one that its file has."},
    }})
}

fn trace_event() -> Value {
    closed(json!({
        "event": {"type": "string", "enum": ["message", "dropped", "end"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    }))
}

fn module() -> Value {
    let process = object(
        json!({
            "pid": {"type": "integer"},
            "task": {"type": "integer", "description": "What it runs now."},
            "resident": {"type": "integer", "description": "Bytes of it that are in memory; 0 where that is not known."},
            "sandbox": sandbox(),
        }),
        &["pid", "resident", "sandbox"],
    );
    let properties = json!({
        "name": {"type": "string"},
        "path": {"type": "string"},
        "loader": {"type": "string"},
        "sha256": {"type": "string", "description": "Empty until it was read."},
        "size": {"type": "integer"},
        "uuid": {"type": "string", "format": "uuid", "description": "Another one for each load."},
        "state": {"type": "string", "enum": ["INIT", "RUNNING", "FINALIZING", "EXITED"]},
        "reason": {"type": "string"},
        "doing": {"type": "string", "description": "What is done while it is INIT, if that takes a while: its environment is made."},
        "environment": {"type": "string", "description": "The virtual environment with its packages: its folder in environments/ of the instance folder."},
        "refused": {"type": "string", "description": "Why its newer version was not taken, the last time."},
        "plugins": strings(),
        "sandbox": confined(),
        "failed": {"type": "boolean", "description": "Its processes ended too often, and none is started for a while; the reason says more."},
        "origin": {"type": "string", "enum": ["folder", "administrator"]},
        "args": args(),
        "idleSeconds": {"type": "integer", "description": "Since it last had something to do; absent if it never had."},
        "queued": {"type": "integer", "description": "Tasks that are queued for its plugins."},
        "differing": {"type": "array", "items": closed(json!({
            "process": {"type": "string"},
            "host": {"type": "string"},
            "plugin": {"type": "string"},
            "sha256": {"type": "string"},
        })), "description": "Other processes that have another digest under the identity of one of its plugins."},
        "failing": {"type": "array", "items": closed(json!({
            "process": {"type": "string"},
            "host": {"type": "string"},
            "reason": {"type": "string"},
        })), "description": "Other processes that have not the module as it should be."},
        "processes": {"type": "array", "items": process, "description": "All its hosts, each with the sandbox that is really in force."},
        "hosts": {"type": "array", "items": {"type": "integer"}, "description": "Pids of its hosts that wait for work."},
    });
    let required = [
        "name",
        "path",
        "loader",
        "sha256",
        "size",
        "uuid",
        "state",
        "plugins",
        "sandbox",
        "failed",
        "origin",
        "args",
        "queued",
        "differing",
        "failing",
        "processes",
        "hosts",
    ];
    object(properties, &required)
}

fn sandbox() -> Value {
    closed(json!({
        "levels": {"type": "array", "items": {"type": "string", "enum": ["L1", "L2", "L3", "L4"]}},
        "layers": strings(),
        "missing": strings(),
    }))
}

fn stats() -> Value {
    let count = |what: &str| json!({"type": "integer", "description": what});
    closed(json!({
        "succeeded": count("Runs that the plugin brought to a good end."),
        "failed": count("Runs that the plugin failed."),
        "cancelled": count("Runs that were cancelled."),
        "timedOut": count("Runs that took too long."),
        "lost": count("Runs whose process ended, or spoke nonsense."),
        "busyMs": count("Milliseconds that processes were at work on runs, summed."),
        "visits": count("Requests to routes of its own."),
        "hostsStarted": count("Processes that were started."),
        "hostsFailed": count("Processes that could not be started."),
    }))
}

fn fault() -> Value {
    let properties = json!({
        "messages": {"type": "string", "description": "A glob of topics."},
        "direction": {"type": "string", "enum": ["fromHost", "toHost"], "default": "fromHost"},
        "action": {"type": "string", "enum": ["delay", "defer", "drop", "none"]},
        "seconds": {"type": "number", "minimum": 0, "maximum": 3600, "description": "How much later, with `delay`."},
    });
    object(properties, &["messages", "action"])
}

fn host_usage() -> Value {
    closed(json!({
        "pid": {"type": "integer"},
        "userSeconds": {"type": "number", "description": "Of the processor, with all that it has started."},
        "systemSeconds": {"type": "number"},
        "resident": {"type": "integer", "description": "Bytes that are in memory now."},
        "processes": {"type": "integer"},
    }))
}
