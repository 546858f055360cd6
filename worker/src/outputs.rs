//! Takes the outputs of a run over into the file store.

use std::path::Path;
use std::sync::Arc;

use runner_core::file::{content_type_of, link_url, plain_name};
use runner_core::plugin::Plugin;
use runner_host::RunFolder;
use runner_host::protocol::{OutputContent, OutputNote};
use runner_store::{FileStore, NewFile, StoredFile};

/// Outputs that came as text are stored at once if they are no more than this, in number and in bytes: writing
/// them takes less than handing them to another thread. More of them, and files, whose size only the disk knows,
/// would hold up others.
const QUICK: (usize, usize) = (4, 64 * 1024);

/// Copies each output into the store. On an error nothing is left there.
pub(crate) async fn take(
    files: FileStore,
    folder: Arc<RunFolder>,
    plugin: &Plugin,
    notes: Vec<OutputNote>,
) -> Result<Vec<NewFile>, String> {
    if notes.is_empty() {
        return Ok(Vec::new());
    }
    let usual = match plugin.data_output.as_slice() {
        [only] => only.data_type.clone(),
        _ => "*".to_owned(),
    };
    if !files.is_slow() && are_quick(&notes) {
        return take_all(&files, &folder, notes, &usual);
    }
    let taken = tokio::task::spawn_blocking(move || take_all(&files, &folder, notes, &usual));
    taken
        .await
        .unwrap_or_else(|error| Err(format!("storing the outputs failed: {error}")))
}

fn are_quick(notes: &[OutputNote]) -> bool {
    let bytes = notes.iter().try_fold(0, |sum, note| match &note.content {
        OutputContent::Text(text) => Some(sum + text.len()),
        OutputContent::Url(_) => Some(sum),
        OutputContent::Path(_) => None,
    });
    notes.len() <= QUICK.0 && bytes.is_some_and(|bytes| bytes <= QUICK.1)
}

fn take_all(
    files: &FileStore,
    folder: &RunFolder,
    notes: Vec<OutputNote>,
    usual: &str,
) -> Result<Vec<NewFile>, String> {
    let mut taken: Vec<NewFile> = Vec::with_capacity(notes.len());
    for note in notes {
        match take_one(files, folder, note, usual) {
            Ok(file) => taken.push(file),
            Err(error) => {
                discard(files, &taken);
                return Err(error);
            }
        }
    }
    Ok(taken)
}

fn take_one(
    files: &FileStore,
    folder: &RunFolder,
    note: OutputNote,
    usual: &str,
) -> Result<NewFile, String> {
    let own_name = match &note.content {
        OutputContent::Path(path) => {
            let name = Path::new(path).file_name();
            name.map(|name| name.to_string_lossy().into_owned())
        }
        OutputContent::Url(url) => url_name(url),
        OutputContent::Text(_) => None,
    };
    let told = note.name.filter(|name| !name.is_empty());
    let name = plain_name(&told.or(own_name).unwrap_or_default());
    let (stored, url) = match &note.content {
        OutputContent::Path(path) => {
            let file = folder.open(path).map_err(|error| error.to_string())?;
            (files.put(file), None)
        }
        OutputContent::Text(text) => (files.put_text(text), None),
        OutputContent::Url(url) => {
            let url = link_url(url)
                .map_err(|problem| format!("the output {name} stands nowhere: {problem}"))?;
            (Ok(StoredFile::elsewhere()), Some(url))
        }
    };
    let stored = stored.map_err(|error| {
        let causes = error.with_causes();
        format!("the output {name} cannot be stored: {causes}")
    })?;
    Ok(NewFile {
        stored,
        url,
        data_type: note.data_type.unwrap_or_else(|| usual.to_owned()),
        content_type: note
            .content_type
            .unwrap_or_else(|| content_type_of(&name).to_owned()),
        name,
    })
}

/// The last part of the path of a URL.
fn url_name(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    url.path_segments()?.next_back().map(str::to_owned)
}

/// Removes what was stored and is not wanted.
pub(crate) fn discard(files: &FileStore, taken: &[NewFile]) {
    let here = taken
        .iter()
        .filter(|file| file.url.is_none() && file.stored.text.is_none());
    let keys: Vec<String> = here.map(|file| file.stored.key.clone()).collect();
    let (files, is_slow) = (files.clone(), files.is_slow());
    let remove = move || {
        for key in &keys {
            if let Err(error) = files.remove(key) {
                // The sweep finds it later.
                tracing::warn!("an output that is not wanted cannot be removed: {error}");
            }
        }
    };
    match is_slow {
        true => drop(tokio::task::spawn_blocking(remove)),
        false => remove(),
    }
}
