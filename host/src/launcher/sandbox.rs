//! What a process gives up before it becomes a host: capabilities, new privileges, the file system beyond what it
//! needs, and system calls that only help to get out.

use super::abilities::Abilities;
use super::namespaces::Way;
use super::root::View;
use super::seccomp::{self, Sockets};
use super::wire::HostCommand;

/// What the runtime of any language needs to read: system libraries and configuration.
const SYSTEM: &[&str] = &[
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/sbin",
    "/opt",
    "/nix",
    "/sys/devices/system/cpu",
];
/// What of the system's configuration is no secret, and is read by runtimes.
const CONFIGURATION: &[&str] = &[
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/java",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
];
/// Devices that every program may use.
pub(super) const DEVICES: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// Where a host may write beside its `work/`, in a root of its own.
const TEMPORARY: &[&str] = &["/tmp", "/dev/shm"];

/// What every host may read, where it has no root of its own.
pub(crate) fn system_paths() -> impl Iterator<Item = &'static str> {
    SYSTEM.iter().chain(CONFIGURATION).copied()
}

/// What every host is shown. The configuration is shown one by one, since there are secrets beside it.
pub(super) fn system_view() -> View {
    let mut view = View::default();
    for path in system_paths() {
        view.show(std::path::Path::new(path));
    }
    view
}

/// Confines the calling process and all its children for good. One that nests leaves out what would keep it from
/// making name spaces: it is in some of its own, and confines what it starts.
///
/// # Errors
/// What the kernel refused, unless it was known before that it has no such thing.
pub(super) fn confine(command: &HostCommand, abilities: &Abilities) -> Result<(), String> {
    drop_capabilities()?;
    nix::sys::prctl::set_no_new_privs().map_err(|e| format!("cannot set no_new_privs: {e}"))?;
    let has_root = abilities.way != Way::None;
    let nests = command.nests && has_root;
    if abilities.landlock > 0 && !nests {
        restrict(command, has_root)
            .map_err(|error| format!("cannot confine the host with Landlock: {error}"))?;
    }
    if abilities.seccomp {
        seccomp::install(&seccomp::program(sockets(command, has_root), nests))?;
    }
    Ok(())
}

fn sockets(command: &HostCommand, has_root: bool) -> Sockets {
    Sockets {
        network: command.network,
        unix: has_root,
    }
}

/// The filter of system calls that a host which nests puts on what it starts, in bytes as the kernel takes them; none
/// where it cannot nest.
pub(super) fn nested_filter(command: &HostCommand, abilities: &Abilities) -> Option<Vec<u8>> {
    let nests = command.nests && abilities.way != Way::None;
    nests.then(|| match abilities.seccomp {
        true => seccomp::bytes(&seccomp::program(sockets(command, true), false)),
        false => Vec::new(),
    })
}

/// In a root of its own there is nothing that a host must not read, so rules are few.
fn restrict(command: &HostCommand, has_root: bool) -> Result<(), landlock::RulesetError> {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
        RulesetCreatedAttr, Scope, path_beneath_rules,
    };
    let abi = ABI::V6;
    let (all, read) = (AccessFs::from_all(abi), AccessFs::from_read(abi));
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .scope(Scope::from_all(abi))?;
    if !command.network {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi))?;
    }
    let mut rules = ruleset.create()?;
    rules = match has_root {
        true => rules
            .add_rules(path_beneath_rules(["/"], read))?
            .add_rules(path_beneath_rules(TEMPORARY, all))?,
        false => rules
            .add_rules(path_beneath_rules(SYSTEM, read))?
            .add_rules(path_beneath_rules(CONFIGURATION, read))?
            .add_rules(path_beneath_rules(["/proc"], read))?
            .add_rules(path_beneath_rules(&command.readable, read))?,
    };
    let device = AccessFs::from_file(abi) & !AccessFs::Execute;
    rules
        .add_rules(path_beneath_rules(DEVICES, device))?
        .add_rules(path_beneath_rules(&command.writable, all))?
        .restrict_self()?;
    Ok(())
}

/// A runner that is root gives none of its powers to plugins: with no_new_privs they stay gone.
fn drop_capabilities() -> Result<(), String> {
    use caps::{CapSet, clear, drop as drop_one, has_cap};
    if has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP).unwrap_or(false) {
        for capability in caps::runtime::thread_all_supported() {
            drop_one(None, CapSet::Bounding, capability)
                .map_err(|error| format!("cannot drop {capability}: {error}"))?;
        }
    }
    for set in [
        CapSet::Ambient,
        CapSet::Effective,
        CapSet::Inheritable,
        CapSet::Permitted,
    ] {
        // What there never was need not be cleared: old kernels know no ambient set.
        if let Err(error) = clear(None, set)
            && !matches!(set, CapSet::Ambient)
        {
            return Err(format!("cannot give up capabilities: {error}"));
        }
    }
    Ok(())
}

/// The version of Landlock in this kernel; 0 where it has none.
pub(super) fn landlock_version() -> i64 {
    use nix::libc;
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_ulong = 1;
    // SAFETY: with the flag VERSION the call takes no pointer and only answers a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    version.max(0)
}
