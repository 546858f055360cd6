//! Inputs and outputs: names, media types, references.

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

/// The media type of a file of which nothing is known.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// An output of a task, as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Number in SQL, in the URL.
    pub id: i64,
    /// Secret part of the URL: who knows it may read the file.
    pub tag: String,
    /// Plain file name.
    pub name: String,
    /// What it means, such as `entity/list`.
    pub data_type: String,
    /// Its media type, such as `text/csv`.
    pub content_type: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the content, hexadecimal.
    pub digest: String,
    /// Key in the file store.
    pub key: String,
    /// When it was stored, in seconds since 1970 (UTC).
    pub created_at: i64,
}

/// A file that came with a request and lies in the file store until its task is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Key in the file store.
    pub key: String,
    /// Name as the client gave it; plain, but not simplified.
    pub name: String,
    /// Media type as the client gave it.
    #[serde(rename = "contentType")]
    pub content_type: String,
    /// Bytes.
    pub size: u64,
}

/// Makes a plain, portable ASCII file name of anything a client or plugin calls a file: accents are
/// dropped, path separators become spaces, runs of white space one `_`, and what is then not a letter,
/// a digit, `.`, `_` or `-` is left out. This gives the names that the reference runner shows.
/// Never empty, never `.` or `..`, at most 200 bytes.
pub fn plain_name(name: &str) -> String {
    let ascii: String = name.nfkd().filter(char::is_ascii).collect();
    let spaced = ascii.replace(['/', '\\'], " ");
    let joined = spaced.split_whitespace().collect::<Vec<_>>().join("_");
    let kept: String = joined
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        .collect();
    let trimmed = kept.trim_matches(['.', '_']);
    let name = if trimmed.is_empty() { "file" } else { trimmed };
    if name.len() <= 200 {
        return name.to_owned();
    }
    let cut = match name.rsplit_once('.') {
        Some((stem, extension)) if extension.len() <= 20 => {
            format!(
                "{}.{extension}",
                &stem[..stem.len().min(199 - extension.len())]
            )
        }
        _ => name[..200].to_owned(),
    };
    cut.trim_end_matches(['.', '_']).to_owned()
}

/// The media type that a file's name suggests. Short on purpose: a plugin knows better.
pub fn content_type_of(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "csv" => "text/csv",
        "json" => "application/json",
        "jsonl" | "ndjson" => "application/X-lines+json",
        "txt" | "log" | "md" => "text/plain",
        "html" | "htm" => "text/html",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "xml" => "application/xml",
        "qasm" => "text/x-qasm",
        "py" => "text/x-python",
        _ => OCTET_STREAM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_of_the_reference() {
        for (given, plain) in [
            ("a b ü/../x.csv", "a_b_u_.._x.csv"),
            ("naïve 日本.html", "naive_.html"),
            ("out.txt", "out.txt"),
            ("../../etc/passwd", "etc_passwd"),
            ("..", "file"),
            ("日本", "file"),
            ("C:\\temp\\x.txt", "C_temp_x.txt"),
            ("", "file"),
        ] {
            assert_eq!(plain_name(given), plain);
        }
    }

    proptest! {
        #[test]
        fn names_are_always_plain(given in ".{0,300}") {
            let name = plain_name(&given);
            prop_assert!(!name.is_empty() && name.len() <= 200);
            prop_assert!(name != "." && name != "..");
            prop_assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)));
            prop_assert_eq!(plain_name(&name), name);
        }
    }
}
