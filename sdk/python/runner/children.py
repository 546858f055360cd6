"""The children of a process that keeps runs or kernels, and of those what they leave behind."""

from __future__ import annotations

import os
import signal


def end(kept: set[int]) -> None:
    """Ends the children of this process but those that are kept, and those that they leave behind, which
    become its children."""
    while True:
        pids = [pid for pid in _pids() if pid not in kept]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except OSError:
                pass
        if not pids:
            return


def _pids() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def shown(status: int) -> str:
    """A status of `waitpid` for people."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"signal {number} ({signal.Signals(number).name})"
        except ValueError:
            return f"signal {number}"
    return f"exit status {os.WEXITSTATUS(status)}"
