//! The door of the room.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderMap};
use runner_core::file::OCTET_STREAM;
use tokio::time::timeout;
use url::Url;

use crate::client::Clients;
use crate::config::FetchConfig;
use crate::data_url::{DataUrl, is_data_url};
use crate::error::{FetchError, Problem};
use crate::name::file_name;
use crate::target::Target;
use crate::{file_url, web};

/// Opens URLs for the runner. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct Fetcher {
    config: Arc<FetchConfig>,
    clients: Arc<Clients>,
}

/// What was downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// The URL as asked for.
    pub url: String,
    /// The URL that answered, after the map and redirects; of a `data:` URL what was asked for.
    /// It may hold credentials: show it with [`redact`](crate::redact()).
    pub final_url: String,
    /// The file that was written.
    pub path: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// A plain file name, never empty: from `Content-Disposition`, else the URL.
    pub name: String,
    /// The media type as it was given, with its parameters.
    pub content_type: String,
    /// The header `X-Data-Type`.
    pub data_type: Option<String>,
    /// The header `X-Attribute-Metadata`.
    pub attribute_metadata: Option<String>,
}

/// What is known of a download besides its bytes.
struct Described {
    name: String,
    content_type: String,
    data_type: Option<String>,
    attribute_metadata: Option<String>,
}

impl Fetcher {
    /// Makes a fetcher. The HTTP clients are made at the first request; wrong proxies are
    /// reported here.
    pub fn new(config: FetchConfig) -> Result<Self, FetchError> {
        for proxy in [&config.proxies.http, &config.proxies.https]
            .into_iter()
            .flatten()
        {
            reqwest::Proxy::all(proxy).map_err(|e| {
                let problem = Problem::Setup(crate::error::flatten(&e.without_url()));
                FetchError::new("cannot use proxy", proxy, None, problem)
            })?;
        }
        let config = Arc::new(config);
        Ok(Self {
            clients: Arc::new(Clients::new(config.clone())),
            config,
        })
    }

    /// Streams the URL into `target`, which is created new, and removed again on failure or when
    /// the future is dropped.
    pub async fn download(&self, url: &str, target: &Path) -> Result<Download, FetchError> {
        let mut at = self.config.url_map.apply(url);
        let limit = self.config.total_timeout;
        let result = timeout(limit, self.download_to(&mut at, target)).await;
        let result = result.unwrap_or(Err(Problem::Timeout {
            what: "the whole download",
            after: limit,
        }));
        match result {
            Ok((size, described)) => Ok(Download {
                url: url.to_owned(),
                final_url: at,
                path: target.to_owned(),
                size,
                name: described.name,
                content_type: described.content_type,
                data_type: described.data_type,
                attribute_metadata: described.attribute_metadata,
            }),
            Err(problem) => Err(FetchError::new("cannot fetch", url, Some(&at), problem)),
        }
    }

    /// Reads what stands behind an `http` or `https` URL into memory: at most so many bytes, within this time.
    pub async fn read(
        &self,
        url: &str,
        max_size: usize,
        limit: Duration,
    ) -> Result<Vec<u8>, FetchError> {
        let mut at = self.config.url_map.apply(url);
        let result = timeout(limit, async {
            let mut parsed = parse_web(&at)?;
            let sent = web::send(&self.clients, &self.config, Method::GET, &mut parsed).await;
            at = parsed.into();
            web::collect(sent?, &self.config, max_size).await
        })
        .await
        .unwrap_or(Err(Problem::Timeout {
            what: "the whole answer",
            after: limit,
        }));
        result.map_err(|problem| FetchError::new("cannot fetch", url, Some(&at), problem))
    }

    /// Sends one POST with an empty body, a webhook, and gives the status of the answer, whatever
    /// it is. Redirects 307 and 308 are followed with a POST; 301, 302 and 303 are given back:
    /// the receiver has had the request. `timeout` is for all of it; webhooks have 1 s.
    pub async fn post(&self, url: &str, timeout: Duration) -> Result<u16, FetchError> {
        let mut at = self.config.url_map.apply(url);
        let result = tokio::time::timeout(timeout, async {
            let mut parsed = parse_web(&at)?;
            let sent = web::send(&self.clients, &self.config, Method::POST, &mut parsed).await;
            at = parsed.into();
            sent
        })
        .await
        .unwrap_or(Err(Problem::Timeout {
            what: "the answer",
            after: timeout,
        }));
        match result {
            Ok(response) => {
                let status = response.status().as_u16();
                // Bounded by the same time; the answer is there, so running out is no failure.
                let _ = tokio::time::timeout(timeout, web::drain(response)).await;
                Ok(status)
            }
            Err(problem) => Err(FetchError::new("cannot post to", url, Some(&at), problem)),
        }
    }

    /// Writes what stands behind the URL `at` into a new file, and leaves in `at` where it was.
    async fn download_to(&self, at: &mut String, path: &Path) -> Result<(u64, Described), Problem> {
        if is_data_url(at) {
            let data = DataUrl::parse(at).map_err(Problem::DataUrl)?;
            let mut target = Target::create(path, self.config.max_size).await?;
            target.announce(data.bytes.len() as u64)?;
            target.write(&data.bytes).await?;
            let name = file_name(None, None, &data.content_type);
            return Ok((
                target.finish().await?,
                Described::plain(name, data.content_type),
            ));
        }
        let mut url = parse(at)?;
        match url.scheme() {
            "http" | "https" => {
                let sent = web::send(&self.clients, &self.config, Method::GET, &mut url).await;
                *at = url.to_string();
                let response = sent?;
                let described = Described::of_response(response.headers(), &url);
                let mut target = Target::create(path, self.config.max_size).await?;
                web::receive(response, &self.config, &mut target).await?;
                Ok((target.finish().await?, described))
            }
            "file" => {
                let mut target = Target::create(path, self.config.max_size).await?;
                let real = file_url::copy(&url, &self.config.file_roots, &mut target).await?;
                let content_type = file_url::content_type(&real).to_owned();
                let name = file_name(None, Some(&url), &content_type);
                Ok((target.finish().await?, Described::plain(name, content_type)))
            }
            scheme => Err(Problem::Scheme(scheme.to_owned())),
        }
    }
}

impl Described {
    /// What carries no headers.
    fn plain(name: String, content_type: String) -> Self {
        Self {
            name,
            content_type,
            data_type: None,
            attribute_metadata: None,
        }
    }

    /// What the headers say.
    fn of_response(headers: &HeaderMap, url: &Url) -> Self {
        let text = |name: &str| {
            let value = headers.get(name)?.as_bytes();
            let value = String::from_utf8_lossy(value).trim().to_owned();
            Some(value).filter(|value| !value.is_empty())
        };
        let content_type = text(CONTENT_TYPE.as_str()).unwrap_or_else(|| OCTET_STREAM.to_owned());
        let disposition = headers
            .get(CONTENT_DISPOSITION)
            .map(|value| value.as_bytes());
        Self {
            name: file_name(disposition, Some(url), &content_type),
            content_type,
            data_type: text("x-data-type"),
            attribute_metadata: text("x-attribute-metadata"),
        }
    }
}

/// Parses a URL that must be http or https.
fn parse_web(url: &str) -> Result<Url, Problem> {
    let parsed = parse(url)?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed),
        scheme => Err(Problem::Scheme(scheme.to_owned())),
    }
}

/// Parses a URL, with a hint for what is most often wrong.
fn parse(url: &str) -> Result<Url, Problem> {
    Url::parse(url).map_err(|e| match e {
        url::ParseError::RelativeUrlWithoutBase => {
            Problem::InvalidUrl("it must begin with a scheme such as http://".to_owned())
        }
        e => Problem::InvalidUrl(e.to_string()),
    })
}
