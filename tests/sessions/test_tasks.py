"""`runner.run` in the cells of a session."""

import json
import sys
import venv
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from support.target import Runner
from support.wait import until
from support.wire import Channels

pytestmark = pytest.mark.runner


@pytest.fixture(scope="module", params=["ipython", "plain"])
def server(request):
    """A server whose kernels have IPython, and one whose kernels have not."""
    settings = {}
    if request.param == "plain":
        empty = Path(sys.prefix, "plain")
        if not empty.exists():
            venv.create(empty)
        settings["SESSION_PYTHON"] = str(empty / "bin/python")
    started = Runner(settings)
    started.implementation = {"ipython": "ipython", "plain": "runner"}[request.param]
    yield started
    started.stop()


@pytest.fixture
def cell(server):
    """A client of a fresh kernel on it."""
    kernel = server.start_kernel()
    with Channels(server, kernel) as client:
        client.kernel = kernel
        assert client.ask("kernel_info_request").reply.content["implementation"] == server.implementation
        assert client.run("import json, runner; from pathlib import Path").status == "ok"
        yield client
    server.end_kernel(kernel)


def value(cell, code):
    """What a cell prints, as JSON."""
    answer = cell.run(code)
    assert answer.status == "ok", answer.reply.content
    return json.loads(answer.text().splitlines()[-1])


def tasks_of(server, kernel):
    return server.request("GET", f"/tasks/?label=session%20{kernel}").json()["tasks"]


@pytest.mark.parametrize("name", ["shout", "shout@1.0.0"])
def test_a_plugin_runs_and_its_outputs_are_files_of_the_session(server, cell, name):
    told = value(
        cell,
        f"result = runner.run({name!r}, inputStr='hello')\nout = result.output('out.txt')\n"
        "print(json.dumps([result.status, result.log, out.text(), str(out.path), out.data_type, out.content_type, out.size, out.url]))",
    )
    status, log, text, path, data_type, content_type, size, url = told
    assert (status, text, data_type, content_type, size) == ("SUCCESS", "HELLO", "custom/shout", "text/plain", 5)
    assert log.endswith("done")
    (task,) = tasks_of(server, cell.kernel)
    assert path == f"outputs/{task['id']}/out.txt"
    got = server.request("GET", f"/api/kernels/{cell.kernel}/files/{path}")
    assert got.text == "HELLO"
    assert server.request("GET", url.removeprefix(server.url), token=False).text == "HELLO"


def test_files_go_to_plugins_in_every_form(cell):
    cell.run("open('mine.txt', 'w').write('abc')")
    for given, name, text in [
        ("Path('mine.txt')", "mine.txt", "cba"),
        ("Path('mine.txt').absolute()", "mine.txt", "cba"),
        ("open('mine.txt')", "mine.txt", "cba"),
        ("b'xyz'", "given", "zyx"),
        ("__import__('io').StringIO('pq')", "given", "qp"),
    ]:
        code = f"outputs = runner.run('reverse', file={given}, word='!').outputs\n"
        told = value(cell, code + "print(json.dumps([[o.name, o.text(), str(o.path)] for o in outputs]))")
        assert [one[:2] for one in told] == [[name, text + "!"], [name, "twin"]], given
        assert told[0][2] != told[1][2]
    # One that plugins know by its URL, and one that came from another.
    assert value(cell, "print(json.dumps(runner.run('weigh', data=Path('mine.txt')).outputs[0].json()))") == {"name": "mine.txt", "size": 3}
    assert value(cell, "print(json.dumps(runner.run('weigh', data=outputs[0].url).outputs[0].json()['size']))") == 3
    assert value(cell, "import os; print(json.dumps(os.listdir('.tmp/given')))") == []


def test_a_failure_is_raised_with_the_log(cell):
    answer = cell.run("runner.run('clumsy')")
    assert answer.reply.content["ename"] == "TaskFailed"
    assert "wrong on purpose" in answer.reply.content["evalue"]
    assert "before the fall" in answer.text()
    code = "try:\n    runner.run('clumsy')\nexcept runner.TaskFailed as error:\n    print(json.dumps([error.log, error.result.status]))"
    log, status = value(cell, code)
    assert "before the fall" in log and "wrong on purpose" in log and status == "FAILURE"


@pytest.mark.parametrize(
    "call, name, part",
    [
        ("'no such plugin'", "TaskFailed", "no such plugin"),
        ("'shout@9'", "TaskFailed", "shout@9"),
        ("'shout'", "TaskFailed", "inputStr"),
        ("'shout', inputStr=3", "TaskFailed", "inputStr"),
        ("'shout', inputStr='x', more=1", "TaskFailed", "more"),
        ("'reverse', file='a text'", "TaskFailed", "file"),
        ("'weigh', data=Path('../../x')", "FileNotFoundError", "x"),
        ("'shout', inputStr=object()", "TypeError", "JSON"),
        ("'shout', inputStr='x' * (1 << 20)", "ValueError", "1048576"),
        ("'shout', inputStr='x' * 1_000_001", "TaskFailed", "1000000"),
    ],
)
def test_what_makes_no_sense_is_said(cell, call, name, part):
    answer = cell.run(f"runner.run({call})")
    assert answer.reply.content["ename"] == name, answer.reply.content
    assert part in answer.reply.content["evalue"]
    assert cell.run("print(runner.run('shout', input_str='still there').status)").text().endswith("SUCCESS\n")


def test_the_log_is_shown_while_the_task_runs_and_an_interrupt_cancels_it(server, cell):
    request = cell.execute("runner.run('patient')")
    cell.until("its log", lambda message: message.is_for(request) and "it has begun" in message.content.get("text", ""))
    (task,) = tasks_of(server, cell.kernel)
    assert task["status"] == "PENDING"
    server.request("POST", f"/api/kernels/{cell.kernel}/interrupt")
    assert cell.answer(request).reply.content["ename"] == "KeyboardInterrupt"
    until("the end of the task", lambda: tasks_of(server, cell.kernel)[0]["status"] == "FAILURE")
    assert cell.run("print(runner.run('shout', inputStr='x').status)").text().endswith("SUCCESS\n")


def test_progress_is_shown(server, cell):
    request = cell.execute("runner.run('patient')")
    shown = cell.until("progress", lambda message: message.is_for(request) and message.kind == "display_data")[-1]
    assert shown.content["data"]["text/plain"] == "patient: 50 %"
    server.request("POST", f"/api/kernels/{cell.kernel}/interrupt")
    cell.answer(request)


@pytest.mark.parametrize("end", ["session", "kernel", "restart"])
def test_the_end_of_who_waits_cancels_the_task(server, end):
    kernel = server.start_kernel()
    with Channels(server, kernel) as client:
        code = "import runner\nrunner.run('patient')"
        if end == "kernel":
            code = "import runner, os, threading\nthreading.Timer(1, os._exit, [1]).start()\nrunner.run('patient')"
        request = client.execute(code)
        client.until("its log", lambda message: message.is_for(request) and "it has begun" in message.content.get("text", ""))
        if end == "session":
            server.end_kernel(kernel)
        elif end == "restart":
            server.request("POST", f"/api/kernels/{kernel}/restart")
        until("the end of the task", lambda: tasks_of(server, kernel)[0]["status"] == "FAILURE")
    if end != "session":
        server.end_kernel(kernel)


def test_several_threads_run_plugins_at_once_and_too_many_are_told(server, cell):
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(10) as pool:\n"
        "    results = list(pool.map(lambda n: runner.run('shout', inputStr=str(n)).outputs[0].text(), range(30)))\n"
        "print(json.dumps(results))"
    )
    assert value(cell, code) == [str(n) for n in range(30)]
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "import threading\n"
        "def one(_):\n"
        "    try:\n        runner.run('patient')\n    except runner.TaskFailed as error:\n        return str(error)\n"
        "pool = ThreadPoolExecutor(20)\n"
        "many = [pool.submit(one, n) for n in range(17)]\n"
        "print(json.dumps(next(f.result() for f in __import__('concurrent.futures').futures.as_completed(many))))"
    )
    assert "16 plugins" in value(cell, code)
    server.request("POST", f"/api/kernels/{cell.kernel}/restart")
    until("the end of all", lambda: all(task["status"] != "PENDING" for task in tasks_of(server, cell.kernel)))


def test_tasks_that_are_being_made_while_their_kernel_ends_end_as_well(server, cell):
    code = (
        "import os, runner, threading, time\nbegun = threading.Barrier(17)\n"
        "def call():\n    begun.wait()\n    runner.run('patient')\n"
        "for _ in range(16): threading.Thread(target=call, daemon=True).start()\n"
        "begun.wait()\ntime.sleep({})\nos._exit(1)"
    )
    for at in range(20):
        assert cell.run(code.format(at / 1000)).reply.content["ename"] == "KernelDied"
    waiting = f"/tasks/?label=session%20{cell.kernel}&status=PENDING"
    until("the end of all", lambda: server.request("GET", waiting).json()["tasks"] == [])


def test_plugins_are_listed(cell):
    told = {one["identifier"]: one for one in value(cell, "print(json.dumps(runner.plugins()))")}
    assert told["shout@1-0-0"]["parameters"] == ["inputStr"] and "weigh@1-0-0" in told


def test_a_fork_of_a_kernel_does_not_ask(cell):
    code = (
        "import os\nif os.fork() == 0:\n    try:\n        runner.run('shout', inputStr='x')\n"
        "    except RuntimeError as error:\n        print('refused')\n    os._exit(0)\nos.wait()"
    )
    assert "refused" in cell.run(code).text()
    assert cell.run("print(runner.run('shout', inputStr='x').status)").text().endswith("SUCCESS\n")


@pytest.mark.parametrize("line", ["b'nonsense\\n'", "b'x' * (2 << 20)", "b'[]\\n'", "b'{\"id\": 1}\\n'", "b'\\xff\\n'"])
def test_nonsense_on_the_line_to_the_runner_harms_nobody(server, cell, line):
    cell.run(f"import runner.session\ntry:\n    runner.session._line().socket.sendall({line})\nexcept OSError: pass")
    cell.run("try:\n    runner.run('shout', inputStr='x')\nexcept (runner.TaskFailed, OSError) as error:\n    print(error)", seconds=30)
    assert cell.run("print(1)").text() == "1\n"
    assert server.request("GET", f"/api/kernels/{cell.kernel}").status_code == 200


def test_no_client_sees_what_a_kernel_asks(server, cell):
    answer = cell.run("runner.run('shout', inputStr='x'); None")
    kinds = {message.kind for message in answer.told}
    assert kinds <= {"status", "execute_input", "stream"}
    for channel in ("runner", "tasks"):
        with pytest.raises(ConnectionClosed, match="unknown channel"), Channels(server, cell.kernel) as other:
            other.send("run", {"plugin": "shout"}, channel=channel)
            other.run("1")
