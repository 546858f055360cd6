//! http and https: redirects followed one by one, status, body.

use std::error::Error;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode};
use tokio::time::timeout;
use url::Url;

use crate::client::{Clients, RefusedByPolicy};
use crate::config::FetchConfig;
use crate::error::{Problem, flatten};
use crate::target::Target;

/// Bytes of an error's body that are read for the message.
const ERROR_BODY: usize = 4096;

/// Characters of an error's body that are shown.
const ERROR_SHOWN: usize = 200;

/// Bytes of an answer to a POST that are read so that its connection can be used again.
const DRAINED: u64 = 64 * 1024;

/// Sends a request and follows its redirects; `url` tells in the end where it was. 301, 302 and
/// 303 turn a POST into what is not repeated: then they are the answer.
pub(crate) async fn send(
    clients: &Clients,
    config: &FetchConfig,
    method: Method,
    url: &mut Url,
) -> Result<Response, Problem> {
    for _ in 0..=config.max_redirects {
        let response = send_once(clients, config, method.clone(), url).await?;
        let status = response.status();
        let repeats = match status {
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => {
                method == Method::GET
            }
            _ => false,
        };
        if !repeats {
            return Ok(response);
        }
        let location = response.headers().get(LOCATION);
        let next = redirect_target(config, url, status, location)?;
        tracing::debug!(
            from = crate::redact(url.as_str()),
            to = crate::redact(next.as_str()),
            "redirect"
        );
        *url = next;
    }
    Err(Problem::Redirects(config.max_redirects))
}

/// One request without redirects, until the head of its response is there.
async fn send_once(
    clients: &Clients,
    config: &FetchConfig,
    method: Method,
    url: &Url,
) -> Result<Response, Problem> {
    let client = clients.for_url(url).await?;
    let mut request = client
        .request(method.clone(), url.clone())
        .header(ACCEPT_ENCODING, "identity");
    if method == Method::POST {
        request = request.header(CONTENT_LENGTH, 0);
    }
    let limit = config.connect_timeout + config.read_timeout;
    match timeout(limit, request.send()).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) if error.is_timeout() => Err(Problem::Timeout {
            what: "the connection",
            after: config.connect_timeout,
        }),
        Ok(Err(error)) => Err(problem(error)),
        Err(_) => Err(Problem::Timeout {
            what: "the response to begin",
            after: limit,
        }),
    }
}

/// Where a redirect leads: resolved against the current URL, rewritten by the map, still http or
/// https. User information is taken along only to the same origin, and never from the server.
fn redirect_target(
    config: &FetchConfig,
    from: &Url,
    status: StatusCode,
    location: Option<&HeaderValue>,
) -> Result<Url, Problem> {
    let unusable = |reason: String| Problem::Location {
        status: status.as_u16(),
        reason,
    };
    let location = location.ok_or_else(|| unusable("it is missing".to_owned()))?;
    let location = String::from_utf8_lossy(location.as_bytes());
    let mut to = from.join(&location).map_err(|e| unusable(e.to_string()))?;
    check_redirect_scheme(&to)?;
    set_userinfo(&mut to, "", None);
    let mapped = config.url_map.apply(to.as_str());
    if mapped != to.as_str() {
        to = Url::parse(&mapped).map_err(|e| unusable(format!("after URL_MAP: {e}")))?;
        check_redirect_scheme(&to)?;
    }
    if to.origin() == from.origin() && to.username().is_empty() && to.password().is_none() {
        set_userinfo(&mut to, from.username(), from.password());
    }
    Ok(to)
}

/// Refuses whatever is not http or https.
fn check_redirect_scheme(url: &Url) -> Result<(), Problem> {
    match url.scheme() {
        "http" | "https" => Ok(()),
        scheme => Err(Problem::RedirectScheme(scheme.to_owned())),
    }
}

/// Sets the user information, which every http URL can have.
fn set_userinfo(url: &mut Url, name: &str, password: Option<&str>) {
    // These fail only for URLs without a host. The parts come encoded and stay as they are.
    let _ = url.set_username(name);
    let _ = url.set_password(password);
}

/// Streams a successful body into the target; anything else is an error with the beginning of
/// its text.
pub(crate) async fn receive(
    response: Response,
    config: &FetchConfig,
    target: &mut Target,
) -> Result<(), Problem> {
    let mut response = successful(response, config).await?;
    if let Some(size) = response.content_length() {
        target.announce(size)?;
    }
    while let Some(bytes) = more(&mut response, config).await? {
        target.write(&bytes).await?;
    }
    Ok(())
}

/// Gathers a successful body of at most so many bytes; anything else is an error with the beginning of
/// its text.
pub(crate) async fn collect(
    response: Response,
    config: &FetchConfig,
    max_size: usize,
) -> Result<Vec<u8>, Problem> {
    let mut response = successful(response, config).await?;
    let mut gathered = Vec::new();
    while let Some(bytes) = more(&mut response, config).await? {
        if gathered.len() + bytes.len() > max_size {
            return Err(Problem::TooLarge {
                limit: max_size as u64,
                announced: response.content_length(),
            });
        }
        gathered.extend_from_slice(&bytes);
    }
    Ok(gathered)
}

/// The response, if it is a whole content as it is.
async fn successful(response: Response, config: &FetchConfig) -> Result<Response, Problem> {
    let status = response.status();
    if !status.is_success() || status == StatusCode::PARTIAL_CONTENT {
        let body = beginning(response, config.read_timeout).await;
        return Err(Problem::Status {
            status: status.as_u16(),
            body,
        });
    }
    if let Some(encoding) = response.headers().get(CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
        && !encoding.is_empty()
    {
        let encoding = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
        let reason =
            format!("the server sent the body encoded ({encoding}), which was not accepted");
        return Err(Problem::Response(reason));
    }
    Ok(response)
}

/// The next bytes of a body.
async fn more(
    response: &mut Response,
    config: &FetchConfig,
) -> Result<Option<bytes::Bytes>, Problem> {
    match timeout(config.read_timeout, response.chunk()).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(problem(error)),
        Err(_) => Err(Problem::Timeout {
            what: "more of the body",
            after: config.read_timeout,
        }),
    }
}

/// The beginning of a text body on one line, or nothing.
async fn beginning(mut response: Response, wait: Duration) -> String {
    let content_type = response.headers().get(reqwest::header::CONTENT_TYPE);
    let content_type = content_type
        .and_then(|v| v.to_str().ok())
        .unwrap_or("text/plain");
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if !essence.starts_with("text/") && !essence.ends_with("json") && !essence.ends_with("xml") {
        return String::new();
    }
    let mut bytes = Vec::new();
    while bytes.len() < ERROR_BODY
        && let Ok(Ok(Some(chunk))) = timeout(wait, response.chunk()).await
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(ERROR_BODY)]);
    }
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .collect();
    let line = words
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    let mut shown: String = line.chars().take(ERROR_SHOWN).collect();
    if shown.len() < line.len() {
        shown.push('…');
    }
    shown
}

/// Reads a short answer to its end, so that the connection can be used again.
pub(crate) async fn drain(response: Response) {
    if response
        .content_length()
        .is_some_and(|size| size <= DRAINED)
    {
        // Only the connection is at stake, and a new one can be made.
        let _ = response.bytes().await;
    }
}

/// An error of reqwest, without its URL and on one line; a refusal by the policy is found again.
fn problem(error: reqwest::Error) -> Problem {
    let error = error.without_url();
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(RefusedByPolicy(Problem::Refused {
            host,
            address,
            network,
        })) = current.downcast_ref::<RefusedByPolicy>()
        {
            let (host, network) = (host.clone(), network.clone());
            return Problem::Refused {
                host,
                address: *address,
                network,
            };
        }
        cause = current.source();
    }
    Problem::Connection(flatten(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url_map::UrlMap;

    fn target(from: &str, location: &str) -> Result<String, String> {
        let url_map = UrlMap::new([("^http://old/", "http://new/"), ("^http://f/", "file:///")]);
        let config = FetchConfig {
            url_map: url_map.unwrap(),
            ..FetchConfig::default()
        };
        let location = HeaderValue::from_bytes(location.as_bytes()).unwrap();
        redirect_target(
            &config,
            &Url::parse(from).unwrap(),
            StatusCode::FOUND,
            Some(&location),
        )
        .map(String::from)
        .map_err(|e| e.to_string())
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        for (from, location, to) in [
            ("http://a/x/y", "../z?q", "http://a/z?q"),
            ("http://me:p%40w@a/x", "/y", "http://me:p%40w@a/y"),
            ("http://me:pw@a/x", "http://a/y", "http://me:pw@a/y"),
            ("http://me:pw@a/x", "http://a:81/y", "http://a:81/y"),
            ("http://me:pw@a/x", "https://a/y", "https://a/y"),
            ("http://me:pw@a/x", "//b/y", "http://b/y"),
            ("http://me:pw@a/x", "http://you:too@b/y", "http://b/y"),
            ("http://me@a/x", "http://old/y", "http://new/y"),
        ] {
            assert_eq!(target(from, location).unwrap(), to);
        }
    }

    #[test]
    fn other_schemes_are_refused() {
        for location in [
            "file:///etc/passwd",
            "data:,x",
            "ftp://a/",
            "http://f/etc/passwd",
        ] {
            let error = target("http://a/", location).unwrap_err();
            assert!(error.contains("is refused; it must stay http"), "{error}");
        }
        assert!(
            target("http://a/", "http://[")
                .unwrap_err()
                .contains("unusable Location")
        );
    }
}
