"""Redis without a library: commands in pipelines on one connection."""

import socket


class Redis:
    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = self._socket.makefile("rb", buffering=1 << 18)

    def close(self):
        self._read.close()
        self._socket.close()

    def __call__(self, *command):
        return self.pipeline([command])[0]

    def pipeline(self, commands):
        self._socket.sendall(b"".join(map(encode, commands)))
        answers = [self._answer() for _ in commands]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _answer(self):
        line = self._read.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest
        if kind == b"-":
            return RuntimeError(rest.decode())
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self._read.read(length + 2)[:-2]
        if kind == b"*":
            length = int(rest)
            return None if length < 0 else [self._answer() for _ in range(length)]
        raise RuntimeError(f"Redis answered {line!r}")


def encode(command):
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
