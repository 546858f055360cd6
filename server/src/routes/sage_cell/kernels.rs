//! All that Sage Cell's routes do with kernels, wherever these are: in this process, or at workers. Then the handlers of
//! workers do it, which are the same.

use std::time::Duration;

use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use runner_session::{
    Frame, Framing, Json as Content, Limits, Message, Once, Ran, Record, SessionError,
    SessionFiles, Wish,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::line::{Line, Place, Unreached, remote};
use crate::body::read_all;
use crate::error::ApiError;
use crate::relay::Going;
use crate::relay::asker::{Asker, Elsewhere, OfPage};
use crate::sage_cell::{Kernels, LONGEST_WAIT, SageCell};

/// Bytes of a message of a client.
pub(super) const MAX_MESSAGE: usize = 4 << 20;
/// What is taken of a client's message.
const FROM_CLIENT: Limits = Limits {
    frame: MAX_MESSAGE,
    buffers: 0,
};
/// Bytes of what a worker says of a new kernel.
const MAX_ANSWER: u64 = 64 << 10;

/// What is wanted of a new kernel.
pub(super) struct Wanted {
    /// With whom it is counted.
    pub(super) client: String,
    /// How many kernels whoever asks has at other workers.
    pub(super) elsewhere: Elsewhere,
    /// The page that wants it, as it calls itself.
    pub(super) page: Option<String>,
    /// The name of its kernelspec, if it is not the default one.
    pub(super) spec: Option<String>,
    /// How long it may be idle; as long as any may where nothing is said.
    pub(super) idle: Option<Duration>,
}

/// What became of a new kernel.
pub(super) enum Made {
    /// It has this id.
    Kernel(Uuid),
    /// There is none, and whoever asks is told this.
    Refused(Response),
}

/// What became of a single cell.
pub(super) enum Answered {
    /// It ran here.
    Ran(Ran),
    /// A worker gave this answer.
    There(Response),
}

/// What a worker says of a new kernel.
#[derive(Deserialize)]
struct Begun {
    id: String,
}

/// Makes a kernel.
pub(super) async fn make(face: &SageCell, wanted: Wanted) -> Made {
    let cells = match face.kernels() {
        Kernels::Here(cells) => cells,
        Kernels::There(_) => {
            let made = make_there(face, wanted).await;
            return made.unwrap_or_else(|error| Made::Refused(error.into_response()));
        }
    };
    let wish = Wish {
        client: wanted.client,
        group: wanted.page,
        spec: wanted.spec,
        idle: wanted.idle,
        elsewhere: wanted.elsewhere.client,
        group_elsewhere: wanted.elsewhere.page,
        ..Wish::default()
    };
    match cells.create(wish).await {
        Ok(session) => Made::Kernel(session.id()),
        Err(SessionError::GroupFull(message)) => {
            let body = json!({"error": "too_many_kernels_for_cell_session", "message": message});
            Made::Refused((StatusCode::TOO_MANY_REQUESTS, Json(body)).into_response())
        }
        Err(error) => Made::Refused(ApiError::from(error).into_response()),
    }
}

async fn make_there(face: &SageCell, wanted: Wanted) -> Result<Made, ApiError> {
    let relay = face.there().ok_or_else(ApiError::internal)?;
    let idle = wanted.idle.map(|idle| idle.as_secs_f64().to_string());
    // What there is to accept was accepted here.
    let body = json!({
        "CellSessionID": wanted.page, "timeout": idle.unwrap_or("inf".to_owned()), "kernel": wanted.spec,
        "accepted_tos": "true",
    });
    let asker = Asker::of_page(OfPage {
        client: wanted.client,
        page: wanted.page,
    });
    let mut going = Going::own(Method::POST, "/kernel", body.to_string(), asker)?;
    let answer = relay
        .first_with_room(&mut going, wanted.spec.as_deref(), None)
        .await?;
    if answer.status() != StatusCode::OK {
        return Ok(Made::Refused(answer));
    }
    let body = read_all(answer.into_body(), MAX_ANSWER).await?;
    let begun: Option<Begun> = serde_json::from_slice(&body).ok();
    let id = begun.and_then(|begun| Uuid::try_parse(&begun.id).ok());
    Ok(Made::Kernel(id.ok_or_else(ApiError::internal)?))
}

/// Ends a kernel, if it is there.
pub(super) async fn remove(face: &SageCell, id: Uuid) -> Result<(), ApiError> {
    match face.kernels() {
        // What is unknown has ended.
        Kernels::Here(cells) => drop(cells.remove(id).await),
        Kernels::There(relay) => {
            let Some(worker) = relay.worker_of(id).await? else {
                return Ok(());
            };
            let asker = Asker::of_page(OfPage::default());
            let mut going = Going::own(Method::DELETE, &format!("/kernel/{id}"), "", asker)?;
            relay.at(&worker, &mut going).await?;
        }
    }
    Ok(())
}

/// Connects to a kernel. `name`: how the client calls itself; by it, it goes on where it left.
pub(super) async fn line(face: &SageCell, id: Uuid, name: String) -> Result<Line, Unreached> {
    if let Kernels::There(relay) = face.kernels() {
        return Ok(Line::There(remote::open(relay, id, name).await?));
    }
    let place = Place {
        name: Some(name),
        ..Place::default()
    };
    Ok(line_here(face, id, place)?)
}

/// Connects to a kernel in this process.
pub(super) fn line_here(face: &SageCell, id: Uuid, place: Place) -> Result<Line, SessionError> {
    let session = face.here().and_then(|cells| cells.get(id));
    let session = session.ok_or(SessionError::Unknown(id))?;
    let attached = session.attach(place.name.as_deref(), place.offset)?;
    Ok(Line::Here(attached, place.shows_offsets))
}

/// The files of a kernel.
pub(super) async fn files(face: &SageCell, id: Uuid) -> Result<SessionFiles, SessionError> {
    // Those of a kernel at a worker are asked for there.
    let session = face.here().and_then(|cells| cells.get(id));
    session.ok_or(SessionError::Unknown(id))?.files()
}

/// Runs a single cell in a kernel of its own, when there is room.
pub(super) async fn one_cell(
    face: &SageCell,
    client: String,
    code: String,
    expressions: Map<String, Value>,
) -> Result<Answered, ApiError> {
    let limit = face.config().once_limit;
    let relay = match face.kernels() {
        Kernels::There(relay) => relay,
        Kernels::Here(cells) => {
            let Some(_inside) = face.gate().enter(&client).await else {
                return Err(ApiError::busy(
                    "Too many cells wait for their turn; try again in a moment.",
                ));
            };
            let once = Once {
                code,
                expressions,
                limit,
            };
            return Ok(Answered::Ran(cells.once(once).await?));
        }
    };
    let expressions = Value::Object(expressions).to_string();
    let body = json!({"code": code, "user_expressions": expressions, "accepted_tos": "true"});
    let asker = Asker::of_page(OfPage { client, page: None });
    let going = Going::own(Method::POST, "/service", body.to_string(), asker)?;
    let mut going = going.patient(LONGEST_WAIT + limit);
    Ok(Answered::There(relay.least_busy(&mut going).await?))
}

/// Reads a message of a client; an error says what is wrong.
pub(super) fn read(text: &str) -> Result<Message, String> {
    let frame = Frame::Text(text.to_owned());
    Framing::Plain
        .decode(frame, &FROM_CLIENT)
        .map_err(|error| error.to_string())
}

/// A message of a kernel as JSON. What cannot be that is not there for these clients; nor are binary parts.
pub(super) fn text(record: &Record, has_offset: bool) -> Option<String> {
    let mut message = record.message(has_offset)?;
    message.buffers.clear();
    if message.header.msg_type == "execute_reply" {
        complete_reply(&mut message);
    }
    match Framing::Plain.encode(&message).ok()? {
        Frame::Text(text) => Some(text),
        Frame::Binary(_) => None,
    }
}

/// Clients look into the payload without asking whether there is one.
fn complete_reply(message: &mut Message) {
    let Ok(mut content) = message.content.read::<Map<String, Value>>() else {
        return;
    };
    if content.get("payload").is_some_and(Value::is_array) {
        return;
    }
    content.insert("payload".to_owned(), json!([]));
    if let Ok(content) = Content::new(&content) {
        message.content = content;
    }
}

/// What clients are told of a kernel that is not there any more.
pub(super) fn dead() -> String {
    let header = json!({
        "msg_id": Uuid::new_v4().to_string(), "msg_type": "status", "session": "runner", "username": "runner", "version": "5.4",
    });
    let message = json!({
        "channel": "iopub", "msg_type": "status", "msg_id": header["msg_id"], "header": header, "parent_header": {},
        "metadata": {}, "content": {"execution_state": "dead"}, "buffers": [],
    });
    message.to_string()
}
