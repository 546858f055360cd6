"""Messages of kernels on a WebSocket, in both forms, said and heard one by one."""

import contextlib
import datetime
import json
import struct
import time
import uuid
from dataclasses import dataclass, field

from websockets.sync.client import connect

V1 = "v1.kernel.websocket.jupyter.org"
FORMS = ("v1", "plain")


@dataclass
class Message:
    channel: str
    header: dict
    parent: dict = field(default_factory=dict)
    metadata: dict = field(default_factory=dict)
    content: dict = field(default_factory=dict)
    buffers: list = field(default_factory=list)

    @property
    def kind(self):
        return self.header["msg_type"]

    @property
    def id(self):
        return self.header["msg_id"]

    @property
    def state(self):
        """What a message of status tells, else nothing."""
        return self.content.get("execution_state") if self.kind == "status" else None

    def is_for(self, request):
        return self.parent.get("msg_id") == request


def header(kind, session):
    date = datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
    return {
        "msg_id": uuid.uuid4().hex,
        "msg_type": kind,
        "session": session,
        "username": "tester",
        "date": date,
        "version": "5.3",
    }


def pack_v1(message):
    """`u64le n`, n offsets, then channel, header, parent, metadata, content and buffers."""
    said = (message.header, message.parent, message.metadata, message.content)
    parts = [message.channel.encode(), *(json.dumps(part).encode() for part in said), *message.buffers]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + b"".join(parts)


def unpack_v1(frame):
    (count,) = struct.unpack_from("<Q", frame)
    offsets = struct.unpack_from(f"<{count}Q", frame, 8)
    assert offsets[-1] == len(frame), "the last offset is the end of the frame"
    channel, *parts = (frame[begin:end] for begin, end in zip(offsets, offsets[1:]))
    return Message(channel.decode(), *(json.loads(part) for part in parts[:4]), list(parts[4:]))


def pack_plain(message):
    """A JSON object; before it, where there are buffers, `u32be n` and the n offsets of object and buffers."""
    text = json.dumps(
        {
            "channel": message.channel,
            "header": message.header,
            "parent_header": message.parent,
            "metadata": message.metadata,
            "content": message.content,
        }
    )
    if not message.buffers:
        return text
    parts = [text.encode(), *message.buffers]
    offsets = [4 * (len(parts) + 1)]
    for part in parts[:-1]:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f">{len(parts) + 1}I", len(parts), *offsets) + b"".join(parts)


def unpack_plain(frame):
    buffers = []
    if isinstance(frame, bytes):
        (count,) = struct.unpack_from(">I", frame)
        offsets = [*struct.unpack_from(f">{count}I", frame, 4), len(frame)]
        frame, *buffers = (frame[begin:end] for begin, end in zip(offsets, offsets[1:]))
    told = json.loads(frame)
    return Message(told["channel"], told["header"], told["parent_header"], told["metadata"], told["content"], buffers)


@dataclass
class Answer:
    """What came for a request: the reply, and what was told on iopub, in order."""

    reply: Message
    told: list

    @property
    def status(self):
        return self.reply.content["status"]

    def of(self, kind):
        return [message.content for message in self.told if message.kind == kind]

    def text(self, name="stdout"):
        return "".join(content["text"] for content in self.of("stream") if content["name"] == name)


class Channels:
    """A client of one kernel. `queue` is how many frames it takes before they are received; without it, all that come."""

    def __init__(self, target, kernel, form="v1", session=None, offered=None, token=True, queue=None, **query):
        self.form = form
        self.session = session or uuid.uuid4().hex
        place = target.url.replace("http", "ws", 1) + f"/api/kernels/{kernel}/channels"
        words = {"session_id": self.session, **query}
        place += "?" + "&".join(f"{name}={value}" for name, value in words.items())
        self._opened = contextlib.ExitStack()
        opening = connect(
            place,
            subprotocols=offered or ([V1] if form == "v1" else None),
            additional_headers=target.authorization if token else None,
            compression=None,
            max_size=None,
            max_queue=queue,
            open_timeout=60,
            ping_interval=None,
        )
        self.socket = self._opened.enter_context(opening)
        # What came about requests that were not asked for yet: iopub and shell overtake each other.
        self._early = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._opened.close()

    def pack(self, message):
        return pack_v1(message) if self.form == "v1" else pack_plain(message)

    def send(self, kind, content=None, channel="shell", parent=None, buffers=(), metadata=None):
        """Sends a message and gives its id."""
        message = Message(channel, header(kind, self.session), parent or {}, metadata or {}, content or {}, list(buffers))
        self.socket.send(self.pack(message))
        return message.id

    def execute(self, code, **content):
        """Sends a cell and gives the id of the request."""
        usual = {"silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
        return self.send("execute_request", {"code": code, **usual, **content})

    def receive(self, seconds=60):
        """The next message."""
        frame = self.socket.recv(timeout=seconds)
        assert isinstance(frame, bytes) or self.form == "plain", f"v1 is binary, not text: {frame[:200]}"
        return unpack_v1(frame) if self.form == "v1" else unpack_plain(frame)

    def until(self, what, wanted, seconds=60):
        """Receives until a message is wanted; gives all that came, the wanted one last."""
        end = time.monotonic() + seconds
        came = []
        while True:
            try:
                came.append(self.receive(max(0.01, end - time.monotonic())))
            except TimeoutError:
                seen = [(message.channel, message.kind, message.state) for message in [*self._early, *came][-20:]]
                raise AssertionError(f"not within {seconds} s: {what}; the last that came: {seen}") from None
            if wanted(came[-1]):
                return came

    def answer(self, request, seconds=60):
        """Waits for the reply and for idle, whichever comes last."""
        reply, told, is_idle = None, [], False
        end = time.monotonic() + seconds
        early, self._early = self._early, []
        while reply is None or not is_idle:
            if early:
                message = early.pop(0)
            else:
                message = self.until(f"answer to {request}", lambda _: True, end - time.monotonic())[-1]
            if not message.is_for(request) or message.channel == "stdin":
                self._early.append(message)
            elif message.channel == "iopub":
                told.append(message)
                is_idle = message.state == "idle"
            else:
                reply = message
        self._early += early
        return Answer(reply, told)

    def run(self, code, seconds=60, **content):
        """Executes a cell to its end."""
        return self.answer(self.execute(code, **content), seconds)

    def ask(self, kind, content=None, channel="shell", seconds=60):
        return self.answer(self.send(kind, content, channel), seconds)
