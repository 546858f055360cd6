"""A host whose runs have a process each: it loads the module once and forks for every run.

This process has a single thread and speaks with the runner. The fork is a whole host with pipes of
its own; what passes between it and the runner passes through here. When the run has answered, the
fork and all that it started are ended, the runner gets the answer, and what the run wrote outside of
its folder is removed: the next one finds what the first one found.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import stat
import sys
from typing import Any, Dict, List, Optional, Set

from runner.channel import MAX_LINE, encode
from runner.host import CANCELLED, FAILED, PROTOCOL, UNKNOWN_METHOD, Host
from runner.module import Module

#: The folder of the run in progress, in `directory`; the runner empties it.
RUN = "run"
#: How long a fork may take to end after it closed its output, in seconds.
EXIT_GRACE = 2.0
#: From the kernel's headers.
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
LANDLOCK_CREATE, LANDLOCK_RESTRICT, LANDLOCK_VERSION = 444, 446, 1
LANDLOCK_MAKE_BLOCK, LANDLOCK_SCOPES = 1 << 11, 3


class Lines:
    """Whole lines of a pipe, as they come."""

    def __init__(self, source: int) -> None:
        self.source = source
        self.held = b""

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
    """The process of one run."""

    def __init__(self, message: Dict[str, Any], pid: int, source: int, sink: int) -> None:
        self.id = message.get("id")
        self.pid = pid
        #: Readable when the process has ended, whoever still holds its pipes.
        self.ended = os.pidfd_open(pid)
        self.lines = Lines(source)
        self.sink = sink
        self.cancelled = False

    def tell(self, line: bytes) -> None:
        try:
            _write(self.sink, line + b"\n")
        except OSError:
            pass  # it is dying, which is noticed where its output is read


class Zygote:
    def __init__(self, module: Module, source: int, sink: int) -> None:
        self.module = module
        self.source = source
        self.sink = sink
        self.lines = Lines(source)
        self.host = Host(module, -1, -1)
        self.libc = _libc()
        self.runs = 0
        #: What was in the folders that runs may write, before the first of them.
        self.kept: Dict[str, Set[str]] = {}
        self.waiting: List[Dict[str, Any]] = []
        self.fork: Optional[Fork] = None
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
            host = Host(self.module, self.source, self.sink)
            _hand_over(self.host, host)
            host.serve()
            return 0
        self._prepare()
        self._answer(welcome["id"], {"protocol": PROTOCOL, "framing": "lines", "forks": True})
        os.set_blocking(self.alarm_sink, False)
        signal.set_wakeup_fd(self.alarm_sink)
        signal.signal(signal.SIGTERM, lambda *_: None)  # only wakes
        while self._step():
            pass
        self._end_fork(patience=0.0)
        return 0

    def _prepare(self) -> None:
        folders = self.host.welcome["config"].get("temporary") or []
        self.kept = {folder: set(os.listdir(folder)) for folder in folders}
        self.kept[self.host.welcome["directory"]] = {RUN}
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
        sources = [self.source, self.alarm]
        if fork is not None:
            sources += [fork.lines.source, fork.ended]
        ready, _, _ = select.select(sources, [], [])
        if self.alarm in ready and signal.SIGTERM in os.read(self.alarm, 64):
            # The runner has lost patience: with the run, or with this process.
            if fork is None:
                return False
            self._finish({"error": {"code": CANCELLED, "message": "cancelled"}})
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
        elif method is None or method == "cancel":
            if self.fork is not None:
                self.fork.cancelled |= method == "cancel"
                self.fork.tell(line)
        elif "id" not in message:
            pass  # a notification that a newer runner may send
        elif method == "ping":
            self._answer(id, {})
        elif method == "stats":
            self._answer(id, {"pid": os.getpid(), "runs": self.runs})
        elif method == "describe":
            self.host.channel.sink = self.sink
            self.host._describe(id)
            self.host.channel.sink = -1
        else:
            text = f"unknown method {method!r}"
            self._send({"id": id, "error": {"code": UNKNOWN_METHOD, "message": text}})
        return True

    def _hear_fork(self, fork: Fork) -> None:
        lines = fork.lines.read()
        if lines is None:
            self._finish(None)
            return
        for line in lines:
            if _is_answer(line, fork.id):
                self._finish(json.loads(line))
                return
            _write(self.sink, line + b"\n")

    # --- a run -------------------------------------------------------------

    def _begin(self, message: Dict[str, Any]) -> None:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._be_fork(theirs_in, theirs_out, [ours_in, ours_out])
        os.close(theirs_in)
        os.close(theirs_out)
        self.fork = Fork(message, pid, ours_in, ours_out)
        self.fork.tell(json.dumps(message).encode())

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
                self.libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
                _wall_off(self.libc)
            host = Host(self.module, source, sink)
            _hand_over(self.host, host)
            host.serve()
            code = 0
        finally:
            os._exit(code)

    def _finish(self, answer: Optional[Dict[str, Any]]) -> None:
        """Ends the run in progress. Without an answer of its own, its process has ended."""
        fork = self.fork
        if fork is None:
            return
        status = self._end_fork(patience=EXIT_GRACE if answer is None else 0.0)
        self.runs += 1
        if answer is None:
            code, text = FAILED, f"the process of the run ended ({_shown(status)})"
            if fork.cancelled:
                code, text = CANCELLED, "cancelled"
            answer = {"error": {"code": code, "message": text}}
        self._send({**answer, "id": fork.id})
        self._clean()

    def _end_fork(self, patience: float) -> int:
        """Ends the fork and whatever it started; gives the status of the fork itself."""
        fork, self.fork = self.fork, None
        if fork is None:
            return 0
        # One that ends by itself says how.
        select.select([fork.ended], [], [], patience)
        os.kill(fork.pid, signal.SIGKILL)
        _, status = os.waitpid(fork.pid, 0)
        for descriptor in (fork.ended, fork.sink, fork.lines.source):
            os.close(descriptor)
        _end_children()
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


def _end_children() -> None:
    """Ends the children of this process: with the fork gone, these are those that it left behind."""
    file = f"/proc/self/task/{os.getpid()}/children"
    while True:
        try:
            with open(file, encoding="ascii") as children:
                pids = [int(pid) for pid in children.read().split()]
        except OSError:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except OSError:
                pass
        if not pids:
            return


def _remove(path: str) -> None:
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


def _libc() -> Any:
    if sys.platform != "linux":
        return None
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _wall_off(libc: Any) -> None:
    """Puts this process into a Landlock domain of its own, in which it can do what it could: but the
    zygote is outside of it, and takes no signals from it and is not traced by it."""
    import ctypes

    version = libc.syscall(LANDLOCK_CREATE, None, 0, LANDLOCK_VERSION)
    if version < 1:
        return
    # Which kinds of access are handled: a block device cannot be made anyway.
    attributes = (ctypes.c_uint64 * 3)(LANDLOCK_MAKE_BLOCK, 0, LANDLOCK_SCOPES)
    size = 24 if version >= 6 else 8
    ruleset = libc.syscall(LANDLOCK_CREATE, attributes, size, 0)
    if ruleset < 0 or libc.syscall(LANDLOCK_RESTRICT, ruleset, 0) != 0:
        raise OSError(ctypes.get_errno(), "the run cannot be walled off with Landlock")
    os.close(ruleset)


def _write(sink: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(sink, rest) :]


def _shown(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"signal {number} ({signal.Signals(number).name})"
        except ValueError:
            return f"signal {number}"
    return f"exit status {os.WEXITSTATUS(status)}"
