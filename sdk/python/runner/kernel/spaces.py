"""Name spaces of a kernel's own: processes, folders and shared memory (of System V) of others have no names in there.

Its keeper is the first process of the process name space: what the kernel has started ends with it, for certain.
They are made as an ordinary account may make them, by way of a user name space in which the account keeps its number.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import signal
from typing import Any

from runner import children
from runner.kernel import confine

#: From the kernel's headers: mounts, IPC, users, processes.
_SPACES = 0x0002_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000
_CLONE = {"x86_64": 56, "aarch64": 220}
_NO_SUID, _NO_DEVICES, _NO_PROGRAMS, _BIND = 2, 4, 8, 4096
#: The least number of a kernel, and how many more there are.
_FIRST, _NUMBERS = 100, 30_000
#: The version of the structures of `capset`.
_CAPABILITIES = 0x2008_0522


def fork() -> int:
    """Like `os.fork`, into name spaces of the child's own. The child goes on with `enter`.

    Raises OSError: this machine has none for this account.
    """
    number = _CLONE.get(platform.machine())
    if number is None:
        raise OSError(f"its system calls are not known: {platform.machine()}")
    # One that keeps the interpreter's lock, which nobody else could give back to the child.
    lib = ctypes.PyDLL(None, use_errno=True)
    nothing = ctypes.c_long(0)
    # Without memory in common and a stack of its own this is `fork`: there is no other thread.
    flags = ctypes.c_long(_SPACES | signal.SIGCHLD)
    pid = int(lib.syscall(ctypes.c_long(number), flags, nothing, nothing, nothing, nothing))
    return _done(pid, "be made")


def enter(lib: Any, account: int, group: int, folder: str) -> None:
    """Goes on in the child: with the numbers that it had, a `/proc` that shows what there is now, and this folder alone
    in the folder above it. Gives up what the first of a user name space may do.

    Raises OSError: something of this is refused.
    """
    # Else what is written here belongs to root.
    lib.prctl(confine.PR_SET_DUMPABLE, 1, 0, 0, 0)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{account} {account} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    lib.prctl(confine.PR_SET_DUMPABLE, 0, 0, 0, 0)
    flags = _NO_SUID | _NO_DEVICES | _NO_PROGRAMS
    _done(lib.mount(b"proc", b"/proc", b"proc", ctypes.c_ulong(flags), None), "have a /proc")
    _hide_beside(lib, folder)
    _number()
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0)
    _done(lib.capset(header, (ctypes.c_uint32 * 6)()), "be without capabilities")


def _hide_beside(lib: Any, folder: str) -> None:
    own = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    flags = ctypes.c_ulong(_NO_SUID | _NO_DEVICES)
    above = os.path.dirname(folder).encode()
    _done(lib.mount(b"runner", above, b"tmpfs", flags, b"size=4k,nr_inodes=8,mode=755"), "have a place for its folder")
    os.mkdir(folder)
    place = f"/proc/self/fd/{own}".encode()
    _done(lib.mount(place, folder.encode(), None, ctypes.c_ulong(_BIND), None), "have its folder")
    os.close(own)


def _number() -> None:
    """Chooses the number of the next process. Whoever sees by its number whether it was forked, such as OpenSSL for its
    random numbers, would else take each kernel for the zygote, which may have that number in its own name space."""
    number = _FIRST + int.from_bytes(os.urandom(4), "little") % _NUMBERS
    try:
        with open("/proc/sys/kernel/ns_last_pid", "w", encoding="ascii") as file:
            file.write(str(number))
    except OSError:
        # This system cannot. Then that number is taken at least: it is the second.
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)


def trial(lib: Any) -> str:
    """Makes some, once. Answers why not, if that is refused."""
    account, group = os.getuid(), os.getgid()
    folder = os.path.join(os.getcwd(), ".trial")
    heard, said = os.pipe()
    try:
        os.makedirs(folder, exist_ok=True)
        pid = fork()
        if pid == 0:
            code = 1
            try:
                enter(lib, account, group, folder)
                code = 0
            except BaseException as error:
                os.write(said, str(error).encode())
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        os.write(said, b"\n")  # so that there is something to read
        why = os.read(heard, 4096).decode(errors="replace").strip()
        return "" if status == 0 else why or f"the trial ended with {children.shown(status)}"
    except OSError as error:
        return str(error)
    finally:
        os.close(heard)
        os.close(said)
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _done(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        why = os.strerror(number)
        if number == errno.ENOSPC:
            why = "the machine allows no more (sysctl user.max_user_namespaces and others of that kind)"
        raise OSError(number, f"name spaces of its own cannot {what}: {why}")
    return result
