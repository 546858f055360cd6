//! Pages with forms, from templates that are embedded.

mod fields;

use axum::response::Html;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use runner_core::parameters::{FieldErrors, Form};
use runner_core::plugin::{FormDescription, Plugin};
use rust_embed::RustEmbed;
use serde_json::Map;
use url::form_urlencoded;

use crate::base_url::BaseUrl;
use crate::error::ApiError;

#[derive(RustEmbed)]
#[folder = "templates"]
struct Templates;

/// The templates, parsed.
pub(crate) struct Pages(Environment<'static>);

/// What a page with a form shows.
pub(crate) struct FormPage<'a> {
    /// Below which paths the client finds style and script.
    pub(crate) base: &'a BaseUrl,
    pub(crate) plugin: &'a Plugin,
    pub(crate) form: &'a FormDescription,
    /// Where the page itself is, for the link with the example values.
    pub(crate) page: String,
    /// Where the form is posted.
    pub(crate) process: String,
    /// What was typed, or what the form is to begin with.
    pub(crate) values: Form,
    /// Values for fields that were not typed.
    pub(crate) prefill: &'a Map<String, serde_json::Value>,
    pub(crate) errors: FieldErrors,
    pub(crate) is_valid: bool,
}

impl Pages {
    pub(crate) fn new() -> Self {
        let mut environment = Environment::new();
        match SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
        {
            Ok(syntax) => environment.set_syntax(syntax),
            Err(error) => tracing::error!("the syntax of templates is broken: {error}"),
        }
        for name in Templates::iter() {
            let Some(file) = Templates::get(&name) else {
                continue;
            };
            let source = String::from_utf8_lossy(&file.data).into_owned();
            if let Err(error) = environment.add_template_owned(name.into_owned(), source) {
                // The templates are ours: a test renders each of them.
                tracing::error!("a template is broken: {error}");
            }
        }
        Self(environment)
    }

    /// The page of a form.
    pub(crate) fn form(&self, page: &FormPage<'_>) -> Result<Html<String>, ApiError> {
        let fields = page.form.parameters.fields();
        self.render(
            "simple_template.html",
            context! {
                base => page.base.path(""),
                name => page.plugin.identity.name(),
                version => page.plugin.identity.version(),
                title => page.form.title.as_str(),
                schema => Serde(fields.iter().map(fields::view).collect::<Vec<_>>()),
                values => Serde(fields::values(fields, &page.values, page.prefill)),
                errors => Serde(&page.errors),
                valid => page.is_valid,
                process => page.process.as_str(),
                help_text => markdown(&page.form.help),
                example_values => example(&page.page, page.form),
            },
        )
    }

    /// The page of the runner itself.
    pub(crate) fn index(
        &self,
        base: &BaseUrl,
        plugins: &[(String, String, String, String)],
    ) -> Result<Html<String>, ApiError> {
        self.render(
            "index.html",
            context! { base => base.path(""), plugins => Serde(plugins) },
        )
    }

    /// A page of development mode.
    pub(crate) fn debug(
        &self,
        name: &str,
        base: &BaseUrl,
        routes: &[(&str, String, &str)],
    ) -> Result<Html<String>, ApiError> {
        self.render(
            &format!("debug/{name}.html"),
            context! { base => base.path(""), routes => Serde(routes) },
        )
    }

    fn render(&self, name: &str, context: Value) -> Result<Html<String>, ApiError> {
        let rendered = self
            .0
            .get_template(name)
            .and_then(|template| template.render(context));
        rendered.map(Html).map_err(|error| {
            tracing::error!("the page {name} cannot be made: {error:#}");
            ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR)
        })
    }
}

/// The link that fills in the example values.
fn example(page: &str, form: &FormDescription) -> Option<String> {
    let texts = form.parameters.texts(&form.example);
    if texts.is_empty() {
        return None;
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(texts);
    Some(format!("{page}?{}", query.finish()))
}

/// Markdown as HTML. HTML in it is text: it comes from plugins.
pub(crate) fn markdown(text: &str) -> String {
    use pulldown_cmark::{CowStr, Event, Options, Parser, Tag};
    let is_safe = |url: &str| {
        let scheme = url
            .split_once(':')
            .map(|(scheme, _)| scheme.to_ascii_lowercase());
        scheme.is_none_or(|scheme| {
            matches!(scheme.as_str(), "http" | "https" | "mailto")
                || scheme.contains(['/', '?', '#'])
        })
    };
    let events = Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH).map(
        |event| match event {
            Event::Html(html) | Event::InlineHtml(html) => Event::Text(html),
            Event::Start(Tag::Link {
                link_type,
                dest_url,
                title,
                id,
            }) if !is_safe(&dest_url) => Event::Start(Tag::Link {
                link_type,
                dest_url: CowStr::Borrowed("#"),
                title,
                id,
            }),
            Event::Start(Tag::Image {
                link_type,
                dest_url,
                title,
                id,
            }) if !is_safe(&dest_url) => Event::Start(Tag::Image {
                link_type,
                dest_url: CowStr::Borrowed("#"),
                title,
                id,
            }),
            event => event,
        },
    );
    let mut html = String::new();
    pulldown_cmark::html::push_html(&mut html, events);
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_is_rendered_and_markup_of_plugins_is_text() {
        assert_eq!(markdown("a **b**"), "<p>a <strong>b</strong></p>\n");
        for evil in [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)>",
            "[x](javascript:alert(1))",
            "[x](JaVaScRiPt:alert(1))",
            "![x](data:text/html,x)",
            "<javascript:alert(1)>",
        ] {
            let html = markdown(evil);
            for part in [
                "<script",
                "<img src=x",
                "href=\"javascript",
                "href=\"JaVa",
                "src=\"data",
            ] {
                assert!(!html.contains(part), "{evil}: {html}");
            }
        }
        assert!(markdown("[x](a/b:c)").contains("href=\"a/b:c\""));
    }

    #[test]
    fn all_templates_render() {
        let plugin: Plugin = Plugin::new(
            serde_json::from_value(serde_json::json!({
                "name": "p", "version": "1.0", "help": "**help**", "example": {"text": "a b"},
                "parameters": {"type": "object", "required": ["text"], "properties": {
                    "text": {"type": "string", "x-multiline": true, "description": "A *text*."},
                    "secret": {"type": "string", "writeOnly": true},
                    "nRows": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
                    "flag": {"type": "boolean", "default": true},
                    "choice": {"enum": ["a", "b"], "x-labels": {"a": "The first"}},
                    "choices": {"type": "array", "items": {"enum": ["a", "b"]}},
                    "list": {"type": "array", "items": {"type": "string"}},
                    "object": {"type": "object"},
                    "dataUrl": {"type": "string", "format": "uri", "x-data": {"dataType": "entity/list", "contentType": ["text/csv"]}},
                    "plugin": {"type": "string", "format": "uri", "x-plugin": {"tags": ["t"]}},
                    "file": {"type": "string", "format": "binary"},
                }},
            }))
            .unwrap(),
        )
        .unwrap();
        let values: Form = [("text", "<script>"), ("secret", "hidden")]
            .into_iter()
            .collect();
        let base = BaseUrl::below("/prefix");
        let page = FormPage {
            base: &base,
            plugin: &plugin,
            form: &plugin.form,
            page: "/plugins/p@1-0/ui/".to_owned(),
            process: "/plugins/p@1-0/process/".to_owned(),
            values,
            prefill: &Map::new(),
            errors: FieldErrors::from([("text".to_owned(), vec!["Wrong.".to_owned()])]),
            is_valid: false,
        };
        let Html(html) = Pages::new().form(&page).unwrap();
        for part in [
            "&lt;script&gt;",
            "Wrong.",
            "<strong>help</strong>",
            "The first",
            "id=\"n_rows\"",
            "value=\"3\"",
            "data-input=\"entity&#x2f;list\"",
            "type=\"password\"",
            "ui&#x2f;?text=a+b",
            "A <em>text</em>.",
            "href=\"/prefix/static/forms.css\"",
            "src=\"/prefix/static/microfrontend.js\"",
        ] {
            assert!(html.contains(part), "{part} is not in {html}");
        }
        assert!(
            !html.contains("hidden\"") || !html.contains("value=\"hidden\""),
            "secrets are not shown"
        );
        let Html(index) = Pages::new()
            .index(&base, &[["a", "1.0", "b", "c"].map(str::to_owned).into()])
            .unwrap();
        assert!(
            index.contains("<a href=\"c\">a</a> <small>1.0</small>: b"),
            "{index}"
        );
        assert!(index.contains("\"/prefix/static/forms.css\""), "{index}");
        for name in ["index", "routes", "frontend_debugger"] {
            let Html(page) = Pages::new()
                .debug(name, &base, &[("/a<b>/", "GET".to_owned(), "")])
                .unwrap();
            assert!(page.contains("\"/prefix/static/debug.css\""), "{page}");
            assert!(!page.contains("<b>"), "{page}");
        }
    }
}
