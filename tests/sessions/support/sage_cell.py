"""A client of Sage Cell's interface, as its browser client speaks: SockJS, short headers, the id before each message."""

import json
import random
import socket
import string
import threading
import time
import uuid

import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.wire import Message


def short_header(kind, session):
    """Without date and version."""
    return {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": session, "username": ""}


def to_json(message):
    return json.dumps(
        {
            "channel": message.channel,
            "header": message.header,
            "parent_header": message.parent,
            "metadata": message.metadata,
            "content": message.content,
        }
    )


def of_json(text):
    told = json.loads(text)
    return Message(told["channel"], told["header"], told["parent_header"], told["metadata"], told["content"])


def execute(session, code, **more):
    files = {"_sagecell_files": "sys._sage_.new_files()"}
    usual = {"code": code, "silent": False, "store_history": False, "user_expressions": files, "allow_stdin": False}
    return Message("shell", short_header("execute_request", session), content={**usual, **more})


class Talk:
    """Requests and their answers, over whatever carries them. `say` sends a message, `hear` gives the next one."""

    def __init__(self, kernel):
        self.kernel, self.session = kernel, uuid.uuid4().hex

    def say(self, message):
        raise NotImplementedError

    def hear(self, seconds):
        raise NotImplementedError

    def until(self, what, wanted, seconds=60):
        """All that came, the wanted one last."""
        end, came = time.monotonic() + seconds, []
        while True:
            try:
                came.append(self.hear(max(0.01, end - time.monotonic())))
            except TimeoutError:
                raise AssertionError(f"not within {seconds} s: {what}; came: {[(m.kind, m.state) for m in came]}") from None
            if wanted(came[-1]):
                return came

    def run(self, code, **more):
        """Executes a cell; all messages about it, up to idle."""
        request = execute(self.session, code, **more)
        self.say(request)
        return self.rest_of(request)

    def rest_of(self, request):
        seen = self.until("idle", lambda message: message.is_for(request.id) and message.state == "idle")
        return [message for message in seen if message.is_for(request.id)]


class Plain(Talk):
    """A WebSocket of its own, at `ws_url` + `kernel/<id>/channels`."""

    def __init__(self, model, query=""):
        super().__init__(model["id"])
        opening = connect(f"{model['ws_url']}kernel/{model['id']}/channels{query}", max_size=None, compression=None)
        self.socket = opening.__enter__()

    def say(self, message):
        self.socket.send(to_json(message))

    def hear(self, seconds):
        frame = self.socket.recv(timeout=seconds)
        assert isinstance(frame, str), "text frames"
        return of_json(frame)

    def close(self):
        self.socket.close()


def place():
    """The server and the session of SockJS: three digits, eight characters."""
    letters = "".join(random.choices(string.ascii_lowercase + string.digits, k=8))
    return f"/sockjs/{random.randrange(1000):03}/{letters}"


class SockJs(Talk):
    """SockJS over a WebSocket."""

    def __init__(self, target, kernel):
        super().__init__(kernel)
        url = target.url.replace("http", "ws", 1) + place() + "/websocket"
        # What comes while nobody hears is kept.
        opening = connect(url, max_size=None, compression=None, max_queue=None)
        self.socket = opening.__enter__()
        self.waiting = []
        assert self.socket.recv(timeout=30) == "o"

    def say(self, message):
        self.socket.send(json.dumps([f"{self.kernel}/channels,{to_json(message)}"]))

    def hear(self, seconds):
        end = time.monotonic() + seconds
        while not self.waiting:
            self._take(self.socket.recv(timeout=max(0.01, end - time.monotonic())))
        return self.waiting.pop(0)

    def _take(self, frame):
        if frame == "h":
            return
        assert frame[0] == "a", f"a frame of messages, not {frame[:100]}"
        for said in json.loads(frame[1:]):
            prefix, text = said.split(",", 1)
            assert prefix == f"{self.kernel}/channels"
            self.waiting.append(of_json(text))

    def cut(self):
        """Says no more, and hears what is on its way. Those messages."""
        self.socket.socket.shutdown(socket.SHUT_WR)
        heard = []
        while True:
            try:
                heard.append(self.hear(60))
            except ConnectionClosed:
                return heard

    def close(self):
        self.socket.close()


class Xhr(SockJs):
    """The fallback of SockJS: `xhr_streaming` for what comes, `xhr_send` for what goes."""

    def __init__(self, target, kernel):
        Talk.__init__(self, kernel)
        self.url = target.url + place()
        self.answer = requests.post(self.url + "/xhr_streaming", stream=True, timeout=60)
        assert self.answer.status_code == 200
        self.waiting, self.frames = [], []
        self.heard = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        assert self._frame(30).strip("h") == "", "browsers show nothing before 2,048 bytes"
        assert self._frame(30) == "o"

    def _read(self):
        try:
            for line in self.answer.iter_lines(chunk_size=1, decode_unicode=False):
                with self.heard:
                    self.frames.append(line.decode())
                    self.heard.notify_all()
        except (requests.RequestException, AttributeError):
            pass  # It has been closed.

    def _frame(self, seconds):
        with self.heard:
            if not self.heard.wait_for(lambda: self.frames, seconds):
                raise TimeoutError
            return self.frames.pop(0)

    def say(self, message):
        body = json.dumps([f"{self.kernel}/channels,{to_json(message)}"])
        sent = requests.post(self.url + "/xhr_send", body, headers={"Content-Type": "text/plain;charset=UTF-8"}, timeout=60)
        assert sent.status_code == 204, f"{sent.status_code}: {sent.text}"

    def hear(self, seconds):
        end = time.monotonic() + seconds
        while not self.waiting:
            self._take(self._frame(max(0.01, end - time.monotonic())))
        return self.waiting.pop(0)

    def close(self):
        # Closing alone would wait for the thread that reads.
        self.answer.raw._connection.sock.shutdown(socket.SHUT_RDWR)
        self.answer.close()
