"""Clients that vanish, at whatever moment, leave nothing behind."""

import concurrent.futures
import contextlib
import json
import random
import socket
import struct
import threading
import uuid

import psutil
import pytest
from websockets.exceptions import WebSocketException

from support.wait import until
from support.wire import Channels, Message, header, pack_plain, pack_v1

#: Sessions whose clients have left end soon.
SHORT_LIVES = {"SESSION_CONNECT": "2", "SESSION_LEFT": "2", "SESSION_UNATTENDED": "2"}
CLIENTS = 100
#: Seconds after which nothing may be left.
PATIENCE = 60
MARK = "left-behind-"


def reset(connection):
    """Ends a connection as a machine does that loses its network: without a word."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def raw(target):
    host, port = target.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def asked(target, method, path, body=""):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {target.url.removeprefix('http://')}", f"Authorization: token {target.token}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


# Each is a moment to vanish.


def in_the_middle_of_asking(target, chance):
    words = asked(target, "POST", "/api/kernels", '{"name": "python3"}')
    connection = raw(target)
    connection.sendall(words[: chance.randrange(1, len(words))])
    reset(connection)


def without_waiting_for_the_kernel(target, _):
    connection = raw(target)
    connection.sendall(asked(target, "POST", "/api/kernels", "{}"))
    reset(connection)


def without_connecting(target, _):
    target.start_kernel()


def in_the_middle_of_connecting(target, chance):
    kernel = target.start_kernel()
    words = (
        f"GET /api/kernels/{kernel}/channels?token={target.token} HTTP/1.1\r\nHost: {target.url.removeprefix('http://')}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
    connection = raw(target)
    connection.sendall(words[: chance.choice((chance.randrange(1, len(words)), len(words)))])
    reset(connection)


def opened(target, chance):
    client = Channels(target, target.start_kernel(), chance.choice(("v1", "plain")), queue=1)
    return client


def connected(target, chance):
    reset(opened(target, chance).socket.socket)


def in_the_middle_of_a_frame(target, chance):
    client = opened(target, chance)
    content = {"code": "print('never')" + "#" * 100_000}
    message = Message("shell", header("execute_request", client.session), content=content)
    frame = pack_v1(message) if client.form == "v1" else pack_plain(message).encode()
    # A masked frame with a length of 64 bits, of which only a part comes.
    begin = struct.pack(">BBQI", 0x82 if client.form == "v1" else 0x81, 0xFF, len(frame), 0)
    client.socket.socket.sendall(begin + frame[: chance.randrange(len(frame))])
    reset(client.socket.socket)


def at_work(code, sees=None):
    def deed(target, chance):
        client = opened(target, chance)
        mark = MARK + uuid.uuid4().hex
        client.execute(f"open('{mark}', 'w').write('x' * 100_000)\n{code}", allow_stdin=True)
        if sees is not None:
            client.until("it is at work", sees)
        reset(client.socket.socket)

    return deed


def is_on(message):
    return "on" in message.content.get("text", "")


MOMENTS = {
    "in the middle of asking": in_the_middle_of_asking,
    "without waiting for the kernel": without_waiting_for_the_kernel,
    "without connecting": without_connecting,
    "in the middle of connecting": in_the_middle_of_connecting,
    "connected": connected,
    "in the middle of a frame": in_the_middle_of_a_frame,
    "having asked": at_work("1"),
    "while it computes": at_work("print('on', flush=True)\nwhile True: pass", is_on),
    "while it sleeps": at_work("print('on', flush=True)\nimport time; time.sleep(1000)", is_on),
    "while it asks": at_work("input()", lambda message: message.kind == "input_request"),
    "while it prints for ever": at_work("while True: print('on', 'x' * 1000, flush=True)", is_on),
    "while its children work": at_work(
        "import subprocess\n"
        "for detached in (False, True): subprocess.Popen(['sleep', '1000'], start_new_session=detached)\n"
        "print('on', flush=True)\ninput()",
        is_on,
    ),
}


def files(target):
    """What the server has on its disk, without what belongs to SQL."""
    return {path for path in target.folder.rglob("*") if ".sqlite" not in path.name}


@pytest.mark.runner
@pytest.mark.timeout(300)
def test_clients_that_vanish_leave_nothing(start_target):
    target = start_target(SHORT_LIVES)
    seed = random.randrange(1 << 32)
    print("seed:", seed)
    # One that lives and ends as it should, so that what stays for good is there.
    first = target.start_kernel()
    with Channels(target, first) as client:
        client.run("1")
    target.end_kernel(first)
    until("the first has ended", lambda: not target.kernels())
    before, files_before = len(target.processes()), files(target)

    names = list(MOMENTS)
    lock, failures = threading.Lock(), []

    def one(number):
        chance = random.Random(seed + number)
        # Each moment comes, then they come by chance.
        name = names[number] if number < len(names) else chance.choice(names)
        try:
            MOMENTS[name](target, chance)
        except (OSError, WebSocketException, AssertionError) as error:
            with lock:
                failures.append(f"{name}: {error!r}")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(CLIENTS)))
    assert not failures, failures

    until("no kernel is listed", lambda: target.kernels() == [], PATIENCE)
    try:
        until("no process is left", lambda: len(target.processes()) <= before, PATIENCE)
    except AssertionError:
        raise AssertionError("left: " + ", ".join(" ".join(one.cmdline())[:80] for one in target.processes())) from None
    try:
        until("no file is left", lambda: not files(target) - files_before, PATIENCE)
    except AssertionError:
        left = [str(path.relative_to(target.folder)) for path in files(target) - files_before]
        raise AssertionError(f"{len(left)} left: {sorted(left)[:40]}") from None
    fresh = target.start_kernel()
    with Channels(target, fresh) as client:
        assert client.run("print('on')").text() == "on\n"
    target.end_kernel(fresh)


@pytest.mark.runner
def test_a_session_that_is_used_lives_on(start_target):
    """The clock of idleness begins again with each message."""
    target = start_target({"SESSION_CONNECT": "1", "SESSION_LEFT": "1", "SESSION_UNATTENDED": "1", "SESSION_IDLE": "2"})
    kernel = target.start_kernel()
    with Channels(target, kernel) as client:
        client.run("import time; begin = time.monotonic()")
        told = until(
            "it is older than it may be idle",
            lambda: float(client.run("print(time.monotonic() - begin)").text()) > 4,
        )
        assert told


@pytest.mark.runner
def test_nothing_is_left_after_the_runner(start_target):
    """A runner that is told to end takes its kernels and what they started with it."""
    target = start_target()
    kernels = [target.start_kernel() for _ in range(3)]
    code = "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True); print('on', flush=True)\nwhile True: pass"
    clients = [Channels(target, kernel) for kernel in kernels]
    for client in clients:
        client.execute(code)
        client.until("it runs", is_on)
    assert target.end() == 0
    until("nothing is left", lambda: not target.processes())
    for client in clients:
        client.close()


@pytest.mark.runner
def test_nothing_is_left_after_a_runner_that_was_killed(start_target):
    target = start_target()
    kernel = target.start_kernel()
    client = Channels(target, kernel)
    client.execute("import subprocess; subprocess.Popen(['sleep', '1000']); print('on', flush=True)\nwhile True: pass")
    client.until("it runs", is_on)
    target.kill()
    until("nothing is left", lambda: not target.processes())


@pytest.mark.runner
def test_the_log_outlives_a_restart_of_the_runner(start_target):
    target = start_target()
    kernel = target.start_kernel()
    with Channels(target, kernel) as client:
        client.run("print('before the restart')")
    target.end()
    again = start_target(folder=target.folder)
    with Channels(again, kernel, offset=0) as client:
        client.until("the old output", lambda message: message.content.get("text") == "before the restart\n")


@pytest.mark.runner
def test_a_zygote_that_dies_is_replaced(start_target):
    target = start_target()
    kernel = target.start_kernel()
    with Channels(target, kernel) as client:
        client.run("1")
    # What stays when no kernel runs is what kernels come from.
    target.end_kernel(kernel)
    until("the kernel has ended", lambda: not target.kernels())
    for process in target.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "python" in " ".join(process.cmdline()):
                process.kill()

    def works():
        answer = target.request("POST", "/api/kernels", json={})
        assert answer.status_code in (201, 503), answer.text
        if answer.status_code == 503:
            assert answer.headers["Retry-After"]
            return False
        with Channels(target, answer.json()["id"]) as client:
            return client.run("print('on')").text() == "on\n"

    until("kernels start again", works)


@pytest.mark.runner
def test_full_is_503(start_target):
    target = start_target({"SESSION_MAX": "2"})
    kernels = [target.start_kernel() for _ in range(2)]
    answer = target.request("POST", "/api/kernels", json={})
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert json.loads(answer.text)["message"]
    target.end_kernel(kernels[0])
    until("there is room again", lambda: target.request("POST", "/api/kernels", json={}).status_code == 201)
