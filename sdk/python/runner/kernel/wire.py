"""Jupyter messages in their v1 binary form, each behind its length (u32, little endian)."""

from __future__ import annotations

import base64
import datetime
import json
import math
import socket
import struct
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

#: The length before a frame.
LENGTH = struct.Struct("<I")
#: Version of the messaging protocol.
PROTOCOL = "5.4"
_PARTS = 5


class Message(NamedTuple):
    channel: str
    header: Dict[str, Any]
    parent: Dict[str, Any]
    metadata: Dict[str, Any]
    content: Dict[str, Any]
    buffers: List[bytes]

    def as_dict(self) -> Dict[str, Any]:
        """As libraries of Jupyter know it."""
        return {
            "header": self.header,
            "parent_header": self.parent,
            "metadata": self.metadata,
            "content": self.content,
            "buffers": self.buffers,
            "msg_id": self.header.get("msg_id"),
            "msg_type": self.header.get("msg_type"),
        }


def _default(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if hasattr(value, "item"):
        return value.item()  # a number of numpy
    return str(value)


def _finite(value: Any) -> Any:
    """Without the numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def to_json(value: Any) -> bytes:
    try:
        return json.dumps(value, default=_default, allow_nan=False).encode("ascii")
    except (ValueError, TypeError):
        return json.dumps(_finite(value), default=_default).encode("ascii")


def encode(parts: Sequence[bytes]) -> bytes:
    """The frame of channel, header, parent, metadata, content and buffers, with its length before it."""
    count = len(parts) + 1
    offsets = [8 * (1 + count)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    head = struct.pack(f"<I{1 + count}Q", offsets[-1], count, *offsets)
    return b"".join((head, *parts))


def decode(frame: bytes) -> Message:
    """The message in a frame.

    Raises ValueError: it is none.
    """
    try:
        (count,) = struct.unpack_from("<Q", frame)
        offsets = struct.unpack_from(f"<{count}Q", frame, 8)
    except struct.error as error:
        raise ValueError(f"broken frame: {error}") from None
    parts = [frame[a:b] for a, b in zip(offsets, offsets[1:])]
    if len(parts) < _PARTS:
        raise ValueError(f"a frame of {len(parts)} parts instead of {_PARTS}")
    header, parent, metadata, content = (json.loads(part or b"{}") for part in parts[1:_PARTS])
    return Message(parts[0].decode(), header, parent or {}, metadata, content, list(parts[_PARTS:]))


class Line:
    """The socket to the runner."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.held = bytearray()

    def read(self) -> Optional[Message]:
        """The next message; waits for it. `None`: the runner is gone."""
        while True:
            message = self.take()
            if message is not None:
                return message
            if not self.fill():
                return None

    def fill(self) -> bool:
        """Reads what has come; waits for something. False: there is no more."""
        chunk = self.socket.recv(1 << 18)
        self.held += chunk
        return bool(chunk)

    def take(self) -> Optional[Message]:
        """The next message, if it is here as a whole."""
        if len(self.held) < LENGTH.size:
            return None
        (size,) = LENGTH.unpack_from(self.held)
        end = LENGTH.size + size
        if len(self.held) < end:
            return None
        frame = bytes(self.held[LENGTH.size : end])
        del self.held[:end]
        return decode(frame)

    def write(self, data: bytes) -> None:
        self.socket.sendall(data)
