//! What stands in a frame of SockJS.

use serde::Deserialize;

/// The first frame.
pub(super) const OPEN: &str = "o";
/// That the connection lives.
pub(super) const HEARTBEAT: &str = "h";
/// Messages in one frame of a page.
const MAX_MESSAGES: usize = 1_000;

/// The last frame, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Close {
    code: u16,
    reason: String,
}

impl Close {
    /// The connection has ended.
    pub(super) fn go_away() -> Self {
        Self::new(3000, "Go away!")
    }

    /// Somebody else reads already.
    pub(super) fn still_open() -> Self {
        Self::new(2010, "Another connection still open")
    }

    /// The page said what is no message.
    pub(super) fn no_message(problem: &str) -> Self {
        Self::new(4400, &format!("That is no message: {problem}"))
    }

    /// The page asks for more than it may have.
    pub(super) fn too_many(problem: &str) -> Self {
        Self::new(4429, problem)
    }

    fn new(code: u16, reason: &str) -> Self {
        let reason = reason.to_owned();
        Self { code, reason }
    }

    pub(super) fn frame(&self) -> String {
        format!("c{}", json(&(self.code, &self.reason)))
    }
}

/// A frame with messages, if there are any.
pub(super) fn said(all: &[String]) -> Option<String> {
    (!all.is_empty()).then(|| format!("a{}", json(&all)))
}

fn json<T: serde::Serialize>(value: &T) -> String {
    // Text and numbers cannot fail to be JSON.
    serde_json::to_string(value).unwrap_or_default()
}

/// Why a frame of a page is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// There is nothing in it.
    Empty,
    /// It is no list of texts, nor a text.
    NoList,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Sent {
    Many(Vec<String>),
    One(String),
}

/// Takes the messages out of a frame of a page.
pub(super) fn read(frame: &str) -> Result<Vec<String>, Broken> {
    if frame.is_empty() {
        return Err(Broken::Empty);
    }
    match serde_json::from_str(frame) {
        Ok(Sent::Many(all)) if all.len() <= MAX_MESSAGES => Ok(all),
        Ok(Sent::One(one)) => Ok(vec![one]),
        _ => Err(Broken::NoList),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_are_those_of_the_protocol() {
        let said = ["a/channels,{\"a\": \"ä\"}".to_owned(), "b".to_owned()];
        let frame = r#"a["a/channels,{\"a\": \"ä\"}","b"]"#;
        assert_eq!(super::said(&said).as_deref(), Some(frame));
        assert_eq!(super::said(&[]), None);
        assert_eq!(Close::go_away().frame(), r#"c[3000,"Go away!"]"#);
        assert_eq!(
            Close::still_open().frame(),
            r#"c[2010,"Another connection still open"]"#
        );
    }

    #[test]
    fn frames_of_pages_are_lists_of_texts() {
        assert_eq!(
            read(r#"["a","b"]"#),
            Ok(vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!(read(r#""a""#), Ok(vec!["a".to_owned()]));
        assert_eq!(read("[]"), Ok(Vec::new()));
        assert_eq!(read(""), Err(Broken::Empty));
        let deep = "[".repeat(10_000);
        let many = format!("[{}\"\"]", "\"\",".repeat(MAX_MESSAGES));
        for wrong in ["{", "nonsense", "[1]", "[[]]", "{}", "null", &deep, &many] {
            assert_eq!(read(wrong), Err(Broken::NoList));
        }
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard(all in prop::collection::vec(".{0,20}", 1..10)) {
            prop_assert_eq!(said(&all).map(|frame| read(&frame[1..])), Some(Ok(all)));
        }
    }
}
