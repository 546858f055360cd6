//! All settings: from flags, the environment, `.env` and `runner.toml`, the first of these that has one.
//!
//! [`table::SETTINGS`] lists them with their names, defaults and meaning; [`Settings`] is what the program
//! needs.

pub(crate) mod access;
mod modules;
pub(crate) mod sage_cell;
pub(crate) mod sessions;
pub(crate) mod sources;
pub(crate) mod surroundings;
pub(crate) mod table;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use runner_core::age;
use runner_core::retention::{Ages, Retention, read_age};
use runner_fetch::{AddressPolicy, GitConfig, GitPlugins, UrlMap};
use runner_host::loader::Registered;
use runner_host::{Limits as HostLimits, NetworkRule, SandboxConfig, SandboxMode, Trust};
use runner_server::auth::AuthConfig;
use runner_server::{Hosts, Limits, Origins};
use runner_session::SessionsConfig;
use runner_store::{Bucket, DatabaseUrl, Durability};
use runner_worker::Mismatch;

use sage_cell::SageCellSettings;
use sources::Sources;
use surroundings::Surroundings;

/// A process that is held up for less than this is not taken for dead.
const MIN_LEASE: Duration = Duration::from_secs(1);
/// What is stored becomes a file of a task within this time.
const MIN_TEMPORARY: Duration = Duration::from_secs(60);
/// The shortest that unread permalinks are kept.
const MIN_UNREAD: Duration = Duration::from_secs(2 * 24 * 3_600);

/// What the program needs of its settings.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) host: IpAddr,
    pub(crate) port: u16,
    pub(crate) instance: PathBuf,
    pub(crate) plugin_folders: Vec<PathBuf>,
    pub(crate) git_plugins: GitPlugins,
    pub(crate) trust: Trust,
    pub(crate) database: DatabaseUrl,
    pub(crate) broker: Option<String>,
    pub(crate) queue: String,
    pub(crate) worker_lease: Duration,
    pub(crate) files: PathBuf,
    /// Where files are instead; `files` has their drafts then.
    pub(crate) bucket: Option<Bucket>,
    pub(crate) durability: Durability,
    pub(crate) concurrency: usize,
    pub(crate) server_name: Option<String>,
    pub(crate) public_url: Option<String>,
    pub(crate) hosts: Hosts,
    pub(crate) origins: Origins,
    pub(crate) auth: AuthConfig,
    /// Whether it may serve; if not, because others would reach it by oversight, what to do.
    pub(crate) may_serve: Result<(), String>,
    pub(crate) addresses: AddressPolicy,
    pub(crate) limits: Limits,
    pub(crate) proxies: usize,
    pub(crate) development: bool,
    /// Whether the plugin folders are followed.
    pub(crate) watch: bool,
    pub(crate) url_map: UrlMap,
    pub(crate) file_roots: Vec<PathBuf>,
    pub(crate) max_input: u64,
    pub(crate) node_files: u64,
    pub(crate) max_upload: u64,
    pub(crate) max_body: u64,
    pub(crate) max_parameters: u64,
    pub(crate) disk_floor: u64,
    pub(crate) retention: Retention,
    pub(crate) run_timeout: Duration,
    pub(crate) route_timeout: Duration,
    pub(crate) describe_timeout: Duration,
    pub(crate) cancel_grace: Duration,
    pub(crate) shutdown_grace: Duration,
    pub(crate) module_mismatch: Mismatch,
    pub(crate) module_drain: Duration,
    pub(crate) host_idle: Duration,
    pub(crate) max_hosts: usize,
    pub(crate) sandbox: SandboxConfig,
    pub(crate) plugin_network: NetworkRule,
    pub(crate) host_limits: HostLimits,
    pub(crate) python: String,
    /// Whether packages without a wheel are built.
    pub(crate) builds: bool,
    pub(crate) install_timeout: Duration,
    /// Where virtual environments are looked for, beside the instance folder.
    pub(crate) environments: Option<PathBuf>,
    pub(crate) loaders: Vec<Registered>,
    /// The interface of Sage Cell, where it is switched on.
    pub(crate) sage_cell: Option<SageCellSettings>,
    /// What a worker does, if not all.
    pub(crate) only: Option<Only>,
    /// Kernels of clients, unless there are to be none.
    pub(crate) sessions: Option<SessionsConfig>,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    pub(crate) metrics_address: Option<SocketAddr>,
    pub(crate) surroundings: Surroundings,
    /// What the user should know about what was set.
    pub(crate) notices: Vec<String>,
}

/// What a worker may be limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    /// It has no sessions.
    Tasks,
    /// It runs no tasks, and so loads no plugins.
    Sessions,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Settings {
    /// Reads all settings. The working directory is where relative paths begin.
    pub(crate) fn read(sources: &Sources) -> anyhow::Result<Self> {
        let instance = PathBuf::from(sources.text("RUNNER_INSTANCE_FOLDER"));
        let under = |name: &str| instance.join(name);
        let concurrency = match sources.text("CONCURRENCY").as_str() {
            "0" | "" => std::thread::available_parallelism().map_or(1, usize::from),
            _ => parsed(sources, "CONCURRENCY")?,
        };
        let only = match sources.text("WORKER_ONLY").as_str() {
            "" => None,
            "tasks" => Some(Only::Tasks),
            "sessions" => Some(Only::Sessions),
            other => bail!(
                "WORKER_ONLY is {other:?}; expected tasks, sessions, or nothing for both ({})",
                sources.origin("WORKER_ONLY")
            ),
        };
        let (files, bucket) = file_store(sources, under("files"))?;
        let database = match sources.get("DATABASE_URL") {
            Some(url) => DatabaseUrl::parse(&url)
                .with_context(|| format!("DATABASE_URL ({})", sources.origin("DATABASE_URL")))?,
            None => DatabaseUrl::of_file(under("runner.sqlite")),
        };
        let durability = match sources.text("DURABILITY").as_str() {
            "process" => Durability::Process,
            "power" => Durability::Power,
            // A server of SQL syncs what it acknowledges: its rows should not outlive their files.
            "" if database.is_server() => Durability::Power,
            "" => Durability::Process,
            other => bail!("DURABILITY is {other:?}; expected process or power"),
        };
        let url_map = sources.text("URL_MAP");
        let url_map = match url_map.as_str() {
            "" => UrlMap::default(),
            text => UrlMap::parse(text)
                .with_context(|| format!("URL_MAP ({})", sources.origin("URL_MAP")))?,
        };
        let max_hosts = parsed(sources, "MAX_HOSTS")?;
        let host: IpAddr = parsed(sources, "RUNNER_HOST")?;
        let auth = access::auth(sources)?;
        let public_url = access::public_url(sources)?;
        Ok(Self {
            host,
            hosts: access::hosts(sources, public_url.as_deref())?,
            public_url,
            origins: access::origins(sources)?,
            may_serve: access::check_open(sources, host, auth.mode),
            addresses: access::addresses(sources, auth.mode)?,
            limits: access::limits(sources)?,
            auth,
            port: parsed(sources, "RUNNER_PORT")?,
            plugin_folders: match sources.get("PLUGIN_FOLDERS") {
                Some(folders) => paths(&folders),
                None => usual_folders(Path::new(".")),
            },
            database,
            broker: sources.get("BROKER_URL").filter(|url| !url.is_empty()),
            queue: queue_name(sources)?,
            worker_lease: seconds(sources, "WORKER_LEASE")?.max(MIN_LEASE),
            files,
            bucket,
            durability,
            concurrency,
            server_name: sources.get("SERVER_NAME").filter(|name| !name.is_empty()),
            proxies: parsed(sources, "REVERSE_PROXY_COUNT")?,
            development: switch(sources, "DEVELOPMENT")?,
            watch: switch(sources, "WATCH")?,
            trust: trust(sources)?,
            git_plugins: git_plugins(sources, &instance, &url_map)?,
            url_map,
            file_roots: paths(&sources.text("FILE_ROOTS")),
            max_input: parsed(sources, "MAX_INPUT_SIZE")?,
            node_files: parsed(sources, "NODE_FILES_SIZE")?,
            max_upload: parsed(sources, "MAX_UPLOAD_SIZE")?,
            max_body: parsed(sources, "MAX_BODY_SIZE")?,
            max_parameters: parsed(sources, "MAX_PARAMETERS_SIZE")?,
            disk_floor: parsed(sources, "DISK_FLOOR")?,
            retention: retention(sources)?,
            run_timeout: seconds(sources, "RUN_TIMEOUT")?,
            route_timeout: seconds(sources, "ROUTE_TIMEOUT")?,
            describe_timeout: seconds(sources, "DESCRIBE_TIMEOUT")?,
            cancel_grace: seconds(sources, "CANCEL_GRACE")?,
            shutdown_grace: seconds(sources, "SHUTDOWN_GRACE")?,
            module_mismatch: match sources.text("MODULE_MISMATCH").as_str() {
                "run" => Mismatch::Run,
                "refuse" => Mismatch::Refuse,
                other => bail!("MODULE_MISMATCH is {other:?}; expected run or refuse"),
            },
            module_drain: seconds(sources, "MODULE_DRAIN")?,
            host_idle: seconds(sources, "HOST_IDLE")?,
            max_hosts: if max_hosts == 0 {
                concurrency
            } else {
                max_hosts
            },
            sandbox: SandboxConfig {
                mode: match sources.text("SANDBOX").as_str() {
                    "auto" => SandboxMode::Auto,
                    "full" => SandboxMode::Full,
                    "basic" => SandboxMode::Basic,
                    other => bail!("SANDBOX is {other:?}; expected auto, full or basic"),
                },
                uid: parsed(sources, "SANDBOX_UID")?,
                memory: parsed(sources, "HOSTS_MEMORY")?,
            },
            plugin_network: match sources.text("PLUGIN_NETWORK").as_str() {
                "asked" => NetworkRule::Asked,
                "all" => NetworkRule::All,
                "nobody" => NetworkRule::Nobody,
                other => bail!("PLUGIN_NETWORK is {other:?}; expected asked, all or nobody"),
            },
            host_limits: host_limits(sources)?,
            python: sources.text("PYTHON"),
            builds: switch(sources, "PACKAGE_BUILDS")?,
            install_timeout: seconds(sources, "INSTALL_TIMEOUT")?,
            environments: sources
                .get("ENVIRONMENTS_FOLDER")
                .filter(|folder| !folder.is_empty())
                .map(PathBuf::from),
            loaders: match sources.text("LOADERS").as_str() {
                "" => Vec::new(),
                text => Registered::parse(text).map_err(|problem| {
                    anyhow::anyhow!("LOADERS ({}): {problem}", sources.origin("LOADERS"))
                })?,
            },
            sage_cell: sage_cell::sage_cell(sources, under("cells"))?,
            only,
            sessions: sessions::sessions(sources, under("sessions"))?,
            log_level: log_level(&sources.text("LOG_LEVEL")),
            log_format: match sources.text("LOG_FORMAT").as_str() {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                other => bail!(
                    "LOG_FORMAT is {other:?}; expected text or json ({})",
                    sources.origin("LOG_FORMAT")
                ),
            },
            metrics_address: match sources.text("METRICS_ADDRESS").as_str() {
                "" => None,
                text => Some(text.parse().map_err(|_invalid| {
                    anyhow::anyhow!(
                        "METRICS_ADDRESS is {text:?}; expected an address and a port such as 127.0.0.1:9464 ({})",
                        sources.origin("METRICS_ADDRESS")
                    )
                })?),
            },
            surroundings: Surroundings::read(sources)?,
            notices: sources.notices(),
            instance,
        })
    }
}

/// Plugins from git, and where they are kept.
fn git_plugins(sources: &Sources, instance: &Path, url_map: &UrlMap) -> anyhow::Result<GitPlugins> {
    let folder = match sources.text("GIT_PLUGINS_FOLDER").as_str() {
        "" => instance.join("git-plugins"),
        folder => PathBuf::from(folder),
    };
    let folder = std::path::absolute(&folder)
        .with_context(|| format!("cannot find {}", folder.display()))?;
    let config = GitConfig {
        folder,
        url_map: url_map.clone(),
        timeout: seconds(sources, "GIT_TIMEOUT")?,
    };
    Ok(GitPlugins::new(&sources.text("GIT_PLUGINS"), config))
}

/// Which modules may be loaded: digests, or a file of them.
fn trust(sources: &Sources) -> anyhow::Result<Trust> {
    const NAME: &str = "ALLOWED_MODULES";
    let text = sources.text(NAME);
    let read = match text.trim() {
        "" => return Ok(Trust::default()),
        path if path.contains('/') => std::fs::read_to_string(path)
            .with_context(|| format!("{NAME} ({}): cannot read {path}", sources.origin(NAME)))?,
        digests => digests.to_owned(),
    };
    Trust::parse(&read)
        .map_err(|problem| anyhow::anyhow!("{NAME} ({}): {problem}", sources.origin(NAME)))
}

/// Where files are kept: the folder, and the bucket if they are in one, which leaves the folder for drafts.
fn file_store(sources: &Sources, usual: PathBuf) -> anyhow::Result<(PathBuf, Option<Bucket>)> {
    let kind = sources.text("DEFAULT_FILE_STORE");
    let origin = || sources.origin("DEFAULT_FILE_STORE");
    let place = sources.get("FILE_STORE_ROOT_PATH");
    let place = place.filter(|place| !place.is_empty());
    let is_bucket = place.as_deref().is_some_and(Bucket::is_meant);
    match kind.as_str() {
        "" => {}
        "local_filesystem" | "local" if !is_bucket => {}
        "s3" if is_bucket => {}
        "local_filesystem" | "local" => bail!(
            "DEFAULT_FILE_STORE is {kind:?} ({}), and FILE_STORE_ROOT_PATH is no folder: expected s3, or nothing",
            origin()
        ),
        "s3" => bail!(
            "DEFAULT_FILE_STORE is s3 ({}): then FILE_STORE_ROOT_PATH says where, as s3://bucket/prefix",
            origin()
        ),
        "url_file_store" => bail!(
            "DEFAULT_FILE_STORE is url_file_store ({}): every output may be a URL here, whatever the store is; \
             expected local_filesystem or s3",
            origin()
        ),
        _ => bail!(
            "DEFAULT_FILE_STORE is {kind:?}: expected local_filesystem or s3 ({})",
            origin()
        ),
    }
    match place {
        Some(place) if is_bucket => {
            let bucket =
                Bucket::parse(&place, sources.beginning_with("AWS_")).with_context(|| {
                    format!(
                        "FILE_STORE_ROOT_PATH ({})",
                        sources.origin("FILE_STORE_ROOT_PATH")
                    )
                })?;
            Ok((usual, Some(bucket)))
        }
        place => Ok((place.map_or(usual, PathBuf::from), None)),
    }
}

/// What one process of a plugin may use; 0 is no limit.
fn host_limits(sources: &Sources) -> anyhow::Result<HostLimits> {
    let limit =
        |name: &str| anyhow::Ok(Some(parsed::<u64>(sources, name)?).filter(|limit| *limit > 0));
    Ok(HostLimits {
        file_size: limit("HOST_FILE_SIZE")?,
        open_files: limit("HOST_OPEN_FILES")?,
        processes: limit("HOST_PROCESSES")?,
        cpu_seconds: limit("HOST_CPU_TIME")?,
        memory: limit("HOST_MEMORY")?,
        disk: limit("WORK_SIZE")?,
        files: limit("WORK_FILES")?,
        on_disk: match sources.text("WORK_PLACE").as_str() {
            "memory" => None,
            "disk" => Some(true),
            other => bail!("WORK_PLACE is {other:?}; expected memory or disk"),
        },
    })
}

fn parsed<T: FromStr<Err: Display>>(sources: &Sources, name: &str) -> anyhow::Result<T> {
    let text = sources.text(name);
    text.trim()
        .parse()
        .map_err(|error| anyhow::anyhow!("{name} is {text:?} ({}): {error}", sources.origin(name)))
}

fn seconds(sources: &Sources, name: &str) -> anyhow::Result<Duration> {
    let seconds: f64 = parsed(sources, name)?;
    Duration::try_from_secs_f64(seconds)
        .with_context(|| format!("{name} is {seconds} s ({})", sources.origin(name)))
}

fn retention(sources: &Sources) -> anyhow::Result<Retention> {
    let problem = |name: &str, problem: String| {
        anyhow::anyhow!("{name} ({}): {problem}", sources.origin(name))
    };
    let ages = |name: &str| Ages::parse(&sources.text(name)).map_err(|error| problem(name, error));
    let temporary = "RETAIN_TEMPORARY";
    let age = age::parse(&sources.text(temporary)).map_err(|error| problem(temporary, error))?;
    if age < MIN_TEMPORARY {
        let least = age::show(MIN_TEMPORARY);
        let reason = format!(
            "{} is too short: a file has no task while it is sent; expected {least} or more",
            age::show(age)
        );
        return Err(problem(temporary, reason));
    }
    let permalinks = "RETAIN_PERMALINKS";
    let unread = read_age(&sources.text(permalinks));
    let unread = unread.map_err(|error| problem(permalinks, error))?;
    if let Some(short) = unread.filter(|unread| *unread < MIN_UNREAD) {
        let reason = format!(
            "{} is too short: on which day one was read last is all that is known; expected {} or more, or forever",
            age::show(short),
            age::show(MIN_UNREAD)
        );
        return Err(problem(permalinks, reason));
    }
    Ok(Retention {
        tasks: ages("RETAIN_TASKS")?,
        files: ages("RETAIN_FILES")?,
        temporary: age,
        permalinks: unread,
    })
}

fn switch(sources: &Sources, name: &str) -> anyhow::Result<bool> {
    match sources.text(name).as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        other => bail!(
            "{name} is {other:?}; expected on or off ({})",
            sources.origin(name)
        ),
    }
}

fn paths(text: &str) -> Vec<PathBuf> {
    text.split(':')
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// `plugins/`, and each theme in `stable_plugins/`.
fn usual_folders(root: &Path) -> Vec<PathBuf> {
    let themes = std::fs::read_dir(root.join("stable_plugins"))
        .into_iter()
        .flatten()
        .flatten();
    let mut folders: Vec<PathBuf> = themes
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.push(root.join("plugins"));
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders
}

/// It becomes part of keys in Redis.
fn queue_name(sources: &Sources) -> anyhow::Result<String> {
    let name = sources.text("QUEUE");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 60 || !name.chars().all(is_plain) {
        bail!(
            "QUEUE is {name:?}; expected 1 to 60 letters, digits, -, _ and . ({})",
            sources.origin("QUEUE")
        );
    }
    Ok(name)
}

/// The reference's words for levels, beside those of `tracing`.
fn log_level(text: &str) -> String {
    match text.to_ascii_lowercase().as_str() {
        "critical" | "fatal" | "50" | "40" => "error".to_owned(),
        "warning" | "30" => "warn".to_owned(),
        "20" => "info".to_owned(),
        "10" | "notset" => "debug".to_owned(),
        other => other.to_owned(),
    }
}

/// Flags that were given, by the name of their setting.
pub(crate) type Flags = BTreeMap<&'static str, String>;

#[cfg(test)]
mod tests;
