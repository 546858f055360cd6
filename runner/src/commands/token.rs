//! `runner token`: a token for who may use a runner that checks them with a shared secret.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use runner_server::auth::{KeyConfig, sign};

use crate::screen;
use crate::settings::sources::Sources;
use crate::settings::{Flags, Settings};

/// Seconds of a day.
const DAY: f64 = 24.0 * 3600.0;

/// Arguments of `runner token`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  runner token --role user --subject ada
  RUNNER_TOKEN=$(runner token --role admin --days 1) runner task list --url https://runner.example.org

The secret is AUTH_SECRET; AUTH_ISSUER, AUTH_AUDIENCE and AUTH_ROLES_CLAIM are kept to. A token cannot be
taken back: it is believed until it expires, or until the secret is another one.")]
pub(crate) struct Token {
    /// What its bearer may do
    #[arg(long, value_enum, default_value_t = Role::User)]
    role: Role,
    /// Who its bearer is: those of one name take turns with others
    #[arg(long, default_value = "runner-token")]
    subject: String,
    /// Days until it expires
    #[arg(long, default_value_t = 30.0)]
    days: f64,
}

/// What a bearer may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    /// See plugins and tasks
    Viewer,
    /// Run plugins, change tasks
    User,
    /// See and change the installation
    Admin,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

impl Token {
    /// Prints the token.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let settings = Settings::read(&Sources::read(Flags::new())?)?;
        let Some(KeyConfig::Secret(secret)) = &settings.auth.key else {
            bail!(
                "there is no secret to sign a token with: set AUTH and AUTH_SECRET as the runner has them (tokens \
                 for AUTH_PUBLIC_KEY and AUTH_JWKS_URL are made by who has the private key)"
            );
        };
        let lasts = Duration::try_from_secs_f64(self.days * DAY).context("--days")?;
        let token = sign(
            secret,
            &settings.auth,
            &self.subject,
            self.role.name(),
            lasts,
        )
        .map_err(anyhow::Error::msg)
        .context("cannot sign a token")?;
        screen::print(&format!("{token}\n"))
    }
}
