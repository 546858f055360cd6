//! `runner config`: every setting with its value, its meaning, and where it was set.

use std::io::Write;

use crate::settings::sources::Sources;
use crate::settings::table::SETTINGS;
use crate::settings::{Flags, Settings};

/// Prints the settings, also when one of them is wrong; then says which.
pub(crate) fn run() -> anyhow::Result<()> {
    let sources = Sources::read(Flags::new())?;
    let mut out = std::io::stdout().lock();
    for setting in SETTINGS {
        let value = sources.text(setting.name);
        let origin = sources.origin(setting.name);
        writeln!(
            out,
            "{}={value}  ({origin})\n    {}",
            setting.name, setting.meaning
        )?;
    }
    drop(out);
    let settings = Settings::read(&sources)?;
    for notice in settings.notices {
        eprintln!("{notice}");
    }
    Ok(())
}
