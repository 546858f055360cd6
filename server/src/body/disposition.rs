//! The header `Content-Disposition` of a part of a form: the names of the field and of the file.

use percent_encoding::percent_decode;

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Disposition {
    /// The key of the field.
    pub(super) name: String,
    /// The name of the file, if it is one.
    pub(super) file_name: Option<String>,
}

impl Disposition {
    /// Reads the header. Quoted values are taken as they are but for `\"`, as browsers send paths. The
    /// error says what is wrong with which part.
    pub(super) fn parse(header: &[u8]) -> Result<Self, String> {
        let parameters =
            parameters(header).ok_or("The headers of a part of the form are broken.")?;
        let find = |key: &str| parameters.iter().find(|(name, _)| name == key);
        let (_, name) = find("name").ok_or("A part of the form has no name.")?;
        let name = String::from_utf8(name.clone())
            .map_err(|_| "The name of a part of the form is not UTF-8.")?;
        let file_name = match (find("filename*"), find("filename")) {
            (Some((_, value)), _) => Some(extended(value).ok_or_else(|| {
                format!("The file name of the part {name:?} is not encoded as RFC 5987 has it.")
            })?),
            (None, Some((_, value))) => Some(
                String::from_utf8(value.clone())
                    .map_err(|_| format!("The file name of the part {name:?} is not UTF-8."))?,
            ),
            (None, None) => None,
        };
        Ok(Self { name, file_name })
    }
}

/// Keys in lower case, and values without quotes.
fn parameters(header: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut parameters = Vec::new();
    let mut rest = after(header, b';');
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| matches!(byte, b'=' | b';'));
        let end = end.unwrap_or(rest.len());
        let key = rest[..end].trim_ascii().to_ascii_lowercase();
        if rest.get(end) != Some(&b'=') {
            rest = after(rest, b';');
            continue;
        }
        let value = rest[end + 1..].trim_ascii_start();
        let (value, unread) = match value.strip_prefix(b"\"") {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = value.iter().position(|byte| *byte == b';');
                let (value, unread) = value.split_at(end.unwrap_or(value.len()));
                (value.trim_ascii_end().to_vec(), unread)
            }
        };
        parameters.push((String::from_utf8_lossy(&key).into_owned(), value));
        rest = after(unread, b';');
    }
    Some(parameters)
}

/// What follows the first such byte.
fn after(text: &[u8], byte: u8) -> &[u8] {
    let at = text.iter().position(|other| *other == byte);
    at.map_or(&[], |at| &text[at + 1..])
}

/// A value up to its closing quote, and what follows that.
fn unquoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    let mut rest = text;
    loop {
        match rest {
            [b'\\', b'"', more @ ..] => {
                value.push(b'"');
                rest = more;
            }
            [b'"', more @ ..] => return Some((value, more)),
            [byte, more @ ..] => {
                value.push(*byte);
                rest = more;
            }
            [] => return None,
        }
    }
}

/// `UTF-8'en'na%C3%AFve.txt`.
fn extended(value: &[u8]) -> Option<String> {
    let mut parts = value.splitn(3, |byte| *byte == b'\'');
    let (charset, _language, text) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes: Vec<u8> = percent_decode(text).collect();
    if charset.eq_ignore_ascii_case(b"UTF-8") {
        return String::from_utf8(bytes).ok();
    }
    let is_latin = charset.eq_ignore_ascii_case(b"ISO-8859-1");
    is_latin.then(|| bytes.into_iter().map(char::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(header: &[u8]) -> Result<(String, Option<String>), String> {
        Disposition::parse(header).map(|found| (found.name, found.file_name))
    }

    #[test]
    fn names_are_read_as_clients_write_them() {
        for (header, name, file_name) in [
            ("form-data; name=\"a\"", "a", None),
            ("form-data; name=a; filename=b.txt", "a", Some("b.txt")),
            (
                "form-data; filename=\"b c.txt\" ; name=\"a\"",
                "a",
                Some("b c.txt"),
            ),
            ("form-data;name=\"a\";FileName=\"b\"", "a", Some("b")),
            ("form-data; name=\"a\"; filename=\"\"", "a", Some("")),
            (
                "form-data; name=\"a;b=c\"; filename=\"x\\\"y;z=1\"",
                "a;b=c",
                Some("x\"y;z=1"),
            ),
            (
                "form-data; name=\"a\"; filename=\"C:\\temp\\x\"",
                "a",
                Some("C:\\temp\\x"),
            ),
            (
                "form-data; name=\"ü\"; filename=\"日本\"",
                "ü",
                Some("日本"),
            ),
            (
                "form-data; name=\"a\"; filename*=UTF-8''na%C3%AFve%20%22.txt",
                "a",
                Some("naïve \".txt"),
            ),
            (
                "form-data; name=\"a\"; filename*=utf-8'en'x; filename=\"y\"",
                "a",
                Some("x"),
            ),
            (
                "form-data; name=\"a\"; filename=\"y\"; filename*=ISO-8859-1''%FC",
                "a",
                Some("ü"),
            ),
            (
                "form-data; name=\"a\"; filename*=\"UTF-8''x\"",
                "a",
                Some("x"),
            ),
            ("form-data; x; =; name=\"a\"; name=\"b\"", "a", None),
        ] {
            let expected = (name.to_owned(), file_name.map(str::to_owned));
            assert_eq!(parse(header.as_bytes()), Ok(expected), "{header}");
        }
    }

    #[test]
    fn what_cannot_be_read_names_its_part() {
        for (header, problem) in [
            (&b""[..], "has no name"),
            (b"form-data; filename=\"x\"", "has no name"),
            (b"form-data; name=\"a", "broken"),
            (b"form-data; name=\"\xff\"", "name of a part"),
            (
                b"form-data; name=\"a\"; filename=\"\xff.txt\"",
                "part \"a\" is not UTF-8",
            ),
            (
                b"form-data; name=\"a\"; filename*=UTF-8''%FF",
                "part \"a\" is not encoded",
            ),
            (
                b"form-data; name=\"a\"; filename*=KOI8-R''x",
                "part \"a\" is not encoded",
            ),
            (
                b"form-data; name=\"a\"; filename*=x",
                "part \"a\" is not encoded",
            ),
        ] {
            let error = parse(header).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(header in "(form-data; )?([a-z*]{1,8}=?[\"';= \\\\a]{0,4}){0,6}") {
            let _ = parse(header.as_bytes());
        }
    }
}
