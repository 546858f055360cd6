//! The system calls that no host needs, refused by a filter in the kernel.
//!
//! It is a list of what is denied: what programs of any language need is not known. The kernel keeps a map of
//! the calls that are always allowed, so that these cost nothing.

use nix::libc;
use nix::libc::sock_filter;

/// Denied with EPERM whatever their arguments are: they mount, leave name spaces, look into other processes,
/// load code into the kernel, or have let programs out of sandboxes.
const DENIED: &[libc::c_long] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_fanotify_init,
    // Name spaces.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // The kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_vhangup,
    // The machine.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Flags of `clone` that make name spaces.
const NEW_SPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET)
    .cast_unsigned();

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
/// From this number on x86-64 has the same calls once more, for programs with short pointers.
#[cfg(target_arch = "x86_64")]
const SHORT_POINTERS: u32 = 0x4000_0000;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// The lower half of the first argument, on machines with the small end first.
const ARGUMENT: u32 = 16;

/// Which sockets a host may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sockets {
    /// Of the Internet, and those by which it asks for addresses.
    pub(super) network: bool,
    /// Of the file system: where it sees only its own, they lead nowhere.
    pub(super) unix: bool,
}

/// What of this a process needs that gives others name spaces of their own.
const NESTING: &[libc::c_long] = &[libc::SYS_mount];

/// The filter as the kernel takes it. `nests`: for a process that gives others name spaces of their own.
pub(super) fn program(sockets: Sockets, nests: bool) -> Vec<sock_filter> {
    let mut program = vec![
        load(ARCH),
        // Calls of another architecture have other numbers.
        jump(libc::BPF_JEQ, ARCHITECTURE, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
    ];
    #[cfg(target_arch = "x86_64")]
    program.extend([
        jump(libc::BPF_JGE, SHORT_POINTERS, 0, 1),
        answer(refusal(libc::ENOSYS)),
    ]);
    let denied = DENIED
        .iter()
        .filter(|call| !(nests && NESTING.contains(call)));
    for call in denied {
        program.extend([
            jump(libc::BPF_JEQ, number(*call), 0, 1),
            answer(refusal(libc::EPERM)),
        ]);
    }
    // Its flags lie in memory, where no filter can see them. Without it libraries take `clone`.
    program.extend([
        jump(libc::BPF_JEQ, number(libc::SYS_clone3), 0, 1),
        answer(refusal(libc::ENOSYS)),
    ]);
    if !nests {
        program.extend([
            jump(libc::BPF_JEQ, number(libc::SYS_clone), 0, 4),
            load(ARGUMENT),
            jump(libc::BPF_JSET, NEW_SPACES, 0, 1),
            answer(refusal(libc::EPERM)),
            answer(libc::SECCOMP_RET_ALLOW),
        ]);
    }
    let allow = libc::SECCOMP_RET_ALLOW;
    let mut answers: Vec<(i32, u32)> = Vec::new();
    if sockets.unix {
        answers.push((libc::AF_UNIX, allow));
    }
    match sockets.network {
        true => answers.extend(
            [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK].map(|family| (family, allow)),
        ),
        // Whoever asks for the interfaces knows systems without; ZeroMQ aborts at any other answer.
        false => answers.push((libc::AF_NETLINK, refusal(libc::EOPNOTSUPP))),
    }
    let behind = u8::try_from(2 * answers.len() + 2).unwrap_or(u8::MAX);
    program.push(jump(libc::BPF_JEQ, number(libc::SYS_socket), 0, behind));
    program.push(load(ARGUMENT));
    for (family, told) in answers {
        program.push(jump(libc::BPF_JEQ, family.cast_unsigned(), 0, 1));
        program.push(answer(told));
    }
    program.push(answer(refusal(libc::EACCES)));
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    program
}

/// Puts the filter on the calling process and all its children, for good.
pub(super) fn install(program: &[sock_filter]) -> Result<(), String> {
    let length = u16::try_from(program.len()).map_err(|error| error.to_string())?;
    let given = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `length` instructions from the program, which it does not change, before the
    // call returns.
    let installed = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::c_ulong::from(libc::SECCOMP_MODE_FILTER),
            std::ptr::from_ref(&given),
        )
    };
    match installed {
        0 => Ok(()),
        _ => Err(format!(
            "cannot filter system calls: {}",
            std::io::Error::last_os_error()
        )),
    }
}

/// A filter as it lies in memory.
pub(super) fn bytes(program: &[sock_filter]) -> Vec<u8> {
    let one = |step: &sock_filter| {
        let code = step.code.to_ne_bytes();
        let rest = step.k.to_ne_bytes();
        [&code[..], &[step.jt, step.jf], &rest].concat()
    };
    program.iter().flat_map(one).collect()
}

/// Whether this kernel takes filters.
pub(super) fn is_there() -> bool {
    // SAFETY: takes no pointer; answers the mode, or an error where the kernel was built without.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP) >= 0 }
}

fn number(call: libc::c_long) -> u32 {
    // Numbers of system calls are small.
    u32::try_from(call).unwrap_or(u32::MAX)
}

fn refusal(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | (errno.cast_unsigned() & libc::SECCOMP_RET_DATA)
}

fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

/// Goes on `yes` or `no` instructions further down.
fn jump(test: u32, value: u32, yes: u8, no: u8) -> sock_filter {
    instruction(libc::BPF_JMP | test | libc::BPF_K, value, yes, no)
}

fn answer(value: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, value, 0, 0)
}

fn instruction(code: u32, value: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt: yes,
        jf: no,
        k: value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers to a call, interpreted as the kernel does.
    fn run(program: &[sock_filter], arch: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut a) = (0, 0);
        loop {
            let step = program[at];
            let code = u32::from(step.code);
            at += 1;
            let goes = match code & 0xf0 {
                _ if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    a = match step.k {
                        NUMBER => number,
                        ARCH => arch,
                        ARGUMENT => argument,
                        other => panic!("offset {other}"),
                    };
                    continue;
                }
                _ if code == libc::BPF_RET | libc::BPF_K => return step.k,
                libc::BPF_JEQ => a == step.k,
                libc::BPF_JGE => a >= step.k,
                libc::BPF_JSET => a & step.k != 0,
                other => panic!("code {other:x}"),
            };
            at += usize::from(if goes { step.jt } else { step.jf });
        }
    }

    #[test]
    fn what_is_denied_is_denied_and_nothing_else() {
        const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
        let sockets = |network, unix| program(Sockets { network, unix }, false);
        let off = sockets(false, true);
        let call = |program: &[sock_filter], call, argument: i32| {
            run(
                program,
                ARCHITECTURE,
                number(call),
                argument.cast_unsigned(),
            )
        };
        for denied in DENIED {
            assert_eq!(call(&off, *denied, 0), refusal(libc::EPERM), "{denied}");
        }
        assert_eq!(call(&off, libc::SYS_clone3, 0), refusal(libc::ENOSYS));
        for allowed in [libc::SYS_read, libc::SYS_execve, libc::SYS_socketpair] {
            assert_eq!(call(&off, allowed, 2), ALLOW);
        }
        let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND;
        assert_eq!(call(&off, libc::SYS_clone, thread), ALLOW);
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNET | libc::CLONE_VM] {
            assert_eq!(call(&off, libc::SYS_clone, flag), refusal(libc::EPERM));
        }
        let nesting = program(
            Sockets {
                network: false,
                unix: true,
            },
            true,
        );
        assert_eq!(call(&nesting, libc::SYS_mount, 0), ALLOW);
        assert_eq!(call(&nesting, libc::SYS_clone, libc::CLONE_NEWUSER), ALLOW);
        assert_eq!(call(&nesting, libc::SYS_setns, 0), refusal(libc::EPERM));
        assert_eq!(
            bytes(&off[..1]),
            [0x20, 0, 0, 0, 4, 0, 0, 0],
            "load the architecture"
        );
        let no = refusal(libc::EACCES);
        let families = [
            (libc::AF_UNIX, [ALLOW, ALLOW, no]),
            (libc::AF_INET, [no, ALLOW, ALLOW]),
            (libc::AF_INET6, [no, ALLOW, ALLOW]),
            (libc::AF_NETLINK, [refusal(libc::EOPNOTSUPP), ALLOW, ALLOW]),
            (libc::AF_PACKET, [no, no, no]),
            (libc::AF_VSOCK, [no, no, no]),
        ];
        let programs = [off.clone(), sockets(true, true), sockets(true, false)];
        for (family, expected) in families {
            let answers = programs
                .each_ref()
                .map(|one| call(one, libc::SYS_socket, family));
            assert_eq!(answers, expected, "family {family}");
        }
        let kill = libc::SECCOMP_RET_KILL_PROCESS;
        assert_eq!(run(&off, 0x4000_0003, 1, 0), kill, "of a 32-bit program");
        #[cfg(target_arch = "x86_64")]
        assert_eq!(
            run(
                &off,
                ARCHITECTURE,
                SHORT_POINTERS | number(libc::SYS_mount),
                0
            ),
            refusal(libc::ENOSYS)
        );
    }
}
