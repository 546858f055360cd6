"""The keeper of a kernel: a process between zygote and kernel. It passes on interrupts, and ends whatever the
kernel has started: when the kernel ends, or when it is told to."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import AbstractSet, Any, Callable, Set

from runner import children
from runner.kernel import confine

#: What a keeper waits for. Blocked before there is one: the first of a name space ignores what it does not block.
SIGNALS: Set[signal.Signals] = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}


def keep(lib: Any, before: AbstractSet[int], kernel: Callable[[], None], ended: Callable[[str], None]) -> None:
    """Starts the kernel and stays with it. `before`: the signals that were blocked before those of keepers. `ended` is
    told how it ended, when all is gone. Never returns."""
    try:
        if lib is not None:
            lib.prctl(confine.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            lib.prctl(confine.PR_SET_DUMPABLE, 0, 0, 0, 0)
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be_kernel(lib, me, before, kernel)
        status = _watch(pid)
        if me == 1:
            with contextlib.suppress(OSError):
                os.kill(-1, signal.SIGKILL)  # all others in its name space at once
        children.end(set())
        ended(children.shown(status))
        os._exit(0)
    finally:
        os._exit(1)


def _be_kernel(lib: Any, keeper: int, before: AbstractSet[int], kernel: Callable[[], None]) -> None:
    code = 1
    try:
        os.setsid()
        if lib is not None:
            lib.prctl(confine.PR_SET_DUMPABLE, 1, 0, 0, 0)
            lib.prctl(confine.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != keeper:
            return
        signal.pthread_sigmask(signal.SIG_SETMASK, before - SIGNALS)
        kernel()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        import traceback

        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


def _watch(kernel: int) -> int:
    """Waits until the kernel has ended, by itself or since it was to. Answers its status."""
    while True:
        told = signal.sigwait(SIGNALS)
        if told == signal.SIGINT:
            _signal_group(kernel, signal.SIGINT)
        elif told == signal.SIGTERM:
            _signal_group(kernel, signal.SIGKILL)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 0
            if pid == kernel:
                return status
            if pid == 0:
                break


def _signal_group(kernel: int, number: int) -> None:
    """A kernel leads its group; one that was just forked may not yet."""
    try:
        os.killpg(kernel, number)
    except OSError:
        pass
    try:
        if number == signal.SIGKILL:
            os.kill(kernel, number)
    except OSError:
        pass
