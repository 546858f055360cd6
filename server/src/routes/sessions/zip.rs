//! `GET /api/kernels/<id>/files.zip`: the files of a session, or of a folder of it, as an archive that is made while it
//! is sent.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream;
use runner_host::GuestFile;
use runner_session::{MAX_LISTED, SessionFiles};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, ZipWriter};

use super::files::Below;
use super::{Segment, Who, on_disk, sessions};
use crate::app::App;
use crate::error::ApiError;

/// Archives that are made at a time: each takes a thread for as long as its client reads.
const MAX_ARCHIVES: usize = 16;
/// Bytes of a piece of an archive.
const PIECE: usize = 64 << 10;
/// Pieces that wait until the client reads them.
const QUEUED: usize = 4;
/// Bytes from which on a file needs a longer header.
const LARGE: u64 = 0xFFFF_0000;

static ROOM: Semaphore = Semaphore::const_new(MAX_ARCHIVES);

pub(crate) async fn download(
    State(app): State<App>,
    who: Who,
    Segment(id): Segment,
    Query(below): Query<Below>,
) -> Result<Response, ApiError> {
    let files = who.session(sessions(&app)?, &id)?.files()?;
    let permit = ROOM.try_acquire().map_err(|_| {
        ApiError::busy(&format!(
            "{MAX_ARCHIVES} archives are being made, which is as many as may be at a time; try again in a moment"
        ))
    })?;
    let (listed, files, folder) = on_disk(move || {
        let listed = files.list(below.folder.as_deref())?;
        Ok((listed, files, below.folder))
    })
    .await?;
    if listed.len() > MAX_LISTED {
        return Err(ApiError::with(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "More than {MAX_LISTED} files go into no archive; ask for one ?folder= of them."
            ),
        ));
    }
    let folder = folder.unwrap_or_default();
    let folder = folder.trim_end_matches('/').to_owned();
    let (pieces, made) = mpsc::channel(QUEUED);
    tokio::task::spawn_blocking(move || pack(&files, &folder, &listed, pieces, permit));
    let content = stream::unfold(made, |mut made| async move {
        let piece: std::io::Result<Bytes> = made.recv().await?;
        Some((piece, made))
    });
    let mut response = Body::from_stream(content).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    headers.insert(
        CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"files.zip\""),
    );
    Ok(response)
}

/// Makes the archive, until all is in it or nobody reads it.
fn pack(
    files: &SessionFiles,
    folder: &str,
    listed: &[GuestFile],
    pieces: mpsc::Sender<std::io::Result<Bytes>>,
    _room: SemaphorePermit<'static>,
) {
    let is_over = Arc::new(AtomicBool::new(false));
    let mut archive = ZipWriter::new_stream(Pieces {
        to: pieces.clone(),
        held: Vec::with_capacity(PIECE),
        is_over: Arc::clone(&is_over),
    });
    let packed = listed
        .iter()
        .try_for_each(|one| add(&mut archive, files, folder, one));
    let done = match packed {
        Ok(()) => end(archive),
        Err(error) => {
            is_over.store(true, Ordering::Relaxed);
            Err(error)
        }
    };
    if let Err(error) = done {
        // A body that is broken off is no archive for the client. Nobody may be there any more.
        let _ = pieces.blocking_send(Err(error));
    }
}

fn end(archive: ZipWriter<StreamWriter<Pieces>>) -> std::io::Result<()> {
    archive.finish()?.into_inner().flush()
}

fn add(
    archive: &mut ZipWriter<StreamWriter<Pieces>>,
    files: &SessionFiles,
    folder: &str,
    one: &GuestFile,
) -> std::io::Result<()> {
    let path = match folder.is_empty() {
        true => one.path.clone(),
        false => format!("{folder}/{}", one.path),
    };
    // What is gone by now, or is another thing, is not in it.
    let Ok(mut file) = files.open(&path) else {
        return Ok(());
    };
    let size = file.metadata()?.len();
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(1))
        .last_modified_time(modified(one).unwrap_or_default())
        .unix_permissions(0o644)
        .large_file(size >= LARGE);
    archive.start_file(one.path.as_str(), options)?;
    // What is written to it meanwhile is left out.
    std::io::copy(&mut Read::by_ref(&mut file).take(size), archive)?;
    Ok(())
}

/// When a file was written last, as archives have it.
fn modified(file: &GuestFile) -> Option<zip::DateTime> {
    let at = jiff::Timestamp::try_from(file.modified).ok()?;
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    let small = |number: i8| u8::try_from(number).ok();
    zip::DateTime::from_date_and_time(
        u16::try_from(at.year()).ok()?,
        small(at.month())?,
        small(at.day())?,
        small(at.hour())?,
        small(at.minute())?,
        small(at.second())?,
    )
    .ok()
}

/// Sends what is written in pieces; waits while the client does not read.
struct Pieces {
    to: mpsc::Sender<std::io::Result<Bytes>>,
    held: Vec<u8>,
    /// Whether it was broken off; the writer of archives ends them even then.
    is_over: Arc<AtomicBool>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.is_over.load(Ordering::Relaxed) {
            self.held.clear();
        }
        if self.held.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.held, Vec::with_capacity(PIECE));
        let sent = self.to.blocking_send(Ok(piece.into()));
        sent.map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}
