//! Servers, workers, Redis and databases as processes of their own, of which any may fail.
//!
//! # Layout
//! - `site`: an installation: its Redis, its database, its processes. `load`: hundreds of tasks and what
//!   they must put out. `audit`: what must hold after every disaster. `held`: tasks that
//!   run until the test lets them end. `manifests`: plugins with rules of their own.
//! - `workers`: killed, halted, stopped in order. `servers`: killed; two of them. `brokers`, `databases`:
//!   killed, emptied. `network`: cut and stalled. `disk`: full.
//! - `dispatch`: retries, moments, priorities, time limits, keys, manifests, turns. `apart`: workers with
//!   other plugins, other queues. `live`: events, cancelling, webhooks over several processes.
//! - `pipelines`: those that come with requests, on a worker of their own.
//! - `sessions`: kernels at workers, reached by any server.
//! - `schedules`: fired once, however many workers there are. `modules`: what is wanted of them, followed by all.
//! - `sight`: health and numbers of several processes, and one that is at another Redis. `container`: the entry
//!   point of the image in a root folder of its own. `backup`: the lines of the page on production.
//! - `refusals`: bad starts. `db`: the command for the tables. `services`: the harness itself.

mod apart;
mod audit;
mod backup;
mod brokers;
mod container;
mod databases;
mod db;
mod disk;
mod dispatch;
mod docs;
mod held;
mod live;
mod load;
mod manifests;
mod modules;
mod network;
mod pipelines;
mod refusals;
mod schedules;
mod servers;
mod services;
mod sessions;
mod sight;
mod site;
mod workers;
