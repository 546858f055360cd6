//! The files of a form, one after the other, for who puts them elsewhere than into the file store.

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_DISPOSITION;
use multer::{Field, Multipart};

use super::disposition::Disposition;
use super::multipart::{broken, check_count, parts};
use super::paced::Head;
use crate::app::App;
use crate::error::ApiError;

/// Parts of a form that are files.
pub(crate) struct FileParts {
    parts: Multipart<'static>,
    /// Told of everything that the parser gives.
    head: Head,
    /// The file that is read.
    file: Option<Field<'static>>,
    /// How many parts there were.
    count: usize,
}

impl FileParts {
    /// Begins to read a form.
    pub(crate) fn new(app: &App, content_type: &str, body: Body) -> Result<Self, ApiError> {
        let boundary = multer::parse_boundary(content_type).map_err(|_| {
            ApiError::bad_request(
                "Expected a body of type multipart/form-data, with a boundary in its Content-Type.",
            )
        })?;
        let (parts, head) = parts(app, boundary, body);
        Ok(Self {
            parts,
            head,
            file: None,
            count: 0,
        })
    }

    /// The name of the next file, as the client gave it; what is no file is passed over.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, ApiError> {
        loop {
            // The parser gives the next part when nobody has the one before.
            while self.chunk().await?.is_some() {}
            self.file = None;
            let part = self.parts.next_field().await;
            let Some(part) = part.map_err(|error| broken(&error))? else {
                return Ok(None);
            };
            self.head.has_ended();
            self.count += 1;
            check_count(self.count)?;
            let disposition = part.headers().get(CONTENT_DISPOSITION);
            let disposition = disposition.map_or(&b""[..], |header| header.as_bytes());
            let disposition = Disposition::parse(disposition).map_err(ApiError::bad_request)?;
            self.file = Some(part);
            if let Some(name) = disposition.file_name.filter(|name| !name.is_empty()) {
                return Ok(Some(name));
            }
        }
    }

    /// The next piece of the file.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        let chunk = file.chunk().await.map_err(|error| broken(&error))?;
        self.head.has_ended();
        Ok(chunk)
    }
}
