//! The end of what a host wrote to standard error: when it is gone, that says why.

use std::collections::VecDeque;

/// Bytes that are kept.
const KEPT: usize = 2048;

#[derive(Debug, Default)]
pub(super) struct LastWords {
    lines: VecDeque<String>,
    size: usize,
}

impl LastWords {
    pub(super) fn hear(&mut self, line: &str) {
        let from =
            (0..=line.len()).find(|at| line.len() - at <= KEPT && line.is_char_boundary(*at));
        let line = &line[from.unwrap_or(line.len())..];
        self.size += line.len() + 1;
        self.lines.push_back(line.to_owned());
        while self.size > KEPT && self.lines.len() > 1 {
            if let Some(first) = self.lines.pop_front() {
                self.size -= first.len() + 1;
            }
        }
    }

    /// A message, and what was said last.
    pub(super) fn after(&self, message: String) -> String {
        match self.lines.is_empty() {
            true => message,
            false => {
                let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
                format!("{message}\nit said last:\n{}", lines.join("\n"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept() {
        let mut words = LastWords::default();
        assert_eq!(words.after("gone".to_owned()), "gone");
        for number in 0..1000 {
            words.hear(&format!("line {number}"));
        }
        let text = words.after("gone".to_owned());
        assert!(
            text.ends_with("line 998\nline 999") && text.len() < KEPT + 40,
            "{text}"
        );
        words.hear(&"ü".repeat(KEPT));
        assert!(words.after(String::new()).len() < KEPT + 40);
    }
}
