//! What the contract says beyond the transcripts.

mod files;
mod requests;
mod subscriptions;
mod tasks;
