"""Messages over a pair of descriptors: JSON-RPC 2.0, one message per line."""

from __future__ import annotations

import json
import os
import threading
from typing import Any, ContextManager, Dict, Iterator, Optional, Union

#: The longest line that either side sends, in bytes.
MAX_LINE = 1024 * 1024


class Garbage:
    """A line that is no message, and why."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason


def encode(message: Dict[str, Any]) -> bytes:
    """A message as a line. Raises TypeError or ValueError for what is no JSON or too long."""
    text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A lone surrogate is neither UTF-8 nor accepted as an escape by strict readers.
    line = text.encode("utf-8", "replace") + b"\n"
    if len(line) > MAX_LINE:
        raise ValueError(
            f"a message of {len(line)} bytes is too long: at most {MAX_LINE} fit in a line"
        )
    return line


class Channel:
    """The host's end of the protocol. Any thread may send; one thread receives."""

    def __init__(
        self, source: int, sink: int, shield: ContextManager[Any], begun: bytes = b""
    ) -> None:
        self.source = source
        self.sink = sink
        #: What was read before.
        self.begun = begun
        #: Holds back the interruption of a cancelled run until a line is whole.
        self.shield = shield
        self.lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A forked child neither speaks the protocol nor keeps its pipes open."""
        if self.sink >= 0:
            os.close(self.source)
            os.close(self.sink)
            self.source = self.sink = -1

    def send(self, message: Dict[str, Any]) -> None:
        rest = memoryview(encode({"jsonrpc": "2.0", **message}))
        if self.sink < 0:
            raise RuntimeError(
                "this is a forked process: only the plugin's own process has the task"
            )
        with self.shield, self.lock:
            while rest:
                rest = rest[os.write(self.sink, rest) :]

    def notify(self, method: str, **params: Any) -> None:
        self.send({"method": method, "params": params})

    def receive(self) -> Iterator[Union[Dict[str, Any], Garbage]]:
        """Everything that arrives until the other side closes."""
        for line in self._lines():
            if line is None:
                yield Garbage(-32600, f"a line is at most {MAX_LINE} bytes")
                continue
            if not line.strip():
                continue
            try:
                message = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield Garbage(-32700, f"not JSON: {error}")
                continue
            if isinstance(message, dict):
                yield message
            else:
                yield Garbage(-32600, "a message is a JSON object")

    def _lines(self) -> Iterator[Optional[bytes]]:
        """The lines; `None` for one that is too long, of which no more is kept than its limit."""
        held = bytearray()
        skipping = False
        while True:
            try:
                chunk, self.begun = self.begun or os.read(self.source, 1 << 16), b""
            except OSError:
                return
            if not chunk:
                return
            first, *more = chunk.split(b"\n")
            held += first
            for part in more:
                yield None if skipping or len(held) > MAX_LINE else bytes(held)
                held, skipping = bytearray(part), False
            if len(held) > MAX_LINE:
                held, skipping = bytearray(), True
