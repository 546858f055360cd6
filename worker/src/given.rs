//! Tasks that a run or a session asks for: the files that are given to one before it is made, and its end with who
//! waits for it.

use std::fs::File;

use runner_core::file::{Upload, content_type_of, upload_name};
use runner_core::parameters::UPLOAD;
use runner_core::task::NewTask;
use runner_queue::Offer;
use runner_store::{FileStore, StoreError};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::Tools;

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

/// A called task whose caller waits. When the caller ends before it, it is cancelled.
pub(crate) struct Unfinished {
    tools: Tools,
    /// Cancelled when the worker stops: then the task goes on at the next start, as its caller does.
    abort: CancellationToken,
    /// Its number.
    pub(crate) task: i64,
    is_settled: bool,
}

impl Unfinished {
    fn new(tools: &Tools, task: i64, abort: CancellationToken) -> Self {
        Self {
            tools: tools.clone(),
            abort,
            task,
            is_settled: false,
        }
    }

    pub(crate) fn settle(mut self) {
        self.is_settled = true;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.is_settled || self.abort.is_cancelled() {
            return;
        }
        let (tools, task) = (self.tools.clone(), self.task);
        tokio::spawn(async move {
            match tools.store.cancel_task(task).await {
                Ok(Some(ended)) => tools.queue.tasks_ended(&ended, &tools.events),
                Ok(None) => {}
                Err(error) => tracing::error!(task, "a called task cannot be cancelled: {error}"),
            }
        });
    }
}
