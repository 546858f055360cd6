//! Takes the outputs of a run over into the file store.

use std::path::Path;
use std::sync::Arc;

use runner_core::file::{content_type_of, plain_name};
use runner_core::plugin::Plugin;
use runner_host::RunFolder;
use runner_host::protocol::OutputNote;
use runner_store::{FileStore, NewFile};

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
    let taken = tokio::task::spawn_blocking(move || {
        let mut taken: Vec<NewFile> = Vec::with_capacity(notes.len());
        for note in notes {
            match take_one(&files, &folder, note, &usual) {
                Ok(file) => taken.push(file),
                Err(error) => {
                    discard(&files, &taken);
                    return Err(error);
                }
            }
        }
        Ok(taken)
    });
    taken
        .await
        .unwrap_or_else(|error| Err(format!("storing the outputs failed: {error}")))
}

fn take_one(
    files: &FileStore,
    folder: &RunFolder,
    note: OutputNote,
    usual: &str,
) -> Result<NewFile, String> {
    let file = folder.open(&note.path).map_err(|error| error.to_string())?;
    let own_name = Path::new(&note.path)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = plain_name(&note.name.or(own_name).unwrap_or_default());
    let stored = files
        .put(file)
        .map_err(|error| format!("the output {name} cannot be stored: {error}"))?;
    Ok(NewFile {
        stored,
        data_type: note.data_type.unwrap_or_else(|| usual.to_owned()),
        content_type: note
            .content_type
            .unwrap_or_else(|| content_type_of(&name).to_owned()),
        name,
    })
}

/// Removes what was stored and is not wanted.
pub(crate) fn discard(files: &FileStore, taken: &[NewFile]) {
    for file in taken {
        if let Err(error) = files.remove(&file.stored.key) {
            // The sweep finds it later.
            tracing::warn!("an output that is not wanted cannot be removed: {error}");
        }
    }
}
