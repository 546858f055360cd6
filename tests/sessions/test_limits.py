"""How long a cell may run, and how many sessions one client may have."""

import http.client
import json
import subprocess

import pytest

from support.target import Runner
from support.wire import Channels

pytestmark = pytest.mark.runner


@pytest.fixture(scope="module")
def hasty():
    """A server where a cell may run for a second."""
    server = Runner({"SESSION_CELL_TIME": "1"})
    yield server
    server.stop()


@pytest.fixture
def cell(hasty):
    kernel = hasty.start_kernel()
    with Channels(hasty, kernel) as client:
        client.run("1")
        yield client
    hasty.end_kernel(kernel)


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(60)", "input()"])
def test_a_cell_is_interrupted_when_its_time_is_over(cell, code):
    answer = cell.run(code, allow_stdin=True)
    assert answer.reply.content["ename"] == "KeyboardInterrupt"
    assert "SESSION_CELL_TIME" in answer.text("stderr") and "1 s" in answer.text("stderr")
    assert cell.run("print('next')").text() == "next\n"


@pytest.mark.parametrize(
    "code",
    [
        "import time\nwhile True:\n    try:\n        while True: time.sleep(0.01)\n    except KeyboardInterrupt: pass",
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
    ],
    ids=["catches it", "ignores it"],
)
def test_a_cell_that_is_not_to_be_interrupted_loses_its_kernel(cell, code):
    answer = cell.run(code)
    assert answer.reply.content["ename"] == "KernelDied"
    assert "SESSION_CELL_TIME" in answer.reply.content["evalue"]
    assert cell.run("print('next')").text() == "next\n"


def test_each_cell_has_its_own_time(cell):
    requests = [cell.execute("import time; time.sleep(0.6)") for _ in range(3)]
    assert [cell.answer(request).status for request in requests] == ["ok"] * 3


# --- how many ---------------------------------------------------------------


def begin(server, address, token=None):
    """Asks for a session from an address of this machine."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60, source_address=(address, 0))
    connection.request("POST", "/api/kernels", "{}", {"Authorization": f"token {token or server.token}"})
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()
    return answer.status, said, answer.headers


def test_one_address_has_no_more_sessions_than_it_may(start_target):
    server = start_target({"SESSION_MAX_PER_CLIENT": "2"})
    made = [begin(server, "127.0.0.1") for _ in range(3)]
    assert [status for status, _, _ in made] == [201, 201, 503]
    _, said, headers = made[2]
    assert "2" in said["message"] and "SESSION_MAX_PER_CLIENT" in said["message"]
    assert int(headers["Retry-After"]) > 0
    assert begin(server, "127.0.0.2")[0] == 201
    server.end_kernel(made[0][1]["id"])
    assert begin(server, "127.0.0.1")[0] == 201


def test_one_user_has_no_more_sessions_than_it_may_wherever_it_is(start_target):
    auth = {"AUTH": "required", "AUTH_SECRET": "a secret that only these tests have, and nobody else"}
    server = start_target({"SESSION_MAX_PER_CLIENT": "1", **auth})
    program = server.command()[0][0]

    def token(subject):
        words = [program, "token", "--role", "user", "--subject", subject]
        return subprocess.run(words, env=auth, capture_output=True, text=True, check=True, cwd=server.folder).stdout.strip()

    ada, bob = token("ada"), token("bob")
    assert begin(server, "127.0.0.1", ada)[0] == 201
    for address in ("127.0.0.1", "127.0.0.2"):
        status, said, _ = begin(server, address, ada)
        assert status == 503 and "SESSION_MAX_PER_CLIENT" in said["message"]
    assert begin(server, "127.0.0.1", bob)[0] == 201
