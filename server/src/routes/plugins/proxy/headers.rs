//! Which headers go on, and which are added.

use std::net::IpAddr;

use axum::http::header::{CONNECTION, HOST, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use runner_core::identity::url_segment;
use runner_core::plugin::Plugin;

use super::path_of;
use crate::base_url::BaseUrl;

/// Headers of one connection, RFC 9110, section 7.6.1; `Expect` is answered by the runner.
const OF_CONNECTION: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];
/// What a plugin may not decide for all of the runner.
const OF_ORIGIN: &[&str] = &[
    "alt-svc",
    "clear-site-data",
    "service-worker-allowed",
    "strict-transport-security",
];
/// Chains what the proxies on the way knew of the client.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// What only the runner says begins like this.
const OURS: [&str; 2] = ["x-forwarded-", "x-runner-"];

/// Who asks, and how.
pub(super) struct Caller<'a> {
    pub(super) base: &'a BaseUrl,
    pub(super) peer: Option<IpAddr>,
    /// Reverse proxies that are believed.
    pub(super) proxies: usize,
    /// Who asks, if a token said it.
    pub(super) subject: Option<&'a str>,
    /// Tokens that were for the runner, and are for no plugin.
    pub(super) secrets: &'a [String],
}

/// The headers of a request as the plugin gets them.
pub(super) fn to_plugin(headers: &HeaderMap, caller: &Caller<'_>, plugin: &Plugin) -> HeaderMap {
    let tells = |value: &[u8], secret: &String| {
        let secret = secret.as_bytes();
        value.windows(secret.len()).any(|part| part == secret)
    };
    let mut kept = without(headers, |name, value| {
        // Also in a Referer or a cookie.
        let tells_secret = caller.secrets.iter().any(|secret| tells(value, secret));
        let is_ours = OURS.iter().any(|ours| name.starts_with(ours));
        tells_secret || is_ours || name == "forwarded"
    });
    let (scheme, host) = caller.base.origin();
    let prefix = caller.base.path(&path_of(plugin));
    let mut say = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            kept.insert(name, value);
        }
    };
    say(HOST, host);
    say(HeaderName::from_static("x-forwarded-host"), host);
    say(HeaderName::from_static("x-forwarded-proto"), scheme);
    say(
        HeaderName::from_static("x-forwarded-prefix"),
        prefix.trim_end_matches('/'),
    );
    say(
        HeaderName::from_static("x-runner-plugin"),
        &url_segment(&plugin.identifier),
    );
    if let Some(subject) = caller.subject {
        say(HeaderName::from_static("x-runner-user"), subject);
    }
    let chain = match caller.proxies {
        0 => None,
        _ => headers
            .get(FORWARDED_FOR)
            .and_then(|chain| chain.to_str().ok()),
    };
    let peer = caller.peer.map(|peer| peer.to_string());
    let chain: Vec<&str> = chain.into_iter().chain(peer.as_deref()).collect();
    if !chain.is_empty() {
        say(FORWARDED_FOR, &chain.join(", "));
    }
    kept
}

/// The headers of an answer as the client gets them.
pub(super) fn to_client(headers: &HeaderMap) -> HeaderMap {
    let mut kept = without(headers, |name, _| OF_ORIGIN.contains(&name));
    kept.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    kept
}

/// Without those of the connection, those that `Connection` names, and some more.
fn without(headers: &HeaderMap, more: impl Fn(&str, &[u8]) -> bool) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let goes_on = |(name, value): &(&HeaderName, &HeaderValue)| {
        let name = name.as_str();
        !OF_CONNECTION.contains(&name)
            && !named.iter().any(|named| name == named)
            && !more(name, value.as_bytes())
    };
    headers
        .iter()
        .filter(goes_on)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// An error with its causes, in one line.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::http::header::AUTHORIZATION;

    use super::*;

    fn plugin() -> Plugin {
        let description = serde_json::json!({"name": "p", "version": "1.0"});
        Plugin::new(serde_json::from_value(description).unwrap()).unwrap()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_plugin_hears_what_it_needs_and_nothing_of_the_runner() {
        let sent = headers(&[
            ("accept", "text/html"),
            ("accept", "text/plain"),
            ("authorization", "Bearer secret"),
            ("cookie", "a=secret"),
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-user", "root"),
            ("x-runner-plugin", "other"),
            ("x-runner-user", "root"),
        ]);
        let base = BaseUrl::below("/runner");
        let mut caller = Caller {
            base: &base,
            peer: Some([127, 0, 0, 1].into()),
            proxies: 0,
            subject: Some("me"),
            secrets: &["secret".to_owned()],
        };
        let heard = to_plugin(&sent, &caller, &plugin());
        let expected = headers(&[
            ("accept", "text/html"),
            ("accept", "text/plain"),
            ("host", "localhost"),
            ("x-forwarded-host", "localhost"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-prefix", "/runner/plugins/p@1-0"),
            ("x-runner-plugin", "p@1-0"),
            ("x-runner-user", "me"),
            ("x-forwarded-for", "127.0.0.1"),
        ]);
        assert_eq!(heard, expected);
        caller.proxies = 1;
        let heard = to_plugin(&sent, &caller, &plugin());
        assert_eq!(heard[FORWARDED_FOR], "6.6.6.6, 127.0.0.1");
    }

    #[test]
    fn other_credentials_reach_the_plugin() {
        let sent = headers(&[("authorization", "Bearer of-the-plugin")]);
        let base = BaseUrl::below("");
        let caller = Caller {
            base: &base,
            peer: None,
            proxies: 0,
            subject: None,
            secrets: &["secret".to_owned()],
        };
        let heard = to_plugin(&sent, &caller, &plugin());
        assert_eq!(heard[AUTHORIZATION], "Bearer of-the-plugin");
    }

    #[test]
    fn an_answer_decides_nothing_for_all_of_the_runner() {
        let answered = headers(&[
            ("content-type", "text/html"),
            ("location", "next"),
            ("service-worker-allowed", "/"),
            ("transfer-encoding", "chunked"),
        ]);
        let expected = headers(&[
            ("content-type", "text/html"),
            ("location", "next"),
            ("x-content-type-options", "nosniff"),
        ]);
        assert_eq!(to_client(&answered), expected);
    }
}
