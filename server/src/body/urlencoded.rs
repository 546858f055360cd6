//! `application/x-www-form-urlencoded`, strictly UTF-8.

use percent_encoding::percent_decode;
use runner_core::parameters::{Form, FormValue};

use crate::error::ApiError;

/// The most fields that a form may have.
const MAX_FIELDS: usize = 10_000;

/// Reads a body or a query.
pub(crate) fn parse(text: &[u8]) -> Result<Form, ApiError> {
    let mut form = Form::default();
    for (number, pair) in text
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .enumerate()
    {
        if number >= MAX_FIELDS {
            return Err(ApiError::bad_request(format!(
                "The form has more than {MAX_FIELDS} fields."
            )));
        }
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let key = decode(halves.next().unwrap_or_default(), "A key of the form")?;
        let value = decode(
            halves.next().unwrap_or_default(),
            &format!("The field {key:?}"),
        )?;
        form.push(key, FormValue::Text(value));
    }
    Ok(form)
}

fn decode(text: &[u8], what: &str) -> Result<String, ApiError> {
    let spaced: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    let bytes: Vec<u8> = percent_decode(&spaced).collect();
    String::from_utf8(bytes).map_err(|_| ApiError::bad_request(format!("{what} is not UTF-8.")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plus_percent_and_utf8() {
        let form = parse(b"a=b+c%20d&a=2&%C3%BC=%E6%97%A5&empty&=x").unwrap();
        assert_eq!(form.text("a"), Some("b c d"));
        assert_eq!(form.text("ü"), Some("日"));
        assert_eq!(form.text("empty"), Some(""));
        assert!(parse(b"a=%FF").is_err());
        assert!(parse(b"%FF=a").is_err());
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(key in ".{1,20}", value in ".{0,50}") {
            let text = url::form_urlencoded::Serializer::new(String::new()).append_pair(&key, &value).finish();
            let form = parse(text.as_bytes()).unwrap();
            prop_assert_eq!(form.text(&key), Some(value.as_str()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
