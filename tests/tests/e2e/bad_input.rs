//! Clients, plugins and disks that misbehave: a clear answer, and nothing else is harmed.

mod clients;
mod disk;
mod escapes;
mod floods;
mod loading;
mod modules;
mod running;
mod uploads;
mod values;
