//! `POST /service`: a single cell, in a kernel of its own.

use axum::Json;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::kernels::Answered;
use super::{Cell, kernels, terms};
use crate::error::ApiError;

/// Characters of the code.
pub(super) const MAX_CODE: usize = 65_000;

pub(crate) async fn run(cell: Cell, request: Request) -> Result<Response, ApiError> {
    let fields = Fields::read(request).await?;
    terms::check(&cell, &fields)?;
    let code = fields.get("code").ok_or_else(|| {
        ApiError::bad_request("The field `code` is missing: the code that is to be run.")
    })?;
    check_length(code)?;
    let expressions = expressions(fields.some("user_expressions"))?;
    let answered = kernels::one_cell(&cell.face, cell.client, code.to_owned(), expressions).await?;
    let ran = match answered {
        Answered::Ran(ran) => ran,
        Answered::There(answer) => return Ok(answer),
    };
    let mut answer = Map::new();
    answer.insert("success".to_owned(), ran.is_ok().into());
    for (name, text) in [("stdout", ran.stdout), ("stderr", ran.stderr)] {
        if !text.is_empty() {
            answer.insert(name.to_owned(), text.into());
        }
    }
    answer.insert("execute_reply".to_owned(), json!(ran.reply));
    Ok(Json(Value::Object(answer)).into_response())
}

/// Refuses code that is too long.
pub(super) fn check_length(code: &str) -> Result<(), ApiError> {
    // No character has less than one byte.
    if code.len() <= MAX_CODE || code.chars().nth(MAX_CODE).is_none() {
        return Ok(());
    }
    Err(ApiError::with(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("The code is longer than {MAX_CODE} characters."),
    ))
}

/// Expressions by names.
fn expressions(text: Option<&str>) -> Result<Map<String, Value>, ApiError> {
    let Some(text) = text else {
        return Ok(Map::new());
    };
    let read: Option<Map<String, Value>> = serde_json::from_str(text).ok();
    read.filter(|all| all.values().all(Value::is_string))
        .ok_or_else(|| {
            ApiError::bad_request(
                "user_expressions is no JSON object of expressions, such as {\"x\": \"2 * x\"}.",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_code_is_counted_in_characters() {
        assert!(check_length(&"ä".repeat(MAX_CODE)).is_ok());
        assert!(check_length(&"ä".repeat(MAX_CODE + 1)).is_err());
        assert!(check_length(&"#".repeat(MAX_CODE + 1)).is_err());
    }

    #[test]
    fn expressions_are_an_object_of_texts() {
        assert!(expressions(None).unwrap().is_empty());
        assert_eq!(expressions(Some("{\"a\": \"1\"}")).unwrap()["a"], "1");
        for wrong in ["[]", "{\"a\": 1}", "x"] {
            assert!(expressions(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
