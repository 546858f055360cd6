//! Connections: TLS, proxies, and a resolver that keeps to the address policy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, redirect};
use rustls::ClientConfig;
use tokio::sync::OnceCell;
use url::Url;

use crate::config::FetchConfig;
use crate::error::{Problem, flatten};
use crate::policy::{AddressPolicy, is_loopback};

/// Idle connections kept for each host.
const IDLE_PER_HOST: usize = 8;

/// How long an idle connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Proxies for outgoing requests. Loopback is always reached directly.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// Proxy for http URLs, such as `http://proxy:3128`.
    pub http: Option<String>,
    /// Proxy for https URLs.
    pub https: Option<String>,
    /// Hosts, domains and networks that are reached directly, separated by commas.
    pub no_proxy: String,
}

impl Proxies {
    /// Reads `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in lower case first.
    pub fn from_env() -> Self {
        let read = |name: &str| {
            [name.to_lowercase(), name.to_owned()]
                .into_iter()
                .find_map(|name| {
                    std::env::var(name)
                        .ok()
                        .filter(|value| !value.trim().is_empty())
                })
        };
        let all = read("ALL_PROXY");
        Self {
            http: read("HTTP_PROXY").or_else(|| all.clone()),
            https: read("HTTPS_PROXY").or(all),
            no_proxy: read("NO_PROXY").unwrap_or_default(),
        }
    }

    /// What decides whether a URL goes through one of them.
    fn matcher(&self) -> Matcher {
        Matcher::builder()
            .http(self.http.clone().unwrap_or_default())
            .https(self.https.clone().unwrap_or_default())
            .no(self.no_proxy.clone())
            .build()
    }
}

/// The HTTP clients, made at the first request: reading the certificate authorities takes time
/// that a start should not.
pub(crate) struct Clients {
    config: Arc<FetchConfig>,
    matcher: Matcher,
    made: OnceCell<Made>,
}

struct Made {
    /// Connects to the target, with addresses filtered.
    direct: Client,
    /// Connects to the proxy, whose address is the operator's choice.
    proxied: Client,
    /// Why https is impossible, if it is.
    no_tls: Option<String>,
}

impl Clients {
    pub(crate) fn new(config: Arc<FetchConfig>) -> Self {
        let matcher = config.proxies.matcher();
        Self {
            config,
            matcher,
            made: OnceCell::new(),
        }
    }

    /// The client for a URL, after the address policy has been applied as far as it can be
    /// before a name is resolved.
    pub(crate) async fn for_url(&self, url: &Url) -> Result<&Client, Problem> {
        self.config.policy.check_literal(url)?;
        let made = self
            .made
            .get_or_try_init(|| make(self.config.clone()))
            .await?;
        if let (Some(reason), "https") = (&made.no_tls, url.scheme()) {
            return Err(Problem::Setup(reason.clone()));
        }
        if self.is_proxied(url) {
            self.config.policy.check_name(url)?;
            return Ok(&made.proxied);
        }
        Ok(&made.direct)
    }

    /// Whether a URL goes through a proxy.
    fn is_proxied(&self, url: &Url) -> bool {
        let uri = url.as_str().parse::<http::Uri>();
        !is_loopback(url) && uri.is_ok_and(|uri| self.matcher.intercept(&uri).is_some())
    }
}

/// Makes the clients, off the asynchronous threads.
async fn make(config: Arc<FetchConfig>) -> Result<Made, Problem> {
    let setup = |e: &(dyn std::error::Error + 'static)| Problem::Setup(flatten(e));
    tokio::task::spawn_blocking(move || {
        let (tls, no_tls) = tls().map_err(|e| setup(&e))?;
        let builder = || {
            Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .user_agent(&config.user_agent)
                .redirect(redirect::Policy::none())
                .referer(false)
                .connect_timeout(config.connect_timeout)
                .pool_max_idle_per_host(IDLE_PER_HOST)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .no_proxy()
        };
        let resolver = PolicyResolver(config.policy.clone());
        let direct = builder()
            .dns_resolver(resolver)
            .build()
            .map_err(|e| setup(&e))?;
        let mut proxied = builder();
        if let Some(proxy) = &config.proxies.http {
            proxied = proxied.proxy(reqwest::Proxy::http(proxy).map_err(|e| setup(&e))?);
        }
        if let Some(proxy) = &config.proxies.https {
            proxied = proxied.proxy(reqwest::Proxy::https(proxy).map_err(|e| setup(&e))?);
        }
        let proxied = proxied.build().map_err(|e| setup(&e))?;
        Ok(Made {
            direct,
            proxied,
            no_tls,
        })
    })
    .await
    .map_err(|e| setup(&e))?
}

/// TLS by rustls with ring and the certificate authorities of the machine, independent of any
/// default of the process. Without authorities http still works: then the reason is given.
fn tls() -> Result<(ClientConfig, Option<String>), rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    match rustls_platform_verifier::Verifier::new(provider) {
        Ok(verifier) => {
            let verifier = Arc::new(verifier);
            let builder = builder
                .dangerous()
                .with_custom_certificate_verifier(verifier);
            Ok((builder.with_no_client_auth(), None))
        }
        Err(error) => {
            let reason = format!(
                "https is not possible: {error}; install the package ca-certificates or set \
                 SSL_CERT_FILE"
            );
            tracing::warn!("{reason}");
            let builder = builder.with_root_certificates(rustls::RootCertStore::empty());
            Ok((builder.with_no_client_auth(), Some(reason)))
        }
    }
}

/// Resolves names as the system does and leaves out the addresses that the policy refuses. The
/// connection is made to what this returns, so a second answer of the name server (DNS
/// rebinding) has no effect.
struct PolicyResolver(AddressPolicy);

/// All addresses of a name are refused; found again in the causes of reqwest's error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct RefusedByPolicy(pub(crate) Problem);

impl Resolve for PolicyResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            let mut allowed: Vec<SocketAddr> = Vec::new();
            let mut refused = None;
            for address in tokio::net::lookup_host((name.as_str(), 0)).await? {
                match policy.check(name.as_str(), address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(problem) => refused = Some(problem),
                }
            }
            match refused {
                Some(problem) if allowed.is_empty() => Err(RefusedByPolicy(problem).into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(policy: AddressPolicy) -> Clients {
        let proxies = Proxies {
            http: Some("http://proxy:1".to_owned()),
            https: None,
            no_proxy: "internal.example,10.0.0.0/8".to_owned(),
        };
        Clients::new(Arc::new(FetchConfig {
            proxies,
            policy,
            ..FetchConfig::default()
        }))
    }

    #[tokio::test]
    async fn who_goes_through_a_proxy() {
        let clients = clients(AddressPolicy::default());
        for (url, proxied) in [
            ("http://example.org/", true),
            ("http://192.168.0.1/", true),
            ("https://example.org/", false),
            ("http://a.internal.example/", false),
            ("http://10.1.2.3/", false),
            ("http://localhost:1/", false),
            ("http://127.0.0.1/", false),
            ("http://[::1]/", false),
        ] {
            assert_eq!(
                clients.is_proxied(&Url::parse(url).unwrap()),
                proxied,
                "{url}"
            );
        }
    }

    #[tokio::test]
    async fn behind_a_proxy_names_and_literals_are_refused() {
        let strict = clients(AddressPolicy::default());
        for url in [
            "http://metadata.google.internal/",
            "http://metadata./",
            "http://169.254.1.1/",
        ] {
            assert!(
                strict.for_url(&Url::parse(url).unwrap()).await.is_err(),
                "{url}"
            );
        }
        assert!(
            strict
                .for_url(&Url::parse("http://example.org").unwrap())
                .await
                .is_ok()
        );
        let open = clients(AddressPolicy {
            refused: Vec::new(),
            ..AddressPolicy::default()
        });
        assert!(
            open.for_url(&Url::parse("http://metadata/").unwrap())
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn refused_addresses_are_left_out_when_resolving() {
        let refused = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let resolver = PolicyResolver(AddressPolicy {
            refused,
            ..AddressPolicy::default()
        });
        let error = resolver
            .resolve("localhost".parse().unwrap())
            .await
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("of host localhost is refused"),
            "{error}"
        );
    }
}
