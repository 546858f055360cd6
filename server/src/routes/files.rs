//! `GET /files/<id>/?file-id=<tag>`: an output, for whoever knows its tag.

use std::io::ErrorKind;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    LAST_MODIFIED, LOCATION, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use runner_core::file::{File, OCTET_STREAM};
use runner_core::parameters::{FieldErrors, MISSING};
use runner_store::StoreError;

use super::Id;
use crate::app::App;
use crate::body::parse_query;
use crate::error::{ApiError, Location};

/// What the file means.
const X_DATA_TYPE: HeaderName = HeaderName::from_static("x-data-type");

pub(crate) async fn download(
    State(app): State<App>,
    Id(id): Id,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = parse_query(query.unwrap_or_default().as_bytes())?;
    let Some(tag) = query.text("file-id") else {
        let errors = FieldErrors::from([("file-id".to_owned(), vec![MISSING.to_owned()])]);
        return Err(ApiError::fields(Location::Query, errors));
    };
    let id = id.ok_or_else(ApiError::file_not_found)?;
    let file = app.0.store.file(id).await?.filter(|file| file.tag == tag);
    let file = file.ok_or_else(ApiError::file_not_found)?;
    if let Some(url) = &file.url {
        return Ok(elsewhere(url, &file));
    }
    let described = Described::new(&file);
    if described.is_known_to(&headers) {
        return Ok((StatusCode::NOT_MODIFIED, described.unchanged()).into_response());
    }
    let range = match described.wanted_range(&headers, file.size) {
        Wanted::All => None,
        Wanted::Part(range) => Some(range),
        Wanted::Nothing => return Err(ApiError::range_not_satisfiable(file.size)),
    };
    let part = range.clone().unwrap_or(0..file.size);
    let length = part.end - part.start;
    let content = app.0.store.content(&file, part).await;
    let content = content.map_err(|error| match error {
        StoreError::File { ref source, .. } if source.kind() == ErrorKind::NotFound => {
            tracing::error!(file = id, "the content is missing: {error}");
            ApiError::file_not_found()
        }
        error => {
            tracing::error!(file = id, "the content cannot be read: {error}");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR)
        }
    })?;
    let mut headers = described.headers(&file);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    let status = match range {
        None => StatusCode::OK,
        Some(range) => {
            let shown = format!("bytes {}-{}/{}", range.start, range.end - 1, file.size);
            headers.insert(CONTENT_RANGE, value(&shown));
            StatusCode::PARTIAL_CONTENT
        }
    };
    Ok((status, headers, Body::from_stream(content)).into_response())
}

/// The content stands elsewhere. The client is sent there: it may reach what the server must not open for others.
fn elsewhere(url: &str, file: &File) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(LOCATION, value(url));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(data_type) = HeaderValue::from_str(&file.data_type) {
        headers.insert(X_DATA_TYPE, data_type);
    }
    (StatusCode::TEMPORARY_REDIRECT, headers).into_response()
}

/// What tells one state of a file from another. A file never changes.
struct Described {
    etag: String,
    modified: SystemTime,
    disposition: String,
}

enum Wanted {
    All,
    Part(Range<u64>),
    Nothing,
}

impl Described {
    fn new(file: &File) -> Self {
        let seconds = u64::try_from(file.created_at).unwrap_or_default();
        Self {
            etag: format!("\"{}\"", &file.digest[..file.digest.len().min(32)]),
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            // Stored names are letters, digits, dots, dashes and underscores.
            disposition: format!("inline; filename={}", file.name),
        }
    }

    fn unchanged(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_DISPOSITION, value(&self.disposition));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(ETAG, value(&self.etag));
        headers
    }

    fn headers(&self, file: &File) -> HeaderMap {
        let mut headers = self.unchanged();
        let content_type = HeaderValue::from_str(&file.content_type);
        headers.insert(
            CONTENT_TYPE,
            content_type.unwrap_or(HeaderValue::from_static(OCTET_STREAM)),
        );
        if let Ok(data_type) = HeaderValue::from_str(&file.data_type) {
            headers.insert(X_DATA_TYPE, data_type);
        }
        headers.insert(
            LAST_MODIFIED,
            value(&httpdate::fmt_http_date(self.modified)),
        );
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // What a plugin made may be a page: its scripts run, but not as pages of the runner.
        let policy = HeaderValue::from_static("sandbox allow-scripts allow-forms allow-popups");
        headers.insert(CONTENT_SECURITY_POLICY, policy);
        headers
    }

    fn is_known_to(&self, headers: &HeaderMap) -> bool {
        if let Some(known) = text(headers, IF_NONE_MATCH) {
            return known.split(',').any(|tag| {
                let tag = tag.trim();
                tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.etag
            });
        }
        let since = text(headers, IF_MODIFIED_SINCE)
            .and_then(|since| httpdate::parse_http_date(since).ok());
        since.is_some_and(|since| self.modified <= since)
    }

    /// One range, as RFC 9110 has it. Several, or another unit, mean the whole file.
    fn wanted_range(&self, headers: &HeaderMap, size: u64) -> Wanted {
        let Some(range) = text(headers, RANGE) else {
            return Wanted::All;
        };
        if let Some(condition) = text(headers, IF_RANGE)
            && condition != self.etag
            && httpdate::parse_http_date(condition).ok() != Some(self.modified)
        {
            return Wanted::All;
        }
        parse_range(range, size)
    }
}

fn parse_range(range: &str, size: u64) -> Wanted {
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Wanted::All;
    };
    let (first, last) = (first.trim(), last.trim());
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Some(text.parse::<u64>().unwrap_or(u64::MAX)),
        false => None,
    };
    match (
        first.is_empty(),
        last.is_empty(),
        number(first),
        number(last),
    ) {
        (true, false, _, Some(count)) if count > 0 && size > 0 => {
            Wanted::Part(size.saturating_sub(count)..size)
        }
        (true, false, _, Some(_)) => Wanted::Nothing,
        (false, true, Some(first), _) if first < size => Wanted::Part(first..size),
        (false, true, Some(_), _) => Wanted::Nothing,
        (false, false, Some(first), Some(last)) if first > last => Wanted::All,
        (false, false, Some(first), Some(last)) if first < size => {
            Wanted::Part(first..last.saturating_add(1).min(size))
        }
        (false, false, Some(_), Some(_)) => Wanted::Nothing,
        _ => Wanted::All,
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(range: &str) -> Option<Option<Range<u64>>> {
        match parse_range(range, 9) {
            Wanted::All => Some(None),
            Wanted::Part(range) => Some(Some(range)),
            Wanted::Nothing => None,
        }
    }

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        for (range, expected) in [
            ("bytes=0-3", Some(Some(0..4))),
            ("bytes=4-", Some(Some(4..9))),
            ("bytes=-2", Some(Some(7..9))),
            ("bytes=-100", Some(Some(0..9))),
            ("bytes=0-99999999999999999999999", Some(Some(0..9))),
            ("bytes=100-200", None),
            ("bytes=9-", None),
            ("bytes=-0", None),
            ("bytes=3-1", Some(None)),
            ("bytes=0-1,3-4", Some(None)),
            ("lines=0-1", Some(None)),
            ("bytes=-", Some(None)),
            ("nonsense", Some(None)),
        ] {
            assert_eq!(part(range), expected, "{range}");
        }
    }

    proptest! {
        #[test]
        fn a_part_lies_in_the_file(range in "(bytes=)?[0-9,-]{0,20}", size in 0_u64..20) {
            if let Wanted::Part(range) = parse_range(&range, size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
