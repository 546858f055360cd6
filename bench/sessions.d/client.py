"""A client of kernels that adds little of its own: one thread, sockets that send at once, the v1 form."""

import http.client
import json
import socket

import websocket
from support.wire import V1, Message, header, pack_v1, unpack_v1


class Failed(Exception):
    """A session could not be measured, and why."""


class Rest:
    """A connection for REST calls, which lives on."""

    def __init__(self, target):
        self._connection = http.client.HTTPConnection(target.url.removeprefix("http://"), timeout=60)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = {**target.authorization, "Content-Type": "application/json"}

    def ask(self, method, path, body=None):
        self._connection.request(method, path, body, self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def start(self):
        status, body = self.ask("POST", "/api/kernels", '{"name": "python3"}')
        if status != 201:
            raise Failed(f"POST /api/kernels: {status} {body[:300]!r}")
        return json.loads(body)["id"]

    def end(self, kernel):
        status, body = self.ask("DELETE", f"/api/kernels/{kernel}")
        if status != 204:
            raise Failed(f"DELETE /api/kernels/{kernel}: {status} {body[:300]!r}")

    def close(self):
        self._connection.close()


class Kernel:
    """A connection to a kernel."""

    def __init__(self, target, kernel):
        place = target.url.replace("http", "ws", 1) + f"/api/kernels/{kernel}/channels?session_id=bench"
        words = [f"{name}: {value}" for name, value in target.authorization.items()]
        self._socket = websocket.create_connection(place, subprotocols=[V1], header=words, timeout=120, skip_utf8_validation=True)

    def run(self, code):
        """Executes a cell until reply and idle have come; the streams' texts, and the contents of other output."""
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        request = Message("shell", header("execute_request", "bench"), content=content)
        self._socket.send_binary(pack_v1(request))
        texts, others, reply, is_idle = [], [], None, False
        while reply is None or not is_idle:
            message = unpack_v1(self._socket.recv())
            if not message.is_for(request.id):
                continue
            if message.kind == "stream":
                texts.append((message.content["name"], message.content["text"]))
            elif message.kind == "execute_reply":
                reply = message.content
            elif message.kind == "status":
                is_idle = message.state == "idle"
            else:
                others.append(message.content)
        if reply["status"] != "ok":
            raise Failed(f"{code!r}: {reply.get('ename')} {reply.get('evalue')}")
        return texts, others

    def close(self):
        self._socket.close(timeout=0)
