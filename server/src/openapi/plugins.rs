//! The operations of one plugin.

use runner_core::identity::url_segment;
use runner_core::plugin::{FormDescription, Plugin};
use utoipa::openapi::Ref;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::{ResponseBuilder, ResponsesBuilder};
use utoipa::openapi::tag::TagBuilder;

use super::Parts;
use super::forms::Forms;
use super::parts::{answers, json, number, operation, optional, page, redirect, segment, string};
use crate::access::Access::{Public, User, Viewer};

/// What `process` can answer beside its redirect.
pub(super) const PROCESS_ERRORS: [u16; 8] = [400, 404, 409, 413, 415, 422, 503, 507];
/// What submitting a step can answer beside its redirect.
pub(super) const STEP_ERRORS: [u16; 7] = [404, 409, 413, 415, 422, 503, 507];
/// What checking a form can answer beside its page.
pub(super) const CHECK_ERRORS: [u16; 5] = [404, 413, 415, 503, 507];
/// What checking the form of a step can answer beside its page.
pub(super) const CHECK_STEP_ERRORS: [u16; 6] = [404, 409, 413, 415, 503, 507];

/// Adds everything of a plugin. Its tag is its identifier.
pub(super) fn add(parts: &mut Parts, plugin: &Plugin) {
    let name = unused_name(parts, &plugin.identifier);
    let tag = plugin.identifier.as_str();
    let description = match plugin.description.is_empty() {
        true => plugin.title.clone(),
        false => format!("{}: {}", plugin.title, plugin.description),
    };
    parts.tags.push(
        TagBuilder::new()
            .name(tag)
            .description(Some(description))
            .build(),
    );
    let path = format!("/plugins/{}/", url_segment(&plugin.identifier));
    let (title, help) = (&plugin.title, &plugin.form.help);
    let forms = Forms::add(parts, &plugin.form.parameters, &name, true);
    let metadata = operation(
        tag,
        &format!("{name}.metadata"),
        &format!("Metadata of {title}"),
    )
    .responses(answers(
        [(200, json("The metadata.", "Plugin"))],
        &[404, 503],
    ));
    parts.add(&path, HttpMethod::Get, Viewer, metadata);
    let ui = format!("{path}ui/");
    let form = operation(
        tag,
        &format!("{name}.form"),
        &format!("The form of {title}"),
    )
    .responses(answers(
        [(200, page("The form, prefilled by the query."))],
        &[404, 503],
    ));
    parts.add(&ui, HttpMethod::Get, Public, prefilled(form, &forms));
    let check = operation(
        tag,
        &format!("{name}.check"),
        &format!("Check the form of {title}"),
    )
    .request_body(Some(forms.body(&plugin.form.example, true)))
    .responses(answers([(200, page(CHECKED))], &CHECK_ERRORS));
    parts.add(&ui, HttpMethod::Post, User, check);
    let process = operation(tag, &format!("{name}.process"), &format!("Run {title}"))
        .description(some(help))
        .parameter(optional(
            ParameterIn::Header,
            "Idempotency-Key",
            "Chosen by the client: the same request that comes again with it makes no second task.",
            string()
                .min_length(Some(1))
                .max_length(Some(200))
                .pattern(Some("^[!-~]+$")),
        ))
        .request_body(Some(forms.body(&plugin.form.example, false)))
        .responses(answers(
            [(303, redirect("The task that was made."))],
            &PROCESS_ERRORS,
        ));
    parts.add(&format!("{path}process/"), HttpMethod::Post, User, process);
    for (step, form) in &plugin.steps {
        add_step(parts, plugin, &name, step, form);
    }
    if plugin.routes {
        add_routes(parts, plugin, &name);
    }
}

/// The methods of own routes, and whether a request has a body.
pub(super) const ROUTE_METHODS: [(HttpMethod, &str, bool); 6] = [
    (HttpMethod::Get, "GET", false),
    (HttpMethod::Head, "HEAD", false),
    (HttpMethod::Post, "POST", true),
    (HttpMethod::Put, "PUT", true),
    (HttpMethod::Patch, "PATCH", true),
    (HttpMethod::Delete, "DELETE", false),
];

/// What is known of own routes: where they are. A plugin may answer anything, also with a status that the
/// runner has, so that only `default` is true.
fn add_routes(parts: &mut Parts, plugin: &Plugin, name: &str) {
    let path = format!("/plugins/{}/{{path}}", url_segment(&plugin.identifier));
    for (method, shown, has_body) in ROUTE_METHODS {
        let answer = ResponseBuilder::new().description(
            "The plugin's answer, with any status, headers and body; or an error of the runner, in JSON.",
        );
        let answers = ResponsesBuilder::new().response("default", answer.build());
        let id = format!("{name}.route.{}", shown.to_lowercase());
        let summary = format!("{shown} an own route of {}", plugin.title);
        let is_safe = matches!(method, HttpMethod::Get | HttpMethod::Head);
        let mut route = operation(&plugin.identifier, &id, &summary)
            .description(Some(ROUTE))
            .parameter(segment(
                "path",
                "What follows the plugin's path. It may have slashes; those of the runner's routes come first.",
                string(),
            ))
            .responses(answers);
        if has_body {
            let any = RequestBodyBuilder::new()
                .description(Some("What the plugin takes."))
                .content("*/*", ContentBuilder::new().build());
            route = route.request_body(Some(any.build()));
        }
        let access = if is_safe { Viewer } else { User };
        parts.add(&path, method, access, route);
    }
}

/// What holds for all own routes; Markdown.
const ROUTE: &str = "\
Which paths, methods, queries and bodies there are, and what they answer, only the plugin knows. The request is \
passed on to it as it is. Where it does not answer, the runner does: 408, 413, 501 (upgrades), 502, 503, 504.";

/// What a page says of a form that was posted.
pub(super) const CHECKED: &str = "The form, with what is wrong at each field.";

/// The task of a step.
pub(super) fn task() -> Parameter {
    segment("task", "Number of the task.", number())
}

fn add_step(parts: &mut Parts, plugin: &Plugin, name: &str, step: &str, form: &FormDescription) {
    let tag = plugin.identifier.as_str();
    let name = format!("{name}.{step}");
    let forms = Forms::add(parts, &form.parameters, &name, false);
    let path = format!(
        "/plugins/{}/{{task}}/{step}",
        url_segment(&plugin.identifier)
    );
    let title = format!("{} (step {step})", form.title);
    let ui = format!("{path}-ui/");
    let show = operation(
        tag,
        &format!("{name}.form"),
        &format!("The form of {title}"),
    )
    .parameter(task())
    .responses(answers(
        [(200, page("The form, prefilled by the query."))],
        &[404, 409, 503],
    ));
    parts.add(&ui, HttpMethod::Get, Viewer, prefilled(show, &forms));
    let check = operation(
        tag,
        &format!("{name}.check"),
        &format!("Check the form of {title}"),
    )
    .parameter(task())
    .request_body(Some(forms.body(&form.example, true)))
    .responses(answers([(200, page(CHECKED))], &CHECK_STEP_ERRORS));
    parts.add(&ui, HttpMethod::Post, User, check);
    let description = format!(
        "For a step that the task added under its own name; the addresses of all stand in the task's `steps`.\n\n{}",
        form.help
    );
    let process = operation(tag, &format!("{name}.process"), &format!("Submit {title}"))
        .description(some(description.trim()))
        .parameter(task())
        .request_body(Some(forms.body(&form.example, false)))
        .responses(answers(
            [(303, redirect("The task, queued again."))],
            &STEP_ERRORS,
        ));
    parts.add(&format!("{path}-process/"), HttpMethod::Post, User, process);
}

fn prefilled(mut operation: OperationBuilder, forms: &Forms<'_>) -> OperationBuilder {
    for (key, place) in forms.prefilled() {
        let parameter = optional(
            ParameterIn::Query,
            key,
            "Prefills the field.",
            Ref::new(place),
        );
        operation = operation.parameter(parameter);
    }
    operation
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The identifier as the name of a component, which may have ASCII letters, digits and `.-_` only. Two
/// identifiers that become one get a number each but the first.
fn unused_name(parts: &Parts, identifier: &str) -> String {
    let plain = |c: char| match c {
        '@' => '.',
        c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') => c,
        _ => '_',
    };
    let name: String = identifier.chars().map(plain).collect();
    let is_free = |name: &String| !parts.schemas.contains_key(&format!("{name}.form"));
    let mut names = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name}_{n}")));
    names.find(is_free).unwrap_or(name)
}
