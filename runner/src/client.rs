//! Talks with a runner that serves: the HTTP side of `runner task` and of `runner plugin … --url`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use reqwest::header::HeaderValue;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
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

/// Which runner is asked for a list, and how that is printed.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    #[command(flatten)]
    pub(crate) at: At,
    /// Prints a JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
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
        let sources = Sources::read(Flags::new())?;
        let token = sources
            .get("RUNNER_TOKEN")
            .filter(|token| !token.is_empty());
        let given = self.given()?;
        let folder = PathBuf::from(sources.text("RUNNER_INSTANCE_FOLDER"));
        let own = Holder::of(&folder).and_then(|holder| holder.url);
        let url = match (given, &own) {
            (Some(url), _) => url,
            (None, Some(own)) => own.clone(),
            (None, None) => {
                let settings = Settings::read(&sources)?;
                let address = std::net::SocketAddr::new(settings.host, settings.port);
                crate::instance::base_url(&address)
            }
        };
        let server = Server::new(&url)?;
        // The token of the folder is for the runner that works in it, and for no other.
        let is_own = own.is_some_and(|own| server.is_at(&own));
        let of_folder = || {
            let read = std::fs::read_to_string(folder.join("token"));
            read.ok().filter(|_| is_own)
        };
        server.with_token(token.or_else(of_folder).as_deref())
    }
}

/// A runner that serves.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Its root, with a slash at the end.
    base: Url,
    client: Client,
    /// What is shown to it.
    authorization: Option<HeaderValue>,
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
            authorization: None,
        })
    }

    /// The runner that works in an instance folder, with the token there.
    pub(crate) fn own(url: &str, instance: &std::path::Path) -> anyhow::Result<Self> {
        let token = std::fs::read_to_string(instance.join("token")).ok();
        Self::new(url)?.with_token(token.as_deref())
    }

    /// Shows this token with every request.
    fn with_token(mut self, token: Option<&str>) -> anyhow::Result<Self> {
        if let Some(token) = token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
            let mut value =
                value.context("RUNNER_TOKEN is no token: it has characters that none has")?;
            value.set_sensitive(true);
            self.authorization = Some(value);
        }
        Ok(self)
    }

    /// Whether a URL leads to the same host and port.
    fn is_at(&self, url: &str) -> bool {
        Url::parse(url).is_ok_and(|url| url.origin() == self.base.origin())
    }

    /// `GET` of a path without a slash at its beginning, or of a whole URL.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.document(Method::GET, path).await
    }

    /// `POST` without a body.
    pub(crate) async fn post(&self, path: &str) -> anyhow::Result<Value> {
        self.document(Method::POST, path).await
    }

    /// `POST` without a body, and where it leads; the redirect is followed, since what is there says whether it went
    /// well.
    pub(crate) async fn post_for_location(&self, path: &str) -> anyhow::Result<Option<String>> {
        let response = self.send(Method::POST, path, None).await?;
        let is_elsewhere = !response.url().path().ends_with(path);
        let location = response.url().path().to_owned();
        self.accepted(response).await?;
        Ok(is_elsewhere.then_some(location))
    }

    /// A request with a JSON body.
    pub(crate) async fn send_json(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let request = self.request(method, path)?;
        let request = request
            .header("content-type", "application/json")
            .body(body.to_string());
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        self.read(response).await
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

    /// `GET` of a stream of events.
    pub(crate) async fn stream(&self, path: &str) -> anyhow::Result<Response> {
        let response = self.send(Method::GET, path, None).await?;
        self.accepted(response).await
    }

    /// A request without a body.
    pub(crate) async fn document(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        let response = self.send(method, path, None).await?;
        self.read(response).await
    }

    async fn read(&self, response: Response) -> anyhow::Result<Value> {
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
        let mut request = self.request(method, path)?;
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        request
            .send()
            .await
            .map_err(|error| self.unreachable(error))
    }

    fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        let url = self.base.join(path).context("the address is not usable")?;
        let request = self
            .client
            .request(method, url.clone())
            .header("accept", "application/json, text/event-stream");
        // What an answer links to may be elsewhere.
        let is_here = self.is_at(url.as_str());
        let authorization = self.authorization.as_ref().filter(|_| is_here);
        Ok(match authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        })
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
        write!(f, " ({} answered {})", self.base, status.as_u16())?;
        match status {
            StatusCode::UNAUTHORIZED => f.write_str("; commands show the token in RUNNER_TOKEN"),
            _ => Ok(()),
        }
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
