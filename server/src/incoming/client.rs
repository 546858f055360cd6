//! Whom a request comes from.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderMap;

/// The address of the client: of the connection, or as the outermost proxy that is believed saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

impl ClientAddress {
    /// The address behind so many proxies.
    pub(crate) fn of(request: &Request, proxies: usize) -> Option<Self> {
        let told = forwarded(request.headers(), "x-forwarded-for", proxies);
        if let Some(address) = told.and_then(address) {
            return Some(Self(address));
        }
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
        Some(Self(peer.0.ip().to_canonical()))
    }
}

/// An address as proxies write it: with a port or without, in brackets or not.
fn address(text: &str) -> Option<IpAddr> {
    let socket = text.parse::<SocketAddr>().map(|address| address.ip());
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    socket
        .or_else(|_| bare.parse())
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

/// The value that the outermost trusted proxy added.
pub(crate) fn forwarded<'a>(headers: &'a HeaderMap, name: &str, proxies: usize) -> Option<&'a str> {
    if proxies == 0 {
        return None;
    }
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let values: Vec<&str> = values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let first = values.len().saturating_sub(proxies);
    values.get(first).copied().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn client(chain: &str, proxies: usize) -> Option<String> {
        let mut request = Request::builder()
            .header("x-forwarded-for", chain)
            .body(Body::empty())
            .unwrap();
        let peer: SocketAddr = "[::ffff:10.0.0.9]:1".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        ClientAddress::of(&request, proxies).map(|client| client.0.to_string())
    }

    #[test]
    fn the_client_is_whom_the_outermost_known_proxy_saw() {
        for (chain, proxies, expected) in [
            ("6.6.6.6", 0, "10.0.0.9"),
            ("6.6.6.6, 1.2.3.4", 1, "1.2.3.4"),
            ("6.6.6.6, 1.2.3.4, 10.0.0.8", 2, "1.2.3.4"),
            ("1.2.3.4", 2, "1.2.3.4"),
            ("1.2.3.4:567", 1, "1.2.3.4"),
            ("[fd00::1]:567", 1, "fd00::1"),
            ("fd00::1", 1, "fd00::1"),
            ("unknown", 1, "10.0.0.9"),
            ("", 1, "10.0.0.9"),
        ] {
            assert_eq!(client(chain, proxies).as_deref(), Some(expected), "{chain}");
        }
    }
}
