//! `runner config`: every setting with its value, its meaning, and where it was set.

use clap::Args;
use runner_fetch::GitPlugins;
use serde_json::json;
use url::Url;

use crate::screen::{self, BOLD, WEAK, note, paint};
use crate::settings::sources::Sources;
use crate::settings::table::{SECRETS, SETTINGS};
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
                        "value": shown(setting.name, &sources.text(setting.name)),
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
            let value = shown(setting.name, &sources.text(setting.name));
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

/// A value without the password that its URL may have, and nothing of a secret but that it is set.
fn shown(name: &str, value: &str) -> String {
    if SECRETS.contains(&name) && !value.is_empty() {
        return "***".to_owned();
    }
    if name == "GIT_PLUGINS" {
        return GitPlugins::shown(value);
    }
    match Url::parse(value) {
        Ok(mut url) if url.password().is_some() => {
            // Only URLs without a host refuse it, and those have no password.
            let _ = url.set_password(Some("***"));
            url.into()
        }
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let url = "postgresql+psycopg2://me:secret@db/runner?sslmode=require";
        assert_eq!(
            shown("DATABASE_URL", url),
            "postgresql+psycopg2://me:***@db/runner?sslmode=require"
        );
        assert_eq!(
            shown("BROKER_URL", "redis://:secret@cache/0"),
            "redis://:***@cache/0"
        );
        assert_eq!(
            shown(
                "GIT_PLUGINS",
                "git+https://me:secret@h/a@1\n git+https://secret@h/b nonsense"
            ),
            "git+https://h/a@1\ngit+https://h/b\nnonsense"
        );
        for plain in ["sqlite:////a/b.db", "127.0.0.1", "5005", "", "a:b@c"] {
            assert_eq!(shown("RUNNER_HOST", plain), plain);
        }
        for secret in SECRETS {
            assert_eq!(shown(secret, "secret"), "***");
            assert_eq!(shown(secret, ""), "");
        }
    }
}
