"""What a fork gives up: other files than its own, signals to others, and resources beyond its limits."""

from __future__ import annotations

import ctypes
import os
import resource
import stat
import sys
from typing import Any, Dict, List, Optional

#: From the kernel's headers.
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36
_CREATE, _ADD_RULE, _RESTRICT, _VERSION, _PATH_BENEATH = 444, 445, 446, 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL = 1, 2, 4, 8, 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
#: Abstract sockets and signals.
_SCOPES = 3
#: Kinds of access that each version of Landlock knows.
_KNOWN = {1: 13, 2: 14, 3: 15, 4: 15}
_NEWEST = 16
_DOMAIN = "a Landlock domain"

#: What of the system's state is no secret, where others can be seen in `/proc`.
_PROC = ["self", "cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "sys", "uptime", "version"]
_DEVICES = ["null", "zero", "full", "random", "urandom"]

LIMITS = {"memory": resource.RLIMIT_DATA, "cpu_seconds": resource.RLIMIT_CPU, "file_size": resource.RLIMIT_FSIZE}


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("access", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def libc() -> Any:
    """The C library; nothing where there is no such thing as here."""
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def limit(limits: Dict[str, Optional[int]]) -> None:
    """Sets resource limits, soft and hard."""
    for name, kind in LIMITS.items():
        value = limits.get(name)
        if value:
            _, hard = resource.getrlimit(kind)
            most = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (most, most))


def wall(lib: Any, readable: List[str], *own: str) -> bool:
    """Lets this process, and all it starts, read these and do anything in its own folders; and send signals
    to nobody else. False: this kernel has no Landlock.

    Raises OSError: it has, and refuses.
    """
    version = lib.syscall(_CREATE, None, 0, _VERSION)
    if version < 1:
        return False
    everything = (1 << _KNOWN.get(version, _NEWEST)) - 1
    scopes = _SCOPES if version >= 6 else 0
    attributes = (ctypes.c_uint64 * 3)(everything, 0, scopes)
    size = 24 if version >= 6 else 8
    ruleset = _done(lib.syscall(_CREATE, attributes, size, 0), _DOMAIN, "made")
    rules = [(path, _READ) for path in readable]
    rules += [(f"/dev/{name}", _READ | _WRITE_FILE) for name in _DEVICES]
    rules += [(path, everything) for path in own]
    for path, access in rules:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not every system has every one of them
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            access &= _OF_FILES
        beneath = _Beneath(access & everything, place)
        _done(lib.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(beneath), 0), _DOMAIN, f"extended by {path}")
        os.close(place)
    _renounce(lib)
    _done(lib.syscall(_RESTRICT, ruleset, 0), _DOMAIN, "entered")
    os.close(ruleset)
    return True


def proc(is_apart: bool) -> List[str]:
    """What may be read in `/proc`: all of it, where it shows nothing of others."""
    return ["/proc"] if is_apart else [f"/proc/{name}" for name in _PROC]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def sift(lib: Any, program: bytes) -> None:
    """Filters the system calls of this process, and of all it starts, by a program of instructions of 8 bytes.

    Raises OSError: the kernel refuses it.
    """
    if program:
        _renounce(lib)
        given = _Program(len(program) // 8, program)
        # PR_SET_SECCOMP with SECCOMP_MODE_FILTER.
        _done(lib.prctl(22, ctypes.c_ulong(2), ctypes.byref(given), 0, 0), "a filter of system calls", "set")


def _renounce(lib: Any) -> None:
    """Without that, no ordinary account may confine itself."""
    _done(lib.prctl(38, 1, 0, 0, 0), "new privileges", "given up")  # PR_SET_NO_NEW_PRIVS


def _done(result: int, what: str, deed: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what} cannot be {deed}")
    return result
