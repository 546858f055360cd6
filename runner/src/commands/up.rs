//! `runner up`: server and workers in one process.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::Args;
use runner_core::identity::url_segment;
use runner_fetch::{FetchConfig, Fetcher, Proxies};
use runner_host::host::Patience;
use runner_host::{Launcher, Modules, ModulesConfig};
use runner_queue::{Events, Job, Queue};
use runner_server::{App, ServerConfig};
use runner_store::{Store, StoreConfig};
use runner_worker::{StoreCache, Tools, Worker, WorkerConfig};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::instance::{self, Lock};
use crate::settings::sources::Sources;
use crate::settings::{Flags, Settings};

/// Runs that were lost with the runner before a task is given up.
const MAX_ATTEMPTS: i64 = 3;
/// How long `GET /plugins/` waits for modules that are being described.
const PLUGINS_WAIT: Duration = Duration::from_secs(4);
/// How long a webhook may take to answer.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// What a second signal says.
const INTERRUPTED: &str = "interrupted; what was running begins again at the next start";

/// Each flag is a setting; more settings, as variables, stand in `.env.example`.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Address to listen on [RUNNER_HOST, default 127.0.0.1]
    #[arg(long)]
    host: Option<String>,
    /// Port to listen on; 0 takes a free one [RUNNER_PORT, default 5005]
    #[arg(long)]
    port: Option<String>,
    /// Folder of everything the runner keeps [RUNNER_INSTANCE_FOLDER, default instance]
    #[arg(long)]
    instance_folder: Option<String>,
    /// Folders of plugins, separated by colons [PLUGIN_FOLDERS, default plugins and stable_plugins/*]
    #[arg(long)]
    plugin_folders: Option<String>,
    /// Where tasks are kept: sqlite:///path [DATABASE_URL, default in the instance folder]
    #[arg(long)]
    database_url: Option<String>,
    /// Tasks that run at a time [CONCURRENCY, default one for each core]
    #[arg(long)]
    concurrency: Option<String>,
    /// Folders below which file:// URLs may be opened, separated by colons [FILE_ROOTS, default none]
    #[arg(long)]
    file_roots: Option<String>,
    /// error, warn, info, debug or trace [LOG_LEVEL, default info]
    #[arg(long)]
    log_level: Option<String>,
    /// Shows all routes and a host page for micro frontends at /debug/ [DEVELOPMENT, default off]
    #[arg(long)]
    dev: bool,
}

impl Up {
    fn flags(&self) -> Flags {
        let flags = [
            ("RUNNER_HOST", &self.host),
            ("RUNNER_PORT", &self.port),
            ("RUNNER_INSTANCE_FOLDER", &self.instance_folder),
            ("PLUGIN_FOLDERS", &self.plugin_folders),
            ("DATABASE_URL", &self.database_url),
            ("CONCURRENCY", &self.concurrency),
            ("FILE_ROOTS", &self.file_roots),
            ("LOG_LEVEL", &self.log_level),
        ];
        let dev = self.dev.then(|| ("DEVELOPMENT", "on".to_owned()));
        flags
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.clone()?)))
            .chain(dev)
            .collect()
    }

    /// Serves until it is told to stop.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let settings = Settings::read(&Sources::read(self.flags())?)?;
        start_logging(&settings.log_level)?;
        for notice in &settings.notices {
            tracing::warn!("{notice}");
        }
        let instance = instance::make(&settings.instance)?;
        let kept: [&Path; 3] = [&instance, &settings.database, &settings.files];
        instance::keep_apart(&kept, &settings.plugin_folders)?;
        let mut lock = Lock::take(&instance)?;
        let _others = [
            instance::lock_apart(&settings.database, &instance)?,
            instance::lock_apart(&settings.files, &instance)?,
        ];
        let token = instance::token(&instance)?;
        let runner = std::env::current_exe().context("cannot find the runner's own program")?;
        // Before any other thread is started, while this process is small.
        let launcher = Launcher::start(&runner)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(serve(
            settings, instance, &mut lock, runner, token, launcher,
        ))
    }
}

async fn serve(
    settings: Settings,
    instance: PathBuf,
    lock: &mut Lock,
    runner: PathBuf,
    token: String,
    launcher: Launcher,
) -> anyhow::Result<()> {
    let address = SocketAddr::new(settings.host, settings.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (another --port may be free)"))?;
    let address = listener
        .local_addr()
        .context("cannot tell the own address")?;
    lock.tell_address(&address)?;
    let started = SystemTime::now();
    let store = Store::open(&StoreConfig {
        database: settings.database.clone(),
        files: settings.files.clone(),
        durability: settings.durability,
    })
    .await?;
    let queue = Queue::new();
    let recovered = store.recover(MAX_ATTEMPTS).await?;
    if !recovered.jobs.is_empty() {
        tracing::info!("{} tasks go on that had not ended", recovered.jobs.len());
    }
    for (task, run) in recovered.jobs {
        queue.push(Job { task, run });
    }
    let fetcher = Fetcher::new(FetchConfig {
        url_map: settings.url_map.clone(),
        file_roots: settings.file_roots.clone(),
        max_size: settings.max_input,
        proxies: Proxies::from_env(),
        ..FetchConfig::default()
    })?;
    let modules = Modules::new(
        ModulesConfig {
            folders: settings.plugin_folders.clone(),
            instance,
            runner,
            python: settings.python.clone(),
            patience: Patience {
                describe: settings.describe_timeout,
                cancel: settings.cancel_grace,
            },
            idle: settings.host_idle,
            max_hosts: settings.max_hosts,
        },
        launcher.clone(),
        Arc::new(StoreCache(store.clone())),
    );
    let events = Events::new();
    let app = App::new(
        store.clone(),
        queue.clone(),
        events.clone(),
        Arc::clone(&modules),
        ServerConfig {
            server_name: settings.server_name.clone(),
            proxies: settings.proxies,
            development: settings.development,
            token: token.clone(),
            max_body: settings.max_body,
            max_parameters: settings.max_parameters,
            max_upload: settings.max_upload,
            disk_floor: settings.disk_floor,
            route_timeout: settings.route_timeout,
            plugins_wait: PLUGINS_WAIT,
        },
    );
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(runner_server::serve(listener, app, async {
        // A dropped sender means the same.
        let _ = stopped.await;
    }));
    let worker = Worker::start(
        Tools {
            store: store.clone(),
            queue,
            events,
            modules: Arc::clone(&modules),
            fetcher,
        },
        WorkerConfig {
            holder: holder()?,
            concurrency: settings.concurrency,
            run_timeout: settings.run_timeout,
            webhook_timeout: WEBHOOK_TIMEOUT,
        },
    );
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let loading = async {
        modules.load().await?;
        greet(&address, &modules, &token);
        sweep(&store, started).await;
        std::future::pending::<anyhow::Result<()>>().await
    };
    tokio::select! {
        failed = loading => failed?,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        // Without it no plugin can be started. What was running begins again at the next start.
        () = launcher.ended() => bail!("the launcher of plugin processes ended; start the runner again"),
    }
    tracing::info!(
        "stopping; runs in progress have {} s to end",
        settings.shutdown_grace.as_secs_f64()
    );
    let _ = stop.send(());
    tokio::select! {
        () = worker.stop(settings.shutdown_grace) => {}
        _ = interrupt.recv() => bail!(INTERRUPTED),
        _ = terminate.recv() => bail!(INTERRUPTED),
    }
    modules.close();
    server.abort();
    store.close().await;
    Ok(())
}

/// Says where the runner is, what it offers, and how to try it.
fn greet(address: &SocketAddr, modules: &Modules, token: &str) {
    let base = instance::base_url(address);
    let table = modules.table();
    let mut text = format!("runner is ready at {base}/\n");
    text.push_str(&format!("modules  {base}/modules/?token={token}\n"));
    text.push_str("plugins\n");
    for provided in table.plugins() {
        let plugin = &provided.plugin;
        let form = format!("{base}/plugins/{}/ui/", url_segment(&plugin.identifier));
        text.push_str(&format!("  {:<40} {form}\n", plugin.identity.to_string()));
    }
    if table.plugins().is_empty() {
        text.push_str("  none yet: put one into a plugin folder\n");
    }
    let hello = table.newest("hello-world").or(table.plugins().first());
    if let Some(provided) = hello {
        let plugin = &provided.plugin;
        let fields = plugin.form.parameters.texts(&plugin.form.example);
        let data: String = fields
            .iter()
            .map(|(key, text)| format!(" --data-urlencode '{key}={}'", text.replace('\'', "'\\''")))
            .collect();
        let data = if data.is_empty() {
            " --data ''".to_owned()
        } else {
            data
        };
        let process = format!(
            "{base}/plugins/{}/process/",
            url_segment(&plugin.identifier)
        );
        text.push_str(&format!("try it\n  curl -sL{data} '{process}'\n"));
    }
    let mut out = std::io::stdout().lock();
    // Nobody may be reading.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Removes files that were stored before this start for tasks that never came to know them.
async fn sweep(store: &Store, started: SystemTime) {
    match store.sweep_files(started).await {
        Ok(0) => {}
        Ok(count) => tracing::info!("{count} files that belonged to no task were removed"),
        Err(error) => tracing::warn!("files that belong to no task cannot be removed: {error}"),
    }
}

fn start_logging(level: &str) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(level).with_context(|| {
        format!("LOG_LEVEL is {level:?}; expected error, warn, info, debug or trace")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    Ok(())
}

/// A name for this start, so that what an earlier one held is not taken for its own.
fn holder() -> anyhow::Result<String> {
    Ok(format!(
        "{}-{}",
        std::process::id(),
        &instance::random()?[..8]
    ))
}
