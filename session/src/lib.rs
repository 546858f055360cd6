//! Kernels: Jupyter messages, sessions, replay, limits.
//!
//! A session is an interactive kernel bound to one client. What client and kernel say to each
//! other are Jupyter messages; this room knows what a message is and how it travels, forks kernels from a
//! zygote behind the launcher, and keeps what they said in a log that clients follow at their own pace.
//!
//! # Layout
//! - [`message`]: a message, its header and its channel. [`wire`]: the two WebSocket framings, with limits; no
//!   bytes can make it panic. Neither does I/O.
//! - [`Sessions`]: all sessions of a process, and its kernels that wait for one. [`SessionsConfig`]: how many,
//!   for how long, how much.
//! - [`Session`]: one of them. `driver`: the task that sees to it. [`Attached`]: a client of it.
//! - [`SessionFiles`]: files put in and taken out. [`SessionTasks`]: plugins that are run for sessions, which `requests`
//!   of kernels ask for.
//! - [`Kernelspecs`]: which kernels there may be, and how each comes to life. `kernel`, `zygote`: a kernel, and what
//!   forks it.
//! - `lua_kernel`: the kernel of Lua. `bridge`: between the engine and a kernel that speaks ZeroMQ. Both are processes
//!   of their own; `line` is their side of the socket pair.
//! - `log`: what was said, append-only and bounded, on disk. `output`: quotas, and files for what is beyond.
//! - `once`: a single cell in a kernel of its own. `meters`: what is counted. `told`: messages that the runner itself makes. [`Notebooks`]: Jupyter's names for kernels.
//!
//! # Invariants
//! - A message is in the log before a client gets it; its position there is the offset at which a client goes on.
//! - A client that reads slowly holds up the kernel, and is cut when that takes too long. Nothing is dropped unsaid.
//! - A kernel ends with its session, a session at a deadline at the latest, and all of them with the runner.

mod bridge;
mod config;
mod driver;
mod environment;
mod error;
mod files;
mod kernel;
mod kernelspecs;
mod line;
mod log;
mod lua_kernel;
pub mod message;
mod meters;
mod notebooks;
mod once;
mod output;
mod requests;
mod session;
mod sessions;
mod tasks;
mod told;
pub mod wire;
mod zygote;

pub use bridge::kernel_bridge_main;
pub use config::{Face, KernelLimits, SessionsConfig};
pub use error::SessionError;
pub use files::{Draft, MAX_LISTED, SessionFiles};
pub use kernelspecs::{BridgeConfig, InterruptMode, KERNELSPEC, Kernelspec, Kernelspecs, LUA};
pub use log::{MAX_SAID, Record};
pub use lua_kernel::lua_kernel_main;
pub use message::{Channel, Header, Json, Message};
pub use notebooks::{Notebook, NotebookWish, Notebooks};
pub use once::{Once, Ran};
pub use session::{Attached, MAX_CLIENT, Next, Receipt, Session, SessionModel, Speaker};
pub use sessions::{Sessions, TOMB, Wish};
pub use tasks::{BringError, FileLinks, News, NoTasks, SessionTasks, TaskCall, TaskOutput};
pub use wire::{Frame, Framing, Limits, WireError};
