//! The graph of a pipeline in languages of programs that draw.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use runner_pipeline::graph::Picture;
use runner_store::PipelineRow;
use serde::Deserialize;

use crate::error::ApiError;

use super::wrong;

/// How a pipeline is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// All that is known of it.
    Json,
    /// Its graph as a flow chart of Mermaid.
    Mermaid,
    /// Its graph for Graphviz.
    Dot,
}

impl Language {
    /// By the parameter `format`, or else by the header `Accept`.
    pub(super) fn wanted(format: Option<&str>, accept: &str) -> Result<Self, ApiError> {
        match format {
            Some("json") => Ok(Self::Json),
            Some("mermaid") => Ok(Self::Mermaid),
            Some("dot") => Ok(Self::Dot),
            Some(other) => Err(wrong(
                "format",
                &format!("{other:?} is none of json, mermaid and dot."),
            )),
            None => {
                // The first that is named and known.
                let kinds = accept.split(',').map(|kind| kind.split(';').next());
                let mut known = kinds.filter_map(|kind| Self::of(kind?.trim()));
                Ok(known.next().unwrap_or(Self::Json))
            }
        }
    }

    fn of(media_type: &str) -> Option<Self> {
        let all = [Self::Json, Self::Mermaid, Self::Dot];
        let mut all = all.into_iter();
        all.find(|language| media_type.eq_ignore_ascii_case(language.media_type()))
    }

    /// Its media type.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Mermaid => "text/vnd.mermaid",
            Self::Dot => "text/vnd.graphviz",
        }
    }

    /// The graph in this language.
    pub(super) fn draw(self, row: Option<&PipelineRow>) -> Result<Response, ApiError> {
        let Some(graph) = row.and_then(|row| row.graph.as_ref()) else {
            let text = "The pipeline has not begun, so that its graph is not known.";
            return Err(ApiError::with(StatusCode::CONFLICT, text));
        };
        let picture = Picture::deserialize(graph).map_err(|error| {
            tracing::error!("the graph of a pipeline cannot be read: {error}");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR)
        })?;
        let text = match self {
            Self::Dot => picture.dot(),
            Self::Json | Self::Mermaid => picture.mermaid(),
        };
        let kind = HeaderValue::from_static(self.media_type());
        Ok(([(CONTENT_TYPE, kind)], text).into_response())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_chosen_by_name_or_by_media_type() {
        let wanted = |format, accept| Language::wanted(format, accept).ok();
        assert_eq!(wanted(None, ""), Some(Language::Json));
        assert_eq!(wanted(None, "*/*"), Some(Language::Json));
        assert_eq!(
            wanted(None, "text/html, Text/vnd.Mermaid;q=0.5, */*"),
            Some(Language::Mermaid)
        );
        assert_eq!(wanted(Some("dot"), "application/json"), Some(Language::Dot));
        assert_eq!(wanted(Some("svg"), ""), None);
    }
}
