//! What processes have used, from `/proc`; elsewhere nothing is known.

use std::collections::HashMap;

use nix::unistd::{SysconfVar, sysconf};
use runner_core::module::HostUsage;

/// One line of `/proc/<pid>/stat`, see proc(5).
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stat {
    parent: i32,
    /// Clock ticks, with those of children that have ended and were waited for.
    user: u64,
    system: u64,
    /// Pages in memory.
    resident: u64,
}

impl Stat {
    /// The name, in parentheses, may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        // The first of these is the third field of the line.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            user: number(14)? + number(16)?,
            system: number(15)? + number(17)?,
            resident: number(24)?,
        })
    }

    fn of(pid: i32) -> Option<Self> {
        let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&String::from_utf8_lossy(&text))
    }
}

/// Bytes of a process that are in memory; 0 if that is not known.
pub(crate) fn resident(pid: i32) -> u64 {
    Stat::of(pid).map_or(0, |stat| stat.resident * page())
}

/// What each of these processes and all that it has started have used. Reads every process of the machine once.
pub(crate) fn usage(hosts: &[i32]) -> Vec<HostUsage> {
    if hosts.is_empty() {
        return Vec::new();
    }
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let stats: HashMap<i32, Stat> = pids.filter_map(|pid| Some((pid, Stat::of(pid)?))).collect();
    hosts.iter().map(|host| sum(*host, &stats)).collect()
}

/// Sums up a process and its descendants.
fn sum(host: i32, stats: &HashMap<i32, Stat>) -> HostUsage {
    let mut sum = HostUsage {
        pid: host,
        ..HostUsage::default()
    };
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
    let mut members = vec![host];
    while let Some(pid) = members.pop() {
        let Some(stat) = stats.get(&pid) else {
            continue;
        };
        sum.user_seconds += stat.user as f64 / ticks;
        sum.system_seconds += stat.system as f64 / ticks;
        sum.resident += stat.resident * page();
        sum.processes += 1;
        let children = stats.iter().filter(|(_, stat)| stat.parent == pid);
        members.extend(children.map(|(pid, _)| *pid));
    }
    sum
}

fn page() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok())
        .unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b) S 3 7 7 0 -1 4194560 100 0 0 0 11 12 13 14 20 0 1 0 500 1000 21 0";
        let stat = Stat::parse(text).unwrap();
        let expected = Stat {
            parent: 3,
            user: 24,
            system: 26,
            resident: 21,
        };
        assert_eq!(stat, expected);
        assert_eq!(Stat::parse("7 (a) S 3"), None);
    }

    #[test]
    fn descendants_count_with_their_host() {
        let stat = |parent, user| Stat {
            parent,
            user,
            system: 0,
            resident: 1,
        };
        let stats = HashMap::from([
            (5, stat(1, 100)),
            (6, stat(5, 50)),
            (7, stat(6, 50)),
            (8, stat(1, 9)),
        ]);
        let sum = sum(5, &stats);
        assert_eq!((sum.pid, sum.processes), (5, 3));
        assert_eq!(sum.resident, 3 * page());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_in_memory() {
        let own = std::process::id().cast_signed();
        assert!(resident(own) > 0);
        assert_eq!(usage(&[own])[0].pid, own);
    }
}
