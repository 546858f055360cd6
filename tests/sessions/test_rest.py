"""The REST side of Jupyter's API, as in `contract/sessions.md`."""

import concurrent.futures
import datetime
import uuid

import pytest

from support.wait import until
from support.wire import Channels

KERNEL_FIELDS = {"id", "name", "last_activity", "execution_state", "connections"}


def test_api_has_a_version(target):
    answer = target.request("GET", "/api")
    assert answer.status_code == 200
    assert isinstance(answer.json()["version"], str)


# --- kernelspecs --------------------------------------------------------


def test_kernelspecs_have_python3(target):
    answer = target.request("GET", "/api/kernelspecs")
    assert answer.status_code == 200
    told = answer.json()
    assert told["default"] == "python3"
    python = told["kernelspecs"]["python3"]
    assert python["name"] == "python3"
    assert isinstance(python["resources"], dict)
    spec = python["spec"]
    assert isinstance(spec["argv"], list)
    assert isinstance(spec["env"], dict)
    assert isinstance(spec["metadata"], dict)
    assert spec["display_name"]
    assert spec["language"] == "python"
    assert spec["interrupt_mode"] == "signal"


def test_a_kernelspec_by_name(target):
    answer = target.request("GET", "/api/kernelspecs/python3")
    assert answer.status_code == 200
    assert answer.json() == target.request("GET", "/api/kernelspecs").json()["kernelspecs"]["python3"]


def test_an_unknown_kernelspec_is_404(target):
    assert target.request("GET", "/api/kernelspecs/no-such-language").status_code == 404


# --- kernels ------------------------------------------------------------


@pytest.mark.parametrize("body", [{}, {"name": "python3"}, {"name": "python3", "path": None}, {"name": "python3", "env": {}}])
def test_a_kernel_is_made(target, body):
    answer = target.request("POST", "/api/kernels", json=body)
    assert answer.status_code == 201, answer.text
    model = answer.json()
    try:
        assert KERNEL_FIELDS <= model.keys()
        uuid.UUID(model["id"])
        assert model["name"] == "python3"
        assert model["execution_state"] in ("starting", "idle")
        assert model["connections"] == 0
        assert answer.headers["Location"].endswith(f"/api/kernels/{model['id']}")
        # `jupyter_kernel_client` reads it in just this form.
        datetime.datetime.strptime(model["last_activity"], "%Y-%m-%dT%H:%M:%S.%fZ")
    finally:
        target.end_kernel(model["id"])


def test_a_kernel_without_a_body_is_the_default(target):
    answer = target.request("POST", "/api/kernels")
    assert answer.status_code == 201, answer.text
    assert answer.json()["name"] == "python3"
    target.end_kernel(answer.json()["id"])


@pytest.mark.targets("runner", "gateway")
def test_variables_of_the_environment_reach_the_kernel(target):
    # The gateway takes only names with this beginning.
    kernel = target.start_kernel(name="python3", env={"KERNEL_GREETING": "hello there"})
    try:
        with Channels(target, kernel) as client:
            assert client.run("import os; print(os.environ['KERNEL_GREETING'])").text() == "hello there\n"
    finally:
        target.end_kernel(kernel)


@pytest.mark.runner
def test_an_unknown_name_is_404(target):
    answer = target.request("POST", "/api/kernels", json={"name": "no-such-language"})
    assert answer.status_code == 404
    assert "no-such-language" in answer.json()["message"]


@pytest.mark.runner
@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        '"python3"',
        '{"name": 3}',
        '{"path": 7}',
        '{"env": []}',
        '{"env": {"A": 1}}',
        '{"env": {"A=B": "x"}}',
        '{"env": {"A": "\\u0000"}}',
    ],
)
def test_a_body_that_asks_for_nothing_known_is_400(target, body):
    before = {model["id"] for model in target.kernels()}
    answer = target.request("POST", "/api/kernels", data=body, headers={"Content-Type": "application/json"})
    fresh = {model["id"] for model in target.kernels()} - before
    for kernel in fresh:
        target.end_kernel(kernel)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["message"]
    assert not fresh


def test_kernels_are_listed(target, kernel):
    (model,) = (model for model in target.kernels() if model["id"] == kernel)
    assert KERNEL_FIELDS <= model.keys()
    assert target.request("GET", f"/api/kernels/{kernel}").json()["id"] == kernel


def test_connections_are_counted(target, kernel):
    def count():
        return target.request("GET", f"/api/kernels/{kernel}").json()["connections"]

    with Channels(target, kernel) as one:
        one.ask("kernel_info_request")
        until("one connection", lambda: count() == 1)
        with Channels(target, kernel) as two:
            two.ask("kernel_info_request")
            until("two connections", lambda: count() == 2)
    until("no connection", lambda: count() == 0)


def test_the_state_follows_the_cell(target, kernel, client):
    def state():
        return target.request("GET", f"/api/kernels/{kernel}").json()["execution_state"]

    request = client.execute("input('go on? ')", allow_stdin=True)
    question = client.until("a question", lambda message: message.kind == "input_request")[-1]
    until("busy", lambda: state() == "busy")
    client.send("input_reply", {"value": "yes"}, "stdin", parent=question.header)
    client.answer(request)
    until("idle", lambda: state() == "idle")


def test_activity_moves_on(target, kernel, client):
    def activity():
        return target.request("GET", f"/api/kernels/{kernel}").json()["last_activity"]

    client.run("1")
    before = activity()
    until("the clock moves on", lambda: client.run("1") and activity() > before)


# Jupyter's servers answer a restart of an unknown kernel with 500.
UNKNOWN_RESTART = pytest.param("POST", "/restart", marks=pytest.mark.runner)


@pytest.mark.parametrize("method, verb", [("GET", ""), ("DELETE", ""), ("POST", "/interrupt"), UNKNOWN_RESTART])
def test_an_unknown_kernel_is_404(target, method, verb):
    id = str(uuid.uuid4())
    answer = target.request(method, f"/api/kernels/{id}{verb}")
    assert answer.status_code == 404
    told = answer.json()
    assert told["message"] == f"Kernel does not exist: {id}"
    if target.name == "runner":
        assert told["reason"] is None


@pytest.mark.runner
@pytest.mark.parametrize("id", ["nonsense", "..", "%2e%2e", "0", "a" * 5000, "../../token"])
def test_an_id_that_is_none_is_404(target, id):
    assert target.request("GET", f"/api/kernels/{id}").status_code in (400, 404, 414)
    assert target.request("DELETE", f"/api/kernels/{id}").status_code in (400, 404, 405, 414)


def test_deletion_is_final(target):
    kernel = target.start_kernel()
    assert target.request("DELETE", f"/api/kernels/{kernel}").status_code == 204
    assert target.request("GET", f"/api/kernels/{kernel}").status_code == 404
    assert target.request("DELETE", f"/api/kernels/{kernel}").status_code == 404
    assert kernel not in {model["id"] for model in target.kernels()}


def test_interrupt_answers_204_also_when_idle(target, kernel, client):
    client.run("1")
    assert target.request("POST", f"/api/kernels/{kernel}/interrupt").status_code == 204
    assert client.run("print('still here')").text() == "still here\n"


def test_restart_answers_with_the_model(target, kernel):
    answer = target.request("POST", f"/api/kernels/{kernel}/restart")
    assert answer.status_code == 200
    assert answer.json()["id"] == kernel
    assert KERNEL_FIELDS <= answer.json().keys()


def test_many_kernels_at_once(target):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        kernels = list(pool.map(lambda _: target.start_kernel(), range(4)))
        try:
            assert len(set(kernels)) == 4

            def number(kernel):
                with Channels(target, kernel) as client:
                    return client.run("import os; print(os.getpid(), os.getcwd())").text()

            assert len(set(pool.map(number, kernels))) == 4
        finally:
            list(pool.map(target.end_kernel, kernels))


@pytest.mark.runner
@pytest.mark.parametrize("method, path", [("PUT", "/api/kernels"), ("PATCH", "/api/kernels"), ("POST", "/api/kernelspecs")])
def test_a_method_that_is_none_is_405(target, method, path):
    assert target.request(method, path).status_code == 405


# --- sessions -----------------------------------------------------------

# Those of the gateway fail with the Jupyter Server that it is installed with.
HAS_SESSIONS = pytest.mark.targets("runner", "server")


@pytest.fixture
def session(target):
    path = f"book-{uuid.uuid4().hex}.ipynb"
    asked = {"path": path, "type": "notebook", "name": "book", "kernel": {"name": "python3"}}
    answer = target.request("POST", "/api/sessions", json=asked)
    assert answer.status_code == 201, answer.text
    yield answer.json()
    target.request("DELETE", f"/api/sessions/{answer.json()['id']}")


@HAS_SESSIONS
def test_a_session_has_a_kernel(target, session):
    assert {"id", "path", "type", "name", "kernel"} <= session.keys()
    assert session["type"] == "notebook"
    assert KERNEL_FIELDS <= session["kernel"].keys()
    assert session["kernel"]["id"] in {model["id"] for model in target.kernels()}
    assert target.request("GET", f"/api/sessions/{session['id']}").json()["path"] == session["path"]
    assert session["id"] in {one["id"] for one in target.request("GET", "/api/sessions").json()}


@HAS_SESSIONS
def test_a_session_of_the_same_path_is_the_same(target, session):
    asked = {"path": session["path"], "type": "notebook", "name": "book", "kernel": {"name": "python3"}}
    again = target.request("POST", "/api/sessions", json=asked)
    assert again.status_code == 201
    assert again.json()["id"] == session["id"]
    assert again.json()["kernel"]["id"] == session["kernel"]["id"]


@HAS_SESSIONS
def test_a_session_can_be_renamed(target, session):
    url = f"/api/sessions/{session['id']}"
    answer = target.request("PATCH", url, json={"path": "other.ipynb", "name": "other"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["path"] == "other.ipynb"
    assert answer.json()["kernel"]["id"] == session["kernel"]["id"]
    assert target.request("GET", url).json()["name"] == "other"


@HAS_SESSIONS
def test_a_session_can_have_another_kernel(target, session):
    url = f"/api/sessions/{session['id']}"
    answer = target.request("PATCH", url, json={"kernel": {"name": "python3"}})
    assert answer.status_code == 200, answer.text
    assert answer.json()["kernel"]["id"] != session["kernel"]["id"]
    until(
        "the old kernel has ended",
        lambda: target.request("GET", f"/api/kernels/{session['kernel']['id']}").status_code == 404,
    )


@HAS_SESSIONS
def test_a_session_can_take_a_kernel_that_runs(target, kernel):
    asked = {"path": "taken.ipynb", "type": "console", "name": "", "kernel": {"id": kernel}}
    answer = target.request("POST", "/api/sessions", json=asked)
    assert answer.status_code == 201, answer.text
    assert answer.json()["kernel"]["id"] == kernel
    assert target.request("DELETE", f"/api/sessions/{answer.json()['id']}").status_code == 204


@HAS_SESSIONS
def test_the_end_of_a_session_ends_its_kernel(target, session):
    url = f"/api/sessions/{session['id']}"
    assert target.request("DELETE", url).status_code == 204
    assert target.request("GET", url).status_code == 404
    assert target.request("GET", f"/api/kernels/{session['kernel']['id']}").status_code == 404


@HAS_SESSIONS
def test_the_end_of_a_kernel_ends_its_session(target, session):
    target.end_kernel(session["kernel"]["id"])
    until(
        "the session is gone",
        lambda: session["id"] not in {one["id"] for one in target.request("GET", "/api/sessions").json()},
    )


@HAS_SESSIONS
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_an_unknown_session_is_404(target, method):
    asked = {"json": {"path": "x"}} if method == "PATCH" else {}
    assert target.request(method, f"/api/sessions/{uuid.uuid4()}", **asked).status_code == 404


@HAS_SESSIONS
@pytest.mark.parametrize("body", [{"type": "notebook"}, {"path": "x.ipynb"}])
def test_a_session_that_lacks_something_is_400(target, body):
    assert target.request("POST", "/api/sessions", json=body).status_code == 400


# --- tokens -------------------------------------------------------------


def test_the_token_as_jupyter_writes_it(target):
    answer = target.request("GET", "/api/kernels", {"Authorization": f"token {target.token}"}, token=False)
    assert answer.status_code == 200


def test_the_token_as_a_parameter(target):
    assert target.request("GET", f"/api/kernels?token={target.token}", token=False).status_code == 200


def test_the_token_as_a_parameter_beside_the_word_of_a_proxy(target):
    headers = {"Authorization": "Basic cHJveHk6d29yZA=="}
    assert target.request("GET", f"/api/kernels?token={target.token}", headers, token=False).status_code == 200


@pytest.mark.targets("runner", "server")
def test_the_token_as_everyone_writes_it(target):
    answer = target.request("GET", "/api/kernels", {"Authorization": f"Bearer {target.token}"}, token=False)
    assert answer.status_code == 200


FORBIDDEN = (401, 403)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/api/kernels", "/api/sessions"])
@pytest.mark.parametrize("words", [None, "token wrong", "Bearer wrong", "token", "Basic dG9rZW46d3Jvbmc="])
def test_without_the_token_nothing_runs(target, method, path, words):
    before = len(target.kernels())
    headers = {"Authorization": words} if words else {}
    asked = {"json": {"path": "x", "type": "notebook"}} if method == "POST" else {}
    assert target.request(method, path, headers, token=False, **asked).status_code in FORBIDDEN
    assert len(target.kernels()) <= before


@pytest.mark.parametrize("method, verb", [("GET", ""), ("DELETE", ""), ("POST", "/interrupt"), ("POST", "/restart")])
def test_without_the_token_a_kernel_is_not_touched(target, kernel, method, verb):
    assert target.request(method, f"/api/kernels/{kernel}{verb}?token=wrong", token=False).status_code in FORBIDDEN
    assert kernel in {model["id"] for model in target.kernels()}


@pytest.mark.runner
def test_other_sites_may_not_read(target):
    for path in ("/api/kernels", "/api/kernelspecs", "/api/sessions"):
        answer = target.request("GET", path, {"Origin": "https://elsewhere.example"})
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
