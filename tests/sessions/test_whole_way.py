"""The whole way of cells: browsers, two servers, Redis, two workers, kernels, and back."""

import concurrent.futures
import random
import re
import socket
import struct
import types
import uuid

import psutil
import pytest
import requests

from support.sage_cell import SockJs, execute, short_header
from support.target import Site
from support.wait import until
from support.wire import Message

pytestmark = pytest.mark.runner

CLIENTS = 100
LINES = 20
MARK = "whole-way-"
SETTINGS = {
    "SAGE_CELL": "on",
    # Neither worker has room for all of them.
    "SAGE_CELL_MAX": "60",
    "SAGE_CELL_MAX_PER_CLIENT": "200",
    "SAGE_CELL_LEFT": "12",
    "SAGE_CELL_WARM": "2",
}
INTERACT = "@interact\ndef f(n=(1, 10)):\n    print('n is', n)"
COUNTING = f"""import time
for line in range({LINES}):
    print("line", line, flush=True)
    time.sleep(0.05)
"""


@pytest.fixture
def site(request):
    if request.config.getoption("target") != "runner":
        pytest.skip("it has servers and workers of its own")
    started = Site({**SETTINGS, **getattr(request, "param", {})})
    yield started
    started.stop()


def text(messages):
    return "".join(message.content["text"] for message in messages if message.kind == "stream")


class Client:
    """A browser with a cell, which finds another server with each step."""

    def __init__(self, site, number):
        self.servers = [site.url, site.other_url]
        self.number, self.turn = number, number
        answer = self.ask("POST", "/kernel", params={"CellSessionID": str(uuid.uuid4()), "timeout": "inf"}, data="{}")
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
        self.kernel = answer.json()["id"]

    def server(self):
        self.turn += 1
        return self.servers[self.turn % 2]

    def ask(self, method, path, **more):
        return requests.request(method, self.server() + path, timeout=60, **more)

    def connect(self, server):
        return SockJs(types.SimpleNamespace(url=server), self.kernel)

    def live(self):
        """All that somebody does with a cell, up to its end; the kernel's id."""
        client = self.connect(self.servers[self.number % 2])
        assert text(client.run(f"print('cell', {self.number})")) == f"cell {self.number}\n"
        self.exchange_files(client)
        self.move_a_slider(client)
        client = self.hear_every_line(client)
        self.end(client)
        return self.kernel

    def exchange_files(self, client):
        files, content = f"/kernel/{self.kernel}/files", uuid.uuid4().hex
        put = self.ask("PUT", f"{files}/in.txt", data=content)
        assert put.status_code == 204, f"{put.status_code}: {put.text}"
        seen = client.run("came = open('in.txt').read()\nopen('out.txt', 'w').write(came[::-1])\nprint(came)")
        assert text(seen) == content + "\n"
        (reply,) = [message.content for message in seen if message.kind == "execute_reply"]
        assert "out.txt" in reply["user_expressions"]["_sagecell_files"]["data"]["text/plain"]
        for _ in self.servers:
            assert self.ask("GET", f"{files}/out.txt").text == content[::-1]

    def move_a_slider(self, client):
        seen = client.run(INTERACT)
        made = [message.content["data"] for message in seen if message.kind == "display_data"]
        (made,) = [data["application/sage-interact"] for data in made if "application/sage-interact" in data]
        id, value = made["new_interact_id"], 2 + self.number % 9
        content = {"interact_id": id, "values": {"n": value}, "update_last": False, "user_expressions": {}}
        update = Message("shell", short_header("sagenb.interact.update_interact", client.session), content=content)
        client.say(update)
        said = [message for message in client.rest_of(update) if message.kind == "stream"]
        assert text(said) == f"n is {value}\n"
        assert {message.metadata["interact_id"] for message in said} == {id}

    def hear_every_line(self, client):
        """The connection is cut in the middle of a cell; the rest comes by the other server."""
        cell = execute(client.session, COUNTING)
        client.say(cell)
        middle = f"line {random.randrange(2, LINES - 5)}\n"
        heard = client.until(middle, lambda message: middle in message.content.get("text", ""))
        heard += client.cut()
        again = self.connect(self.servers[1 - self.number % 2])
        again.session = client.session
        question = Message("shell", short_header("kernel_info_request", again.session))
        again.say(question)

        def ends(message):
            return message.is_for(cell.id) and message.state == "idle"

        if not any(map(ends, heard)):
            heard += again.until("the end of the cell", ends)
        about = [message for message in heard if message.is_for(cell.id)]
        assert text(about) == "".join(f"line {line}\n" for line in range(LINES))
        assert len([message for message in about if message.kind == "execute_reply"]) == 1
        again.run("pass")
        return again

    def end(self, client):
        """Leaves a process behind; ends the kernel, at either server, or vanishes."""
        child = f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', '{MARK}'])"
        (reply,) = [message for message in client.run(f"import subprocess, sys\nchild = {child}") if message.kind == "execute_reply"]
        assert reply.content["status"] == "ok", reply.content
        if self.number % 4 == 0:
            connection = client.socket.socket
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            return
        self.turn += self.number // 4
        assert self.ask("DELETE", f"/kernel/{self.kernel}").status_code == 200
        client.until("dead", lambda message: message.state == "dead")
        client.close()


def left_behind():
    def is_left(process):
        try:
            return MARK in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    return [process for process in psutil.process_iter() if is_left(process)]


@pytest.mark.timeout(300)
def test_the_whole_way(site):
    kernels = 'runner_sessions{face="sage_cell"}'
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(lambda number: Client(site, number).live(), number) for number in range(CLIENTS)]
        ids = [client.result() for client in clients]
    assert len(set(ids)) == CLIENTS
    until("no kernel is left", lambda: site.number(kernels) == 0, 60)
    until("no process is left", lambda: not left_behind(), 60)
    for id in ids:
        for server in (site.url, site.other_url):
            assert requests.get(f"{server}/kernel/{id}/files", timeout=60).status_code == 404
    log = site.log.read_text(errors="replace")
    wrong = [line for line in log.splitlines() if re.search(r"\bERROR\b|panicked|an error of the runner", line)]
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.parametrize("site", [{"SAGE_CELL_MAX_PER_CLIENT": "5", "SAGE_CELL_MAX_PER_PAGE": "3"}], indirect=True)
def test_limits_count_kernels_at_all_workers(site):
    def make(number, page):
        server = (site.url, site.other_url)[number % 2]
        return requests.post(f"{server}/kernel", params={"CellSessionID": page, "timeout": "inf"}, data="{}", timeout=60)

    made = [make(number, "one") for number in range(3)]
    assert [answer.status_code for answer in made] == [200] * 3
    refused = make(3, "one")
    assert refused.status_code == 429 and refused.json()["error"] == "too_many_kernels_for_cell_session"
    assert [make(number, "other").status_code for number in range(2)] == [200] * 2
    refused = make(5, "other")
    assert refused.status_code == 503 and "SAGE_CELL_MAX_PER_CLIENT" in refused.json()["message"]
    assert refused.headers["Retry-After"]
    ended = requests.delete(f"{site.other_url}/kernel/{made[0].json()['id']}", timeout=60)
    assert ended.status_code == 200 and make(6, "other").status_code == 200


def test_pages_hear_of_a_worker_that_is_gone(site):
    client = Client(site, 0)
    talk = client.connect(site.url)
    talk.run("1")
    # Redis is the first.
    for worker in site.helpers[1:3]:
        worker.kill()
    talk.until("dead", lambda message: message.state == "dead", 30)
    unknown = lambda: client.ask("GET", f"/kernel/{client.kernel}/files").status_code == 404  # noqa: E731
    until("it is unknown", unknown)
    assert client.ask("POST", "/kernel", data="{}").status_code == 503
