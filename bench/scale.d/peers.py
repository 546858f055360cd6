"""What the runner is measured beside, each started for the measurement: Redis, PostgreSQL, Celery."""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

from guard import Failure, cpu_seconds
from redis_client import Redis

HERE = os.path.dirname(os.path.abspath(__file__))
CELERY = ["celery[redis]==5.7.0", "redis==8.1.0"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def program(name, package, *folders):
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *folders]))
    if not found:
        raise Failure(f"{name} is missing: apt install {package}")
    return found


def run(command, **options):
    """Its standard output."""
    done = subprocess.run(command, text=True, capture_output=True, **options)
    if done.returncode != 0:
        raise Failure(f"{os.path.basename(command[0])} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def middle_rate(ends):
    """Tasks per second between the tenth and the ninetieth percent of them: without start and finish."""
    ends = sorted(ends)
    first, last = len(ends) // 10, len(ends) * 9 // 10
    return (last - first) / (ends[last] - ends[first])


class RedisServer:
    """A Redis that keeps nothing. Databases: 0 the runner, 1 and 2 Celery, 3 bare commands."""

    def __init__(self, guard):
        server = program("redis-server", "redis-server")
        self.port = free_port()
        options = {"--port": self.port, "--bind": "127.0.0.1", "--save": "", "--appendonly": "no", "--dir": guard.folder}
        words = [str(word) for option in options.items() for word in option]
        self._process = guard.start("redis", [server, *words, "--loglevel", "notice"])
        deadline = time.monotonic() + 10
        while True:
            try:
                self.client = Redis(self.port)
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise Failure(f"redis-server does not answer{self._process.last_words()}") from None
                time.sleep(0.05)

    def url(self, database):
        return f"redis://127.0.0.1:{self.port}/{database}"

    def benchmark(self, count, *command):
        """What redis-benchmark says of a command: requests per second, 8 clients, 16 in a pipeline."""
        words = [program("redis-benchmark", "redis-tools"), "-p", str(self.port), "--dbnum", "3", "--csv"]
        out = run([*words, "-c", "8", "-P", "16", "-n", str(count), *command])
        return float(out.strip().splitlines()[-1].rsplit('","', 7)[1].strip('"'))


class Postgres:
    """A PostgreSQL of its own with its defaults (fsync is on), or another one by its URL."""

    def __init__(self, guard, url=None):
        self._databases, self._guard = [], guard
        self.psql = program("psql", "postgresql-client")
        self.own = url is None
        if url is not None:
            self._base, _, query = url.partition("?")
            self._base, self._query = self._base.rsplit("/", 1)[0], "?" + query if query else ""
            self.pid = None
            return
        folders = sorted(glob_bins(), reverse=True)
        # As root, initdb and the server run as the user that the package made.
        options = {}
        if os.geteuid() == 0:
            try:
                user = pwd.getpwnam("postgres")
            except KeyError:
                raise Failure("PostgreSQL refuses root, and there is no user postgres") from None
            options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = os.path.join(guard.folder, "postgres")
        os.mkdir(data, 0o700)
        if options:
            os.chown(data, user.pw_uid, user.pw_gid)
        initdb = program("initdb", "postgresql", *folders)
        run([initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"], cwd=data, **options)
        port = free_port()
        server = program("postgres", "postgresql", *folders)
        words = ["-D", data, "-p", str(port), "-k", data, "-c", "listen_addresses=127.0.0.1"]
        process = guard.start("postgres", [server, *words], stop=signal.SIGINT, cwd=data, **options)
        self.pid = process.pid
        self._base, self._query = f"postgresql://postgres@127.0.0.1:{port}", ""
        deadline = time.monotonic() + 30
        while True:
            try:
                self.sql("postgres", "SELECT 1")
                return
            except Failure:
                if time.monotonic() > deadline:
                    raise Failure(f"PostgreSQL does not answer{process.last_words()}") from None
                time.sleep(0.1)

    def url(self, database):
        return f"{self._base}/{database}{self._query}"

    def sql(self, database, statement):
        """Rows as lists of texts."""
        words = [self.psql, "-XqAt", "-F", "\x1f", "-v", "ON_ERROR_STOP=1", "-d", self.url(database)]
        out = run(words, input=statement)
        return [line.split("\x1f") for line in out.splitlines()]

    def create(self, name):
        self.sql("postgres", f'CREATE DATABASE "{name}"')
        self._databases.append(name)

    def close(self):
        """Takes its databases out of a server that stays."""
        for name in self._databases if not self.own else []:
            self.sql("postgres", f'DROP DATABASE "{name}" WITH (FORCE)')

    def prepare_pgbench(self, database, task):
        """A table like that of the tasks, with its indexes, and a script: one transaction that inserts a row
        like this task's and ends it with an update."""
        self.sql(database, "CREATE SCHEMA peer; CREATE TABLE peer.tasks (LIKE public.tasks INCLUDING ALL)")
        [[text]] = self.sql(database, f"SELECT row_to_json(t) FROM tasks t WHERE id = {task}")
        row = json.loads(text)
        del row["id"]
        end = ["state", "holder", "finished_at", "output_count", "log_length", "log", "version", "last_write"]
        updates = ", ".join(f"{name} = {literal(row[name])}" for name in end if name in row)
        fresh = {"state": "queued", "holder": None, "finished_at": None, "output_count": 0, "log_length": 0, "log": ""}
        row |= {name: value for name, value in fresh.items() if name in row}
        script = (
            "BEGIN;\n"
            f"INSERT INTO peer.tasks ({', '.join(row)}) VALUES ({', '.join(map(literal, row.values()))})"
            " RETURNING id \\gset\n"
            f"UPDATE peer.tasks SET {updates} WHERE id = :id AND run = {row['run']};\n"
            "COMMIT;\n"
        )
        self._script = os.path.join(self._guard.folder, "pgbench.sql")
        with open(self._script, "w") as file:
            file.write(script)

    def pgbench(self, database, seconds, clients=8):
        """Transactions per second."""
        words = [program("pgbench", "postgresql", *glob_bins()), "-n", "-M", "prepared", "-f", self._script]
        words += ["-c", str(clients), "-j", "2", "-T", str(max(1, round(seconds))), "-d", self.url(database)]
        out = run(words)
        failed = re.search(r"number of failed transactions: (\d+)", out)
        if failed and failed[1] != "0":
            raise Failure(f"{failed[1]} transactions of pgbench failed")
        return float(re.search(r"tps = ([0-9.]+)", out)[1])


def glob_bins():
    root = "/usr/lib/postgresql"
    versions = os.listdir(root) if os.path.isdir(root) else []
    return [os.path.join(root, version, "bin") for version in versions]


def literal(value):
    """For pgbench, which takes :name for a variable also within quotes."""
    if value is None:
        return "NULL"
    if isinstance(value, (int, float)):
        return str(value)
    return "E'" + value.replace("\\", "\\\\").replace("'", "''").replace(":", "\\x3a") + "'"


def celery_venv(folder):
    """A venv with Celery; made once, since that takes longer than a quick measurement."""
    python = os.path.join(folder, "bin", "python")
    made = os.path.join(folder, "made-of")
    if not os.path.exists(made) or open(made).read() != "\n".join(CELERY):
        print(f"installing {', '.join(CELERY)} in {folder}", file=sys.stderr)
        run([sys.executable, "-m", "venv", "--clear", folder])
        # kombu 5.7 needs packaging for Redis, and does not say so.
        run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *CELERY, "packaging"])
        with open(made, "w") as file:
            file.write("\n".join(CELERY))
    return python


class Celery:
    """Two workers with two threads or processes each, on a database of the same Redis."""

    def __init__(self, guard, redis, venv, pool, database):
        self._guard, self._redis, self.pool = guard, redis, pool
        self._python, self._workers = celery_venv(venv), []
        self._database = database
        url = redis.url(database)
        self._env = {**os.environ, "CELERY_URL": url, "PYTHONDONTWRITEBYTECODE": "1"}

    def start(self):
        if self._workers:
            return
        options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "warning"]
        # Celery warns root on every start; that it may be root is meant here.
        env = {**self._env, "C_FORCE_ROOT": "1"}
        for number in (1, 2):
            words = [self._python, "-m", "celery", "-A", "celery_noop", "worker", "-P", self.pool, "-c", "2"]
            words += ["-n", f"{self.pool}{number}@%h", *options]
            name = f"celery-{self.pool}{number}"
            self._workers.append(self._guard.start(name, words, cwd=HERE, env=env))

    def stop(self):
        for worker in self._workers:
            worker.stop()
        self._workers = []

    def _client(self, *words, **options):
        return run([self._python, os.path.join(HERE, "celery_noop.py"), *map(str, words)], env=self._env, **options)

    def loop(self, clients, seconds):
        """Clients that send a task and wait for its result: rate and p50 in ms."""
        self.start()
        return json.loads(self._client("loop", clients, seconds))

    def drain(self, count):
        """Tasks per second and processor ms per task of a filled queue, results ignored."""
        self.stop()
        redis = Redis(self._redis.port)
        try:
            redis.pipeline([("SELECT", self._database), ("FLUSHDB",)])
            self._client("fill", count)
            self.start()
            return self._watch(redis, count)
        finally:
            redis.close()

    def _watch(self, redis, count):
        """Celery has no event for the end of a task without a result, so the queue is looked at."""
        pids = [worker.pid for worker in self._workers]
        begin, deadline = None, time.monotonic() + 300
        while True:
            left = sum(redis.pipeline([("LLEN", "celery"), ("HLEN", "unacked")]))
            now = time.monotonic()
            if begin is None and left <= count * 0.9:
                begin = (now, left, cpu_seconds(pids))
            if begin is not None and left <= count * 0.1:
                done = begin[1] - left
                cpu = (cpu_seconds(pids) - begin[2]) / done * 1000
                return done / (now - begin[0]), cpu
            if now > deadline:
                raise Failure(f"Celery ({self.pool}) has not drained {count} tasks in 300 s")
            time.sleep(0.01)

    def drain_with_results(self, count):
        """Tasks per second of a filled queue whose results are kept, and fetched while it is drained."""
        self.stop()
        redis = Redis(self._redis.port)
        redis.pipeline([("SELECT", self._database), ("FLUSHDB",)])
        redis.close()
        ids = self._client("keep", count)
        self.start()
        return middle_rate(json.loads(self._client("fetch", input=ids)))
