//! Every outgoing request of the runner: inputs of tasks, webhooks, registry, key sets.
//!
//! One [`Fetcher`] is made at start and shared. It opens `http`, `https`, `data` and, below the
//! allowed roots, `file` URLs, and promises:
//! - **Whole or absent.** [`Fetcher::download`] streams into a new file, and removes it again
//!   when it fails or is dropped.
//! - **The address policy holds after resolution.** The resolver that the connection uses drops
//!   refused addresses, so no name can point around it; each redirect is checked like a first
//!   request. Behind a proxy the target's address cannot be seen: there only literal addresses
//!   and the known names of metadata services are refused.
//! - **Credentials stay with their origin**, and are never printed: errors and logs show URLs as
//!   [`redact`] leaves them.
//! - **Every limit that is hit is said**, with its number.
//!
//! # Layout
//! - `config`: all settings with their defaults.
//! - `fetcher`: the door; from a URL to the way it is opened.
//! - `web`: http and https: redirects, status, body. `client`: connections, TLS, proxies.
//! - `data_url`, `file_url`: the other two schemes.
//! - `url_map`, `policy`: what is rewritten, and what is refused.
//! - `target`: the file that is written. `name`: what it is called.
//! - `git`: plugins from repositories.
//! - `error`, `redact`: what the user is told.

mod client;
mod config;
mod data_url;
mod error;
mod fetcher;
mod file_url;
mod git;
mod name;
mod policy;
mod redact;
mod target;
mod url_map;
mod web;

pub use client::Proxies;
pub use config::FetchConfig;
pub use data_url::DataUrl;
pub use error::{FetchError, Problem};
pub use fetcher::{Download, Fetcher};
pub use git::{GitClone, GitConfig, GitError, GitPlugin, GitPlugins};
pub use ipnet::IpNet;
pub use policy::AddressPolicy;
pub use redact::redact;
pub use url_map::{UrlMap, UrlMapError};
