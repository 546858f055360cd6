//! What a downloaded file is called: from `Content-Disposition`, else from the URL.

use percent_encoding::percent_decode_str;
use url::Url;

/// Bytes that a name has at most; file systems allow 255, the rest is room for prefixes.
const MAX_LEN: usize = 200;

/// The name of a file: from the header, else the last segment of the path, else `data` with the
/// extension of its type.
pub(crate) fn file_name(
    disposition: Option<&[u8]>,
    url: Option<&Url>,
    content_type: &str,
) -> String {
    disposition
        .and_then(from_disposition)
        .or_else(|| url.and_then(from_url))
        .unwrap_or_else(|| format!("data{}", extension(content_type)))
}

/// The extension of a media type with its dot, for what has no name; or nothing.
fn extension(content_type: &str) -> &'static str {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    match essence.to_ascii_lowercase().as_str() {
        "text/csv" => ".csv",
        "text/plain" => ".txt",
        "text/html" => ".html",
        "application/json" => ".json",
        "application/x-lines+json" => ".jsonl",
        "application/zip" => ".zip",
        "application/pdf" => ".pdf",
        "image/png" => ".png",
        "image/svg+xml" => ".svg",
        _ => "",
    }
}

/// The last segment of the path.
fn from_url(url: &Url) -> Option<String> {
    let segment = url.path_segments()?.rfind(|segment| !segment.is_empty())?;
    plain(&percent_decode_str(segment).decode_utf8_lossy())
}

/// The name in a `Content-Disposition` header (RFC 6266): `filename*`, else `filename`.
fn from_disposition(header: &[u8]) -> Option<String> {
    // Not ASCII is against the standard and still common: UTF-8, else Latin-1.
    let header = match std::str::from_utf8(header) {
        Ok(text) => text.to_owned(),
        Err(_) => header.iter().copied().map(char::from).collect(),
    };
    let parameters = parameters(&header);
    let find = |name: &str| {
        parameters
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    find("filename*")
        .and_then(|value| decode_extended(value))
        .and_then(|name| plain(&name))
        .or_else(|| find("filename").and_then(|name| plain(name)))
}

/// The `key=value` pairs after the disposition type, with quotes and escapes resolved.
fn parameters(header: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut chars = header.chars().peekable();
    // The type itself, which some servers leave out.
    let mut key = String::new();
    while let Some(c) = chars.next() {
        match c {
            ';' => key.clear(),
            '=' => {
                while chars.next_if(|c| c.is_whitespace()).is_some() {}
                let mut value = String::new();
                if chars.next_if_eq(&'"').is_some() {
                    while let Some(c) = chars.next() {
                        match c {
                            '"' => break,
                            '\\' => value.extend(chars.next()),
                            c => value.push(c),
                        }
                    }
                } else {
                    while let Some(c) = chars.next_if(|c| *c != ';') {
                        value.push(c);
                    }
                }
                found.push((key.trim().to_owned(), value.trim().to_owned()));
                key.clear();
            }
            c => key.push(c),
        }
    }
    found
}

/// The value of `filename*`: `charset'language'percent-encoded` (RFC 8187).
fn decode_extended(value: &str) -> Option<String> {
    let mut parts = value.splitn(3, '\'');
    let (charset, _language, text) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes: Vec<u8> = percent_decode_str(text).collect();
    if charset.eq_ignore_ascii_case("utf-8") {
        String::from_utf8(bytes).ok()
    } else if charset.eq_ignore_ascii_case("iso-8859-1") {
        Some(bytes.into_iter().map(char::from).collect())
    } else {
        None
    }
}

/// A plain file name: the part after the last slash or backslash without control and formatting
/// characters, never `.`, `..` or empty, and not too long.
fn plain(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next()?;
    let clean: String = last
        .chars()
        .filter(|c| !c.is_control() && !is_invisible(*c))
        .collect();
    let clean = clean.trim();
    if clean.is_empty() || clean == "." || clean == ".." {
        return None;
    }
    Some(shorten(clean))
}

/// Characters that change the direction of text or do not show: they make a name look like
/// another.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Cuts a long name before its extension.
fn shorten(name: &str) -> String {
    if name.len() <= MAX_LEN {
        return name.to_owned();
    }
    let (stem, extension) = match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= 20 => name.split_at(at),
        _ => (name, ""),
    };
    let end = stem.floor_char_boundary(MAX_LEN - extension.len());
    format!("{}{extension}", stem[..end].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(header: &str) -> Option<String> {
        from_disposition(header.as_bytes())
    }

    #[test]
    fn headers_of_known_servers() {
        for (header, name) in [
            ("inline; filename=out.txt", Some("out.txt")),
            ("attachment; filename=\"a b.csv\"", Some("a b.csv")),
            (
                "attachment; filename=\"a;b=c.csv\"; size=3",
                Some("a;b=c.csv"),
            ),
            (
                "attachment;filename=x.txt;filename*=UTF-8''na%C3%AFve.txt",
                Some("naïve.txt"),
            ),
            ("attachment; filename*=iso-8859-1'en'%A3.txt", Some("£.txt")),
            ("attachment; filename*=utf-7''x; filename=\"y\"", Some("y")),
            ("attachment; FILENAME=\"q\\\"q.txt\"", Some("q\"q.txt")),
            ("attachment; filename=\"../../etc/passwd\"", Some("passwd")),
            (
                "attachment; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd",
                Some("passwd"),
            ),
            ("attachment; filename=\"..\"", None),
            ("attachment; filename=\"\"", None),
            ("filename=\"x\"", Some("x")),
            ("attachment; filename=\"open", Some("open")),
            ("attachment", None),
            ("", None),
        ] {
            assert_eq!(named(header).as_deref(), name, "{header}");
        }
        assert_eq!(
            from_disposition(b"inline; filename=\xe9.txt").as_deref(),
            Some("é.txt")
        );
    }

    #[test]
    fn names_of_urls() {
        for (url, content_type, name) in [
            ("http://h/a/b.csv?x=/y", "text/csv", "b.csv"),
            ("http://h/a/b/", "text/csv", "b"),
            ("http://h/a%2F..%2Fc%20d", "text/csv", "c d"),
            ("http://h/", "text/csv; header=present", "data.csv"),
            ("http://h/..%2f", "x/unknown", "data"),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(file_name(None, Some(&url), content_type), name);
        }
        assert_eq!(file_name(None, None, "application/json"), "data.json");
    }

    #[test]
    fn long_names_keep_their_extension() {
        let name = plain(&format!("{}.csv", "ä".repeat(300))).unwrap();
        assert!(name.len() <= MAX_LEN && name.ends_with("ä.csv"));
        assert!(plain(&"x".repeat(300)).unwrap().len() <= MAX_LEN);
    }

    fn is_plain(name: &str) -> bool {
        !name.is_empty()
            && name != "."
            && name != ".."
            && name.len() <= MAX_LEN
            && !name.contains(['/', '\\', '\0'])
            && !name.chars().any(char::is_control)
    }

    proptest! {
        #[test]
        fn any_header_gives_a_plain_name(header in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(is_plain(&file_name(Some(&header), None, "text/plain")));
        }

        #[test]
        fn any_quoted_name_gives_a_plain_name(name in any::<String>(), encoded in "[./%0-9a-fA-F\\\\]{0,40}") {
            for header in [format!("x; filename=\"{name}\""), format!("x; filename*=UTF-8''{encoded}")] {
                prop_assert!(is_plain(&file_name(Some(header.as_bytes()), None, "")));
            }
        }

        #[test]
        fn any_url_gives_a_plain_name(path in "[./%0-9a-f\\\\?#\\PC]{0,40}") {
            if let Ok(url) = Url::parse(&format!("http://h/{path}")) {
                prop_assert!(is_plain(&file_name(None, Some(&url), "")));
            }
        }
    }
}
