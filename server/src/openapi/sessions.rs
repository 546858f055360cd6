//! The operations of sessions, and their JSON.

use serde_json::{Value, json};
use utoipa::openapi::Required;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::Type;

use super::Parts;
use super::parts::{answers, content, header, json, operation, optional, segment, string, text};
use super::schemas::{array, object};
use crate::access::Access::{Author, Public, Viewer};

pub(super) fn add(parts: &mut Parts) {
    specs(parts);
    kernels(parts);
    changes(parts);
    channels(parts);
    files(parts);
    notebooks(parts);
}

/// An operation of sessions. Where a process has none, it says so.
fn session(id: &str, summary: &str) -> OperationBuilder {
    operation("sessions", id, summary)
}

fn id() -> Parameter {
    segment("id", "Id of the kernel.", string())
}

fn specs(parts: &mut Parts) {
    let version = session("getJupyter", "That this is a server of Jupyter's kind").responses(
        answers([(200, json("The version.", "JupyterVersion"))], &[]),
    );
    parts.add("/api", HttpMethod::Get, Public, version);
    let list = session("listKernelspecs", "Which kernels there may be").responses(answers(
        [(200, json("The kernelspecs.", "KernelspecList"))],
        &[],
    ));
    parts.add("/api/kernelspecs", HttpMethod::Get, Viewer, list);
    let show = session("getKernelspec", "A kernelspec")
        .parameter(segment("name", "Its name.", string()))
        .responses(answers(
            [(200, json("The kernelspec.", "Kernelspec"))],
            &[404],
        ));
    parts.add("/api/kernelspecs/{name}", HttpMethod::Get, Viewer, show);
    let picture = ResponseBuilder::new()
        .description("The picture.")
        .content("image/png", text())
        .content("image/svg+xml", text());
    let resource = session("getKernelspecResource", "A picture of a kernelspec")
        .parameter(segment("name", "Its name.", string()))
        .parameter(segment(
            "file",
            "Name of the file, from its `resources`.",
            string(),
        ))
        .responses(answers([(200, picture)], &[404]));
    parts.add(
        "/api/kernelspecs/{name}/{file}",
        HttpMethod::Get,
        Viewer,
        resource,
    );
}

fn kernels(parts: &mut Parts) {
    let list = session("listKernels", "Kernels, the oldest first")
        .description(Some(
            "Those of whoever asks; to administrators, all of them.",
        ))
        .responses(answers([(200, json("The kernels.", "KernelList"))], &[]));
    parts.add("/api/kernels", HttpMethod::Get, Author, list);
    let made = header(
        json("It was made.", "Kernel"),
        "Location",
        "Where it is.",
        Type::String,
    );
    let make = session("makeKernel", "Begin a session")
        .description(Some(
            "503 with `Retry-After` where as many live as may live, or none can be started; 500 where its kernelspec is broken.",
        ))
        .request_body(Some(body("NewKernel", Required::False)))
        .responses(answers([(201, made)], &[404, 413, 503]));
    parts.add("/api/kernels", HttpMethod::Post, Author, make);
    let show = session("getKernel", "A kernel")
        .parameter(id())
        .responses(answers([(200, json("The kernel.", "Kernel"))], &[404]));
    parts.add("/api/kernels/{id}", HttpMethod::Get, Author, show);
    let gone = ResponseBuilder::new().description("It is gone, with its files and its log.");
    let remove = session("removeKernel", "End a session")
        .parameter(id())
        .responses(answers([(204, gone)], &[404]));
    parts.add("/api/kernels/{id}", HttpMethod::Delete, Author, remove);
}

fn changes(parts: &mut Parts) {
    let done = ResponseBuilder::new().description("It was told.");
    let interrupt = session("interruptKernel", "Interrupt what a kernel is at")
        .parameter(id())
        .responses(answers([(204, done)], &[404]));
    parts.add(
        "/api/kernels/{id}/interrupt",
        HttpMethod::Post,
        Author,
        interrupt,
    );
    let restart = session("restartKernel", "Replace a kernel by a new one")
        .description(Some(
            "Its folder stays. Requests without an answer are answered with an error.",
        ))
        .parameter(id())
        .responses(answers([(200, json("The kernel.", "Kernel"))], &[404, 503]));
    parts.add(
        "/api/kernels/{id}/restart",
        HttpMethod::Post,
        Author,
        restart,
    );
    let plain = |description: &str| {
        ResponseBuilder::new()
            .description(description)
            .content("text/plain", text())
    };
    let errors = session(
        "getKernelErrors",
        "What a kernel wrote to its standard error, beside output of cells",
    )
    .parameter(id())
    .responses(answers([(200, plain("Up to 1 MiB of it."))], &[404]));
    parts.add("/api/kernels/{id}/stderr", HttpMethod::Get, Author, errors);
    let output = session("getKernelOutput", "Output that was too much for messages")
        .parameter(id())
        .parameter(segment(
            "name",
            "Secret name of the file, from a message.",
            string(),
        ))
        .responses(answers([(200, plain("The output."))], &[404]));
    parts.add(
        "/api/kernels/{id}/outputs/{name}",
        HttpMethod::Get,
        Public,
        output,
    );
}

/// What the WebSocket is.
const CHANNELS: &str = "\
Messages of Jupyter in both directions, with the subprotocol `v1.kernel.websocket.jupyter.org`, or without one as JSON.

An id that nobody has begins a session, whose kernel is started by the first message. A client that comes back with its \
`session_id` is told what was said since it left.";

fn channels(parts: &mut Parts) {
    let query =
        |name: &str, description: &str| optional(ParameterIn::Query, name, description, string());
    let switched = ResponseBuilder::new().description("The WebSocket.");
    let connect = session("connectKernel", "Talk with a kernel")
        .description(Some(CHANNELS))
        .parameter(id())
        .parameter(query("session_id", "The name that the client gives itself."))
        .parameter(query(
            "offset",
            "Where in the log it goes on; 0 for all that was said. Messages have the next one in `metadata.offset` then.",
        ))
        .responses(answers([(101, switched)], &[404, 503]));
    parts.add(
        "/api/kernels/{id}/channels",
        HttpMethod::Get,
        Author,
        connect,
    );
}

fn files(parts: &mut Parts) {
    let one = "/api/kernels/{id}/files/{path}";
    let at = |operation: OperationBuilder| {
        operation.parameter(id()).parameter(segment(
            "path",
            "Path in the folder of the session; it may have slashes.",
            string(),
        ))
    };
    let folder = || {
        optional(
            ParameterIn::Query,
            "folder",
            "A folder of the session; all of it where none is named.",
            string(),
        )
    };
    let list = session("listKernelFiles", "Files of a session")
        .parameter(id())
        .parameter(folder())
        .responses(answers(
            [(200, json("Up to 10,000 of them.", "KernelFileList"))],
            &[400, 404, 409],
        ));
    parts.add("/api/kernels/{id}/files", HttpMethod::Get, Author, list);
    let form = RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content("multipart/form-data", content("KernelFileForm"))
        .build();
    let made = || json("What was put there.", "KernelFilesMade");
    let post = session("postKernelFiles", "Put files into a session")
        .description(Some(
            "Each part with a `filename` is a file, and that is its path; it may have slashes. All of them are taken, or none.",
        ))
        .parameter(id())
        .parameter(folder())
        .request_body(Some(form))
        .responses(answers([(201, made())], &[400, 404, 409, 413, 507]));
    parts.add("/api/kernels/{id}/files", HttpMethod::Post, Author, post);
    let archive = ResponseBuilder::new()
        .description("The archive.")
        .content("application/zip", text());
    let zip = session("getKernelFilesZip", "Files of a session as an archive")
        .parameter(id())
        .parameter(folder())
        .responses(answers([(200, archive)], &[400, 404, 409, 413, 503]));
    parts.add("/api/kernels/{id}/files.zip", HttpMethod::Get, Author, zip);
    let whole = || {
        ResponseBuilder::new()
            .description("Its content.")
            .content("application/octet-stream", text())
    };
    let show = at(session("getKernelFile", "A file of a session"))
        .responses(answers([(200, whole())], &[404, 409]));
    parts.add(one, HttpMethod::Get, Author, show);
    let shared = session(
        "getSharedKernelFile",
        "A file of a session, for whoever has its URL",
    )
    .parameter(id())
    .parameter(segment(
        "tag",
        "Secret of the file, from its URL in the list.",
        string(),
    ))
    .parameter(segment(
        "path",
        "Path in the folder of the session.",
        string(),
    ))
    .responses(answers([(200, whole())], &[404, 409]));
    parts.add(
        "/api/kernels/{id}/shared/{tag}/{path}",
        HttpMethod::Get,
        Public,
        shared,
    );
    let body = RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content("application/octet-stream", text())
        .build();
    let done = || ResponseBuilder::new().description("It is done.");
    let put = at(session("putKernelFile", "Put a file into a session"))
        .request_body(Some(body))
        .responses(answers([(204, done())], &[404, 409, 413, 507]));
    parts.add(one, HttpMethod::Put, Author, put);
    let query =
        |name: &str, description: &str| optional(ParameterIn::Query, name, description, string());
    let bring = at(session(
        "bringKernelFile",
        "Put an output of a task into a session",
    ))
    .description(Some("Either `from`, or `task` and `output`."))
    .parameter(query("from", "URL of the output, with its tag."))
    .parameter(query("task", "Number of the task."))
    .parameter(query("output", "Name of the output."))
    .responses(answers(
        [(201, json("What was put there.", "KernelFileMade"))],
        &[400, 404, 409, 507],
    ));
    parts.add(one, HttpMethod::Post, Author, bring);
    let remove = at(session("removeKernelFile", "Remove a file of a session"))
        .responses(answers([(204, done())], &[404, 409]));
    parts.add(one, HttpMethod::Delete, Author, remove);
}

fn notebooks(parts: &mut Parts) {
    let one = "/api/sessions/{id}";
    let id = || segment("id", "Id of the name.", string());
    let shown = || json("The name, with its kernel.", "JupyterSession");
    let list = session("listJupyterSessions", "Names of kernels, such as notebooks").responses(
        answers([(200, json("The names.", "JupyterSessionList"))], &[]),
    );
    parts.add("/api/sessions", HttpMethod::Get, Author, list);
    let make = session("makeJupyterSession", "Name a kernel, or a new one")
        .request_body(Some(body("NewJupyterSession", Required::True)))
        .responses(answers([(201, shown())], &[404, 413, 503]));
    parts.add("/api/sessions", HttpMethod::Post, Author, make);
    let show = session("getJupyterSession", "A name of a kernel")
        .parameter(id())
        .responses(answers([(200, shown())], &[404]));
    parts.add(one, HttpMethod::Get, Author, show);
    let change = session("changeJupyterSession", "Change a name, or its kernel")
        .parameter(id())
        .request_body(Some(body("JupyterSessionChange", Required::True)))
        .responses(answers([(200, shown())], &[404, 413, 503]));
    parts.add(one, HttpMethod::Patch, Author, change);
    let gone = ResponseBuilder::new().description("It is gone, and its kernel.");
    let remove = session("removeJupyterSession", "End a kernel by its name")
        .parameter(id())
        .responses(answers([(204, gone)], &[404]));
    parts.add(one, HttpMethod::Delete, Author, remove);
}

fn body(schema: &str, required: Required) -> RequestBody {
    RequestBodyBuilder::new()
        .required(Some(required))
        .content("application/json", content(schema))
        .build()
}

/// The schemas of all this.
pub(super) fn schemas() -> [(String, Value); 14] {
    let word = || json!({"type": "string"});
    let number = || json!({"type": "integer", "minimum": 0});
    let state =
        json!({"type": "string", "enum": ["starting", "idle", "busy", "restarting", "dead"]});
    let confinement = json!({
        "type": "object",
        "description": "How it is confined: `levels` in force, `layers`, and what is `missing`.",
    });
    let kernel = object(
        json!({
            "id": word(), "name": word(), "last_activity": word(), "execution_state": state,
            "connections": number(),
            "offset": {"type": "integer", "description": "The end of its log."},
            "age": {"type": "integer", "description": "Seconds since it began."},
            "owner": word(), "confinement": confinement,
        }),
        &[
            "id",
            "name",
            "last_activity",
            "execution_state",
            "connections",
        ],
    );
    let spec = object(
        json!({"name": word(), "spec": {"type": "object"}, "resources": {"type": "object"}}),
        &["name", "spec", "resources"],
    );
    let specs = object(
        json!({"default": word(), "kernelspecs": {"type": "object"}}),
        &["default", "kernelspecs"],
    );
    let file = object(
        json!({
            "path": word(), "size": number(), "modified": word(),
            "url": {"type": "string", "description": "Under which whoever has it may read the file."},
        }),
        &["path", "size", "modified", "url"],
    );
    let file_made = object(json!({"path": word(), "size": number()}), &["path", "size"]);
    let files_made = object(
        json!({"files": {"type": "array", "items": {"$ref": "#/components/schemas/KernelFileMade"}}}),
        &["files"],
    );
    let file_form = json!({
        "type": "object",
        "description": "Fields with any names.",
        "additionalProperties": {"type": "string", "format": "binary"},
    });
    let files = object(
        json!({
            "files": {"type": "array", "items": file},
            "complete": {"type": "boolean", "description": "Whether these are all."},
        }),
        &["files", "complete"],
    );
    let variables =
        json!({"type": ["object", "null"], "description": "Variables of its environment."});
    let new_kernel = object(
        json!({"name": {"type": ["string", "null"], "description": "A kernelspec."}, "env": variables}),
        &[],
    );
    let named = object(
        json!({
            "id": word(), "path": word(), "name": word(), "type": word(),
            "kernel": {"$ref": "#/components/schemas/Kernel"}, "notebook": {"type": "object"},
        }),
        &["id", "path", "name", "type", "kernel"],
    );
    let names = json!({
        "path": word(), "name": word(), "type": word(),
        "kernel": {"type": ["object", "null"], "description": "The `id` of one, or `name` and `env` of a new one."},
    });
    let new_named = object(names.clone(), &["path", "type"]);
    let changed = object(names, &[]);
    [
        (
            "JupyterVersion",
            object(json!({"version": word()}), &["version"]),
        ),
        ("Kernelspec", spec),
        ("KernelspecList", specs),
        ("Kernel", kernel),
        ("KernelList", array("Kernel")),
        ("KernelFileList", files),
        ("KernelFileForm", file_form),
        ("KernelFileMade", file_made),
        ("KernelFilesMade", files_made),
        ("NewKernel", new_kernel),
        ("JupyterSession", named),
        ("JupyterSessionList", array("JupyterSession")),
        ("NewJupyterSession", new_named),
        ("JupyterSessionChange", changed),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
}
