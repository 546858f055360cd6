"""The zygote of kernels: loads the shell and what is to be preloaded, and forks. It has a single thread."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from typing import Any, Dict, List, Optional, Set

from runner import children, session
from runner.kernel import confine, keeper, room, sage, spaces, watch
from runner.kernel.loop import Kernel
from runner.kernel.wire import Line

#: Libraries start threads of their own when they are loaded, unless they are told not to.
_SINGLE = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
#: Seconds between two looks at what kernels use together.
_PAUSE = 0.5
#: How many pools `malloc` may have, in glibc's `malloc.h`.
_M_ARENA_MAX = -8
#: The largest packet from the runner.
_PACKET = 1 << 16


class Zygote:
    def __init__(self, config: Dict[str, Any], descriptor: int) -> None:
        self.config = config
        self.control = socket.socket(fileno=descriptor)
        self.lib = confine.libc()
        self.keepers: Dict[int, str] = {}
        self.folders: Dict[str, str] = {}
        self.looked = 0.0
        self.removers: Set[int] = set()
        #: What ends of its children are heard by.
        self.wake, self.sink = os.pipe()
        self.quota = watch.Quota(config.get("files_each"), config.get("files"))
        self.kernel: Optional[Kernel] = None
        #: The filter of system calls of kernels, where they may have name spaces of their own.
        self.filter: Optional[bytes] = None
        if config.get("filter") is not None:
            self.filter = bytes(config["filter"])
        #: What fills the free room among the objects that forks share.
        self.filling: List[Any] = []

    def serve(self) -> int:
        """Loads, tells the runner, and forks as it is told; until the runner is gone."""
        # What lies in its own folder is no module; in that of a kernel it is.
        sys.path[:] = [path for path in sys.path if path != os.getcwd()]
        missing = self._preload()
        self.kernel = Kernel()
        threads = _threads()
        if threads > 1:
            self._tell({"failed": f"what is preloaded started {threads - 1} threads, and cannot be forked"})
            return 1
        if self.lib is not None:
            self.lib.prctl(confine.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            self.lib.prctl(confine.PR_SET_DUMPABLE, 0, 0, 0, 0)
            if hasattr(self.lib, "mallopt"):
                # A thread of a kernel would have memory of its own for what it makes.
                self.lib.mallopt(_M_ARENA_MAX, 1)
        shared = self._confine()
        gc.collect()
        self.filling = room.fill()
        gc.freeze()
        os.set_blocking(self.sink, False)
        os.set_blocking(self.wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only wakes
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self.sink, warn_on_full_buffer=False)
        self._tell({"ready": self.kernel.info(), "missing": missing, "shared": shared})
        while True:
            sources: List[Any] = [self.control, self.wake]
            ready, _, _ = select.select(sources, [], [], _PAUSE if self.keepers else None)
            if self.keepers and time.monotonic() - self.looked > _PAUSE:
                self._look()
                self.looked = time.monotonic()
            if self.wake in ready:
                os.read(self.wake, 4096)
                self._reap()
            if self.control in ready and not self._obey():
                return 0

    def _confine(self) -> Optional[str]:
        """Sees whether kernels get name spaces of their own. What is not confined to that end is confined now, if not.
        Answers why not."""
        if self.lib is None or self.filter is None:
            return None
        why = spaces.trial(self.lib)
        if not why:
            return None
        confine.wall(self.lib, ["/"], os.getcwd(), tempfile.gettempdir(), "/dev/shm")
        confine.sift(self.lib, self.filter)
        self.filter = None
        return why

    def _preload(self) -> List[str]:
        os.environ.update({name: "1" for name in _SINGLE})
        missing = []
        for name in self.config.get("preload", []):
            try:
                importlib.import_module(name)
            except Exception as error:
                missing.append(f"{name}: {type(error).__name__}: {error}")
        if "numpy" in sys.modules:
            # It is loaded when it is first needed, which is in every fork.
            importlib.import_module("numpy.random")
        return missing

    def _obey(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self.control, _PACKET, 4)
        if not data:
            return False
        message = json.loads(data)
        if "fork" in message:
            self._fork(message, descriptors)
        elif "remove" in message:
            self.removers.update(_remove(message["remove"]))
        for verb, number in (("interrupt", signal.SIGINT), ("kill", signal.SIGTERM)):
            for pid, name in self.keepers.items():
                if name == message.get(verb):
                    os.kill(pid, number)
        return True

    def _fork(self, message: Dict[str, Any], descriptors: List[int]) -> None:
        name = message["fork"]
        account, group = os.getuid(), os.getgid()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, keeper.SIGNALS)
        try:
            pid = os.fork() if self.filter is None else spaces.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self._tell({"ended": name, "status": f"it could not be forked: {error}"})
            for descriptor in descriptors:
                os.close(descriptor)
            return
        if pid == 0:
            signal.set_wakeup_fd(-1)
            # Whoever had these could hold up the zygote.
            os.close(self.wake)
            os.close(self.sink)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

            def ended(status: str) -> None:
                self._tell({"ended": name, "status": status})

            try:
                if self.filter is not None:
                    os.makedirs(message["folder"], exist_ok=True)
                    spaces.enter(self.lib, account, group, message["folder"])
            except BaseException as error:
                ended(f"it could not be forked: {error}")
                os._exit(0)
            keeper.keep(self.lib, before, lambda: self._be_kernel(message, descriptors), ended)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.keepers[pid] = name
        self.folders[name] = message["folder"]
        for descriptor in descriptors:
            os.close(descriptor)

    def _be_kernel(self, message: Dict[str, Any], descriptors: List[int]) -> None:
        assert self.kernel is not None
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        line, errors, *asking = descriptors
        self.control.close()
        os.dup2(errors, 2)
        os.close(errors)
        folder = message["folder"]
        temporary = os.path.join(folder, ".tmp")
        os.makedirs(temporary, exist_ok=True)
        os.environ.update(message.get("environment", {}))
        # Not as keywords: what is no mapping is compared with all that are, which touches 150 pages of theirs.
        os.environ.update({"HOME": folder, "TMPDIR": temporary, "MPLCONFIGDIR": temporary})
        # Where temporary files go is found out once, maybe before.
        tempfile.tempdir = None
        confine.limit({**self.config.get("limits", {}), **message.get("limits", {})})
        if self.lib is not None:
            readable = [*self.config.get("readable", []), *message.get("readable", [])]
            confine.wall(self.lib, readable + confine.proc(self.filter is not None), folder)
            confine.sift(self.lib, self.filter or b"")
        # Not before: what lies there is the user's.
        os.chdir(folder)
        sys.path.insert(0, "")
        if "program" in message:
            _become(message["program"], line)
        gc.enable()
        # Forks must not throw the same dice; those of `random` do not.
        dice = sys.modules.get("numpy.random")
        if dice is not None:
            dice.seed()
        for descriptor in asking:
            session.begin(socket.socket(fileno=descriptor), folder, self.kernel)
        if self.config.get("sage"):
            Kernel.current = self.kernel
            sage.enable()
        self.kernel.serve(Line(socket.socket(fileno=line)))

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self.removers.discard(pid)
            name = self.keepers.pop(pid, None)
            self.folders.pop(name or "", None)
            if name is not None and status != 0:
                self._tell({"ended": name, "status": f"its keeper ended: {children.shown(status)}"})
        # Whoever lost its keeper is a child of this process now, and belongs to nobody.
        children.end(self.removers.union(self.keepers))

    def _look(self) -> None:
        """Ends the kernel that has too many processes, too many files, or the most when there is no more room for any."""
        ended: Dict[int, str] = {}
        most = self.config.get("processes")
        if most:
            for pid, count in watch.crowded(list(self.keepers), most).items():
                ended[pid] = f"it had {count} processes and threads; the limit is {most} (SESSION_PROCESSES)"
        verdicts = self.quota.look(os.getcwd(), self.folders)
        for pid, name in self.keepers.items():
            why, is_end = verdicts.get(name, ("", False))
            if is_end:
                ended[pid] = why
            elif why:
                self._tell({"warned": name, "status": why})
        room = self.config.get("files")
        if room and watch.is_full(os.getcwd(), room):
            name, size = watch.largest(self.folders)
            why = f"it had {size} bytes of files when those of all sessions had no more room (SESSION_FILES)"
            ended.update({pid: why for pid, known in self.keepers.items() if known == name})
        for pid, why in ended.items():
            self._tell({"over": self.keepers[pid], "status": why})
            os.kill(pid, signal.SIGTERM)

    def _tell(self, message: Dict[str, Any]) -> None:
        try:
            self.control.send(json.dumps(message).encode())
        except OSError:
            pass  # the runner is gone, which is noticed where it is listened to


def _become(program: List[str], line: int) -> None:
    """Executes a program, with its line to the runner as descriptor 3. What it prints is no output of a cell."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.dup2(line, 3)
    if line != 3:
        os.close(line)
    # What is ignored here would be there too.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ.pop("PYTHONPATH", None)
    os.execv(program[0], program)


def _remove(folder: str) -> List[int]:
    """Removes the folder of a session that has ended, in a process of its own: it may be large. One without files
    is removed at once."""
    try:
        os.rmdir(os.path.join(folder, ".tmp"))
        os.rmdir(folder)
        return []
    except OSError:
        pass  # it has some
    try:
        pid = os.fork()
    except OSError:
        _remove_shallow(folder)
        return []
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            _remove_shallow(folder)
            if os.path.lexists(folder):
                # It is deeper than what Python can do.
                os.execv("/bin/rm", ["rm", "-rf", "--", folder])
        finally:
            os._exit(0)
    return [pid]


def _remove_shallow(folder: str) -> None:
    """Removes what is not deeper than Python's stack."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1
