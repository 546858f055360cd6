//! URLs as they may be shown: without passwords and tokens.

/// Characters of a URL that are shown at most.
const SHOWN: usize = 300;

/// Characters of a `data:` URL that are shown at most.
const SHOWN_OF_DATA: usize = 40;

/// Parts of names of query parameters whose values are hidden.
const SECRET: [&str; 8] = [
    "token",
    "secret",
    "passw",
    "pwd",
    "key",
    "signature",
    "credential",
    "auth",
];

/// The URL as it may stand in a log or an error: user information and the values of query
/// parameters that look like secrets are hidden, a `data:` URL is cut, control characters are
/// replaced. Works on any text, valid or not.
pub fn redact(url: &str) -> String {
    if url
        .get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
    {
        return cut(url, SHOWN_OF_DATA);
    }
    let (rest, query) = match url.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (url, None),
    };
    let mut text = without_userinfo(rest);
    if let Some(query) = query {
        text.push('?');
        let pairs: Vec<String> = query.split('&').map(redact_pair).collect();
        text.push_str(&pairs.join("&"));
    }
    cut(&text, SHOWN)
}

/// Replaces what stands between the slashes and the last `@` of the authority.
fn without_userinfo(url: &str) -> String {
    let start = url.find("//").map_or(0, |at| at + 2);
    let end = url[start..]
        .find(['/', '\\', '#'])
        .map_or(url.len(), |at| start + at);
    match url[start..end].rfind('@') {
        Some(at) => format!("{}***{}", &url[..start], &url[start + at..]),
        None => url.to_owned(),
    }
}

/// Replaces the value of a parameter that looks like a secret.
fn redact_pair(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}=***"),
        _ => pair.to_owned(),
    }
}

/// Whether the name of a parameter says that its value is secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "sig" || SECRET.iter().any(|part| name.contains(part))
}

/// The beginning of the text, printable, with its length where it was cut.
fn cut(text: &str, shown: usize) -> String {
    let mut start: String = text
        .chars()
        .take(shown)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if start.len() < text.len() && text.chars().nth(shown).is_some() {
        start.push_str(&format!("… ({} bytes)", text.len()));
    }
    start
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn hides_secrets_and_keeps_the_rest() {
        for (url, shown) in [
            (
                "http://h/files/1/?file-id=abc",
                "http://h/files/1/?file-id=abc",
            ),
            ("http://me:pw@h:80/a@b", "http://***@h:80/a@b"),
            ("http://me:p@w@h/", "http://***@h/"),
            (
                "http://h/?access_token=1&x=2&API-Key=3",
                "http://h/?access_token=***&x=2&API-Key=***",
            ),
            ("//me:pw@h", "//***@h"),
            ("me:pw@h/x", "***@h/x"),
            ("no url\n", "no url\u{fffd}"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }

    #[test]
    fn long_data_is_cut() {
        let url = format!("data:text/plain,{}", "x".repeat(1000));
        let shown = redact(&url);
        assert!(shown.ends_with("… (1016 bytes)"), "{shown}");
        assert!(shown.len() < 80);
    }
}
