"""`jupyter_kernel_client` from PyPI, unchanged.

It speaks the plain form. Its other one fails in version 1.0.2 at a line of its own log; the client of JupyterLab in
`services/` speaks that.
"""

import queue
import re
import socket
import threading

import pytest
from jupyter_kernel_client import JupyterKernelClient

from support.wait import until


def words_for(target):
    """How the client gets to the server. The gateway does not know `Bearer`, which it says unless told otherwise."""
    known = {"server_url": target.url, "token": target.token}
    return {**known, "headers": target.authorization} if target.name == "gateway" else known


@pytest.fixture
def python(target):
    """A client that has started its kernel."""
    with JupyterKernelClient(**words_for(target)) as client:
        yield client
        hang_up(client)


def hang_up(client):
    """Ends the connection, so that the thread of the client does not wait 10 s for its own closed socket."""
    if client.has_kernel:
        beneath = client._manager.client
        beneath.kernel_socket.sock.sock.shutdown(socket.SHUT_RDWR)
        beneath.connection_thread.join(5)


def plain(text):
    """Without colours."""
    return re.sub("\x1b\\[[0-9;]*m", "", text)


def ask(python, request, channel="shell"):
    """The content of the reply to a request of the client underneath."""
    return python._manager.client._recv_reply(request, timeout=30, channel=channel)["content"]


def test_a_cell(python):
    told = python.execute("print('hello'); 6 * 7")
    assert told["status"] == "ok"
    assert told["execution_count"] == 1
    printed, result = told["outputs"]
    assert printed == {"output_type": "stream", "name": "stdout", "text": "hello\n"}
    assert result["output_type"] == "execute_result"
    assert result["data"]["text/plain"] == "42"
    assert result["execution_count"] == 1
    assert python.execute("1")["execution_count"] == 2


def test_cells_share_their_names(python):
    python.execute("x = [1]")
    python.execute("x.append(2)")
    assert python.execute("x")["outputs"][0]["data"]["text/plain"] == "[1, 2]"


def test_both_streams(python):
    told = python.execute("import sys\nprint('out')\nsys.stdout.flush()\nprint('err', file=sys.stderr)")
    streams = {(one["name"], one["text"]) for one in told["outputs"]}
    assert streams == {("stdout", "out\n"), ("stderr", "err\n")}


def test_an_error(python):
    told = python.execute("def f():\n    return 1 / 0\nf()")
    assert told["status"] == "error"
    (error,) = told["outputs"]
    assert error["output_type"] == "error"
    assert error["ename"] == "ZeroDivisionError"
    assert error["evalue"] == "division by zero"
    trace = plain("\n".join(error["traceback"]))
    assert "ZeroDivisionError: division by zero" in trace
    assert "----> 3 f()" in trace and "2     return 1 / 0" in trace


def test_a_syntax_error(python):
    (error,) = python.execute("1 +")["outputs"]
    assert error["ename"] == "SyntaxError"


def test_rich_display(python):
    code = """
from IPython.display import HTML, Markdown, display
display(HTML("<b>bold</b>"), Markdown("**bold**"))
class Both:
    def _repr_html_(self): return "<i>both</i>"
    def __repr__(self): return "both"
    def _repr_png_(self): return b"\\x89PNG"
Both()"""
    html, markdown, both = python.execute(code)["outputs"]
    assert html["output_type"] == "display_data"
    assert html["data"]["text/html"] == "<b>bold</b>"
    assert markdown["data"]["text/markdown"] == "**bold**"
    assert both["output_type"] == "execute_result"
    assert both["data"]["text/html"] == "<i>both</i>"
    assert both["data"]["text/plain"] == "both"
    assert both["data"]["image/png"].strip() == "iVBORw=="


def test_a_display_is_updated(python):
    code = """
from IPython.display import display, update_display
handle = display("one", display_id=True)
handle.update("two")"""
    (shown,) = python.execute(code)["outputs"]
    assert shown["data"]["text/plain"] == "'two'"


def test_output_is_cleared(python):
    told = python.execute("from IPython.display import clear_output\nprint('gone')\nclear_output()\nprint('here')")
    assert told["outputs"] == [{"output_type": "stream", "name": "stdout", "text": "here\n"}]


@pytest.mark.parametrize("kind, media", [("png", "image/png"), ("svg", "image/svg+xml")])
def test_a_plot(python, kind, media):
    code = f"""
%matplotlib inline
%config InlineBackend.figure_formats = ['{kind}']
import matplotlib.pyplot as plt
plt.plot([1, 2, 3]);"""
    told = python.execute(code, timeout=90)
    assert told["status"] == "ok", told
    (shown,) = [one for one in told["outputs"] if one["output_type"] == "display_data"]
    assert shown["data"][media].strip().startswith("iVBOR" if kind == "png" else "<?xml")


def test_magics(python):
    python.execute("import math")
    (printed,) = python.execute("%who")["outputs"]
    assert "math" in printed["text"]
    told = python.execute("%%writefile note.txt\nline one")
    assert told["status"] == "ok", told
    assert python.execute("print(open('note.txt').read())")["outputs"][0]["text"] == "line one\n\n"
    told = python.execute("!echo from the shell")
    assert "from the shell" in "".join(one["text"] for one in told["outputs"])


def test_questions_are_answered(python):
    asked = []

    def answer(message):
        asked.append(message["content"])
        python._manager.client.input("secret" if message["content"]["password"] else "Ada")

    code = "import getpass\nname = input('name? ')\nword = getpass.getpass('word? ')\nprint(name, word)"
    told = python.execute(code, allow_stdin=True, stdin_hook=answer)
    assert told["outputs"][-1]["text"] == "Ada secret\n"
    assert asked == [{"prompt": "name? ", "password": False}, {"prompt": "word? ", "password": True}]


def test_questions_are_refused_where_nobody_answers(python):
    told = python.execute("input('name? ')", allow_stdin=False)
    assert told["status"] == "error"
    assert told["outputs"][-1]["ename"] == "StdinNotImplementedError"


def interrupted(python, code):
    """What comes of a cell that is interrupted when it has printed."""
    began, outputs, replies = threading.Event(), [], queue.Queue()

    def hook(message):
        outputs.append((message["header"]["msg_type"], message["content"]))
        if message["header"]["msg_type"] == "stream":
            began.set()

    def run():
        try:
            replies.put(python.execute_interactive(code, output_hook=hook, allow_stdin=False, timeout=60))
        except Exception as error:
            replies.put(error)

    threading.Thread(target=run, daemon=True).start()
    assert began.wait(30)
    python.interrupt()
    reply = replies.get(timeout=60)
    assert isinstance(reply, dict), reply
    return reply["content"], outputs


@pytest.mark.parametrize(
    "code",
    ["import time\nprint('on', flush=True)\ntime.sleep(600)", "print('on', flush=True)\nwhile True: pass"],
    ids=["sleeps", "computes"],
)
def test_a_cell_is_interrupted(python, code):
    reply, outputs = interrupted(python, code)
    assert reply["status"] == "error"
    assert reply["ename"] == "KeyboardInterrupt"
    assert ("error", "KeyboardInterrupt") in [(kind, content.get("ename")) for kind, content in outputs]
    assert python.execute("print('goes on')")["outputs"][0]["text"] == "goes on\n"


def test_restart_forgets(python):
    python.execute("x = 1")
    python.restart()
    client = python._manager.client
    # What is sent in the middle of a restart may be lost, here as with other servers.
    until("the new kernel answers", lambda: ask(python, client.kernel_info())["status"] == "ok")
    told = python.execute("x")
    assert told["outputs"][0]["ename"] == "NameError"
    assert told["execution_count"] == 1


def test_completion(python):
    python.execute("import math")
    found = ask(python, python._manager.client.complete("math.sq", 7))
    assert found["status"] == "ok"
    # Servers differ in how much of the text a match replaces.
    begin, end = found["cursor_start"], found["cursor_end"]
    assert "math.sqrt" in ["math.sq"[:begin] + match + "math.sq"[end:] for match in found["matches"]]
    nothing = ask(python, python._manager.client.complete("no_such_name_at_all", 19))
    assert nothing["matches"] == []


def test_inspection(python):
    python.execute("def f(a, b=2):\n    '''Adds them.'''\n    return a + b")
    found = ask(python, python._manager.client.inspect("f", 1))
    assert found["found"] is True
    told = plain(found["data"]["text/plain"])
    assert "Adds them." in told and "f(a, b=2)" in told
    source = ask(python, python._manager.client.inspect("f", 1, detail_level=1))
    assert "return a + b" in plain(source["data"]["text/plain"])
    nothing = ask(python, python._manager.client.inspect("nowhere", 7))
    assert nothing["status"] == "ok" and nothing["found"] is False


def test_what_is_complete(python):
    client = python._manager.client
    assert ask(python, client.is_complete("1 + 1"))["status"] == "complete"
    more = ask(python, client.is_complete("for x in y:"))
    assert more["status"] == "incomplete" and more["indent"] == "    "
    assert ask(python, client.is_complete("1 +* 1"))["status"] == "invalid"


def test_history(python):
    python.execute("first = 1")
    python.execute("second = 2")
    told = ask(python, python._manager.client.history(hist_access_type="tail", n=2))
    assert [line[2] for line in told["history"]] == ["first = 1", "second = 2"]


def test_expressions_of_the_user(python):
    reply = python.execute_interactive("x = 20", user_expressions={"twice": "2 * x", "bad": "nowhere"}, output_hook=lambda _: None)
    told = reply["content"]["user_expressions"]
    assert told["twice"]["data"]["text/plain"] == "40"
    assert told["bad"]["status"] == "error" and told["bad"]["ename"] == "NameError"


def test_the_payload_is_an_array(python):
    reply = python.execute_interactive("1", output_hook=lambda _: None)
    assert reply["content"]["payload"] == []


def test_silence_counts_nothing(python):
    python.execute("x = 1", silent=True)
    assert python.execute("x")["execution_count"] == 1


def test_variables_by_the_snippets_of_the_client(python):
    # It reads them by silent cells that display.
    python.set_variable("x", {"a": [1, 2]})
    assert python.get_variable("x") == {"a": [1, 2]}
    assert "x" in {one["name"] for one in python.list_variables()}


def test_kernel_info(python):
    info = python.kernel_info
    assert info["status"] == "ok"
    assert info["protocol_version"].startswith("5.")
    assert info["implementation"] == "ipython"
    assert info["language_info"]["name"] == "python"
    assert info["language_info"]["file_extension"] == ".py"
    assert info["banner"]


def test_a_client_joins_a_kernel(target, python):
    python.execute("shared = 'between both'")
    other = JupyterKernelClient(**words_for(target), kernel_id=python.id)
    other.start()
    try:
        assert other.execute("print(shared)")["outputs"][0]["text"] == "between both\n"
    finally:
        hang_up(other)
        other.stop()
    assert python.is_alive(), "a client that joined leaves the kernel as it is"


def test_the_kernels_of_the_server(target, python):
    assert python.id in {one["id"] for one in python.list_kernels()}
    id = python.id
    hang_up(python)
    python.stop()
    assert id not in {one["id"] for one in target.kernels()}


def test_ten_thousand_characters_of_unicode(python):
    text = "ä😀\u2028" * 3333
    told = python.execute(f"print({text!r})")
    assert "".join(one["text"] for one in told["outputs"]) == text + "\n"
