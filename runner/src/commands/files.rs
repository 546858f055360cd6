//! `runner files`: the files of tasks, as they stand in the database and lie in the file store. Nothing has to be
//! stopped for it.

use std::time::SystemTime;

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use runner_core::age;
use runner_store::{Checked, Finding, Store, StoreConfig};
use serde_json::{Value, json};

use super::task::block_on;
use crate::client::Server;
use crate::instance::Holder;
use crate::screen::{self, BAD, Exit, GOOD, Table, WARN, WEAK, line, paint};
use crate::service::{given, host_name, process_name};
use crate::settings::Settings;
use crate::settings::sources::Sources;

/// What can be done with the files of tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum Files {
    /// Shows how much there is of what, and how much room is left.
    Usage(Usage),
    /// Finds rows without content, content without a row, and content that is not what was stored; also of modules that
    /// administrators loaded.
    Check(Check),
}

impl Files {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Usage(usage) => usage.run(),
            Self::Check(check) => check.run(),
        }
    }
}

/// Which installation is looked at: one on this machine.
#[derive(Debug, Args)]
pub(super) struct Here {
    /// Where tasks are kept: sqlite:///path, postgresql://… or mysql://… [DATABASE_URL, default in the instance folder]
    #[arg(long)]
    database_url: Option<String>,
    /// Folder of everything the runner keeps [RUNNER_INSTANCE_FOLDER, default instance]
    #[arg(long)]
    instance_folder: Option<String>,
}

impl Here {
    /// The settings with these flags.
    pub(super) fn settings(&self) -> anyhow::Result<Settings> {
        let flags = given([
            ("DATABASE_URL", &self.database_url),
            ("RUNNER_INSTANCE_FOLDER", &self.instance_folder),
        ]);
        Settings::read(&Sources::read(flags)?)
    }

    /// The runner that is alone in the instance folder: it remembers what it wrote, and so has to know what others change.
    pub(super) fn lonely(&self, settings: &Settings) -> anyhow::Result<Option<Server>> {
        if settings.database.is_server() {
            return Ok(None);
        }
        let holder = Holder::of(&settings.instance).and_then(|holder| holder.url);
        holder
            .map(|url| Server::own(&url, &settings.instance))
            .transpose()
    }

    /// Its store, beside those of the processes that serve. One that is not there is not made.
    pub(super) async fn store(&self, settings: &Settings) -> anyhow::Result<Store> {
        if let Some(file) = settings.database.file().filter(|file| !file.exists()) {
            bail!(
                "there is no database {}: name the instance folder with --instance-folder, or the database with \
                 --database-url",
                file.display()
            );
        }
        let store = Store::open(&StoreConfig {
            database: settings.database.clone(),
            files: settings.files.clone(),
            bucket: settings.bucket.clone(),
            durability: settings.durability,
            queue: settings.queue.clone(),
            process: process_name()?,
            is_alone: false,
        })
        .await?;
        store.check_file_store(&host_name()).await?;
        Ok(store)
    }
}

/// Arguments of `runner files usage`.
#[derive(Debug, Args)]
pub(crate) struct Usage {
    #[command(flatten)]
    here: Here,
    /// Prints a JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

impl Usage {
    fn run(&self) -> anyhow::Result<()> {
        let usage = block_on(async {
            let store = self.here.store(&self.here.settings()?).await?;
            let usage = store.usage().await;
            store.close().await;
            Ok(usage?)
        })?;
        if self.json {
            let counted = |(count, bytes): (u64, u64)| json!({"count": count, "bytes": bytes});
            return screen::print_json(&json!({
                "tasks": usage.tasks,
                "outputs": counted(usage.outputs),
                "uploads": counted(usage.uploads),
                "temporary": counted(usage.temporary),
                "content": counted(usage.content),
                "database": usage.database,
                "free": usage.free,
            }));
        }
        let plain = anstyle::Style::new();
        let mut table = Table::new(&["WHAT", "COUNT", "BYTES"]);
        for (state, count) in &usage.tasks {
            table.row([
                (&format!("tasks {state}"), plain),
                (&count.to_string(), plain),
                ("", plain),
            ]);
        }
        for (what, (count, bytes)) in [
            ("outputs", usage.outputs),
            ("uploads", usage.uploads),
            ("unfinished files", usage.temporary),
            ("all of the file store", usage.content),
        ] {
            table.row([
                (what, plain),
                (&count.to_string(), plain),
                (&size(bytes), plain),
            ]);
        }
        if let Some(bytes) = usage.database {
            table.row([("database", plain), ("", plain), (&size(bytes), plain)]);
        }
        table.row([("free", WEAK), ("", plain), (&size(usage.free), WEAK)]);
        screen::print(&table.text())
    }
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    #[expect(
        clippy::cast_precision_loss,
        reason = "one digit after the point is shown"
    )]
    let mut amount = bytes as f64;
    let mut shown = format!("{bytes} bytes");
    for unit in UNITS {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        shown = format!("{amount:.1} {unit}");
    }
    shown
}

/// Arguments of `runner files check`.
#[derive(Debug, Args)]
#[command(after_help = "\
It may be used while runners serve. Files that were stored lately may not have a row yet, and are passed over.
The exit code is 1 if something is found and not repaired.")]
pub(crate) struct Check {
    #[command(flatten)]
    here: Here,
    /// Removes content without a row, and rows without content.
    #[arg(long)]
    repair: bool,
    /// Reads all content and compares its digests.
    #[arg(long)]
    digests: bool,
    /// Content is passed over that was stored later than this span ago [default RETAIN_TEMPORARY]
    #[arg(long, value_name = "SPAN")]
    older_than: Option<String>,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

impl Check {
    fn run(&self) -> anyhow::Result<()> {
        let checked = block_on(async {
            let settings = self.here.settings()?;
            let age = match &self.older_than {
                Some(text) => {
                    age::parse(text).map_err(|problem| anyhow!("--older-than: {problem}"))?
                }
                None => settings.retention.temporary,
            };
            let store = self.here.store(&settings).await?;
            let before = SystemTime::now() - age;
            let checked = store.check_files(before, self.digests, self.repair).await;
            store.close().await;
            let checked = checked?;
            let has_changed = |finding: &Finding| matches!(finding, Finding::NoContent { .. });
            if self.repair
                && checked.findings.iter().any(has_changed)
                && let Some(server) = self.here.lonely(&settings)?
            {
                // It forgets what it remembers of tasks.
                server.post("retention/run").await?;
            }
            Ok(checked)
        })?;
        match self.json {
            true => screen::print_json(&document(&checked))?,
            false => screen::print(&shown(&checked))?,
        }
        match checked.findings.len() as u64 > checked.repaired {
            true => Err(Exit(1).into()),
            false => Ok(()),
        }
    }
}

fn document(checked: &Checked) -> Value {
    let findings: Vec<Value> = checked.findings.iter().map(finding).collect();
    json!({
        "rows": checked.rows,
        "contents": checked.contents,
        "young": checked.young,
        "repaired": checked.repaired,
        "findings": findings,
    })
}

fn finding(finding: &Finding) -> Value {
    match finding {
        Finding::NoRow { key, size } => json!({"kind": "noRow", "key": key, "size": size}),
        Finding::NoContent {
            file,
            task,
            key,
            name,
        } => {
            json!({"kind": "noContent", "file": file, "task": task, "key": key, "name": name})
        }
        Finding::WrongSize {
            file,
            task,
            name,
            expected,
            found,
        } => json!({
            "kind": "wrongSize", "file": file, "task": task, "name": name, "expected": expected, "found": found,
        }),
        Finding::WrongDigest { file, task, name } => {
            json!({"kind": "wrongDigest", "file": file, "task": task, "name": name})
        }
        Finding::NoPackage { module, queue, key } => {
            json!({"kind": "noPackage", "module": module, "queue": queue, "key": key})
        }
        Finding::WrongPackage {
            module,
            queue,
            expected,
            found,
        } => json!({
            "kind": "wrongPackage", "module": module, "queue": queue, "expected": expected, "found": found,
        }),
        Finding::Unfinished { count, size } => {
            json!({"kind": "unfinished", "count": count, "size": size})
        }
    }
}

fn shown(checked: &Checked) -> String {
    let mut shown = String::new();
    for finding in &checked.findings {
        let (kind, text) = match finding {
            Finding::NoRow { key, size: bytes } => ("no row", format!("{key}, {}", size(*bytes))),
            Finding::NoContent {
                file, task, name, ..
            } => ("no content", format!("file {file} of task {task}, {name}")),
            Finding::WrongSize {
                file,
                task,
                name,
                expected,
                found,
            } => (
                "wrong size",
                format!("file {file} of task {task}, {name}: {found} bytes instead of {expected}"),
            ),
            Finding::WrongDigest { file, task, name } => (
                "wrong content",
                format!("file {file} of task {task}, {name}"),
            ),
            Finding::NoPackage { module, queue, .. } => (
                "no package",
                format!("module {module} of the queue {queue}: load it again, or remove it"),
            ),
            Finding::WrongPackage {
                module,
                queue,
                expected,
                found,
            } => (
                "wrong package",
                format!(
                    "module {module} of the queue {queue}: {found} bytes instead of {expected}; load it again, or \
                     remove it"
                ),
            ),
            Finding::Unfinished { count, size: bytes } => {
                ("unfinished", format!("{count} files, {}", size(*bytes)))
            }
        };
        shown.push_str(&format!("{}  {}\n", paint(BAD, kind), line(&text)));
    }
    let found = checked.findings.len();
    let verdict = match (found, checked.repaired) {
        (0, _) => paint(GOOD, "all fits together"),
        (found, 0) => paint(BAD, format!("{found} found")),
        (found, repaired) => paint(WARN, format!("{found} found, {repaired} repaired")),
    };
    shown.push_str(&format!(
        "{} rows and {} files of the file store, of which {} are too young to tell: {verdict}\n",
        checked.rows, checked.contents, checked.young
    ));
    shown
}
