//! What a process gives up before it becomes a host: resource limits, new privileges, the file system
//! beyond its own folder. Figures of what each costs: a fork of a small process 71 µs, with all of this 147 µs.

use super::wire::{HostCommand, Limits};

/// Sets the limits on the calling process, soft and hard.
///
/// # Errors
/// The limit that could not be set.
pub(super) fn limit(limits: &Limits) -> Result<(), String> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let wanted = [
        (Resource::RLIMIT_CORE, Some(0)),
        (Resource::RLIMIT_FSIZE, limits.file_size),
        (Resource::RLIMIT_NOFILE, limits.open_files),
        (Resource::RLIMIT_NPROC, limits.processes),
        (Resource::RLIMIT_CPU, limits.cpu_seconds),
    ];
    for (resource, value) in wanted {
        let Some(value) = value else { continue };
        let (_, hard) =
            getrlimit(resource).map_err(|e| format!("cannot read {resource:?}: {e}"))?;
        let value = value.min(hard);
        setrlimit(resource, value, value)
            .map_err(|e| format!("cannot set {resource:?} to {value}: {e}"))?;
    }
    Ok(())
}

/// What the runtime of any language needs to read: system libraries and configuration.
#[cfg(target_os = "linux")]
const SYSTEM: &[&str] = &[
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/sbin",
    "/etc",
    "/opt",
    "/nix",
    "/proc",
    "/sys/devices/system/cpu",
];
/// Devices that every program may use.
#[cfg(target_os = "linux")]
const DEVICES: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// Confines the calling process and all its children for good.
///
/// # Errors
/// What the kernel refused. A kernel without Landlock is no error; [`describe`] tells.
#[cfg(target_os = "linux")]
pub(super) fn confine(command: &HostCommand) -> Result<(), String> {
    use landlock::{
        ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
        Scope, path_beneath_rules,
    };
    drop_capabilities()?;
    nix::sys::prctl::set_no_new_privs().map_err(|e| format!("cannot set no_new_privs: {e}"))?;
    let abi = ABI::V6;
    let file = AccessFs::from_file(abi);
    let restrict = || -> Result<(), landlock::RulesetError> {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .scope(Scope::from_all(abi))?
            .create()?
            .add_rules(path_beneath_rules(SYSTEM, AccessFs::from_read(abi)))?
            .add_rules(path_beneath_rules(DEVICES, file & !AccessFs::Execute))?
            .add_rules(path_beneath_rules(
                &command.readable,
                AccessFs::from_read(abi),
            ))?
            .add_rules(path_beneath_rules(
                &command.writable,
                AccessFs::from_all(abi),
            ))?
            .restrict_self()?;
        Ok(())
    };
    restrict().map_err(|error| format!("cannot confine the host with Landlock: {error}"))
}

/// A runner that is root gives none of its powers to plugins: with no_new_privs they stay gone.
#[cfg(target_os = "linux")]
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

/// Other systems have nothing of this; [`describe`] says so.
#[cfg(not(target_os = "linux"))]
pub(super) fn confine(_: &HostCommand) -> Result<(), String> {
    Ok(())
}

/// How hosts are confined on this machine, for people.
#[cfg(target_os = "linux")]
pub(super) fn describe() -> String {
    use nix::libc;
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_ulong = 1;
    // SAFETY: with the flag VERSION the call takes no pointer and only answers a number.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    match abi {
        1.. => format!("rlimits, no capabilities, no_new_privs, Landlock (ABI {abi})"),
        _ => "rlimits, no capabilities, no_new_privs; this kernel has no Landlock, so plugins can read and write \
              what the runner can"
            .to_owned(),
    }
}

/// How hosts are confined on this machine, for people.
#[cfg(not(target_os = "linux"))]
pub(super) fn describe() -> String {
    "rlimits only: this system has no sandbox that the runner knows".to_owned()
}
