//! One requirement, as [PEP 508](https://peps.python.org/pep-0508/) writes it, in a form that is the same for all
//! who mean the same.

use std::str::FromStr;

use pep440_rs::VersionSpecifiers;

/// A requirement in its normal form: the name as [PEP 503](https://peps.python.org/pep-0503/) compares it, sorted
/// extras, versions without spaces.
///
/// # Errors
/// What is wrong with it, and what was expected.
pub(super) fn normal(text: &str) -> Result<String, String> {
    let wrong =
        |what: &str| format!("{text:?} is no requirement: {what}; expected such as `name>=1.2`");
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let text = text.trim();
    let end = text.find(|c| !is_of_name(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let is_plain = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if !is_plain(name.chars().next()) || !is_plain(name.chars().last()) {
        return Err(wrong("it does not begin with the name of a package"));
    }
    let (extras, rest) = extras(rest.trim_start()).map_err(|what| wrong(&what))?;
    let mut normal = format!("{}{extras}", normal_name(name));
    if let Some(url) = rest.strip_prefix('@') {
        // In a URL a semicolon is one, unless a space comes before it.
        let (url, marker) = cut(url, " ;");
        let url = url.trim();
        if !url.contains("://") || url.contains(char::is_whitespace) {
            return Err(wrong("after @ comes a URL"));
        }
        normal.push_str(&format!(" @ {url}"));
        return Ok(with_marker(normal, marker));
    }
    let (versions, marker) = cut(rest, ";");
    let versions = versions.trim();
    let versions = match versions.strip_prefix('(') {
        Some(inside) => inside
            .strip_suffix(')')
            .ok_or_else(|| wrong("a parenthesis is not closed"))?,
        None => versions,
    };
    if !versions.is_empty() {
        let versions = VersionSpecifiers::from_str(versions)
            .map_err(|error| wrong(error.to_string().lines().next().unwrap_or_default()))?;
        let mut parts: Vec<String> = versions
            .iter()
            .map(|one| one.to_string().replace(' ', ""))
            .collect();
        parts.sort();
        normal.push_str(&parts.join(","));
    }
    Ok(with_marker(normal, marker))
}

/// Where the requirement is a URL, that URL.
pub(super) fn url(normal: &str) -> Option<&str> {
    let (requirement, _) = cut(normal, " ;");
    requirement.split_once(" @ ").map(|(_, url)| url.trim())
}

fn normal_name(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

/// The extras in brackets, and what comes after them.
fn extras(rest: &str) -> Result<(String, &str), String> {
    let Some(inside) = rest.strip_prefix('[') else {
        return Ok((String::new(), rest));
    };
    let Some((inside, rest)) = inside.split_once(']') else {
        return Err("a bracket is not closed".to_owned());
    };
    let mut extras: Vec<String> = inside
        .split(',')
        .map(|extra| normal_name(extra.trim()))
        .filter(|extra| !extra.is_empty())
        .collect();
    extras.sort();
    extras.dedup();
    let extras = match extras.is_empty() {
        true => String::new(),
        false => format!("[{}]", extras.join(",")),
    };
    Ok((extras, rest.trim_start()))
}

fn cut<'a>(text: &'a str, at: &str) -> (&'a str, Option<&'a str>) {
    match text.split_once(at) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn with_marker(mut normal: String, marker: Option<&str>) -> String {
    let words: Vec<&str> = marker.into_iter().flat_map(str::split_whitespace).collect();
    if !words.is_empty() {
        normal.push_str(&format!(" ; {}", words.join(" ")));
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_means_the_same_is_written_the_same() {
        for (text, expected) in [
            ("NumPy", "numpy"),
            ("a_b.-C", "a-b-c"),
            ("a >= 1.0 , < 2", "a<2,>=1.0"),
            ("a (==1.0)", "a==1.0"),
            ("a[Two, one] ~= 1.4", "a[one,two]~=1.4"),
            ("a[]", "a"),
            (
                "a==1;python_version<'3.12'   and  x == 'y'",
                "a==1 ; python_version<'3.12' and x == 'y'",
            ),
            (
                "a @ https://example.org/a-1-py3-none-any.whl ; x == 'y'",
                "a @ https://example.org/a-1-py3-none-any.whl ; x == 'y'",
            ),
        ] {
            assert_eq!(normal(text).unwrap(), expected, "{text}");
            assert_eq!(normal(expected).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_none_is_refused_with_the_reason() {
        for (text, problem) in [
            ("", "name of a package"),
            ("./a.whl", "name of a package"),
            ("-e .", "name of a package"),
            ("a-", "name of a package"),
            ("a >< 2", "a >< 2"),
            ("a == one", "a == one"),
            ("a[b", "bracket"),
            ("a (==1", "parenthesis"),
            ("a @ folder", "comes a URL"),
        ] {
            let error = normal(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn the_url_of_a_normal_form_is_found() {
        assert_eq!(
            url("a @ https://x/y.whl ; z == 'w'"),
            Some("https://x/y.whl")
        );
        assert_eq!(url("a==1 ; z == ' @ '"), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_and_a_normal_form_stays(text in "\\PC{0,40}") {
            if let Ok(once) = normal(&text) {
                prop_assert_eq!(normal(&once), Ok(once));
            }
        }

        #[test]
        fn names_and_versions_are_kept(name in "[a-z][a-z0-9]{0,8}", major in 0_u8..9, minor in 0_u8..9) {
            let text = format!("{name}=={major}.{minor}");
            prop_assert_eq!(normal(&text), Ok(text.clone()));
        }
    }
}
