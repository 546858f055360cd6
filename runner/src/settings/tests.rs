use super::table::{NOTICES, SETTINGS};
use super::*;

fn sources(flags: &[(&'static str, &str)], environment: &[(&str, &str)], folder: &Path) -> Sources {
    let flags = flags
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Sources::new(flags, environment, folder).unwrap()
}

fn with(name: &str, value: &str) -> anyhow::Result<Settings> {
    let folder = tempfile::tempdir().unwrap();
    Settings::read(&sources(&[], &[(name, value)], folder.path()))
}

#[test]
fn flags_come_before_the_environment_before_env_file_before_toml() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join(".env"),
        "RUNNER_PORT=2\nPYTHON=\"python 3\"\n",
    )
    .unwrap();
    std::fs::write(
        folder.path().join("runner.toml"),
        "port = 3\nconcurrency = 7\nplugin_folders = [\"a\", \"b\"]\nnonsense = 1\n",
    )
    .unwrap();
    let settings = Settings::read(&sources(&[], &[], folder.path())).unwrap();
    assert_eq!((settings.port, settings.concurrency), (2, 7));
    assert_eq!(settings.python, "python 3");
    assert_eq!(
        settings.plugin_folders,
        [PathBuf::from("a"), PathBuf::from("b")]
    );
    assert_eq!(settings.notices, ["nonsense in runner.toml is no setting"]);
    let environment = [("RUNNER_PORT", "4")];
    let settings = Settings::read(&sources(&[], &environment, folder.path())).unwrap();
    assert_eq!(settings.port, 4);
    let settings = Settings::read(&sources(
        &[("RUNNER_PORT", "5")],
        &environment,
        folder.path(),
    ));
    assert_eq!(settings.unwrap().port, 5);
}

/// Every variable of the reference is read, or answered by a notice that names what takes its place.
#[test]
fn no_variable_of_the_reference_is_silently_ignored() {
    type IsRight = fn(&Settings) -> bool;
    let read: [(&str, &str, IsRight); 23] = [
        ("PLUGIN_FOLDERS", "/a:/b", |s| s.plugin_folders.len() == 2),
        ("CELERY_QUEUE", "q", |s| s.notices.is_empty()),
        ("SQLALCHEMY_DATABASE_URI", "sqlite:////x/y.db", |s| {
            s.database.file() == Some(Path::new("/x/y.db"))
        }),
        ("DEFAULT_FILE_STORE", "local_filesystem", |s| {
            s.notices.is_empty()
        }),
        ("FILE_STORE_ROOT_PATH", "/files", |s| {
            s.files == Path::new("/files")
        }),
        ("URL_MAP", r#"{"^http://a/": "http://b/"}"#, |s| {
            s.url_map.apply("http://a/x") == "http://b/x"
        }),
        ("SERVER_NAME", "example.org", |s| {
            s.server_name.as_deref() == Some("example.org")
        }),
        ("REVERSE_PROXY_COUNT", "2", |s| s.proxies == 2),
        ("CONCURRENCY", "3", |s| s.concurrency == 3),
        ("WORKER_ONLY", "sessions", |s| {
            s.only == Some(crate::settings::Only::Sessions)
        }),
        ("DEFAULT_LOG_LEVEL", "WARNING", |s| s.log_level == "warn"),
        ("QHANA_PLUGIN_RUNNER_INSTANCE_FOLDER", "/i", |s| {
            s.instance == Path::new("/i")
        }),
        ("RUNNER_PORT", "8080", |s| s.port == 8080),
        ("ALLOWED_MODULES", "", |s| !s.trust.is_limited()),
        (
            "ALLOWED_MODULES",
            "a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2a1b2",
            |s| s.trust.is_limited(),
        ),
        ("BROKER_URL", "redis://cache/0", |s| {
            s.broker.as_deref() == Some("redis://cache/0")
        }),
        ("DATABASE_URL", "postgresql+psycopg://u:p@h/d", |s| {
            s.database.is_server()
        }),
        ("CONTAINER_MODE", "worker", |s| s.notices.is_empty()),
        ("GIT_PLUGINS", "git+https://h/a\ngit+https://h/b@1", |s| {
            s.git_plugins.known().len() == 2
        }),
        ("LOCALHOST_PROXY_PORTS", ":9090 :5005", |s| {
            s.surroundings.forwarded == [9090, 5005]
        }),
        ("WAIT_HOSTS", "redis:6379, db:5432", |s| {
            s.surroundings.wait_for.len() == 2
        }),
        ("WAIT_TIMEOUT", "300", |s| {
            s.surroundings.wait == Duration::from_secs(300)
        }),
        ("WORKER_LEASE", "0.1", |s| {
            s.worker_lease == Duration::from_secs(1)
        }),
    ];
    for (name, value, is_right) in read {
        let settings = with(name, value).unwrap();
        assert!(is_right(&settings), "{name}");
    }
    for (name, value) in [
        ("RESULT_BACKEND", "redis://localhost"),
        ("PLUGIN_REGISTRY_URL", "http://registry"),
        ("PERIODIC_SCHEDULER", "true"),
    ] {
        let settings = with(name, value).unwrap();
        assert_eq!(settings.notices.len(), 1, "{name}");
        assert!(
            settings.notices[0].starts_with(&format!("{name} is not used: ")),
            "{name}"
        );
    }
    assert_eq!(NOTICES.len(), 3);
}

#[test]
fn files_are_as_durable_as_the_database() {
    for (name, value, durability) in [
        ("QUEUE", "q", Durability::Process),
        ("DATABASE_URL", "sqlite:////x/y.db", Durability::Process),
        ("DATABASE_URL", "postgresql://u@h/d", Durability::Power),
        ("DATABASE_URL", "mysql://u@h/d", Durability::Power),
        ("DURABILITY", "power", Durability::Power),
    ] {
        let settings = with(name, value).unwrap();
        assert_eq!(settings.durability, durability, "{name}={value}");
    }
}

#[test]
fn a_bucket_leaves_the_folder_for_drafts() {
    let settings = with("FILE_STORE_ROOT_PATH", "s3://b/p/").unwrap();
    assert_eq!(settings.files, Path::new("instance/files"));
    let bucket = settings.bucket.map(|bucket| bucket.to_string());
    assert_eq!(bucket.as_deref(), Some("s3://b/p"));
    assert_eq!(with("FILE_STORE_ROOT_PATH", "/s3").unwrap().bucket, None);
}

#[test]
fn wrong_settings_are_named_with_their_origin() {
    for (name, value, part) in [
        (
            "RUNNER_PORT",
            "99999",
            "RUNNER_PORT is \"99999\" (the variable RUNNER_PORT)",
        ),
        ("RUN_TIMEOUT", "-1", "RUN_TIMEOUT is -1"),
        ("URL_MAP", "[]", "URL_MAP"),
        ("DEFAULT_FILE_STORE", "ftp", "expected local_filesystem"),
        ("DEFAULT_FILE_STORE", "s3", "as s3://bucket/prefix"),
        (
            "DEFAULT_FILE_STORE",
            "url_file_store",
            "every output may be a URL",
        ),
        ("FILE_STORE_ROOT_PATH", "gs://b/p", "expected s3://bucket"),
        ("FILE_STORE_ROOT_PATH", "s3://", "is no name of a bucket"),
        ("DATABASE_URL", "oracle://u:p@h/d", "found \"oracle\""),
        ("QUEUE", "a b", "expected 1 to 60 letters"),
        ("WORKER_LEASE", "soon", "WORKER_LEASE is \"soon\""),
        ("DATABASE_URL", "sqlite:///:memory:", "in memory"),
        ("DURABILITY", "x", "expected process or power"),
        ("DEVELOPMENT", "true", "expected on or off"),
        ("MODULE_MISMATCH", "x", "expected run or refuse"),
        ("AUTH", "yes", "expected off, optional or required"),
        ("ALLOWED_NETWORKS", "10.0.0.0/99", "\"10.0.0.0/99\""),
        ("ALLOWED_HOSTS", "http://a", "\"http://a\" is no host"),
        ("CORS_ORIGINS", "a.org", "\"a.org\" is no origin"),
        ("PUBLIC_URL", "example.org", "expected one such as https://"),
        (
            "PUBLIC_URL",
            "ftp://example.org",
            "expected one such as https://",
        ),
        ("MAX_REQUESTS", "0", "expected 1 or more"),
        ("MAX_HEAD_SIZE", "1", "expected 8192 or more"),
        ("CLIENT_TIMEOUT", "0", "CLIENT_TIMEOUT is 0 s"),
        ("LOG_FORMAT", "xml", "expected text or json"),
        ("ALLOWED_MODULES", "abc", "\"abc\" is no digest"),
        (
            "ALLOWED_MODULES",
            "/nowhere/at/all",
            "cannot read /nowhere/at/all",
        ),
        ("METRICS_ADDRESS", "9464", "such as 127.0.0.1:9464"),
        (
            "METRICS_ADDRESS",
            "localhost:9464",
            "such as 127.0.0.1:9464",
        ),
    ] {
        let error = format!("{:#}", with(name, value).unwrap_err());
        assert!(error.contains(part), "{error}");
    }
}

/// Settings with more than one variable.
fn with_all(variables: &[(&str, &str)]) -> anyhow::Result<Settings> {
    let folder = tempfile::tempdir().unwrap();
    Settings::read(&sources(&[], variables, folder.path()))
}

#[test]
fn what_others_reach_is_open_only_where_that_is_said() {
    let may_serve = |variables: &[(&str, &str)]| with_all(variables).unwrap().may_serve;
    let everywhere = ("RUNNER_HOST", "0.0.0.0");
    assert!(may_serve(&[]).is_ok());
    assert!(may_serve(&[("RUNNER_HOST", "::1")]).is_ok());
    let problem = may_serve(&[everywhere]).unwrap_err();
    assert!(problem.contains("AUTH=required"), "{problem}");
    assert!(may_serve(&[everywhere, ("AUTH", "off")]).is_ok());
    let secret = ("AUTH_SECRET", "0123456789abcdef0123456789abcdef");
    assert!(may_serve(&[everywhere, ("AUTH", "required"), secret]).is_ok());
}

#[test]
fn a_key_that_is_not_used_is_no_oversight() {
    let secret = ("AUTH_SECRET", "0123456789abcdef0123456789abcdef");
    let error = with_all(&[secret]).unwrap_err().to_string();
    assert!(error.contains("AUTH_SECRET is set"), "{error}");
    assert!(
        with_all(&[secret, ("AUTH", "off")])
            .unwrap()
            .auth
            .key
            .is_none()
    );
    let error = with_all(&[("AUTH", "required")]).unwrap_err().to_string();
    assert!(error.contains("expected one of AUTH_SECRET, AUTH_PUBLIC_KEY, AUTH_JWKS_URL"));
    // What a file of variables leaves empty is not set.
    assert!(with_all(&[("AUTH_SECRET", ""), ("AUTH_JWKS_URL", " ")]).is_ok());
}

#[test]
fn private_addresses_are_refused_where_tokens_are_required() {
    let near = "10.1.2.3".parse().unwrap();
    let secret = ("AUTH_SECRET", "0123456789abcdef0123456789abcdef");
    let required = [("AUTH", "required"), secret];
    let refuses = |variables: &[(&str, &str)]| {
        let settings = with_all(variables).unwrap();
        settings.addresses.refusing(near).is_some()
    };
    assert!(!refuses(&[]));
    assert!(!refuses(&[("AUTH", "optional"), secret]));
    assert!(refuses(&required));
    assert!(!refuses(&[
        required[0],
        secret,
        ("ALLOWED_NETWORKS", "10.1.0.0/16")
    ]));
}

#[test]
fn the_public_url_is_that_or_the_server_name() {
    let url = |variables: &[(&str, &str)]| with_all(variables).unwrap().public_url;
    assert_eq!(url(&[]), None);
    let name = ("SERVER_NAME", "example.org:8080");
    assert_eq!(url(&[name]).as_deref(), Some("http://example.org:8080"));
    let given = ("PUBLIC_URL", "https://example.org/runner/");
    assert_eq!(
        url(&[name, given]).as_deref(),
        Some("https://example.org/runner")
    );
}

#[test]
fn every_setting_stands_in_the_example_file() {
    let example = include_str!("../../../.env.example");
    for setting in SETTINGS {
        let line = format!("# {}={}", setting.name, setting.default);
        assert!(
            example.lines().any(|other| other == line),
            "{line:?} is not in .env.example"
        );
        assert!(!setting.meaning.is_empty());
    }
}
