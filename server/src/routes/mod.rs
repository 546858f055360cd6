//! One file per resource and verb.

pub(crate) mod debug;
pub(crate) mod docs;
pub(crate) mod files;
pub(crate) mod modules;
pub(crate) mod plugins;
pub(crate) mod root;
pub(crate) mod statics;
pub(crate) mod tasks;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::error::ApiError;

/// A number in a path. What is no number is no route; what is too large names nothing.
pub(crate) struct Id(pub(crate) Option<i64>);

impl Id {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ApiError::not_found());
        }
        Ok(Self(text.parse().ok()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Segment(text) = Segment::from_request_parts(parts, state).await?;
        Self::parse(&text)
    }
}

/// The only variable segment of a path, decoded.
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(_) => Err(ApiError::not_found()),
        }
    }
}
