//! Brings the inputs of a run into its folder.

use std::path::Path;

use runner_core::file::{Upload, plain_name};
use runner_core::parameters::{DataField, FieldKind, Parameters, UPLOAD};
use runner_fetch::Fetcher;
use runner_host::RunFolder;
use runner_host::protocol::Input;
use runner_store::Store;
use serde_json::{Map, Value};

/// What a run gets: its parameters as the plugin sees them, and the files beside them.
pub(crate) struct Gathered {
    pub(crate) parameters: Map<String, Value>,
    pub(crate) inputs: Map<String, Value>,
}

/// Downloads data inputs and links uploads. The error says which parameter, and why.
pub(crate) async fn gather(
    fetcher: &Fetcher,
    store: &Store,
    folder: &RunFolder,
    form: &Parameters,
    given: &Map<String, Value>,
) -> Result<Gathered, String> {
    let mut gathered = Gathered {
        parameters: given.clone(),
        inputs: Map::new(),
    };
    let mut number = 0;
    for field in form.fields() {
        let Some(value) = given.get(&field.key) else {
            continue;
        };
        let (kind, values) = match (&field.kind, value) {
            (FieldKind::List(items), Value::Array(values)) => (items.as_ref(), values.as_slice()),
            (kind, value) => (kind, std::slice::from_ref(value)),
        };
        let data = match kind {
            FieldKind::Upload(data) => data,
            FieldKind::Data(data) if data.fetch => data,
            _ => continue,
        };
        let in_parameter = |error: String| format!("{} ({}): {error}", field.label, field.key);
        let folder = folder
            .inputs()
            .map_err(|error| in_parameter(error.to_string()))?;
        let mut found = Vec::with_capacity(values.len());
        for value in values {
            number += 1;
            let one = match value {
                Value::String(url) => download(fetcher, &folder, number, url, data).await,
                value => link(store, &folder, number, value, data).await,
            };
            found.push(serde_json::to_value(one.map_err(in_parameter)?).unwrap_or_default());
        }
        let is_data = matches!(kind, FieldKind::Data(_));
        let shown = values.iter().zip(&found).map(|(value, input)| match value {
            Value::String(_) if is_data => value.clone(),
            // The record of an upload is nothing to a plugin.
            _ => input["name"].clone(),
        });
        let mut shown: Vec<Value> = shown.collect();
        let shown = match value {
            Value::Array(_) => Value::Array(shown),
            _ => shown.swap_remove(0),
        };
        gathered.parameters.insert(field.key.clone(), shown);
        let found = if value.is_array() {
            Value::Array(found)
        } else {
            found.swap_remove(0)
        };
        gathered.inputs.insert(field.key.clone(), found);
    }
    Ok(gathered)
}

async fn download(
    fetcher: &Fetcher,
    folder: &Path,
    number: usize,
    url: &str,
    data: &DataField,
) -> Result<Input, String> {
    let draft = folder.join(format!("{number}"));
    let download = fetcher
        .download(url, &draft)
        .await
        .map_err(|error| error.to_string())?;
    let path = folder.join(format!("{number}-{}", plain_name(&download.name)));
    tokio::fs::rename(&draft, &path)
        .await
        .map_err(|error| error.to_string())?;
    Ok(Input {
        path: path.display().to_string(),
        name: download.name,
        content_type: download.content_type,
        data_type: download.data_type.unwrap_or_else(|| data.data_type.clone()),
        url: (!is_data(url)).then(|| url.to_owned()),
        size: download.size,
    })
}

/// Whether a URL is its own content: the plugin has that as a file, and lines of the protocol are short.
fn is_data(url: &str) -> bool {
    let scheme = url.split(':').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case("data")
}

async fn link(
    store: &Store,
    folder: &Path,
    number: usize,
    value: &Value,
    data: &DataField,
) -> Result<Input, String> {
    let upload: Upload = serde_json::from_value(value[UPLOAD].clone())
        .map_err(|error| format!("the task's record of the upload is not usable: {error}"))?;
    let path = folder.join(format!("{number}-{}", plain_name(&upload.name)));
    store
        .place_stored(&upload.key, &path)
        .await
        .map_err(|error| format!("the upload cannot be read: {error}"))?;
    Ok(Input {
        path: path.display().to_string(),
        name: upload.name,
        content_type: upload.content_type,
        data_type: data.data_type.clone(),
        url: None,
        size: upload.size,
    })
}
