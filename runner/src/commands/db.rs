//! `runner db`: the tables of the database.

use anyhow::bail;
use clap::{Args, Subcommand};
use runner_store::{DatabaseUrl, MigrationStatus, drop_all, migrate, migration_status};
use serde_json::json;

use super::task::block_on;
use crate::screen::{print, print_json};
use crate::service::given;
use crate::settings::Settings;
use crate::settings::sources::Sources;

/// What can be done with the tables. Servers and workers make them themselves when they start.
#[derive(Debug, Subcommand)]
pub(crate) enum Db {
    /// Makes the tables, or brings them up to date.
    #[command(alias = "upgrade")]
    Migrate(Where),
    /// Says which migrations were applied.
    Status {
        #[command(flatten)]
        at: Where,
        /// Prints a JSON document instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Removes the tables of the runner with all tasks in them. Files stay where they are.
    Drop {
        #[command(flatten)]
        at: Where,
        /// Says that this is meant.
        #[arg(long)]
        yes: bool,
    },
}

/// Which database.
#[derive(Debug, Args)]
pub(crate) struct Where {
    /// Where tasks are kept: sqlite:///path, postgresql://… or mysql://… [DATABASE_URL, default in the instance folder]
    #[arg(long)]
    database_url: Option<String>,
    /// Folder of everything the runner keeps [RUNNER_INSTANCE_FOLDER, default instance]
    #[arg(long)]
    instance_folder: Option<String>,
}

impl Where {
    fn url(&self) -> anyhow::Result<DatabaseUrl> {
        let flags = given([
            ("DATABASE_URL", &self.database_url),
            ("RUNNER_INSTANCE_FOLDER", &self.instance_folder),
        ]);
        Ok(Settings::read(&Sources::read(flags)?)?.database)
    }
}

impl Db {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Migrate(at) => block_on(async {
                let url = at.url()?;
                migrate(&url).await?;
                print(&format!("{url} is up to date\n"))
            }),
            Self::Status { at, json } => block_on(async {
                let url = at.url()?;
                show(&url, &migration_status(&url).await?, json)
            }),
            Self::Drop { at, yes } => block_on(async {
                let url = at.url()?;
                if !yes {
                    bail!("this removes all tasks from {url}: say --yes if that is meant");
                }
                drop_all(&url).await?;
                print(&format!("the tables of the runner are gone from {url}\n"))
            }),
        }
    }
}

fn show(url: &DatabaseUrl, migrations: &[MigrationStatus], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let migrations: Vec<_> = migrations
            .iter()
            .map(|migration| {
                json!({
                    "version": migration.version,
                    "name": migration.name,
                    "appliedAt": migration.applied_at,
                })
            })
            .collect();
        return print_json(&json!({ "database": url.to_string(), "migrations": migrations }));
    }
    let mut text = format!("{url}\n");
    for migration in migrations {
        let state = match migration.applied_at {
            Some(_) => "applied",
            None => "missing: run `runner db migrate`",
        };
        text.push_str(&format!(
            "  {:>4}  {:<40} {state}\n",
            migration.version, migration.name
        ));
    }
    print(&text)
}
