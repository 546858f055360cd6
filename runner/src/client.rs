//! Talks with a runner that serves: the HTTP side of `runner task` and of `runner plugin … --url`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use reqwest::{Client, Method, Response, StatusCode};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use url::Url;

use crate::instance::Holder;
use crate::screen::line;
use crate::settings::sources::Sources;
use crate::settings::{Flags, Settings};

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Time between two bytes; streams of events send a comment every 15 s.
const SILENCE: Duration = Duration::from_secs(75);
/// Bytes of the largest answer: a log of 10 MiB, as JSON.
const MAX_ANSWER: usize = 128 * 1024 * 1024;

/// Which runner is asked.
#[derive(Debug, Args)]
pub(crate) struct At {
    /// The runner to ask [RUNNER_URL, default the one that works in the instance folder, else the port of
    /// `runner up`]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

impl At {
    /// The URL that was given, as a flag or as a setting.
    pub(crate) fn given(&self) -> anyhow::Result<Option<String>> {
        let sources = Sources::read(Flags::new())?;
        let set = || sources.get("RUNNER_URL").filter(|url| !url.is_empty());
        Ok(self.url.clone().or_else(set))
    }

    /// The runner that was given, else the usual one.
    pub(crate) fn server(&self) -> anyhow::Result<Server> {
        if let Some(url) = self.given()? {
            return Server::new(&url);
        }
        let settings = Settings::read(&Sources::read(Flags::new())?)?;
        let holder = Holder::of(&settings.instance).and_then(|holder| holder.url);
        let usual = || {
            let address = std::net::SocketAddr::new(settings.host, settings.port);
            crate::instance::base_url(&address)
        };
        Server::new(&holder.unwrap_or_else(usual))
    }
}

/// A runner that serves.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Its root, with a slash at the end.
    base: Url,
    client: Client,
    /// What it is shown, if anything.
    token: Option<String>,
}

impl Server {
    /// Does not connect yet.
    pub(crate) fn new(url: &str) -> anyhow::Result<Self> {
        let problem = || {
            format!(
                "the URL of the runner, {url:?}, is not usable; expected one such as http://127.0.0.1:5005"
            )
        };
        let mut base = Url::parse(url).with_context(problem)?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            bail!(problem());
        }
        base.set_query(None);
        base.set_fragment(None);
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let client = client(&base).context("cannot make an HTTP client")?;
        Ok(Self {
            base,
            client,
            token: None,
        })
    }

    /// Shows this token with every request.
    pub(crate) fn with_token(self, token: Option<String>) -> Self {
        Self { token, ..self }
    }

    /// `GET` of a path without a slash at its beginning, or of a whole URL.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.document(Method::GET, path).await
    }

    /// `POST` without a body.
    pub(crate) async fn post(&self, path: &str) -> anyhow::Result<Value> {
        self.document(Method::POST, path).await
    }

    /// `DELETE`.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let response = self.send(Method::DELETE, path, None).await?;
        self.accepted(response).await.map(drop)
    }

    /// The events of a task, from those on that this id names.
    pub(crate) async fn events(&self, task: i64, last: Option<&str>) -> anyhow::Result<Response> {
        let response = self
            .send(Method::GET, &format!("tasks/{task}/events"), last)
            .await?;
        self.accepted(response).await
    }

    async fn document(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        let response = self.send(method, path, None).await?;
        let body = self.body(self.accepted(response).await?).await?;
        serde_json::from_slice(&body).with_context(|| {
            format!(
                "what answers at {} is no runner: its answer is no JSON",
                self.base
            )
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        last: Option<&str>,
    ) -> anyhow::Result<Response> {
        let url = self.base.join(path).context("the address is not usable")?;
        let mut request = self
            .client
            .request(method, url)
            .header("accept", "application/json, text/event-stream");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        request
            .send()
            .await
            .map_err(|error| self.unreachable(error))
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        let error = error.without_url();
        // The innermost cause says most.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let reason = cause.to_string();
        anyhow!(
            "cannot reach a runner at {}: {reason} (start one with `runner up`, or name another with --url)",
            self.base
        )
    }

    /// The response, unless it is an error; then what it says.
    async fn accepted(&self, response: Response) -> anyhow::Result<Response> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.body(response).await.unwrap_or_default();
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        Err(Refusal {
            status,
            answer,
            base: self.base.to_string(),
        }
        .into())
    }

    async fn body(&self, mut response: Response) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        let broken = |error: reqwest::Error| {
            anyhow!(
                "the answer of {} broke off: {}",
                self.base,
                error.without_url()
            )
        };
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                bail!(
                    "the answer of {} is larger than {MAX_ANSWER} bytes",
                    self.base
                );
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    answer: Value,
    base: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = self.status;
        let message = self.answer.get("message").and_then(Value::as_str);
        match (message, self.answer.get("errors")) {
            (Some(message), _) => f.write_str(&line(message))?,
            (None, Some(errors)) => write!(f, "the request was refused: {errors}")?,
            (None, None) => return write!(f, "{} answered {status}; is it a runner?", self.base),
        }
        write!(f, " ({} answered {})", self.base, status.as_u16())
    }
}

impl std::error::Error for Refusal {}

/// Proxies of the environment are used, but never for this machine.
fn client(base: &Url) -> anyhow::Result<Client> {
    let is_local = match base.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let mut builder = Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE);
    if is_local {
        builder = builder.no_proxy();
    }
    let provider = rustls::crypto::ring::default_provider();
    if base.scheme() == "http" {
        // Without the certificate authorities of the machine: there may be none.
        let tls = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        builder = builder.tls_backend_preconfigured(tls);
    } else {
        // It may have been installed before.
        let _ = provider.install_default();
    }
    Ok(builder.build()?)
}
