"""What is measured of sessions. Each scenario measures the runner and the gateway in turns, and gives rows."""

import statistics
import threading
import time
from dataclasses import dataclass

from cells import cells
from client import Failed, Kernel, Rest
from figures import Aim, Figure, Row
from support.links import linked

PEER = "kernel gateway"
CELL = "1 + 1"
NUMPY_CELL = "import numpy; numpy.arange(10).sum()"
PRINTS = 10_000
#: Characters of a line of the large output, with its end.
LINE = "0123456789" * 10 + "\n"


@dataclass
class Size:
    """How much is measured."""

    #: Measurements of each figure.
    repeat: int = 5
    #: Sessions, one after the other, whose first cell is measured: ours, the peer's.
    first: tuple = (30, 6)
    #: Cells in a warm kernel.
    warm: tuple = (300, 40)
    #: Seconds in which sessions are started and ended.
    seconds: float = 6.0
    #: Clients at the same time.
    clients: int = 8
    #: Idle sessions whose memory is counted.
    idle: tuple = (20, 6)
    #: Bytes of the large output.
    output: int = 100_000_000

    @classmethod
    def quick(cls):
        return cls(1, (5, 2), (30, 10), 2.0, 4, (5, 2), 10_000_000)


class Bench:
    """The servers, which live through all scenarios."""

    def __init__(self, ours, peer, size):
        self.sides, self.size = (ours, peer), size

    def turns(self, measure, repeat=None):
        """What `measure(target, which)` gives for both sides, in turns."""
        found = ([], [])
        for _ in range(repeat or self.size.repeat):
            for which, target in enumerate(self.sides):
                found[which].append(measure(target, which))
        return found

    def row(self, name, unit, measure, aim, less=False):
        ours, peer = self.turns(measure)
        return Row(name, Figure(ours, unit), PEER, Figure(peer, unit), aim, less)


def first_cell(bench):
    """From the request for a kernel to the end of its first cell, its connection included."""

    def measure(target, which, code):
        took, rest = [], Rest(target)
        for _ in range(bench.size.first[which]):
            begin = time.perf_counter()
            id = rest.start()
            kernel = Kernel(target, id)
            kernel.run(code)
            took.append((time.perf_counter() - begin) * 1000)
            kernel.close()
            rest.end(id)
        rest.close()
        return statistics.median(took)

    yield bench.row("request to first cell, p50", "ms", lambda *side: measure(*side, CELL), Aim.below(25, "ms"), less=True)
    name = "the same, the cell uses numpy"
    yield bench.row(name, "ms", lambda *side: measure(*side, NUMPY_CELL), Aim.below(25, "ms"), less=True)


def warm_cell(bench):
    """A cell in a kernel that has run some."""

    def measure(target, which):
        rest = Rest(target)
        id = rest.start()
        kernel = Kernel(target, id)
        for _ in range(5):
            kernel.run(CELL)
        took = []
        for _ in range(bench.size.warm[which]):
            begin = time.perf_counter()
            kernel.run(CELL)
            took.append((time.perf_counter() - begin) * 1000)
        kernel.close()
        rest.end(id)
        rest.close()
        return statistics.median(took)

    yield bench.row("warm cell, p50", "ms", measure, Aim.below(2, "ms"), less=True)


def full_sessions(bench):
    """Clients that start a kernel, run a cell and end it, again and again."""

    def measure(target, _):
        done, failures, end = [], [], time.monotonic() + bench.size.seconds

        def client():
            rest = Rest(target)
            try:
                while time.monotonic() < end and not failures:
                    id = rest.start()
                    kernel = Kernel(target, id)
                    kernel.run(CELL)
                    kernel.close()
                    rest.end(id)
                    done.append(time.monotonic())
            except Exception as error:
                failures.append(error)
            finally:
                rest.close()

        begin = time.monotonic()
        threads = [threading.Thread(target=client) for _ in range(bench.size.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise Failed(f"{target.name}: {failures[0]!r}")
        return len(done) / (max(done) - begin)

    yield bench.row(f"full sessions, {bench.size.clients} clients", "/s", measure, Aim.at_least(60, "/s"))


def private_dirty(target):
    """Bytes that only one process of the server has, and has written, of all its processes."""
    total = 0
    for pid in [target.process.pid, *(process.pid for process in target.processes())]:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as lines:
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")) * 1024
        except (OSError, ProcessLookupError):
            pass  # It has ended meanwhile.
    return total


def idle_memory(bench):
    """Unshared memory that an idle session adds to all processes of a server."""

    def settled(target):
        """Of the memory, when it does not change much any more: pools are filled, caches returned."""
        last, end = private_dirty(target), time.monotonic() + 10
        while time.monotonic() < end:
            time.sleep(0.5)
            now = private_dirty(target)
            if abs(now - last) < 1 << 19:
                break
            last = now
        return private_dirty(target)

    def measure(target, which):
        rest, kernels = Rest(target), []
        before = settled(target)
        for _ in range(bench.size.idle[which]):
            id = rest.start()
            kernel = Kernel(target, id)
            kernel.run(NUMPY_CELL)
            kernels.append((id, kernel))
        after = settled(target)
        for id, kernel in kernels:
            kernel.close()
            rest.end(id)
        rest.close()
        return (after - before) / len(kernels) / 1e6

    yield bench.row("unshared memory of an idle session", "MB", measure, Aim.below(8, "MB"), less=True)


def with_kernel(target, work):
    rest = Rest(target)
    id = rest.start()
    kernel = Kernel(target, id)
    kernel.run(CELL)
    try:
        return work(kernel)
    finally:
        kernel.close()
        rest.end(id)
        rest.close()


def flushed_prints(bench):
    """A cell that flushes each of many lines: how many come, and how fast."""

    def measure(target, _):
        def work(kernel):
            begin = time.perf_counter()
            texts, _ = kernel.run(f"for n in range({PRINTS}): print(n, flush=True)")
            took = time.perf_counter() - begin
            lines = set("".join(text for name, text in texts if name == "stdout").splitlines())
            return len(lines & {str(n) for n in range(PRINTS)}), took

        return with_kernel(target, work)

    ours, peer = bench.turns(measure)
    counts = [Figure([count for count, _ in side], "lines") for side in (ours, peer)]
    rates = [Figure([count / took for count, took in side], "/s") for side in (ours, peer)]
    yield Row(f"{PRINTS:,} flushed prints, delivered", counts[0], PEER, counts[1], Aim.at_least(PRINTS, "lines"))
    yield Row("the same, delivered per second", rates[0], PEER, rates[1], Aim.at_least(10_000, "/s"))


def large_output(bench):
    """A cell that prints very much: what comes on the wire or as a linked file, and how fast."""
    count = -(-bench.size.output // len(LINE))
    size = count * len(LINE)

    def measure(target, _):
        def work(kernel):
            begin = time.perf_counter()
            texts, others = kernel.run(f"import sys\nfor _ in range({count}): sys.stdout.write({LINE!r})")
            took = time.perf_counter() - begin
            text = "".join(text for name, text in texts if name == "stdout")
            delivered = text.count(LINE) * len(LINE)
            if delivered < size:
                # A file may have all, or what is beyond the quota.
                told = [*others, *(text for name, text in texts if name == "stderr")]
                delivered = min(size, max(delivered, linked(target, text, told) + delivered))
            return delivered / 1e6, took

        return with_kernel(target, work)

    ours, peer = bench.turns(measure, min(2, bench.size.repeat))
    parts = [Figure([part for part, _ in side], "MB") for side in (ours, peer)]
    rates = [Figure([size / 1e6 / took for _, took in side], "MB/s") for side in (ours, peer)]
    yield Row(f"{size / 1e6:.0f} MB of output, delivered or linked", parts[0], PEER, parts[1], Aim.at_least(bench.size.output // 10**6, "MB"))
    yield Row("the same, printed per second", rates[0], PEER, rates[1])


SCENARIOS = {
    "first": first_cell,
    "warm": warm_cell,
    "sessions": full_sessions,
    "memory": idle_memory,
    "prints": flushed_prints,
    "output": large_output,
    "cells": cells,
}
