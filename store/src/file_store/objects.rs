//! Contents as objects: `<prefix>/a/b/<key>` in a bucket.
//!
//! An object appears when its last part has arrived, and never before. Parts of one that was given up are removed when
//! the runner can still say so; after `kill -9` the bucket has them, invisible: a rule of the bucket removes those
//! (`AbortIncompleteMultipartUpload`).
//!
//! The requests run on a thread of their own, so that those who wait for them may be anywhere.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::SystemTime;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path as Location;
use object_store::{
    Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
    PutPayload, WriteMultipart,
};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

use super::draft::{Draft, unreadable};
use super::key::{digits_of, hexadecimal, is_key, shelf_of};
use super::{ContentStream, Contents};
use crate::StoreError;

/// Bytes of a part. There may be 10,000 of them, so that an object can have 80 GB.
const PART: usize = 8 << 20;
/// Parts of one object that are under way at a time.
const PARTS_AT_ONCE: usize = 2;
/// The object that says which store it is.
const MARKER: &str = "store-id";
/// Characters of what went wrong that are told: servers answer whole documents.
const REASON: usize = 400;

/// A place in an object store.
#[derive(Debug)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Before the names of all objects; may be empty.
    prefix: Location,
    /// As it is told.
    shown: String,
    /// None while it is dropped.
    runtime: Option<Runtime>,
}

impl Objects {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        shown: String,
    ) -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("objects")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|source| {
            StoreError::file("starting a thread for", &PathBuf::from(&shown), source)
        })?;
        Ok(Self {
            store,
            prefix: Location::from(prefix),
            shown,
            runtime: Some(runtime),
        })
    }

    /// Where an object is. What cannot be a key is where nothing is.
    fn location(&self, key: &str) -> Location {
        match shelf_of(key) {
            Some([a, b]) => self
                .prefix
                .clone()
                .join(a.to_string())
                .join(b.to_string())
                .join(key),
            None => self.prefix.clone().join("not-a-key"),
        }
    }

    fn failed(
        &self,
        attempt: &'static str,
        location: &Location,
    ) -> impl Fn(Error) -> StoreError + use<> {
        let location = location.to_string();
        let shown = self.shown.clone();
        move |error| match error {
            Error::NotFound { .. } => StoreError::File {
                attempt,
                path: PathBuf::from(format!("{shown}: {location}")),
                source: ErrorKind::NotFound.into(),
            },
            error => StoreError::Object {
                attempt,
                object: format!("{location} in {shown}"),
                reason: reason(&error),
            },
        }
    }

    /// Waits for what happens on the other thread.
    fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Some(runtime) = &self.runtime else {
            return Err(StoreError::Closed);
        };
        let (sender, receiver) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            // Nobody waits any more.
            let _sent = sender.send(future.await);
        });
        receiver.recv().map_err(|_| StoreError::Closed)
    }

    /// What is on a shelf.
    fn list(&self, shelf: u32) -> Result<Vec<ObjectMeta>, StoreError> {
        let [a, b] = digits_of(shelf);
        let location = self.prefix.clone().join(a).join(b);
        let failed = self.failed("listing", &location);
        let objects = self.store.list(Some(&location));
        self.wait(objects.try_collect())?.map_err(failed)
    }

    fn put_whole(&self, location: Location, payload: Bytes) -> Result<(), StoreError> {
        let failed = self.failed("storing", &location);
        let store = Arc::clone(&self.store);
        self.wait(async move { store.put(&location, payload.into()).await })?
            .map(drop)
            .map_err(failed)
    }

    /// Stores what is longer than a part, of which the first is there.
    fn put_parts(
        &self,
        location: &Location,
        first: Bytes,
        source: &mut dyn Read,
        hasher: &mut Sha256,
    ) -> Result<u64, StoreError> {
        let failed = self.failed("storing", location);
        let store = Arc::clone(&self.store);
        let place = location.clone();
        let upload = self.wait(async move { store.put_multipart(&place).await })?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload.map_err(&failed)?, PART);
        let mut part = Some(first);
        let mut size = 0;
        while let Some(bytes) = part.take() {
            size += bytes.len() as u64;
            let sent;
            (upload, sent) = self.wait(async move {
                let sent = upload.wait_for_capacity(PARTS_AT_ONCE).await;
                upload.put(bytes);
                (upload, sent)
            })?;
            let next = match sent {
                Ok(()) => next_part(source, hasher)
                    .map_err(|error| unreadable(Path::new(location.as_ref()), error)),
                Err(error) => Err(failed(error)),
            };
            part = match next {
                Ok(next) => (!next.is_empty()).then_some(next),
                Err(error) => {
                    // What stays of it is never an object.
                    let _aborted = self.wait(upload.abort());
                    return Err(error);
                }
            };
        }
        // That gives it up itself where it fails.
        self.wait(upload.finish())?.map_err(failed)?;
        Ok(size)
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Who drops it may be on a thread that must not wait.
            runtime.shutdown_background();
        }
    }
}

impl Contents for Objects {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    fn is_slow(&self) -> bool {
        true
    }

    fn put(&self, key: &str, source: &mut dyn Read) -> Result<(u64, String), StoreError> {
        let location = self.location(key);
        let mut hasher = Sha256::new();
        let first = next_part(source, &mut hasher)
            .map_err(|error| unreadable(Path::new(location.as_ref()), error))?;
        let size = if first.len() < PART {
            let size = first.len() as u64;
            self.put_whole(location, first)?;
            size
        } else {
            self.put_parts(&location, first, source, &mut hasher)?
        };
        Ok((size, hexadecimal(&hasher.finalize())))
    }

    fn put_bytes(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_whole(self.location(key), Bytes::copy_from_slice(bytes))
    }

    fn adopt(&self, key: &str, draft: &mut Draft) -> Result<(), StoreError> {
        let mut file = File::open(draft.path())
            .map_err(|source| StoreError::file("opening the file", draft.path(), source))?;
        self.put(key, &mut file).map(drop)
    }

    fn read(
        &self,
        key: &str,
        part: Range<u64>,
    ) -> BoxFuture<'static, Result<ContentStream, StoreError>> {
        let location = self.location(key);
        let failed = self.failed("reading", &location);
        let store = Arc::clone(&self.store);
        let asked = self.runtime.as_ref().map(|runtime| {
            runtime.spawn(async move {
                let options = GetOptions {
                    range: Some(GetRange::Bounded(part)),
                    ..GetOptions::default()
                };
                store.get_opts(&location, options).await
            })
        });
        Box::pin(async move {
            let Some(asked) = asked else {
                return Err(StoreError::Closed);
            };
            let got = asked.await.map_err(|_| StoreError::Closed)?;
            let stream = got.map_err(failed)?.into_stream();
            Ok(stream.map_err(io::Error::from).boxed())
        })
    }

    fn open(&self, key: &str) -> Result<Box<dyn Read + Send>, StoreError> {
        let location = self.location(key);
        let failed = self.failed("reading", &location);
        let store = Arc::clone(&self.store);
        let (sender, pieces) = mpsc::sync_channel(1);
        let Some(runtime) = &self.runtime else {
            return Err(StoreError::Closed);
        };
        let (opened, is_there) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            let mut stream = match store.get(&location).await {
                Ok(got) => {
                    let _told = opened.send(Ok(()));
                    got.into_stream()
                }
                Err(error) => {
                    let _told = opened.send(Err(error));
                    return;
                }
            };
            while let Some(piece) = stream.next().await {
                let piece = piece.map_err(io::Error::from);
                // The reader may be slow, and other requests want the thread.
                let sender = sender.clone();
                let sent = tokio::task::spawn_blocking(move || sender.send(Some(piece)));
                if !matches!(sent.await, Ok(Ok(()))) {
                    return;
                }
            }
            let _told = tokio::task::spawn_blocking(move || sender.send(None)).await;
        });
        let is_there = is_there.recv().map_err(|_| StoreError::Closed)?;
        is_there.map_err(failed)?;
        Ok(Box::new(Pieces {
            pieces,
            rest: Bytes::new(),
            has_ended: false,
        }))
    }

    fn place(&self, key: &str, path: &Path) -> Result<(), StoreError> {
        let mut content = self.open(key)?;
        let copied = File::create_new(path).and_then(|mut file| io::copy(&mut content, &mut file));
        copied.map(drop).map_err(|source| {
            // Half of it must not be taken for all.
            let _removed = std::fs::remove_file(path);
            StoreError::file("reading an object into the file", path, source)
        })
    }

    fn remove(&self, key: &str) -> Result<(), StoreError> {
        let location = self.location(key);
        let failed = self.failed("removing", &location);
        let store = Arc::clone(&self.store);
        match self.wait(async move { store.delete(&location).await })? {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    fn keys_on(&self, shelf: u32, older_than: SystemTime) -> Result<Vec<String>, StoreError> {
        let objects = self.list(shelf)?.into_iter();
        let old = objects.filter(|object| SystemTime::from(object.last_modified) < older_than);
        let names = old.filter_map(|object| object.location.filename().map(str::to_owned));
        Ok(names.filter(|name| is_key(name)).collect())
    }

    fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let location = self.location(key);
        let failed = self.failed("looking at", &location);
        let store = Arc::clone(&self.store);
        match self.wait(async move { store.head(&location).await })? {
            Ok(object) => Ok(Some(object.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn amount_on(&self, shelf: u32) -> Result<(u64, u64), StoreError> {
        let objects = self.list(shelf)?;
        let bytes = objects.iter().map(|object| object.size).sum();
        Ok((objects.len() as u64, bytes))
    }

    fn known_marker(&self) -> Result<Option<String>, StoreError> {
        let location = self.prefix.clone().join(MARKER);
        let failed = self.failed("reading", &location);
        let store = Arc::clone(&self.store);
        let found = self.wait(async move { store.get(&location).await?.bytes().await })?;
        match found {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn marker(&self, new: &str) -> Result<String, StoreError> {
        let location = self.prefix.clone().join(MARKER);
        let failed = self.failed("reading or making", &location);
        let store = Arc::clone(&self.store);
        let payload = PutPayload::from(format!("{new}\n"));
        let found = self.wait(async move {
            loop {
                match store.get(&location).await {
                    Ok(got) => return got.bytes().await,
                    Err(Error::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
                let options = PutOptions::from(PutMode::Create);
                match store.put_opts(&location, payload.clone(), options).await {
                    Ok(_) | Err(Error::AlreadyExists { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        })?;
        let found = found.map_err(failed)?;
        Ok(String::from_utf8_lossy(&found).into_owned())
    }
}

/// Reads as much as a part has, or what is left. It is digested.
fn next_part(source: &mut dyn Read, hasher: &mut Sha256) -> io::Result<Bytes> {
    let mut part = Vec::new();
    source.take(PART as u64).read_to_end(&mut part)?;
    hasher.update(&part);
    Ok(part.into())
}

/// What went wrong, on one line.
fn reason(error: &Error) -> String {
    let text = error.to_string();
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(REASON) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// An object that comes piece by piece from the other thread.
struct Pieces {
    pieces: mpsc::Receiver<Option<io::Result<Bytes>>>,
    rest: Bytes,
    has_ended: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.has_ended {
            match self.pieces.recv() {
                Ok(Some(piece)) => self.rest = piece?,
                Ok(None) => self.has_ended = true,
                Err(_) => return Err(ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = buffer.len().min(self.rest.len());
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

#[cfg(test)]
mod tests;
