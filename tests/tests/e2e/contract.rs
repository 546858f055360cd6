//! What the contract says beyond the transcripts.

mod files;
mod registry;
mod requests;
mod subscriptions;
mod tasks;
