//! `multipart/form-data`: fields into memory, files into the file store as they arrive.

use axum::body::Body;
use multer::{Constraints, Field, Multipart, SizeLimit};
use runner_core::file::{OCTET_STREAM, Upload};
use runner_core::parameters::{Form, FormValue};
use runner_store::{FileWriter, StoreError};

use crate::app::App;
use crate::error::ApiError;

/// The most parts that a form may have.
const MAX_PARTS: usize = 1_000;
/// How much of a file is gathered before it is written.
const CHUNK: usize = 256 * 1024;

/// Reads a form. When it fails, the files that had arrived are gone.
pub(super) async fn read(app: &App, content_type: &str, body: Body) -> Result<Form, ApiError> {
    let boundary = multer::parse_boundary(content_type).map_err(|_| {
        ApiError::bad_request("The multipart body has no boundary in its Content-Type.")
    })?;
    let config = &app.0.config;
    let whole = config.max_upload.saturating_add(config.max_body);
    let limits = Constraints::new().size_limit(SizeLimit::new().whole_stream(whole));
    let mut parts = Multipart::with_constraints(body.into_data_stream(), boundary, limits);
    let mut reader = Reader {
        app,
        form: Form::default(),
        text: 0,
        files: 0,
    };
    let outcome = reader.read(&mut parts).await;
    match outcome {
        Ok(()) => Ok(reader.form),
        Err(error) => {
            super::Sent::Form(reader.form).discard_uploads(app);
            Err(error)
        }
    }
}

struct Reader<'a> {
    app: &'a App,
    form: Form,
    /// Bytes of text so far.
    text: u64,
    /// Bytes of files so far.
    files: u64,
}

impl Reader<'_> {
    async fn read(&mut self, parts: &mut Multipart<'_>) -> Result<(), ApiError> {
        let mut count = 0;
        while let Some(part) = parts
            .next_field()
            .await
            .map_err(|error| self.broken(&error))?
        {
            count += 1;
            if count > MAX_PARTS {
                return Err(ApiError::bad_request(format!(
                    "The form has more than {MAX_PARTS} parts."
                )));
            }
            let Some(key) = part.name().map(str::to_owned) else {
                return Err(ApiError::bad_request("A part of the form has no name."));
            };
            match part.file_name().map(str::to_owned) {
                // What a browser sends for a file field that was left empty.
                Some(name) if name.is_empty() => self.drain(part).await?,
                Some(name) => {
                    let upload = self.file(part, name).await?;
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
        while let Some(chunk) = part.chunk().await.map_err(|error| self.broken(&error))? {
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
        while part
            .chunk()
            .await
            .map_err(|error| self.broken(&error))?
            .is_some()
        {}
        Ok(())
    }

    async fn file(&mut self, mut part: Field<'_>, name: String) -> Result<Upload, ApiError> {
        let content_type = part
            .content_type()
            .map_or(OCTET_STREAM.to_owned(), ToString::to_string);
        let limit = self.app.0.config.max_upload;
        let mut writer = self.app.0.store.files().create()?;
        let mut gathered = Vec::with_capacity(CHUNK);
        while let Some(chunk) = part.chunk().await.map_err(|error| self.broken(&error))? {
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
        let stored = blocking(move || writer.finish()).await?;
        Ok(Upload {
            key: stored.key,
            name,
            content_type,
            size: stored.size,
        })
    }

    fn broken(&self, error: &multer::Error) -> ApiError {
        match error {
            multer::Error::StreamSizeExceeded { limit } => ApiError::too_large("form", *limit),
            error => ApiError::bad_request(format!("The multipart body is broken: {error}.")),
        }
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
