//! Fields of a request: clients put them into the query, a form or multipart; what stands in the body counts before what
//! stands in the query.

use std::collections::HashMap;
use std::convert::Infallible;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use serde_json::Value;
use url::form_urlencoded;

use crate::body::read_all;
use crate::error::ApiError;

/// Bytes of a body: code of 65,000 characters, as it is escaped in a form, and as much beside.
const MAX_BODY: u64 = 2 << 20;
/// Fields of a body.
const MAX_FIELDS: usize = 100;

/// Fields by their names.
#[derive(Debug, Default)]
pub(super) struct Fields(HashMap<String, String>);

impl Fields {
    /// Reads a request.
    pub(super) async fn read(request: Request) -> Result<Self, ApiError> {
        let mut fields = Self::of_query(request.uri().query());
        let content_type = request.headers().get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let body = read_all(request.into_body(), MAX_BODY).await?;
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        match kind.to_ascii_lowercase().as_str() {
            "multipart/form-data" => fields.add_parts(&content_type, body).await?,
            "application/json" => fields.add_json(&body)?,
            // What is no form has no fields: `{}` is what clients send beside a query.
            _ if body.trim_ascii().starts_with(b"{") => {}
            _ => fields.add_pairs(&body),
        }
        Ok(fields)
    }

    /// The fields of a query.
    pub(super) fn of_query(query: Option<&str>) -> Self {
        let mut fields = Self::default();
        fields.add_pairs(query.unwrap_or_default().as_bytes());
        fields
    }

    /// A field, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A field that is not empty.
    pub(super) fn some(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|text| !text.is_empty())
    }

    fn add(&mut self, name: String, text: String) {
        if self.0.len() < MAX_FIELDS {
            self.0.insert(name, text);
        }
    }

    fn add_pairs(&mut self, text: &[u8]) {
        for (name, text) in form_urlencoded::parse(text).into_owned() {
            self.add(name, text);
        }
    }

    /// An object; what in it is no text is taken as JSON.
    fn add_json(&mut self, body: &[u8]) -> Result<(), ApiError> {
        if body.trim_ascii().is_empty() {
            return Ok(());
        }
        for (name, value) in crate::body::parse_object(body)? {
            match value {
                Value::Null => {}
                Value::String(text) => self.add(name, text),
                other => self.add(name, other.to_string()),
            }
        }
        Ok(())
    }

    async fn add_parts(&mut self, content_type: &str, body: Bytes) -> Result<(), ApiError> {
        let boundary = multer::parse_boundary(content_type).map_err(|_| {
            ApiError::bad_request("The multipart body has no boundary in its Content-Type.")
        })?;
        let broken = |error: multer::Error| {
            ApiError::bad_request(format!("The multipart body is broken: {error}."))
        };
        let body = futures::stream::iter([Ok::<_, Infallible>(body)]);
        let mut parts = multer::Multipart::new(body, boundary);
        while let Some(part) = parts.next_field().await.map_err(broken)? {
            let name = part.name().unwrap_or_default().to_owned();
            let bytes = part.bytes().await.map_err(broken)?;
            let text = String::from_utf8(bytes.into())
                .map_err(|_| ApiError::bad_request(format!("The field {name:?} is not UTF-8.")))?;
            self.add(name, text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    async fn read(uri: &str, content_type: &str, body: &str) -> Result<Fields, ApiError> {
        let mut request = Request::builder().uri(uri);
        if !content_type.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        Fields::read(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    #[tokio::test]
    async fn fields_are_found_wherever_they_stand() {
        let parts = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1 2\r\n--x--\r\n";
        for (uri, kind, body) in [
            ("/kernel?a=1+2", "", "{}"),
            ("/kernel?a=1+2", "application/x-www-form-urlencoded", "{}"),
            (
                "/kernel?a=0",
                "application/x-www-form-urlencoded",
                "a=1%202",
            ),
            ("/kernel?a=0", "multipart/form-data; boundary=x", parts),
            (
                "/kernel",
                "application/json",
                "{\"a\": \"1 2\", \"b\": null}",
            ),
        ] {
            let fields = read(uri, kind, body).await.unwrap();
            assert_eq!(fields.get("a"), Some("1 2"), "{kind} {body}");
            assert_eq!(fields.get("b"), None);
        }
    }

    #[tokio::test]
    async fn what_is_none_is_refused() {
        for (kind, body) in [
            ("multipart/form-data", "--x"),
            ("multipart/form-data; boundary=x", "--x\r\nnothing"),
            ("application/json", "[1]"),
            ("application/json", "{"),
        ] {
            assert!(read("/kernel", kind, body).await.is_err(), "{kind} {body}");
        }
        let long = format!("a={}", "x".repeat(3 << 20));
        assert!(read("/kernel", "", &long).await.is_err());
    }
}
