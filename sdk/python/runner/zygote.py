"""A host whose runs have a process each: it loads the module once and forks for every run.

This process has a single thread and speaks with the runner. A fork is a host for one run, with pipes
of its own; what passes between it and the runner passes through here. When the run has answered, the
fork and all that it started are ended, the runner gets the answer, and what the run wrote outside of
its folder is removed: the next one finds what the first one found. Where a run can do nothing to
others, the fork of the next one is made while it goes on, and waits.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time

from runner import children
from runner.channel import MAX_LINE, encode
from runner.failure import FAILED
from runner.host import CANCELLED, PROTOCOL, UNKNOWN_METHOD, Host, peak_memory
from runner.threads import WAKE, WAKE_PAUSE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Set

    from runner.module import Module

#: The folder of the run in progress, in `directory`; the runner empties it.
RUN = "run"
#: How long a fork may take to end after it closed its output, in seconds.
EXIT_GRACE = 2.0
#: From the kernel's headers.
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
LANDLOCK_CREATE, LANDLOCK_RESTRICT, LANDLOCK_VERSION = 444, 446, 1
LANDLOCK_MAKE_BLOCK, LANDLOCK_SCOPES = 1 << 11, 3
#: The first version of Landlock that keeps signals from others.
LANDLOCK_SCOPED = 6


class Lines:
    """Whole lines of a pipe, as they come."""

    def __init__(self, source: int, held: bytes = b"") -> None:
        self.source = source
        self.held = held

    def read(self) -> Optional[List[bytes]]:
        """Those that are there after one read; `None` at the end."""
        chunk = os.read(self.source, 1 << 16)
        if not chunk:
            return None
        *lines, self.held = (self.held + chunk).split(b"\n")
        if len(self.held) > MAX_LINE:
            return None  # whoever sends such a line is not understood any more
        return lines


class Fork:
    """The process of one run, from when it waits for it."""

    def __init__(self, pid: int, source: int, sink: int) -> None:
        self.pid = pid
        #: The id of its request, once it has one.
        self.id: Any = None
        #: Which run that is: its task and its number.
        self.run: Any = None
        #: Readable when the process has ended, whoever still holds its pipes.
        self.ended = os.pidfd_open(pid)
        self.lines = Lines(source)
        self.sink = sink
        self.cancelled = False
        #: When it is told again that it is cancelled, and how long after that.
        self.next, self.pause = float("inf"), WAKE_PAUSE

    @property
    def descriptors(self) -> List[int]:
        return [self.ended, self.sink, self.lines.source]

    def tell(self, line: bytes) -> None:
        try:
            _write(self.sink, line + b"\n")
        except OSError:
            pass  # it is dying, which is noticed where its output is read

    def cancel(self) -> None:
        """Tells it; again and again, since a signal just before a system call does not interrupt that."""
        self.cancelled = True
        os.kill(self.pid, WAKE)
        self.next = time.monotonic() + self.pause
        self.pause *= 2

    def has_ended(self) -> bool:
        return bool(select.select([self.ended], [], [], 0)[0])


class Zygote:
    def __init__(self, module: Module, source: int, sink: int, begun: bytes = b"") -> None:
        self.module = module
        self.source = source
        self.sink = sink
        #: What was read already is `begun`.
        self.lines = Lines(source, begun)
        self.host = Host(module, -1, -1)
        self.libc: Any = None
        self.runs = 0
        #: What was in the folders that runs may write, before the first of them.
        self.kept: Dict[str, Set[str]] = {}
        self.waiting: List[Dict[str, Any]] = []
        self.fork: Optional[Fork] = None
        #: The one of the next run.
        self.spare: Optional[Fork] = None
        #: Whether it is made ahead.
        self.is_ahead = False
        #: Whether the run in progress leaves no room for it.
        self.is_short = False
        #: Bytes that come here are numbers of signals.
        self.alarm, self.alarm_sink = os.pipe()

    def serve(self, first: bytes) -> int:
        welcome = json.loads(first)
        self.host.welcome = welcome["params"]
        self.host._load()
        threads = _threads()
        if threads > 1:
            print(
                f"the module started {threads - 1} threads when it was loaded, and cannot be forked: "
                "each run has a fresh process, which loads it again",
                file=sys.stderr,
            )
            self._answer(welcome["id"], {"protocol": PROTOCOL, "framing": "lines", "forks": False})
            host = Host(self.module, self.source, self.sink, self.lines.held)
            _hand_over(self.host, host)
            host.serve()
            return 0
        os.set_blocking(self.alarm_sink, False)
        signal.set_wakeup_fd(self.alarm_sink)
        signal.signal(signal.SIGTERM, lambda *_: None)  # only wakes
        self._answer(welcome["id"], {"protocol": PROTOCOL, "framing": "lines", "forks": True})
        self._prepare()
        while self._step():
            pass
        self._end_fork(patience=0.0)
        return 0

    def _prepare(self) -> None:
        folders = self.host.welcome["config"].get("temporary") or []
        self.kept = {folder: set(os.listdir(folder)) for folder in folders}
        self.kept[self.host.welcome["directory"]] = {RUN}
        _import_what_runs_need()
        self.libc = _libc()
        self.is_ahead = self.libc is not None and _landlock_version(self.libc) >= LANDLOCK_SCOPED
        if self.libc is not None:
            # What a run has left behind becomes a child of this process; and no run opens its memory.
            self.libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            self.libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        gc.collect()
        gc.freeze()

    # --- what comes in -----------------------------------------------------

    def _step(self) -> bool:
        """Waits for something and deals with it. False: the runner is gone."""
        fork = self.fork
        if fork is None and self.waiting:
            self._begin(self.waiting.pop(0))
            return True
        if self.spare is None and self.is_ahead and not self.is_short:
            self._fork_ahead()
        sources, patience = [self.source, self.alarm], None
        if fork is not None:
            sources += [fork.lines.source, fork.ended]
            if fork.cancelled:
                patience = max(0.0, fork.next - time.monotonic())
        ready, _, _ = select.select(sources, [], [], patience)
        if not ready and fork is not None:
            fork.cancel()
            return True
        if self.alarm in ready and signal.SIGTERM in os.read(self.alarm, 64):
            # The runner has lost patience: with the run, or with this process.
            if fork is None:
                return False
            fork.cancelled = True
            os.kill(fork.pid, signal.SIGKILL)
            self._finish(None)
            return True
        if fork is not None and fork.lines.source in ready:
            self._hear_fork(fork)
        elif fork is not None and fork.ended in ready:
            self._finish(None)
        if self.source in ready:
            lines = self.lines.read()
            return lines is not None and all([self._obey(line) for line in lines])
        return True

    def _obey(self, line: bytes) -> bool:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            self._send({"id": None, "error": {"code": -32700, "message": f"not JSON: {error}"}})
            return True
        if not isinstance(message, dict):
            text = "a message is a JSON object"
            self._send({"id": None, "error": {"code": -32600, "message": text}})
            return True
        method, id = message.get("method"), message.get("id")
        if method == "shutdown":
            return False
        if method == "run":
            self.waiting.append(message)
        elif method is None:
            if self.fork is not None:
                self.fork.tell(line)
        elif method == "cancel":
            self._cancel(message.get("params") or {})
        elif "id" not in message:
            pass  # a notification that a newer runner may send
        elif method == "ping":
            self._answer(id, {})
        elif method == "stats":
            self._answer(id, {"pid": os.getpid(), "runs": self.runs, "peakMemory": peak_memory()})
        elif method == "describe":
            self.host.channel.sink = self.sink
            self.host._describe(id)
            self.host.channel.sink = -1
        else:
            text = f"unknown method {method!r}"
            self._send({"id": id, "error": {"code": UNKNOWN_METHOD, "message": text}})
        return True

    def _cancel(self, params: Dict[str, Any]) -> None:
        run = self._key(params)
        if self.fork is not None and self.fork.run == run:
            self.fork.cancel()
        for message in self.waiting:
            if self._key(message.get("params")) == run:
                message["cancelled"] = True

    @staticmethod
    def _key(params: Any) -> Any:
        return isinstance(params, dict) and (params.get("task"), params.get("run"))

    def _hear_fork(self, fork: Fork) -> None:
        lines = fork.lines.read()
        if lines is None:
            self._finish(None)
            return
        for line in lines:
            if _is_answer(line, fork.id):
                self._finish(line + b"\n")
                return
            _write(self.sink, line + b"\n")

    # --- a run -------------------------------------------------------------

    def _begin(self, message: Dict[str, Any]) -> None:
        if message.get("cancelled") is True:
            self._send({"id": message.get("id"), "error": _CANCELLED})
            return
        fork, self.spare = self.spare, None
        if fork is not None and fork.has_ended():
            self._reap(fork)
            fork = None
        try:
            self.fork = fork or self._forked()
        except OSError as error:
            text = f"the run cannot have a process: {error}"
            self._send({"id": message.get("id"), "error": {"code": FAILED, "message": text}})
            return
        self.fork.id, self.fork.run = message.get("id"), self._key(message.get("params"))
        self.fork.tell(json.dumps(message).encode())

    def _fork_ahead(self) -> None:
        try:
            self.spare = self._forked()
        except OSError:
            self.is_short = self.fork is not None  # it may have started too many

    def _forked(self) -> Fork:
        """A process that waits for its run."""
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            for descriptor in (theirs_in, ours_out, ours_in, theirs_out):
                os.close(descriptor)
            raise
        if pid == 0:
            others = [ours_in, ours_out, *(self.fork.descriptors if self.fork else ())]
            self._be_fork(theirs_in, theirs_out, others)
        os.close(theirs_in)
        os.close(theirs_out)
        return Fork(pid, ours_in, ours_out)

    def _be_fork(self, source: int, sink: int, others: List[int]) -> None:
        """The forked process: a host for one run. Never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.setsid()
            for other in (self.source, self.sink, self.alarm, self.alarm_sink, *others):
                os.close(other)
            if self.libc is not None:
                _wall_off(self.libc)
            host = Host(self.module, source, sink)
            _hand_over(self.host, host)
            host.serve_one(self._show)
            code = 0
        finally:
            os._exit(code)

    def _show(self) -> None:
        """The process of a run may be looked at by what it starts; one that waits, by nobody."""
        if self.libc is not None:
            self.libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)

    def _finish(self, answer: Optional[bytes]) -> None:
        """Ends the run in progress. Without an answer of its own, its process has ended."""
        fork = self.fork
        if fork is None:
            return
        status = self._end_fork(patience=EXIT_GRACE if answer is None else 0.0)
        self.runs += 1
        self.is_short = False
        if answer is not None:
            _write(self.sink, answer)
        elif fork.cancelled:
            self._send({"id": fork.id, "error": _CANCELLED})
        else:
            text = f"the process of the run ended ({children.shown(status)})"
            self._send({"id": fork.id, "error": {"code": FAILED, "message": text}})
        self._clean()

    def _end_fork(self, patience: float) -> int:
        """Ends the fork and whatever it started; gives the status of the fork itself."""
        fork, self.fork = self.fork, None
        if fork is None:
            return 0
        if patience > 0:
            # One that ends by itself says how.
            select.select([fork.ended], [], [], patience)
        os.kill(fork.pid, signal.SIGKILL)
        status = self._reap(fork)
        # With the fork gone, these are those that it left behind, and the next one, which is kept.
        children.end(set() if self.spare is None else {self.spare.pid})
        return status

    @staticmethod
    def _reap(fork: Fork) -> int:
        _, status = os.waitpid(fork.pid, 0)
        for descriptor in fork.descriptors:
            os.close(descriptor)
        return status

    def _clean(self) -> None:
        for folder, kept in self.kept.items():
            for entry in os.listdir(folder):
                if entry not in kept:
                    _remove(os.path.join(folder, entry))

    # --- what goes out -----------------------------------------------------

    def _answer(self, id: Any, result: Any) -> None:
        self._send({"id": id, "result": result})

    def _send(self, message: Dict[str, Any]) -> None:
        _write(self.sink, encode({"jsonrpc": "2.0", **message}))


_CANCELLED = {"code": CANCELLED, "message": "cancelled"}


def _hand_over(loaded: Host, host: Host) -> None:
    """What was loaded once is there for the other host."""
    host.welcome, host.plugins = loaded.welcome, loaded.plugins
    host.loaded, host.load_error = loaded.loaded, loaded.load_error


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        import threading

        return threading.active_count()


def _is_answer(line: bytes, id: Any) -> bool:
    """Whether it answers the request. What is no message is for the runner to judge."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and "method" not in message and message.get("id") == id


def _remove(path: str) -> None:
    import stat

    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        os.chmod(path, 0o700)
        for entry in os.listdir(path):
            _remove(os.path.join(path, entry))
        os.rmdir(path)
    except (OSError, RecursionError) as error:
        # A run that can hide something from here could hand it to the next one.
        print(f"what a run left cannot be removed: {error}", file=sys.stderr)
        os._exit(1)


def _import_what_runs_need() -> None:
    """What most runs import; a fork that finds it there need not do it again."""
    import pathlib
    import shutil
    import traceback

    assert pathlib and shutil and traceback


def _libc() -> Any:
    if sys.platform != "linux":
        return None
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _landlock_version(libc: Any) -> int:
    """0 or less where there is none."""
    version: int = libc.syscall(LANDLOCK_CREATE, None, 0, LANDLOCK_VERSION)
    return version


def _wall_off(libc: Any) -> None:
    """Puts this process into a Landlock domain of its own, in which it can do what it could: but the
    zygote is outside of it, and takes no signals from it and is not traced by it."""
    import ctypes

    version = _landlock_version(libc)
    if version < 1:
        return
    # Which kinds of access are handled: a block device cannot be made anyway.
    attributes = (ctypes.c_uint64 * 3)(LANDLOCK_MAKE_BLOCK, 0, LANDLOCK_SCOPES)
    size = 24 if version >= LANDLOCK_SCOPED else 8
    ruleset = libc.syscall(LANDLOCK_CREATE, attributes, size, 0)
    if ruleset < 0 or libc.syscall(LANDLOCK_RESTRICT, ruleset, 0) != 0:
        raise OSError(ctypes.get_errno(), "the run cannot be walled off with Landlock")
    os.close(ruleset)


def _write(sink: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(sink, rest) :]
