//! Spans of time as people write them: `90s`, `15m`, `1h30m`, `30d`, `2w`.

use std::time::Duration;

/// The units with their seconds, the longest first.
const UNITS: [(char, u64); 5] = [
    ('w', 7 * 24 * 3_600),
    ('d', 24 * 3_600),
    ('h', 3_600),
    ('m', 60),
    ('s', 1),
];

/// What is expected.
const EXPECTED: &str = "expected numbers with s, m, h, d or w, such as 90s, 1h30m or 30d";

/// Reads a span. A number alone is seconds.
///
/// # Errors
/// Says what was expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no span of time; {EXPECTED}");
    let mut rest = text.trim();
    if let Ok(seconds) = rest.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = rest.split_at(end.ok_or_else(wrong)?);
        let letter = unit.chars().next().ok_or_else(wrong)?;
        let (_, seconds) = UNITS
            .into_iter()
            .find(|(known, _)| *known == letter)
            .ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part = number.checked_mul(seconds).ok_or_else(wrong)?;
        sum = sum.checked_add(part).ok_or_else(wrong)?;
        rest = unit[letter.len_utf8()..].trim_start();
    }
    Ok(Duration::from_secs(sum))
}

/// Writes a span as [`parse`] reads it, whole seconds only.
pub fn show(span: Duration) -> String {
    let mut rest = span.as_secs();
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    // People say thirty days, not four weeks and two days.
    for (letter, seconds) in UNITS.into_iter().skip(1) {
        let number = rest / seconds;
        if number > 0 {
            text.push_str(&format!("{number}{letter}"));
            rest %= seconds;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        let seconds = |text: &str| parse(text).map(|span| span.as_secs());
        assert_eq!(seconds("90"), Ok(90));
        assert_eq!(seconds("1h30m"), Ok(5_400));
        assert_eq!(seconds(" 1d 12h "), Ok(129_600));
        for wrong in [
            "",
            " ",
            "d",
            "1y",
            "-1d",
            "1.5h",
            "1dd",
            "1h5",
            "ü",
            "99999999999999999999d",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("1y").unwrap_err().contains("30d"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0..u64::from(u32::MAX)) {
            let span = Duration::from_secs(seconds);
            prop_assert_eq!(parse(&show(span)), Ok(span));
        }

        #[test]
        fn nothing_panics(text in ".{0,20}") {
            let _outcome = parse(&text);
        }
    }
}
