"""Other languages: the kernel of Lua, and kernels of Jupyter's kernelspecs, through the same routes and clients."""

import json
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from jupyter_kernel_client import JupyterKernelClient

from support.wait import until
from support.wire import Channels
from test_stock import hang_up, words_for

pytestmark = pytest.mark.runner

IPYTHON = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
SPECS = {
    "signalled": {"argv": IPYTHON, "display_name": "By signal", "language": "python", "env": {"OF_THE_SPEC": "yes"}},
    "messaged": {"argv": IPYTHON, "display_name": "By message", "language": "python", "interrupt_mode": "message"},
    "ghost": {"argv": ["/nowhere/kernel", "{connection_file}"], "display_name": "Ghost", "language": "none"},
    "dying": {"argv": ["/bin/sh", "-c", "echo this kernel is broken >&2; exit 3"], "display_name": "Dying", "language": "none"},
    "mute": {"argv": ["/bin/sh", "-c", "sleep 600"], "display_name": "Mute", "language": "none"},
    "forbidden": {"argv": IPYTHON, "display_name": "Forbidden", "language": "python"},
}
ALLOWED = "signalled messaged ghost dying mute calysto_scheme"
#: Where it does not matter which.
FOREIGN = "signalled"


def settings(folder, **more):
    for name, spec in SPECS.items():
        place = Path(folder) / "kernels" / name
        place.mkdir(parents=True, exist_ok=True)
        (place / "kernel.json").write_text(json.dumps(spec))
    logo = Path(folder) / "kernels" / "signalled" / "logo-64x64.png"
    logo.write_bytes(b"\x89PNG of the spec")
    return {"JUPYTER_PATH": str(folder), "SESSION_KERNELSPECS": ALLOWED, **more}


@pytest.fixture(scope="module")
def several(request, tmp_path_factory):
    """A server with all of them."""
    from support.target import TARGETS

    server = TARGETS[request.config.getoption("target")](settings(tmp_path_factory.mktemp("jupyter")))
    yield server
    words = server.last_words()
    server.stop()
    assert "panicked" not in words, words


@pytest.fixture
def begin(several):
    """Starts kernels, and gives clients of them."""
    clients = []

    def start(name, **more):
        kernel = several.start_kernel(name=name)
        client = Channels(several, kernel, **more)
        client.kernel = kernel
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.close()
        several.end_kernel(client.kernel)


def result(answer):
    (shown,) = answer.of("execute_result")
    return shown["data"]["text/plain"]


# --- kernelspecs --------------------------------------------------------


def test_all_that_are_allowed_are_listed(several):
    told = several.request("GET", "/api/kernelspecs").json()
    assert told["default"] == "python3"
    assert set(told["kernelspecs"]) == {*ALLOWED.split(), "python3", "lua"}
    lua = told["kernelspecs"]["lua"]
    assert lua["spec"]["language"] == "lua" and lua["spec"]["display_name"] == "Lua 5.4 (runner)"
    messaged = told["kernelspecs"]["messaged"]
    assert messaged["name"] == "messaged"
    assert messaged["spec"]["interrupt_mode"] == "message" and messaged["spec"]["argv"] == IPYTHON
    one = several.request("GET", "/api/kernelspecs/messaged")
    assert one.json() == messaged


def test_pictures_of_kernelspecs(several):
    resources = several.request("GET", "/api/kernelspecs/signalled").json()["resources"]
    assert set(resources) == {"logo-64x64"}
    picture = several.request("GET", resources["logo-64x64"])
    assert picture.content == b"\x89PNG of the spec" and picture.headers["Content-Type"] == "image/png"
    for path in ("signalled/kernel.json", "signalled/..%2Fkernel.json", "lua/logo-64x64.png", "nowhere/logo-64x64.png"):
        assert several.request("GET", f"/api/kernelspecs/{path}").status_code == 404


@pytest.mark.parametrize("name", ["forbidden", "no-such-language", "../lua", "LUA "])
def test_unknown_kernelspecs_are_refused(several, name):
    answer = several.request("POST", "/api/kernels", json={"name": name})
    assert answer.status_code == 404
    assert name in answer.json()["message"] and "lua" in answer.json()["message"]


def test_none_of_jupyter_are_there_unless_allowed(target):
    assert set(target.request("GET", "/api/kernelspecs").json()["kernelspecs"]) == {"python3", "lua"}


# --- Lua ----------------------------------------------------------------


def test_a_stock_client_runs_lua(several):
    with JupyterKernelClient(**words_for(several), kernel_id=several.start_kernel(name="lua")) as client:
        told = client.execute("x = 20\nprint('hello')\nio.stderr:write('careful\\n')\nx + 1")
        assert told["status"] == "ok" and told["execution_count"] == 1
        kinds = {(one["output_type"], one.get("name")) for one in told["outputs"]}
        assert kinds == {("stream", "stdout"), ("stream", "stderr"), ("execute_result", None)}
        assert told["outputs"][-1]["data"]["text/plain"] == "21"
        assert client.execute("x")["execution_count"] == 2
        (error,) = client.execute("local t\n\nprint(t.x)")["outputs"]
        assert error["ename"] == "Error" and error["evalue"].startswith("cell 3:3: attempt to index a nil value")
        assert any("cell 3:3" in line for line in error["traceback"])
        assert client.kernel_info["language_info"]["name"] == "lua"
        id = client.id
        hang_up(client)
    several.end_kernel(id)


def test_lua_keeps_the_rules_of_requests(begin):
    client = begin("lua")
    told = client.run("y = 1", user_expressions={"good": "y + 1", "bad": "nowhere.x"})
    assert told.reply.content["payload"] == []
    assert told.reply.content["user_expressions"]["good"]["data"]["text/plain"] == "2"
    assert told.reply.content["user_expressions"]["bad"]["status"] == "error"
    assert [one.kind for one in told.told] == ["status", "execute_input", "status"]
    silent = client.run("y = 2; print('unheard')", silent=True)
    assert [one.kind for one in silent.told] == ["status", "status"]
    assert client.run("y").reply.content["execution_count"] == 2
    assert client.run("y", store_history=False).reply.content["execution_count"] == 3
    past = client.ask("history_request", {"hist_access_type": "tail", "n": 5, "output": False, "raw": True})
    assert [line[1:] for line in past.reply.content["history"]] == [[1, "y = 1"], [2, "y"]]
    assert client.ask("is_complete_request", {"code": "for i = 1, 2 do"}).reply.content["status"] == "incomplete"
    found = client.ask("complete_request", {"code": "string.rev", "cursor_pos": 10}).reply.content
    assert found["matches"] == ["reverse"] and (found["cursor_start"], found["cursor_end"]) == (7, 10)
    told = client.ask("inspect_request", {"code": "y", "cursor_pos": 1}).reply.content
    assert told["found"] and "integer" in told["data"]["text/plain"]
    assert client.ask("comm_info_request").reply.content == {"status": "ok", "comms": {}}
    assert client.ask("no_such_request").reply.content["status"] == "error"
    assert client.ask("execute_request", {"code": 1}).reply.content["status"] == "error"
    assert client.run("1").status == "ok"


def test_what_is_queued_behind_a_failed_cell_of_lua_is_not_run(begin):
    client = begin("lua")
    slow = client.execute("print('begun'); local t = os.clock(); while os.clock() - t < 0.5 do end; error('no')")
    client.until("its begin", lambda message: message.kind == "stream")
    behind = client.execute("ran = true")
    assert client.answer(slow).status == "error"
    assert client.answer(behind).status == "aborted"
    assert result(client.run("ran")) == "nil"


def test_lua_asks_its_client(begin):
    client = begin("lua")
    request = client.execute("io.write('name? ')\nlocal name = io.read()\nprint('hello ' .. name)", allow_stdin=True)
    came = client.until("the question", lambda message: message.kind == "input_request")
    assert "name? " in "".join(one.content["text"] for one in came if one.kind == "stream")
    client.send("input_reply", {"value": "Ada"}, channel="stdin", parent=came[-1].header)
    assert client.answer(request).text().endswith("hello Ada\n")
    refused = client.run("io.read()", allow_stdin=False)
    assert "takes no questions" in refused.reply.content["evalue"]
    asking = client.execute("io.read()", allow_stdin=True)
    client.until("the question", lambda message: message.kind == "input_request")
    several_interrupt(client)
    assert client.answer(asking).reply.content["ename"] == "Interrupt"


def several_interrupt(client):
    client.send("interrupt_request", {}, channel="control")


@pytest.mark.parametrize(
    "loop",
    ["while true do end", "while true do pcall(function() while true do end end) end", "while true do print(1) end"],
)
def test_endless_loops_of_lua_are_interrupted(begin, loop):
    client = begin("lua")
    request = client.execute("print('on')\n" + loop)
    client.until("its begin", lambda message: message.kind == "stream")
    several_interrupt(client)
    told = client.answer(request)
    assert told.status == "error" and told.reply.content["ename"] == "Interrupt"
    assert result(client.run("'goes on'")) == "goes on"


def test_lua_has_its_folder_and_displays(several, begin):
    client = begin("lua")
    code = "local f = io.open('out.txt', 'w'); f:write('from Lua'); f:close()\nrunner.display{['text/html'] = '<b>1</b>'}"
    (shown,) = client.run(code).of("display_data")
    assert shown["data"] == {"text/html": "<b>1</b>"}
    files = f"/api/kernels/{client.kernel}/files"
    assert several.request("GET", f"{files}/out.txt").text == "from Lua"
    assert several.request("PUT", f"{files}/own.lua", data="return {twice = function(x) return 2 * x end}").status_code == 204
    assert result(client.run("require('own').twice(21)")) == "42"
    assert client.run("os.execute('echo from a program')").text() == "from a program\n"


def test_lua_has_so_much_memory(start_target):
    server = start_target({"SESSION_MEMORY": str(256 << 20)})
    with Channels(server, server.start_kernel(name="lua")) as client:
        client.run("kept = 1")
        told = client.run("local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end")
        assert told.reply.content["ename"] == "MemoryError" and "SESSION_MEMORY" in told.reply.content["evalue"]
        assert result(client.run("kept")) == "1"


def test_much_output_of_lua_comes_completely(begin):
    client = begin("lua")
    told = client.run("for i = 1, 20000 do print(i, 'ä') end")
    assert told.text() == "".join(f"{i}\tä\n" for i in range(1, 20001))


def test_lua_starts_within_milliseconds(several, begin, capsys):
    begin("lua").run("1")
    spans = []
    for _ in range(20):
        at = time.perf_counter()
        client = begin("lua")
        assert result(client.run("6 * 7")) == "42"
        spans.append(time.perf_counter() - at)
    spans.sort()
    with capsys.disabled():
        print(f"\nLua, request to first result: p50 {spans[10] * 1000:.1f} ms, max {spans[-1] * 1000:.1f} ms")
    assert spans[10] < 1


# --- kernels of Jupyter -------------------------------------------------


@pytest.mark.parametrize("name", ["signalled", "messaged"])
def test_a_stock_client_runs_a_kernel_of_jupyter(several, name):
    with JupyterKernelClient(**words_for(several), kernel_id=several.start_kernel(name=name)) as client:
        told = client.execute("import os\nprint('hello', os.environ.get('OF_THE_SPEC')); 6 * 7")
        assert told["status"] == "ok" and told["execution_count"] == 1
        printed, shown = told["outputs"]
        assert printed["text"] == ("hello yes\n" if name == "signalled" else "hello None\n")
        assert shown["data"]["text/plain"] == "42"
        (error,) = client.execute("1 / 0")["outputs"]
        assert error["ename"] == "ZeroDivisionError"
        assert client.kernel_info["implementation"] == "ipython"

        def answer(message):
            client._manager.client.input("Ada")

        told = client.execute("print('hello', input('name? '))", allow_stdin=True, stdin_hook=answer)
        assert told["outputs"][-1]["text"] == "hello Ada\n"
        id = client.id
        hang_up(client)
    model = several.request("GET", f"/api/kernels/{id}").json()
    assert model["name"] == name
    several.end_kernel(id)


def test_scheme(begin):
    client = begin("calysto_scheme")
    assert result(client.run("(define (square x) (* x x))\n(square 12)")) == "144"
    assert result(client.run("(square 3)")) == "9"
    failed = client.run("(nowhere 1)")
    assert failed.status == "error" or failed.of("error") or failed.text("stderr"), failed
    assert result(client.run("(+ 1 1)")) == "2"
    info = client.ask("kernel_info_request").reply.content
    assert info["language_info"]["name"] == "scheme"
    found = client.ask("complete_request", {"code": "(squ", "cursor_pos": 4}).reply.content
    assert "square" in found["matches"]


@pytest.mark.parametrize("name", ["signalled", "messaged"])
def test_kernels_of_jupyter_are_interrupted(begin, name):
    client = begin(name)
    for loop in ("import time\ntime.sleep(600)", "while True: pass"):
        request = client.execute("print('on', flush=True)\n" + loop)
        client.until("its begin", lambda message: message.kind == "stream")
        several_interrupt(client)
        told = client.answer(request)
        assert told.reply.content["ename"] == "KeyboardInterrupt"
    assert client.run("print('goes on')").text() == "goes on\n"


@pytest.mark.parametrize("name", ["lua", FOREIGN])
def test_a_restart_forgets_and_keeps_language_and_folder(several, begin, name):
    code, look, nothing = {
        "lua": ("x = 1; io.open('kept.txt', 'w'):write('1'):close()", "x", "nil"),
        FOREIGN: ("x = 1; open('kept.txt', 'w').write('1')", "globals().get('x', 'nothing')", "'nothing'"),
    }[name]
    client = begin(name)
    assert client.run(code).status == "ok"
    model = several.request("POST", f"/api/kernels/{client.kernel}/restart").json()
    assert model["name"] == name
    again = client.run(look)
    assert result(again) == nothing and again.reply.content["execution_count"] == 1
    assert several.request("GET", f"/api/kernels/{client.kernel}/files/kept.txt").text == "1"


def test_replies_come_before_idle(begin):
    client = begin(FOREIGN)
    for number in range(50):
        request = client.execute(f"print({number})")
        came = client.until("idle", lambda message: message.is_for(request) and message.state == "idle")
        assert any(one.kind == "execute_reply" and one.is_for(request) for one in came)


def test_much_output_of_a_kernel_of_jupyter_comes_completely(begin):
    client = begin(FOREIGN)
    told = client.run("for i in range(2000): print(i, flush=True)")
    assert told.text() == "".join(f"{i}\n" for i in range(2000))


def test_buffers_and_comms_pass_in_both_directions(begin):
    client = begin(FOREIGN)
    code = """
import comm
def opened(channel, message):
    channel.on_msg(lambda m: channel.send({'size': len(m['buffers'][0])}, buffers=[bytes(m['buffers'][0])[::-1]]))
comm.get_comm_manager().register_target('echo', opened)"""
    assert client.run(code).status == "ok"
    client.send("comm_open", {"comm_id": "c1", "target_name": "echo", "data": {}})
    client.send("comm_msg", {"comm_id": "c1", "data": {}}, buffers=[b"\0abc"])
    said = client.until("the echo", lambda message: message.kind == "comm_msg")[-1]
    assert said.content["data"] == {"size": 4} and bytes(said.buffers[0]) == b"cba\0"


@pytest.mark.parametrize("name", ["lua", FOREIGN])
def test_a_kernel_that_dies_is_replaced_and_who_waits_is_told(begin, name):
    client = begin(name)
    code = {"lua": "print('last'); os.exit(7)", FOREIGN: "import os; print('last', flush=True); os._exit(7)"}[name]
    told = client.run(code)
    assert told.reply.content["ename"] == "KernelDied" and "7" in told.reply.content["evalue"]
    client.until("the new one", lambda message: message.state == "idle" and not message.parent)
    assert client.run({"lua": "print('new')", FOREIGN: "print('new')"}[name]).text() == "new\n"


@pytest.mark.parametrize(
    "name, status, why",
    [("ghost", 500, "there is no program /nowhere/kernel"), ("dying", 503, "this kernel is broken")],
)
def test_kernels_that_do_not_start_say_why(several, name, status, why):
    answer = several.request("POST", "/api/kernels", json={"name": name})
    assert answer.status_code == status
    assert why in answer.text
    assert name not in {one["name"] for one in several.kernels()}
    # Others are not touched.
    several.end_kernel(several.start_kernel(name="lua"))


def test_a_kernel_that_never_answers_is_given_up(start_target, tmp_path):
    server = start_target(settings(tmp_path, SESSION_KERNEL_START="1"))
    answer = server.request("POST", "/api/kernels", json={"name": "mute"})
    assert answer.status_code == 503
    assert "mute did not answer within 1 s (SESSION_KERNEL_START)" in answer.text
    until("its end", lambda: not any("sleep" in command(one) for one in server.processes()))


def command(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_kernels_see_nothing_of_each_other_and_no_network(several, begin):
    secret = begin("lua")
    assert secret.run("io.open('secret.txt', 'w'):write('secret'):close()").status == "ok"
    where = secret.run("io.popen('pwd'):read('a')")
    folder = result(where).strip()
    other = begin("lua")
    assert result(other.run(f"io.open('{folder}/secret.txt')")).startswith("nil")
    assert result(other.run(f"io.open('{folder}/new.txt', 'w')")).startswith("nil")
    foreign = begin(FOREIGN)
    code = f"""
import glob, os, socket
def failing(what):
    try:
        what()
    except OSError as error:
        return type(error).__name__
    return 'fine'
print(failing(lambda: open('{folder}/secret.txt')), failing(lambda: os.listdir('{folder}')))
print(failing(lambda: socket.create_connection(('1.1.1.1', 53), timeout=5)))
try:
    known = [line.split()[-1] for line in open('/proc/self/net/unix') if '.kernel' in line]
except PermissionError:
    known = []
print(all(not path.startswith('/') for path in known))
print(glob.glob('.kernel/*'))"""
    lines = foreign.run(code).text().splitlines()
    assert lines[0] in ("PermissionError PermissionError", "FileNotFoundError FileNotFoundError")
    assert lines[1] != "fine"
    assert lines[2:] == ["True", "[]"], "the sockets are removed, and nobody learns where they were"


@pytest.mark.parametrize("name", ["lua", "signalled", "messaged"])
def test_nothing_is_left_of_a_kernel_that_is_ended(several, begin, name):
    before = {one.pid for one in several.processes()}
    kernel = several.start_kernel(name=name)
    with Channels(several, kernel) as client:
        code = {"lua": "os.execute('sleep 601 &')"}.get(name, "import subprocess; p = subprocess.Popen(['sleep', '601'], start_new_session=True)")
        assert client.run(code).status == "ok"
        client.execute({"lua": "while true do end"}.get(name, "while True: pass"))
        several.end_kernel(kernel)

    def left():
        return [command(one) for one in several.processes() if one.pid not in before]

    own = ("sleep 601", "lua-kernel", "kernel-bridge", "ipykernel")
    until("the end of all its processes", lambda: not any(word in line for line in left() for word in own))


def test_a_session_remembers_its_language_when_the_runner_comes_again(start_target, tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    server = start_target(settings(tmp_path / "jupyter"), folder=folder)
    kernel = server.start_kernel(name="lua")
    with Channels(server, kernel) as client:
        assert result(client.run("1")) == "1"
    server.stop()
    server = start_target(settings(tmp_path / "jupyter"), folder=folder)
    assert server.request("GET", f"/api/kernels/{kernel}").json()["name"] == "lua"
    with Channels(server, kernel) as client:
        assert result(client.run("6 // 4")) == "1", "it is Lua again"


def test_an_unknown_id_begins_the_default_language(several):
    kernel = "0b3e7a0c-5bb1-4f1d-9d53-6f2f4c1d8c77"
    with Channels(several, kernel) as client:
        assert client.ask("kernel_info_request").reply.content["language_info"]["name"] == "python"
    assert several.request("GET", f"/api/kernels/{kernel}").json()["name"] == "python3"
    several.end_kernel(kernel)


def test_a_slow_reader_holds_up_a_kernel_of_jupyter_which_goes_on_then(begin, several):
    client = begin(FOREIGN, queue=1)
    request = client.execute("for i in range(400): print(str(i) * 20000, flush=True)")
    time.sleep(2)
    told = client.answer(request, seconds=120)
    text = told.text()
    assert told.status == "ok"
    assert text.startswith("0" * 20000 + "\n1") and len(text) > 1 << 20


def test_many_languages_at_once(several, begin):
    """Threads of one test ask for kernels of all kinds together."""
    problems = []

    def one(name, code, expected):
        try:
            client = begin(name)
            assert result(client.run(code)) == expected
        except Exception as error:
            problems.append(f"{name}: {error!r}")

    kinds = [("lua", "1 + 1", "2"), ("python3", "1 + 1", "2"), (FOREIGN, "1 + 1", "2")]
    threads = [threading.Thread(target=one, args=kinds[index % 3]) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems


def test_foreign_kernels_start_in_time(several, begin, capsys):
    spans = []
    for _ in range(3):
        at = time.perf_counter()
        client = begin(FOREIGN)
        assert result(client.run("6 * 7")) == "42"
        spans.append(time.perf_counter() - at)
    with capsys.disabled():
        print(f"\nipykernel over ZeroMQ, request to first result: {', '.join(f'{span * 1000:.0f} ms' for span in spans)}")
