//! The operations of the runner itself: those of the table in [`crate::router`].

use runner_core::task::TaskState;
use utoipa::openapi::Required;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::tag::TagBuilder;

use super::Parts;
use super::parts::{
    answers, content, header, json, not_modified, number, operation, optional, page, redirect,
    segment, string, text, word,
};
use super::plugins::{CHECK_ERRORS, CHECK_STEP_ERRORS, CHECKED, PROCESS_ERRORS, STEP_ERRORS, task};
use crate::access::Access::{Admin, Public, User, Viewer};

const TAGS: [(&str, &str); 10] = [
    (
        "plugins",
        "What can be run. Each loaded plugin has its own section with its parameters.",
    ),
    ("tasks", "What became of a submission."),
    ("pipelines", "Graphs of plugins that run as tasks."),
    ("files", "What tasks put out."),
    (
        "sessions",
        "Kernels of clients, as Jupyter's servers have them.",
    ),
    (
        "modules",
        "What is loaded, how it is doing, and what is done with it.",
    ),
    ("schedules", "Work that comes again."),
    ("retention", "How much is kept, and for how long."),
    (
        "installation",
        "Its processes, their health and their numbers.",
    ),
    (
        "documentation",
        "This document, pages that show it, and what they load.",
    ),
];

pub(super) fn add(parts: &mut Parts) {
    for (name, description) in TAGS {
        parts.tags.push(
            TagBuilder::new()
                .name(name)
                .description(Some(description))
                .build(),
        );
    }
    plugins(parts);
    steps(parts);
    tasks(parts);
    changes(parts);
    files(parts);
    installation(parts);
    documentation(parts);
}

fn plugins(parts: &mut Parts) {
    let root = operation("plugins", "getRoot", "What this is")
        .description(Some(
            "JSON, or the list of plugins as a page where `Accept` has `text/html`.",
        ))
        .responses(answers(
            [(200, json("The title.", "Root").content("text/html", text()))],
            &[],
        ));
    parts.add("/", HttpMethod::Get, Public, root);
    let list = operation("plugins", "listPlugins", "All plugins")
        .description(Some("Sorted by name and version. Never a part of them."))
        .responses(answers([(200, json("The plugins.", "PluginList"))], &[503]));
    parts.add("/plugins/", HttpMethod::Get, Viewer, list);
    let show = operation("plugins", "getPlugin", "A plugin's metadata")
        .parameter(identifier(
            "Identifier; or a name alone, for its newest version.",
        ))
        .responses(answers(
            [
                (200, json("The metadata.", "Plugin")),
                (
                    302,
                    redirect("The newest version of the plugin of this name."),
                ),
            ],
            &[404, 503],
        ));
    parts.add("/plugins/{identifier}/", HttpMethod::Get, Viewer, show);
    let form = operation("plugins", "getForm", "A plugin's form")
        .description(Some("The query may prefill its fields."))
        .parameter(identifier("Identifier."))
        .responses(answers([(200, page("The form."))], &[404, 503]));
    parts.add("/plugins/{identifier}/ui/", HttpMethod::Get, Public, form);
    let check = form_body(operation("plugins", "checkForm", "Check a plugin's form"))
        .parameter(identifier("Identifier."))
        .responses(answers([(200, page(CHECKED))], &CHECK_ERRORS));
    parts.add("/plugins/{identifier}/ui/", HttpMethod::Post, User, check);
    let process = form_body(operation("plugins", "process", "Run a plugin"))
        .parameter(identifier("Identifier."))
        .responses(answers(
            [(303, redirect("The task that was made."))],
            &PROCESS_ERRORS,
        ));
    parts.add(
        "/plugins/{identifier}/process/",
        HttpMethod::Post,
        User,
        process,
    );
}

fn steps(parts: &mut Parts) {
    let step = |operation: OperationBuilder| {
        operation
            .parameter(identifier("Identifier."))
            .parameter(task())
            .parameter(segment("stepId", "Id of the step in the task.", step_id()))
    };
    let ui = "/plugins/{identifier}/{task}/{stepId}-ui/";
    let form = step(operation("plugins", "getStepForm", "The form of a step")).responses(answers(
        [(200, page("The form, prefilled by the query."))],
        &[404, 409, 503],
    ));
    parts.add(ui, HttpMethod::Get, Viewer, form);
    let check = step(form_body(operation(
        "plugins",
        "checkStepForm",
        "Check the form of a step",
    )))
    .responses(answers([(200, page(CHECKED))], &CHECK_STEP_ERRORS));
    parts.add(ui, HttpMethod::Post, User, check);
    let process = step(form_body(operation(
        "plugins",
        "processStep",
        "Submit a step",
    )))
    .responses(answers(
        [(303, redirect("The task, queued again."))],
        &STEP_ERRORS,
    ));
    parts.add(
        "/plugins/{identifier}/{task}/{stepId}-process/",
        HttpMethod::Post,
        User,
        process,
    );
}

fn tasks(parts: &mut Parts) {
    let query = |name: &str, description: &str, schema: ObjectBuilder| {
        optional(ParameterIn::Query, name, description, schema)
    };
    let states = TaskState::ALL.map(TaskState::as_str);
    let labels = ArrayBuilder::new().items(string());
    let limit = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(500))
        .default(Some(50.into()));
    let list = operation("tasks", "listTasks", "Tasks, the newest first")
        .parameter(optional(
            ParameterIn::Query,
            "state",
            "Tasks in one of these states.",
            ArrayBuilder::new().items(word(states)),
        ))
        .parameter(query(
            "status",
            "Tasks of this status.",
            word(["PENDING", "SUCCESS", "FAILURE"]),
        ))
        .parameter(query(
            "plugin",
            "Tasks of the plugin of this identifier or name.",
            string(),
        ))
        .parameter(optional(
            ParameterIn::Query,
            "label",
            "Tasks that have all of these labels.",
            labels,
        ))
        .parameter(query("limit", "The most tasks on a page.", limit))
        .parameter(query(
            "cursor",
            "Where the page begins: see `next` of the last one.",
            string().pattern(Some("^[0-9]{1,18}$")),
        ))
        .responses(answers(
            [(200, json("A page of tasks.", "TaskList"))],
            &[422],
        ));
    parts.add("/tasks/", HttpMethod::Get, Viewer, list);
    let seconds = ObjectBuilder::new()
        .schema_type(Type::Number)
        .minimum(Some(0));
    let version = ObjectBuilder::new().schema_type(Type::Integer);
    let show = operation("tasks", "getTask", "A task")
        .description(Some(
            "With `wait` the answer comes as soon as the task changes or is finished.",
        ))
        .parameter(id())
        .parameter(query(
            "wait",
            "Seconds to wait for a change; more than 60 are 60.",
            seconds,
        ))
        .parameter(query(
            "version",
            "The version that is known already; the present one if left out.",
            version,
        ))
        .responses(answers([(200, json("The task.", "Task"))], &[404, 422]));
    parts.add("/tasks/{id}/", HttpMethod::Get, Viewer, show);
    let last = optional(
        ParameterIn::Header,
        "Last-Event-ID",
        "Id of the last event that is known.",
        string(),
    );
    let stream = ResponseBuilder::new()
        .description(EVENTS)
        .content("text/event-stream", content("Event"));
    let events = operation(
        "tasks",
        "followTask",
        "What happens to a task, as it happens",
    )
    .parameter(id())
    .parameter(last)
    .responses(answers([(200, stream)], &[404]));
    parts.add("/tasks/{id}/events", HttpMethod::Get, Viewer, events);
}

/// What the stream of events is.
const EVENTS: &str = "\
Server-sent events; the data of each is JSON. The stream ends when the task does.

- `state`: `state`, `status`, `version`
- `log`: `text`, to be appended
- `progress`: a `Progress`
- `steps`: all steps
- `link`: a `Link`
- `output`: an `Output`
- `pipeline`: a `Pipeline`, where the task is one
- `end`: the last one; the state, or the `reason`";

fn changes(parts: &mut Parts) {
    let body = RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content("application/json", content("Subscription"))
        .build();
    let subscribe = operation(
        "tasks",
        "subscribe",
        "Be told of a task's changes, or no longer",
    )
    .description(Some(
        "`webhookHref` gets an empty POST with `source`, the task's URL, and `event` in its query.",
    ))
    .parameter(id())
    .request_body(Some(body))
    .responses(answers(
        [(200, json("The task.", "Task"))],
        &[404, 413, 422, 507],
    ));
    parts.add("/tasks/{id}/", HttpMethod::Post, User, subscribe);
    let cancel = operation("tasks", "cancelTask", "Cancel a task")
        .description(Some(
            "Ends it and everything it started. Cancelling twice is cancelling once.",
        ))
        .parameter(id())
        .responses(answers(
            [(200, json("The task.", "Task"))],
            &[404, 409, 503, 507],
        ));
    parts.add("/tasks/{id}/cancel", HttpMethod::Post, User, cancel);
    let retry = operation("tasks", "retryTask", "Run a task once more")
        .description(Some(
            "For a task that failed or was cancelled; it goes on at the step that failed.",
        ))
        .parameter(id())
        .responses(answers(
            [(200, json("The task.", "Task"))],
            &[404, 409, 503, 507],
        ));
    parts.add("/tasks/{id}/retry", HttpMethod::Post, User, retry);
    let webhooks = operation("tasks", "listDeliveries", "What subscribers are still to be told")
        .description(Some(
            "In the order of what happened. Those that arrived are gone; those that were given up stay.",
        ))
        .parameter(id())
        .responses(answers(
            [(200, json("The deliveries.", "DeliveryList"))],
            &[404, 503],
        ));
    parts.add("/tasks/{id}/webhooks", HttpMethod::Get, Viewer, webhooks);
    let gone = ResponseBuilder::new().description("It is gone, with its files.");
    let delete = operation("tasks", "deleteTask", "Delete a task, cancelling it first")
        .parameter(id())
        .responses(answers([(204, gone)], &[404, 409, 503, 507]));
    parts.add("/tasks/{id}/", HttpMethod::Delete, User, delete);
}

fn files(parts: &mut Parts) {
    let bytes = || {
        let any = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)));
        ContentBuilder::new().schema(Some(any)).build()
    };
    let described = |description: &str| {
        let mut answer = ResponseBuilder::new()
            .description(description)
            .content("*/*", bytes());
        for (name, description) in [
            ("ETag", "Digest of the content."),
            ("Last-Modified", "When it was made."),
            ("Content-Disposition", "Its name."),
            ("X-Data-Type", "What it means, such as `entity/list`."),
        ] {
            answer = header(answer, name, description, Type::String);
        }
        answer
    };
    let part = header(
        described("A part of it."),
        "Content-Range",
        "Which part.",
        Type::String,
    );
    let elsewhere = header(
        described("Its content stands elsewhere."),
        "Location",
        "Where.",
        Type::String,
    );
    let request = |name, description| optional(ParameterIn::Header, name, description, string());
    let mut tag = optional(
        ParameterIn::Query,
        "file-id",
        "Secret part of its address, from the task's outputs.",
        string(),
    );
    tag.required = Required::True;
    let download = operation("files", "getFile", "An output")
        .parameter(segment("id", "Number of the file.", number()))
        .parameter(tag)
        .parameter(request("Range", "One range of bytes, as in RFC 9110."))
        .parameter(request("If-None-Match", "The `ETag` that is known."))
        .parameter(request(
            "If-Modified-Since",
            "The `Last-Modified` that is known.",
        ))
        .parameter(request(
            "If-Range",
            "Answer a part only while this is its `ETag` or date.",
        ))
        .responses(answers(
            [
                (200, described("The file.")),
                (206, part),
                (304, not_modified()),
                (307, elsewhere),
            ],
            &[404, 416, 422],
        ));
    parts.add("/files/{id}/", HttpMethod::Get, Public, download);
}

fn installation(parts: &mut Parts) {
    let workers = operation(
        "installation",
        "listWorkers",
        "The processes of the installation, and what each runs",
    )
    .description(Some(
        "In the order in which they were started. Those that have gone are shown for an hour. Runs that are over in \
         a moment are not.",
    ))
    .responses(answers([(200, json("The processes.", "WorkerList"))], &[503]));
    parts.add("/workers/", HttpMethod::Get, Admin, workers);
    let numbers = ResponseBuilder::new()
        .description("Text of Prometheus, version 0.0.4.")
        .content("text/plain", text());
    let metrics = operation("installation", "getMetrics", "Numbers for Prometheus")
        .responses(answers([(200, numbers)], &[]));
    parts.add("/metrics", HttpMethod::Get, Viewer, metrics);
    let live = operation("installation", "getLive", "Whether the process answers")
        .responses(answers([(200, json("It does.", "Live"))], &[]));
    parts.add("/health/live", HttpMethod::Get, Public, live);
    let ready = operation("installation", "getReady", "Whether the process can do its work")
        .description(Some(
            "Whether SQL can be written, Redis answers, the file store takes files and its disk has room, and the \
             plugins are loaded. It answers within a second, whatever hangs.",
        ))
        .responses(answers(
            [
                (200, json("It can.", "Readiness")),
                (503, json("It cannot; `message` says why.", "Readiness")),
            ],
            &[],
        ));
    parts.add("/health/ready", HttpMethod::Get, Public, ready);
}

fn documentation(parts: &mut Parts) {
    let known = || {
        optional(
            ParameterIn::Header,
            "If-None-Match",
            "The `ETag` that is known.",
            string(),
        )
    };
    let any = ObjectBuilder::new().schema_type(Type::Object);
    let document = ResponseBuilder::new().description("OpenAPI 3.1.").content(
        "application/json",
        ContentBuilder::new().schema(Some(any)).build(),
    );
    let document = operation("documentation", "getDocument", "This document")
        .parameter(known())
        .responses(answers([(200, document), (304, not_modified())], &[503]));
    parts.add("/api-spec.json", HttpMethod::Get, Viewer, document);
    for (path, id, name) in [
        ("/swagger-ui/", "getSwaggerUi", "Swagger UI"),
        ("/redoc/", "getReDoc", "ReDoc"),
        ("/rapidoc/", "getRapiDoc", "RapiDoc"),
    ] {
        let shown = operation("documentation", id, &format!("This document in {name}"))
            .responses(answers([(200, page("A page."))], &[]));
        parts.add(path, HttpMethod::Get, Public, shown);
    }
    let licenses = operation("documentation", "getLicenses", "What the runner is made of")
        .description(Some("JSON, or a page where `Accept` has `text/html`."))
        .responses(answers(
            [(
                200,
                json("The components.", "Licenses").content("text/html", text()),
            )],
            &[],
        ));
    parts.add("/licenses/", HttpMethod::Get, Public, licenses);
    for (path, id, summary) in [
        ("/static/{name}", "getStatic", "Style or script of a page"),
        (
            "/static/vendor/{name}",
            "getBundle",
            "Style or script of the pages with this document",
        ),
    ] {
        let file = [
            "text/css",
            "text/javascript",
            "image/svg+xml",
            "application/octet-stream",
        ]
        .into_iter()
        .fold(
            ResponseBuilder::new().description("The file."),
            |file, kind| file.content(kind, text()),
        );
        let load = operation("documentation", id, summary)
            .parameter(segment("name", "Name of the file.", string()))
            .parameter(known())
            .responses(answers([(200, file), (304, not_modified())], &[404]));
        parts.add(path, HttpMethod::Get, Public, load);
    }
}

/// Any form; what a certain plugin takes stands at the plugin's own operations.
fn form_body(operation: OperationBuilder) -> OperationBuilder {
    let body = [
        "multipart/form-data",
        "application/x-www-form-urlencoded",
        "application/json",
    ]
    .into_iter()
    .fold(RequestBodyBuilder::new(), |body, kind| {
        let any = ObjectBuilder::new().schema_type(Type::Object);
        body.content(kind, ContentBuilder::new().schema(Some(any)).build())
    });
    operation.request_body(Some(body.build()))
}

fn identifier(description: &str) -> Parameter {
    segment(
        "identifier",
        description,
        string().examples(["hello-world@v0-2-1"]),
    )
}

fn step_id() -> ObjectBuilder {
    string().pattern(Some("^[A-Za-z0-9_-]{1,100}$"))
}

fn id() -> Parameter {
    segment("id", "Number of the task.", number())
}
