//! Files that came with a request, until a task has them.

use runner_core::file::Upload;
use runner_store::FileStore;

/// Files that are in the store and that no row names. They are removed when this is dropped: after an
/// error, and also when the client hangs up and the request is dropped with all that it held.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Vec<Guard>);

impl Uploads {
    pub(super) fn push(&mut self, file: Guard) {
        self.0.push(file);
    }

    /// Only those that are wanted; the others are removed.
    pub(super) fn only(mut self, wanted: &[Upload]) -> Self {
        self.0
            .retain(|file| wanted.iter().any(|upload| upload.key == file.key));
        self
    }

    /// Waits for the commit of a row that names them, after which they are the task's. They are removed
    /// if it fails. If it is broken off it may have happened: then the sweep decides.
    pub(crate) async fn named_by<T, E>(
        mut self,
        commit: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.arm(false);
        let outcome = commit.await;
        self.arm(outcome.is_err());
        outcome
    }

    fn arm(&mut self, is_armed: bool) {
        for file in &mut self.0 {
            file.is_armed = is_armed;
        }
    }
}

/// Removes a file from the store when it is dropped, unless it was disarmed.
#[derive(Debug)]
pub(super) struct Guard {
    files: FileStore,
    key: String,
    is_armed: bool,
}

impl Guard {
    pub(super) fn new(files: FileStore, key: String) -> Self {
        Self {
            files,
            key,
            is_armed: true,
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.is_armed {
            return;
        }
        let (files, key) = (self.files.clone(), std::mem::take(&mut self.key));
        let is_slow = files.is_slow();
        let remove = move || {
            if let Err(error) = files.remove(&key) {
                // The sweep finds it later.
                tracing::warn!("an upload that is not wanted cannot be removed: {error}");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if is_slow => drop(runtime.spawn_blocking(remove)),
            _ => remove(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_store::{DatabaseUrl, Durability, Store, StoreConfig};

    struct Fixture {
        store: Store,
        _folder: tempfile::TempDir,
    }

    impl Fixture {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let config = StoreConfig {
                database: DatabaseUrl::of_file(folder.path().join("runner.db")),
                files: folder.path().join("files"),
                bucket: None,
                durability: Durability::Process,
                queue: "test".to_owned(),
                process: "test".to_owned(),
                is_alone: false,
            };
            Self {
                store: Store::open(&config).await.unwrap(),
                _folder: folder,
            }
        }

        fn upload(&self, uploads: &mut Uploads) -> Upload {
            let stored = self.store.files().put(b"x".as_slice()).unwrap();
            uploads.push(Guard::new(self.store.files().clone(), stored.key.clone()));
            Upload {
                key: stored.key,
                name: "x".to_owned(),
                content_type: "text/plain".to_owned(),
                size: 1,
            }
        }

        fn has(&self, upload: &Upload) -> bool {
            self.store.files().open(&upload.key).is_ok()
        }
    }

    #[tokio::test]
    async fn what_no_row_names_is_removed() {
        let fixture = Fixture::new().await;
        let mut uploads = Uploads::default();
        let first = fixture.upload(&mut uploads);
        let second = fixture.upload(&mut uploads);
        let uploads = uploads.only(std::slice::from_ref(&first));
        assert!(fixture.has(&first) && !fixture.has(&second));
        drop(uploads);
        assert!(!fixture.has(&first));
    }

    #[tokio::test]
    async fn a_commit_decides_who_has_them() {
        let fixture = Fixture::new().await;
        for (outcome, stays) in [(Ok(()), true), (Err(()), false)] {
            let mut uploads = Uploads::default();
            let upload = fixture.upload(&mut uploads);
            let _ = uploads.named_by(async { outcome }).await;
            assert_eq!(fixture.has(&upload), stays);
        }
        let mut uploads = Uploads::default();
        let upload = fixture.upload(&mut uploads);
        let mut commit = Box::pin(uploads.named_by(std::future::pending::<Result<(), ()>>()));
        assert!(futures::poll!(&mut commit).is_pending());
        drop(commit);
        assert!(fixture.has(&upload), "it may have been committed");
    }
}
