//! `runner doctor`: what the runner needs, whether it is there, and what to do.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use runner_core::module::{Confinement, ModuleState, ModuleStatus};
use runner_host::Environments;
use runner_host::loader::Registered;
use runner_server::auth::Mode;
use serde_json::{Value, json};

use super::Folders;
use crate::instance::{Holder, base_url};
use crate::scratch::{Missing, Scratch, What};
use crate::screen::{self, BAD, Exit, GOOD, WARN, indent, line, paint};
use crate::settings::sources::{ENV_FILE, TOML_FILE};
use crate::settings::{Flags, Settings};

/// The oldest Python that the SDK takes.
const OLDEST_PYTHON: (u32, u32) = (3, 9);

/// Arguments of `runner doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
The exit code is 1 if something would not work; a warning does not count.")]
pub(crate) struct Doctor {
    #[command(flatten)]
    folders: Folders,
    /// Prints a JSON document instead of text.
    #[arg(long)]
    json: bool,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Ok,
    Warning,
    Problem,
}

/// What was looked at.
#[derive(Debug)]
struct Finding {
    level: Level,
    what: &'static str,
    detail: String,
    /// What to do.
    advice: String,
}

impl Finding {
    fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            what,
            detail: detail.into(),
            advice: String::new(),
        }
    }

    fn warning(what: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            what,
            detail: detail.into(),
            advice: advice.into(),
        }
    }

    fn problem(what: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Problem,
            what,
            detail: detail.into(),
            advice: advice.into(),
        }
    }

    fn shown(&self) -> String {
        let mark = match self.level {
            Level::Ok => paint(GOOD, "ok      "),
            Level::Warning => paint(WARN, "warning "),
            Level::Problem => paint(BAD, "problem "),
        };
        let mut text = format!("{mark}{:<16} {}\n", self.what, line(&self.detail));
        if !self.advice.is_empty() {
            text.push_str(&format!("{}\n", indent(&line(&self.advice), 25)));
        }
        text
    }

    fn document(&self) -> Value {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        };
        json!({ "level": level, "what": self.what, "detail": self.detail, "advice": self.advice })
    }
}

impl Doctor {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut modules = Vec::new();
        let findings = match self.folders.settings(Flags::new()) {
            Err(error) => vec![Finding::problem(
                "settings",
                format!("{error:#}"),
                "correct it; `runner config` shows where each setting comes from. Nothing else was looked at",
            )],
            Ok(settings) => {
                let mut findings = basics(&settings);
                findings.extend(self.plugins(settings, &mut modules));
                findings
            }
        };
        let is_ok = findings
            .iter()
            .all(|finding| finding.level != Level::Problem);
        if self.json {
            let findings: Vec<Value> = findings.iter().map(Finding::document).collect();
            screen::print_json(&json!({ "ok": is_ok, "findings": findings, "modules": modules }))?;
        } else {
            let text: String = findings.iter().map(Finding::shown).collect();
            screen::print(&text)?;
        }
        if is_ok { Ok(()) } else { Err(Exit(1).into()) }
    }

    /// Sandbox and modules: these need hosts.
    fn plugins(&self, settings: Settings, modules: &mut Vec<ModuleStatus>) -> Vec<Finding> {
        let mut findings = folders(&settings);
        let failed = failed_modules(&settings.instance);
        let environments = Environments::new(
            settings.environments(&settings.instance, false),
            settings.python.clone(),
        );
        let loaded = Scratch::with(settings, Missing::Told, async |scratch| {
            let table = scratch.load(&What::Folders).await?;
            let statuses: Vec<ModuleStatus> =
                table.modules.iter().map(|module| module.status()).collect();
            Ok((scratch.modules.sandbox(), statuses))
        });
        match loaded {
            Err(error) => findings.push(Finding::problem(
                "plugin processes",
                format!("{error:#}"),
                "the runner cannot start processes for plugins",
            )),
            Ok((sandbox, statuses)) => {
                findings.push(confinement(&sandbox));
                findings.extend(failed);
                findings.extend(statuses.iter().map(|status| module(status, &environments)));
                *modules = statuses;
            }
        }
        findings
    }
}

/// What can be seen without starting anything.
fn basics(settings: &Settings) -> Vec<Finding> {
    let files: Vec<&str> = [ENV_FILE, TOML_FILE]
        .into_iter()
        .filter(|file| Path::new(file).is_file())
        .collect();
    let mut findings = vec![Finding::ok(
        "settings",
        match files.is_empty() {
            true => format!(
                "from flags and the environment; there is no {ENV_FILE} or {TOML_FILE} here"
            ),
            false => format!("from flags, the environment, {}", files.join(" and ")),
        },
    )];
    for notice in &settings.notices {
        let advice = "remove it, or use what takes its place";
        findings.push(Finding::warning("settings", notice.clone(), advice));
    }
    findings.push(python(&settings.python));
    findings.push(compiler());
    findings.push(access(settings));
    findings.extend(settings.loaders.iter().map(loader));
    let holder = Holder::of(&settings.instance);
    findings.push(instance(&settings.instance, holder.as_ref()));
    findings.push(disk(settings));
    findings.push(port(settings, holder.as_ref()));
    findings
}

/// Who may ask for what.
fn access(settings: &Settings) -> Finding {
    let advice = "docs/authentication.md says what there is";
    let auth = match crate::service::auth(settings) {
        Ok(auth) => auth,
        Err(error) => return Finding::problem("access", format!("{error:#}"), advice),
    };
    let (host, mode) = (settings.host, auth.mode());
    match (mode, crate::settings::access::notice(&settings.auth)) {
        (_, Some(notice)) => Finding::warning("access", notice, advice),
        (Mode::Off, _) if host.is_loopback() => Finding::ok(
            "access",
            format!("{host} is reached from this machine only"),
        ),
        (Mode::Off, _) => Finding::warning(
            "access",
            format!(
                "whoever reaches {host} may run plugins and read all results, as AUTH=off says"
            ),
            advice,
        ),
        (Mode::Optional, _) => Finding::ok(
            "access",
            "AUTH=optional: tokens are looked at where they are shown",
        ),
        (Mode::Required, _) => Finding::ok("access", "AUTH=required: requests must show a token"),
    }
}

fn python(python: &str) -> Finding {
    const QUESTION: &str =
        "import sys; print('%d.%d.%d' % sys.version_info[:3]); print(sys.executable)";
    let asked = Command::new(python)
        .args(["-c", QUESTION])
        .stdin(Stdio::null())
        .output();
    let advice = "Python plugins need Python 3.9 or newer: install it, or name another one with the setting PYTHON";
    let output = match asked {
        Ok(output) if output.status.success() => output,
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let reason = text.lines().last().unwrap_or("it fails").to_owned();
            return Finding::problem(
                "Python",
                format!("{python:?} is not usable: {reason}"),
                advice,
            );
        }
        Err(error) => {
            return Finding::problem(
                "Python",
                format!("{python:?} cannot be started: {error}"),
                advice,
            );
        }
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let (version, executable) = text.split_once('\n').unwrap_or((&text, ""));
    let mut numbers = version
        .split('.')
        .filter_map(|number| number.trim().parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let detail = format!("{} ({})", version.trim(), executable.trim());
    match found >= OLDEST_PYTHON {
        true => Finding::ok("Python", detail),
        false => Finding::problem("Python", format!("{detail} is too old"), advice),
    }
}

/// A loader of the configuration.
fn loader(loader: &Registered) -> Finding {
    match loader.executable() {
        Ok(_) => Finding::ok("loader", loader.shown()),
        Err(error) => Finding::problem(
            "loader",
            format!("{}: {error}", loader.shown()),
            "install it, or correct the setting LOADERS",
        ),
    }
}

fn compiler() -> Finding {
    let name = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let asked = Command::new(&name)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    match asked {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            Finding::ok(
                "C compiler",
                text.lines().next().unwrap_or(&name).to_owned(),
            )
        }
        _ => Finding::warning(
            "C compiler",
            format!("{name} cannot be started"),
            "only needed to build the runner itself and plugins in Rust: install gcc or clang for that",
        ),
    }
}

fn instance(folder: &Path, holder: Option<&Holder>) -> Finding {
    const WHAT: &str = "instance folder";
    let shown = folder.display();
    if let Some(holder) = holder {
        let at = holder
            .url
            .as_ref()
            .map(|url| format!(", at {url}/"))
            .unwrap_or_default();
        return Finding::ok(
            WHAT,
            format!("{shown} is in use by a runner (process {}{at})", holder.pid),
        );
    }
    let advice =
        "make it writable for this account, or name another one with RUNNER_INSTANCE_FOLDER";
    let Some(there) = nearest(folder) else {
        return Finding::problem(WHAT, format!("{shown} cannot be made"), advice);
    };
    // The most certain way to know whether something can be written is to write it.
    match tempfile::Builder::new()
        .prefix(".runner-doctor-")
        .tempfile_in(&there)
    {
        Ok(_) if there == folder => Finding::ok(WHAT, format!("{shown} is writable")),
        Ok(_) => Finding::ok(WHAT, format!("{shown} is made at the first start")),
        Err(error) => Finding::problem(WHAT, format!("{shown} cannot be written: {error}"), advice),
    }
}

/// The folder, or the next one above that is there.
fn nearest(folder: &Path) -> Option<PathBuf> {
    if folder.is_dir() {
        return Some(folder.to_owned());
    }
    let absolute = std::path::absolute(folder).ok()?;
    absolute
        .ancestors()
        .find(|above| above.is_dir())
        .map(Path::to_owned)
}

fn disk(settings: &Settings) -> Finding {
    const WHAT: &str = "disk space";
    let folder = nearest(&settings.files).unwrap_or_else(|| PathBuf::from("/"));
    let (free, floor) = match nix::sys::statvfs::statvfs(&folder) {
        Ok(stat) => (
            stat.blocks_available() * stat.fragment_size(),
            settings.disk_floor,
        ),
        Err(error) => {
            return Finding::warning(
                WHAT,
                format!("not known for {}: {error}", folder.display()),
                "",
            );
        }
    };
    let detail = format!(
        "{} free at {}, of which {} stay free",
        size(free),
        folder.display(),
        size(floor)
    );
    match free {
        free if free < floor => Finding::problem(
            WHAT,
            detail,
            "no task is accepted: make room, or lower DISK_FLOOR, or move FILE_STORE_ROOT_PATH",
        ),
        free if free < floor.saturating_mul(2) => Finding::warning(WHAT, detail, "make room soon"),
        _ => Finding::ok(WHAT, detail),
    }
}

fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let gibibytes = bytes as f64 / f64::from(1 << 30);
    format!("{gibibytes:.1} GiB")
}

fn port(settings: &Settings, holder: Option<&Holder>) -> Finding {
    const WHAT: &str = "port";
    let address = SocketAddr::new(settings.host, settings.port);
    let ours = holder.and_then(|holder| holder.url.as_deref());
    if ours == Some(&base_url(&address)) {
        return Finding::ok(
            WHAT,
            format!("{address} is used by the runner of this instance folder"),
        );
    }
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(WHAT, format!("{address} is free")),
        Err(error) => {
            let advice = match error.kind() {
                ErrorKind::AddrInUse => {
                    "another program listens there: end it, or choose another --port"
                }
                ErrorKind::PermissionDenied => {
                    "ports below 1024 need a privilege: choose another --port"
                }
                _ => "choose another --host",
            };
            Finding::problem(WHAT, format!("cannot listen on {address}: {error}"), advice)
        }
    }
}

fn confinement(sandbox: &Confinement) -> Finding {
    let has = |level: &str| sandbox.levels.iter().any(|one| one == level);
    let advice = match (has("L1"), has("L2")) {
        (false, _) => {
            "plugins can read and write what this account can: use a kernel with Landlock (5.13 or newer, with \
             landlock in its list of LSMs) and seccomp, or run only plugins that you trust"
        }
        (true, false) => {
            "plugins see the processes of this machine, and their folders are only watched: allow user \
             namespaces for this account (docs/sandbox.md says how), or run only plugins that you trust"
        }
        // Control groups need rights that an ordinary account does not have.
        _ => return Finding::ok("sandbox", sandbox.to_string()),
    };
    Finding::warning("sandbox", sandbox.to_string(), advice)
}

fn folders(settings: &Settings) -> Vec<Finding> {
    const WHAT: &str = "plugin folders";
    if settings.plugin_folders.is_empty() {
        return vec![Finding::warning(
            WHAT,
            "there are none: neither plugins nor stable_plugins is here",
            "make a folder `plugins`, or name others with --plugin-folders or PLUGIN_FOLDERS",
        )];
    }
    let one = |folder: &PathBuf| match std::fs::read_dir(folder) {
        Ok(_) => Finding::ok(WHAT, folder.display().to_string()),
        Err(error) => Finding::problem(
            WHAT,
            format!("{} cannot be read: {error}", folder.display()),
            "make it, or take it out of PLUGIN_FOLDERS",
        ),
    };
    settings.plugin_folders.iter().map(one).collect()
}

/// Modules that have failed in the runner that works in the instance folder.
fn failed_modules(instance: &Path) -> Vec<Finding> {
    let Some(url) = Holder::of(instance).and_then(|holder| holder.url) else {
        return Vec::new();
    };
    let asked = || -> anyhow::Result<Value> {
        let token = crate::instance::token(instance)?;
        let server = crate::client::Server::new(&url)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(server.get(&format!("modules/?token={token}")))
    };
    let answer = match asked() {
        Ok(answer) => answer,
        Err(error) => {
            return vec![Finding::warning(
                "running modules",
                format!("the runner at {url}/ does not tell about them: {error:#}"),
                "",
            )];
        }
    };
    let modules = answer["modules"].as_array().into_iter().flatten();
    let failed = modules.filter(|module| module["failed"] == true);
    failed
        .map(|module| {
            let (name, reason) = (&module["name"], &module["reason"]);
            Finding::problem(
                "module",
                format!(
                    "{} has failed in the runner at {url}/: {}",
                    name.as_str().unwrap_or_default(),
                    reason.as_str().unwrap_or_default()
                ),
                "its log says more; it is tried again by itself, and one run that works makes up for all",
            )
        })
        .collect()
}

fn module(status: &ModuleStatus, environments: &Environments) -> Finding {
    let plugins = status.plugins.join(", ");
    let lacks = |digest: &String| !environments.is_there(digest);
    match (&status.reason, status.state) {
        (Some(reason), _) if status.environment.as_ref().is_some_and(lacks) => Finding::warning(
            "module",
            format!("{} was not loaded: {reason}", status.name),
            "`runner up` makes it as well, before the module can be used",
        ),
        (None, ModuleState::Running) => Finding::ok(
            "module",
            format!("{} ({}): {plugins}", status.name, status.loader),
        ),
        (reason, _) => {
            let reason = reason.as_deref().unwrap_or("it was not described in time");
            let advice = format!("`runner plugin check {}` says more", status.path);
            Finding::problem(
                "module",
                format!("{} is not loaded: {reason}", status.name),
                advice,
            )
        }
    }
}
