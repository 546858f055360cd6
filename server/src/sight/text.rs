//! The text format of Prometheus, version 0.0.4.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

/// Lines of numbers.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// Begins numbers of one name.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A number with its labels.
    pub(super) fn number(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// A family of one number.
    pub(super) fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.number(name, &[], value);
    }

    /// A number of a series whose labels are written already; `bound`: that of a bucket, if it is one.
    pub(super) fn line(
        &mut self,
        name: &str,
        suffix: &str,
        labels: &str,
        bound: &str,
        value: impl Display,
    ) {
        self.0.push_str(name);
        self.0.push_str(suffix);
        if !labels.is_empty() || !bound.is_empty() {
            self.0.push('{');
            self.0.push_str(labels);
            if !bound.is_empty() {
                if !labels.is_empty() {
                    self.0.push(',');
                }
                self.0.push_str("le=\"");
                self.0.push_str(bound);
                self.0.push('"');
            }
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// The value of a label, as it stands between quotes.
pub(super) fn escaped(value: &str) -> Cow<'_, str> {
    match value.contains(['\\', '"', '\n']) {
        false => Cow::Borrowed(value),
        true => Cow::Owned(
            value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        text.family("a", "gauge", "What.");
        text.number("a", &[("x", "1\"2\\3\n4"), ("y", "ü")], 1.5);
        text.one("b", "counter", "Else.", 7);
        assert_eq!(
            text.into_string(),
            "# HELP a What.\n# TYPE a gauge\na{x=\"1\\\"2\\\\3\\n4\",y=\"ü\"} 1.5\n\
             # HELP b Else.\n# TYPE b counter\nb 7\n"
        );
    }
}
