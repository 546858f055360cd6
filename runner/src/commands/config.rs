//! `runner config`: every setting with its value, its meaning, and where it was set.

use clap::Args;
use serde_json::json;

use crate::screen::{self, BOLD, WEAK, note, paint};
use crate::settings::sources::Sources;
use crate::settings::table::SETTINGS;
use crate::settings::{Flags, Settings};

/// Arguments of `runner config`.
#[derive(Debug, Args)]
pub(crate) struct Config {
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Config {
    /// Prints the settings, also when one of them is wrong; then says which.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let sources = Sources::read(Flags::new())?;
        let settings = Settings::read(&sources);
        if self.json {
            let all: Vec<_> = SETTINGS
                .iter()
                .map(|setting| {
                    json!({
                        "name": setting.name,
                        "value": sources.text(setting.name),
                        "origin": sources.origin(setting.name).to_string(),
                        "default": setting.default,
                        "meaning": setting.meaning,
                    })
                })
                .collect();
            let notices = settings
                .as_ref()
                .map_or_else(|_| sources.notices(), |s| s.notices.clone());
            screen::print_json(&json!({ "settings": all, "notices": notices }))?;
            return settings.map(drop);
        }
        let mut text = String::new();
        for setting in SETTINGS {
            let value = sources.text(setting.name);
            let origin = sources.origin(setting.name);
            text.push_str(&format!(
                "{}={value}  {}\n    {}\n",
                paint(BOLD, setting.name),
                paint(WEAK, format!("({origin})")),
                setting.meaning
            ));
        }
        screen::print(&text)?;
        for notice in settings?.notices {
            note(&notice);
        }
        Ok(())
    }
}
