//! The log of a task: entries separated by line breaks, bounded.

use std::borrow::Cow;

/// Bytes of the log that may stand in the task's row; the rest is kept in chunks.
pub const INLINE_LOG: usize = 16 * 1024;
/// Bytes kept from the beginning of a long log.
const HEAD: u64 = 9 * 1024 * 1024;
/// Bytes of the whole log, with what is said about the cut.
const MAX_LOG: u64 = 10 * 1024 * 1024;
/// Bytes that say that something was cut, at most.
const NOTE: u64 = 128;
/// Bytes that a run may always add, so that the log of a task of many runs says how it ended.
const LEAST: u64 = 4 * 1024;

/// Collects what a run logs. What is beyond 9 MiB of the task's log is cut, but for as much of the end as
/// leaves it within 10 MiB; the cut is said where it is. Runs that find it full add their last 4 KiB.
#[derive(Debug, Default)]
pub struct LogWriter {
    length: u64,
    pending: String,
    tail: String,
    cut: u64,
}

impl LogWriter {
    /// Goes on where a task's log of `length` bytes ends.
    pub fn new(length: u64) -> Self {
        Self {
            length,
            ..Self::default()
        }
    }

    /// Adds an entry. Line breaks at its end are dropped; an empty one is none.
    pub fn entry(&mut self, text: &str) {
        let text = &*without_nul(text.trim_end_matches(['\n', '\r']));
        if text.is_empty() {
            return;
        }
        let separator = if self.length > 0 { "\n" } else { "" };
        let size = (separator.len() + text.len()) as u64;
        if self.tail.is_empty() && self.cut == 0 && self.length + size <= HEAD {
            self.pending.push_str(separator);
            self.pending.push_str(text);
            self.length += size;
            return;
        }
        self.tail.push_str(separator);
        self.tail.push_str(text);
        if self.tail.len() > 2 * self.room() {
            self.trim_tail();
        }
    }

    /// Bytes that are kept from the end.
    fn room(&self) -> usize {
        let left = MAX_LOG.saturating_sub(self.length + NOTE).max(LEAST);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    fn trim_tail(&mut self) {
        let mut from = self.tail.len().saturating_sub(self.room());
        while !self.tail.is_char_boundary(from) {
            from += 1;
        }
        self.cut += from as u64;
        self.tail.drain(..from);
    }

    /// What is new since the last call.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.pending)
    }

    /// What is new, with the end of a log that was cut.
    pub fn finish(&mut self) -> String {
        if self.tail.len() > self.room() {
            self.trim_tail();
        }
        let tail = std::mem::take(&mut self.tail);
        if self.cut > 0 {
            let note = format!("\n[… {} bytes of the log were left out here …]\n", self.cut);
            self.push_end(&note);
        }
        self.push_end(&tail);
        self.take()
    }

    fn push_end(&mut self, text: &str) {
        self.pending.push_str(text);
        self.length += text.len() as u64;
    }
}

/// Text with U+FFFD in the place of NUL, which not every database keeps.
pub fn without_nul(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        false => Cow::Borrowed(text),
        true => Cow::Owned(text.replace('\0', "\u{fffd}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_separated_by_line_breaks_over_several_runs() {
        let mut log = LogWriter::new(0);
        log.entry("one\n");
        log.entry("");
        log.entry("two");
        assert_eq!(log.take(), "one\ntwo");
        log.entry("three");
        assert_eq!(log.take(), "\nthree");
        let mut log = LogWriter::new(5);
        log.entry("later");
        assert_eq!(log.finish(), "\nlater");
    }

    #[test]
    fn a_flood_keeps_head_and_tail_and_says_the_cut() {
        let mut log = LogWriter::new(0);
        let line = "x".repeat(999);
        for _ in 0..20_000 {
            log.entry(&line);
        }
        log.entry("the end");
        let text = log.finish();
        assert!(text.len() as u64 <= MAX_LOG, "{}", text.len());
        assert!(text.ends_with("\nthe end"));
        let note = text.find("bytes of the log were left out").unwrap();
        assert!(note as u64 > HEAD - 2000);
        let cut: u64 = text[..note]
            .rsplit_once("… ")
            .unwrap()
            .1
            .trim()
            .parse()
            .unwrap();
        let note = format!("\n[… {cut} bytes of the log were left out here …]\n");
        assert_eq!(
            cut + text.len() as u64 - note.len() as u64,
            20_000 * 1000 - 1 + 8
        );
    }

    #[test]
    fn lengths_are_those_without_nul() {
        let mut log = LogWriter::new(0);
        log.entry("a\0b");
        log.entry("\0");
        let text = log.finish();
        assert_eq!(text, "a\u{fffd}b\n\u{fffd}");
        assert_eq!(log.length, text.len() as u64);
    }

    #[test]
    fn runs_of_a_full_log_add_little_and_say_how_they_ended() {
        let mut length = 0;
        for run in 0..50 {
            let mut log = LogWriter::new(length);
            for _ in 0..11 * 1024 {
                log.entry(&"x".repeat(1023));
            }
            log.entry(&format!("the end of run {run}"));
            let text = log.finish();
            assert!(text.ends_with(&format!("\nthe end of run {run}")));
            assert!(text.contains("bytes of the log were left out"));
            length += text.len() as u64;
        }
        assert!(length <= MAX_LOG + 49 * (LEAST + NOTE), "{length}");
    }
}
