"""Sage Cell's interface, as in `contract/sessions.md` and docs/sage-cell.md."""

import base64
import json
import time
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from support.sage_cell import Plain, SockJs, Xhr, execute, place, short_header, to_json
from support.wait import until
from support.wire import Message

pytestmark = pytest.mark.runner

TERMS = {"accepted_tos": "true"}
ORIGIN = "https://elsewhere.example"


@pytest.fixture(scope="module")
def cell_target(request):
    from support.target import TARGETS

    server = TARGETS[request.config.getoption("target")]({"SAGE_CELL": "on"})
    yield server
    assert server.process.poll() is None, server.last_words()
    server.stop()


def start(target, **words):
    asked = {"CellSessionID": str(uuid.uuid4()), "timeout": "inf", **TERMS, **words}
    answer = target.request("POST", "/kernel", token=False, params=asked, data="{}")
    assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
    return answer.json()


@pytest.fixture
def model(cell_target):
    told = start(cell_target)
    yield told
    cell_target.request("DELETE", f"/kernel/{told['id']}", token=False)


@pytest.fixture(params=[Plain, SockJs, Xhr], ids=["websocket", "SockJS", "xhr"])
def talk(cell_target, model, request):
    """A connection of each kind."""
    client = Plain(model) if request.param is Plain else request.param(cell_target, model["id"])
    yield client
    client.close()


# --- kernels ------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["query", "form", "multipart"])
def test_a_kernel_is_made(cell_target, encoding):
    words = {"CellSessionID": str(uuid.uuid4()), "timeout": "0", **TERMS}
    sent = {
        "query": {"params": words, "data": "{}"},
        "form": {"data": words},
        "multipart": {"files": {name: (None, value) for name, value in words.items()}},
    }[encoding]
    answer = cell_target.request("POST", "/kernel", {"Origin": ORIGIN}, token=False, **sent)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert uuid.UUID(told["id"]).version == 4
    assert told["ws_url"] == cell_target.url.replace("http", "ws", 1) + "/"
    assert answer.headers["Jupyter-Kernel-ID"] == told["id"]
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert cell_target.request("DELETE", f"/kernel/{told['id']}", token=False).status_code == 200


def test_a_kernel_of_another_language(cell_target):
    told = start(cell_target, kernel="lua")
    client = SockJs(cell_target, told["id"])
    seen = client.run("print(_VERSION)")
    assert "".join(one.content["text"] for one in seen if one.kind == "stream").startswith("Lua ")
    client.close()
    cell_target.request("DELETE", f"/kernel/{told['id']}", token=False)


def test_a_kernel_of_a_language_that_is_not_there_is_404(cell_target):
    words = {"CellSessionID": str(uuid.uuid4()), "kernel": "nobody", **TERMS}
    answer = cell_target.request("POST", "/kernel", token=False, data=words)
    assert answer.status_code == 404, answer.text
    assert "nobody" in answer.text


def test_deletion_is_200_also_of_what_is_unknown(cell_target):
    assert cell_target.request("DELETE", f"/kernel/{uuid.uuid4()}", token=False).status_code == 200


def test_the_method_can_be_a_parameter(cell_target, model):
    client = Plain(model)
    client.run("1")
    answer = cell_target.request("POST", f"/kernel/{model['id']}", token=False, params={"method": "DELETE"})
    assert answer.status_code == 200
    client.until("dead", lambda message: message.state == "dead")
    options = cell_target.request("POST", "/kernel", {"Origin": ORIGIN}, token=False, params={"method": "OPTIONS"})
    assert options.status_code in (200, 204)
    assert "id" not in options.text


def test_too_many_of_one_cell_are_429(cell_target):
    words = {"CellSessionID": str(uuid.uuid4()), "timeout": "inf", **TERMS}
    made = []
    try:
        for _ in range(200):
            answer = cell_target.request("POST", "/kernel", token=False, params=words, data="{}")
            if answer.status_code != 200:
                break
            made.append(answer.json()["id"])
        assert answer.status_code == 429
        assert answer.json()["error"] == "too_many_kernels_for_cell_session"
        assert answer.json()["message"]
    finally:
        for id in made:
            cell_target.request("DELETE", f"/kernel/{id}", token=False)


@pytest.mark.parametrize("id", ["nonsense", "..%2f..", "0" * 5000])
def test_files_of_no_kernel_are_404(cell_target, id):
    assert cell_target.request("GET", f"/kernel/{id}/files/x", token=False).status_code in (400, 404, 414)


# --- cells --------------------------------------------------------------


def test_a_cell_in_order(talk):
    seen = talk.run("print('one')\n1 + 1")
    kinds = [message.state or message.kind for message in seen]
    assert kinds == ["busy", "execute_input", "stream", "execute_result", "execute_reply", "idle"]
    reply = seen[-2].content
    assert reply["status"] == "ok"
    assert isinstance(reply["payload"], list)
    assert reply["user_expressions"]["_sagecell_files"]["data"]["text/plain"] == "[]"


def test_the_cell_comes_before_the_question_who_is_there(talk):
    cell = execute(talk.session, "print('first')")
    question = Message("shell", short_header("kernel_info_request", talk.session))
    talk.say(cell)
    talk.say(question)
    assert "first\n" in [message.content.get("text") for message in talk.rest_of(cell)]
    talk.until("an answer", lambda message: message.kind == "kernel_info_reply" and message.is_for(question.id))


def test_an_error_in_order(talk):
    kinds = [message.state or message.kind for message in talk.run("1/0")]
    assert kinds == ["busy", "execute_input", "error", "execute_reply", "idle"]


def test_a_kernel_without_time_ends_when_it_is_idle(cell_target):
    model = start(cell_target, timeout="0")
    client = Plain(model)
    client.run("print('once')")
    client.until("dead", lambda message: message.state == "dead")


def test_html_is_shown(talk):
    shown = [message.content["data"] for message in talk.run('html("""<b>bold</b>""")') if message.kind == "display_data"]
    assert [data["text/html"] for data in shown] == ["<b>bold</b>"]


def test_new_files_are_told_and_can_be_fetched(cell_target, talk):
    seen = talk.run("open('made.txt', 'w').write('by the cell')")
    reply = [message.content for message in seen if message.kind == "execute_reply"][0]
    assert "made.txt" in reply["user_expressions"]["_sagecell_files"]["data"]["text/plain"]
    answer = cell_target.request("GET", f"/kernel/{talk.kernel}/files/made.txt", token=False)
    assert answer.status_code == 200 and answer.text == "by the cell"
    for path in ("nothing.txt", "..%2f..%2ftoken", "%2e%2e/token", "%2fetc%2fpasswd"):
        assert cell_target.request("GET", f"/kernel/{talk.kernel}/files/{path}", token=False).status_code in (400, 403, 404)


@pytest.mark.parametrize("name", ["new_files", "display_message", "stream_message", "reset_kernel_timeout", "sent_files", "clear"])
def test_what_the_worker_offers(talk, name):
    seen = talk.run(f"import sys\nprint(hasattr(sys._sage_, {name!r}))")
    assert "True\n" in [message.content.get("text") for message in seen]


def test_an_interact_is_shown_and_answers(talk):
    seen = talk.run("@interact\ndef f(n=(1, 10)):\n    print('n is', n)")
    (shown,) = [message for message in seen if message.kind == "display_data" and "application/sage-interact" in message.content["data"]]
    id = shown.content["data"]["application/sage-interact"]["new_interact_id"]
    content = {"interact_id": id, "values": {"n": 7}, "update_last": False, "user_expressions": {}}
    update = Message("shell", short_header("sagenb.interact.update_interact", talk.session), content=content)
    talk.say(update)
    seen = talk.until("its output", lambda message: message.content.get("text") == "n is 7\n")
    assert seen[-1].metadata["interact_id"] == id


def test_an_update_of_an_unknown_interact_harms_nothing(talk):
    content = {"interact_id": "nobody", "values": {"n": 7}, "update_last": False, "user_expressions": {}}
    talk.say(Message("shell", short_header("sagenb.interact.update_interact", talk.session), content=content))
    assert "on\n" in [message.content.get("text") for message in talk.run("print('on')")]


# --- SockJS -------------------------------------------------------------


def test_sockjs_tells_of_itself(cell_target):
    first, second = (cell_target.request("GET", "/sockjs/info", {"Origin": ORIGIN}, token=False) for _ in range(2))
    told = first.json()
    assert told["websocket"] is True
    assert told["cookie_needed"] is True
    assert told["origins"] == ["*:*"]
    assert isinstance(told["entropy"], int) and told["entropy"] != second.json()["entropy"]
    assert first.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize("frame", ["{", "nonsense", "[1]", '["no comma"]', '["nobody/channels,{}"]', "[" * 10_000])
def test_frames_that_are_none(cell_target, model, frame):
    client = SockJs(cell_target, model["id"])
    client.socket.send(frame)
    client.close()
    again = SockJs(cell_target, model["id"])
    assert "on\n" in [message.content.get("text") for message in again.run("print('on')")]
    again.close()


def test_what_is_sent_to_no_connection_is_404(cell_target):
    assert cell_target.request("POST", place() + "/xhr_send", token=False, data='["x"]').status_code == 404


def test_a_fallback_that_is_dropped_half_way_leaves_the_kernel(cell_target, model):
    client = Xhr(cell_target, model["id"])
    client.say(execute(client.session, "x = 1"))
    client.until("it runs", lambda message: message.kind == "execute_input")
    client.close()
    again = SockJs(cell_target, model["id"])
    assert "1\n" in [message.content.get("text") for message in again.run("print(x)")]
    again.close()


# --- single cells, permalinks, terms -------------------------------------


def service(target, **words):
    return target.request("POST", "/service", {"Origin": ORIGIN}, token=False, data={**TERMS, **words})


def test_a_cell_by_one_request(cell_target):
    answer = service(cell_target, code="print(6 * 7)")
    assert answer.status_code == 200
    told = answer.json()
    assert told["success"] is True
    assert told["stdout"] == "42\n"
    assert told["execute_reply"]["status"] == "ok"
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_a_cell_by_one_request_that_fails(cell_target):
    told = service(cell_target, code="1/0").json()
    assert told["success"] is False
    assert told["execute_reply"]["ename"] == "ZeroDivisionError"


def test_expressions_by_one_request(cell_target):
    told = service(cell_target, code="x = 20", user_expressions=json.dumps({"twice": "2 * x"})).json()
    assert told["execute_reply"]["user_expressions"]["twice"]["data"]["text/plain"] == "40"


def test_code_that_is_too_long_is_413(cell_target):
    assert service(cell_target, code="#" * 65_000).status_code == 200
    assert service(cell_target, code="#" * 65_001).status_code == 413


def test_nothing_is_left_of_a_single_cell(cell_target):
    service(cell_target, code="1")
    before = len(cell_target.processes())
    for _ in range(5):
        service(cell_target, code="open('x', 'w').write('x')")
    until("its kernel is gone", lambda: len(cell_target.processes()) <= before)


def test_a_permalink(cell_target):
    asked = {"code": "print('kept')", "language": "python", "interacts": "[]"}
    told = cell_target.request("POST", "/permalink", token=False, data=asked).json()
    assert {"zip", "query", "interacts", "n"} <= told.keys()
    assert zlib.decompress(base64.urlsafe_b64decode(told["zip"])).decode() == asked["code"]
    answer = cell_target.request("GET", "/permalink", token=False, params={"q": told["query"]})
    code, language, _ = answer.json()
    assert (code, language) == (asked["code"], asked["language"])
    for words in ({"q": told["query"]}, {"z": told["zip"]}, {"c": asked["code"]}):
        page = cell_target.request("GET", "/", {"Accept": "text/html"}, token=False, params=words)
        assert page.status_code in (200, 302, 303, 307)


def test_permalinks_cannot_be_counted_through(cell_target):
    queries = {cell_target.request("POST", "/permalink", token=False, data={"code": str(n)}).json()["query"] for n in range(5)}
    assert len(queries) == 5 and all(len(query) >= 6 for query in queries)


BOMB = base64.urlsafe_b64encode(zlib.compress(b"\0" * 200_000_000, 9)).decode()


@pytest.mark.parametrize("words", [{"q": "nobody-has-this"}, {"q": "../../token"}, {"q": "\0"}])
def test_a_permalink_that_is_none_is_404(cell_target, words):
    assert cell_target.request("GET", "/permalink", token=False, params=words).status_code in (400, 404)


@pytest.mark.parametrize("zipped", ["nonsense", "====", BOMB], ids=["nonsense", "padding", "a bomb"])
def test_a_zip_that_is_none_harms_nobody(cell_target, zipped):
    answer = cell_target.request("GET", "/", {"Accept": "text/html"}, token=False, params={"z": zipped})
    assert answer.status_code < 500 and len(answer.content) < 10_000_000


def test_without_terms_there_is_nothing_to_accept(cell_target):
    assert cell_target.request("POST", "/tos.html", token=False).status_code == 204


def test_it_exists_only_when_it_is_switched_on(target):
    assert target.request("POST", "/kernel", token=False, params=TERMS, data="{}").status_code in (404, 405)
    assert target.request("GET", "/sockjs/info", token=False).status_code == 404


# --- who may, and what is embedded -----------------------------------------


def test_terms_are_accepted_first(start_target, tmp_path):
    terms = tmp_path / "terms.html"
    terms.write_text("<h1>Be kind</h1>")
    target = start_target({"SAGE_CELL": "on", "SAGE_CELL_TERMS": str(terms)})
    for path, words in (("/kernel", {}), ("/service", {"code": "1"}), ("/service", {"code": "1", "accepted_tos": "false"})):
        assert target.request("POST", path, token=False, data=words).status_code == 403
    for method in ("GET", "POST"):
        answer = target.request(method, "/tos.html", token=False)
        assert answer.status_code == 200 and answer.text == terms.read_text()
    assert service(target, code="1").json()["success"]
    cookie = {"Cookie": "a=b; accepted_tos=true"}
    assert target.request("POST", "/service", cookie, token=False, data={"code": "1"}).json()["success"]
    target.request("DELETE", f"/kernel/{start(target)['id']}", token=False)


@pytest.mark.parametrize("setting", ["on", "public"])
def test_where_tokens_are_required(start_target, setting):
    target = start_target({"SAGE_CELL": setting, "AUTH": "required", "AUTH_SECRET": "s" * 40})
    expected = 200 if setting == "public" else 401
    assert service(target, code="1").status_code == expected
    assert target.request("POST", "/kernel", token=False, data=TERMS).status_code == expected
    assert target.request("GET", "/sockjs/info", token=False).status_code == expected
    assert target.request("POST", "/service", data={"code": "1"}).status_code == 200
    assert target.request("GET", "/tos.html", token=False).status_code == 404


def test_pages_of_other_origins_are_refused_where_some_are_listed(start_target):
    target = start_target({"SAGE_CELL": "on", "CORS_ORIGINS": "https://lectures.example"})
    answer = service(target, code="1")
    assert answer.status_code == 403 and "Access-Control-Allow-Origin" not in answer.headers
    listed = {"Origin": "https://lectures.example"}
    answer = target.request("POST", "/service", listed, token=False, data={"code": "1"})
    assert answer.status_code == 200 and answer.headers["Access-Control-Allow-Origin"] == listed["Origin"]
    with pytest.raises(InvalidStatus):
        connect(target.url.replace("http", "ws", 1) + place() + "/websocket", origin=ORIGIN).__enter__()


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
def test_browsers_may_ask_first(cell_target, method):
    path = {"POST": "/kernel", "DELETE": f"/kernel/{uuid.uuid4()}", "PUT": f"/kernel/{uuid.uuid4()}/files/x"}[method]
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "x-requested-with"}
    answer = cell_target.request("OPTIONS", path, asked, token=False)
    assert answer.status_code in (200, 204)
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert method in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Headers"] == "x-requested-with"


@pytest.mark.parametrize("timeout", ["soon", "-1", "nan"])
def test_a_time_that_is_none_is_400(cell_target, timeout):
    words = {"timeout": timeout, **TERMS}
    assert cell_target.request("POST", "/kernel", token=False, params=words, data="{}").status_code == 400


def test_its_document_is_there_where_it_is(cell_target, target):
    assert "/kernel" in cell_target.request("GET", "/api-spec.json").json()["paths"]
    assert "/kernel" not in target.request("GET", "/api-spec.json").json()["paths"]


def test_clients_of_jupyter_do_not_see_cells(cell_target, model):
    assert model["id"] not in [one["id"] for one in cell_target.kernels()]
    assert cell_target.request("GET", f"/api/kernels/{model['id']}").status_code == 404


# --- limits ----------------------------------------------------------------


def test_a_client_has_a_limited_number_of_kernels(start_target):
    target = start_target({"SAGE_CELL": "on", "SAGE_CELL_MAX_PER_CLIENT": "2", "SAGE_CELL_WARM": "1"})
    made = [start(target)["id"] for _ in range(2)]
    answer = target.request("POST", "/kernel", token=False, params=TERMS, data="{}")
    assert answer.status_code == 503 and answer.headers["Retry-After"]
    assert "SAGE_CELL_MAX_PER_CLIENT" in answer.json()["message"]
    target.request("DELETE", f"/kernel/{made[0]}", token=False)
    start(target)


def test_a_cell_that_runs_too_long_is_interrupted_and_then_ended(start_target):
    target = start_target({"SAGE_CELL": "on", "SAGE_CELL_TIME": "1"})
    client = Plain(start(target))
    seen = client.run("import time\ntime.sleep(60)")
    assert [message.content["ename"] for message in seen if message.kind == "error"] == ["KeyboardInterrupt"]
    assert any("as long as one may" in message.content.get("text", "") for message in seen)
    client.say(execute(client.session, "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"))
    client.until("dead", lambda message: message.state == "dead", 30)


def test_an_update_of_an_interact_runs_no_longer_than_a_cell(start_target):
    target = start_target({"SAGE_CELL": "on", "SAGE_CELL_TIME": "1"})
    client = Plain(start(target))
    seen = client.run("import time\n@interact\ndef f(n=(0, 1)):\n    time.sleep(60 * n)")
    shown = [message.content["data"] for message in seen if message.kind == "display_data"]
    (described,) = [data["application/sage-interact"] for data in shown if "application/sage-interact" in data]
    content = {"interact_id": described["new_interact_id"], "values": {"n": 1}, "update_last": False, "user_expressions": {}}
    request = Message("shell", short_header("sagenb.interact.update_interact", client.session), content=content)
    client.say(request)
    seen = client.rest_of(request)
    assert any("as long as one may" in message.content.get("text", "") for message in seen)
    assert client.run("print('next')")[-1].state == "idle"


def test_code_says_how_long_its_kernel_may_be_idle(cell_target):
    client = Plain(start(cell_target, timeout="0"))
    client.run("import sys\nsys._sage_.reset_kernel_timeout(float('inf'))")
    time.sleep(5)
    client.run("sys._sage_.reset_kernel_timeout(0)")
    client.until("dead", lambda message: message.state == "dead", 30)


def test_a_kernel_that_ends_takes_its_session_along(cell_target):
    client = Plain(start(cell_target))
    request = execute(client.session, "import os\nos._exit(3)")
    client.say(request)
    seen = client.until("dead", lambda message: message.state == "dead")
    reply = [message.content for message in seen if message.kind == "execute_reply"][0]
    assert reply["status"] == "error" and reply["ename"] == "KernelDied" and reply["payload"] == []
    with pytest.raises(InvalidStatus):
        Plain({"id": client.kernel, "ws_url": cell_target.url.replace("http", "ws", 1) + "/"})


# --- files -------------------------------------------------------------------


def test_files_are_put_in_and_shown_with_an_origin_of_their_own(cell_target, model):
    Plain(model).run("1")
    path = f"/kernel/{model['id']}/files/below/page.html"
    answer = cell_target.request("PUT", path, token=False, data=b"<script>1</script>")
    if answer.status_code != 204:  # folders are not made
        path = f"/kernel/{model['id']}/files/page.html"
        answer = cell_target.request("PUT", path, token=False, data=b"<script>1</script>")
    assert answer.status_code == 204, answer.text
    shown = cell_target.request("GET", path, token=False)
    assert shown.text == "<script>1</script>" and shown.headers["Content-Type"].startswith("text/html")
    assert "sandbox" in shown.headers["Content-Security-Policy"]
    assert "allow-same-origin" not in shown.headers["Content-Security-Policy"]
    assert "X-Frame-Options" not in shown.headers
    listed = cell_target.request("GET", f"/kernel/{model['id']}/files", token=False).json()["files"]
    assert path.split("/files/")[1] in [one["path"] for one in listed]
    big = cell_target.request("PUT", path, token=False, data=b"x" * (65 << 20))
    assert big.status_code in (413, 507)


# --- SockJS, where it goes wrong ------------------------------------------


def closing(client, seconds=30):
    """The close frame, after whatever comes before it."""
    while True:
        frame = client.socket.recv(timeout=seconds)
        if frame[0] == "c":
            return json.loads(frame[1:])


@pytest.mark.parametrize("frame", ["{", "nonsense", "[1]", '["no comma"]', '["nobody/channels,{}"]', "[" * 10_000, b"\0"])
def test_what_is_no_message_is_told_and_ends_the_connection(cell_target, model, frame):
    client = SockJs(cell_target, model["id"])
    client.socket.send(frame)
    code, reason = closing(client)
    assert code == 4400 and reason
    with pytest.raises(ConnectionClosed):
        client.socket.recv(timeout=30)


def test_a_frame_that_is_too_large_ends_the_connection(cell_target, model):
    client = SockJs(cell_target, model["id"])
    with pytest.raises(ConnectionClosed):
        client.socket.send(json.dumps(["x" * (5 << 20)]))
        client.socket.recv(timeout=30)


def test_what_is_no_message_over_a_plain_websocket_is_told(cell_target, model):
    for frame, code in (("{", 1007), ("[]", 1007), (b"\0", 1003)):
        client = Plain(model)
        client.socket.send(frame)
        with pytest.raises(ConnectionClosed) as closed:
            client.socket.recv(timeout=30)
        assert closed.value.rcvd.code == code


@pytest.mark.parametrize("kernel", [str(uuid.uuid4()), "nobody"])
def test_a_kernel_that_is_not_there_is_dead(cell_target, kernel):
    client = SockJs(cell_target, kernel)
    client.say(execute(client.session, "1"))
    client.until("dead", lambda message: message.state == "dead")
    client.close()


@pytest.mark.parametrize("path", ["/sockjs/", "/sockjs"])
def test_sockjs_greets(cell_target, path):
    answer = requests.get(cell_target.url + path, timeout=60)
    assert answer.status_code == 200 and answer.text == "Welcome to SockJS!\n"


@pytest.mark.parametrize("where", ["/sockjs/000/a.b/xhr_streaming", "/sockjs/0.0/abc/xhr", "/sockjs/000/a.b/websocket"])
def test_a_place_with_a_dot_is_none(cell_target, where):
    method = "GET" if where.endswith("websocket") else "POST"
    assert cell_target.request(method, where, token=False).status_code == 404


@pytest.mark.parametrize("body", ["", "{", "x", "[1]"])
def test_a_body_that_is_no_list_of_texts_is_500(cell_target, model, body):
    client = Xhr(cell_target, model["id"])
    answer = requests.post(client.url + "/xhr_send", body, timeout=60)
    assert answer.status_code == 500
    assert answer.text == ("Payload expected." if body == "" else "Broken JSON encoding.")
    assert "on\n" in [message.content.get("text") for message in client.run("print('on')")]
    client.close()


def test_what_is_no_message_ends_a_connection_of_requests(cell_target, model):
    client = Xhr(cell_target, model["id"])
    assert requests.post(client.url + "/xhr_send", '["x"]', timeout=60).status_code == 204
    assert client._frame(30).startswith("c[4400,")
    until("it is gone", lambda: requests.post(client.url + "/xhr_send", '["x"]', timeout=60).status_code == 404)


def test_only_one_may_listen(cell_target, model):
    client = Xhr(cell_target, model["id"])
    second = requests.post(client.url + "/xhr", timeout=60)
    assert second.text == 'c[2010,"Another connection still open"]\n'
    client.close()


def test_frames_one_by_one(cell_target, model):
    url = cell_target.url + place()
    assert requests.post(url + "/xhr", timeout=60).text == "o\n"
    cell = execute("me", "print('polled')")
    sent = requests.post(url + "/xhr_send", json.dumps([f"{model['id']}/channels,{to_json(cell)}"]), timeout=60)
    assert sent.status_code == 204
    came = ""
    while "idle" not in came:
        came += requests.post(url + "/xhr", timeout=60).text
    assert "polled" in came


def test_a_connection_to_which_nobody_listens_is_gone_and_its_kernel_is_not(cell_target, model):
    url = cell_target.url + place()
    assert requests.post(url + "/xhr", timeout=60).text == "o\n"
    time.sleep(7)
    assert requests.post(url + "/xhr_send", '["x"]', timeout=60).status_code == 404
    again = SockJs(cell_target, model["id"])
    assert "on\n" in [message.content.get("text") for message in again.run("print('on')")]
    again.close()


def test_a_client_that_never_reads_is_cut_and_its_kernel_goes_on(start_target):
    target = start_target({"SAGE_CELL": "on", "SAGE_CELL_CELL_OUTPUT": str(1 << 30)})
    model = start(target)
    stream = requests.post(target.url + (where := place()) + "/xhr_streaming", stream=True, timeout=60)
    cell = execute("slow", "for _ in range(40): print('x' * (1 << 20))\nopen('done', 'w').close()")
    body = json.dumps([f"{model['id']}/channels,{to_json(cell)}"])
    assert requests.post(target.url + where + "/xhr_send", body, timeout=60).status_code == 204
    path = f"/kernel/{model['id']}/files/done"
    until("the cell has ended", lambda: target.request("GET", path, token=False).status_code == 200, 60)
    stream.close()


def test_a_heartbeat_comes(cell_target, model):
    client, other = SockJs(cell_target, model["id"]), Xhr(cell_target, model["id"])
    assert client.socket.recv(timeout=27) == "h"
    assert other._frame(10) == "h"
    client.close()
    other.close()


def test_completions_come_while_somebody_types(cell_target):
    client = SockJs(cell_target, "complete")
    content = {"code": "prin", "cursor_pos": 4}
    question = Message("shell", short_header("complete_request", client.session), content=content)
    client.socket.send(json.dumps([f"complete,{to_json(question)}"]))
    while True:
        frame = client.socket.recv(timeout=60)
        if frame[0] != "a":
            continue
        for said in json.loads(frame[1:]):
            prefix, text = said.split(",", 1)
            assert prefix == "complete"
            told = json.loads(text)
            if told["header"]["msg_type"] == "complete_reply":
                assert "print" in told["content"]["matches"]
                client.close()
                return


def test_code_is_not_run_as_a_question(cell_target):
    client = SockJs(cell_target, "complete")
    client.socket.send(json.dumps([f"complete,{to_json(execute(client.session, 'print(1)'))}"]))
    with pytest.raises(TimeoutError):
        client.socket.recv(timeout=2)
    client.close()


def test_who_comes_back_over_sockjs_hears_what_was_missed(cell_target, model):
    client = SockJs(cell_target, model["id"])
    client.run("import time")
    cell = execute(client.session, "time.sleep(1)\nprint('meanwhile')")
    client.say(cell)
    client.until("busy", lambda message: message.is_for(cell.id) and message.state == "busy")
    client.close()
    time.sleep(2)
    again = SockJs(cell_target, model["id"])
    again.session = client.session
    again.say(Message("shell", short_header("kernel_info_request", again.session)))
    assert "meanwhile\n" in [message.content.get("text") for message in again.rest_of(cell)]
    again.close()


# --- single cells, where they go wrong --------------------------------------


def test_a_single_cell_that_takes_too_long_is_interrupted(start_target):
    target = start_target({"SAGE_CELL": "on", "SAGE_CELL_SERVICE_TIME": "3"})
    told = service(target, code="import time\nprint('before', flush=True)\ntime.sleep(60)").json()
    assert told["success"] is False and told["stdout"] == "before\n"
    assert told["execute_reply"]["ename"] == "KeyboardInterrupt"
    stubborn = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    assert service(target, code=stubborn).json()["execute_reply"]["ename"] == "TimeoutError"


def test_a_single_cell_whose_kernel_ends_is_told(cell_target):
    told = service(cell_target, code="import os\nprint('last', flush=True)\nos._exit(1)").json()
    assert told["success"] is False and told["execute_reply"]["ename"] == "KernelDied"
    assert told["stdout"] == "last\n"


def test_a_single_cell_that_puts_out_too_much_is_cut(cell_target):
    told = service(cell_target, code="print('x' * (2 << 20))").json()
    assert len(told["stdout"]) == 1 << 20 and "not shown" in told["stderr"]
    told = service(cell_target, code="while True: print('x' * (1 << 20))").json()
    assert told["success"] is False and told["execute_reply"]["ename"] == "TooMuchOutput"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ({}, 400),
        ({"code": "1", "user_expressions": "[]"}, 400),
        ({"code": "1", "user_expressions": '{"a": 1}'}, 400),
        ({"code": "\udcff".encode("utf-8", "surrogatepass")}, 200),
        ({"code": "x" * (3 << 20)}, 413),
    ],
)
def test_single_cells_that_are_none(cell_target, words, status):
    assert service(cell_target, **words).status_code == status


def test_single_cells_know_nothing_of_each_other(cell_target):
    service(cell_target, code="x = 1\nopen('left', 'w').write('x')")
    told = service(cell_target, code="import os\nprint(os.listdir('.'), 'x' in globals())").json()
    assert "left" not in told["stdout"] and "False" in told["stdout"]


def test_many_single_cells_at_once(cell_target):
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda number: service(cell_target, code=f"print({number})"), range(50)))
    assert [answer.json()["stdout"] for answer in answers] == [f"{number}\n" for number in range(50)]


# --- permalinks, where they go wrong ----------------------------------------


def test_the_same_cell_has_the_same_permalink(cell_target):
    words = {"code": "1 + 1", "n": "7"}
    first, second = (cell_target.request("POST", "/permalink", token=False, data=words).json() for _ in range(2))
    assert first == second and first["n"] == 7


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ({}, 400),
        ({"code": "#" * 65_001}, 413),
        ({"code": "1", "interacts": "{"}, 400),
        ({"code": "1", "interacts": json.dumps("x" * 70_000)}, 413),
        ({"code": "1", "language": "x" * 101}, 413),
        ({"code": "1", "n": "many"}, 400),
    ],
)
def test_a_permalink_of_what_is_no_cell(cell_target, words, status):
    assert cell_target.request("POST", "/permalink", token=False, data=words).status_code == status


@pytest.mark.parametrize(("words", "status"), [({"q": "nobody"}, 404), ({"z": "nonsense"}, 400), ({"z": "===="}, 400)])
def test_the_way_to_no_cell(cell_target, words, status):
    assert cell_target.request("GET", "/", {"Accept": "text/html"}, token=False, params=words).status_code == status


def test_a_bomb_that_is_small_enough_to_come_in_is_413(cell_target):
    bomb = base64.urlsafe_b64encode(zlib.compress(b"\0" * 5_000_000, 9)).decode()
    assert cell_target.request("GET", "/", token=False, params={"z": bomb}).status_code == 413


def test_the_page_may_be_embedded(cell_target):
    answer = cell_target.request("GET", "/cell/", token=False)
    if answer.status_code == 404:
        pytest.skip("there is no page yet")
    assert "X-Frame-Options" not in answer.headers
    assert "frame-ancestors *" in answer.headers["Content-Security-Policy"]
    assert cell_target.request("GET", "/static/embedded_sagecell.js", token=False).status_code == 200


def test_who_comes_back_over_a_plain_websocket_goes_on_where_it_was(cell_target, model):
    first = Plain(model, "?session_id=me&offset=0")
    request = execute(first.session, "import time\nfor i in range(20): print(i, flush=True); time.sleep(0.05)")
    first.say(request)
    seen = first.until("output", lambda message: message.kind == "stream")
    first.close()
    second = Plain(model, f"?session_id=me&offset={seen[-1].metadata['offset']}")
    seen += second.until("idle", lambda message: message.is_for(request.id) and message.state == "idle")
    text = "".join(message.content["text"] for message in seen if message.kind == "stream")
    assert text == "".join(f"{i}\n" for i in range(20))
    offsets = [message.metadata["offset"] for message in seen]
    assert offsets == sorted(set(offsets))
    second.close()


def test_an_offset_that_is_none_is_400(cell_target, model):
    for wrong in ["-1", "x", "1.5"]:
        with pytest.raises(InvalidStatus) as refused:
            Plain(model, f"?offset={wrong}")
        assert refused.value.response.status_code == 400
