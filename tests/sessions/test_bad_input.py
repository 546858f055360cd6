"""What clients and code should not send or do: each has a defined answer, and harms nobody else."""

import json
import os
import struct
import time
import uuid

import psutil
import pytest
from websockets.exceptions import ConnectionClosed

from support.links import linked
from support.wait import until
from support.wire import Channels, Message, header, pack_plain, pack_v1

#: Codes that tell a client that what it sent was wrong, or too large.
REFUSALS = (1002, 1003, 1007, 1008, 1009)
#: Bytes that a frame may have; the default of the runner.
FRAME_LIMIT = 64 << 20


def cell(code="print('cell')"):
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    return Message("shell", header("execute_request", "me"), content=content)


def v1(*parts):
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + b"".join(parts)


GOOD = [json.dumps(part).encode() for part in (cell().header, {}, {}, cell().content)]
BROKEN_V1 = {
    "empty": b"",
    "one byte": b"\x01",
    "no offsets": struct.pack("<Q", 0),
    "fewer offsets than said": struct.pack("<QQ", 6, 56),
    "more offsets than memory": struct.pack("<Q", 1 << 60) + b"\0" * 64,
    "the largest count": b"\xff" * 8,
    "offsets beyond the end": struct.pack("<7Q", 6, 56, 60, 64, 68, 72, 1 << 40) + b"{}" * 10,
    "offsets that go back": struct.pack("<7Q", 6, 70, 60, 64, 62, 66, 76) + b"{}" * 10,
    "offsets into themselves": struct.pack("<7Q", 6, 0, 8, 16, 24, 32, 76) + b"{}" * 10,
    "too few parts": v1(b"shell", b"{}"),
    "a header that is no JSON": v1(b"shell", b"{", b"{}", b"{}", b"{}"),
    "a header that is no object": v1(b"shell", b"[1]", b"{}", b"{}", b"{}"),
    "a header without a type": v1(b"shell", b'{"msg_id": "x"}', b"{}", b"{}", b"{}"),
    "a content that is no JSON": v1(b"shell", GOOD[0], b"{}", b"{}", b"nonsense"),
    "a content that is a list": v1(b"shell", GOOD[0], b"{}", b"{}", b"[]"),
    "an unknown channel": v1(b"heart", *GOOD),
    "a channel that is no text": v1(b"\xff\xfe", *GOOD),
    "JSON that is no text": v1(b"shell", b'{"msg_id": "\xff"}', b"{}", b"{}", b"{}"),
    "a text": "hello",
    "the plain form": pack_plain(cell()),
}
BROKEN_PLAIN = {
    "empty": "",
    "no JSON": "{",
    "a list": "[]",
    "null": "null",
    "a number": "1e999",
    "no header": json.dumps({"channel": "shell", "content": {}}),
    "a header that is a text": json.dumps({"channel": "shell", "header": "x", "parent_header": {}, "metadata": {}, "content": {}}),
    "a header without an id": json.dumps({"channel": "shell", "header": {"msg_type": "execute_request"}, "content": {}}),
    "an unknown channel": pack_plain(Message("heart", header("execute_request", "me"), content={"code": "1"})),
    "a channel that is a number": json.dumps({"channel": 3, "header": header("execute_request", "me"), "content": {}}),
    "JSON as deep as a well": '{"channel": "shell", "header": ' + '{"a":' * 50_000 + "1" + "}" * 50_000 + "}",
    "bytes": b"\x00\x01",
    "more buffers than memory": struct.pack(">I", 0xFFFFFFFF) + b"\0" * 16,
    "no parts": struct.pack(">I", 0),
    "buffers beyond the end": struct.pack(">III", 2, 12, 1 << 30) + b"{}",
    "the v1 form": pack_v1(cell()),
}
BROKEN = [("v1", name) for name in BROKEN_V1] + [("plain", name) for name in BROKEN_PLAIN]


# A count beyond memory hangs Jupyter's servers.
@pytest.mark.runner
@pytest.mark.parametrize("form, name", BROKEN, ids=[f"{form}: {name}" for form, name in BROKEN])
def test_a_broken_frame(target, shared_kernel, form, name):
    frame = (BROKEN_V1 if form == "v1" else BROKEN_PLAIN)[name]
    with Channels(target, shared_kernel, form) as client:
        client.ask("kernel_info_request")
        client.socket.send(frame)
        # Either the connection ends with a reason, or the frame is passed over and the connection lives.
        try:
            assert client.run("print('lives')").text() == "lives\n"
        except ConnectionClosed as closed:
            assert closed.rcvd is not None and closed.rcvd.code in REFUSALS, closed
            assert closed.rcvd.reason, "a reason for people"
    with Channels(target, shared_kernel, form) as client:
        assert client.run("print('on')").text() == "on\n"


@pytest.fixture(scope="module")
def shared_kernel(target):
    """One kernel for what never reaches a kernel."""
    id = target.start_kernel()
    yield id
    target.end_kernel(id)


@pytest.mark.runner
def test_a_frame_over_the_limit(target, shared_kernel, form):
    with Channels(target, shared_kernel, form) as client:
        client.ask("kernel_info_request")
        with pytest.raises(ConnectionClosed) as caught:
            client.execute("#" * (FRAME_LIMIT + 1))
            client.until("the end", lambda _: False)
        assert caught.value.rcvd is None or caught.value.rcvd.code in (1008, 1009)
    with Channels(target, shared_kernel, form) as client:
        assert client.run("print('on')").text() == "on\n"


@pytest.mark.runner
def test_frames_in_pieces_over_the_limit(target, shared_kernel):
    with Channels(target, shared_kernel) as client:
        client.ask("kernel_info_request")
        with pytest.raises(ConnectionClosed):
            client.socket.send(b"\0" * (1 << 20) for _ in range(100))
            client.until("the end", lambda _: False)
    with Channels(target, shared_kernel) as client:
        assert client.run("print('on')").text() == "on\n"


@pytest.mark.runner
def test_a_message_with_a_million_buffers(target, shared_kernel):
    with Channels(target, shared_kernel) as client:
        client.ask("kernel_info_request")
        try:
            client.send("comm_msg", {"comm_id": "x", "data": {}}, buffers=[b""] * 1_000_000)
            assert client.run("print('lives')").text() == "lives\n"
        except ConnectionClosed as closed:
            assert closed.rcvd is not None and closed.rcvd.code in REFUSALS
    with Channels(target, shared_kernel) as client:
        assert client.run("print('on')").text() == "on\n"


# --- messages that are none of a client ---------------------------------


@pytest.mark.parametrize(
    "kind, channel",
    [("status", "iopub"), ("stream", "iopub"), ("execute_reply", "shell"), ("input_reply", "stdin"), ("kernel_info_request", "iopub")],
)
def test_a_message_that_nobody_waits_for(channels, kind, channel):
    channels.send(kind, {"execution_state": "dead", "name": "stdout", "text": "forged", "value": "x"}, channel)
    answer = channels.run("print('on')")
    assert answer.text() == "on\n"


def test_an_answer_that_comes_before_the_question_is_no_answer(channels):
    channels.send("input_reply", {"value": "too early"}, "stdin")
    channels.ask("kernel_info_request")
    request = channels.execute("print(input())", allow_stdin=True)
    question = channels.until("a question", lambda message: message.kind == "input_request")[-1]
    channels.send("input_reply", {"value": "in time"}, "stdin", parent=question.header)
    assert channels.answer(request).text() == "in time\n"


@pytest.mark.parametrize("content", [{}, {"code": 3}, {"code": None}, {"code": "1", "user_expressions": 7}])
@pytest.mark.runner
def test_a_cell_without_code(channels, content):
    request = channels.send("execute_request", content)
    assert channels.answer(request).status in ("error", "ok")
    assert channels.run("print('on')").text() == "on\n"


@pytest.mark.parametrize("kind", ["complete_request", "inspect_request"])
@pytest.mark.parametrize("position", [-5, 10**9])
@pytest.mark.runner
def test_a_position_outside_of_the_code(channels, kind, position):
    assert channels.ask(kind, {"code": "pri", "cursor_pos": position, "detail_level": 0}).status in ("ok", "error")
    assert channels.run("print('on')").text() == "on\n"


# --- clients that do not read -------------------------------------------


def memory(target):
    """Resident bytes of the server itself."""
    return psutil.Process(target.process.pid).memory_info().rss


@pytest.mark.runner
def test_a_client_that_reads_nothing_keeps_nobody_up(target, kernel):
    with Channels(target, kernel, queue=1) as deaf, Channels(target, kernel) as client:
        deaf.send("kernel_info_request")
        client.ask("kernel_info_request")
        before = memory(target)
        lines = 40_000
        answer = client.run(f"for number in range({lines}): print(number, 'x' * 1000)", seconds=120)
        numbers = [int(line.split()[0]) for line in answer.text().splitlines() if line]
        others = [message.content for message in answer.told if message.kind == "display_data"]
        assert len(numbers) == lines or linked(target, answer.text(), others) > 0, "all of it came, or is linked"
        assert target.request("GET", "/api").elapsed.total_seconds() < 5
        assert memory(target) - before < 200 << 20


@pytest.mark.runner
def test_a_client_that_reads_nothing_of_an_endless_cell(target, kernel):
    with Channels(target, kernel, queue=1) as deaf:
        deaf.execute("while True: print('x' * 1000, flush=True)")
        until("it runs", lambda: target.request("GET", f"/api/kernels/{kernel}").json()["execution_state"] == "busy")
        sizes = []

        def is_steady():
            sizes.append(memory(target))
            return len(sizes) > 100

        until("memory was looked at for a while", is_steady)
        assert max(sizes) - sizes[0] < 200 << 20
        assert target.request("POST", f"/api/kernels/{kernel}/interrupt").status_code == 204
        until("the cell has ended", lambda: target.request("GET", f"/api/kernels/{kernel}").json()["execution_state"] == "idle")


@pytest.mark.runner
def test_ten_thousand_flushed_prints_all_come(target, kernel, form):
    with Channels(target, kernel, form) as client:
        answer = client.run("for number in range(10_000): print(number, flush=True)", seconds=60)
        assert answer.text().split() == [str(number) for number in range(10_000)]


@pytest.mark.runner
def test_output_beyond_the_quota_is_linked(target, kernel, client):
    """100 MB: all of it comes, or what is beyond the quota as a file whose link is told."""
    size = 100_000_000
    line = "0123456789" * 10 + "\n"
    answer = client.run(f"import sys\nfor _ in range({size // len(line)}): sys.stdout.write({line!r})", seconds=170)
    text = answer.text()
    total = (size // len(line)) * len(line)
    missing = total - text.count(line) * len(line)
    if missing > 0:
        others = [message.content for message in answer.told if message.kind not in ("stream", "execute_input")]
        found = linked(target, text, [*others, answer.text("stderr")])
        assert found >= missing, f"{missing} of {total} bytes are missing, and what is linked has {found}: {text[-500:]}"


# --- code that does harm ------------------------------------------------

#: Seconds for which code does harm while others work.
AT_WORK = 2
HARM = {
    "closes its descriptors": "import os\nos.closerange(0, 4096)",
    "fills all pipes": """import os, fcntl
for fd in range(3, 64):
    try:
        os.set_blocking(fd, False)
        while os.write(fd, b"x" * 4096): pass
    except OSError: pass
    try: os.set_blocking(fd, True)
    except OSError: pass""",
    "kills its parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
    "kills all it may": "import os, signal\nos.kill(-1, signal.SIGKILL)",
    "stops its parent": "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)",
    "fills memory": "x = []\nwhile True: x.append(bytearray(10_000_000))",
    "fills the disk": "with open('large', 'wb') as file:\n    while True: file.write(b'x' * 10_000_000); file.flush()",
    "makes files": "n = 0\nwhile n < 20000:\n    open(f'file-{n}', 'w').close(); n += 1",
    "is a fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "makes threads": "import threading\nwhile True: threading.Thread(target=threading.Event().wait).start()",
    "blocks signals": "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\nwhile True: pass",
    "never yields": "import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
    "prints for ever": "while True: print('x' * 10000)",
    "is deep": "def f(): f()\nimport sys; sys.setrecursionlimit(10**9); f()",
    "opens files": "x = []\nwhile True: x.append(open('/dev/null'))",
    "replaces itself": "import os\nos.execv('/bin/sleep', ['sleep', '1000'])",
}


@pytest.mark.runner
@pytest.mark.parametrize("name", HARM)
def test_code_that_does_harm(target, name):
    """Others go on, and the deletion of its kernel is certain."""
    other, bad = target.start_kernel(), target.start_kernel()
    before = {process.pid for process in target.processes()}
    try:
        with Channels(target, other) as good, Channels(target, bad, queue=64) as client:
            good.run("x = 1")
            client.ask("kernel_info_request")
            client.execute(HARM[name])
            end, number = time.monotonic() + AT_WORK, 0
            while time.monotonic() < end:
                number += 1
                assert good.run(f"print(x + {number})", seconds=60).text() == f"{1 + number}\n"
            assert target.request("GET", "/api").status_code == 200
            assert target.request("DELETE", f"/api/kernels/{bad}").status_code in (204, 404)
            assert good.run("print('on')").text() == "on\n"
        fresh = target.start_kernel()
        try:
            with Channels(target, fresh) as client:
                assert client.run("print('fresh')").text() == "fresh\n"
        finally:
            target.end_kernel(fresh)
    finally:
        target.end_kernel(other)
        target.end_kernel(bad)
    until("what it started is gone", lambda: len({process.pid for process in target.processes()}) <= len(before))


@pytest.mark.runner
def test_kernels_see_nothing_of_each_other(target):
    one, two = target.start_kernel(), target.start_kernel()
    try:
        with Channels(target, one) as first, Channels(target, two) as second:
            secret = uuid.uuid4().hex
            folder = first.run(f"import os\nopen('secret', 'w').write('{secret}'); print(os.getcwd())").text().strip()
            for code in (
                f"print(open('{folder}/secret').read())",
                "print(open('/proc/1/environ').read())",
                "import os; os.kill(1, 9); print('killed')",
                f"open('{folder}/mine', 'w').write('x'); print('written')",
                "import glob; print(glob.glob('../*/secret'))",
                f"print(open('{target.instance}/token').read())",
            ):
                told = second.run(code).text()
                assert secret not in told and "killed" not in told and "written" not in told and "../" not in told
                assert target.token not in told
            assert first.run("print(open('secret').read())").text() == secret + "\n"
    finally:
        target.end_kernel(one)
        target.end_kernel(two)


#: What stays of a session in memory of System V, and who else is there.
SHARE = "import ctypes; shared = ctypes.CDLL(None).shmget(20000, 4096, 0o1666); print(shared)"
NEIGHBOURS = """
import ctypes, errno, os, pathlib, subprocess
threads = [int(name) for name in os.listdir("/proc/self/task")]
pids = sorted(int(one.name) for one in pathlib.Path("/proc").iterdir() if one.name.isdigit())
print(pids == [1, os.getpid()], subprocess.run(["/bin/sh", "-c", "cat /proc/self/status | head -1"], capture_output=True, text=True).stdout)
libc = ctypes.CDLL(None, use_errno=True)
spaces = [libc.mount(b"x", b"/tmp", b"tmpfs", 0, None), libc.unshare(0x10000000), libc.syscall({"x86_64": 56, "aarch64": 220}[os.uname().machine], 0x10000011, 0, 0, 0, 0)]
if spaces != [-1, -1, -1] or ctypes.get_errno() != errno.EPERM:
    print("it may make name spaces", spaces)
for pid in range(1, 400):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        continue
    except PermissionError:
        pass
    if pid not in pids + threads:
        print("somebody is", pid)
"""


def assert_alone(target, id, first, second):
    """Two kernels, the first of that id, know nothing of each other, which is shown."""
    assert int(first.run(SHARE).text()) >= 0
    assert int(second.run(SHARE.replace("0o1666", "0o666")).text()) == -1
    assert second.run(NEIGHBOURS).text() == "True Name:\tcat\n\n"
    confinement = target.request("GET", f"/api/kernels/{id}").json()["confinement"]
    assert any("each kernel's own" in layer for layer in confinement["layers"]), confinement


@pytest.mark.runner
def test_kernels_do_not_know_that_there_are_others(target):
    one, two = target.start_kernel(), target.start_kernel()
    try:
        with Channels(target, one) as first, Channels(target, two) as second:
            assert_alone(target, one, first, second)
            # What it leaves behind is a child of the first process in there, and ends with the kernel.
            first.run("import subprocess; subprocess.run('sleep 1000 & sleep 1001 &', shell=True)")
            left = {process.pid for process in target.processes() if process.name() == "sleep"}
            assert len(left) == 2
    finally:
        target.end_kernel(one)
        target.end_kernel(two)
    until("what it left is gone", lambda: left.isdisjoint({process.pid for process in target.processes()}))


@pytest.mark.runner
@pytest.mark.skipif(os.getuid() != 0, reason="only root may start it under another account")
def test_under_an_ordinary_account_kernels_are_as_alone(start_target, target):
    if target.runs_apart:
        pytest.skip("what belongs to its server and worker is made by root")
    target = start_target({"SESSION_PYTHON": "/usr/bin/python3"}, account=4321)
    one, two = target.start_kernel(), target.start_kernel()
    with Channels(target, one) as first, Channels(target, two) as second:
        assert_alone(target, one, first, second)
        assert first.run("open('kept', 'w').write('x'); print(open('kept').read())").text() == "x\n"
    assert {process.uids().real for process in target.processes()} == {4321}
    target.end_kernel(one)
    assert target.request("GET", f"/api/kernels/{one}").status_code == 404


@pytest.mark.runner
def test_kernels_without_name_spaces_say_so(start_target):
    target = start_target({"SANDBOX": "basic"})
    kernel = target.start_kernel()
    with Channels(target, kernel) as client:
        assert client.run("print(open('/proc/self/comm').read())").status == "ok"
        assert client.run("import os; os.listdir('/proc')").reply.content["ename"] == "PermissionError"
    missing = target.request("GET", f"/api/kernels/{kernel}").json()["confinement"]["missing"]
    assert any("each kernel's own" in what for what in missing)
