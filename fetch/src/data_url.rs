//! `data:` URLs (RFC 2397): the content stands in the URL.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::percent_decode_str;

/// The media type of a `data:` URL that names none.
const DEFAULT_TYPE: &str = "text/plain;charset=US-ASCII";

/// Base64 as it is found: padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The content of a `data:` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataUrl {
    /// The media type with its parameters, as written.
    pub content_type: String,
    /// The content.
    pub bytes: Vec<u8>,
}

/// Whether the text is a `data:` URL.
pub(crate) fn is_data_url(url: &str) -> bool {
    url.get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

impl DataUrl {
    /// Decodes a `data:` URL, in base64 or percent form; the error says what is wrong. A
    /// fragment is not part of the content; white space within base64, missing padding and the
    /// alphabet for URLs are accepted.
    pub fn parse(url: &str) -> Result<Self, String> {
        if !is_data_url(url) {
            return Err("it does not begin with \"data:\"".to_owned());
        }
        let rest = url[5..].split('#').next().unwrap_or_default();
        let (media, data) = rest
            .split_once(',')
            .ok_or("there is no comma before the content")?;
        let media = media.trim();
        let (media, base64) = match media.rsplit_once(';') {
            Some((media, last)) if last.trim().eq_ignore_ascii_case("base64") => (media, true),
            None if media.eq_ignore_ascii_case("base64") => {
                return Err("\"base64\" must be written \";base64\"".to_owned());
            }
            _ => (media, false),
        };
        let mut bytes: Vec<u8> = percent_decode_str(data).collect();
        if base64 {
            bytes.retain(|b| !b.is_ascii_whitespace());
            for byte in &mut bytes {
                match byte {
                    b'-' => *byte = b'+',
                    b'_' => *byte = b'/',
                    _ => {}
                }
            }
            bytes = BASE64
                .decode(&bytes)
                .map_err(|e| format!("broken base64: {e}"))?;
        }
        Ok(Self {
            content_type: content_type(media.trim()),
            bytes,
        })
    }
}

/// The media type as written; the default where there is none, or none that fits a header.
fn content_type(media: &str) -> String {
    if media.is_empty() || !media.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        DEFAULT_TYPE.to_owned()
    } else if media.starts_with(';') {
        format!("text/plain{media}")
    } else {
        media.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose;
    use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
    use proptest::prelude::*;

    #[test]
    fn forms_and_types() {
        for (url, content_type, bytes) in [
            ("data:,a%20b", DEFAULT_TYPE, "a b"),
            (
                "DATA:text/csv;header=present,a,b%0A",
                "text/csv;header=present",
                "a,b\n",
            ),
            (
                "data:text/plain;charset=utf-8;base64,aGk=",
                "text/plain;charset=utf-8",
                "hi",
            ),
            ("data:;charset=utf-8,x", "text/plain;charset=utf-8", "x"),
            ("data:;base64,aGk", DEFAULT_TYPE, "hi"),
            ("data:text/plain; base64,a G\nk%3D", "text/plain", "hi"),
            ("data:x/y;base64,_-8#frag", "x/y", "\u{0}"),
            ("data:,a+b#c", DEFAULT_TYPE, "a+b"),
            ("data:a\u{e9},x", DEFAULT_TYPE, "x"),
            ("data:,", DEFAULT_TYPE, ""),
        ] {
            let data = DataUrl::parse(url).unwrap();
            assert_eq!(data.content_type, content_type, "{url}");
            let want = if url.contains("_-8") {
                &[0xff, 0xef][..]
            } else {
                bytes.as_bytes()
            };
            assert_eq!(data.bytes, want, "{url}");
        }
    }

    #[test]
    fn wrong_ones_say_why() {
        for (url, part) in [
            ("data:text/plain", "no comma"),
            ("data:;base64,a", "broken base64"),
            ("data:;base64,a*b=", "broken base64"),
            ("data:base64,aGk=", "\";base64\""),
            ("http://h", "does not begin"),
        ] {
            let error = DataUrl::parse(url).unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = DataUrl::parse(&text);
            let _ = DataUrl::parse(&format!("data:{text}"));
            let _ = DataUrl::parse(&format!("data:;base64,{text}"));
        }

        #[test]
        fn gives_back_what_was_put_in(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for url in [
                format!("data:a/b;base64,{}", general_purpose::STANDARD.encode(&bytes)),
                format!("data:a/b;base64,{}", general_purpose::URL_SAFE_NO_PAD.encode(&bytes)),
                format!("data:a/b,{}", percent_encode(&bytes, NON_ALPHANUMERIC)),
            ] {
                let data = DataUrl::parse(&url).unwrap();
                prop_assert_eq!(&data.bytes, &bytes);
                prop_assert_eq!(data.content_type, "a/b");
            }
        }
    }
}
