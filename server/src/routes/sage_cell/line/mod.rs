//! A connection to a kernel, wherever that is. It leaves when this is dropped.
//!
//! What a client was given counts as told when its [`Receipt`] says so: all else is told again when it comes back. So a
//! receipt is to be signed when the client has what it stands for, not earlier.

pub(super) mod remote;

use runner_session::{Attached, Frame, Framing, MAX_CLIENT, Message, Next, SessionError, Speaker};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::kernels::{MAX_MESSAGE, text};
use crate::error::ApiError;
use remote::Remote;

/// A connection to a kernel.
pub(super) enum Line {
    /// The kernel is here; whether messages say where in the log they are.
    Here(Attached, bool),
    /// It is at a worker.
    There(Remote),
}

/// Where a client goes on.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// How it calls itself; by that, where it left.
    pub(super) name: Option<String>,
    /// Where in the log instead.
    pub(super) offset: Option<u64>,
    /// Whether messages say where in the log they are.
    pub(super) shows_offsets: bool,
}

/// What comes next of a kernel.
pub(super) enum Told {
    /// Messages, in their order; it may be none of them.
    Said(Said),
    /// It has ended; that it is dead was said before.
    Over,
    /// The client is to go: it read too slowly, or came back by another connection.
    Cut,
}

/// Messages as JSON.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) messages: Vec<String>,
    pub(super) receipt: Receipt,
}

/// By which the kernel's side hears that the client has what it was given.
#[derive(Debug)]
pub(super) enum Receipt {
    /// Nobody wants to know.
    None,
    /// The kernel is here.
    Here(runner_session::Receipt),
    /// It is at a worker; how far the client is in the log.
    There(mpsc::UnboundedSender<u64>, u64),
}

impl Receipt {
    /// The client has it, and all before it.
    pub(super) fn sign(&self) {
        match self {
            Self::None => {}
            Self::Here(receipt) => receipt.took(),
            // Where nobody hears it, the connection has ended.
            Self::There(taken, position) => drop(taken.send(*position)),
        }
    }

    /// How far the client is in the log, where that is known.
    pub(super) fn position(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Here(receipt) => Some(receipt.position()),
            Self::There(_, position) => Some(*position),
        }
    }
}

/// Why there is no connection to a kernel.
pub(super) enum Unreached {
    /// It has ended, or takes none.
    Session(SessionError),
    /// Nobody knows at the moment.
    Away(ApiError),
}

impl From<SessionError> for Unreached {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl From<Unreached> for ApiError {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::Session(error) => error.into(),
            Unreached::Away(error) => error,
        }
    }
}

impl Line {
    /// Waits for what the kernel says. Nothing is lost when the wait is given up.
    pub(super) async fn next(&mut self) -> Told {
        let (attached, shows_offsets) = match self {
            Self::Here(attached, shows_offsets) => (attached, *shows_offsets),
            Self::There(remote) => return remote.next().await,
        };
        match attached.next().await {
            Next::Said(records) => Told::Said(Said {
                messages: records
                    .iter()
                    .filter_map(|record| text(record, shows_offsets))
                    .collect(),
                receipt: Receipt::Here(attached.receipt()),
            }),
            Next::Over => Told::Over,
            Next::Cut => Told::Cut,
        }
    }

    /// By which the client says something.
    pub(super) fn voice(&self) -> Voice {
        match self {
            Self::Here(attached, _) => Voice::Here(attached.sender()),
            Self::There(remote) => Voice::There(remote.voice()),
        }
    }

    /// By which a server says up to where a page has what it was given, where the kernel is here.
    pub(super) fn receipt(&self) -> Option<runner_session::Receipt> {
        match self {
            Self::Here(attached, _) => Some(attached.receipt()),
            Self::There(_) => None,
        }
    }

    /// Cancelled when the client is to go at once.
    pub(super) fn cut(&self) -> CancellationToken {
        match self {
            Self::Here(attached, _) => attached.cut(),
            Self::There(_) => CancellationToken::new(),
        }
    }

    /// Cancelled when this was dropped, and all receipts have reached the kernel's side.
    pub(super) fn left(&self) -> Option<CancellationToken> {
        match self {
            Self::Here(..) => None,
            Self::There(remote) => Some(remote.left()),
        }
    }
}

/// Says what a client says.
#[derive(Clone)]
pub(super) enum Voice {
    /// To a kernel here.
    Here(Speaker),
    /// To one at a worker.
    There(mpsc::Sender<String>),
}

impl Voice {
    /// Passes a message on to the kernel. Waits while too much waits for it.
    pub(super) async fn say(&self, message: Message) -> Result<(), SessionError> {
        let said = match self {
            Self::Here(speaker) => return speaker.say(message).await,
            Self::There(said) => said,
        };
        let invalid = |problem: String| SessionError::Invalid(problem);
        let text = match Framing::Plain.encode(&message) {
            Ok(Frame::Text(text)) => text,
            Ok(Frame::Binary(_)) => return Err(invalid("no text".to_owned())),
            Err(error) => return Err(invalid(error.to_string())),
        };
        if text.len() > MAX_MESSAGE {
            return Err(invalid(format!("it has more than {MAX_MESSAGE} bytes")));
        }
        said.send(text).await.map_err(|_| SessionError::Ended)
    }
}

/// The name of a client, if a kernel takes it.
fn check_name(name: &str) -> Result<(), SessionError> {
    match name.len() > MAX_CLIENT {
        true => Err(SessionError::Invalid(format!(
            "session is longer than {MAX_CLIENT} bytes"
        ))),
        false => Ok(()),
    }
}

/// There is no such kernel.
fn unknown(id: Uuid) -> Unreached {
    SessionError::Unknown(id).into()
}
