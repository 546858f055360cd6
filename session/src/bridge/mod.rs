//! The bridge between the engine and a kernel of Jupyter: `runner kernel-bridge`, in the place of a fork of the zygote.
//! It starts the kernel as its child, with a connection file, and passes on messages: v1 frames on one side, ZeroMQ on
//! the other.
//!
//! The sockets are Unix ones in the folder of the session. They are bound by relative paths, so that nobody outside
//! learns where they are, and removed as soon as the bridge is connected: nobody else can connect any more.

mod backlog;
mod child;
mod order;
mod signed;
mod zmtp;

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use serde_json::json;

use crate::kernelspecs::{BridgeConfig, InterruptMode};
use crate::line::{self, Heard, Told};
use crate::message::{Channel, Message};
use crate::told;
use backlog::Backlog;
use child::Child;
use order::Order;
use signed::Signer;
use zmtp::{Kind, Receiver, Sender};

/// Where the connection file and the sockets are, below the folder of the session.
const FOLDER: &str = ".kernel";
/// What the names of the sockets begin with.
const SOCKETS: &str = ".kernel/socket";
/// The channels, with the numbers of their sockets.
const CHANNELS: [(Channel, &str, u8); 4] = [
    (Channel::Shell, "shell_port", 1),
    (Channel::Iopub, "iopub_port", 2),
    (Channel::Stdin, "stdin_port", 3),
    (Channel::Control, "control_port", 4),
];
/// The number of the socket of the heartbeat, which is not used: that a kernel has ended is heard of at once.
const HEARTBEAT: u8 = 5;
/// How long a look at what is to come pauses.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a kernel that was asked who it is may take, before it is asked again: it may not have heard that its
/// messages are wanted.
const NUDGE: Duration = Duration::from_millis(500);
/// How long a kernel may live that has closed a channel.
const ENDING: Duration = Duration::from_secs(1);
/// How long what an ended kernel said last is waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Is a kernel on the line that this process has inherited: starts the one that is described, and ends as it does.
///
/// # Errors
/// It cannot be started, or does not answer.
pub fn kernel_bridge_main(config: &BridgeConfig) -> std::io::Result<()> {
    let (heard, told) = line::inherited()?;
    let key = uuid::Uuid::new_v4().to_string();
    let file = write_connection_file(&config.name, &key)?;
    let child = Arc::new(Child::start(config, &file)?);
    // From here on signals are waited for by a thread of their own; the child has none of that.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    let told = Arc::new(told);
    told.tell(&told::status("starting", None));
    let deadline = Instant::now() + Duration::from_secs(config.patience);
    let talk = Talk::begin(config, &child, Signer::new(&key), deadline);
    let talk = talk.inspect_err(|_| child.kill())?;
    let _ = std::fs::remove_dir_all(FOLDER);
    told.tell(&told::status("idle", None));
    talk.go_on(config.interrupt_mode, heard, told, signals, child)
}

/// Writes what the kernel needs to know. Answers the path of the file.
fn write_connection_file(name: &str, key: &str) -> std::io::Result<String> {
    // That of a kernel that was here before.
    let _ = std::fs::remove_dir_all(FOLDER);
    std::fs::DirBuilder::new().mode(0o700).create(FOLDER)?;
    let mut content = json!({
        "transport": "ipc", "ip": SOCKETS, "key": key, "signature_scheme": "hmac-sha256",
        "kernel_name": name, "hb_port": HEARTBEAT,
    });
    for (_, port, number) in CHANNELS {
        content[port] = number.into();
    }
    let path = std::env::current_dir()?
        .join(FOLDER)
        .join("connection.json");
    let mut file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    file.write_all(content.to_string().as_bytes())?;
    Ok(path.to_string_lossy().into_owned())
}

/// The connections to a kernel.
#[derive(Debug)]
struct Talk {
    speaker: Speaker,
    receivers: Vec<(Channel, Receiver)>,
}

/// Says something to the kernel.
#[derive(Debug)]
struct Speaker {
    signer: Signer,
    senders: Vec<(Channel, Sender)>,
    /// The name by which this bridge asks for itself.
    own: String,
}

impl Speaker {
    /// Passes on a message.
    fn say(&self, message: &Message) -> std::io::Result<()> {
        let parts = self.signer.sign(message).map_err(std::io::Error::other)?;
        let parts: Vec<&[u8]> = parts.iter().map(AsRef::as_ref).collect();
        let mut senders = self.senders.iter();
        match senders.find(|(channel, _)| *channel == message.channel) {
            Some((_, sender)) => sender.say(&parts),
            None => Ok(()),
        }
    }

    /// Asks for itself.
    fn ask(&self, channel: Channel, kind: &str) -> std::io::Result<()> {
        let mut request = told::message(channel, kind, None, &json!({}));
        request.header.session.clone_from(&self.own);
        self.say(&request)
    }

    /// Whether a message answers what this bridge has asked.
    fn is_own(&self, message: &Message) -> bool {
        let parent = message.parent_header.as_ref();
        parent.is_some_and(|parent| parent.session == self.own)
    }
}

impl Talk {
    /// Connects, and waits until the kernel has answered and is heard on all channels.
    fn begin(
        config: &BridgeConfig,
        child: &Child,
        signer: Signer,
        deadline: Instant,
    ) -> std::io::Result<Self> {
        // The kernel answers a question where the cell came from.
        let identity = uuid::Uuid::new_v4().to_string();
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for (channel, _, number) in CHANNELS {
            let path = format!("{SOCKETS}-{number}");
            let kind = match channel {
                Channel::Iopub => Kind::Sub,
                _ => Kind::Dealer,
            };
            let (receiver, sender) = loop {
                match zmtp::connect(Path::new(&path), kind, identity.as_bytes()) {
                    Ok(both) => break both,
                    Err(error) => wait(config, child, deadline, || {
                        format!("its {channel} channel is not there ({error})")
                    })?,
                }
            };
            senders.push((channel, sender));
            receivers.push((channel, receiver));
        }
        let mut talk = Self {
            speaker: Speaker {
                signer,
                senders,
                own: identity,
            },
            receivers,
        };
        talk.greet(config, child, deadline)?;
        Ok(talk)
    }

    /// Asks who it is, until both the reply and something published have come.
    fn greet(
        &mut self,
        config: &BridgeConfig,
        child: &Child,
        deadline: Instant,
    ) -> std::io::Result<()> {
        let mut missing = vec![Channel::Shell, Channel::Iopub];
        let mut asked: Option<Instant> = None;
        while !missing.is_empty() {
            if asked.is_none_or(|asked| asked.elapsed() > NUDGE) {
                asked = Some(Instant::now());
                self.speaker.ask(Channel::Shell, "kernel_info_request")?;
            }
            for (channel, receiver) in &mut self.receivers {
                if missing.contains(channel) && receiver.has_come()? {
                    let parts = receiver.next()?;
                    let read = self.speaker.signer.read(*channel, parts);
                    read.map_err(std::io::Error::other)?;
                    missing.retain(|one| one != channel);
                }
            }
            if !missing.is_empty() {
                wait(config, child, deadline, || {
                    "it does not answer a kernel_info_request".to_owned()
                })?;
            }
        }
        Ok(())
    }

    /// Passes on messages until the kernel or the engine is gone. Ends this process.
    fn go_on(
        self,
        mode: InterruptMode,
        heard: Heard,
        told: Arc<Told>,
        signals: SigSet,
        child: Arc<Child>,
    ) -> std::io::Result<()> {
        let speaker = Arc::new(self.speaker);
        let order = Arc::new(Order::default());
        let backlog = Backlog::new(Arc::clone(&told), Arc::clone(&order), Arc::clone(&child));
        let (gone, is_gone) = mpsc::channel();
        for (channel, receiver) in self.receivers {
            let (speaker, backlog) = (Arc::clone(&speaker), Arc::clone(&backlog));
            let (gone, owner) = (gone.clone(), Arc::clone(&child));
            thread(move || {
                let problem = hear(channel, receiver, &speaker, &backlog);
                let _ = gone.send(());
                // Of one that ends, that is no news; this process ends with it.
                std::thread::sleep(ENDING);
                eprintln!("the kernel is ended, since its {channel} channel ended: {problem}");
                owner.kill();
            })?;
        }
        let (asker, asked) = (Arc::clone(&speaker), Arc::clone(&child));
        thread(move || {
            while signals.wait().is_ok() {
                match mode {
                    InterruptMode::Signal => asked.interrupt(),
                    InterruptMode::Message => {
                        let _ = asker.ask(Channel::Control, "interrupt_request");
                    }
                }
            }
        })?;
        let owner = Arc::clone(&child);
        thread(move || {
            pass_on(heard, &speaker, &order);
            // The engine is gone, and with it who wanted a kernel.
            owner.kill();
        })?;
        let status = child.wait()?;
        // What it said last; when its sockets end, all of it was heard.
        let end = Instant::now() + LAST_WORDS;
        for _ in CHANNELS {
            let left = end.saturating_duration_since(Instant::now());
            if is_gone.recv_timeout(left).is_err() {
                break;
            }
        }
        backlog.finish(end);
        child::end_like(status)
    }
}

/// Pauses, unless the kernel has ended or has had its time. `what` says what is missing.
fn wait(
    config: &BridgeConfig,
    child: &Child,
    deadline: Instant,
    what: impl FnOnce() -> String,
) -> std::io::Result<()> {
    if let Some(status) = child.has_ended()? {
        return Err(std::io::Error::other(format!(
            "{} ended before it answered: {status}",
            config.name
        )));
    }
    if Instant::now() >= deadline {
        return Err(std::io::Error::other(format!(
            "{} did not answer within {} s (SESSION_KERNEL_START): {}",
            config.name,
            config.patience,
            what()
        )));
    }
    std::thread::sleep(PAUSE);
    Ok(())
}

fn thread(what: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().spawn(what).map(drop)
}

/// Passes on what the engine says, until it is gone or the kernel takes no more.
fn pass_on(mut heard: Heard, speaker: &Speaker, order: &Order) {
    while let Ok(Some(message)) = heard.next() {
        if message.channel == Channel::Shell {
            order.asked(&message);
        }
        if speaker.say(&message).is_err() {
            return;
        }
    }
}

/// Passes on what the kernel says on one channel. Answers why there is no more.
fn hear(
    channel: Channel,
    mut receiver: Receiver,
    speaker: &Speaker,
    backlog: &Backlog,
) -> std::io::Error {
    loop {
        let parts = match receiver.next() {
            Ok(parts) => parts,
            Err(error) => return error,
        };
        match speaker.signer.read(channel, parts) {
            // What was asked by this bridge is answered by nobody else.
            Ok(message) if !speaker.is_own(&message) => backlog.add(message),
            Ok(_) => {}
            // Into the error log of the session.
            Err(problem) => eprintln!("the kernel said {problem} on its {channel} channel"),
        }
    }
}
