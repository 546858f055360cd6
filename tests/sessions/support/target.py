"""The servers that can be tested: a runner, and two of Jupyter's as the measure of the tests themselves.

usage: target.py runner|cluster|gateway|server COMMAND…: runs a command beside a server, which it finds in SESSIONS_URL, SESSIONS_TOKEN
and SESSIONS_TARGET.
"""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import psutil
import requests

ROOT = Path(__file__).resolve().parents[3]
# Settings of whoever runs the tests are not theirs.
FOREIGN = ("RUNNER_", "QHANA_", "DATABASE_", "BROKER_", "QUEUE", "PLUGIN_FOLDERS", "FILE_", "SESSION", "KG_", "JUPYTER_")
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None)
PLUGIN = '''
import json
import time

from runner import Data, Text, Upload, plugin

@plugin(version="1.0.0")
def shout(task, input_str: Text()):
    task.output("out.txt", input_str.upper(), data_type="custom/shout")
    return "done"

@plugin(version="1.0.0")
def weigh(task, data: Data("*")):
    task.output("weight.json", json.dumps({"name": data.name, "size": data.size}), data_type="custom/weight")

@plugin(version="1.0.0")
def reverse(task, file: Upload(), word: Text() = ""):
    task.output(file.name, file.read_bytes()[::-1] + word.encode(), data_type="custom/reversed")
    task.output(file.name, b"twin", data_type="custom/reversed")

@plugin(version="1.0.0")
def patient(task):
    task.log("it has begun")
    task.progress(50)
    while not task.cancelled:
        time.sleep(0.02)

@plugin(version="1.0.0")
def clumsy(task):
    task.log("before the fall")
    raise ValueError("wrong on purpose")
'''


#: Process ids of the servers that were started here; other children of this process have lost their parent.
_STARTED = set()


def adopt_orphans():
    """Makes processes whose parents have ended children of this one, where they are seen."""
    _LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Target:
    """A started server, with a folder of its own for all it writes."""

    name = ""
    #: Whether its kernels live in another process.
    runs_apart = False
    #: What it says when it is ready, with its URL, and maybe its token.
    ready = ()

    def __init__(self, settings=None, folder=None, account=None):
        self.folder = Path(folder or tempfile.mkdtemp(prefix="sessions-"))
        self.is_mine = folder is None
        (self.folder / "tmp").mkdir(exist_ok=True)
        #: Under which it runs, if not that of the tests.
        self.account = account
        self.token = None
        usual = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        usual.update(
            PATH=os.pathsep.join((str(Path(sys.executable).parent), usual["PATH"])),
            PYTHON=sys.executable,
            TMPDIR=str(self.folder / "tmp"),
            HOME=str(self.folder),
        )
        self.usual, self.settings = usual, settings or {}
        command, own = self.command()
        self.log = self.folder / "log"
        as_account = {}
        if account is not None:
            as_account = {"user": account, "group": account, "extra_groups": []}
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, account, account)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command,
                env={**usual, **own, **(settings or {})},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if self.reads_errors else log,
                text=True,
                errors="replace",
                start_new_session=True,
                **as_account,
                # It ends with the tests, however they end.
                preexec_fn=lambda: _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0),
            )
        _STARTED.add(self.process.pid)
        self._words = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._heard = threading.Condition()
        self._reader.start()
        self._wait_until_ready()

    #: Whether what it says comes on its standard error.
    reads_errors = False

    def command(self):
        """The words of the command, and its settings."""
        raise NotImplementedError

    def _read(self):
        with open(self.log, "a") as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                with self._heard:
                    self._words.append(line)
                    self._heard.notify_all()
        with self._heard:
            self._words.append(None)
            self._heard.notify_all()

    def _wait_until_ready(self, seconds=60):
        """Waits until it said all that `ready` has; what is in the groups of those becomes attributes."""
        missing = list(self.ready)
        end, seen = time.monotonic() + seconds, 0
        with self._heard:
            while missing:
                for line in self._words[seen:]:
                    if line is None:
                        raise AssertionError(f"{self.name} ended before it was ready:\n{self.last_words()}")
                    for pattern in missing[:]:
                        if found := re.search(pattern, line):
                            missing.remove(pattern)
                            for name, value in found.groupdict().items():
                                setattr(self, name, value)
                seen = len(self._words)
                if missing and not self._heard.wait(max(0, end - time.monotonic())):
                    raise AssertionError(f"{self.name} was not ready within {seconds} s:\n{self.last_words()}")

    def last_words(self):
        return "".join(self.log.read_text(errors="replace").splitlines(keepends=True)[-40:])

    @property
    def authorization(self):
        return {"Authorization": f"token {self.token}"}

    def request(self, method, path, headers=None, token=True, **more):
        """A request with the token; redirects are not followed."""
        headers = {**(self.authorization if token else {}), **(headers or {})}
        return requests.request(method, self.url + path, headers=headers, timeout=60, allow_redirects=False, **more)

    def start_kernel(self, **body):
        answer = self.request("POST", "/api/kernels", json=body)
        assert answer.status_code == 201, f"{answer.status_code}: {answer.text}"
        return answer.json()["id"]

    def end_kernel(self, kernel):
        answer = self.request("DELETE", f"/api/kernels/{kernel}")
        # Jupyter's servers fail to end a kernel that they are just restarting.
        ended = (204, 404) if self.name == "runner" else (204, 404, 500)
        assert answer.status_code in ended, f"{answer.status_code}: {answer.text}"

    def kernels(self):
        return self.request("GET", "/api/kernels").json()

    def processes(self):
        """All that it has started and that has not ended, also what lost its parent. Needs `adopt_orphans`."""
        me = psutil.Process()
        found = []
        for child in me.children():
            if child.pid == self.process.pid:
                found += child.children(recursive=True)
            elif child.pid not in _STARTED:
                found += [child, *child.children(recursive=True)]
        return [one for one in found if _is_alive(one)]

    def end(self, seconds=30):
        """Tells it to end, and waits. Its exit code."""
        self.process.terminate()
        return self.process.wait(seconds)

    def kill(self):
        """Ends it as a failing machine would."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=30):
        """Ends it, and removes its folder if it has made it. Its exit code."""
        left = self.processes()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for process in left:
            try:
                process.kill()
            except psutil.Error:
                pass
        if self.is_mine:
            shutil.rmtree(self.folder, ignore_errors=True)
        return self.process.returncode


def _is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class Runner(Target):
    name = "runner"
    ready = (
        r"^runner is ready at (?P<url>http://[^/]*)/",
        r"/modules/\?token=(?P<token>[^ \s]*)",
    )

    def command(self):
        program = Path(os.environ.get("RUNNER_BIN", ROOT / "target/debug/runner")).resolve()
        if self.account is not None:
            # Where it is, others may not come.
            program = Path(shutil.copy(program, self.folder))
        plugins = self.folder / "plugins"
        plugins.mkdir(exist_ok=True)
        (plugins / "shout.py").write_text(PLUGIN)
        self.instance = self.folder / "instance"
        words = [program, "up", "--port", "0", "--instance-folder", self.instance, "--plugin-folders", plugins]
        return words, {"DISK_FLOOR": "0", "SHUTDOWN_GRACE": "1", "SESSION_PYTHON": sys.executable}


class Cluster(Runner):
    """A server, a worker with sessions and one with tasks, which meet in a Redis: a runner whose kernels are reached by links."""

    runs_apart = True

    def command(self):
        words, own = super().command()
        #: The settings that both have.
        self.redis_port = free_port()
        shared = {**own, "BROKER_URL": f"redis://127.0.0.1:{self.redis_port}/0"}
        common = [*words[4:]]
        self.helpers = []
        redis = ["redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._help(redis, {}, f"redis://127.0.0.1:{self.redis_port}")
        self._help_out(words[0], common, shared)
        return [words[0], "server", *words[2:4], *common], shared

    def _help_out(self, program, common, shared):
        """Starts what the server needs."""
        for only in ("sessions", "tasks"):
            self._help([program, "worker", "--only", only, *common], shared, None)

    def _help(self, words, own, url):
        with open(self.folder / "log", "ab") as log:
            helper = subprocess.Popen(
                words,
                env={**self.usual, **own, **self.settings},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0),
            )
        _STARTED.add(helper.pid)
        self.helpers.append(helper)
        if url:
            self._wait_for_port(self.redis_port)

    @staticmethod
    def _wait_for_port(port, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError(f"nothing listens at {port}")

    def _wait_until_ready(self, seconds=60):
        super()._wait_until_ready(seconds)
        end = time.monotonic() + seconds
        while self.request("GET", "/api/kernels").status_code != 200:
            assert time.monotonic() < end, f"no worker is there:\n{self.last_words()}"
            time.sleep(0.05)
        # Workers with cells are told of apart.
        cell = {"code": "1", "accepted_tos": "true"}
        while "SAGE_CELL" in self.settings and self.request("POST", "/service", data=cell).status_code == 503:
            assert time.monotonic() < end, f"no worker with cells is there:\n{self.last_words()}"
            time.sleep(0.05)

    def processes(self):
        """Those of the worker: the launcher, the zygote, kernels."""
        found = super().processes()
        for helper in self.helpers[1:]:
            try:
                found += psutil.Process(helper.pid).children(recursive=True)
            except psutil.Error:
                pass
        return [one for one in found if _is_alive(one)]

    def end(self, seconds=30):
        codes = [super().end(seconds)]
        # The worker ends before its Redis.
        for helper in reversed(self.helpers):
            helper.terminate()
            codes.append(helper.wait(seconds))
        return max(codes)

    def kill(self):
        super().kill()
        for helper in self.helpers:
            helper.kill()
            helper.wait()

    def stop(self, seconds=30):
        left = self.processes()
        # The worker ends before its Redis.
        for helper in reversed(self.helpers):
            if helper.poll() is None:
                helper.send_signal(signal.SIGTERM)
            try:
                helper.wait(seconds)
            except subprocess.TimeoutExpired:
                helper.kill()
                helper.wait()
        for process in left:
            try:
                process.kill()
            except psutil.Error:
                pass
        return super().stop(seconds)


class Site(Cluster):
    """Two servers and two workers, and nothing that leads a client back to the server that it knows."""

    def _help_out(self, program, common, shared):
        #: Where each worker tells its numbers.
        self.numbers = []
        for _ in range(2):
            address = f"127.0.0.1:{free_port()}"
            self.numbers.append(f"http://{address}/metrics")
            self._help([program, "worker", "--only", "sessions", *common], {**shared, "METRICS_ADDRESS": address}, None)
        port = free_port()
        self.other_url = f"http://127.0.0.1:{port}"
        self._help([program, "server", "--port", str(port), *common], shared, None)

    def _wait_until_ready(self, seconds=60):
        super()._wait_until_ready(seconds)
        self._wait_for_port(int(self.other_url.rsplit(":", 1)[1]), seconds)
        end = time.monotonic() + seconds
        while len([one for one in self.request("GET", "/workers/").json()["workers"] if "sessions" in one]) < 2:
            assert time.monotonic() < end, f"a worker is missing:\n{self.last_words()}"
            time.sleep(0.05)

    def number(self, name):
        """The numbers that all workers tell under this name, with its labels, together."""
        total = 0
        for url in self.numbers:
            lines = requests.get(url, timeout=60).text.splitlines()
            total += sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " "))
        return total


class Gateway(Target):
    name = "gateway"
    ready = (r"Jupyter Kernel Gateway [^ ]* ?(is available )?at (?P<url>http://[^/\s]*)",)
    reads_errors = True

    def command(self):
        self.own_token = uuid.uuid4().hex
        words = [sys.executable, "-m", "kernel_gateway", "--KernelGatewayApp.ip=127.0.0.1"]
        words += [f"--KernelGatewayApp.port={free_port()}"]
        return words, {"KG_AUTH_TOKEN": self.own_token, "KG_LIST_KERNELS": "True"}

    def _wait_until_ready(self, seconds=60):
        super()._wait_until_ready(seconds)
        self.token = self.own_token


class Server(Target):
    """Jupyter Server, which knows more forms of the token than the gateway, and has sessions that work."""

    name = "server"
    ready = (r"(?P<url>http://127\.0\.0\.1:\d+)/",)
    reads_errors = True

    def command(self):
        self.own_token = uuid.uuid4().hex
        words = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
        words += [f"--ServerApp.port={free_port()}", f"--ServerApp.root_dir={self.folder}"]
        return words, {"JUPYTER_TOKEN": self.own_token}

    def _wait_until_ready(self, seconds=60):
        super()._wait_until_ready(seconds)
        self.token = self.own_token


#: `cluster` promises what `runner` does: the tests take one for the other.
TARGETS = {"cluster": Cluster, **{kind.name: kind for kind in (Runner, Gateway, Server)}}


def main():
    kind, *command = sys.argv[1:]
    adopt_orphans()
    target = TARGETS[kind]()
    try:
        said = {"SESSIONS_URL": target.url, "SESSIONS_TOKEN": target.token, "SESSIONS_TARGET": target.name}
        code = subprocess.run(command, env={**os.environ, **said}, check=False).returncode
    finally:
        target.stop()
    sys.exit(code)


if __name__ == "__main__":
    main()
