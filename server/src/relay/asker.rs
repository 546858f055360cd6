//! Who asks, in a header that only links carry: a server has checked it, and the worker believes the server. What a
//! client sends under that name goes no further.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::{Relay, Worker};
use crate::access::Access;
use crate::auth::Caller;
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::incoming::client::ClientAddress;
use crate::routes::sessions::Who;

/// The header.
const ASKER: HeaderName = HeaderName::from_static("x-runner-asker");

/// Who asks, and what of the request is known only where it came in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Asker {
    caller: Option<Known>,
    address: Option<IpAddr>,
    origin: String,
    prefix: String,
    elsewhere: Elsewhere,
    /// Where a page asks for kernels.
    page: Option<OfPage>,
    /// Where a server opens a connection for a page.
    held: Option<Held>,
}

/// With whom a kernel of a page is counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct OfPage {
    pub(crate) client: String,
    /// The page, as it calls itself.
    pub(crate) page: Option<String>,
}

/// A connection to a kernel that a server holds for a page: it says what the page has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Held {
    /// How the client calls itself; by it, it goes on where it left.
    pub(crate) name: String,
    /// Where it goes on instead.
    pub(crate) offset: Option<u64>,
}

/// Who a token or its absence says it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    subject: Option<String>,
    access: Access,
    is_known: bool,
}

/// How many sessions whoever asks has at other workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Elsewhere {
    /// The client.
    pub(crate) client: usize,
    /// The page.
    pub(crate) page: usize,
}

impl Asker {
    /// A page, by way of this server itself.
    pub(crate) fn of_page(page: OfPage) -> Self {
        Self {
            caller: None,
            address: None,
            // Its answer is for this server.
            origin: "http://localhost".to_owned(),
            prefix: String::new(),
            elsewhere: Elsewhere::default(),
            page: Some(page),
            held: None,
        }
    }

    /// The same, for a connection that this server holds.
    pub(crate) fn holding(self, held: Held) -> Self {
        Self {
            held: Some(held),
            ..self
        }
    }

    /// Of these.
    fn new(caller: Option<&Caller>, address: Option<ClientAddress>, base: &BaseUrl) -> Self {
        let (origin, prefix) = base.parts();
        Self {
            caller: caller.map(|caller| Known {
                subject: caller.subject.as_deref().map(str::to_owned),
                access: caller.access,
                is_known: caller.is_known,
            }),
            address: address.map(|address| address.0),
            origin: origin.to_owned(),
            prefix: prefix.to_owned(),
            elsewhere: Elsewhere::default(),
            page: None,
            held: None,
        }
    }

    /// Of a request that passed the checks.
    pub(super) fn of(request: &Request) -> Result<Self, ApiError> {
        let extensions = request.extensions();
        let base = extensions.get::<BaseUrl>().ok_or_else(ApiError::internal)?;
        let address = extensions.get::<ClientAddress>().copied();
        Ok(Self::new(extensions.get::<Caller>(), address, base))
    }

    /// For a worker that may begin a session: it is to know of those that the client has at the others.
    pub(super) fn at(&self, worker: &str, all: &[Worker]) -> Self {
        let caller = self.caller.as_ref();
        let subject = caller.and_then(|caller| caller.subject.as_deref());
        let client = match &self.page {
            Some(page) => page.client.clone(),
            None => Who::client(subject, self.address),
        };
        let page = self.page.as_ref().and_then(|page| page.page.as_ref());
        let mut elsewhere = Elsewhere::default();
        for other in all.iter().filter(|other| other.process != worker) {
            let of_page = page.and_then(|page| other.offer.pages.get(page));
            elsewhere.page += of_page.copied().unwrap_or_default();
            elsewhere.client += other
                .offer
                .clients
                .get(&client)
                .copied()
                .unwrap_or_default();
        }
        Self {
            elsewhere,
            ..self.clone()
        }
    }

    /// Puts it into the head of a request, in place of what a client sent.
    pub(crate) fn put(&self, headers: &mut HeaderMap) -> Result<(), ApiError> {
        let text = serde_json::to_string(self).map_err(|_| ApiError::internal())?;
        let text = utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string();
        let value = HeaderValue::try_from(text).map_err(|_| ApiError::internal())?;
        headers.insert(ASKER, value);
        Ok(())
    }

    fn taken(headers: &mut HeaderMap) -> Option<Self> {
        let value = headers.remove(ASKER)?;
        let text: Vec<u8> = percent_decode(value.as_bytes()).collect();
        serde_json::from_slice(&text).ok()
    }
}

impl Relay {
    /// Takes what the server says of whoever asks, for the handlers.
    pub(super) async fn introduce(mut request: Request, next: Next) -> Result<Response, ApiError> {
        let asker = Asker::taken(request.headers_mut());
        let asker = asker.ok_or_else(|| ApiError::bad_request("It does not say who asks."))?;
        let extensions = request.extensions_mut();
        extensions.insert(BaseUrl::new(asker.origin, asker.prefix));
        extensions.insert(asker.elsewhere);
        if let Some(page) = asker.page {
            extensions.insert(page);
        }
        if let Some(held) = asker.held {
            extensions.insert(held);
        }
        if let Some(address) = asker.address {
            extensions.insert(ClientAddress(address));
        }
        if let Some(known) = asker.caller {
            extensions.insert(Caller {
                subject: known.subject.map(Into::into),
                access: known.access,
                is_known: known.is_known,
            });
        }
        Ok(next.run(request).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_reaches_the_worker_whatever_the_name() {
        let caller = Caller {
            subject: Some("Ädä \u{7f}\n\"%".into()),
            access: Access::User,
            is_known: true,
        };
        let base = BaseUrl::below("/jupyter");
        let address = ClientAddress("::1".parse().unwrap());
        let asker = Asker::new(Some(&caller), Some(address), &base);
        let mut headers = HeaderMap::new();
        // What a client claims.
        headers.append(ASKER, HeaderValue::from_static("%7B%7D"));
        headers.append(ASKER, HeaderValue::from_static("x"));
        asker.put(&mut headers).unwrap();
        let taken = Asker::taken(&mut headers).unwrap();
        assert!(headers.is_empty());
        let known = taken.caller.unwrap();
        assert_eq!(known.subject.as_deref(), caller.subject.as_deref());
        assert_eq!(
            (known.access, taken.address),
            (Access::User, Some(address.0))
        );
        assert_eq!(taken.prefix, "/jupyter");
    }

    #[test]
    fn sessions_at_other_workers_count() {
        let worker = |process: &str, count| Worker {
            process: process.to_owned(),
            offer: crate::relay::Offer {
                clients: [("127.0.0.1".to_owned(), count), ("a/64".to_owned(), 1)].into(),
                pages: [("page".to_owned(), count)].into(),
                ..Default::default()
            },
        };
        let all = [worker("a", 2), worker("b", 3), worker("c", 4)];
        let address = ClientAddress("127.0.0.1".parse().unwrap());
        let asker = Asker::new(None, Some(address), &BaseUrl::below(""));
        assert_eq!(
            asker.at("b", &all).elsewhere,
            Elsewhere { client: 6, page: 0 }
        );
        let asker = Asker::of_page(OfPage {
            client: "a/64".to_owned(),
            page: Some("page".to_owned()),
        });
        assert_eq!(
            asker.at("b", &all).elsewhere,
            Elsewhere { client: 2, page: 6 }
        );
    }
}
