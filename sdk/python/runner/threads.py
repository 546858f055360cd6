"""What the threads of a host share: a run and its interruption, what there is to do, who reads."""

from __future__ import annotations

import contextlib
import signal
import time
from _thread import allocate_lock, get_ident

from runner.task import Cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

    from runner.host import Host

#: Wakes the main thread; nothing else about this signal matters.
WAKE = signal.SIGUSR1
#: Between two signals to a main thread that has not noticed the first, in seconds.
WAKE_PAUSE = 0.01
#: After this time of work in the main thread another one reads, in seconds; and that looks so often.
TICK = 0.005


class Run:
    """One `run` request, from its arrival to its answer."""

    def __init__(self, id: Any, params: Dict[str, Any]) -> None:
        self.id = id
        self.params = params
        #: Set by whoever reads the `cancel`.
        self.cancelled = False
        #: Whether Cancelled has been raised: once is enough, clean-up is left in peace.
        self.interrupted = False

    @property
    def key(self) -> Tuple[Any, Any]:
        return self.params.get("task"), self.params.get("run")


class Interruption:
    """Raises Cancelled in the main thread while a plugin runs, never in the middle of a message."""

    def __init__(self) -> None:
        self.run: Optional[Run] = None
        self.depth = 0
        self.main = get_ident()
        signal.signal(WAKE, lambda *_: self.check())

    def check(self) -> None:
        run = self.run
        if run is not None and run.cancelled and not run.interrupted and self.depth == 0:
            run.interrupted = True
            raise Cancelled()

    def wake(self, run: Run, end: float = float("inf")) -> None:
        """Signals the main thread until it has noticed. Called in another thread.

        Once is not enough: a signal that comes just before a system call does not interrupt it.
        """
        while self.run is run and not run.interrupted and time.monotonic() < end:
            signal.pthread_kill(self.main, WAKE)
            time.sleep(WAKE_PAUSE)

    def __enter__(self) -> None:
        if get_ident() == self.main:
            self.depth += 1

    def __exit__(self, *_: Any) -> None:
        if get_ident() == self.main:
            self.depth -= 1
            self.check()


class Inbox:
    """What the main thread has to do, from whoever reads."""

    def __init__(self) -> None:
        self.messages: List[Any] = []
        self.filled = allocate_lock()
        self.filled.acquire()

    def put(self, message: Any) -> None:
        self.messages.append(message)
        with contextlib.suppress(RuntimeError):  # it is open already
            self.filled.release()

    def get(self) -> Any:
        while not self.messages:
            self.filled.acquire()
        return self.messages.pop(0)


class Answer:
    """The answer to a request of our own, for the thread that waits for it."""

    def __init__(self) -> None:
        self.message: Optional[Dict[str, Any]] = None
        self.arrived = allocate_lock()
        self.arrived.acquire()

    def put(self, message: Dict[str, Any]) -> None:
        self.message = message
        self.arrived.release()


class Watcher:
    """A thread that reads when the main one is busy for longer than a moment."""

    def __init__(self, host: Host) -> None:
        import threading

        self.host = host
        self.asleep = False
        self.called = threading.Event()
        threading.Thread(target=self.watch, name="protocol", daemon=True).start()

    def wake(self) -> None:
        """Something has begun in the main thread."""
        if self.asleep:
            self.asleep = False
            self.called.set()

    def watch(self) -> None:
        host = self.host
        while True:
            seen = host.begun
            time.sleep(TICK)
            if host.begun != seen:
                continue
            if host.busy:
                host.read_beside()
                continue
            self.called.clear()
            self.asleep = True
            if host.busy or host.begun != seen:
                self.asleep = False  # it began just now
            else:
                self.called.wait()
