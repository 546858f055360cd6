//! A page and its kernels. What a page says is `<kernel>/channels,<message>`, and what it hears begins alike. Before
//! `complete,` stands what is asked while somebody types: that has a kernel of its own.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use runner_session::SessionError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::super::kernels::{self, Made, Wanted};
use super::super::line::{Line, Receipt, Said, Told, Unreached, Voice};
use super::frames::Close;
use crate::relay::asker::Elsewhere;
use crate::sage_cell::SageCell;

/// Kernels that a page talks with at a time.
const MAX_LINES: usize = 64;
/// What stands before questions of somebody who types.
const COMPLETE: &str = "complete";
/// The only questions that are.
const QUESTIONS: [&str; 2] = ["complete_request", "inspect_request"];
/// How long the kernel for these is idle.
const COMPLETER_IDLE: Duration = Duration::from_secs(300);
/// What kernels have said and the page has not heard yet, in lists of messages.
const WAITING: usize = 4;
/// How long it may take until all kernels know that the page has left.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a page hears.
#[derive(Debug)]
pub(super) enum Heard {
    /// Messages. When the page has them, the receipt is to be signed.
    Said(Said),
    /// That it is to go.
    Cut,
}

/// A page that talks with kernels. It leaves them when this is dropped.
pub(super) struct Talk {
    face: SageCell,
    client: String,
    /// By what stands before their messages.
    lines: HashMap<String, Open>,
    /// The kernel for questions of somebody who types.
    completer: Option<Uuid>,
    heard: mpsc::Sender<Heard>,
}

/// A connection to a kernel.
struct Open {
    voice: Voice,
    /// Cancelled when its side knows that the page has left, and what it has.
    left: Option<CancellationToken>,
    /// Passes on what it says.
    reader: AbortOnDropHandle<()>,
}

impl Talk {
    /// A page that has said nothing yet, and what it is going to hear.
    pub(super) fn new(face: SageCell, client: String) -> (Self, mpsc::Receiver<Heard>) {
        let (heard, hears) = mpsc::channel(WAITING);
        let talk = Self {
            face,
            client,
            lines: HashMap::new(),
            completer: None,
            heard,
        };
        (talk, hears)
    }

    /// Passes on what the page says. Waits while its kernel, or the page itself, takes no more.
    pub(super) async fn say(&mut self, said: &str) -> Result<(), Close> {
        let (prefix, text) = said
            .split_once(',')
            .ok_or_else(|| Close::no_message("there is no comma behind the name of its kernel"))?;
        let (name, _) = prefix.split_once('/').unwrap_or((prefix, ""));
        let message = kernels::read(text).map_err(|problem| Close::no_message(&problem))?;
        let is_question = name == COMPLETE;
        if is_question && !QUESTIONS.contains(&message.header.msg_type.as_str()) {
            return Ok(());
        }
        self.lines.retain(|_, open| !open.reader.is_finished());
        if !self.lines.contains_key(prefix) {
            if self.lines.len() >= MAX_LINES {
                return Err(Close::too_many("This page has too many kernels."));
            }
            let own = message.header.session.clone();
            let line = match is_question {
                true => self.completer().await,
                false => self.line(name, own).await?,
            };
            let Some(line) = line else {
                // That a question is not answered harms nobody.
                if !is_question {
                    self.tell_of_end(prefix).await;
                }
                return Ok(());
            };
            let open = Open {
                voice: line.voice(),
                left: line.left(),
                reader: AbortOnDropHandle::new(tokio::spawn(pass_on(
                    line,
                    prefix.to_owned(),
                    self.heard.clone(),
                ))),
            };
            self.lines.insert(prefix.to_owned(), open);
        }
        let Some(open) = self.lines.get(prefix) else {
            return Ok(());
        };
        match open.voice.clone().say(message).await {
            // What ended has told so itself.
            Ok(()) | Err(SessionError::Ended) => Ok(()),
            Err(error) => Err(Close::no_message(&error.to_string())),
        }
    }

    /// Leaves all kernels, and waits until they know it. A page that comes back then is told what it has not got, and
    /// nothing else.
    pub(super) async fn leave(mut self) {
        let lines = self.lines.drain();
        let left: Vec<_> = lines.filter_map(|(_, open)| open.left).collect();
        let all = join_all(left.iter().map(CancellationToken::cancelled));
        // A link that is broken knows it later.
        let _ = tokio::time::timeout(FAREWELL, all).await;
    }

    /// A connection to a kernel, if it is there.
    async fn line(&self, kernel: &str, name: String) -> Result<Option<Line>, Close> {
        let Ok(id) = Uuid::try_parse(kernel) else {
            return Ok(None);
        };
        match kernels::line(&self.face, id, name).await {
            Ok(line) => Ok(Some(line)),
            Err(Unreached::Session(_)) => Ok(None),
            // It may come back, and find it.
            Err(Unreached::Away(_)) => Err(Close::go_away()),
        }
    }

    /// A connection to the kernel for questions; there is none where the client has as many as it may have.
    async fn completer(&mut self) -> Option<Line> {
        let wanted = Wanted {
            client: self.client.clone(),
            elsewhere: Elsewhere::default(),
            page: None,
            spec: None,
            idle: Some(COMPLETER_IDLE),
        };
        let Made::Kernel(id) = kernels::make(&self.face, wanted).await else {
            return None;
        };
        if let Some(old) = self.completer.replace(id) {
            // What cannot be ended now ends when it is idle.
            let _ = kernels::remove(&self.face, old).await;
        }
        let name = Uuid::new_v4().to_string();
        kernels::line(&self.face, id, name).await.ok()
    }

    async fn tell_of_end(&self, prefix: &str) {
        let dead = format!("{prefix},{}", kernels::dead());
        let said = Said {
            messages: vec![dead],
            receipt: Receipt::None,
        };
        let _ = self.heard.send(Heard::Said(said)).await;
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let Some(id) = self.completer else { return };
        // Where the runtime is gone, kernels are as well.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let face = self.face.clone();
            runtime.spawn(async move { kernels::remove(&face, id).await });
        }
    }
}

/// Passes on what a kernel says, until it has ended or the page is gone.
async fn pass_on(mut line: Line, mut prefix: String, heard: mpsc::Sender<Heard>) {
    prefix.push(',');
    loop {
        let mut said = match line.next().await {
            Told::Said(said) => said,
            Told::Over => return,
            Told::Cut => {
                let _ = heard.send(Heard::Cut).await;
                return;
            }
        };
        for message in &mut said.messages {
            message.insert_str(0, &prefix);
        }
        if heard.send(Heard::Said(said)).await.is_err() {
            return;
        }
    }
}
