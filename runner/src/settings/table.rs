//! The settings with their names, defaults and meaning.

/// A setting. In `runner.toml` its key is its name in lower case, without `RUNNER_`.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The variable.
    pub(crate) name: &'static str,
    /// Other variables that are read where this one is not set.
    pub(crate) aliases: &'static [&'static str],
    /// Empty where the meaning says what is taken.
    pub(crate) default: &'static str,
    /// What it is for, with its unit.
    pub(crate) meaning: &'static str,
}

impl Setting {
    pub(crate) fn key(&self) -> String {
        self.name
            .strip_prefix("RUNNER_")
            .unwrap_or(self.name)
            .to_ascii_lowercase()
    }
}

const fn setting(
    name: &'static str,
    aliases: &'static [&'static str],
    default: &'static str,
    meaning: &'static str,
) -> Setting {
    Setting {
        name,
        aliases,
        default,
        meaning,
    }
}

/// All settings.
pub(crate) const SETTINGS: &[Setting] = &[
    setting("RUNNER_HOST", &[], "127.0.0.1", "Address to listen on."),
    setting(
        "RUNNER_PORT",
        &[],
        "5005",
        "Port to listen on; 0 takes a free one.",
    ),
    setting(
        "RUNNER_INSTANCE_FOLDER",
        &["QHANA_PLUGIN_RUNNER_INSTANCE_FOLDER"],
        "instance",
        "Folder of everything the runner keeps: database, files, copies of modules. One runner at a time.",
    ),
    setting(
        "PLUGIN_FOLDERS",
        &[],
        "",
        "Folders of plugins, separated by colons; only their top level is looked at. Default: plugins and \
         each folder in stable_plugins.",
    ),
    setting(
        "DATABASE_URL",
        &["SQLALCHEMY_DATABASE_URI"],
        "",
        "Where tasks are kept: sqlite:///path, postgresql://user:password@host/database, or mysql:// (also for \
         MariaDB). Default: runner.sqlite in the instance folder.",
    ),
    setting(
        "FILE_STORE_ROOT_PATH",
        &[],
        "",
        "Folder of inputs and outputs. Default: files in the instance folder.",
    ),
    setting(
        "DEFAULT_FILE_STORE",
        &[],
        "local_filesystem",
        "Kind of file store: local_filesystem.",
    ),
    setting(
        "DURABILITY",
        &[],
        "process",
        "What survives on this machine: process (the runner is killed) or power (the machine loses power; slower).",
    ),
    setting(
        "CONCURRENCY",
        &[],
        "0",
        "Tasks that run at a time; 0 means one for each core.",
    ),
    setting(
        "QUEUE",
        &["CELERY_QUEUE"],
        "runner",
        "Name of the queue: servers and workers of one name work together, others do not see them.",
    ),
    setting(
        "BROKER_URL",
        &[],
        "",
        "Redis of `runner server` and `runner worker`: redis://[user:password@]host[:port][/database]. `runner up` \
         needs none.",
    ),
    setting(
        "WORKER_LEASE",
        &[],
        "15",
        "Seconds that a server or worker may be silent before others take over its work; at least 1, the same for \
         all of them.",
    ),
    setting(
        "SERVER_NAME",
        &[],
        "",
        "Host (and port) by which clients know the runner, beside IP addresses and names without a dot.",
    ),
    setting(
        "REVERSE_PROXY_COUNT",
        &[],
        "0",
        "Reverse proxies whose X-Forwarded-* headers are believed.",
    ),
    setting(
        "DEVELOPMENT",
        &[],
        "off",
        "on or off: whether /debug/ shows all routes and a host page for micro frontends.",
    ),
    setting(
        "URL_MAP",
        &[],
        "",
        "JSON object of regular expressions and replacements, applied in order to every URL that the runner opens.",
    ),
    setting(
        "FILE_ROOTS",
        &[],
        "",
        "Folders, separated by colons, below which file:// URLs may be opened. Default: none.",
    ),
    setting(
        "MAX_INPUT_SIZE",
        &[],
        "1073741824",
        "Bytes of one input that is downloaded.",
    ),
    setting(
        "MAX_UPLOAD_SIZE",
        &[],
        "1073741824",
        "Bytes of the files of one form.",
    ),
    setting(
        "MAX_BODY_SIZE",
        &[],
        "16777216",
        "Bytes of a form or JSON body, without files.",
    ),
    setting(
        "MAX_PARAMETERS_SIZE",
        &[],
        "1000000",
        "Bytes of the parameters of a task, as JSON.",
    ),
    setting(
        "DISK_FLOOR",
        &[],
        "1073741824",
        "Bytes that must be free on the disk of the file store; below it tasks are refused with 507.",
    ),
    setting(
        "RUN_TIMEOUT",
        &[],
        "3600",
        "Seconds that one run of a task may take.",
    ),
    setting(
        "ROUTE_TIMEOUT",
        &[],
        "60",
        "Seconds that a plugin may take to begin its answer to a request to one of its own routes.",
    ),
    setting(
        "DESCRIBE_TIMEOUT",
        &[],
        "10",
        "Seconds that a module may take to load and describe itself.",
    ),
    setting(
        "CANCEL_GRACE",
        &[],
        "0.5",
        "Seconds between asking a run to end and ending it.",
    ),
    setting(
        "SHUTDOWN_GRACE",
        &[],
        "10",
        "Seconds that runs may go on after SIGTERM or Ctrl-C.",
    ),
    setting(
        "HOST_IDLE",
        &[],
        "60",
        "Seconds after which a plugin's process without work is ended.",
    ),
    setting(
        "MAX_HOSTS",
        &[],
        "0",
        "Processes of one module at a time; 0 means as many as CONCURRENCY.",
    ),
    setting(
        "PYTHON",
        &[],
        "python3",
        "Interpreter of Python plugins, 3.9 or newer.",
    ),
    setting(
        "RUNNER_URL",
        &[],
        "",
        "The runner that `runner task` and `runner plugin list` ask. Default: the one in the instance folder.",
    ),
    setting(
        "LOG_LEVEL",
        &["DEFAULT_LOG_LEVEL"],
        "info",
        "error, warn, info, debug or trace, or a filter such as runner_host=debug,info.",
    ),
    setting(
        "LOG_FORMAT",
        &[],
        "text",
        "text, or json: one object for each line of the log.",
    ),
    setting(
        "METRICS_ADDRESS",
        &[],
        "",
        "Address and port, such as 127.0.0.1:9464, that answer /metrics and /health/ to whoever asks, and nothing \
         else: for workers, and where the collector shows no token. Default: none.",
    ),
    setting(
        "WAIT_HOSTS",
        &[],
        "",
        "Hosts with ports, separated by commas, that must accept connections before a server or worker starts, such \
         as redis:6379, postgres:5432.",
    ),
    setting("WAIT_TIMEOUT", &[], "30", "Seconds to wait for WAIT_HOSTS."),
    setting(
        "WAIT_SLEEP_INTERVAL",
        &[],
        "1",
        "Seconds between two attempts to reach WAIT_HOSTS.",
    ),
    setting(
        "LOCALHOST_PROXY_PORTS",
        &[],
        "",
        "Ports, such as :9090 :5006, that lead from localhost here to the same ports of LOCALHOST_PROXY_HOST.",
    ),
    setting(
        "LOCALHOST_PROXY_HOST",
        &[],
        "host.docker.internal",
        "Where LOCALHOST_PROXY_PORTS lead to: from a container, its machine.",
    ),
    setting(
        "CONTAINER_MODE",
        &[],
        "server",
        "What `runner container` does: server, worker, or up (both in one, without Redis).",
    ),
];

/// Variables of the QHAna plugin runner that mean nothing here, and what takes their place.
pub(crate) const NOTICES: &[(&str, &str)] = &[
    (
        "RESULT_BACKEND",
        "results are kept in the database, see DATABASE_URL",
    ),
    (
        "PLUGIN_REGISTRY_URL",
        "this runner has no virtual plugins to tell a registry of; a registry finds it by its URL",
    ),
    (
        "GIT_PLUGINS",
        "clone the repositories and name their folders in PLUGIN_FOLDERS",
    ),
    (
        "PERIODIC_SCHEDULER",
        "no scheduler needs to be started beside the runner",
    ),
];
