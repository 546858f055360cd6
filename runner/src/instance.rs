//! The instance folder: who works in it, and its token.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Held while a runner works in the folder: by one alone, or shared by servers and workers. The lines of one
/// alone are its process and, as soon as it listens, its URL.
const LOCK: &str = "runner.lock";
/// Held by the first server of those that share the folder, with the same lines.
const SERVER_LOCK: &str = "server.lock";

/// Makes the folder.
pub(crate) fn make(folder: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the instance folder {}", folder.display()))?;
    let folder = folder
        .canonicalize()
        .with_context(|| format!("cannot find the instance folder {}", folder.display()))?;
    // It holds parameters, secrets among them, and the tags of files.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot close {} to others", folder.display()))?;
    Ok(folder)
}

/// Refuses to keep what the runner knows where plugins may read: below a plugin folder.
pub(crate) fn keep_apart(kept: &[&Path], plugin_folders: &[PathBuf]) -> anyhow::Result<()> {
    for folder in plugin_folders {
        let Ok(real) = folder.canonicalize() else {
            continue;
        };
        for path in kept {
            let existing = path.ancestors().find_map(|path| path.canonicalize().ok());
            if existing.is_some_and(|existing| existing.starts_with(&real)) {
                bail!(
                    "{} lies in the plugin folder {}, where every plugin could read it: choose another place \
                     (--instance-folder, --plugin-folders)",
                    path.display(),
                    folder.display()
                );
            }
        }
    }
    Ok(())
}

/// Makes sure that no other runner works with a file or folder outside of the instance folder: none at all,
/// or none that wants it for itself.
pub(crate) fn lock_apart(
    path: &Path,
    instance: &Path,
    is_alone: bool,
) -> anyhow::Result<Option<File>> {
    let absolute =
        std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
    if absolute.starts_with(instance) {
        return Ok(None);
    }
    let mut name = absolute.into_os_string();
    name.push(".lock");
    let path = PathBuf::from(name);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let locked = match is_alone {
        true => patiently(|| file.try_lock()),
        false => patiently(|| file.try_lock_shared()),
    };
    match locked {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => bail!("another runner holds {}", path.display()),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Processes with sessions in one instance folder.
const MAX_WORKERS: usize = 100;

/// Makes sure that no other runner works in the folder, or none that wants it for itself. It ends with the
/// process, however that ends.
#[derive(Debug)]
pub(crate) struct Lock {
    instance: PathBuf,
    file: File,
    is_alone: bool,
    /// Where a server that shares the folder says where it is.
    server: Option<File>,
}

impl Lock {
    /// Takes the lock for one alone, or says who has it.
    pub(crate) fn take(instance: &Path) -> anyhow::Result<Self> {
        let mut lock = Self::new(instance, true)?;
        write(&mut lock.file, &format!("{}\n", std::process::id()))?;
        Ok(lock)
    }

    /// Takes the lock together with other servers and workers.
    pub(crate) fn share(instance: &Path) -> anyhow::Result<Self> {
        Self::new(instance, false)
    }

    fn new(instance: &Path, is_alone: bool) -> anyhow::Result<Self> {
        let path = instance.join(LOCK);
        let file = open(&path)?;
        let locked = match is_alone {
            true => patiently(|| file.try_lock()),
            false => patiently(|| file.try_lock_shared()),
        };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let who = match Holder::of(instance) {
                    Some(holder) => format!("another runner (process {})", holder.pid),
                    None => "workers".to_owned(),
                };
                bail!(
                    "the instance folder {} is in use by {who}; stop it, or choose another folder with \
                     --instance-folder",
                    instance.display()
                )
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        Ok(Self {
            instance: instance.to_owned(),
            file,
            is_alone,
            server: None,
        })
    }

    /// Tells other commands where this runner is.
    pub(crate) fn tell_address(&mut self, address: &SocketAddr) -> anyhow::Result<()> {
        let text = format!("{}\n{}\n", std::process::id(), base_url(address));
        if self.is_alone {
            return write(&mut self.file, &text);
        }
        let mut file = open(&self.instance.join(SERVER_LOCK))?;
        // Commands ask the first of several servers.
        if patiently(|| file.try_lock()).is_ok() {
            write(&mut file, &text)?;
            self.server = Some(file);
        }
        Ok(())
    }
}

/// The folder of the sessions of this process, and the lock by which another worker of the instance folder takes another
/// one. A process that is started again takes the first that is free, mostly its own.
pub(crate) fn sessions(instance: &Path) -> anyhow::Result<(PathBuf, File)> {
    for number in 1..=MAX_WORKERS {
        let name = match number {
            1 => "sessions".to_owned(),
            number => format!("sessions-{number}"),
        };
        let file = open(&instance.join(format!("{name}.lock")))?;
        match file.try_lock() {
            Ok(()) => return Ok((instance.join(name), file)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(error)
                    .with_context(|| format!("cannot lock {name}.lock in {}", instance.display()));
            }
        }
    }
    bail!(
        "{MAX_WORKERS} processes have sessions in {}; it takes no more",
        instance.display()
    )
}

/// The folder of the kernels for cells of a process, beside that of its sessions.
pub(crate) fn cells(sessions: &Path) -> PathBuf {
    let name = sessions.file_name().unwrap_or_default().to_string_lossy();
    sessions.with_file_name(name.replacen("sessions", "cells", 1))
}

fn open(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

fn write(file: &mut File, text: &str) -> anyhow::Result<()> {
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(text.as_bytes()));
    written.context("cannot write who works in the instance folder")
}

/// Tries for a moment: another command may just be looking whether the lock is held.
fn patiently(mut lock: impl FnMut() -> Result<(), TryLockError>) -> Result<(), TryLockError> {
    for _ in 0..20 {
        match lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
    lock()
}

/// The runner that works in an instance folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its process.
    pub(crate) pid: String,
    /// Where it listens, if it does already.
    pub(crate) url: Option<String>,
}

impl Holder {
    /// Who serves in the folder now, if anybody. Takes no lock of its own for longer than a look.
    pub(crate) fn of(instance: &Path) -> Option<Self> {
        let held = |name: &str| {
            let path = instance.join(name);
            let file = File::open(&path).ok()?;
            match file.try_lock_shared() {
                Err(TryLockError::WouldBlock) => Some(Self::read(&path)),
                _ => None,
            }
        };
        held(LOCK).or_else(|| held(SERVER_LOCK))
    }

    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines().map(|line| line.trim().to_owned());
        Self {
            pid: lines.next().unwrap_or_default(),
            url: lines.next(),
        }
    }
}

/// The URL for people on this machine, without a slash at the end.
pub(crate) fn base_url(address: &SocketAddr) -> String {
    match address.ip().is_unspecified() {
        true => format!("http://127.0.0.1:{}", address.port()),
        false => format!("http://{address}"),
    }
}

/// The token of the installation, made at the first start.
pub(crate) fn token(instance: &Path) -> anyhow::Result<String> {
    let path = instance.join("token");
    match fs::read_to_string(&path) {
        Ok(token) if token.trim().len() >= 32 => return Ok(token.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let token = random()?;
    let draft = instance.join(".token");
    let _ = fs::remove_file(&draft);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| writeln!(file, "{token}"))
        .and_then(|()| fs::rename(&draft, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(token)
}

/// A short name that is made of a secret and does not tell it.
pub(crate) fn digest(secret: &str) -> String {
    let digest = Sha256::digest(secret.as_bytes());
    digest[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// 256 random bits, as text.
pub(crate) fn random() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("the system gives no random bytes")?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_a_folder_of_its_own_for_sessions() {
        let folder = tempfile::tempdir().unwrap();
        let (first, lock) = sessions(folder.path()).unwrap();
        let (second, _other) = sessions(folder.path()).unwrap();
        assert!(first.ends_with("sessions") && second.ends_with("sessions-2"));
        assert!(cells(&first).ends_with("cells") && cells(&second).ends_with("cells-2"));
        drop(lock);
        assert_eq!(sessions(folder.path()).unwrap().0, first);
    }

    #[test]
    fn who_holds_the_folder_is_known_while_it_does() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Holder::of(folder.path()), None);
        let mut lock = Lock::take(folder.path()).unwrap();
        let pid = std::process::id().to_string();
        let holder = Holder {
            pid: pid.clone(),
            url: None,
        };
        assert_eq!(Holder::of(folder.path()), Some(holder));
        lock.tell_address(&"0.0.0.0:5005".parse().unwrap()).unwrap();
        let url = Some("http://127.0.0.1:5005".to_owned());
        assert_eq!(Holder::of(folder.path()), Some(Holder { pid, url }));
        let refused = format!("{:#}", Lock::take(folder.path()).unwrap_err());
        assert!(refused.contains("is in use by another runner"), "{refused}");
        drop(lock);
        assert_eq!(Holder::of(folder.path()), None);
    }

    #[test]
    fn servers_and_workers_share_a_folder_and_one_alone_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let worker = Lock::share(folder.path()).unwrap();
        assert_eq!(Holder::of(folder.path()), None, "a worker has no address");
        let refused = format!("{:#}", Lock::take(folder.path()).unwrap_err());
        assert!(refused.contains("in use by workers"), "{refused}");
        let mut first = Lock::share(folder.path()).unwrap();
        let mut second = Lock::share(folder.path()).unwrap();
        first
            .tell_address(&"0.0.0.0:5005".parse().unwrap())
            .unwrap();
        second
            .tell_address(&"0.0.0.0:5006".parse().unwrap())
            .unwrap();
        let url = Holder::of(folder.path()).and_then(|holder| holder.url);
        assert_eq!(url.as_deref(), Some("http://127.0.0.1:5005"));
        drop((worker, first, second));
        let _alone = Lock::take(folder.path()).unwrap();
        assert!(Lock::share(folder.path()).is_err());
    }
}
