"""Connections to a kernel: several at once, those that come back, how they begin, and which are refused."""

import concurrent.futures
import uuid

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from support.wait import until
from support.wire import V1, Channels, Message, header, pack_plain


# --- several clients ----------------------------------------------------


def test_two_clients_see_the_same(target, kernel, form):
    other_form = "plain" if form == "v1" else "v1"
    with Channels(target, kernel, form) as one, Channels(target, kernel, other_form) as two:
        two.ask("kernel_info_request")
        request = one.execute("print('for both')\n42")
        answer = one.answer(request)
        seen = two.until("the end of the cell", lambda message: message.is_for(request) and message.state == "idle")
        mine = [message for message in seen if message.is_for(request)]
        assert [message.kind for message in mine] == [message.kind for message in answer.told]
        assert all(message.channel == "iopub" for message in mine), "replies go to the one who asked"
        assert [message.content for message in mine] == [message.content for message in answer.told]


def test_a_question_goes_to_the_one_who_asked(target, kernel):
    with Channels(target, kernel) as one, Channels(target, kernel) as two:
        two.ask("kernel_info_request")
        request = one.execute("print(input())", allow_stdin=True)
        question = one.until("a question", lambda message: message.kind == "input_request")[-1]
        one.send("input_reply", {"value": "mine"}, "stdin", parent=question.header)
        assert one.answer(request).text() == "mine\n"
        seen = two.until("the end of the cell", lambda message: message.is_for(request) and message.state == "idle")
        assert not [message for message in seen if message.channel == "stdin"]


def test_two_clients_take_turns(target, kernel):
    with Channels(target, kernel) as one, Channels(target, kernel) as two:
        first = [one.execute("print('one')") for _ in range(10)]
        second = [two.execute("print('two')") for _ in range(10)]
        assert {one.answer(request).text() for request in first} == {"one\n"}
        assert {two.answer(request).text() for request in second} == {"two\n"}


# --- coming back --------------------------------------------------------


def test_a_client_that_comes_back_gets_what_it_missed(target, kernel, form):
    def model():
        return target.request("GET", f"/api/kernels/{kernel}").json()

    session = uuid.uuid4().hex
    with Channels(target, kernel, form, session) as client:
        request = client.execute(
            "import time\ntry:\n    print('before', flush=True)\n    while True: time.sleep(0.01)\nexcept KeyboardInterrupt:\n"
            "    for number in range(100): print(number, flush=True)\n'result'"
        )
        client.until("it runs", lambda message: message.content.get("text") == "before\n")
    until("nobody is there", lambda: model()["connections"] == 0)
    # The sign to go on.
    assert target.request("POST", f"/api/kernels/{kernel}/interrupt").status_code == 204
    until("it has ended", lambda: model()["execution_state"] == "idle")
    with Channels(target, kernel, form, session) as client:
        answer = client.answer(request)
        assert answer.text().split() == [str(number) for number in range(100)]
        assert answer.of("execute_result")[0]["data"]["text/plain"] == "'result'"
        assert answer.status == "ok"
        assert client.run("print('on')").text() == "on\n"


def test_a_client_with_the_session_of_another_replaces_it(target, kernel):
    session = uuid.uuid4().hex
    with Channels(target, kernel, session=session) as old:
        old.run("x = 1")
        with Channels(target, kernel, session=session) as new:
            assert new.run("print(x)").text() == "1\n"


@pytest.mark.runner
def test_the_log_is_replayed_from_its_beginning(target, kernel, form):
    with Channels(target, kernel, form) as client:
        told = [client.run("print('one')"), client.run("print('two')\n3")]
    with Channels(target, kernel, form, offset=0) as late:
        last = told[-1].told[-1]
        seen = late.until("the last of what was told", lambda message: message.id == last.id)
        ids = [message.id for message in seen if message.channel == "iopub"]
        assert [id for id in ids if id in {message.id for answer in told for message in answer.told}] == [
            message.id for answer in told for message in answer.told
        ]
        assert len(ids) == len(set(ids)), "nothing comes twice"
        assert late.run("print('three')").text() == "three\n"


@pytest.mark.runner
def test_a_fresh_client_gets_no_old_output(target, kernel, form):
    with Channels(target, kernel, form) as client:
        client.run("print('old')")
    with Channels(target, kernel, form) as fresh:
        answer = fresh.execute("print('new')")
        seen = fresh.until("the end", lambda message: message.is_for(answer) and message.state == "idle")
        assert "old\n" not in [message.content.get("text") for message in seen]


@pytest.mark.runner
@pytest.mark.parametrize("offset", ["-1", "x", "99999999999999999999"])
def test_an_offset_that_is_none_has_an_answer(target, kernel, offset):
    try:
        with Channels(target, kernel, offset=offset) as client:
            client.ask("kernel_info_request")
    except InvalidStatus as refused:
        assert refused.response.status_code == 400
    except ConnectionClosed as closed:
        assert closed.rcvd is not None and closed.rcvd.reason


# --- connecting ---------------------------------------------------------


def refused(target, kernel, **words):
    with pytest.raises(InvalidStatus) as caught:
        Channels(target, kernel, **words).close()
    return caught.value.response.status_code


@pytest.mark.targets("runner", "gateway")
def test_an_unknown_id_that_is_none_is_refused(target):
    assert refused(target, "nonsense") in (400, 404)


@pytest.mark.runner
def test_a_message_for_an_unknown_id_starts_a_kernel(target, form):
    kernel = str(uuid.uuid4())
    try:
        with Channels(target, kernel, form) as client:
            assert client.run("print('started')").text() == "started\n"
        assert target.request("GET", f"/api/kernels/{kernel}").json()["id"] == kernel
    finally:
        target.end_kernel(kernel)


@pytest.mark.runner
def test_two_that_race_for_one_id_get_one_kernel(target):
    kernel = str(uuid.uuid4())

    def number(_):
        with Channels(target, kernel) as client:
            return client.run("import os; print(os.getpid(), os.getcwd())").text()

    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            numbers = list(pool.map(number, range(8)))
        assert len(set(numbers)) == 1
        assert [model["id"] for model in target.kernels()].count(kernel) == 1
    finally:
        target.end_kernel(kernel)


@pytest.mark.targets("gateway")
def test_the_gateway_refuses_an_unknown_id(target):
    assert refused(target, str(uuid.uuid4())) == 404


def test_without_the_token_there_is_no_connection(target, kernel):
    assert refused(target, kernel, token=False) in (401, 403)
    url = target.url.replace("http", "ws", 1) + f"/api/kernels/{kernel}/channels?token=wrong"
    with pytest.raises(InvalidStatus) as caught, connect(url):
        pass
    assert caught.value.response.status_code in (401, 403)


def test_the_token_as_a_parameter_of_the_connection(target, kernel, form):
    url = target.url.replace("http", "ws", 1) + f"/api/kernels/{kernel}/channels?session_id=me&token={target.token}"
    with connect(url, subprotocols=[V1] if form == "v1" else None) as socket:
        assert socket.subprotocol == (V1 if form == "v1" else None)


@pytest.mark.targets("runner", "server")
def test_the_token_as_everyone_writes_it_opens_a_connection(target, kernel):
    url = target.url.replace("http", "ws", 1) + f"/api/kernels/{kernel}/channels?session_id=me"
    with connect(url, additional_headers={"Authorization": f"Bearer {target.token}"}) as socket:
        assert socket.subprotocol is None


def test_the_known_one_of_several_subprotocols_is_taken(target, kernel):
    with Channels(target, kernel, "v1", offered=["soap", V1]) as client:
        assert client.socket.subprotocol == V1
        assert client.run("print('v1')").text() == "v1\n"


def test_an_unknown_subprotocol_is_not_taken(target, kernel):
    """What is left is the plain form, or a refusal; never a frame that the client did not ask for."""
    try:
        with Channels(target, kernel, "plain", offered=["v2.kernel.websocket.jupyter.org"]) as client:
            assert client.socket.subprotocol is None
            assert client.run("print('plain')").text() == "plain\n"
    except InvalidStatus as refused:
        assert refused.response.status_code == 400


def test_a_plain_request_by_http_is_no_connection(target, kernel):
    assert target.request("GET", f"/api/kernels/{kernel}/channels").status_code in (400, 426)


def test_messages_before_the_kernel_is_ready_are_not_lost(target):
    kernel = target.start_kernel()
    try:
        with Channels(target, kernel) as client:
            requests = [client.execute(f"print({number})") for number in range(5)]
            assert [client.answer(request).text() for request in requests] == [f"{number}\n" for number in range(5)]
    finally:
        target.end_kernel(kernel)


@pytest.mark.runner
def test_a_connection_from_another_site_is_refused(target, kernel):
    url = target.url.replace("http", "ws", 1) + f"/api/kernels/{kernel}/channels?token={target.token}"
    with pytest.raises(InvalidStatus) as caught:
        connect(url, origin="https://elsewhere.example").__enter__()
    assert caught.value.response.status_code == 403


@pytest.mark.runner
def test_headers_may_be_short(target, kernel):
    """Sage Cell's clients leave out the date and the version."""
    with Channels(target, kernel, "plain") as client:
        whole = header("execute_request", client.session)
        short = {name: whole[name] for name in ("msg_id", "msg_type", "session")}
        content = {"code": "print('short')", "silent": False, "allow_stdin": False}
        client.socket.send(pack_plain(Message("shell", short, content=content)))
        assert client.answer(short["msg_id"]).text() == "short\n"
