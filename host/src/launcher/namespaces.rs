//! Name spaces of a host's own: what is outside of them cannot even be named.
//!
//! Its keeper is made in them and is the first process of the host's process name space: when it ends, the
//! kernel ends all that is in there. The host itself is its child, so that signals work for it as usual.
//! What happens here happens once in a host's life, before its program begins.

use std::io::Write;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{ForkResult, Gid, Pid, Uid, getegid, geteuid};
use serde::{Deserialize, Serialize};

/// How a host gets name spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// It has none.
    None,
    /// An ordinary user has them by way of a user name space, in which hosts keep the account.
    User,
    /// Root makes them itself, and hosts run as another account that can do nothing.
    Root,
}

/// The account of hosts, as they see it.
const INSIDE: u32 = 1000;
/// The name of the machine, as hosts see it.
const MACHINE: &str = "plugin";

/// Forks, in name spaces of the child's own. The calling process has a single thread.
pub(super) fn fork(way: Way, network: bool) -> Result<ForkResult, Errno> {
    let mut flags = match way {
        // SAFETY: this process has a single thread, so the child may do anything the parent could.
        Way::None => return unsafe { nix::unistd::fork() },
        Way::User => libc::CLONE_NEWUSER,
        Way::Root => 0,
    };
    flags |= libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if !network {
        flags |= libc::CLONE_NEWNET;
    }
    let flags = libc::c_long::from(flags | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and a stack this is fork with name spaces: the child goes on with a copy of all
    // memory, and there is no other thread whose locks it could have inherited.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) } {
        -1 => Err(Errno::last()),
        0 => Ok(ForkResult::Child),
        child => Ok(ForkResult::Parent {
            child: Pid::from_raw(i32::try_from(child).unwrap_or_default()),
        }),
    }
}

/// With whom the processes of a host are counted, where their number is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// With nobody else's.
    Alone,
    /// With all of its account, on the whole machine.
    WithAccount,
    /// Root's are not.
    Never,
}

/// The accounts of a runner, remembered before it enters a user name space.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    uid: Uid,
    gid: Gid,
}

impl Account {
    pub(super) fn own() -> Self {
        Self {
            uid: geteuid(),
            gid: getegid(),
        }
    }

    /// First of all in the child: gives it a number in its user name space.
    pub(super) fn enter(self, way: Way) -> Result<(), String> {
        match way {
            Way::User => self.map(),
            Way::None | Way::Root => Ok(()),
        }
    }

    /// When the child's file system stands: gives up what root could do. Answers with whom its processes are
    /// counted.
    pub(super) fn leave(way: Way, uid: u32) -> Result<Counted, String> {
        if way == Way::None {
            return Ok(match geteuid().is_root() {
                true => Counted::Never,
                false => Counted::WithAccount,
            });
        }
        let _ = nix::unistd::sethostname(MACHINE);
        if way == Way::User {
            return Ok(Counted::Alone);
        }
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
        let failed = |what: &str, error: Errno| format!("cannot {what} {uid}: {error}");
        nix::unistd::setgroups(&[]).map_err(|e| failed("leave the groups of root for", e))?;
        nix::unistd::setresgid(gid, gid, gid).map_err(|e| failed("become group", e))?;
        nix::unistd::setresuid(uid, uid, uid).map_err(|e| failed("become user", e))?;
        // A user name space only to be counted apart. Who may not have one is counted with all of this account.
        let dumpable = |on| nix::sys::prctl::set_dumpable(on).map_err(|e| failed("map user", e));
        // SAFETY: takes no pointer.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER) } != 0 {
            return Ok(Counted::WithAccount);
        }
        // Else the files of this process in /proc belong to root.
        dumpable(true)?;
        Self { uid, gid }.map()?;
        dumpable(false)?;
        Ok(Counted::Alone)
    }

    fn map(self) -> Result<(), String> {
        let write = |file: &str, text: String| {
            std::fs::OpenOptions::new()
                .write(true)
                .open(format!("/proc/self/{file}"))
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .map_err(|error| format!("cannot write /proc/self/{file}: {error}"))
        };
        write("setgroups", "deny".to_owned())?;
        write("uid_map", format!("{INSIDE} {} 1", self.uid))?;
        write("gid_map", format!("{INSIDE} {} 1", self.gid))
    }
}
