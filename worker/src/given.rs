//! Files that are given to a task that is not made yet.

use std::fs::File;

use runner_core::file::{Upload, content_type_of, upload_name};
use runner_core::parameters::UPLOAD;
use runner_core::task::NewTask;
use runner_queue::Offer;
use runner_store::{FileStore, StoreError};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::Tools;
use crate::calls::Unfinished;

/// Contents in the file store. They are removed when this is dropped before a task has them.
pub(crate) struct Given {
    files: FileStore,
    uploads: Vec<Upload>,
}

impl Given {
    pub(crate) fn new(tools: &Tools) -> Self {
        Self {
            files: tools.store.files().clone(),
            uploads: Vec::new(),
        }
    }

    /// Stores a file of this name. Answers what stands for it among the parameters of the task.
    pub(crate) async fn store<E: ToString>(
        &mut self,
        name: &str,
        open: impl FnOnce() -> Result<File, E> + Send + 'static,
    ) -> Result<Value, String> {
        let files = self.files.clone();
        let stored = tokio::task::spawn_blocking(move || {
            let file = open().map_err(|error| error.to_string())?;
            files.put(file).map_err(|error| error.to_string())
        });
        let stored = stored.await.map_err(|error| error.to_string())??;
        let name = upload_name(name);
        let upload = Upload {
            key: stored.key,
            content_type: content_type_of(&name).to_owned(),
            name,
            size: stored.size,
        };
        let value = json!({ UPLOAD: upload });
        self.uploads.push(upload);
        Ok(value)
    }

    /// Makes a task, which has them from then on, and offers it. Both are done even where nobody waits for this any
    /// more: then the task is cancelled, unless `abort` is.
    pub(crate) async fn begin(
        self,
        tools: &Tools,
        task: NewTask,
        abort: CancellationToken,
    ) -> Result<Unfinished, StoreError> {
        let tools = tools.clone();
        let begun = tokio::spawn(async move {
            let dispatch = task.dispatch.clone();
            let id = self.insert(&tools, task).await?;
            let unfinished = Unfinished::new(&tools, id, abort);
            tools.queue.push(Offer::first(id, &dispatch));
            Ok(unfinished)
        });
        begun.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn insert(mut self, tools: &Tools, task: NewTask) -> Result<i64, StoreError> {
        let uploads = self.uploads.clone();
        let inserted = tools.store.insert_task(NewTask { uploads, ..task }).await;
        // Where nobody knows whether it was made, it may have them.
        if matches!(&inserted, Ok(_) | Err(StoreError::Unknown { .. })) {
            self.uploads.clear();
        }
        inserted.map(|inserted| inserted.id())
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let uploads = std::mem::take(&mut self.uploads);
        if uploads.is_empty() {
            return;
        }
        let files = self.files.clone();
        tokio::task::spawn_blocking(move || {
            for upload in uploads {
                // What stays is swept.
                let _ = files.remove(&upload.key);
            }
        });
    }
}
