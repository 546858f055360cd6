//! The operations of Sage Cell, and their JSON.

use serde_json::{Value, json};
use utoipa::openapi::Required;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::Type;
use utoipa::openapi::tag::TagBuilder;

use super::Parts;
use super::parts::{
    answers, content, header, json, operation, optional, page, segment, string, text, word,
};
use super::schemas::object;
use crate::access::Access::{self, Public};

/// Their tag, and what it is about.
const TAG: (&str, &str) = (
    "sage cell",
    "Cells in any page, as clients of Sage Cell know them.",
);

/// Adds all of them, where this access is needed.
pub(super) fn add(parts: &mut Parts, access: Access) {
    parts.tags.push(
        TagBuilder::new()
            .name(TAG.0)
            .description(Some(TAG.1))
            .build(),
    );
    for (name, schema) in schemas() {
        parts.schemas.insert(name.to_owned(), schema);
    }
    kernels(parts, access);
    files(parts, access);
    sockjs(parts, access);
    cells(parts, access);
    pages(parts);
}

fn cell(id: &str, summary: &str) -> OperationBuilder {
    operation(TAG.0, id, summary)
}

fn id() -> Parameter {
    segment("id", "Id of the kernel.", string())
}

fn query(name: &str, description: &str) -> Parameter {
    optional(ParameterIn::Query, name, description, string())
}

fn method(methods: &[&str]) -> Parameter {
    let words = word(methods.iter().copied());
    let description = "What is to be done instead, for clients that can only POST.";
    optional(ParameterIn::Query, "method", description, words)
}

/// Fields in a form; the same may stand in the query.
fn form(schema: &str) -> RequestBody {
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/json",
    ]
    .into_iter()
    .fold(RequestBodyBuilder::new(), |body, kind| {
        body.content(kind, content(schema))
    })
    .required(Some(Required::False))
    .build()
}

fn done(description: &str) -> ResponseBuilder {
    ResponseBuilder::new().description(description)
}

fn kernels(parts: &mut Parts, access: Access) {
    let made = header(
        json("It was made.", "Cell"),
        "Jupyter-Kernel-ID",
        "Its id, again.",
        Type::String,
    );
    let make = cell("makeCellKernel", "Begin a kernel")
        .description(Some(
            "Fields may stand in the query. 403 where terms are not accepted; 503 where as many live as may.",
        ))
        .parameter(method(&["POST", "OPTIONS"]))
        .request_body(Some(form("NewCell")))
        .responses(answers(
            [
                (200, made),
                (404, json("There is no such kernelspec.", "Error")),
                (405, json("`method` is another one.", "Error")),
                (429, json("The page has as many as it may have.", "CellRefusal")),
            ],
            &[413],
        ));
    parts.add("/kernel", HttpMethod::Post, access, make);
    let change = cell(
        "changeCellKernel",
        "End a kernel, for clients that can only POST",
    )
    .parameter(id())
    .parameter(method(&["DELETE", "OPTIONS"]))
    .responses(answers(
        [
            (200, done("It has ended.")),
            (405, json("`method` is missing, or another one.", "Error")),
        ],
        &[413],
    ));
    parts.add("/kernel/{id}", HttpMethod::Post, access, change);
    let remove = cell("removeCellKernel", "End a kernel")
        .parameter(id())
        .responses(answers([(200, done("It has ended, or was unknown."))], &[]));
    parts.add("/kernel/{id}", HttpMethod::Delete, access, remove);
    let connect = cell("connectCellKernel", "Talk with a kernel")
        .description(Some(
            "A WebSocket with messages of Jupyter as JSON. Who calls itself `session_id` goes on where it left; `offset` begins \
             elsewhere, and then `metadata.offset` of each message says where the next one begins.",
        ))
        .parameter(id())
        .parameter(query("session_id", "How the client calls itself."))
        .parameter(query("offset", "Where in what was said it begins; 0: at the beginning."))
        .responses(answers([(101, done("The WebSocket."))], &[400, 404]));
    parts.add("/kernel/{id}/channels", HttpMethod::Get, access, connect);
}

fn files(parts: &mut Parts, access: Access) {
    let list = cell("listCellFiles", "Files of a kernel")
        .parameter(id())
        .responses(answers(
            [(200, json("Up to 10,000 of them.", "KernelFileList"))],
            &[404, 409],
        ));
    parts.add("/kernel/{id}/files", HttpMethod::Get, access, list);
    let one = "/kernel/{id}/files/{path}";
    let at = |operation: OperationBuilder| {
        operation.parameter(id()).parameter(segment(
            "path",
            "Path in the folder of the kernel; it may have slashes.",
            string(),
        ))
    };
    let show = at(cell("getCellFile", "A file of a kernel")).responses(answers(
        [(200, done("Its content.").content("*/*", text()))],
        &[404, 409],
    ));
    parts.add(one, HttpMethod::Get, access, show);
    let body = RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content("application/octet-stream", text())
        .build();
    let put = at(cell(
        "putCellFile",
        "Put a file into the folder of a kernel",
    ))
    .request_body(Some(body))
    .responses(answers(
        [(204, done("It is there."))],
        &[404, 409, 413, 507],
    ));
    parts.add(one, HttpMethod::Put, access, put);
}

fn sockjs(parts: &mut Parts, access: Access) {
    let place = |operation: OperationBuilder| {
        operation
            .parameter(segment("server", "Any three digits.", string()))
            .parameter(segment("session", "A random text without a dot.", string()))
    };
    let path = |rest: &str| format!("/sockjs/{{server}}/{{session}}/{rest}");
    let welcome = cell("getSockJs", "That SockJS is spoken here").responses(answers(
        [(200, done("A greeting.").content("text/plain", text()))],
        &[],
    ));
    parts.add("/sockjs/", HttpMethod::Get, access, welcome);
    let info = cell("getSockJsInfo", "What of SockJS there is")
        .responses(answers([(200, json("Version 0.3.3.", "SockJsInfo"))], &[]));
    parts.add("/sockjs/info", HttpMethod::Get, access, info);
    let connect = place(cell("connectSockJs", "Talk with kernels"))
        .description(Some(
            "A WebSocket with frames of SockJS. Each message is `<kernel>/channels,<message>`, in both directions; \
             `complete,<message>` asks for completions.",
        ))
        .responses(answers([(101, done("The WebSocket."))], &[404]));
    parts.add(&path("websocket"), HttpMethod::Get, access, connect);
    let frames = || done("Frames, one in each line.").content("application/javascript", text());
    let poll = place(cell(
        "pollSockJs",
        "The next frame of a connection without a WebSocket",
    ))
    .responses(answers([(200, frames())], &[404]));
    parts.add(&path("xhr"), HttpMethod::Post, access, poll);
    let stream = place(cell(
        "streamSockJs",
        "Frames of a connection without a WebSocket",
    ))
    .responses(answers([(200, frames())], &[404]));
    parts.add(&path("xhr_streaming"), HttpMethod::Post, access, stream);
    let body = RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content("text/plain", text())
        .build();
    let send = place(cell("sendSockJs", "Say something over such a connection"))
        .description(Some(
            "A JSON list of messages; what is none is answered with 500.",
        ))
        .request_body(Some(body))
        .responses(answers([(204, done("It is on its way."))], &[404, 413]));
    parts.add(&path("xhr_send"), HttpMethod::Post, access, send);
}

fn cells(parts: &mut Parts, access: Access) {
    let run = cell("runCell", "Run a single cell in a kernel of its own")
        .description(Some(
            "403 where terms are not accepted; 503 with `Retry-After` where too many wait.",
        ))
        .request_body(Some(form("SingleCell")))
        .responses(answers(
            [(200, json("What became of it.", "CellResult"))],
            &[413],
        ));
    parts.add("/service", HttpMethod::Post, access, run);
    let show = cell("getPermalink", "The cell of a permalink")
        .parameter(query("q", "What stands in the permalink."))
        .responses(answers(
            [(200, json("Code, language and interacts.", "PermalinkCell"))],
            &[404],
        ));
    parts.add("/permalink", HttpMethod::Get, access, show);
    let make = cell("makePermalink", "Keep a cell under a short address")
        .request_body(Some(form("NewPermalink")))
        .responses(answers(
            [
                (200, json("Where it is.", "Permalink")),
                (429, json("Too many at once.", "Error")),
            ],
            &[413, 507],
        ));
    parts.add("/permalink", HttpMethod::Post, access, make);
}

fn pages(parts: &mut Parts) {
    let show = cell("getTerms", "What is to be accepted")
        .responses(answers([(200, page("The terms."))], &[404]));
    parts.add("/tos.html", HttpMethod::Get, Public, show);
    let ask = cell("askForTerms", "Whether something is to be accepted").responses(answers(
        [
            (200, page("The terms.")),
            (204, done("There is nothing to accept.")),
        ],
        &[],
    ));
    parts.add("/tos.html", HttpMethod::Post, Public, ask);
    let index = cell("getCellPage", "A page with cells")
        .parameter(query("q", "What stands in a permalink."))
        .parameter(query("z", "Code, as urlsafe base64 of zlib."))
        .parameter(query("c", "Code."))
        .responses(answers([(200, page("The page."))], &[404]));
    parts.add("/cell/", HttpMethod::Get, Public, index);
    let file = || done("The file.").content("*/*", text());
    let part = cell("getCellPagePart", "Style or script of the page with cells")
        .parameter(segment("name", "Name of the file.", string()))
        .responses(answers(
            [(200, file()), (304, done("Not changed."))],
            &[404],
        ));
    parts.add("/cell/{name}", HttpMethod::Get, Public, part);
    let embedded = cell(
        "getEmbeddedCell",
        "The script that puts cells into any page",
    )
    .responses(answers(
        [(200, file()), (304, done("Not changed."))],
        &[404],
    ));
    parts.add(
        "/static/embedded_sagecell.js",
        HttpMethod::Get,
        Public,
        embedded,
    );
}

fn schemas() -> [(&'static str, Value); 9] {
    let word = || json!({"type": "string"});
    let described = |text: &str| json!({"type": "string", "description": text});
    let accepted = || described("`true` accepts the terms, where there are any.");
    let code = || json!({"type": "string", "maxLength": 65000});
    let page = json!({"type": "string", "maxLength": 200, "description": "The page, which may have so many kernels."});
    let texts = json!({"type": "array", "items": word(), "minItems": 3, "maxItems": 3});
    [
        (
            "NewCell",
            object(
                json!({
                    "CellSessionID": page,
                    "timeout": described("Seconds that it may be idle; 0 ends it with its first cell, `inf` lets it live as long as any may."),
                    "kernel": described("The name of its kernelspec, as /api/kernelspecs has it; Python where none is named."),
                    "accepted_tos": accepted(),
                }),
                &[],
            ),
        ),
        (
            "Cell",
            object(
                json!({"id": word(), "ws_url": described("Where its WebSocket is, without `kernel/<id>/channels`.")}),
                &["id", "ws_url"],
            ),
        ),
        (
            "CellRefusal",
            object(
                json!({"error": word(), "message": word()}),
                &["error", "message"],
            ),
        ),
        (
            "SockJsInfo",
            object(
                json!({
                    "websocket": {"type": "boolean"}, "cookie_needed": {"type": "boolean"},
                    "origins": {"type": "array", "items": word()}, "entropy": {"type": "integer"},
                }),
                &["websocket", "cookie_needed", "origins", "entropy"],
            ),
        ),
        (
            "SingleCell",
            object(
                json!({
                    "code": code(), "accepted_tos": accepted(),
                    "user_expressions": described("A JSON object of expressions by names."),
                }),
                &["code"],
            ),
        ),
        (
            "CellResult",
            object(
                json!({
                    "success": {"type": "boolean"}, "stdout": word(), "stderr": word(),
                    "execute_reply": {"type": "object", "description": "The kernel's answer."},
                }),
                &["success", "execute_reply"],
            ),
        ),
        (
            "NewPermalink",
            object(
                json!({
                    "code": code(), "language": {"type": "string", "maxLength": 100},
                    "interacts": described("The state of interacts, as JSON."),
                    "n": described("A number that is answered."),
                }),
                &["code"],
            ),
        ),
        (
            "Permalink",
            object(
                json!({
                    "zip": described("The code, as urlsafe base64 of zlib."),
                    "query": described("Its short address."),
                    "interacts": described("The state of interacts, packed like the code."),
                    "n": {"type": "integer"},
                }),
                &["zip", "query", "interacts", "n"],
            ),
        ),
        ("PermalinkCell", texts),
    ]
}
