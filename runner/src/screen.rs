//! What people and scripts see.
//!
//! Results go to standard output, everything else (log, progress, advice) to standard error. Colours are left
//! out where the stream is no terminal or `NO_COLOR` is set. Nobody reading on is no error: see [`Unread`].

use std::fmt;
use std::io::{ErrorKind, Write};

use anstyle::{AnsiColor, Style};
use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What went well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What deserves a look.
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
/// What went wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// Headings and names.
pub(crate) const BOLD: Style = Style::new().bold();
/// What may be overlooked.
pub(crate) const WEAK: Style = Style::new().dimmed();

/// Columns of output that goes to no terminal.
const NO_TERMINAL: usize = usize::MAX;

/// Whoever read standard output has closed it, as `head` does: there is nothing left to do.
#[derive(Debug)]
pub(crate) struct Unread;

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output was closed")
    }
}

impl std::error::Error for Unread {}

/// The command has said what there is to say; only its exit code is left.
#[derive(Debug)]
pub(crate) struct Exit(pub(crate) u8);

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}", self.0)
    }
}

impl std::error::Error for Exit {}

/// Writes to standard output, with a line break at the end.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let written = write!(out, "{text}{end}").and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Unread.into(),
        _ => anyhow::Error::new(error).context("cannot write to standard output"),
    })
}

/// Writes a document for scripts.
pub(crate) fn print_json(document: &Value) -> anyhow::Result<()> {
    print(&format!("{document:#}"))
}

/// Writes a line to standard error. Nobody may be reading.
pub(crate) fn note(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// The text in a style.
pub(crate) fn paint(style: Style, text: impl fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Text that came from a plugin or a server, as one line without control characters: they could change
/// what a terminal shows.
pub(crate) fn line(text: &str) -> String {
    let spaced = text.split_whitespace().collect::<Vec<_>>().join(" ");
    spaced.chars().filter(|c| !c.is_control()).collect()
}

/// As [`line()`], but lines stay lines.
pub(crate) fn lines(text: &str) -> String {
    let kept = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().filter(kept).collect()
}

/// Text moved to the right.
pub(crate) fn indent(text: &str, by: usize) -> String {
    let space = " ".repeat(by);
    let moved = text.lines().map(|line| match line.is_empty() {
        true => String::new(),
        false => format!("{space}{line}"),
    });
    moved.collect::<Vec<_>>().join("\n")
}

/// Columns of the terminal behind standard output.
fn columns() -> usize {
    terminal_size::terminal_size_of(std::io::stdout())
        .map_or(NO_TERMINAL, |(width, _)| usize::from(width.0))
}

/// Cells below headings. On a terminal, the last column is cut where the line ends.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<(String, Style)>>,
}

impl Table {
    /// A table with these headings; without any it is only aligned.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let mut table = Self::default();
        if !headings.is_empty() {
            table.rows.push(
                headings
                    .iter()
                    .map(|heading| ((*heading).to_owned(), WEAK))
                    .collect(),
            );
        }
        table
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [(&str, Style); N]) {
        self.rows.push(
            cells
                .into_iter()
                .map(|(text, style)| (line(text), style))
                .collect(),
        );
    }

    /// The table with a line break at the end of each line.
    pub(crate) fn text(&self) -> String {
        self.fitted(columns())
    }

    fn fitted(&self, columns: usize) -> String {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|(text, _)| text.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..count).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut used = 0;
            for (column, (cell, style)) in row.iter().enumerate() {
                let is_last = column + 1 == row.len();
                if is_last {
                    text.push_str(&paint(*style, cut(cell, columns.saturating_sub(used))));
                } else {
                    let room = widths[column];
                    text.push_str(&paint(*style, cell));
                    text.push_str(&" ".repeat(room - cell.width() + 2));
                    used += room + 2;
                }
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
        text
    }
}

/// The text, or its beginning with an ellipsis. Never less than 20 columns of it.
fn cut(text: &str, columns: usize) -> String {
    let columns = columns.max(20);
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= columns
    };
    let mut beginning: String = text.chars().take_while(fits).collect();
    beginning.push('…');
    beginning
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn columns_are_aligned_by_width_and_cut_at_the_end() {
        let mut table = Table::new(&["A", "B"]);
        table.row([("日本", GOOD), ("x", BOLD)]);
        table.row([("a", GOOD), (&"long ".repeat(10), BOLD)]);
        assert_eq!(
            plain(&table.fitted(26)),
            "A     B\n日本  x\na     long long long long…\n"
        );
        assert!(plain(&table.fitted(NO_TERMINAL)).contains(&"long ".repeat(9)));
    }

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        assert_eq!(line("a\u{1b}[2Jb\n\tc\u{7}"), "a[2Jb c");
        assert_eq!(lines("a\u{1b}b\nc\td"), "ab\nc\td");
        assert_eq!(indent("a\n\nb\n", 2), "  a\n\n  b");
    }
}
