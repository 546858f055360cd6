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
        "GIT_PLUGINS",
        &[],
        "",
        "Plugins from git, separated by newlines or blanks, git+<url>[@ref][#subdirectory=dir] each; fetched at the \
         start. See docs/git-plugins.md.",
    ),
    setting(
        "GIT_PLUGINS_FOLDER",
        &[],
        "",
        "Where they are kept. Default: git-plugins in the instance folder.",
    ),
    setting(
        "GIT_TIMEOUT",
        &[],
        "60",
        "Seconds that the fetch of one of them may take; then its last good clone is used.",
    ),
    setting(
        "ALLOWED_MODULES",
        &[],
        "",
        "Digests of the modules that may be loaded, separated by commas or blanks, or the path of a file of them (with a \
         slash): nothing else is ever started. `runner plugin list --digests` prints such a file. Default: all.",
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
        "Where inputs and outputs are kept: a folder, or s3://bucket/prefix, with the variables of AWS \
         (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL). Default: files in the instance \
         folder.",
    ),
    setting(
        "DEFAULT_FILE_STORE",
        &[],
        "",
        "Kind of file store: local_filesystem or s3. FILE_STORE_ROOT_PATH says it already.",
    ),
    setting(
        "DURABILITY",
        &[],
        "",
        "What survives on this machine: process (the runner is killed) or power (the machine loses power; slower). \
         Default: power with PostgreSQL and MariaDB, which keep to that themselves; process with SQLite.",
    ),
    setting(
        "CONCURRENCY",
        &[],
        "0",
        "Tasks that run at a time; 0 means one for each core.",
    ),
    setting(
        "WORKER_ONLY",
        &[],
        "",
        "What `runner worker` does: tasks or sessions; both if it is empty. See docs/sessions.md.",
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
        "PUBLIC_URL",
        &[],
        "",
        "URL by which clients know the runner, for URLs that no request asks for, such as those of scheduled tasks. \
         Default: http:// and SERVER_NAME.",
    ),
    setting(
        "ALLOWED_HOSTS",
        &[],
        "",
        "Hosts that requests may be made to, beside SERVER_NAME, that of PUBLIC_URL and loopback, with commas: \
         example.org, *.example.org, or * for all. Default: IP addresses and names without a dot.",
    ),
    setting(
        "CORS_ORIGINS",
        &[],
        "*",
        "Origins whose pages may read answers, with commas, such as https://ui.example.org; * for all, nothing for \
         none.",
    ),
    setting(
        "REVERSE_PROXY_COUNT",
        &[],
        "0",
        "Reverse proxies whose X-Forwarded-* headers are believed.",
    ),
    setting(
        "AUTH",
        &[],
        "off",
        "off, optional or required: whether requests must show a token (docs/authentication.md). Must be set where \
         others reach RUNNER_HOST; workers need the same.",
    ),
    setting(
        "AUTH_SECRET",
        &[],
        "",
        "Secret of tokens that are signed with HS256; at least 32 bytes. One of this and the next two.",
    ),
    setting(
        "AUTH_PUBLIC_KEY",
        &[],
        "",
        "Public key of tokens that are signed with RS256, ES256, ES384 or EdDSA, as PEM or as the path of such a file.",
    ),
    setting(
        "AUTH_JWKS_URL",
        &[],
        "",
        "URL of the public keys of tokens, as an identity provider publishes them (RFC 7517).",
    ),
    setting(
        "AUTH_ISSUER",
        &[],
        "",
        "Issuer (iss) that tokens must name. Default: not looked at.",
    ),
    setting(
        "AUTH_AUDIENCE",
        &[],
        "",
        "Audience (aud) that tokens must name. Default: not looked at.",
    ),
    setting(
        "AUTH_ROLES_CLAIM",
        &[],
        "roles",
        "Where tokens have the roles viewer, user and admin: a claim, or a path such as realm_access.roles.",
    ),
    setting(
        "AUTH_LEEWAY",
        &[],
        "30",
        "Seconds by which clocks may differ when the times of a token are checked; at most 600.",
    ),
    setting(
        "ALLOWED_NETWORKS",
        &[],
        "",
        "Networks, addresses and names of hosts, with commas, that may be connected to though they would be refused: \
         link-local ones, and with AUTH=required private and loopback ones.",
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
        "NODE_FILES_SIZE",
        &[],
        "8589934592",
        "Bytes of files that the nodes of one run of a pipeline make in all.",
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
        "MAX_HEAD_SIZE",
        &[],
        "65536",
        "Bytes of the head of a request, that is its URL and headers; at least 8192.",
    ),
    setting(
        "MAX_REQUESTS",
        &[],
        "5000",
        "Requests in progress at a time; others are answered with 503.",
    ),
    setting(
        "CLIENT_TIMEOUT",
        &[],
        "60",
        "Seconds that a client may be silent in the head or the body of a request, between two requests, or when it \
         does not take an answer.",
    ),
    setting(
        "UPLOAD_TIMEOUT",
        &[],
        "3600",
        "Seconds that the body of a request may take.",
    ),
    setting(
        "DISK_FLOOR",
        &[],
        "1073741824",
        "Bytes that must be free on the disk of the file store; below it tasks are refused with 507.",
    ),
    setting(
        "RETAIN_TASKS",
        &[],
        "forever",
        "How long finished tasks are kept, with all that belongs to them: a span such as 30d, or one for each state, \
         such as succeeded=7d,failed=90d. What something needs that has not ended is kept for longer.",
    ),
    setting(
        "RETAIN_FILES",
        &[],
        "forever",
        "How long the files of finished tasks are kept, as RETAIN_TASKS; the tasks stay.",
    ),
    setting(
        "RETAIN_TEMPORARY",
        &[],
        "2d",
        "How long files are kept that belong to no task: what was broken off, or left by a crash. Longer than any \
         upload takes.",
    ),
    setting(
        "RETAIN_PERMALINKS",
        &[],
        "730d",
        "How long permalinks of cells are kept that nobody reads; or forever.",
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
        "WATCH",
        &[],
        "off",
        "on or off: whether modules that change in the plugin folders are reloaded, new ones loaded, others removed.",
    ),
    setting(
        "MODULE_MISMATCH",
        &[],
        "run",
        "What a worker does with a task that was made for another digest of its plugin's module: run or refuse.",
    ),
    setting(
        "MODULE_DRAIN",
        &[],
        "30",
        "Seconds that runs may go on when their module is stopped, removed or replaced; then they are ended.",
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
        "SANDBOX",
        &[],
        "auto",
        "auto, full or basic: all of the sandbox that this machine allows; levels 1 to 3 of it, or no plugin is started; what every machine allows. See docs/sandbox.md.",
    ),
    setting(
        "SANDBOX_UID",
        &[],
        "65533",
        "Account, as a number, in which plugins run where the runner is root; nobody else should have it.",
    ),
    setting(
        "PLUGIN_NETWORK",
        &[],
        "asked",
        "asked, all or nobody: plugins that may use the network. Asked is for those with network = true below [permissions] in their plugin.toml.",
    ),
    setting(
        "HOSTS_MEMORY",
        &[],
        "0",
        "Bytes of memory of all plugin processes together, where the runner may make control groups; 0 means three quarters of the machine's.",
    ),
    setting(
        "HOST_MEMORY",
        &[],
        "4294967296",
        "Bytes of private memory that one process of a plugin may have; 0 is no limit, here and in the next ones. A plugin.toml can say others below [limits].",
    ),
    setting(
        "HOST_PROCESSES",
        &[],
        "512",
        "Processes and threads of one plugin process and all that it starts.",
    ),
    setting(
        "HOST_CPU_TIME",
        &[],
        "0",
        "Seconds of processor time of one plugin process over its whole life.",
    ),
    setting(
        "HOST_FILE_SIZE",
        &[],
        "17179869184",
        "Bytes of the largest file that a plugin may write.",
    ),
    setting(
        "HOST_OPEN_FILES",
        &[],
        "1024",
        "Files that one process of a plugin may have open.",
    ),
    setting(
        "WORK_SIZE",
        &[],
        "1073741824",
        "Bytes of the files in the folder of one plugin process. The folder lies in memory where the machine allows it.",
    ),
    setting(
        "WORK_FILES",
        &[],
        "100000",
        "Files and folders in the folder of one plugin process.",
    ),
    setting(
        "WORK_PLACE",
        &[],
        "memory",
        "memory or disk: where the folder of a plugin process lies. On the disk its size is watched, not enforced.",
    ),
    setting(
        "PYTHON",
        &[],
        "python3",
        "Interpreter of Python plugins, 3.9 or newer.",
    ),
    setting(
        "ENVIRONMENTS_FOLDER",
        &[],
        "",
        "Folder of virtual environments that is only read by a runner, before the one in the instance folder; \
         `runner plugin install` makes them there. For images of containers.",
    ),
    setting(
        "PACKAGE_BUILDS",
        &[],
        "off",
        "Whether packages that Python plugins need are built where there is no wheel. That runs their code with all \
         rights of the runner.",
    ),
    setting(
        "INSTALL_TIMEOUT",
        &[],
        "1800",
        "Seconds that installing the packages of a Python plugin may take.",
    ),
    setting(
        "LOADERS",
        &[],
        "",
        "JSON object of loaders for more kinds of module: by their names, the extensions or the magic number of \
         their files, and the command that hosts them. See docs/plugins.md.",
    ),
    setting(
        "SESSIONS",
        &[],
        "on",
        "on or off: whether clients of Jupyter may have kernels here. See docs/sessions.md.",
    ),
    setting(
        "SESSION_PYTHON",
        &[],
        "",
        "Interpreter of kernels. Default: PYTHON.",
    ),
    setting(
        "SESSION_PRELOAD",
        &[],
        "numpy",
        "Modules that kernels have at once, with commas; those that are not installed are left out. Each makes every kernel start a little slower.",
    ),
    setting(
        "SESSION_KERNELSPECS",
        &[],
        "",
        "Kernelspecs of Jupyter that sessions may have beside python3 and lua: names with commas, or * for all that are found. Their programs run in the same sandbox; their environments are shown to it.",
    ),
    setting(
        "SESSION_KERNEL_START",
        &[],
        "60",
        "Seconds that a kernel of such a kernelspec may take to answer.",
    ),
    setting(
        "SESSION_WARM",
        &[],
        "2",
        "Kernels that are forked before anybody asks for one.",
    ),
    setting(
        "SESSION_MAX",
        &[],
        "200",
        "Sessions that may live at a time; more are answered with 503.",
    ),
    setting(
        "SESSION_MAX_PER_CLIENT",
        &[],
        "0",
        "Sessions that one client (the subject of a token, else an address) may have at a time; 0 is no limit of its own.",
    ),
    setting(
        "SESSION_CONNECT",
        &[],
        "60",
        "Seconds that a new session waits for its client.",
    ),
    setting(
        "SESSION_IDLE",
        &[],
        "3600",
        "Seconds that a session lives in which nothing is said.",
    ),
    setting(
        "SESSION_LEFT",
        &[],
        "600",
        "Seconds that an idle session lives after its last client has left.",
    ),
    setting(
        "SESSION_UNATTENDED",
        &[],
        "3600",
        "Seconds that a busy session lives after its last client has left.",
    ),
    setting(
        "SESSION_LIFETIME",
        &[],
        "86400",
        "Seconds that a session lives at most.",
    ),
    setting(
        "SESSION_MEMORY",
        &[],
        "2147483648",
        "Bytes of private memory of each process of a session; 0 is no limit, here and in the next two.",
    ),
    setting(
        "SESSION_CPU_TIME",
        &[],
        "0",
        "Seconds of processor time of each process of a session.",
    ),
    setting(
        "SESSION_FILE_SIZE",
        &[],
        "1073741824",
        "Bytes of the largest file that a session may write.",
    ),
    setting(
        "SESSION_CELL_TIME",
        &[],
        "0",
        "Seconds that a cell may run; then it is interrupted, and 5 s later its kernel is ended. 0 is no limit.",
    ),
    setting(
        "SESSION_PROCESSES",
        &[],
        "256",
        "Processes and threads of one session at a time.",
    ),
    setting(
        "SESSION_FILES",
        &[],
        "2147483648",
        "Bytes of the files of all sessions together. They lie in memory where the machine allows it.",
    ),
    setting(
        "SESSION_FILES_PER_SESSION",
        &[],
        "1073741824",
        "Bytes of the files of one session; more are not taken, and a cell that writes more is interrupted. 0 is no limit of its own.",
    ),
    setting(
        "SESSION_NETWORK",
        &[],
        "off",
        "on or off: whether sessions may use the network.",
    ),
    setting(
        "SESSION_CELL_OUTPUT",
        &[],
        "8388608",
        "Bytes of output of one cell that are sent as messages; what is beyond goes into a file, and clients get a link.",
    ),
    setting(
        "SESSION_OUTPUT_FILES",
        &[],
        "1073741824",
        "Bytes of such files of one session; a cell that puts out more is interrupted.",
    ),
    setting(
        "SESSION_LOG",
        &[],
        "67108864",
        "Bytes of the log of a session, from which clients that come back are told what they missed.",
    ),
    setting(
        "SAGE_CELL",
        &[],
        "off",
        "off; on: the interface of Sage Cell, for whoever may run plugins; or public: for everybody who reaches it, also with AUTH=required. It runs code. See docs/sage-cell.md.",
    ),
    setting(
        "SAGE_CELL_TERMS",
        &[],
        "",
        "File with terms, in HTML, that users accept before they run anything. Default: none.",
    ),
    setting(
        "SAGE_CELL_WARM",
        &[],
        "4",
        "Kernels for cells that are forked before anybody asks for one. They are others than those of sessions, and so are all limits here.",
    ),
    setting(
        "SAGE_CELL_MAX",
        &[],
        "50",
        "Kernels for cells that may live at a time; more are answered with 503.",
    ),
    setting(
        "SAGE_CELL_MAX_PER_CLIENT",
        &[],
        "30",
        "The same for one client (the subject of a token, else an address); 0 is no limit of its own.",
    ),
    setting(
        "SAGE_CELL_MAX_PER_PAGE",
        &[],
        "10",
        "The same for one page, as it names itself; more are answered with 429. 0 is no limit of its own.",
    ),
    setting(
        "SAGE_CELL_IDLE",
        &[],
        "1800",
        "Seconds that a kernel for cells may be idle at most, whatever its client or its code asks for.",
    ),
    setting(
        "SAGE_CELL_LEFT",
        &[],
        "60",
        "Seconds that a kernel for cells lives without a client: before the first came, and after the last left.",
    ),
    setting(
        "SAGE_CELL_LIFETIME",
        &[],
        "7200",
        "Seconds that a kernel for cells lives at most.",
    ),
    setting(
        "SAGE_CELL_TIME",
        &[],
        "120",
        "Seconds that a cell may run; then it is interrupted, and its kernel ended if that does not help.",
    ),
    setting(
        "SAGE_CELL_MEMORY",
        &[],
        "536870912",
        "Bytes of private memory of each process of a kernel for cells; 0 is no limit, here and in the next two.",
    ),
    setting(
        "SAGE_CELL_CPU_TIME",
        &[],
        "300",
        "Seconds of processor time of each process of a kernel for cells.",
    ),
    setting(
        "SAGE_CELL_FILE_SIZE",
        &[],
        "67108864",
        "Bytes of the largest file that a cell may write, or that may be put in.",
    ),
    setting(
        "SAGE_CELL_PROCESSES",
        &[],
        "32",
        "Processes and threads of one kernel for cells at a time.",
    ),
    setting(
        "SAGE_CELL_FILES",
        &[],
        "536870912",
        "Bytes of the files of all kernels for cells together. They lie in memory where the machine allows it.",
    ),
    setting(
        "SAGE_CELL_NETWORK",
        &[],
        "off",
        "on or off: whether cells may use the network.",
    ),
    setting(
        "SAGE_CELL_CELL_OUTPUT",
        &[],
        "1048576",
        "Bytes of output of one cell that are sent as messages; what is beyond goes into a file, and clients get a link.",
    ),
    setting(
        "SAGE_CELL_OUTPUT_FILES",
        &[],
        "16777216",
        "Bytes of such files of one kernel; a cell that puts out more is interrupted.",
    ),
    setting(
        "SAGE_CELL_SERVICE_MAX",
        &[],
        "16",
        "Single cells (/service) that run at a time; others wait, and get 503 when too many do.",
    ),
    setting(
        "SAGE_CELL_SERVICE_TIME",
        &[],
        "30",
        "Seconds that a single cell may take.",
    ),
    setting(
        "RUNNER_URL",
        &[],
        "",
        "The runner that `runner task` and `runner plugin list` ask. Default: the one in the instance folder.",
    ),
    setting(
        "RUNNER_TOKEN",
        &[],
        "",
        "Token that commands show to the runner they ask. Default: that of the instance folder, for the runner that \
         works in it.",
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

/// Settings whose values are not shown.
pub(crate) const SECRETS: &[&str] = &["AUTH_SECRET", "RUNNER_TOKEN"];

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
        "PERIODIC_SCHEDULER",
        "no scheduler needs to be started beside the runner: every worker fires schedules, see `runner schedule`",
    ),
];
