//! `/permalink`: cells by short addresses, and by long ones that hold the cell itself.

use std::io::{Read, Write};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use runner_store::Permalink;
use serde_json::{Value, json};

use super::Cell;
use super::fields::Fields;
use super::service::{MAX_CODE, check_length};
use crate::app::App;
use crate::error::ApiError;

/// Bytes of the state of interacts.
const MAX_INTERACTS: usize = 64 << 10;
/// Bytes of the name of a language.
const MAX_LANGUAGE: usize = 100;
/// Bytes of code, each character with as many as it may have.
const MAX_BYTES: usize = 4 * MAX_CODE;
/// Clients may leave out what fills up the end.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `POST /permalink`.
pub(crate) async fn make(
    State(app): State<App>,
    cell: Cell,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let fields = Fields::read(request).await?;
    let code = fields.get("code").ok_or_else(|| {
        ApiError::bad_request("The field `code` is missing: the code that is to be kept.")
    })?;
    check_length(code)?;
    let language = fields.some("language").unwrap_or("sage");
    let interacts = fields.some("interacts").unwrap_or("[]");
    for (name, text, most) in [
        ("language", language, MAX_LANGUAGE),
        ("state of interacts", interacts, MAX_INTERACTS),
    ] {
        if text.len() > most {
            return Err(ApiError::too_large(name, most as u64));
        }
    }
    if serde_json::from_str::<Value>(interacts).is_err() {
        return Err(ApiError::bad_request(
            "interacts is no JSON; expected a list, such as [].",
        ));
    }
    let n = fields.get("n").map_or(Ok(0), str::parse::<i64>);
    let n = n.map_err(|_| ApiError::bad_request("n is no whole number."))?;
    if !cell.face.may_make_permalink(&cell.client) {
        return Err(ApiError::with(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many permalinks at once; try again in a moment.",
        ));
    }
    let permalink = Permalink {
        code: code.to_owned(),
        language: language.to_owned(),
        interacts: interacts.to_owned(),
    };
    let query = app.0.store.make_permalink(permalink).await?;
    Ok(Json(json!({
        "zip": zip(code),
        "query": query,
        "interacts": zip(interacts),
        "n": n,
    })))
}

/// `GET /permalink?q=…`: code, language and interacts.
pub(crate) async fn show(
    State(app): State<App>,
    _: Cell,
    request: Request,
) -> Result<Json<[String; 3]>, ApiError> {
    let fields = Fields::of_query(request.uri().query());
    let query = fields
        .get("q")
        .ok_or_else(|| ApiError::bad_request("q is missing: what stands in the permalink."))?;
    let found = find(&app, query).await?;
    Ok(Json([found.code, found.language, found.interacts]))
}

/// The cell of a short address.
pub(super) async fn find(app: &App, query: &str) -> Result<Permalink, ApiError> {
    let found = app.0.store.permalink(query).await?;
    found.ok_or_else(|| ApiError::with(StatusCode::NOT_FOUND, "There is no such permalink."))
}

/// A text as it stands in a long address.
fn zip(text: &str) -> String {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    // Memory takes everything.
    let written = encoder.write_all(text.as_bytes());
    let packed = written.and_then(|()| encoder.finish()).unwrap_or_default();
    general_purpose::URL_SAFE.encode(packed)
}

/// The code of a long address, if it has any and not too much.
pub(super) fn unzip(text: &str) -> Result<String, ApiError> {
    let broken = |problem: &str| {
        ApiError::bad_request(format!(
            "z is no packed code ({problem}); expected urlsafe base64 of zlib."
        ))
    };
    let packed = LENIENT
        .decode(text)
        .map_err(|error| broken(&error.to_string()))?;
    if packed.is_empty() {
        return Err(broken("it is empty"));
    }
    let mut code = Vec::new();
    let read = ZlibDecoder::new(&packed[..])
        .take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut code);
    read.map_err(|error| broken(&error.to_string()))?;
    if code.len() > MAX_BYTES {
        return Err(ApiError::too_large("packed code", MAX_BYTES as u64));
    }
    let code = String::from_utf8(code).map_err(|_| broken("it is not UTF-8"))?;
    check_length(&code)?;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use proptest::prelude::*;

    #[test]
    fn what_was_packed_is_unpacked_with_and_without_its_end() {
        for code in ["", "1", "print('ä')", "# 🐍\n"] {
            let packed = zip(code);
            assert_eq!(unzip(&packed).unwrap(), code);
            assert_eq!(unzip(packed.trim_end_matches('=')).unwrap(), code);
        }
    }

    #[test]
    fn bombs_and_garbage_are_refused() {
        let status = |text: &str| unzip(text).unwrap_err().into_response().status();
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![0; 50_000_000]).unwrap();
        let bomb = general_purpose::URL_SAFE.encode(encoder.finish().unwrap());
        assert_eq!(status(&bomb), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(
            status(&zip(&"x".repeat(MAX_CODE + 1))),
            StatusCode::PAYLOAD_TOO_LARGE
        );
        for garbage in ["nonsense", "====", "", "ä", "%%"] {
            assert_eq!(status(garbage), StatusCode::BAD_REQUEST, "{garbage}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = unzip(&text);
        }
    }
}
