"""What code prints, and what programs write that it starts, gathered into messages of the streams."""

from __future__ import annotations

import io
import os
import select
import threading
import time
from typing import Any, Callable, Dict, List, Tuple

#: Characters of one message.
_CHUNK = 1 << 16
#: Seconds for which output is gathered.
_PATIENCE = 0.005
#: Seconds more for the rest of a line: `print` writes a line and its end one after the other.
_REST_OF_LINE = 0.05


class Outputs:
    """Gathers text in its order; `send(name, text)` gets it."""

    def __init__(self, send: Callable[[str, str], None], shield: Any) -> None:
        self.send = send
        #: Holds off interrupts: half a message would be the end of the line.
        self.shield = shield
        self.lock = threading.RLock()
        self.pending: List[Tuple[str, List[str]]] = []
        self.size = 0
        self.last = 0.0
        self.pid = os.getpid()
        self.pipes: Dict[int, str] = {}
        self.wake, self.waker = os.pipe()
        os.set_blocking(self.waker, False)
        self.is_woken = False
        for number, name in ((1, "stdout"), (2, "stderr")):
            source, sink = os.pipe()
            os.set_blocking(source, False)
            os.dup2(sink, number)
            os.close(sink)
            self.pipes[source] = name
        threading.Thread(target=self._run, name="output", daemon=True).start()

    def write(self, name: str, text: str) -> None:
        with self.shield, self.lock:
            if not self.pending or self.pending[-1][0] != name:
                self.pending.append((name, []))
            self.pending[-1][1].append(text)
            self.size += len(text)
            if self.size >= _CHUNK:
                self._send()
            elif not self.is_woken:
                self.is_woken = True
                os.write(self.waker, b"x")

    def flush(self, at_once: bool = True) -> None:
        """Sends what there is; if it need not be at once, together with what comes within milliseconds."""
        if at_once or time.monotonic() - self.last > _PATIENCE:
            with self.shield, self.lock:
                self._send()

    def drain(self) -> None:
        """Sends all that was written until now, also by others."""
        with self.shield, self.lock:
            for source in self.pipes:
                self._read(source)
            self._send()

    def _send(self) -> None:
        pending, self.pending, self.size = self.pending, [], 0
        if pending:
            self.last = time.monotonic()
        for name, texts in pending:
            self.send(name, "".join(texts))

    def _is_within_line(self) -> bool:
        with self.lock:
            return bool(self.pending) and not self.pending[-1][1][-1].endswith("\n")

    def _read(self, source: int) -> None:
        while True:
            try:
                data = os.read(source, _CHUNK)
            except OSError:
                return
            if not data:
                return
            self.write(self.pipes[source], data.decode("utf-8", "replace"))

    def _run(self) -> None:
        sources: List[int] = [self.wake, *self.pipes]
        while True:
            try:
                ready, _, _ = select.select(sources, [], [])
                if self.wake in ready:
                    os.read(self.wake, 4096)
            except (OSError, ValueError):
                return  # somebody closed them
            with self.lock:
                self.is_woken = False
                for source in ready:
                    if source != self.wake:
                        self._read(source)
            time.sleep(_PATIENCE)
            if self._is_within_line():
                time.sleep(_REST_OF_LINE)
            try:
                self.flush()
            except OSError:
                return  # the runner is gone


class Stream(io.TextIOBase):
    """Stands for `sys.stdout` or `sys.stderr`."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, name: str, outputs: Outputs, number: int) -> None:
        self.name = name
        self._outputs = outputs
        self._number = number
        self._buffer = io.BufferedWriter(_Bytes(self), 1)

    @property
    def buffer(self) -> Any:
        return self._buffer

    def fileno(self) -> int:
        return self._number

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if os.getpid() != self._outputs.pid:
            # A fork of this process has no line to the runner of its own.
            os.write(self._number, text.encode("utf-8", "replace"))
        elif text:
            self._outputs.write(self.name, text)
        return len(text)

    def flush(self) -> None:
        if os.getpid() == self._outputs.pid:
            self._outputs.flush(at_once=False)


class _Bytes(io.RawIOBase):
    """Bytes that are written to a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        data = bytes(data)
        self.stream.write(data.decode("utf-8", "replace"))
        return len(data)
