//! Text as Python writes it in a program; logs of the original plugin have it so.

use std::fmt::Write;

/// What Python's `repr` makes of a text.
pub(crate) fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut repr = String::with_capacity(text.len() + 2);
    repr.push(quote);
    for character in text.chars() {
        push(&mut repr, character, quote);
    }
    repr.push(quote);
    repr
}

fn push(repr: &mut String, character: char, quote: char) {
    match character {
        '\n' => repr.push_str("\\n"),
        '\r' => repr.push_str("\\r"),
        '\t' => repr.push_str("\\t"),
        '\\' => repr.push_str("\\\\"),
        _ if character == quote => {
            repr.push('\\');
            repr.push(character);
        }
        _ if is_printable(character) => repr.push(character),
        _ => {
            let code = u32::from(character);
            // Writing to a String cannot fail.
            let _ = match code {
                0..=0xff => write!(repr, "\\x{code:02x}"),
                0x100..=0xffff => write!(repr, "\\u{code:04x}"),
                _ => write!(repr, "\\U{code:08x}"),
            };
        }
    }
}

/// Whether Python shows a character as it is: neither control, format, private or unassigned, nor
/// a separator other than the space. Rust's own rule for text in `{:?}` is the same one.
fn is_printable(character: char) -> bool {
    if matches!(character, '"' | '\'' | '\\') {
        return true;
    }
    // The rule is stricter for the first character, where a combining mark would stand alone.
    let text: String = ['x', character].iter().collect();
    text.escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::repr;

    /// Each right side was printed by Python 3.11.
    #[test]
    fn is_as_in_python() {
        for (text, expected) in [
            ("", "''"),
            ("plain", "'plain'"),
            ("it's", r#""it's""#),
            ("both ' and \"", r#"'both \' and "'"#),
            ("only \"", r#"'only "'"#),
            ("a\\b\n\r\t", r"'a\\b\n\r\t'"),
            (
                "\0\x1b\x7f\u{85}\u{a0}\u{ad}",
                r"'\x00\x1b\x7f\x85\xa0\xad'",
            ),
            (
                "\u{200b}\u{2028}\u{3000}\u{feff}\u{e000}",
                r"'\u200b\u2028\u3000\ufeff\ue000'",
            ),
            ("\u{e0001}\u{10ffff}", r"'\U000e0001\U0010ffff'"),
            ("e\u{301} 日本 😀", "'e\u{301} 日本 😀'"),
        ] {
            assert_eq!(repr(text), expected);
        }
    }
}
