"""What sessions of Sage Cell have beyond Jupyter, in kernels of IPython: interacts, new files, other languages."""

import time

import pytest

from support.wait import until
from support.wire import Channels

pytestmark = pytest.mark.runner

ENABLE = "from runner.kernel import sage; sage.enable()"
FILES = {"_sagecell_files": "sys._sage_.new_files()"}
UPDATE = "sagenb.interact.update_interact"
INTERACT = "application/sage-interact"
SLIDER = "@interact\ndef f(n=(1, 10)):\n    print('n is', n)"


@pytest.fixture
def cell(client):
    """A client of a kernel that has it all."""
    assert client.run(ENABLE, silent=True, store_history=False).status == "ok"
    return client


def run(client, code):
    return client.run(code, user_expressions=FILES)


def update(client, id, values, **more):
    content = {"interact_id": id, "values": values, "update_last": False, "user_expressions": FILES, **more}
    return client.ask(UPDATE, content)


def shown(answer, mime):
    return [content["data"][mime] for content in answer.of("display_data") if mime in content["data"]]


def made(client, code):
    """The id of the interact that a cell makes."""
    answer = run(client, code)
    assert answer.status == "ok", answer.reply.content
    return shown(answer, INTERACT)[0]["new_interact_id"]


def marks(answer, kind):
    return [message.metadata.get("interact_id") for message in answer.told if message.kind == kind]


def test_enabling_shows_nothing_and_is_cheap(client):
    answer = client.run(ENABLE, silent=True, store_history=False)
    assert [message.kind for message in answer.told] == ["status", "status"]
    loaded = "set(__import__('sys').modules)"
    answer = client.run(f"before = {loaded}\n{ENABLE}\nprint({loaded} - before)")
    assert answer.text() == "set()\n"
    assert client.run("%who").text().split() == ["before"]


def test_an_interact_is_shown_and_answers(cell):
    answer = run(cell, SLIDER)
    (described,) = shown(answer, INTERACT)
    assert described["controls"]["n"]["control_type"] == "slider"
    assert described["layout"] == [[["n", 1]], [["_output", 1]]]
    assert marks(answer, "stream") == [described["new_interact_id"]]
    answer = update(cell, described["new_interact_id"], {"n": 7})
    assert answer.reply.kind == UPDATE + "_reply"
    assert answer.text() == "n is 7\n"
    assert marks(answer, "stream") == [described["new_interact_id"]]
    assert shown(answer, "application/sage-clear") == [{"changed": ["n"]}]
    assert answer.reply.content["payload"] == []
    assert answer.reply.content["user_expressions"]["_sagecell_files"]["data"]["text/plain"] == "[]"


def test_both_forms_of_messages_carry_it(target, kernel, form):
    with Channels(target, kernel, form) as client:
        client.run(ENABLE, silent=True)
        assert update(client, made(client, SLIDER), {"n": 3}).text() == "n is 3\n"


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"n": "seven"}, "n: a number was expected, not 'seven'"),
        ({"n": [7]}, "n: a number was expected"),
        ({"n": None}, "n: a number was expected"),
        ({"n": {"deep": {}}}, "n: a number was expected"),
        ({"n": 2, "m": 2}, "interact f has no control 'm'"),
        ([7], "`values` is to be an object"),
        ("x" * 100_000, "`values` is to be an object"),
    ],
)
def test_values_of_the_wrong_kind_change_nothing(cell, values, why):
    id = made(cell, SLIDER)
    answer = update(cell, id, values)
    assert (answer.status, answer.reply.content["ename"]) == ("error", "ValueError")
    assert why in answer.reply.content["evalue"]
    assert len(answer.reply.content["evalue"]) < 300
    assert [message.kind for message in answer.told] == ["status", "status"]
    assert update(cell, id, {}, update_last=True).text() == "n is 1\n"


@pytest.mark.parametrize("id", ["nobody", "", None, 5, ["a"], "x" * 100_000])
def test_an_unknown_interact_is_an_error_of_the_reply(cell, id):
    answer = update(cell, id, {"n": 7})
    assert answer.status == "error"
    assert "this session has no interact" in answer.reply.content["evalue"]
    assert answer.reply.content["payload"] == []
    assert run(cell, "print('on')").text() == "on\n"


def test_interacts_of_other_sessions_are_unknown(target, cell):
    id = made(cell, SLIDER)
    other = target.start_kernel()
    try:
        with Channels(target, other) as client:
            client.run(ENABLE, silent=True)
            assert "has no interact" in update(client, id, {"n": 7}).reply.content["evalue"]
    finally:
        target.end_kernel(other)


def test_where_nothing_is_enabled_an_update_harms_nothing(client):
    request = client.send(UPDATE, {"interact_id": "nobody", "values": {}})
    client.until("idle", lambda message: message.is_for(request) and message.state == "idle")
    assert client.run("print('on')").text() == "on\n"


def test_a_function_that_raises_is_shown_where_it_stands(cell):
    answer = run(cell, "@interact\ndef f(n=[0, 1]):\n    print(1 / n)\nprint('on')")
    id = shown(answer, INTERACT)[0]["new_interact_id"]
    assert (answer.status, answer.text()) == ("ok", "on\n")
    assert [content["ename"] for content in answer.of("error")] == ["ZeroDivisionError"]
    assert marks(answer, "error") == [id]
    trace = "\n".join(answer.of("error")[0]["traceback"])
    assert "interact.py" not in trace and "ipython.py" not in trace
    assert update(cell, id, {"n": 1}).text() == "1.0\n"
    answer = update(cell, id, {"n": 0})
    assert (answer.status, answer.reply.content["ename"]) == ("error", "ZeroDivisionError")
    assert marks(answer, "error") == [id]


def test_updates_wait_while_a_cell_runs_and_each_runs(target, kernel, cell):
    id = made(cell, SLIDER)
    busy = cell.execute("print('begun', flush=True)\nwhile not os.path.exists('go'): pass")
    cell.until("it runs", lambda message: message.content.get("text") == "begun\n")
    requests = [cell.send(UPDATE, {"interact_id": id, "values": {"n": n}}) for n in (2, 3, 4)]
    last = cell.execute("print('last')")
    assert target.request("PUT", f"/api/kernels/{kernel}/files/go", data=b"").status_code in (200, 201, 204)
    cell.answer(busy)
    assert [cell.answer(request).text() for request in requests] == ["n is 2\n", "n is 3\n", "n is 4\n"]
    assert cell.answer(last).text() == "last\n"


def test_an_endless_function_is_interrupted(target, kernel, cell):
    id = made(cell, "@interact\ndef f(go=False):\n    while go: print('more and more')")
    request = cell.send(UPDATE, {"interact_id": id, "values": {"go": True}})
    cell.until("it prints", lambda message: "more" in message.content.get("text", ""))
    assert target.request("POST", f"/api/kernels/{kernel}/interrupt").status_code == 204
    assert cell.answer(request).reply.content["ename"] == "KeyboardInterrupt"
    assert run(cell, "print('on')").text() == "on\n"
    assert update(cell, id, {"go": False}).status == "ok"


def test_the_output_of_an_update_has_the_limit_of_a_cell(start_target):
    target = start_target({"SESSION_CELL_OUTPUT": "10000"})
    with Channels(target, target.start_kernel()) as client:
        client.run(ENABLE, silent=True)
        id = made(client, "@interact\ndef f(go=False):\n    if go: print('x' * 200_000)")
        answer = update(client, id, {"go": True})
        assert answer.status == "ok"
        assert "more output than is shown" in answer.text("stderr")
        assert any("download" in data for data in shown(answer, "text/html"))


def test_figures_belong_to_the_interact_that_drew_them(cell):
    code = "import matplotlib.pyplot as plt\n@interact\ndef f(n=(1, 5)):\n    plt.plot([n, 2])\n"
    answer = run(cell, code)
    assert answer.status == "ok", answer.reply.content
    id = shown(answer, INTERACT)[0]["new_interact_id"]
    for drawn in (answer, update(cell, id, {"n": 3})):
        pictures = [message for message in drawn.told if "image/png" in message.content.get("data", {})]
        assert [message.metadata.get("interact_id") for message in pictures] == [id]
    answer = run(cell, "plt.plot([1, 2])\n@interact\ndef g(n=5): print(n)")
    pictures = [message for message in answer.told if "image/png" in message.content.get("data", {})]
    assert [message.metadata.get("interact_id") for message in pictures] == [None]


def test_interacts_outlive_a_client(target, kernel):
    with Channels(target, kernel) as client:
        client.run(ENABLE, silent=True)
        id = made(client, SLIDER)
    with Channels(target, kernel) as client:
        assert update(client, id, {"n": 5}).text() == "n is 5\n"


def test_new_files_are_told_once_and_can_be_fetched(target, kernel, cell):
    answer = run(cell, "for name in ('made.txt', 'a b.txt', 'ü %25.txt'): open(name, 'w').write('by the cell')")
    assert answer.reply.content["payload"] == [{"new_files": ["a b.txt", "made.txt", "ü %25.txt"]}]
    assert "made.txt" in answer.reply.content["user_expressions"]["_sagecell_files"]["data"]["text/plain"]
    got = target.request("GET", f"/api/kernels/{kernel}/files/a%20b.txt")
    assert got.text == "by the cell"
    assert run(cell, "1").reply.content["payload"] == []
    answer = run(cell, "os.remove('made.txt'); open('a b.txt', 'a').write('more')")
    assert answer.reply.content["payload"] == [{"new_files": ["a b.txt"]}]


def test_what_a_client_puts_there_is_new_as_well(target, kernel, cell):
    assert target.request("PUT", f"/api/kernels/{kernel}/files/given.txt", data=b"x").status_code in (200, 201, 204)
    assert run(cell, "1").reply.content["payload"] == [{"new_files": ["given.txt"]}]


def test_files_of_an_interact_come_with_its_reply(cell):
    id = made(cell, "@interact\ndef f(n=(1, 5)):\n    open(f'{n}.txt', 'w').close()")
    assert update(cell, id, {"n": 3}).reply.content["payload"] == [{"new_files": ["3.txt"]}]


def test_ten_thousand_files_are_told_in_one_reply(cell):
    answer = run(cell, "for n in range(10_000): open(f'{n:05}.txt', 'w').close()")
    (payload,) = answer.reply.content["payload"]
    assert len(payload["new_files"]) == 10_000
    begun = time.monotonic()
    assert run(cell, "1").reply.content["payload"] == []
    assert time.monotonic() - begun < 2


def test_help_in_a_pager_and_files_share_the_payload(cell):
    (payload,) = run(cell, "open('x', 'w').close()\nprint?").reply.content["payload"]
    assert payload["new_files"] == ["x"]
    assert "text/plain" in payload["data"]


def test_html_is_shown(cell):
    answer = run(cell, 'html("""<b>bold</b>""")')
    assert shown(answer, "text/html") == ["<b>bold</b>"]
    assert answer.of("execute_result") == []


def test_other_languages_come_wrapped(cell):
    assert run(cell, 'print(sh.eval("""echo $((6 * 7))"""))').text() == "42\n"
    answer = run(cell, 'print(nothing.eval("""1"""))')
    assert answer.reply.content["ename"] == "NameError"


def test_a_shell_that_waits_for_ever_is_interrupted(target, kernel, cell):
    request = cell.execute('print("begun", flush=True); sh.eval("touch begun; sleep 600")')
    cell.until("it runs", lambda message: message.content.get("text") == "begun\n")
    until("the shell runs", lambda: target.request("GET", f"/api/kernels/{kernel}/files/begun").status_code == 200)
    before = len(target.processes())
    assert target.request("POST", f"/api/kernels/{kernel}/interrupt").status_code == 204
    assert cell.answer(request).reply.content["ename"] == "KeyboardInterrupt"
    until("what it started has ended", lambda: len(target.processes()) < before)
    assert run(cell, "print(sh.eval('echo on'))").text() == "on\n"


def test_failed_and_aborted_cells_have_a_payload(cell):
    first, second = cell.execute("import time; time.sleep(0.2); 1/0"), cell.execute("print('not run')")
    assert cell.answer(first).reply.content["payload"] == []
    assert cell.answer(second).reply.content == {"status": "aborted", "payload": []}


def test_the_names_come_back_after_a_reset(cell):
    run(cell, "%reset -f")
    assert run(cell, "interact").reply.content["ename"] == "NameError"
    cell.run(ENABLE, silent=True)
    assert update(cell, made(cell, SLIDER), {"n": 2}).text() == "n is 2\n"
