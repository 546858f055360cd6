//! The task that sees to one session: it has the kernel, passes on what clients say, writes down what the kernel
//! says, and ends both at their deadlines.

mod cell;
mod deadlines;
mod errors;
mod status;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::Face;
use crate::error::SessionError;
use crate::kernel::Kernel;
use crate::message::{Channel, Header, Message};
use crate::output::{Output, Verdict};
use crate::session::{Execution, Inbox, Input, Order, Session};
use crate::sessions::Shared;
use crate::told;
use crate::zygote::KernelFolder;

use cell::Cell;
use errors::write_errors;

/// The file of what kernels wrote to their standard error.
pub(crate) const ERRORS: &str = "stderr.log";
/// How long a kernel that closed its line may take to end.
const ENDING: Duration = Duration::from_secs(2);
/// How long what an ended kernel said last is waited for.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// Requests of a session that may wait for their answers.
const MAX_PENDING: usize = 10_000;

/// Sees to a session until it has ended.
pub(crate) struct Driver {
    session: Arc<Session>,
    shared: Arc<Shared>,
    inbox: Inbox,
    kernel: Option<Kernel>,
    /// Where kernels of the session work, from the first one on.
    folder: Option<Arc<KernelFolder>>,
    /// What the kernel has not taken yet.
    held: Option<Input>,
    /// Requests without an answer, by their ids.
    pending: HashMap<String, Pending>,
    /// Counts them.
    asked: u64,
    output: Output,
    /// Since when a client holds up the kernel.
    held_up: Option<Instant>,
    /// Whether the kernel waits for an answer.
    is_asking: bool,
    /// The cell that runs.
    cell: Option<Cell>,
}

/// A request that waits for its answer.
struct Pending {
    number: u64,
    header: Header,
    channel: Channel,
    client: Arc<str>,
}

/// What happens.
enum Event {
    Order(Order),
    Input(Box<Input>),
    /// The kernel takes what is held.
    Taken(tokio::sync::mpsc::OwnedPermit<Bytes>),
    Said(Result<Box<(Message, Bytes)>, String>),
    /// The kernel has ended.
    Ended(String),
    /// Clients have got on, or something is due.
    Moved,
    /// Nobody can say anything any more.
    Left,
}

impl Driver {
    pub(crate) fn new(
        session: Arc<Session>,
        shared: Arc<Shared>,
        inbox: Inbox,
        kernel: Option<Kernel>,
    ) -> Self {
        let config = &shared.config;
        let output = Output::new(&session.folder, config.cell_output, config.spill);
        Self {
            session,
            inbox,
            kernel: None,
            folder: None,
            held: None,
            pending: HashMap::new(),
            asked: 0,
            output,
            held_up: None,
            is_asking: false,
            cell: None,
            shared,
        }
        .with(kernel)
    }

    fn with(mut self, kernel: Option<Kernel>) -> Self {
        if let Some(kernel) = kernel {
            self.take(kernel);
            self.session.lock().execution = Execution::Idle;
        }
        self
    }

    pub(crate) async fn run(mut self) {
        loop {
            let event = self.next().await;
            match event {
                Event::Order(Order::Interrupt) => self.interrupt(),
                Event::Order(Order::Warn(why)) => self.warn(&why),
                Event::Order(Order::Restart(done)) => {
                    let outcome = self.restart().await;
                    let _ = done.send(outcome);
                }
                Event::Order(Order::End { why, keeps, done }) => {
                    return self.end(&why, keeps, Some(done)).await;
                }
                Event::Input(input) => {
                    if let Some(why) = self.hear_client(*input).await {
                        return self.end(why, false, None).await;
                    }
                }
                Event::Taken(permit) => {
                    if let Some(input) = self.held.take() {
                        permit.send(input.frame);
                    }
                }
                Event::Said(Ok(said)) => {
                    let (message, frame) = *said;
                    self.hear(&message, frame);
                }
                Event::Said(Err(problem)) => {
                    if let Some(why) = self.lose(problem).await {
                        return self.end(&why, false, None).await;
                    }
                }
                Event::Ended(how) => {
                    self.hear_last_words().await;
                    if let Some(why) = self.died(&how).await {
                        return self.end(&why, false, None).await;
                    }
                }
                Event::Moved => {
                    if let Some(why) = self.due() {
                        return self.end(why, false, None).await;
                    }
                }
                Event::Left => return self.end("nobody has it", true, None).await,
            }
        }
    }

    async fn next(&mut self) -> Event {
        let has_room = self.session.has_room();
        let now = Instant::now();
        self.held_up = match has_room {
            true => None,
            false => self.held_up.or(Some(now)),
        };
        let due = self.deadline();
        let writer = self.kernel.as_ref().map(|kernel| kernel.writer().clone());
        let is_held = self.held.is_some();
        let end = self.kernel.as_ref().map(Kernel::end);
        let kernel = &mut self.kernel;
        let said = async {
            match kernel {
                Some(kernel) if has_room => kernel.next().await,
                _ => std::future::pending().await,
            }
        };
        let ended = async {
            match end {
                Some(end) => Kernel::ended(end).await,
                None => std::future::pending().await,
            }
        };
        let taken = async {
            match writer {
                Some(writer) if is_held => match writer.reserve_owned().await {
                    Ok(permit) => permit,
                    // Its end is heard of elsewhere.
                    Err(_) => std::future::pending().await,
                },
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            order = self.inbox.orders.recv() => order.map_or(Event::Left, Event::Order),
            said = said => Event::Said(said.map(Box::new)),
            permit = taken => Event::Taken(permit),
            input = self.inbox.inputs.recv(), if !is_held => input.map_or(Event::Left, |input| Event::Input(Box::new(input))),
            how = ended => Event::Ended(how),
            () = self.session.moved.notified() => Event::Moved,
            () = tokio::time::sleep_until(due) => Event::Moved,
        }
    }

    /// Passes on what a client said. Answers why the session is to end, if it asks for that.
    async fn hear_client(&mut self, input: Input) -> Option<&'static str> {
        self.session.touch();
        metrics::counter!("runner_session_messages_total", "from" => "client").increment(1);
        let kind = input.header.msg_type.as_str();
        match (input.channel, kind) {
            (Channel::Control, "interrupt_request") => {
                self.interrupt();
                self.answer(&input, "interrupt_reply", &json!({"status": "ok"}));
                return None;
            }
            (Channel::Control, "shutdown_request") => {
                let content = json!({"status": "ok", "restart": input.restarts});
                self.answer(&input, "shutdown_reply", &content);
                if !input.restarts {
                    return Some("a client asked for its end");
                }
                // What went wrong is told to everybody.
                let _ = self.restart().await;
                return None;
            }
            // What comes before the question is no answer.
            (Channel::Stdin, _) if !std::mem::take(&mut self.is_asking) => return None,
            _ => {}
        }
        if self.kernel.is_none()
            && let Err(error) = self.start().await
        {
            self.refuse(&input, "NoKernel", &error.to_string());
            return None;
        }
        if input.channel != Channel::Stdin && told::is_answered(kind) {
            if self.pending.len() >= MAX_PENDING {
                let why = format!("{MAX_PENDING} requests wait for their answers");
                self.refuse(&input, "TooMany", &why);
                return None;
            }
            self.asked += 1;
            let pending = Pending {
                number: self.asked,
                header: input.header.clone(),
                channel: input.channel,
                client: Arc::clone(&input.client),
            };
            self.pending.insert(input.header.msg_id.clone(), pending);
        }
        let writer = self.kernel.as_ref().map(Kernel::writer);
        match writer.map(|writer| writer.try_send(input.frame.clone())) {
            Some(Ok(())) => {}
            // Taken when there is room; or lost with the kernel, which tells who waits for an answer.
            _ => self.held = Some(input),
        }
        None
    }

    fn answer(&self, input: &Input, kind: &str, content: &serde_json::Value) {
        let reply = told::message(input.channel, kind, Some(&input.header), content);
        self.session.say(Some(&input.client), &reply);
        let idle = told::status("idle", Some(&input.header));
        self.session.say(None, &idle);
    }

    fn refuse(&self, input: &Input, name: &str, why: &str) {
        let (reply, others) = told::failure(&input.header, input.channel, name, why);
        self.session.say(Some(&input.client), &reply);
        for message in others {
            self.session.say(None, &message);
        }
    }

    /// Writes down what the kernel said.
    fn hear(&mut self, message: &Message, frame: Bytes) {
        self.session.touch();
        self.shared.meters.said.increment(1);
        let parent = message.parent_header.as_ref();
        match message.channel {
            Channel::Iopub => {
                match message.header.msg_type.as_str() {
                    "status" => self.hear_status(message),
                    // For the runner, and nobody else.
                    "kernel_timeout" if self.shared.config.face == Face::SageCell => {
                        return self.hear_timeout(message);
                    }
                    _ => {}
                }
                let verdict = self.output.take(message);
                match verdict {
                    Verdict::Said => {}
                    Verdict::Begins(name) => {
                        let path = self.path_of(&name);
                        let text = format!("[more output than is shown; it goes on in {path}]");
                        return self.session.say(None, &told::note(&text, parent));
                    }
                    Verdict::Kept => return,
                    Verdict::Full => {
                        let text = "[the files of the output of this session are full; the cell is interrupted]";
                        self.session.say(None, &told::note(text, parent));
                        return self.interrupt();
                    }
                    Verdict::Endless => {
                        let text = "[the cell put out more and more; its kernel is ended]";
                        self.session.say(None, &told::note(text, parent));
                        if let Some(kernel) = &self.kernel {
                            kernel.kill();
                        }
                        return;
                    }
                }
                self.session.log.append(None, frame);
            }
            channel => {
                self.is_asking |= channel == Channel::Stdin;
                // An answer is for who asked; its idle takes the request off.
                let asked = parent.and_then(|parent| self.pending.get(&parent.msg_id));
                let to = asked.map(|asked| Arc::clone(&asked.client));
                let is_own = channel != Channel::Stdin || to.is_some();
                if is_own {
                    self.session.log.append(to.as_deref(), frame);
                }
            }
        }
    }

    fn path_of(&self, output: &str) -> String {
        format!("/api/kernels/{}/outputs/{output}", self.session.id)
    }

    /// A kernel that is at nothing is left alone: the signal could come when it is at the next cell.
    fn interrupt(&self) {
        let is_idle = self.cell.is_none() && self.pending.is_empty();
        if let Some(kernel) = self.kernel.as_ref().filter(|_| !is_idle) {
            kernel.interrupt();
        }
    }

    /// The kernel says nothing more.
    async fn lose(&mut self, problem: String) -> Option<String> {
        let kernel = self.kernel.as_ref()?;
        let ended = tokio::time::timeout(ENDING, Kernel::ended(kernel.end())).await;
        let how = ended.unwrap_or(problem);
        self.died(&how).await
    }

    async fn hear_last_words(&mut self) {
        while let Some(kernel) = &mut self.kernel {
            match tokio::time::timeout(LAST_WORDS, kernel.next()).await {
                Ok(Ok((message, frame))) => self.hear(&message, frame),
                _ => return,
            }
        }
    }

    /// The kernel has ended by itself. Answers why the session is to end, if it is.
    async fn died(&mut self, how: &str) -> Option<String> {
        let how = self.shared.config.face.named(how).into_owned();
        tracing::info!(session = %self.session.id, "a kernel ended: {how}");
        self.shared.meters.ended("died");
        self.kernel = None;
        let why = format!("the kernel ended: {how}");
        self.fail_pending("KernelDied", &why);
        if self.shared.config.face == Face::SageCell {
            return Some(why);
        }
        if self.session.is_connected() {
            self.set(Execution::Restarting);
            // What went wrong is told to everybody.
            let _ = self.start().await;
        } else {
            self.set(Execution::Dead);
        }
        None
    }

    async fn restart(&mut self) -> Result<(), SessionError> {
        if let Some(kernel) = self.kernel.take() {
            self.shared.meters.ended("restarted");
            let ended = Kernel::ended(kernel.end());
            drop(kernel);
            let _ = tokio::time::timeout(ENDING, ended).await;
        }
        self.fail_pending("KernelRestarted", "the kernel is restarted");
        self.set(Execution::Restarting);
        self.start().await
    }

    /// Starts a kernel.
    async fn start(&mut self) -> Result<(), SessionError> {
        let environment = &self.session.environment;
        let spec = &self.session.spec;
        let folder = self.folder.clone();
        match self.shared.kernel(spec, environment, folder).await {
            Ok(kernel) => {
                self.take(kernel);
                self.session.say(None, &told::status("starting", None));
                self.set(Execution::Idle);
                Ok(())
            }
            Err(error) => {
                self.set(Execution::Dead);
                Err(error)
            }
        }
    }

    fn take(&mut self, mut kernel: Kernel) {
        self.folder = Some(kernel.folder());
        if let Some(aside) = kernel.take_aside() {
            self.attend(aside, kernel.end());
        }
        if let Some(errors) = kernel.take_errors() {
            let folder = &self.session.folder;
            // Not made later: what is said at the end must not bring it back.
            if let Err(error) = std::fs::create_dir_all(folder) {
                tracing::warn!("cannot make {}: {error}", folder.display());
            }
            let path = folder.join(ERRORS);
            tokio::spawn(write_errors(errors, path));
        }
        let mut state = self.session.lock();
        state.confinement = kernel.zygote().confinement().clone();
        state.files = kernel.place();
        drop(state);
        self.kernel = Some(kernel);
    }

    fn set(&self, execution: Execution) {
        let name = match execution {
            Execution::Starting => "starting",
            Execution::Idle => "idle",
            Execution::Busy => "busy",
            Execution::Restarting => "restarting",
            Execution::Dead => "dead",
        };
        self.session.lock().execution = execution;
        self.session.say(None, &told::status(name, None));
    }

    /// Whoever waits for an answer is told that there will be none.
    fn fail_pending(&mut self, name: &str, why: &str) {
        self.held = None;
        self.is_asking = false;
        self.cell = None;
        let mut all: Vec<Pending> = self.pending.drain().map(|(_, one)| one).collect();
        all.sort_unstable_by_key(|one| one.number);
        for one in all {
            let (reply, others) = told::failure(&one.header, one.channel, name, why);
            self.session.say(Some(&one.client), &reply);
            for message in others {
                self.session.say(None, &message);
            }
            self.output.done(&one.header.msg_id);
        }
    }

    async fn end(mut self, why: &str, keeps: bool, done: Option<oneshot::Sender<()>>) {
        let why = self.shared.config.face.named(why).into_owned();
        tracing::debug!(session = %self.session.id, "a session ends: {why}");
        if let Some(kernel) = self.kernel.take() {
            self.shared.meters.ended("ended");
            drop(kernel);
        }
        self.fail_pending("SessionEnded", &format!("the session ended: {why}"));
        self.set(Execution::Dead);
        self.shared.forget(&self.session);
        self.session.over.cancel();
        if !keeps {
            let folder = self.session.folder.clone();
            let _ = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(folder)).await;
        }
        if let Some(done) = done {
            let _ = done.send(());
        }
    }
}
