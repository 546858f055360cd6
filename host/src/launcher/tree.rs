//! Finding and killing all that a process started.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How long processes may take to die; only the kernel itself can make it longer.
const DEATH: Duration = Duration::from_secs(5);
/// Between two looks at those that are dying.
const PAUSE: Duration = Duration::from_millis(1);

/// Kills all descendants of the calling process, which is their subreaper: whatever they did to get away,
/// they are its descendants. Answers how its child `first` ended, if it did meanwhile.
pub(super) fn kill_descendants(first: Option<Pid>) -> Option<WaitStatus> {
    let me = nix::unistd::getpid();
    let begin = Instant::now();
    let mut ended = None;
    loop {
        ended = reap(first).or(ended);
        // Each look can only find what was forked while the last one was killing.
        let doomed = descendants(me);
        if doomed.is_empty() || begin.elapsed() > DEATH {
            return ended;
        }
        for pid in doomed {
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Takes leave of all children that have ended. Answers how `first` did.
pub(super) fn reap(first: Option<Pid>) -> Option<WaitStatus> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(_) => return ended,
            Ok(status) if status.pid() == first => ended = Some(status),
            Ok(_) => {}
        }
    }
}

/// Living descendants of a process.
fn descendants(root: Pid) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let all: Vec<(Pid, Stat)> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
        .filter_map(|pid| Some((pid, Stat::of(pid)?)))
        .collect();
    let mut members = HashSet::from([root]);
    let mut count = 0;
    while count != members.len() {
        count = members.len();
        let children = all
            .iter()
            .filter(|(_, stat)| members.contains(&stat.parent));
        let children: Vec<Pid> = children.map(|(pid, _)| *pid).collect();
        members.extend(children);
    }
    let living = all
        .iter()
        .filter(|(pid, stat)| *pid != root && !stat.is_zombie && members.contains(pid));
    living.map(|(pid, _)| *pid).collect()
}

struct Stat {
    parent: Pid,
    is_zombie: bool,
}

impl Stat {
    /// From `/proc/<pid>/stat`, see proc(5). The name, in parentheses, may hold anything.
    fn of(pid: Pid) -> Option<Self> {
        let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let text = String::from_utf8_lossy(&text);
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        Some(Self {
            parent: Pid::from_raw(parent),
            is_zombie: state == "Z" || state == "X",
        })
    }
}
