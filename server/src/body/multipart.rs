//! `multipart/form-data`: fields into memory, files into the file store as they arrive.

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_DISPOSITION;
use multer::{Constraints, Field, Multipart, SizeLimit};
use runner_core::file::{OCTET_STREAM, Upload, upload_name};
use runner_core::parameters::{Form, FormValue};
use runner_store::{FileWriter, StoreError};

use super::disposition::Disposition;
use super::paced::{Head, HeadTooLong, MAX_HEAD, Paced};
use super::uploads::{Guard, Uploads};
use crate::app::App;
use crate::error::ApiError;
use crate::incoming::slow::Slow;

/// The most parts that a form may have.
const MAX_PARTS: usize = 1_000;
/// How much of a file is gathered before it is written.
const CHUNK: usize = 256 * 1024;

/// Reads a form, and the files that came with it.
pub(super) async fn read(
    app: &App,
    content_type: &str,
    body: Body,
) -> Result<(Form, Uploads), ApiError> {
    let boundary = multer::parse_boundary(content_type).map_err(|_| {
        ApiError::bad_request("The multipart body has no boundary in its Content-Type.")
    })?;
    let (mut parts, head) = parts(app, boundary, body);
    let mut reader = Reader {
        app,
        head,
        form: Form::default(),
        uploads: Uploads::default(),
        text: 0,
        files: 0,
    };
    reader.read(&mut parts).await?;
    Ok((reader.form, reader.uploads))
}

/// The parts of a body within its limits, and who is to be told of everything that the parser gives.
pub(super) fn parts(app: &App, boundary: String, body: Body) -> (Multipart<'static>, Head) {
    let config = &app.0.config;
    let whole = config.max_upload.saturating_add(config.max_body);
    let limits = Constraints::new().size_limit(SizeLimit::new().whole_stream(whole));
    let head = Head::default();
    let body = Paced::new(body.into_data_stream(), head.clone());
    (Multipart::with_constraints(body, boundary, limits), head)
}

/// Refuses a form with more parts than one may have.
pub(super) fn check_count(count: usize) -> Result<(), ApiError> {
    match count > MAX_PARTS {
        true => Err(ApiError::bad_request(format!(
            "The form has more than {MAX_PARTS} parts."
        ))),
        false => Ok(()),
    }
}

struct Reader<'a> {
    app: &'a App,
    /// Told of everything that the parser gives.
    head: Head,
    form: Form,
    uploads: Uploads,
    /// Bytes of text so far.
    text: u64,
    /// Bytes of files so far.
    files: u64,
}

impl Reader<'_> {
    async fn read(&mut self, parts: &mut Multipart<'_>) -> Result<(), ApiError> {
        let mut count = 0;
        while let Some(part) = parts.next_field().await.map_err(|error| broken(&error))? {
            self.head.has_ended();
            count += 1;
            check_count(count)?;
            let disposition = part.headers().get(CONTENT_DISPOSITION);
            let disposition = disposition.map_or(&b""[..], |header| header.as_bytes());
            let Disposition {
                name: key,
                file_name,
            } = Disposition::parse(disposition).map_err(ApiError::bad_request)?;
            match file_name {
                // What a browser sends for a file field that was left empty.
                Some(name) if name.is_empty() => self.drain(part).await?,
                Some(name) => {
                    let upload = self.file(part, &name).await?;
                    self.form.push(key, FormValue::Upload(upload));
                }
                None => {
                    let text = self.text(part, &key).await?;
                    self.form.push(key, FormValue::Text(text));
                }
            }
        }
        Ok(())
    }

    async fn text(&mut self, mut part: Field<'_>, key: &str) -> Result<String, ApiError> {
        let limit = self.app.0.config.max_body;
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk(&mut part).await? {
            self.text += chunk.len() as u64;
            if self.text > limit {
                return Err(ApiError::too_large("text of the form", limit));
            }
            bytes.extend_from_slice(&chunk);
        }
        String::from_utf8(bytes)
            .map_err(|_| ApiError::bad_request(format!("The field {key:?} is not UTF-8.")))
    }

    async fn drain(&mut self, mut part: Field<'_>) -> Result<(), ApiError> {
        while self.chunk(&mut part).await?.is_some() {}
        Ok(())
    }

    async fn chunk(&self, part: &mut Field<'_>) -> Result<Option<Bytes>, ApiError> {
        let chunk = part.chunk().await.map_err(|error| broken(&error))?;
        self.head.has_ended();
        Ok(chunk)
    }

    async fn file(&mut self, mut part: Field<'_>, name: &str) -> Result<Upload, ApiError> {
        let content_type = part
            .content_type()
            .map_or(OCTET_STREAM.to_owned(), ToString::to_string);
        let limit = self.app.0.config.max_upload;
        let mut writer = self.app.0.store.files().create()?;
        let mut gathered = Vec::with_capacity(CHUNK);
        while let Some(chunk) = self.chunk(&mut part).await? {
            self.files += chunk.len() as u64;
            if self.files > limit {
                return Err(ApiError::too_large("upload", limit));
            }
            gathered.extend_from_slice(&chunk);
            if gathered.len() >= CHUNK {
                writer = append(writer, std::mem::take(&mut gathered)).await?;
            }
        }
        let writer = append(writer, gathered).await?;
        let files = self.app.0.store.files().clone();
        // Also what is finished after nobody waits for it any more has its guard.
        let (guard, stored) = blocking(move || {
            let stored = writer.finish()?;
            Ok((Guard::new(files, stored.key.clone()), stored))
        })
        .await?;
        self.uploads.push(guard);
        Ok(Upload {
            key: stored.key,
            name: upload_name(name),
            content_type,
            size: stored.size,
        })
    }
}

/// What is wrong with a form that cannot be read.
pub(super) fn broken(error: &multer::Error) -> ApiError {
    if let multer::Error::StreamReadFailed(error) = error
        && let Some(slow) = Slow::of(&**error)
    {
        return ApiError::slow(slow);
    }
    match error {
        multer::Error::StreamSizeExceeded { limit } => ApiError::too_large("form", *limit),
        multer::Error::StreamReadFailed(error) if error.is::<HeadTooLong>() => {
            ApiError::bad_request(format!(
                "The multipart body has more than {MAX_HEAD} bytes before the content of a part."
            ))
        }
        error => ApiError::bad_request(format!("The multipart body is broken: {error}.")),
    }
}

async fn append(mut writer: FileWriter, bytes: Vec<u8>) -> Result<FileWriter, StoreError> {
    blocking(move || {
        writer.append(&bytes)?;
        Ok(writer)
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
