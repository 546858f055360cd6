"""Serves the own routes of plugins: HTTP/1.1 on a socket, a thread for each connection."""

from __future__ import annotations

import http.server
import socket
import sys
import threading
import time
import traceback
from typing import Any, Iterator, List, Mapping, Optional

from runner.plugin import Plugin
from runner.web import PIECE, HttpError, Request, Response

#: How long what is left of a body is read that nobody wanted, in seconds.
LINGER = 10.0
#: How long to wait when no connection can be taken, in seconds.
PAUSE = 0.1
#: Answers that have no body.
EMPTY = (204, 304)


def take(config: Mapping[str, Any]) -> Optional[socket.socket]:
    """The listening socket, if the host was started with one."""
    web = config.get("web")
    if not web:
        return None
    listener = socket.socket(fileno=int(web["fd"]))
    listener.set_inheritable(False)
    listener.setblocking(True)
    return listener


def serve(listener: socket.socket, plugins: List[Plugin], limit: int) -> None:
    """Takes connections until the process ends; more than `limit` wait."""
    free = threading.BoundedSemaphore(limit)

    def answer(connection: socket.socket) -> None:
        try:
            with connection:
                Connection(connection, plugins)
        except (Cut, OSError):
            pass
        except BaseException:
            traceback.print_exc()
        finally:
            free.release()

    while True:
        free.acquire()
        try:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()
        except (OSError, RuntimeError) as error:
            free.release()
            print(f"no connection can be taken: {error}", file=sys.stderr)
            time.sleep(PAUSE)


class Cut(Exception):
    """The other side is gone."""


class Body:
    """The body of a request, whatever its framing."""

    def __init__(self, stream: Any, length: str, coding: str) -> None:
        self.stream = stream
        self.is_chunked = coding.lower() == "chunked"
        #: Bytes of this chunk, or of the body, that were not read yet.
        self.left = int(length or 0) if not self.is_chunked else 0
        self.is_over = not self.is_chunked and self.left == 0

    def read(self, size: int) -> bytes:
        if self.is_chunked and not self.is_over and self.left == 0:
            self._next_chunk()
        if self.is_over:
            return b""
        piece: bytes = self.stream.read1(min(size, self.left))
        if not piece:
            raise Cut()
        self.left -= len(piece)
        if self.left == 0:
            if self.is_chunked:
                self.stream.readline(3)
            else:
                self.is_over = True
        return piece

    def _next_chunk(self) -> None:
        line = self.stream.readline(1024)
        if not line.endswith(b"\n"):
            raise Cut()
        self.left = int(line.split(b";")[0], 16)
        if self.left == 0:
            self.is_over = True
            while self.stream.readline(PIECE).strip():  # trailers
                pass


class Connection(http.server.BaseHTTPRequestHandler):
    """One request and its answer."""

    protocol_version = "HTTP/1.1"
    close_connection = True
    asked: Optional[Request] = None

    def __init__(self, connection: socket.socket, plugins: List[Plugin]) -> None:
        self.plugins = plugins
        super().__init__(connection, ("", 0), None)  # type: ignore[arg-type]

    def log_message(self, *_: Any) -> None:
        pass

    def send_error(self, code: int, message: Any = None, explain: Any = None) -> None:
        self.send(Response.error(code, message or ""))

    def handle(self) -> None:
        self.raw_requestline = self.rfile.readline(PIECE + 1)
        if not self.raw_requestline:
            return
        if len(self.raw_requestline) > PIECE:
            self.requestline = self.request_version = self.command = ""
            return self.send_error(414)
        if not self.parse_request():
            return
        try:
            body = Body(
                self.rfile,
                self.headers.get("content-length", ""),
                self.headers.get("transfer-encoding", ""),
            )
        except ValueError:
            return self.send_error(400)
        try:
            self.send(self.answer(body))
        finally:
            if self.asked is not None:
                self.asked.close()
        if not body.is_over:
            self.linger()

    def answer(self, body: Body) -> Response:
        try:
            request = Request(self.command, self.path, self.headers.items(), body.read)
            self.asked = request
            for plugin in self.plugins:
                if plugin.identifier == request.plugin:
                    return plugin.routes.answer(request)
            raise HttpError(404)
        except HttpError as error:
            return Response.error(error.status, error.message, error.headers)
        except Cut:
            raise
        except BaseException:
            self.log_failure()
            return Response.error(500)

    def log_failure(self) -> None:
        # In one piece, so that those of two threads do not mix.
        sys.stderr.write(f"{self.command} {self.path} failed\n{traceback.format_exc()}")

    def send(self, response: Response) -> None:
        try:
            head, body, is_chunked = self.framed(response)
        except Exception:
            self.log_failure()
            head, body, is_chunked = self.framed(Response.error(500))
        pieces = _pieces(body)
        try:
            # A small answer is one piece on the wire.
            if isinstance(body, bytes):
                self.write(head + body)
                return
            self.write(head)
            for piece in pieces:
                if piece:
                    self.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
            if is_chunked:
                self.write(b"0\r\n\r\n")
        except Cut:
            pass  # nobody wants the rest
        except BaseException:
            self.log_failure()  # the client sees that the answer is not whole
        finally:
            close = getattr(response.body, "close", None)
            if close is not None:
                close()

    def write(self, data: bytes) -> None:
        try:
            self.wfile.write(data)
        except OSError:
            raise Cut() from None

    def framed(self, response: Response) -> Any:
        """The head of the response, its body, and whether that goes in chunks."""
        lines = [f"HTTP/1.1 {int(response.status)} {_phrase(response.status)}"]
        names = set()
        for name, value in response.headers.items():
            if any(sign in f"{name}{value}" for sign in "\r\n\0") or ":" in name:
                raise ValueError(f"{name!r}: {value!r} is no header")
            names.add(name.lower())
            lines.append(f"{name}: {value}")
        body, is_chunked = response.body, False
        is_empty = self.command == "HEAD" or response.status in EMPTY
        if isinstance(body, (bytes, bytearray, memoryview)):
            body = bytes(body)
            if "content-length" not in names and response.status not in EMPTY:
                lines.append(f"Content-Length: {len(body)}")
        elif "content-length" not in names and not is_empty:
            is_chunked = True
            lines.append("Transfer-Encoding: chunked")
        lines.append("Connection: close")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        return head, b"" if is_empty else body, is_chunked and not is_empty

    def linger(self) -> None:
        """Reads on until the other side has the answer, which else might be lost."""
        self.connection.shutdown(socket.SHUT_WR)
        end = time.monotonic() + LINGER
        while time.monotonic() < end:
            self.connection.settimeout(LINGER)
            if not self.connection.recv(PIECE):
                return


def _pieces(body: Any) -> Iterator[bytes]:
    read = getattr(body, "read", None)
    if read is not None:
        body = iter(lambda: read(PIECE), b"")
    for piece in body:
        yield piece.encode("utf-8") if isinstance(piece, str) else piece


def _phrase(status: int) -> str:
    known: Mapping[Any, Any] = http.server.BaseHTTPRequestHandler.responses
    return str(known.get(status, ("",))[0])
