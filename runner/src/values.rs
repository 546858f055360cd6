//! Values of parameters as they are typed: `key=value`, files by their path or URL.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use runner_core::file::{Upload, content_type_of};
use runner_core::parameters::field::as_text;
use runner_core::parameters::{
    Field, FieldErrors, FieldKind, Form, FormValue, Parameters, UNKNOWN,
};
use runner_fetch::Fetcher;
use runner_store::FileStore;
use serde_json::{Map, Value, json};
use url::Url;

use crate::screen::line;

/// One `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    key: String,
    value: OsString,
    /// Whether it was given as a file, whatever the parameter is.
    must_be_file: bool,
}

impl Given {
    /// Reads `key=value`.
    pub(crate) fn read(text: &OsStr, must_be_file: bool) -> anyhow::Result<Self> {
        let bytes = text.as_bytes();
        let at = bytes.iter().position(|byte| *byte == b'=');
        let what = if must_be_file {
            "KEY=FILE"
        } else {
            "KEY=VALUE"
        };
        let at = at.with_context(|| format!("{text:?} is no {what}: there is no ="))?;
        let key = std::str::from_utf8(&bytes[..at])
            .ok()
            .filter(|key| !key.is_empty());
        Ok(Self {
            key: key
                .with_context(|| format!("{text:?} is no {what}"))?
                .to_owned(),
            value: OsString::from_vec(bytes[at + 1..].to_vec()),
            must_be_file,
        })
    }

    /// The file that it names by path or URL, if there is one.
    fn path(&self) -> Option<PathBuf> {
        let url = self
            .value
            .to_str()
            .filter(|text| text.starts_with("file://"));
        let path = match url.and_then(|url| Url::parse(url).ok()?.to_file_path().ok()) {
            Some(path) => path,
            None => PathBuf::from(&self.value),
        };
        path.canonicalize().ok().filter(|path| path.is_file())
    }
}

/// A step that is to be submitted as soon as the task asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GivenStep {
    pub(crate) id: String,
    pub(crate) values: Vec<Given>,
}

impl GivenStep {
    /// Reads `id key=value … id key=value …`: what has no `=` is the id of the next step.
    pub(crate) fn read_all(words: &[OsString]) -> anyhow::Result<Vec<Self>> {
        let mut steps: Vec<Self> = Vec::new();
        for word in words {
            if !word.as_bytes().contains(&b'=') {
                let id = word
                    .to_str()
                    .with_context(|| format!("{word:?} is no id of a step"))?;
                steps.push(Self {
                    id: id.to_owned(),
                    values: Vec::new(),
                });
                continue;
            }
            match steps.last_mut() {
                Some(step) => step.values.push(Given::read(word, false)?),
                None => bail!("--step needs the id of the step before {word:?}"),
            }
        }
        Ok(steps)
    }
}

/// The files that are named where one of these forms takes a file, so that `file://` URLs of these, and of no
/// others, may be opened.
pub(crate) fn files<'a>(
    forms: &[&Parameters],
    given: impl IntoIterator<Item = &'a Given>,
) -> Vec<PathBuf> {
    let takes_file = |given: &&Given| {
        let fields = forms.iter().flat_map(|form| form.fields());
        let mut own = fields.filter(|field| field.key == given.key || field.id == given.key);
        own.any(|field| is_file(&field.kind))
    };
    given
        .into_iter()
        .filter(takes_file)
        .filter_map(Given::path)
        .collect()
}

/// What a run gets.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    pub(crate) parameters: Map<String, Value>,
    pub(crate) uploads: Vec<Upload>,
}

/// Where files go that a plugin takes as uploads.
pub(crate) struct Desk<'a> {
    pub(crate) fetcher: &'a Fetcher,
    pub(crate) files: &'a FileStore,
    /// For downloads.
    pub(crate) folder: &'a Path,
}

impl Desk<'_> {
    /// Fills in a form, beginning with what it is prefilled with. Says what is wrong, by field.
    pub(crate) async fn fill(
        &self,
        parameters: &Parameters,
        prefill: &Map<String, Value>,
        given: &[Given],
    ) -> Result<Filled, FieldErrors> {
        let mut form = Form::default();
        let mut errors = FieldErrors::new();
        let mut uploads = Vec::new();
        let mut wrong =
            |key: &str, message: String| errors.entry(key.to_owned()).or_default().push(message);
        let is_given = |field: &Field| {
            given
                .iter()
                .any(|one| one.key == field.key || one.key == field.id)
        };
        for field in parameters.fields().iter().filter(|field| !is_given(field)) {
            let prefilled = prefill.get(&field.key).or_else(|| prefill.get(&field.id));
            if let Some(value) = prefilled.filter(|value| !value.is_null()) {
                for text in field.kind.to_texts(value) {
                    form.push(field.key.clone(), FormValue::Text(text));
                }
            }
        }
        for one in given {
            let field = parameters
                .fields()
                .iter()
                .find(|field| field.key == one.key || field.id == one.key);
            let Some(field) = field else {
                wrong(&one.key, UNKNOWN.to_owned());
                continue;
            };
            match self.value(field, one, &mut uploads).await {
                Ok(value) => form.push(field.key.clone(), value),
                Err(message) => wrong(&field.key, message),
            }
        }
        let checked = parameters.check_form(&form);
        for (key, messages) in checked.errors {
            // A value that could not be read is not missing.
            errors.entry(key).or_insert(messages);
        }
        match errors.is_empty() {
            true => Ok(Filled {
                parameters: checked.values,
                uploads,
            }),
            false => Err(errors),
        }
    }

    async fn value(
        &self,
        field: &Field,
        given: &Given,
        uploads: &mut Vec<Upload>,
    ) -> Result<FormValue, String> {
        let kind = match &field.kind {
            FieldKind::List(items) => items.as_ref(),
            kind => kind,
        };
        match kind {
            FieldKind::Upload(_) => {
                let upload = self.upload(given).await?;
                uploads.push(upload.clone());
                Ok(FormValue::Upload(upload))
            }
            FieldKind::Data(_) => url_of(given).map(FormValue::Text),
            _ if given.must_be_file => Err("Not a file: give its value with -p.".to_owned()),
            _ => match given.value.to_str() {
                Some(text) => Ok(FormValue::Text(text.to_owned())),
                None => Err("Not UTF-8.".to_owned()),
            },
        }
    }

    async fn upload(&self, given: &Given) -> Result<Upload, String> {
        let (path, name, content_type) = match as_url(given) {
            None => {
                let path = existing(given)?;
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let content_type = content_type_of(&name).to_owned();
                (path, name, content_type)
            }
            Some(url) => {
                let target = self.folder.join(format!("upload-{}", uploads_so_far()));
                let download = self
                    .fetcher
                    .download(url, &target)
                    .await
                    .map_err(|error| error.to_string())?;
                (target, download.name, download.content_type)
            }
        };
        let files = self.files.clone();
        let stored = tokio::task::spawn_blocking(move || {
            let file = File::open(&path)
                .map_err(|error| format!("Cannot read {}: {error}", path.display()))?;
            files.put(file).map_err(|error| error.to_string())
        });
        let stored = stored.await.map_err(|error| error.to_string())??;
        Ok(Upload {
            key: stored.key,
            name,
            content_type,
            size: stored.size,
        })
    }
}

/// A number for the name of a file, another one each time.
fn uploads_so_far() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

fn as_url(given: &Given) -> Option<&str> {
    let text = given.value.to_str()?;
    let is_url = text.starts_with("data:") || text.contains("://");
    (is_url && given.path().is_none()).then_some(text)
}

fn existing(given: &Given) -> Result<PathBuf, String> {
    let shown = Path::new(&given.value).display();
    if let Some(path) = given.path() {
        return Ok(path);
    }
    match std::fs::metadata(&given.value) {
        Ok(_) => Err(format!("{shown} is not a regular file.")),
        Err(error) => Err(format!("Cannot read {shown}: {error}")),
    }
}

fn url_of(given: &Given) -> Result<String, String> {
    if let Some(url) = as_url(given) {
        return Ok(url.to_owned());
    }
    let path = existing(given)?;
    let url = Url::from_file_path(&path).map_err(|()| format!("{} has no URL", path.display()))?;
    // In a list, commas separate.
    Ok(url.to_string().replace(',', "%2C"))
}

/// The errors, one field after the other.
pub(crate) fn shown_errors(parameters: &Parameters, errors: &FieldErrors) -> String {
    let mut text = String::new();
    for (key, messages) in errors {
        let label = match parameters.field(key) {
            Some(field) if field.label != *key => format!(" ({})", line(&field.label)),
            _ => String::new(),
        };
        let key = if key.is_empty() { "all values" } else { key };
        text.push_str(&format!(
            "\n  {}{label}: {}",
            line(key),
            line(&messages.join(" "))
        ));
    }
    text
}

/// How the parameters are given, such as `-p text=TEXT [-p n=INTEGER] --input data=FILE`.
pub(crate) fn usage(parameters: &Parameters) -> String {
    let one = |field: &Field| {
        let key = line(&field.key);
        let text = match is_file(&field.kind) {
            true => format!("--input {key}=FILE"),
            false => format!(
                "-p {key}={}",
                kind_name(&field.kind).to_uppercase().replace(' ', "-")
            ),
        };
        if field.required {
            text
        } else {
            format!("[{text}]")
        }
    };
    let all: Vec<String> = parameters.fields().iter().map(one).collect();
    if all.is_empty() {
        "no parameters".to_owned()
    } else {
        all.join(" ")
    }
}

/// Whether values are files.
pub(crate) fn is_file(kind: &FieldKind) -> bool {
    match kind {
        FieldKind::Data(_) | FieldKind::Upload(_) => true,
        FieldKind::List(items) => is_file(items),
        _ => false,
    }
}

/// The kind in a word, for people.
pub(crate) fn kind_name(kind: &FieldKind) -> String {
    match kind {
        FieldKind::Text { .. } => "text".to_owned(),
        FieldKind::Secret => "secret".to_owned(),
        FieldKind::Integer => "integer".to_owned(),
        FieldKind::Number => "number".to_owned(),
        FieldKind::Boolean => "boolean".to_owned(),
        FieldKind::Choice(choices) => {
            let values: Vec<String> = choices.iter().map(|(value, _)| as_text(value)).collect();
            values.join("|")
        }
        FieldKind::List(items) => format!("{} list", kind_name(items)),
        FieldKind::Url => "url".to_owned(),
        FieldKind::Data(_) => "data".to_owned(),
        FieldKind::Plugin { .. } => "plugin".to_owned(),
        FieldKind::Upload(_) => "file".to_owned(),
        FieldKind::Json => "json".to_owned(),
    }
}

/// Errors for scripts.
pub(crate) fn errors_json(errors: &FieldErrors) -> Value {
    json!(errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn what_has_no_equals_sign_begins_a_step() {
        let steps = GivenStep::read_all(&words(&["a", "x=1", "y=a=b", "b"])).unwrap();
        assert_eq!(
            (
                steps[0].id.as_str(),
                steps[0].values.len(),
                steps[1].id.as_str()
            ),
            ("a", 2, "b")
        );
        assert_eq!(steps[0].values[1].value, "a=b");
        assert!(GivenStep::read_all(&words(&["x=1"])).is_err());
        for wrong in ["", "x", "=1"] {
            assert!(Given::read(OsStr::new(wrong), false).is_err(), "{wrong}");
        }
        assert!(Given::read(OsStr::from_bytes(b"\xff=1"), false).is_err());
        assert!(Given::read(OsStr::from_bytes(b"file=\xff"), true).is_ok());
    }

    #[test]
    fn usage_shows_what_is_required() {
        let parameters = Parameters::new(json!({"type": "object", "required": ["a", "f"], "properties": {
            "a": {"type": "string"}, "n": {"type": "integer"}, "c": {"enum": ["x", "y"]},
            "f": {"type": "string", "format": "uri", "x-data": {"dataType": "*", "contentType": []}},
        }})).unwrap();
        assert_eq!(
            usage(&parameters),
            "-p a=TEXT [-p n=INTEGER] [-p c=X|Y] --input f=FILE"
        );
    }
}
