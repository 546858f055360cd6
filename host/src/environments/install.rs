//! Makes an environment with uv, where that is installed, else with `venv` and pip.

use std::collections::VecDeque;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::process::Command;

use super::requirement;
use super::requirements::Requirements;
use crate::HostError;
use crate::lines::Lines;

/// The file in an environment with the requirements for which it was made. It is written last but one, so that an
/// environment without it is not whole.
pub(super) const REQUIREMENTS: &str = "requirements.txt";
const CONSTRAINTS: &str = "constraints.txt";
/// The largest script that is looked at for the path in its first line.
const MAX_SCRIPT: u64 = 64 << 10;
/// Lines of the installer's output that are told when it fails.
const TAIL: usize = 20;
/// Bytes of one of its lines.
const MAX_LINE: usize = 4 << 10;

/// Variables of the runner that an installer gets, beside those that begin with [`PREFIXES`]. It gets nothing that
/// is secret, since packages may be built.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "NETRC",
    "LD_LIBRARY_PATH",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];
const PREFIXES: &[&str] = &["PIP_", "UV_"];

/// Hears what an installer says, line by line.
pub type Told<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// How environments are made here.
#[derive(Debug)]
pub(super) struct Installer<'a> {
    /// The interpreter for which they are made.
    pub(super) python: &'a str,
    /// Whether packages are built that are not there as wheels.
    pub(super) builds: bool,
    /// How long all of it may take.
    pub(super) limit: Duration,
}

impl Installer<'_> {
    /// Makes an environment in a folder that does not exist yet; `home` is the path that it is going to have.
    pub(super) async fn make(
        &self,
        folder: &Path,
        home: &Path,
        wanted: &Requirements,
        told: Told<'_>,
    ) -> Result<(), HostError> {
        if !self.builds {
            refuse_sources(wanted)?;
        }
        let made = async {
            match uv() {
                Some(uv) => self.with_uv(&uv, folder, wanted, told).await,
                None => self.with_pip(folder, wanted, told).await,
            }
        };
        tokio::time::timeout(self.limit, made)
            .await
            .map_err(|_elapsed| {
                HostError::Module(format!(
                    "installing {} took longer than {} s (INSTALL_TIMEOUT)",
                    wanted.shown(),
                    self.limit.as_secs_f64()
                ))
            })??;
        let (folder, home) = (folder.to_owned(), home.to_owned());
        let moved = tokio::task::spawn_blocking(move || move_scripts(&folder, &home)).await;
        moved.map_err(|error| HostError::Module(format!("moving it failed: {error}")))?
    }

    async fn with_uv(
        &self,
        uv: &Path,
        folder: &Path,
        wanted: &Requirements,
        told: Told<'_>,
    ) -> Result<(), HostError> {
        let mut command = command(uv, folder);
        command
            .args(["venv", "--no-project", "--python", self.python])
            .arg(folder);
        run(command, told).await?;
        let files = write_lists(folder, wanted)?;
        let mut command = self::command(uv, folder);
        command
            .args(["pip", "install", "--compile-bytecode", "--python"])
            .arg(folder.join("bin/python"))
            .args(files.arguments());
        if !self.builds {
            command.arg("--no-build");
        }
        run(command, told).await
    }

    async fn with_pip(
        &self,
        folder: &Path,
        wanted: &Requirements,
        told: Told<'_>,
    ) -> Result<(), HostError> {
        let python = Path::new(self.python);
        let mut command = command(python, folder);
        // A pip of its own costs seconds, and that of the interpreter will do.
        command.args(["-m", "venv", "--without-pip"]).arg(folder);
        run(command, told).await?;
        let files = write_lists(folder, wanted)?;
        let mut command = self::command(python, folder);
        command
            .args(["-m", "pip", "--python"])
            .arg(folder.join("bin/python"))
            .args(["install", "--no-input", "--progress-bar=off"])
            .arg("--disable-pip-version-check")
            .args(files.arguments());
        if !self.builds {
            command.arg("--only-binary=:all:");
        }
        run(command, told).await
    }
}

/// What is installed without a wheel runs code of its own, with all rights of the runner.
fn refuse_sources(wanted: &Requirements) -> Result<(), HostError> {
    for (text, by) in wanted.asked() {
        let Some(url) = requirement::url(text) else {
            continue;
        };
        let path = url.split(['#', '?']).next().unwrap_or(url);
        if !path.ends_with(".whl") {
            return Err(HostError::Module(format!(
                "{} wants {text}, which is no wheel (.whl) and would have to be built: that runs its code with all \
                 rights of the runner, which PACKAGE_BUILDS=on allows",
                by.join(", ")
            )));
        }
    }
    Ok(())
}

/// uv, if it is installed.
fn uv() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("uv"))
        .find(|path| {
            path.metadata()
                .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        })
}

/// A command that is ended with whoever waits for it, and reads no configuration of a project.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    let is_inherited = |name: &str| {
        INHERITED.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    command
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_inherited)))
        .envs([("PYTHONUNBUFFERED", "1"), ("NO_COLOR", "1")])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(above) = folder.parent() {
        command.current_dir(above);
    }
    command
}

/// The lists of requirements in an environment.
struct Lists {
    requirements: PathBuf,
    constraints: Option<PathBuf>,
}

impl Lists {
    fn arguments(&self) -> Vec<&std::ffi::OsStr> {
        let mut arguments = vec!["-r".as_ref(), self.requirements.as_os_str()];
        if let Some(constraints) = &self.constraints {
            arguments.extend(["-c".as_ref(), constraints.as_os_str()]);
        }
        arguments
    }
}

fn write_lists(folder: &Path, wanted: &Requirements) -> Result<Lists, HostError> {
    let (requirements, constraints) = wanted.files();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(HostError::file("write", &path))?;
        Ok::<_, HostError>(path)
    };
    let constraints = match constraints.is_empty() {
        true => None,
        false => Some(write(CONSTRAINTS, &constraints)?),
    };
    Ok(Lists {
        requirements: write(REQUIREMENTS, &requirements)?,
        constraints,
    })
}

/// Runs a step; its output is told line by line, and its end when it fails.
async fn run(mut command: Command, told: Told<'_>) -> Result<(), HostError> {
    let name = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    let failed = |error: std::io::Error| {
        HostError::Module(format!("cannot start {name} to install packages: {error}"))
    };
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    let mut child = {
        let errors = writer.try_clone().map_err(failed)?;
        command.stdout(writer).stderr(errors);
        let child = command.spawn().map_err(failed)?;
        // It holds the other end of the pipe, which must close with the child.
        drop(command);
        child
    };
    let pipe = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(failed)?;
    let mut lines = Lines::new(pipe);
    let mut tail = VecDeque::new();
    while let Ok(Some(line)) = lines.next(MAX_LINE).await {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if line.trim().is_empty() {
            continue;
        }
        told(line.trim());
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    }
    let status = child.wait().await.map_err(failed)?;
    match status.success() {
        true => Ok(()),
        false => {
            let tail: Vec<String> = tail.into();
            Err(HostError::Module(format!(
                "{name} failed ({status}):\n{}",
                tail.join("\n")
            )))
        }
    }
}

/// Programs of an environment begin with the path of its interpreter: it is the one that it has in the end.
fn move_scripts(folder: &Path, home: &Path) -> Result<(), HostError> {
    let bin = folder.join("bin");
    let (from, to) = (
        folder.to_string_lossy().into_owned(),
        home.to_string_lossy().into_owned(),
    );
    let entries = fs::read_dir(&bin).map_err(HostError::file("read", &bin))?;
    for entry in entries.flatten() {
        let path = entry.path();
        let is_script = fs::symlink_metadata(&path)
            .is_ok_and(|data| data.is_file() && data.len() <= MAX_SCRIPT);
        let Some(text) = is_script.then(|| fs::read_to_string(&path).ok()).flatten() else {
            continue;
        };
        if text.contains(&from) {
            // A file of its own: the installer may share it with its cache.
            let moved = path.with_extension("moved");
            fs::write(&moved, text.replace(&from, &to))
                .map_err(HostError::file("write", &moved))?;
            let mode = path.metadata().map(|data| data.permissions());
            mode.and_then(|mode| fs::set_permissions(&moved, mode))
                .and_then(|()| fs::rename(&moved, &path))
                .map_err(HostError::file("write", &path))?;
        }
    }
    Ok(())
}
