//! Kernels: Jupyter messages and their framing.
//!
//! A session is an interactive kernel bound to one client. What client and kernel say to each
//! other are Jupyter messages; this room knows what a message is and how it travels. No I/O.
//!
//! # Layout
//! - [`message`]: a message, its header and its channel.
//! - [`wire`]: the two WebSocket framings, with limits; no bytes can make it panic.

pub mod message;
pub mod wire;

pub use message::{Channel, Header, Json, Message};
pub use wire::{Frame, Framing, Limits, WireError};
