//! `URL_MAP`: the operator's rewriting of URLs, in the syntax of Python's `re.sub`.

use regex::{Captures, Regex, Replacer};
use serde_json::Value;

/// Rules that rewrite a URL, each applied to the result of the one before.
#[derive(Debug, Clone, Default)]
pub struct UrlMap {
    rules: Vec<(Regex, Template)>,
}

/// A map that cannot be used, with the rule that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum UrlMapError {
    /// Not a JSON object of strings.
    #[error("URL_MAP must be a JSON object of regular expression -> replacement: {0}")]
    Shape(String),
    /// A pattern that is no regular expression, or uses what is not supported (look-around and
    /// back-references).
    #[error("URL_MAP: pattern {pattern:?}: {reason}")]
    Pattern {
        /// The pattern as written.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
    /// A replacement that cannot be understood.
    #[error("URL_MAP: replacement {replacement:?} of pattern {pattern:?}: {reason}")]
    Replacement {
        /// The pattern as written.
        pattern: String,
        /// The replacement as written.
        replacement: String,
        /// What is wrong.
        reason: String,
    },
}

impl UrlMap {
    /// Reads a JSON object `{pattern: replacement}`, in the order in which it is written. Blank
    /// text is an empty map.
    pub fn parse(json: &str) -> Result<Self, UrlMapError> {
        if json.trim().is_empty() {
            return Ok(Self::default());
        }
        let value: Value =
            serde_json::from_str(json).map_err(|e| UrlMapError::Shape(e.to_string()))?;
        let Value::Object(object) = value else {
            return Err(UrlMapError::Shape("it is not an object".to_owned()));
        };
        let mut rules = Vec::with_capacity(object.len());
        for (pattern, replacement) in object {
            let Value::String(replacement) = replacement else {
                return Err(UrlMapError::Shape(format!(
                    "the value of {pattern:?} is no string"
                )));
            };
            rules.push((pattern, replacement));
        }
        Self::new(rules)
    }

    /// Makes a map of pairs of pattern and replacement.
    pub fn new<P, R>(rules: impl IntoIterator<Item = (P, R)>) -> Result<Self, UrlMapError>
    where
        P: Into<String>,
        R: Into<String>,
    {
        let mut compiled = Vec::new();
        for (pattern, replacement) in rules {
            let (pattern, replacement) = (pattern.into(), replacement.into());
            let regex = match Regex::new(&pattern) {
                Ok(regex) => regex,
                Err(e) => {
                    let reason = e
                        .to_string()
                        .split_whitespace()
                        .collect::<Vec<_>>()
                        .join(" ");
                    return Err(UrlMapError::Pattern { pattern, reason });
                }
            };
            match Template::parse(&replacement, &regex) {
                Ok(template) => compiled.push((regex, template)),
                Err(reason) => {
                    return Err(UrlMapError::Replacement {
                        pattern,
                        replacement,
                        reason,
                    });
                }
            }
        }
        Ok(Self { rules: compiled })
    }

    /// The URL after all rules. A `data:` URL names no place and is left as it is.
    pub fn apply(&self, url: &str) -> String {
        let mut url = url.to_owned();
        if crate::data_url::is_data_url(&url) {
            return url;
        }
        for (regex, template) in &self.rules {
            url = regex.replace_all(&url, template).into_owned();
        }
        url
    }
}

/// A replacement: literal text and groups.
#[derive(Debug, Clone, Default)]
struct Template(Vec<Part>);

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Group(usize),
}

impl Template {
    /// Reads a replacement of `re.sub`: `\1`, `\12`, `\g<1>`, `\g<name>`, `\\`, `\n`, `\t` …; a
    /// backslash before anything but a letter or digit is kept.
    fn parse(text: &str, regex: &Regex) -> Result<Self, String> {
        let mut template = Self::default();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '\\' {
                template.text(c);
                continue;
            }
            match chars.next() {
                None => return Err("it ends with a backslash".to_owned()),
                Some('0') => return Err("\\0 is no group; the whole match is \\g<0>".to_owned()),
                Some(digit) if digit.is_ascii_digit() => {
                    let mut number = digit.to_string();
                    number.extend(chars.next_if(char::is_ascii_digit));
                    template.0.push(Part::Group(group(&number, regex)?));
                }
                Some('g') => {
                    if chars.next() != Some('<') {
                        return Err("\\g must be followed by <name>".to_owned());
                    }
                    let mut name = String::new();
                    loop {
                        match chars.next() {
                            Some('>') => break,
                            Some(c) => name.push(c),
                            None => return Err("\\g<… is not closed".to_owned()),
                        }
                    }
                    template.0.push(Part::Group(group(&name, regex)?));
                }
                Some('n') => template.text('\n'),
                Some('r') => template.text('\r'),
                Some('t') => template.text('\t'),
                Some('\\') => template.text('\\'),
                Some(c) if c.is_ascii_alphabetic() => return Err(format!("bad escape \\{c}")),
                Some(c) => {
                    template.text('\\');
                    template.text(c);
                }
            }
        }
        Ok(template)
    }

    fn text(&mut self, c: char) {
        match self.0.last_mut() {
            Some(Part::Text(text)) => text.push(c),
            _ => self.0.push(Part::Text(c.to_string())),
        }
    }
}

/// The number of a group given by number or name.
fn group(name: &str, regex: &Regex) -> Result<usize, String> {
    let number = match name.parse::<usize>() {
        Ok(number) => Some(number).filter(|number| *number < regex.captures_len()),
        Err(_) => regex.capture_names().position(|n| n == Some(name)),
    };
    number.ok_or_else(|| format!("the pattern has no group {name:?}"))
}

impl Replacer for &Template {
    fn replace_append(&mut self, captures: &Captures<'_>, out: &mut String) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Group(n) => out.push_str(captures.get(*n).map_or("", |m| m.as_str())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rules_apply_in_the_order_written() {
        let map =
            UrlMap::parse(r#"{"/z$": "/a", "/a$": "/b", "^http://localhost": "http://host"}"#);
        assert_eq!(map.unwrap().apply("http://localhost/z"), "http://host/b");
        let map = UrlMap::parse(r#"{"a": "b", "z": "a"}"#).unwrap();
        assert_eq!(map.apply("x:z"), "x:a");
    }

    #[test]
    fn replacements_are_those_of_python() {
        for (pattern, replacement, url, want) in [
            (
                r"http://localhost:(\d+)",
                r"http://host:\1",
                "http://localhost:80/",
                "http://host:80/",
            ),
            (
                r"(?P<h>[a-z]+):(\d+)",
                r"\g<h>.net:\g<2>0",
                "x:8",
                "x.net:80",
            ),
            ("b", "$1${2}$$", "abc", "a$1${2}$$c"),
            ("b", r"\g<0>\g<0>\\\.", "abc", r"abb\\.c"),
            ("(x)?b", r"<\1>", "ab", "a<>"),
        ] {
            let map = UrlMap::new([(pattern, replacement)]).unwrap();
            assert_eq!(map.apply(url), want, "{pattern} {replacement}");
        }
    }

    #[test]
    fn wrong_maps_say_what_is_wrong() {
        for (json, part) in [
            ("[1]", "not an object"),
            ("{", "EOF"),
            (r#"{"a": 1}"#, "\"a\" is no string"),
            (r#"{"(": "x"}"#, "unclosed group"),
            (r#"{"(?=a)": "x"}"#, "look-around"),
            (r#"{"a": "\\1"}"#, "no group \"1\""),
            (r#"{"a": "\\g<b>"}"#, "no group \"b\""),
            (r#"{"a": "\\g<b"}"#, "not closed"),
            (r#"{"a": "\\"}"#, "ends with a backslash"),
            (r#"{"a": "\\q"}"#, "bad escape"),
        ] {
            let error = UrlMap::parse(json).unwrap_err().to_string();
            assert!(error.contains(part), "{json}: {error}");
        }
    }

    #[test]
    fn data_is_left_alone() {
        let map = UrlMap::new([("a", "b")]).unwrap();
        assert_eq!(map.apply("DATA:,a"), "DATA:,a");
    }

    proptest! {
        #[test]
        fn never_panics(pattern in "\\PC{0,12}", replacement in "[\\\\g<>0-9a-z$]{0,12}", url in "\\PC{0,40}") {
            if let Ok(map) = UrlMap::new([(pattern, replacement)]) {
                map.apply(&url);
            }
        }

        #[test]
        fn a_literal_replacement_is_literal(text in "[^\\\\]{0,20}") {
            let map = UrlMap::new([("^X$", text.clone())]).unwrap();
            prop_assert_eq!(map.apply("X"), text);
        }
    }
}
