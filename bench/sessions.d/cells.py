"""What is measured of the interface of Sage Cell. Its own server is not started here: beside ours stand its figures as
published for ten kernels that are forked ahead, on two cores."""

import statistics
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import requests
from figures import Aim, Figure, Row
from support.sage_cell import SockJs, execute
from support.target import TARGETS
from support.wait import until

PEER = "Sage Cell, published"
#: Requests of a burst, each by a client of its own.
BURST = 50
TERMS = {"accepted_tos": "true"}


def cells(bench):
    """A page that runs its first cell; single cells, one after the other and at once."""
    # A runner of their own: their kernels would be counted with those of others.
    target = TARGETS["runner"]({"LOG_LEVEL": "warn", "SAGE_CELL": "on"})
    try:
        yield from rows_of(target, bench.size)
    finally:
        target.stop()


def rows_of(target, size):
    session = requests.Session()

    def single(code, said):
        answer = session.post(f"{target.url}/service", data={"code": code, **TERMS}, timeout=60)
        assert answer.json()["stdout"] == said, answer.text

    def first_output(_):
        begin = time.perf_counter()
        asked = {"CellSessionID": str(uuid.uuid4()), "timeout": "0", **TERMS}
        kernel = session.post(f"{target.url}/kernel", params=asked, data="{}", timeout=60).json()["id"]
        page = SockJs(target, kernel)
        page.say(execute(page.session, "print('hello')"))
        page.until("its output", lambda message: message.kind == "stream")
        took = (time.perf_counter() - begin) * 1000
        page.close()
        session.delete(f"{target.url}/kernel/{kernel}", timeout=60)
        return took

    def one_cell(_):
        begin = time.perf_counter()
        single("print(6 * 7)", "42\n")
        return (time.perf_counter() - begin) * 1000

    def burst():
        def client(number):
            answer = requests.post(f"{target.url}/service", data={"code": f"print({number})", **TERMS}, timeout=60)
            return answer.json()["stdout"]

        begin = time.perf_counter()
        with ThreadPoolExecutor(BURST) as clients:
            said = list(clients.map(client, range(BURST)))
        assert said == [f"{number}\n" for number in range(BURST)], said
        return time.perf_counter() - begin

    def median(measure):
        return [statistics.median(map(measure, range(size.first[0]))) for _ in range(size.repeat)]

    until("kernels that wait", lambda: session.post(f"{target.url}/service", data={"code": "1", **TERMS}).ok)
    rows = (
        ("POST /kernel to first output by SockJS, p50", median(first_output), "ms", 270.0, 60),
        ("POST /service, p50", median(one_cell), "ms", 19.0, 10),
        (f"{BURST} single cells at once", [burst() for _ in range(size.repeat)], "s", 6.8, 1),
    )
    for name, ours, unit, published, most in rows:
        yield Row(name, Figure(ours, unit), PEER, Figure([published], unit), Aim.below(most, unit), less=True)
