"""Messages over a pair of descriptors: JSON-RPC 2.0, one message per line."""

from __future__ import annotations

import json
import os
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ContextManager, Dict, List, Optional, Union

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
    """The host's end of the protocol. Any thread may send; one at a time reads."""

    def __init__(
        self, source: int, sink: int, shield: ContextManager[Any], begun: bytes = b""
    ) -> None:
        self.source = source
        self.sink = sink
        #: What was read before.
        self.begun = begun
        #: Lines that are whole and not given out yet; `None` for one that was too long.
        self.lines: List[Optional[bytes]] = []
        #: What was read after the last line break, and whether it belongs to a line that is too long.
        self.held, self.skipping = bytearray(), False
        #: Holds back the interruption of a cancelled run until a line is whole.
        self.shield = shield
        self.lock = allocate_lock()
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

    def read(self) -> Union[Dict[str, Any], Garbage, None]:
        """What arrives next; `None` when the other side has closed."""
        while True:
            while self.lines:
                line = self.lines.pop(0)
                if line is None:
                    return Garbage(-32600, f"a line is at most {MAX_LINE} bytes")
                if line.strip():
                    return _parsed(line)
            if not self._fill():
                return None

    def wait(self) -> None:
        """Waits until something can be read. Given up half way, nothing is lost."""
        import select

        if not self.lines:
            select.select([self.source], [], [])

    def _fill(self) -> bool:
        """Reads once. `False` at the end."""
        try:
            chunk, self.begun = self.begun or os.read(self.source, 1 << 16), b""
        except OSError:
            return False
        first, *more = chunk.split(b"\n")
        self.held += first
        for part in more:
            is_long = self.skipping or len(self.held) > MAX_LINE
            self.lines.append(None if is_long else bytes(self.held))
            self.held, self.skipping = bytearray(part), False
        if len(self.held) > MAX_LINE:
            # No more of it is kept than its limit.
            self.held, self.skipping = bytearray(), True
        return bool(chunk)


def _parsed(line: bytes) -> Union[Dict[str, Any], Garbage]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Garbage(-32700, f"not JSON: {error}")
    return message if isinstance(message, dict) else Garbage(-32600, "a message is a JSON object")
