"""The runner as it is scaled out: a server, workers, and its own bench as the client."""

import json
import os
import shutil
import sqlite3
import time
import urllib.request

from guard import Failure, cpu_seconds
from peers import middle_rate, run

PLUGIN = "hello-world"
# Of ours these would change what is measured.
SETTINGS = ("RUNNER_", "QHANA_", "DATABASE_", "BROKER_", "QUEUE", "CONCURRENCY", "PLUGIN_FOLDERS", "FILE_")
ENDED = "('succeeded', 'failed', 'cancelled')"


def find(given, target):
    """The runner and the library of hello-world, built for release."""
    program = given or os.path.join(target, "release", "runner")
    library = os.path.join(os.path.dirname(os.path.abspath(program)), "libhello_world.so")
    for path in (program, library):
        if not os.path.exists(path):
            raise Failure(f"{path} is missing: cargo build --release -p runner -p hello-world")
    if "--only" not in run([program, "bench", "--help"]):
        raise Failure(f"{program} is too old: its bench has no --only")
    return os.path.abspath(program), library


def is_scaled_out(program):
    return "\n  worker " in run([program, "--help"])


class Sqlite:
    """The database beside the instance folder."""

    def __init__(self, path):
        self.path = path
        self.url = "sqlite:///" + path

    def sql(self, *statements):
        connection = sqlite3.connect(self.path, timeout=60)
        try:
            with connection:
                rows = [connection.execute(statement).fetchall() for statement in statements]
            return rows[-1]
        finally:
            connection.close()

    def columns(self, name):
        return [row[1] for row in self.sql(f"PRAGMA table_info({name})")]

    # `{n}` counts from 1 to the number of copies.
    series = "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count}) SELECT n FROM s)"
    after_fill = ("PRAGMA wal_checkpoint(TRUNCATE)",)


class PostgresDatabase:
    def __init__(self, postgres, name):
        postgres.create(name)
        self._postgres, self.name = postgres, name
        self.url = postgres.url(name)

    def sql(self, *statements):
        for statement in statements[:-1]:
            self._postgres.sql(self.name, statement)
        return self._postgres.sql(self.name, statements[-1])

    def columns(self, name):
        query = "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = '{}'"
        return [row[0] for row in self.sql(query.format(name) + " ORDER BY ordinal_position")]

    series = "(SELECT n FROM generate_series(1, {count}) n)"
    # What autovacuum would do a while later, in the middle of the measurement.
    after_fill = ("SELECT setval(pg_get_serial_sequence('tasks', 'id'), (SELECT max(id) FROM tasks))", "VACUUM ANALYZE")


class Runner:
    """A server and some workers on one database and one queue."""

    def __init__(self, guard, program, library, redis, database, name):
        self._guard, self.program, self._name, self.database = guard, program, name, database
        self.folder = os.path.join(guard.folder, name)
        plugins = os.path.join(guard.folder, "plugins")
        if not os.path.isdir(plugins):
            os.mkdir(plugins)
            shutil.copy(library, plugins)
        self._flags = ["--instance-folder", self.folder, "--plugin-folders", plugins, "--database-url", database.url]
        self._queue = ["--broker-url", redis.url(0), "--queue", name] if redis else []
        self._env = {key: value for key, value in os.environ.items() if not key.startswith(SETTINGS)}
        self._env["LOG_LEVEL"] = "warn"
        self._server, self._workers, self._filled = None, [], False
        self.address = self.plugin = None

    def start(self, workers):
        """A server and so many workers; those that are too many end."""
        if self._server is None:
            # Without a queue: server and worker in one.
            command = "server" if self._queue else "up"
            words = [self.program, command, "--port", "0", *self._queue, *self._flags]
            self._server = self._guard.start(f"{self._name}-server", words, env=self._env, cwd=self._guard.folder)
            line = self._server.wait_for("runner is ready at ")
            self.address = line.split("//")[1].rstrip("/")
            self.plugin = self._identifier()
        while len(self._workers) > workers:
            self._workers.pop().stop()
        fresh = []
        while self._queue and len(self._workers) + len(fresh) < workers:
            name = f"{self._name}-worker{len(self._workers) + len(fresh) + 1}"
            words = [self.program, "worker", *self._queue, *self._flags]
            fresh.append(self._guard.start(name, words, env=self._env, cwd=self._guard.folder))
        for worker in fresh:
            worker.wait_for("worker is ready")
        self._workers += fresh

    def stop(self):
        for process in self._workers + ([self._server] if self._server else []):
            process.stop()
        self._workers, self._server = [], None

    def _identifier(self):
        with urllib.request.urlopen(f"http://{self.address}/plugins/") as answer:
            plugins = json.load(answer)["plugins"]
        for plugin in plugins:
            if plugin["name"] == PLUGIN:
                return plugin["identifier"]
        raise Failure(f"the runner does not offer {PLUGIN}{self._server.last_words()}")

    def bench(self, scenario, seconds=1.0, clients=8, burst=0):
        """Figures of `runner bench` against this server, by unit."""
        words = [self.program, "bench", "--address", self.address, "--plugin", self.plugin, "--json"]
        words += ["--only", scenario, "--seconds", str(seconds), "--clients", str(clients)]
        figures = json.loads(run(words + (["--burst", str(burst)] if burst else []), env=self._env))
        return {figure["unit"]: figure["value"] for figure in figures}

    def pids(self):
        return [process.pid for process in [*self._workers, self._server]]

    def newest(self):
        [[task]] = self.database.sql("SELECT coalesce(max(id), 0) FROM tasks")
        return int(task)

    def drain(self, count, workers, other_pids=()):
        """Fills the queue while there is no worker, starts some, and waits until all has succeeded. Answers
        when each task ended, in seconds, and processor ms per task."""
        self.start(0)
        before = self.newest()
        self.bench("fill", burst=count)
        self.start(0)
        cpu = cpu_seconds([*self.pids(), *other_pids])
        self.start(workers)
        last = self.newest()
        deadline = time.monotonic() + 60 + count / 50
        while True:
            with urllib.request.urlopen(f"http://{self.address}/tasks/{last}/?wait=5") as answer:
                answer.read()
            query = f"SELECT count(*) FROM tasks WHERE id > {before} AND state NOT IN {ENDED}"
            [[left]] = self.database.sql(query)
            if int(left) == 0:
                break
            if time.monotonic() > deadline:
                raise Failure(f"{left} of {count} tasks have not ended in {60 + count / 50:.0f} s")
            time.sleep(0.05)
        cpu = (cpu_seconds([*self.pids(), *other_pids]) - cpu) / count * 1000
        good = "state = 'succeeded' AND output_count = 1"
        rows = self.database.sql(f"SELECT finished_at FROM tasks WHERE id > {before} AND {good}")
        if len(rows) != count:
            raise Failure(f"{len(rows)} of {count} tasks succeeded with their output")
        return [int(row[0]) / 1000 for row in rows], cpu

    def fill_table(self, total):
        """Copies a finished task, with its output's row, until there are so many tasks. The copies have no
        files; nobody reads those."""
        [[have]] = self.database.sql("SELECT count(*) FROM tasks")
        count = total - int(have)
        if count <= 0:
            return
        query = "SELECT max(id) FROM tasks WHERE state = 'succeeded' AND output_count = 1"
        [[model]] = self.database.sql(query)
        first = self.newest()
        series = self.database.series.format(count=count)
        statements = []
        for name, changed in (
            ("tasks", {"id": f"{first} + n"}),
            ("files", {"id": None, "task": f"{first} + n", **dict.fromkeys(("file_key", "key"), "m.{0} || '-' || n")}),
        ):
            columns = [column for column in self.database.columns(name) if changed.get(column, "") is not None]
            values = ", ".join(changed.get(column, "m.{0}").format(column) for column in columns)
            where = "m.id" if name == "tasks" else "m.task"
            statements.append(
                f"INSERT INTO {name} ({', '.join(columns)})"
                f" SELECT {values} FROM {name} m, {series} s WHERE {where} = {model}"
            )
        self.database.sql(*statements)
        for statement in self.database.after_fill:
            self.database.sql(statement)


def drained(ends):
    """The rate of a drain, and of its last quarter to its first, both without start and finish."""
    ends = sorted(ends)
    inner = ends[len(ends) // 20 : len(ends) * 19 // 20]
    quarter = len(inner) // 4
    first = quarter / (inner[quarter] - inner[0])
    last = quarter / (inner[-1] - inner[-1 - quarter])
    return middle_rate(ends), last, first
