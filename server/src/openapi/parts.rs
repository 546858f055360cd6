//! Parameters, answers and errors that many operations share.

use serde_json::Value;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{
    Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::response::{Response, ResponseBuilder, ResponsesBuilder};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Ref, RefOr, Required, Schema};

use crate::access::Access;

/// Errors by status: the name of the answer, and when it is given.
const ERRORS: [(u16, &str, &str); 14] = [
    (
        400,
        "BadRequest",
        "The request cannot be understood, or its `Host` is not served here.",
    ),
    (401, "Unauthorized", "A token is missing, or it is wrong."),
    (403, "Forbidden", "The token does not allow this."),
    (404, "NotFound", "There is nothing of that name or number."),
    (408, "TooSlow", "The body did not come in time."),
    (
        409,
        "Conflict",
        "What it concerns is not in a state that allows this; nothing was changed.",
    ),
    (
        413,
        "TooLarge",
        "The body, a file or the parameters are larger than the limit.",
    ),
    (
        415,
        "UnsupportedMediaType",
        "The body has a media type that is not understood.",
    ),
    (
        416,
        "RangeNotSatisfiable",
        "The range lies outside of the file.",
    ),
    (
        422,
        "Invalid",
        "Values are missing or wrong; `errors` says which. Nothing was done.",
    ),
    (
        500,
        "InternalError",
        "An error of the runner; its log says more.",
    ),
    (
        502,
        "NoAnswer",
        "A process of a module does not answer, or cannot be started.",
    ),
    (
        503,
        "Unavailable",
        "The plugins are still being loaded, too many requests are in progress, keys to check tokens with \
         cannot be fetched, or the runner ends.",
    ),
    (507, "DiskFull", "The disk of the runner is full."),
];

/// The errors, as components.
pub(super) fn errors() -> Vec<(&'static str, Response)> {
    let answer = |(status, name, description): (u16, &'static str, &str)| {
        let answer = ResponseBuilder::new()
            .description(description)
            .content("application/json", content("Error"));
        let answer = match status {
            401 => header(
                answer,
                "WWW-Authenticate",
                "How to show the token.",
                Type::String,
            ),
            503 => header(answer, "Retry-After", "Seconds to wait.", Type::Integer),
            _ => answer,
        };
        (name, answer.build())
    };
    ERRORS.map(answer).to_vec()
}

/// What an operation answers: these, and errors. Each may end in 400, 500 and 503.
pub(super) fn answers(
    answers: impl IntoIterator<Item = (u16, ResponseBuilder)>,
    errors: &[u16],
) -> ResponsesBuilder {
    let mut responses = ResponsesBuilder::new();
    for (status, answer) in answers {
        responses = responses.response(status.to_string(), answer.build());
    }
    for (status, name, _) in ERRORS {
        if matches!(status, 400 | 500 | 503) || errors.contains(&status) {
            responses = responses.response(status.to_string(), Ref::from_response_name(name));
        }
    }
    responses
}

/// What is to be shown for this access: the roles stand beside the ways to show them, and nothing is one of
/// these ways where a server may be open.
pub(super) fn security(access: Access) -> Vec<SecurityRequirement> {
    let ways = ["bearer", "query"].map(|way| SecurityRequirement::new(way, [access.as_str()]));
    match access {
        Access::Public => Vec::new(),
        Access::Author | Access::Admin => ways.to_vec(),
        Access::Viewer | Access::User => {
            [ways.as_slice(), &[SecurityRequirement::default()]].concat()
        }
    }
}

/// Adds what is answered to those who do not have this access, or do not send their body, unless the
/// operation answers anything.
pub(super) fn refusals(operation: &mut Operation, access: Access) {
    let has_body = operation.request_body.is_some();
    let answers = &mut operation.responses.responses;
    if answers.contains_key("default") {
        return;
    }
    for (status, name, _) in ERRORS {
        let is_given = match status {
            401 => true,
            403 => access != Access::Public,
            408 => has_body,
            _ => false,
        };
        if is_given {
            answers.insert(status.to_string(), Ref::from_response_name(name).into());
        }
    }
}

/// An operation with a stable id.
pub(super) fn operation(tag: &str, id: &str, summary: &str) -> OperationBuilder {
    Operation::builder()
        .tag(tag)
        .operation_id(Some(id))
        .summary(Some(summary))
}

/// An answer in JSON.
pub(super) fn json(description: &str, schema: &str) -> ResponseBuilder {
    ResponseBuilder::new()
        .description(description)
        .content("application/json", content(schema))
}

/// An answer that is a page.
pub(super) fn page(description: &str) -> ResponseBuilder {
    ResponseBuilder::new()
        .description(description)
        .content("text/html", text())
}

/// A redirect, with a page that few will see.
pub(super) fn redirect(description: &str) -> ResponseBuilder {
    let answer = page(description);
    header(answer, "Location", "Where to go.", Type::String)
}

/// 304.
pub(super) fn not_modified() -> ResponseBuilder {
    let answer = ResponseBuilder::new().description(
        "Not changed since the state that `If-None-Match` or `If-Modified-Since` names.",
    );
    header(answer, "ETag", "Names the state.", Type::String)
}

/// Adds a header that is always there.
pub(super) fn header(
    answer: ResponseBuilder,
    name: &str,
    description: &str,
    kind: Type,
) -> ResponseBuilder {
    let header = HeaderBuilder::new()
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(kind)))
        .build();
    answer.header(name, header)
}

/// A body of this schema.
pub(super) fn content(schema: &str) -> Content {
    Content::new(Some(Ref::from_schema_name(schema)))
}

/// A body that is text.
pub(super) fn text() -> Content {
    let text = ObjectBuilder::new().schema_type(Type::String);
    ContentBuilder::new().schema(Some(text)).build()
}

/// A variable segment of a path.
pub(super) fn segment(
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

/// A parameter of a query, or a header.
pub(super) fn optional(
    place: ParameterIn,
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

/// A number in a path.
pub(super) fn number() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(1_i64))
}

/// Text.
pub(super) fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// One of these words.
pub(super) fn word<'a>(words: impl IntoIterator<Item = &'a str>) -> ObjectBuilder {
    string().enum_values(Some(words.into_iter().map(Value::from)))
}
