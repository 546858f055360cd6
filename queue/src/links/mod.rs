//! Links: streams of bytes between two processes of a queue that meet in Redis and nowhere else.
//!
//! # Layout
//! - [`Links`]: the door. [`LinkStream`]: an end of a link, to be read and written as any stream.
//! - [`Places`]: which process has what, for those who want a link to it.
//! - `frame`: what goes through Redis. `end`: the rules of one end, without I/O. `stream`: an end as a stream.
//! - `node`: this process among the others. `inbox`: what comes. `sender`: what goes. `presence`: signs of life.
//!
//! # Keys
//! All begin with `runner:{<name of the queue>}:`.
//!
//! | key | what |
//! |---|---|
//! | `inbox:<process>` | stream of the frames for a process, which removes what it has read. Only the process itself makes it; it is gone some minutes after the process |
//! | `linked:<process>` | the epoch of the process; lives a lease, and whoever misses it twice resets its links with it |
//! | `mark:<process>` | the same, for minutes: when it is gone while the process lives, Redis has forgotten |
//! | `place:<kind>:<id>` | the process that has it, or wants to; lives a lease. `-` for what was ended and is not to begin again |
//! | `hosts:<kind>` | hash: by process, what it offers |
//!
//! # How a stream goes through it
//! Each process has one inbox and reads it on a connection of its own; all its links share it. What is written becomes
//! frames of up to 64 KiB, which are appended at once, several in one message where they come fast. Frames are numbered:
//! a batch whose answer was lost is sent again, and what comes twice is dropped. Who sends waits when half a MiB is on its
//! way that the other end has not taken, so that one who does not read fills neither Redis nor memory.
//!
//! # When something fails
//! A Redis that is away delays: nothing is lost, nor comes twice. One that was restarted or emptied may have lost frames:
//! every process notices by itself, resets all its links and begins a new epoch. A process that gives no sign of life for
//! a lease has its links reset by the others. Whoever had a link hears `ConnectionReset`, and opens another.

mod end;
mod frame;
mod inbox;
mod node;
mod places;
mod presence;
mod sender;
mod stream;

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::broker::Connection;

pub use places::{Holding, Host, Places};
pub use stream::{LinkProgress, LinkStream};

use node::Node;

/// Links of this process to others. Clones share them; what runs in the background ends with the queue.
#[derive(Debug, Clone)]
pub struct Links(Arc<Node>);

/// Links that others open.
#[derive(Debug)]
pub struct Opened(mpsc::Receiver<LinkStream>);

/// Tells the numbers of links also where there are none.
pub(crate) fn count() {
    drop(node::Meters::new());
}

impl Links {
    pub(crate) fn new(connection: Connection) -> Self {
        Self(Node::start(connection))
    }

    /// The name of this process.
    pub fn process(&self) -> &str {
        self.0.process()
    }

    /// Opens a link to a process. It may refuse it, which is heard as a reset.
    ///
    /// # Errors
    /// The process gives no sign of life (`NotConnected`), or Redis does not answer in time (`TimedOut`).
    pub async fn open(&self, process: &str) -> io::Result<LinkStream> {
        self.0.open(process).await
    }

    /// Takes links from now on; others are refused. The last caller gets them.
    pub fn listen(&self) -> Opened {
        Opened(self.0.listen())
    }

    /// What processes have.
    pub fn places(&self, kind: &'static str) -> Places {
        Places::new(Arc::clone(&self.0), kind)
    }

    /// Says that this process is gone, resets its links, and takes no more.
    pub async fn leave(&self) {
        self.0.leave().await;
    }
}

impl Opened {
    /// The next one; `None` when another listens, or the process has left.
    pub async fn next(&mut self) -> Option<LinkStream> {
        self.0.recv().await
    }
}
