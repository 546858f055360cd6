"""Messages on the wire, one by one and in both forms: order, parents, buffers, questions, interrupts,
the kernel's end."""

import contextlib
import random
import uuid

import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from support.wait import until
from support.wire import Channels


# --- a cell -------------------------------------------------------------


def test_a_cell_in_order(channels):
    code = "print('one')\ndisplay('two')\n'three'"
    answer = channels.run(code)
    kinds = [message.state or message.kind for message in answer.told]
    assert kinds == ["busy", "execute_input", "stream", "display_data", "execute_result", "idle"]
    assert answer.of("execute_input") == [{"code": code, "execution_count": 1}]
    assert answer.text() == "one\n"
    assert answer.of("execute_result")[0]["execution_count"] == 1
    reply = answer.reply
    assert (reply.channel, reply.kind) == ("shell", "execute_reply")
    assert reply.content["status"] == "ok"
    assert reply.content["execution_count"] == 1
    assert reply.content["payload"] == []
    assert reply.content["user_expressions"] == {}


def test_headers_are_whole(channels):
    answer = channels.run("1")
    messages = [answer.reply, *answer.told]
    for message in messages:
        assert {"msg_id", "msg_type", "session", "username", "date", "version"} <= message.header.keys()
        assert message.parent["session"] == channels.session
        assert message.header["version"].startswith("5.")
    assert len({message.id for message in messages}) == len(messages)
    assert len({message.header["session"] for message in messages}) == 1


def test_an_error_in_order(channels):
    answer = channels.run("1/0")
    kinds = [message.state or message.kind for message in answer.told]
    assert kinds == ["busy", "execute_input", "error", "idle"]
    (error,) = answer.of("error")
    assert error["ename"] == "ZeroDivisionError"
    assert answer.status == "error"
    assert answer.reply.content["ename"] == "ZeroDivisionError"
    assert answer.reply.content["execution_count"] == 1


def test_cells_behind_one_that_failed_are_aborted(channels):
    # The first waits, so that all are there when it fails.
    requests = [channels.execute("input()\n1/0", allow_stdin=True), channels.execute("print('two')"), channels.execute("print('three')")]
    question = channels.until("a question", lambda message: message.kind == "input_request")[-1]
    channels.send("input_reply", {"value": ""}, "stdin", parent=question.header)
    replies = {}
    for message in channels.until("the last reply", lambda message: message.kind == "execute_reply" and message.is_for(requests[2])):
        assert message.content.get("text") not in ("two\n", "three\n")
        if message.kind == "execute_reply":
            replies[message.parent["msg_id"]] = message.content["status"]
    assert [replies[request] for request in requests] == ["error", "aborted", "aborted"]
    assert channels.run("print('on')").text() == "on\n"


def test_cells_go_on_where_the_client_says_so(channels):
    first = channels.execute("1/0", stop_on_error=False)
    second = channels.execute("print('two')")
    assert channels.answer(first).status == "error"
    assert channels.answer(second).text() == "two\n"


def test_cells_are_answered_in_turn(channels):
    requests = [channels.execute(f"print({number})") for number in range(20)]
    assert [channels.answer(request).text() for request in requests] == [f"{number}\n" for number in range(20)]


def test_silence(channels):
    answer = channels.run("x = 1\nx", silent=True)
    kinds = [message.state or message.kind for message in answer.told]
    assert kinds[0] == "busy" and kinds[-1] == "idle"
    assert "execute_input" not in kinds and "execute_result" not in kinds
    assert channels.run("x").reply.content["execution_count"] == 1


def test_what_a_silent_cell_displays_is_told(channels):
    # The messaging protocol says otherwise; ipykernel does it, and clients read variables this way.
    answer = channels.run("display({'text/plain': 'shown'}, raw=True)", silent=True)
    assert [content["data"] for content in answer.of("display_data")] == [{"text/plain": "shown"}]


def test_a_large_message_both_ways(channels):
    text = "x" * 5_000_000
    answer = channels.run(f"y = {text!r}\nlen(y)")
    assert answer.of("execute_result")[0]["data"]["text/plain"] == "5000000"
    (shown,) = channels.run("display({'text/plain': y}, raw=True)").of("display_data")
    assert shown["data"]["text/plain"] == text


def test_text_that_is_not_ascii(channels):
    text = "zwölf 😀 \u2028 \\ \" \x00 \x7f"
    assert channels.run(f"print({text!r}, end='')").text() == text


def test_an_unknown_request_does_not_hang_the_kernel(channels):
    channels.send("dance_request", {"steps": 3})
    assert channels.run("print('on')").text() == "on\n"


# --- questions to the kernel -------------------------------------------


def test_comms_of_the_client(channels):
    channels.run(
        """
def opened(comm, message):
    comm.on_msg(lambda said: comm.send({"twice": 2 * said["content"]["data"]["number"]}, buffers=[bytes(said["buffers"][0])[::-1]]))
    comm.send({"opened": message["content"]["data"]})
from comm import get_comm_manager
get_comm_manager().register_target("double", opened)"""
    )
    id = uuid.uuid4().hex
    channels.send("comm_open", {"comm_id": id, "target_name": "double", "data": {"a": 1}})
    told = channels.until("the first word", lambda message: message.kind == "comm_msg")[-1]
    assert told.content == {"comm_id": id, "data": {"opened": {"a": 1}}}
    info = channels.ask("comm_info_request", {"target_name": "double"}).reply.content
    assert info["comms"] == {id: {"target_name": "double"}}
    channels.send("comm_msg", {"comm_id": id, "data": {"number": 21}}, buffers=[b"abc"])
    told = channels.until("an answer", lambda message: message.kind == "comm_msg")[-1]
    assert told.content["data"] == {"twice": 42}
    assert [bytes(buffer) for buffer in told.buffers] == [b"cba"]
    channels.send("comm_close", {"comm_id": id, "data": {}})
    assert channels.ask("comm_info_request", {"target_name": "double"}).reply.content["comms"] == {}


def test_comms_of_the_kernel(channels):
    answer = channels.run(
        """
from comm import create_comm
c = create_comm(target_name="from-the-kernel", data={"a": 1}, metadata={"m": 2}, buffers=[b"x" * 1000])
c.close()"""
    )
    opened, closed = (message for message in answer.told if message.kind in ("comm_open", "comm_close"))
    assert opened.content["target_name"] == "from-the-kernel"
    assert opened.content["data"] == {"a": 1}
    assert opened.metadata == {"m": 2}
    assert [bytes(buffer) for buffer in opened.buffers] == [b"x" * 1000]
    assert closed.content["comm_id"] == opened.content["comm_id"]


def test_a_comm_for_an_unknown_target_is_closed(channels):
    id = uuid.uuid4().hex
    channels.send("comm_open", {"comm_id": id, "target_name": "nobody", "data": {}})
    told = channels.until("the end of the comm", lambda message: message.kind == "comm_close")[-1]
    assert told.content["comm_id"] == id


def test_history_in_ranges_and_by_search(channels):
    for code in ("one = 1", "two = 2", "three = 3"):
        channels.run(code)
    asked = {"output": False, "raw": True, "hist_access_type": "range", "session": 0, "start": 1, "stop": 3}
    told = channels.ask("history_request", asked).reply.content["history"]
    assert [line[2] for line in told] == ["one = 1", "two = 2"]


# --- questions of the kernel -------------------------------------------


def test_a_question_has_the_cell_as_its_parent(channels):
    request = channels.execute("print(input('name? '))", allow_stdin=True)
    question = channels.until("a question", lambda message: message.kind == "input_request")[-1]
    assert question.channel == "stdin"
    assert question.is_for(request)
    assert question.content == {"prompt": "name? ", "password": False}
    channels.send("input_reply", {"value": "Grace"}, "stdin", parent=question.header)
    assert channels.answer(request).text() == "Grace\n"


def test_a_question_is_interrupted(target, kernel, channels):
    request = channels.execute("input()", allow_stdin=True)
    channels.until("a question", lambda message: message.kind == "input_request")
    target.request("POST", f"/api/kernels/{kernel}/interrupt")
    assert channels.answer(request).of("error")[0]["ename"] == "KeyboardInterrupt"
    assert channels.run("print('on')").text() == "on\n"


# --- interrupt, restart, end -------------------------------------------



def settle(target, kernel):
    """Waits for a kernel that was restarted. Jupyter's servers lose what is sent before it listens; the runner does not."""
    if target.name != "runner":
        with Channels(target, kernel) as again:
            again.ask("kernel_info_request")


FOR_EVER = "print('on', flush=True)\nwhile True: pass"


def test_interrupt_by_message(channels):
    request = channels.execute(FOR_EVER)
    channels.until("it runs", lambda message: message.content.get("text") == "on\n")
    interrupt = channels.send("interrupt_request", {}, "control")
    seen = channels.until("the reply of the cell", lambda message: message.kind == "execute_reply")
    assert seen[-1].is_for(request) and seen[-1].content["ename"] == "KeyboardInterrupt"
    if not any(message.kind == "interrupt_reply" for message in seen):
        channels.until("the reply", lambda message: message.kind == "interrupt_reply" and message.is_for(interrupt))
    assert channels.run("print('goes on')").text() == "goes on\n"


def test_interrupt_frees_those_that_wait(target, kernel, channels):
    first, second = channels.execute(FOR_EVER), channels.execute("print('two')")
    channels.until("it runs", lambda message: message.content.get("text") == "on\n")
    target.request("POST", f"/api/kernels/{kernel}/interrupt")
    assert channels.answer(first).of("error")[0]["ename"] == "KeyboardInterrupt"
    assert channels.answer(second).status == "aborted"


def test_restart_tells_everyone(target, kernel, form):
    with Channels(target, kernel, form) as one, Channels(target, kernel, form) as two:
        assert one.run("x = 1").status == "ok"
        two.ask("kernel_info_request")
        assert target.request("POST", f"/api/kernels/{kernel}/restart").status_code == 200
        if target.name == "runner":
            # Jupyter's servers tell it of restarts that nobody has asked for.
            for client in (one, two):
                client.until("restarting", lambda message: message.state == "restarting")
        settle(target, kernel)
        assert one.run("x").of("error")[0]["ename"] == "NameError"
        assert two.run("1").reply.content["execution_count"] == 2


def test_restart_ends_a_cell_that_runs(target, kernel, channels):
    channels.execute(FOR_EVER)
    channels.until("it runs", lambda message: message.content.get("text") == "on\n")
    assert target.request("POST", f"/api/kernels/{kernel}/restart").status_code == 200
    settle(target, kernel)
    assert channels.run("print('fresh')").text() == "fresh\n"


ENDED = ("dead", "restarting", "autorestarting")


@pytest.mark.targets("runner", "server")
@pytest.mark.parametrize("deed", ["os._exit(3)", "os._exit(0)", "os.kill(os.getpid(), 9)", "os.abort()"])
def test_a_kernel_that_ends_itself(target, kernel, channels, deed):
    """Its last words come, its end is told, and requests have an answer again, from a new kernel or with why not."""
    assert channels.run("x = 1").status == "ok"
    request = channels.execute(f"print('last words', flush=True)\nimport os; {deed}")
    seen = channels.until("its end", lambda message: message.state in ENDED)
    if target.name != "runner":
        return  # Jupyter's servers lose what is said around a death.
    assert "last words\n" in [message.content.get("text") for message in seen]
    replies = [message for message in seen if message.kind == "execute_reply" and message.is_for(request)]
    assert not replies or replies[0].content["status"] in ("error", "aborted")
    if seen[-1].state == "dead":
        assert target.request("POST", f"/api/kernels/{kernel}/restart").status_code == 200
    assert channels.run("x").of("error")[0]["ename"] == "NameError", "the next request gets to a new kernel"


@pytest.mark.runner
def test_a_cell_whose_kernel_dies_has_an_answer(channels):
    requests = [channels.execute("import os; os._exit(1)"), channels.execute("print('two')")]
    told = [channels.until("a reply", lambda one: one.kind == "execute_reply" and one.is_for(request))[-1] for request in requests]
    assert told[0].content["status"] == "error" and told[0].content["evalue"], "it is said what happened"
    assert told[1].content["status"] in ("aborted", "error")


@pytest.mark.runner
def test_a_kernel_that_was_ended_is_not_started_by_a_message(target, kernel):
    with Channels(target, kernel) as client:
        client.run("1")
    target.end_kernel(kernel)
    try:
        with Channels(target, kernel) as client:
            client.execute("1")
            client.until("its end", lambda message: message.state == "dead")
    except InvalidStatus as refused:
        assert refused.response.status_code in (404, 410)
    except ConnectionClosed:
        pass
    assert target.request("GET", f"/api/kernels/{kernel}").status_code == 404


def test_deletion_while_a_cell_runs(target, kernel, channels):
    channels.execute(FOR_EVER)
    channels.until("it runs", lambda message: message.content.get("text") == "on\n")
    before = len(target.processes())
    assert target.request("DELETE", f"/api/kernels/{kernel}").status_code == 204
    until("its process is gone", lambda: len(target.processes()) < before)


@pytest.mark.runner
def test_clients_hear_of_deletion(target, kernel, channels):
    channels.run("1")
    assert target.request("DELETE", f"/api/kernels/{kernel}").status_code == 204
    try:
        channels.until("dead", lambda message: message.state == "dead")
    except ConnectionClosed:
        pass


@pytest.mark.runner
def test_what_a_cell_started_ends_with_its_kernel(target, kernel, channels):
    # By its seconds, what this cell started is told from all else.
    seconds = str(random.randrange(10_000, 1_000_000))
    code = f"""
import os, signal, subprocess
for detached in (False, True):
    subprocess.Popen(["sleep", "{seconds}"], start_new_session=detached)
child = os.fork()
if child == 0:
    os.setsid()
    if os.fork() == 0:
        # That these are ignored outlives exec.
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
        os.execvp("sleep", ["sleep", "{seconds}"])
    os._exit(0)
os.waitpid(child, 0)"""

    def started():
        found = []
        for process in target.processes():
            with contextlib.suppress(psutil.Error):
                if process.cmdline() == ["sleep", seconds]:
                    found.append(process.pid)
        return found

    assert channels.run(code).status == "ok"
    until("all three run", lambda: len(started()) == 3)
    assert target.request("DELETE", f"/api/kernels/{kernel}").status_code == 204
    until("all of them are gone", lambda: not started())
