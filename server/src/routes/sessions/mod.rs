//! Sessions: kernels of clients, with the routes of Jupyter's servers. Each is seen by whom it belongs to, and by
//! administrators.

pub(crate) mod channels;
pub(crate) mod files;
pub(crate) mod kernels;
pub(crate) mod notebooks;
pub(crate) mod outputs;
pub(crate) mod uploads;
pub(crate) mod zip;

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use runner_session::{KERNELSPEC, Kernelspec, Session, SessionError, Sessions, Wish};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Segment;
use crate::access::Access;
use crate::app::App;
use crate::auth::Caller;
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::incoming::client::ClientAddress;
use crate::relay::asker::Elsewhere;

/// `GET /api`: that this is a server of Jupyter's kind.
pub(crate) async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION")}))
}

/// `GET /api/kernelspecs`: which kernels there may be.
pub(crate) async fn specs(State(app): State<App>, base: BaseUrl) -> Result<Json<Value>, ApiError> {
    let sessions = sessions(&app)?;
    let all = sessions.kernelspecs().iter();
    let all: Map<String, Value> = all
        .map(|spec| (spec.name.clone(), spec_view(sessions, spec, &base)))
        .collect();
    Ok(Json(json!({"default": KERNELSPEC, "kernelspecs": all})))
}

/// `GET /api/kernelspecs/<name>`: one of them.
pub(crate) async fn spec(
    State(app): State<App>,
    base: BaseUrl,
    Segment(name): Segment,
) -> Result<Json<Value>, ApiError> {
    let sessions = sessions(&app)?;
    let spec = sessions.kernelspecs().get(Some(&name))?;
    Ok(Json(spec_view(sessions, spec, &base)))
}

/// `GET /api/kernelspecs/<name>/<file>`: a picture of one of them.
pub(crate) async fn resource(
    State(app): State<App>,
    Path((name, file)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let spec = sessions(&app)?.kernelspecs().get(Some(&name))?.clone();
    let found = tokio::task::spawn_blocking(move || spec.resource(&file)).await;
    let (media, content) = found.ok().flatten().ok_or_else(ApiError::file_not_found)?;
    let headers = [
        (CONTENT_TYPE, media),
        // Whoever made it is no author of this page.
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        ),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, content).into_response())
}

fn spec_view(sessions: &Sessions, spec: &Kernelspec, base: &BaseUrl) -> Value {
    let mut metadata = spec.metadata.clone();
    metadata.insert("confinement".to_owned(), json!(sessions.confinement()));
    let resources: Map<String, Value> = spec
        .resources()
        .into_iter()
        .map(|file| {
            let path = base.path(&format!("/api/kernelspecs/{}/{file}", spec.name));
            let key = file.rsplit_once('.').map_or(&*file, |(stem, _)| stem);
            (key.to_owned(), path.into())
        })
        .collect();
    json!({
        "name": spec.name,
        "spec": {
            "argv": spec.argv,
            "env": spec.env,
            "display_name": spec.display_name,
            "language": spec.language,
            "interrupt_mode": spec.interrupt_mode,
            "metadata": metadata,
        },
        "resources": resources,
    })
}

/// The sessions of this process.
fn sessions(app: &App) -> Result<&Sessions, ApiError> {
    app.0.sessions.as_ref().ok_or_else(|| {
        ApiError::with(
            StatusCode::NOT_IMPLEMENTED,
            "There are no sessions here: SESSIONS is off.",
        )
    })
}

/// Who asks for a session.
pub(crate) struct Who {
    caller: Caller,
    address: Option<ClientAddress>,
    base: Option<BaseUrl>,
    /// How many sessions the client has at other workers.
    elsewhere: usize,
}

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        // Its routes are guarded.
        let caller = parts.extensions.get::<Caller>().cloned();
        Ok(Self {
            caller: caller.ok_or_else(|| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR))?,
            address: parts.extensions.get::<ClientAddress>().copied(),
            base: parts.extensions.get::<BaseUrl>().cloned(),
            elsewhere: parts
                .extensions
                .get::<Elsewhere>()
                .map_or(0, |elsewhere| elsewhere.client),
        })
    }
}

impl Who {
    /// Whether a session is to be seen.
    fn may_see(&self, session: &Session) -> bool {
        let is_own = || match (session.owner(), &self.caller.subject) {
            (Some(owner), Some(subject)) => *owner == **subject,
            _ => false,
        };
        self.caller.access == Access::Admin || is_own()
    }

    /// The session of this id, if it is to be seen.
    fn session(&self, sessions: &Sessions, id: &str) -> Result<Arc<Session>, ApiError> {
        let known = id_of(id)?;
        let session = sessions.get(known).filter(|session| self.may_see(session));
        let session = session.ok_or(SessionError::Unknown(known))?;
        session.set_base_url(&self.base_url());
        Ok(session)
    }

    /// The URL by which the client knows the runner.
    fn base_url(&self) -> String {
        self.base
            .as_ref()
            .map_or_else(String::new, |base| base.url(""))
    }

    /// A wish of a session, for whoever asks.
    fn wish(&self) -> Wish {
        let subject = self.caller.subject.clone();
        Wish {
            client: Self::client(subject.as_deref(), self.address.map(|address| address.0)),
            owner: subject,
            base_url: self.base_url(),
            elsewhere: self.elsewhere,
            ..Wish::default()
        }
    }

    /// With whom the sessions of somebody are counted.
    pub(crate) fn client(subject: Option<&str>, address: Option<IpAddr>) -> String {
        match (subject, address) {
            (Some(subject), _) => format!("user {subject}"),
            (None, Some(address)) => address.to_string(),
            (None, None) => String::new(),
        }
    }

    /// The session of this id, if it is to be seen; one that nobody knows begins.
    pub(crate) fn open(&self, app: &App, id: Uuid) -> Result<Arc<Session>, ApiError> {
        let session = sessions(app)?.open(id, self.wish())?;
        match self.may_see(&session) {
            true => Ok(session),
            false => Err(SessionError::Unknown(id).into()),
        }
    }
}

/// What is no id names nothing.
pub(crate) fn id_of(text: &str) -> Result<Uuid, ApiError> {
    Uuid::try_parse(text).map_err(|_| {
        let shown: String = text.chars().take(60).collect();
        ApiError::jupyter_not_found(format!("Kernel does not exist: {shown}"))
    })
}

/// Does what waits for the disk.
pub(crate) async fn on_disk<T: Send + 'static>(
    what: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(what).await;
    let done = done.map_err(|_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR))?;
    done.map_err(|error| on_file(&error))
}

/// What is wrong with a file of a session.
fn on_file(error: &std::io::Error) -> ApiError {
    match error.kind() {
        ErrorKind::NotFound => ApiError::file_not_found(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            ApiError::with(StatusCode::INSUFFICIENT_STORAGE, error.to_string())
        }
        _ => ApiError::bad_request(format!(
            "It is no file in the folder of the session: {error}"
        )),
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        let message = error.to_string();
        match error {
            SessionError::Unknown(_) | SessionError::NoSpec { .. } | SessionError::Ended => {
                Self::jupyter_not_found(message)
            }
            SessionError::BrokenSpec { .. } => {
                Self::with(StatusCode::INTERNAL_SERVER_ERROR, message)
            }
            SessionError::Full(_) | SessionError::Start(_) => Self::busy(&message),
            SessionError::GroupFull(_) => Self::with(StatusCode::TOO_MANY_REQUESTS, message),
            SessionError::NoFiles => Self::with(StatusCode::CONFLICT, message),
            SessionError::Invalid(_) => Self::bad_request(message),
            SessionError::File { .. } => {
                tracing::error!("a session failed: {message}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}
