"""What is measured. Each scenario answers rows; ours and the peers are measured in turns."""

import os
from dataclasses import dataclass

from figures import Aim, Figure, Row
from guard import Failure
from peers import Celery, Postgres, RedisServer, run
from runner import PostgresDatabase, Runner, Sqlite, drained, is_scaled_out

# The QHAna plugin runner, measured on two shared cores of the same kind of machine (bench/README.md): the better
# end of each range that was seen.
REFERENCE = "reference, published"
REFERENCE_LATENCY = {"PostgreSQL": 38.0, "SQLite": 26.0}
# What the aims are multiples of.
REFERENCE_LOOP = {"PostgreSQL": 45.0, "SQLite": 60.0}
LOOP_AIM = {"PostgreSQL": 30, "SQLite": 50}


@dataclass
class Size:
    """How much is done."""

    repeat: int
    seconds: float
    queued: int  # tasks of a drain
    spread: int  # tasks of a drain by 1, 2, 4 workers
    celery: int  # tasks of a drain by Celery
    commands: int  # of bare Redis
    rows: tuple  # finished tasks in the table

    @staticmethod
    def full():
        return Size(5, 4.0, 20_000, 8_000, 4_000, 200_000, (1_000, 10_000, 100_000, 1_000_000))

    @staticmethod
    def quick():
        return Size(1, 1.0, 1_000, 500, 300, 30_000, (1_000, 10_000))


class Bench:
    """What the scenarios share. Each part is started when it is needed first."""

    def __init__(self, guard, program, library, options, size):
        self.guard, self.program, self.library, self.options, self.size = guard, program, library, options, size
        self._parts = {}

    def _part(self, name, make):
        if name not in self._parts:
            self._parts[name] = make()
        return self._parts[name]

    @property
    def redis(self):
        return self._part("redis", lambda: RedisServer(self.guard))

    @property
    def postgres(self):
        return self._part("postgres", lambda: Postgres(self.guard, self.options.database_url))

    def celery(self, pool):
        database = {"threads": 1, "prefork": 2}[pool]
        return self._part(pool, lambda: Celery(self.guard, self.redis, self.options.venv, pool, database))

    def runner(self, kind, name=""):
        """On PostgreSQL or SQLite; those of another name have a database and a queue of their own."""
        full = f"bench-{kind.lower()}{name}"

        def make():
            if not is_scaled_out(self.program):
                raise Failure(f"{self.program} has no commands `server` and `worker`")
            if kind == "PostgreSQL":
                database = PostgresDatabase(self.postgres, f"runner_bench_{os.getpid()}{name.replace('-', '_')}")
            else:
                database = Sqlite(os.path.join(self.guard.folder, f"{full}.sqlite"))
            return Runner(self.guard, self.program, self.library, self.redis, database, full)

        return self._part(full, make)

    def embedded(self):
        def make():
            database = Sqlite(os.path.join(self.guard.folder, "bench-embedded.sqlite"))
            return Runner(self.guard, self.program, self.library, None, database, "bench-embedded")

        return self._part("embedded", make)

    def in_turns(self, **measures):
        """Each measure so often, in turns that change their direction. Answers their values by name."""
        values = {name: [] for name in measures}
        for turn in range(self.size.repeat):
            names = list(measures) if turn % 2 == 0 else list(reversed(measures))
            for name in names:
                values[name].append(measures[name]())
        return values

    def close(self):
        if "postgres" in self._parts:
            for part in self._parts.values():
                if isinstance(part, Runner):
                    part.stop()
            self._parts["postgres"].close()


def latency(bench):
    """One client: from the POST to SUCCESS seen."""
    runners = {kind: bench.runner(kind) for kind in ("PostgreSQL", "SQLite")}
    seconds = bench.size.seconds
    measures = {kind: lambda r=r: r.bench("latency", seconds)["ms"] for kind, r in runners.items()}
    for pool in ("threads", "prefork"):
        bench.celery(pool).start()
        measures[pool] = lambda c=bench.celery(pool): c.loop(1, seconds)["p50_ms"]
    for runner in runners.values():
        runner.start(2)
    values = bench.in_turns(**measures)
    rows = []
    for kind in runners:
        scenario = f"latency: POST to SUCCESS, p50, {kind}"
        ours = Figure(values[kind], "ms")
        aim = Aim.below(6, "ms") if kind == "PostgreSQL" else None
        rows.append(Row(scenario, ours, REFERENCE, Figure([REFERENCE_LATENCY[kind]], "ms"), aim, less=True))
        for pool in ("threads", "prefork"):
            peer = Figure(values[pool], "ms")
            rows.append(Row(scenario, ours, f"Celery {pool}, send to result", peer, less=True))
    return rows


def closed_loop(bench):
    """8 clients, each: POST, wait for SUCCESS, again."""
    seconds = bench.size.seconds
    runners = {kind: bench.runner(kind) for kind in ("PostgreSQL", "SQLite")}
    for runner in runners.values():
        runner.start(2)
        # Hosts live, caches are warm, and there is a finished task.
        runner.bench("closed-loop", 0.5)
    database = runners["PostgreSQL"].database
    bench.postgres.prepare_pgbench(database.name, runners["PostgreSQL"].newest())
    measures = {kind: lambda r=r: r.bench("closed-loop", seconds)["tasks/s"] for kind, r in runners.items()}
    measures["pgbench"] = lambda: bench.postgres.pgbench(database.name, seconds)
    for pool in ("threads", "prefork"):
        bench.celery(pool).start()
        measures[pool] = lambda c=bench.celery(pool): c.loop(8, seconds)["rate"]
    values = bench.in_turns(**measures)
    rows = []
    for kind in runners:
        scenario = f"closed loop, 8 clients, {kind}"
        ours = Figure(values[kind], "tasks/s")
        reference = Figure([REFERENCE_LOOP[kind]], "tasks/s")
        rows.append(Row(scenario, ours, REFERENCE, reference, Aim.ratio(LOOP_AIM[kind])))
        if kind == "PostgreSQL":
            peer = Figure(values["pgbench"], "tx/s")
            rows.append(Row(scenario, ours, "pgbench, insert + update", peer, Aim.ratio(0.25)))
        for pool in ("threads", "prefork"):
            peer = Figure(values[pool], "tasks/s")
            rows.append(Row(scenario, ours, f"Celery {pool}, 8 clients with results", peer))
    return rows


def embedded(bench):
    """`runner up`: server and worker in one, SQLite, no Redis. For comparison with the scaled-out runner."""
    runner = bench.embedded()
    runner.start(0)
    runner.bench("closed-loop", 0.5)
    seconds = bench.size.seconds
    values = bench.in_turns(
        loop=lambda: runner.bench("closed-loop", seconds)["tasks/s"],
        latency=lambda: runner.bench("latency", seconds)["ms"],
    )
    reference = Figure([REFERENCE_LOOP["SQLite"]], "tasks/s")
    loop = Row("embedded: closed loop, 8 clients, SQLite", Figure(values["loop"], "tasks/s"), REFERENCE, reference)
    reference = Figure([REFERENCE_LATENCY["SQLite"]], "ms")
    ours = Figure(values["latency"], "ms")
    return [loop, Row("embedded: POST to SUCCESS, p50, SQLite", ours, REFERENCE, reference, less=True)]


def drain(bench):
    """A filled queue, until all has succeeded: two workers, beside two of Celery with a task that does nothing."""
    size = bench.size
    kinds = ("PostgreSQL", "SQLite")
    pools = ("threads", "prefork")
    database_pids = {kind: [bench.postgres.pid] if kind == "PostgreSQL" and bench.postgres.pid else [] for kind in kinds}
    measures = {kind: lambda k=kind: bench.runner(k).drain(size.queued, 2, database_pids[k]) for kind in kinds}
    for pool in pools:
        measures[pool] = lambda c=bench.celery(pool): c.drain(size.celery)
        measures[f"{pool}, results"] = lambda c=bench.celery(pool): c.drain_with_results(size.celery)
    values = bench.in_turns(**measures)
    rows = []
    for kind in kinds:
        found = [drained(ends) for ends, _ in values[kind]]
        ours = Figure([rate for rate, _, _ in found], "tasks/s")
        our_cpu = Figure([cpu for _, cpu in values[kind]], "ms")
        scenario = f"drain {size.queued:,}, 2 workers, {kind}"
        for pool in pools:
            peer = Figure([rate for rate, _ in values[pool]], "tasks/s")
            rows.append(Row(scenario, ours, f"Celery {pool}, no-op", peer, Aim.ratio(2)))
        for pool in pools:
            peer = Figure([cpu for _, cpu in values[pool]], "ms")
            rows.append(Row(f"{scenario}: processor time of a task", our_cpu, f"Celery {pool}, no-op", peer, less=True))
        for pool in pools:
            peer = Figure(values[f"{pool}, results"], "tasks/s")
            rows.append(Row(scenario, ours, f"Celery {pool}, no-op, results fetched", peer))
        last = Figure([last for _, last, _ in found], "tasks/s")
        first = Figure([first for _, _, first in found], "tasks/s")
        rows.append(Row(f"{scenario}: last quarter", last, "first quarter", first, Aim.ratio(0.9)))
    return rows


def workers(bench):
    """The same queue drained by one, two and four workers."""
    size = bench.size
    rows = []
    for kind in ("PostgreSQL", "SQLite"):
        runner = bench.runner(kind)
        counts = (1, 2, 4)
        measures = {str(count): lambda c=count: drained(runner.drain(size.spread, c)[0])[0] for count in counts}
        values = bench.in_turns(**measures)
        found = {count: Figure(values[str(count)], "tasks/s") for count in counts}
        rows.append(Row(f"2 workers, {kind}", found[2], "1 worker", found[1]))
        rows.append(Row(f"4 workers, {kind}", found[4], "2 workers", found[2], Aim.ratio(0.9)))
    return rows


def queue(bench):
    """The queue alone, from push to done in one process, beside bare commands on the same Redis."""
    redis, count = bench.redis, bench.size.commands
    example = bench.options.queue or os.path.join(os.path.dirname(bench.program), "examples", "queue")
    if not os.path.exists(example):
        raise Failure(f"{example} is missing: cargo build --release -p runner-bench --example queue")
    values = bench.in_turns(
        ours=lambda: float(run([example, "ours", redis.url(0), str(count)])),
        bare=lambda: float(run([example, "bare", redis.url(3), str(count)])),
        xadd=lambda: redis.benchmark(count, "XADD", "added", "MAXLEN", "~", "1000", "*", "task", "1"),
        lpush=lambda: redis.benchmark(count, "LPUSH", "pushed", "1"),
    )
    figure = Figure(values["ours"], "jobs/s")
    peers = {
        "XADD, XREADGROUP, XACK, XDEL in pipelines": Figure(values["bare"], "jobs/s"),
        "redis-benchmark XADD -c 8 -P 16": Figure(values["xadd"], "commands/s"),
        "redis-benchmark LPUSH -c 8 -P 16": Figure(values["lpush"], "commands/s"),
    }
    rows = [Row("queue alone, 4 consumers", figure, name, peer) for name, peer in peers.items()]
    rows[0].aim = Aim.at_least(30_000, "jobs/s")
    return rows


def million(bench):
    """A new task beside a thousand to a million finished ones in its table, in turns with a table of its own
    that has a thousand."""
    seconds = bench.size.seconds
    rows = []
    for kind in ("PostgreSQL", "SQLite"):
        few, many = bench.runner(kind, "-few"), bench.runner(kind, "-many")
        for runner in (few, many):
            runner.start(1)
            runner.bench("closed-loop", 0.5)
            runner.fill_table(bench.size.rows[0])
        for count in bench.size.rows:
            many.fill_table(count)
            many.bench("closed-loop", 0.5)
            values = bench.in_turns(
                few=lambda: few.bench("latency", seconds / 2)["ms"],
                many=lambda: many.bench("latency", seconds / 2)["ms"],
                few_loop=lambda: few.bench("closed-loop", seconds / 2)["tasks/s"],
                many_loop=lambda: many.bench("closed-loop", seconds / 2)["tasks/s"],
            )
            name = f"beside {count:,} finished tasks, {kind}"
            beside = f"beside {bench.size.rows[0]:,}"
            last = count == bench.size.rows[-1]
            for what, less, unit, tail in (("many", True, "ms", ", p50"), ("many_loop", False, "tasks/s", ", closed loop")):
                peer = Figure(values[what.replace("many", "few")], unit)
                aim = Aim.ratio(0.9) if last else None
                rows.append(Row(name + tail, Figure(values[what], unit), beside, peer, aim, less))
        for runner in (few, many):
            runner.stop()
    return rows


SCENARIOS = {
    "latency": latency,
    "closed-loop": closed_loop,
    "embedded": embedded,
    "drain": drain,
    "workers": workers,
    "queue": queue,
    "million": million,
}
