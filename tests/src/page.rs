//! The structure of a form's page: what scripts and people find in it, without its layout.

use scraper::{ElementRef, Html, Selector};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

/// What the contract says about a page with a form.
pub fn structure(html: &str) -> Value {
    let page = Html::parse_document(html);
    let root = page.root_element();
    let fields: Vec<Value> = all(root, ".qhana-form-field").map(field).collect();
    let submits: Vec<Value> = all(root, "button.qhana-form-submit").map(submit).collect();
    json!({
        "form": one(root, "form.qhana-form").map(|form| json!({
            "method": form.attr("method").map(str::to_ascii_lowercase),
            "enctype": form.attr("enctype"),
            "target": form.attr("data-target"),
        })),
        "fields": fields,
        "submit": submits,
        "help": one(root, "details.qhana-help").map(help),
        "example": one(root, "details.qhana-help a").and_then(|a| a.attr("href")).map(href),
        "successful": text(root).contains("Validation successful!"),
        "scripts": all(root, "script[src]").map(|it| it.attr("src")).collect::<Vec<_>>(),
        "styles": all(root, "link[rel=stylesheet]").map(|it| it.attr("href")).collect::<Vec<_>>(),
    })
}

fn field(field: ElementRef<'_>) -> Value {
    let buttons = all(field, ".qhana-input-wrapper button").map(button);
    let errors = all(field, ".qhana-error-message span").map(text);
    let hints = all(field, ".selected-file-hint, .selected-plugin-hint").map(|hint| {
        json!({
            "class": hint.attr("class"),
            "text": text(hint),
            "data": data(hint),
            "hidden": hint.attr("hidden").is_some(),
            "name": one(hint, ".selected-file-name, .selected-plugin-name").map(data),
            "preview": one(hint, ".qhana-show-preview-button").map(button),
        })
    });
    let related = all(field, ".related").map(data);
    json!({
        "label": one(field, ".qhana-form-label").map(|it| json!({"text": text(it), "for": it.attr("for")})),
        "controls": all(field, ".qhana-form-input").map(control).collect::<Vec<_>>(),
        "buttons": buttons.collect::<Vec<_>>(),
        "errors": errors.collect::<Vec<_>>(),
        "hints": hints.collect::<Vec<_>>(),
        "related": related.collect::<Vec<_>>(),
        "description": one(field, ".qhana-input-description").map(description),
    })
}

fn control(control: ElementRef<'_>) -> Value {
    let tag = control.value().name();
    let value = match tag {
        "textarea" => Some(control.text().collect::<String>()),
        _ => control.attr("value").map(str::to_owned),
    };
    let options = all(control, "option").map(|option| {
        json!({
            "value": option.attr("value"),
            "text": text(option),
            "selected": option.attr("selected").is_some(),
        })
    });
    json!({
        "tag": tag,
        "type": control.attr("type"),
        "name": control.attr("name"),
        "id": control.attr("id"),
        "value": value,
        "required": control.attr("required").is_some(),
        "checked": control.attr("checked").is_some(),
        "describedby": control.attr("aria-describedby"),
        "data": data(control),
        "options": options.collect::<Vec<_>>(),
    })
}

fn button(button: ElementRef<'_>) -> Value {
    json!({
        "class": button.attr("class"),
        "text": text(button),
        "hidden": button.attr("hidden").is_some(),
        "data": data(button),
    })
}

fn submit(button: ElementRef<'_>) -> Value {
    json!({
        "text": text(button),
        "type": button.attr("type"),
        "target": button.attr("data-target"),
        "formaction": button.attr("formaction"),
    })
}

/// The text of a field's description, without errors and hints.
fn description(description: ElementRef<'_>) -> String {
    let other = [
        "qhana-error-message",
        "selected-file-hint",
        "selected-plugin-hint",
        "related",
    ];
    let children = description.child_elements();
    let own = children.filter(|child| !child.value().classes().any(|c| other.contains(&c)));
    let texts: Vec<String> = own.map(text).filter(|text| !text.is_empty()).collect();
    texts.join(" ")
}

/// The text of the help, without its heading and the link to the example.
fn help(help: ElementRef<'_>) -> String {
    let children = help.child_elements();
    let own = children.filter(|child| !matches!(child.value().name(), "summary" | "a"));
    let texts: Vec<String> = own.map(text).filter(|text| !text.is_empty()).collect();
    texts.join(" ")
}

/// A link: the order and the spelling of its query do not count.
fn href(href: &str) -> Value {
    let (path, query) = href.split_once('?').unwrap_or((href, ""));
    let pairs = form_urlencoded::parse(query.as_bytes());
    let query: Map<_, _> = pairs
        .map(|(key, value)| (key.into_owned(), json!(value)))
        .collect();
    json!({"path": path, "query": query})
}

fn data(element: ElementRef<'_>) -> Value {
    let attributes = element.value().attrs();
    let data = attributes.filter(|(name, _)| name.starts_with("data-"));
    data.map(|(name, value)| (name.to_owned(), json!(value)))
        .collect::<Map<_, _>>()
        .into()
}

fn text(element: ElementRef<'_>) -> String {
    let text: String = element.text().collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn all<'a>(element: ElementRef<'a>, selector: &str) -> impl Iterator<Item = ElementRef<'a>> {
    let selector = Selector::parse(selector).expect("a valid selector");
    element.select(&selector).collect::<Vec<_>>().into_iter()
}

fn one<'a>(element: ElementRef<'a>, selector: &str) -> Option<ElementRef<'a>> {
    all(element, selector).next()
}
