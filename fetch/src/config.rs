//! The settings of the room, with their defaults.

use std::path::PathBuf;
use std::time::Duration;

use crate::client::Proxies;
use crate::policy::AddressPolicy;
use crate::url_map::UrlMap;

/// What a [`Fetcher`](crate::Fetcher) may open, and its limits.
#[derive(Debug, Clone)]
pub struct FetchConfig {
    /// Rewrites each URL before it is opened, and each target of a redirect. Default: empty.
    pub url_map: UrlMap,
    /// Folders below which `file://` URLs may be opened. Default: none.
    pub file_roots: Vec<PathBuf>,
    /// Which addresses may be connected to. Default: see [`AddressPolicy::default`].
    pub policy: AddressPolicy,
    /// Bytes that one download may have. Default: 1 GiB.
    pub max_size: u64,
    /// Time to resolve, connect and agree on TLS. Default: 10 s.
    pub connect_timeout: Duration,
    /// Time without a byte, before the response and within its body. Default: 30 s.
    pub read_timeout: Duration,
    /// Time for a whole download with all its redirects. Default: 30 min.
    pub total_timeout: Duration,
    /// Redirects that are followed. Default: 10.
    pub max_redirects: usize,
    /// The `User-Agent` header. Default: `runner/<version>`.
    pub user_agent: String,
    /// Proxies for http and https; loopback is always reached directly. Default: none;
    /// [`Proxies::from_env`] reads the usual variables.
    pub proxies: Proxies,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            url_map: UrlMap::default(),
            file_roots: Vec::new(),
            policy: AddressPolicy::default(),
            max_size: 1 << 30,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_secs(30 * 60),
            max_redirects: 10,
            user_agent: concat!("runner/", env!("CARGO_PKG_VERSION")).to_owned(),
            proxies: Proxies::default(),
        }
    }
}
