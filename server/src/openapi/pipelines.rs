//! The operations of pipelines, and their JSON.

use serde_json::{Value, json};
use utoipa::openapi::Required;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;

use super::Parts;
use super::parts::{
    answers, content, json, number, operation, optional, redirect, segment, string, text, word,
};
use super::schemas::object;
use crate::access::Access::{Author, User, Viewer};

pub(super) fn add(parts: &mut Parts) {
    run(parts);
    show(parts);
    changes(parts);
}

fn run(parts: &mut Parts) {
    let body = RequestBodyBuilder::new()
        .description(Some(
            "A pipeline, or an object with `pipeline` and its `parameters`. `_label`, `_priority`, `_runAt`, `_retries` and \
             `_timeout` are about its task.",
        ))
        .required(Some(Required::True))
        .content("application/json", content("PipelineWish"))
        .content("application/yaml", text())
        .content("application/toml", text());
    let stream = ResponseBuilder::new()
        .description(LEAVING)
        .content("application/x-ndjson", text())
        .content("text/event-stream", text());
    let header =
        |name: &str, description: &str| optional(ParameterIn::Header, name, description, string());
    let run = operation(
        "pipelines",
        "runPipeline",
        "Run a pipeline that comes with the request",
    )
    .description(Some(
        "As a task. A client that goes away ends it, unless it sent an Idempotency-Key.",
    ))
    .parameter(header(
        "Prefer",
        "`respond-async`: the task is not waited for.",
    ))
    .parameter(header(
        "Idempotency-Key",
        "Chosen by the client, so that a request that is sent again begins nothing new.",
    ))
    .request_body(Some(body.build()))
    .responses(answers(
        [
            (200, stream),
            (303, redirect("The task, which is not waited for.")),
        ],
        &[409, 413, 415, 422, 503, 507],
    ));
    parts.add("/pipelines/", HttpMethod::Post, Author, run);
}

/// What the stream is.
const LEAVING: &str = "\
What leaves the pipeline, a JSON document on each line (its kind is `event`), or as server-sent events:

- `task`: `task`, `href`
- `item`: `node`, `number`, `value`; those of a node come in their order
- `behind`: the client reads too slowly; further items of this `node`, from this `number` on, come at the end
- `again`: the task is run once more, and its items begin anew
- `end`: the last one; `state`, `status`, `items` by node, the end of the `log`; or the `reason`";

fn named(id: &str, summary: &str) -> OperationBuilder {
    operation("pipelines", id, summary).parameter(segment("id", "Number of the task.", number()))
}

/// What a tap tells.
const SAMPLES: &str = "\
Server-sent events:

- `item`: `lineage`, and `value` (or `size`, of a large one)
- `behind`: the client reads too slowly; `missed` messages with samples were not kept for it, at least
- `end`: the last one; `state`, `status`; or the `reason`

The run is never slower for it.";

fn show(parts: &mut Parts) {
    let pipeline = json("The pipeline.", "Pipeline")
        .content("text/vnd.mermaid", text())
        .content("text/vnd.graphviz", text());
    let show = named(
        "getPipeline",
        "How a pipeline is doing that runs, or did, as a task",
    )
    .parameter(optional(
        ParameterIn::Query,
        "format",
        "`mermaid` or `dot`: its graph alone, for programs that draw; also by `Accept`.",
        word(["json", "mermaid", "dot"]),
    ))
    .responses(answers([(200, pipeline)], &[404, 409, 422]));
    parts.add("/tasks/{id}/pipeline", HttpMethod::Get, Viewer, show);
    let samples = ResponseBuilder::new()
        .description(SAMPLES)
        .content("text/event-stream", text());
    let socket = ResponseBuilder::new().description(
        "A WebSocket, where one is asked for: the same records, each a text with a JSON object whose kind is `event`.",
    );
    let tap = named("tapPipeline", "Samples of what passes on an edge")
        .parameter(optional(
            ParameterIn::Query,
            "edge",
            "The edge, such as `a->b`, or `a.errors->b`.",
            string(),
        ))
        .responses(answers(
            [(101, socket), (200, samples)],
            &[403, 404, 409, 422],
        ));
    parts.add("/tasks/{id}/pipeline/tap", HttpMethod::Get, User, tap);
}

fn changes(parts: &mut Parts) {
    let changes = [
        (
            "pause",
            "pausePipeline",
            "Hold a pipeline, or one of its nodes",
        ),
        (
            "resume",
            "resumePipeline",
            "Let a pipeline go on, or one of its nodes",
        ),
    ];
    for (verb, id, summary) in changes {
        let body = RequestBodyBuilder::new()
            .required(Some(Required::False))
            .content("application/json", content("PipelineNode"));
        let change = named(id, summary)
            .request_body(Some(body.build()))
            .responses(answers(
                [(200, json("The pipeline.", "Pipeline"))],
                &[404, 409, 413, 415, 422, 507],
            ));
        parts.add(
            &format!("/tasks/{{id}}/pipeline/{verb}"),
            HttpMethod::Post,
            User,
            change,
        );
    }
    let drain = named(
        "drainPipeline",
        "End the sources of a pipeline, and let go on what is on its way",
    )
    .responses(answers(
        [(200, json("The pipeline.", "Pipeline"))],
        &[404, 409],
    ));
    parts.add("/tasks/{id}/pipeline/drain", HttpMethod::Post, User, drain);
}

/// Their JSON.
pub(super) fn schemas() -> [(String, Value); 3] {
    let graph = json!({
        "type": ["object", "null"],
        "description": "`nodes` and `edges`; absent until it has begun.",
    });
    let seen = json!({
        "type": ["object", "null"],
        "description": "`nodes` and `edges` with their counts, `rate` (items a second), `fill`, and `latency` (p50, p90, p99 in seconds).",
    });
    let wanted = json!({"type": "object", "description": "What was asked for: `isPaused`, `pausedNodes`, `isDrained`."});
    let pipeline = object(
        json!({
            "task": {"type": "integer"}, "run": {"type": "integer"}, "state": {"type": "string"},
            "status": {"type": "string"}, "graph": graph, "seen": seen, "wanted": wanted,
        }),
        &["task", "state", "status", "graph", "seen", "wanted"],
    );
    let node = object(
        json!({"node": {"type": "string", "description": "One node; all of them if left out."}}),
        &[],
    );
    let wish = json!({"type": "object", "additionalProperties": true});
    [
        ("Pipeline", pipeline),
        ("PipelineNode", node),
        ("PipelineWish", wish),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
}
