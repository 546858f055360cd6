//! Inputs and outputs: names, media types, references.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use url::Url;

use crate::identity::url_segment;

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
    /// Where the content stands, if that is not the file store: then there is neither size nor digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether the content stands in the row of the file and not in the file store, as that of short texts does.
    #[serde(default)]
    pub is_in_row: bool,
    /// When it was stored, in seconds since 1970 (UTC).
    pub created_at: i64,
}

/// A file that came with a request and lies in the file store until its task is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Key in the file store.
    pub key: String,
    /// Name as the client gave it, as [`upload_name`] makes it.
    pub name: String,
    /// Media type as the client gave it.
    #[serde(rename = "contentType")]
    pub content_type: String,
    /// Bytes.
    pub size: u64,
}

/// The longest URL of an output whose content stands elsewhere, in bytes.
pub const MAX_LINK: usize = 16 * 1024;

/// Checks the URL of an output whose content stands elsewhere, and writes it as URLs are written. Clients get it as the
/// address of the output, so that it must be one that can be opened everywhere.
///
/// # Errors
/// What is wrong with it, and what was expected.
pub fn link_url(url: &str) -> Result<String, String> {
    if url.len() > MAX_LINK {
        return Err(format!(
            "its URL has {} bytes; the limit is {MAX_LINK}",
            url.len()
        ));
    }
    let parsed =
        Url::parse(url).map_err(|error| format!("its URL {url:?} is not usable: {error}"))?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed.into()),
        scheme => Err(format!(
            "its URL begins with {scheme:?}, and clients can open http and https only"
        )),
    }
}

/// The longest name of a file, in bytes: what file systems take, with room for a prefix.
const MAX_NAME: usize = 200;
/// The name of a file of which no name is left.
const NO_NAME: &str = "file";

impl File {
    /// Its path below the base URL of a runner, with its tag.
    pub fn path(&self) -> String {
        format!("/files/{}/?file-id={}", self.id, url_segment(&self.tag))
    }
}

/// Makes the name of one file in a folder of what a client calls the file that it sends. Letters of all
/// scripts are kept, and the words of a path, with a space between them: [`plain_name`] makes the same
/// of both. What would lead elsewhere, or make the name look like another, is left out.
/// Never empty, never `.` or `..`, at most 200 bytes.
pub fn upload_name(name: &str) -> String {
    let spaced = name
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c });
    let shown: String = spaced.filter(|c| !is_invisible(*c)).collect();
    let words: Vec<&str> = shown
        .split(['/', '\\'])
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .skip_while(|word| matches!(*word, "." | ".."))
        .collect();
    let joined = words.join(" ");
    shortened(if joined.is_empty() { NO_NAME } else { &joined })
}

/// Characters that control the terminal, or the direction of what follows.
fn is_invisible(character: char) -> bool {
    let is_direction = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    character.is_control() || is_direction
}

/// A name of at most [`MAX_NAME`] bytes, with its extension.
fn shortened(name: &str) -> String {
    if name.len() <= MAX_NAME {
        return name.to_owned();
    }
    let upto = |length: usize| &name[..name.floor_char_boundary(length)];
    match name.rsplit_once('.') {
        Some((_, extension)) if extension.len() <= 20 => {
            format!("{}.{extension}", upto(MAX_NAME - 1 - extension.len()))
        }
        _ => upto(MAX_NAME).to_owned(),
    }
}

/// What tells, without reading a file, whether it is as it was when its digest was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStat {
    /// The file system.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// When its content changed, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// When its inode changed, in nanoseconds since 1970.
    pub changed_ns: i64,
}

/// Nanoseconds within which two changes of a file may look like one: the clocks of some file systems count seconds.
const COARSE_NS: i64 = 2_000_000_000;

impl FileStat {
    /// Whether what is read of the file from `now` on is told apart from all that is written to it later. A file that
    /// was changed just before may be changed once more without a trace.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ns = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
        now_ns.saturating_sub(self.changed_ns) > COARSE_NS
    }
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
    let name = if trimmed.is_empty() { NO_NAME } else { trimmed };
    shortened(name).trim_end_matches(['.', '_']).to_owned()
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
    use std::time::Duration;

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

    #[test]
    fn what_clients_cannot_open_is_no_link() {
        assert_eq!(
            link_url(" HTTPS://a.example/ü?x y").unwrap(),
            "https://a.example/%C3%BC?x%20y"
        );
        for (url, problem) in [
            ("", "not usable"),
            ("/files/1/", "not usable"),
            ("javascript:alert(1)", "\"javascript\""),
            ("file:///etc/passwd", "http and https only"),
            ("data:,x", "http and https only"),
            (
                &format!("http://a/{}", "x".repeat(MAX_LINK)),
                "the limit is",
            ),
        ] {
            let error = link_url(url).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn a_file_that_was_changed_just_now_may_be_changed_unseen() {
        let stat = FileStat {
            device: 1,
            inode: 2,
            size: 3,
            modified_ns: 0,
            changed_ns: 10 * COARSE_NS,
        };
        let at = |ns: i64| UNIX_EPOCH + Duration::from_nanos(ns.unsigned_abs());
        assert!(!stat.is_settled(at(0)));
        assert!(!stat.is_settled(at(11 * COARSE_NS)));
        assert!(stat.is_settled(at(11 * COARSE_NS + 1)));
    }

    #[test]
    fn an_upload_has_the_name_of_one_file() {
        for (given, name) in [
            ("a b ü/../x.csv", "a b ü .. x.csv"),
            ("naïve 日本.html", "naïve 日本.html"),
            ("../../etc/passwd", "etc passwd"),
            ("/etc/passwd", "etc passwd"),
            ("C:\\fakepath\\x.txt", "C: fakepath x.txt"),
            ("..\\..\\x", "x"),
            (".bashrc", ".bashrc"),
            ("a\u{0}b\r\n\u{85}c\u{1b}.txt", "ab   c.txt"),
            ("\u{202e}vsc.exe", "vsc.exe"),
            ("", "file"),
            (" ", "file"),
            ("..", "file"),
            ("/", "file"),
        ] {
            assert_eq!(upload_name(given), name);
        }
    }

    proptest! {
        #[test]
        fn the_name_of_an_upload_leads_nowhere(given in "([./\\\\ ]|\\PC|\\n){0,300}") {
            let name = upload_name(&given);
            prop_assert!(!name.is_empty() && name.len() <= MAX_NAME);
            prop_assert!(name != "." && name != "..");
            prop_assert!(!name.contains(['/', '\\']) && !name.contains(is_invisible));
        }

        #[test]
        fn outputs_named_after_uploads_have_the_names_of_the_reference(
            given in "[./\\\\ \n\ta-cüï日:-]{0,60}"
        ) {
            prop_assert_eq!(plain_name(&upload_name(&given)), plain_name(&given));
        }

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
