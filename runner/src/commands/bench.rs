//! `runner bench`: how fast a runner is here, beside the reference and the limits.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use runner_bench::{Report, Scenario, Target, measure};
use runner_server::auth::{AuthConfig, sign};

use crate::settings::Flags;
use crate::settings::sources::Sources;

/// Measures hello-world: closed loop, burst, latency, reads. Without --address it starts a runner of its own
/// in a temporary folder, and also measures its start and its memory.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Address of a runner to measure, such as 127.0.0.1:5005
    #[arg(long)]
    address: Option<String>,
    /// Token to show to the runner at --address [RUNNER_TOKEN, default none]
    #[arg(long, requires = "address")]
    token: Option<String>,
    /// Lets the runner that is started require tokens (HS256), and shows one: to be compared with a run without
    #[arg(long, conflicts_with = "address")]
    auth: bool,
    /// Identifier of the plugin to run
    #[arg(long, default_value = "hello-world@v0-2-1")]
    plugin: String,
    /// The form to submit, urlencoded
    #[arg(long, default_value = "inputStr=my+input")]
    form: String,
    /// Clients at a time
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Seconds of each scenario
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Tasks of the burst, or to fill a queue with
    #[arg(long, default_value_t = 500)]
    burst: usize,
    /// Only this: latency, closed-loop, burst, reads; or fill, which submits and does not wait. May be repeated
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<Scenario>,
    /// Plugin folders of the runner that is started
    #[arg(long, default_value = "stable_plugins/demo")]
    plugin_folders: String,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

impl Bench {
    /// Measures and prints.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        if self.clients == 0 || self.burst == 0 {
            bail!("--clients and --burst begin at 1");
        }
        let duration = Duration::try_from_secs_f64(self.seconds).context("--seconds")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let mut started = Report::default();
        let secret = match self.auth {
            true => Some(crate::instance::random()?),
            false => None,
        };
        let (address, own) = match &self.address {
            Some(address) => {
                let resolved = address
                    .to_socket_addrs()
                    .with_context(|| format!("--address {address}"))?;
                (
                    resolved
                        .into_iter()
                        .next()
                        .context("--address names no host")?,
                    None,
                )
            }
            None => {
                let own = Own::start(&self.plugin_folders, secret.as_deref(), &mut started)?;
                (own.address, Some(own))
            }
        };
        let target = Target {
            address,
            token: match &secret {
                Some(secret) => Some(token(secret)?),
                None => self.token()?,
            },
            plugin: self.plugin.clone(),
            form: self.form.clone(),
            clients: self.clients,
            duration,
            burst: self.burst,
        };
        let chosen = match self.only.as_slice() {
            [] => &Scenario::USUAL[..],
            chosen => chosen,
        };
        let report = runtime.block_on(measure(&target, chosen))?;
        drop(own);
        if self.json {
            let both = [started.to_json(), report.to_json()];
            let figures: Vec<_> = both
                .iter()
                .filter_map(|part| part.as_array())
                .flatten()
                .collect();
            return crate::screen::print(&format!("{}\n", serde_json::json!(figures)));
        }
        crate::screen::print(&format!("{started}{report}"))
    }

    /// The token for a runner that is running already.
    fn token(&self) -> anyhow::Result<Option<String>> {
        let sources = Sources::read(Flags::new())?;
        let set = || {
            sources
                .get("RUNNER_TOKEN")
                .filter(|token| !token.is_empty())
        };
        Ok(match self.address {
            Some(_) => self.token.clone().or_else(set),
            None => None,
        })
    }
}

/// A token of a user, that is longer valid than anybody measures.
fn token(secret: &str) -> anyhow::Result<String> {
    let config = AuthConfig {
        roles_claim: "roles".to_owned(),
        ..AuthConfig::default()
    };
    let day = Duration::from_secs(24 * 3600);
    sign(secret, &config, "bench", "user", day).map_err(anyhow::Error::msg)
}

/// A runner of our own, in a folder that goes with it.
struct Own {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Own {
    /// Starts it twice: the second start finds the modules described.
    fn start(
        plugin_folders: &str,
        secret: Option<&str>,
        report: &mut Report,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let instance = folder.path().join("instance");
        let (mut child, _) = launch(&instance, plugin_folders, secret)?;
        let _ = child.kill();
        let _ = child.wait();
        let begin = Instant::now();
        let (child, address) = launch(&instance, plugin_folders, secret)?;
        report.less_is_better(
            "second start until ready",
            begin.elapsed().as_secs_f64() * 1000.0,
            "ms",
            Some(1900.0),
        );
        let memory = resident(child.id());
        report.less_is_better("memory, idle", memory / 1024.0 / 1024.0, "MiB", Some(478.0));
        Ok(Self {
            child,
            address,
            _folder: folder,
        })
    }
}

/// Starts `runner up` and waits for the line that says where it is.
fn launch(
    instance: &PathBuf,
    plugin_folders: &str,
    secret: Option<&str>,
) -> anyhow::Result<(Child, SocketAddr)> {
    let program = std::env::current_exe().context("cannot find the runner's own program")?;
    let mut command = Command::new(program);
    if let Some(secret) = secret {
        command.env("AUTH", "required").env("AUTH_SECRET", secret);
    }
    let mut child = command
        .args([
            "up",
            "--port",
            "0",
            "--log-level",
            "error",
            "--plugin-folders",
            plugin_folders,
        ])
        .arg("--instance-folder")
        .arg(instance)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a runner to measure")?;
    let out = child
        .stdout
        .take()
        .context("the runner has no standard output")?;
    for line in BufReader::new(out).lines() {
        let line = line.context("the runner cannot be read")?;
        if let Some(url) = line.strip_prefix("runner is ready at http://") {
            let address = url
                .trim_end_matches('/')
                .parse()
                .context("the runner's address")?;
            return Ok((child, address));
        }
    }
    let _ = child.wait();
    bail!("the runner to measure did not start")
}

/// Resident memory of a process and its children, in bytes. Pages that they share count for each.
fn resident(pid: u32) -> f64 {
    let children =
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let below: f64 = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .map(resident)
        .sum();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    below + kib * 1024.0
}
