"""A runner whose files are in a bucket: uploads, outputs, parts of them, what deletion leaves, a bucket that goes away;
a worker that is cut off from it while a module is loaded.

usage: runner.py RUNNER FOLDER, with RUNNER_TEST_S3 naming a server that has the bucket `files`
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

import boto3

PLUGINS = '''
from runner import Data, Integer, Upload, plugin

@plugin(version="1.0.0")
def fills(task, size: Integer()):
    with task.open_output("large.bin", "a/b", mode="wb") as file:
        for n in range(size):
            file.write(bytes([n % 251]) * (1 << 20))
    task.output("small.txt", "small", data_type="a/b")

@plugin(version="1.0.0")
def keeps(task, file: Upload()):
    task.output(file.name, path=file.path, data_type="a/b")

@plugin(version="1.0.0")
def calls(task):
    called = task.call("fills", size=1)
    return " ".join(f"{output.name}={len(output.read_bytes())}" for output in called.outputs)
'''


MODULE = "return { name = 'kept', version = '1.0.0', run = function() return 'from the bucket' end }\n"


class Way:
    """The way to the server of the bucket, which can be cut: connections end, and new ones are refused."""

    def __init__(self, endpoint):
        place = urllib.parse.urlsplit(endpoint)
        self.server = (place.hostname, place.port)
        self.lock = threading.Lock()
        self.open = set()
        self.listener = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.mend()

    def mend(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def cut(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for one in self.open:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # It has ended itself.

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(self.server)
            except OSError:
                return
            with self.lock:
                self.open |= {client, server}
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source, target):
        try:
            while piece := source.recv(1 << 16):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # Cut, or one side has left.
        with self.lock:
            self.open.discard(source)


def request(url, data=None, headers=None, method=None):
    asked = urllib.request.Request(url, data, headers or {}, method=method)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return answer.status, answer.headers, answer.read()


def main():
    runner, folder = sys.argv[1], Path(sys.argv[2])
    endpoint = os.environ["RUNNER_TEST_S3"]
    way = Way(endpoint)
    keys = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{way.port}",
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    os.environ.update(keys)
    bucket = boto3.resource("s3", endpoint_url=endpoint).Bucket("files")

    def stored():
        names = (one.key for one in bucket.objects.filter(Prefix="runner/"))
        return sorted(name for name in names if name != "runner/store-id")

    (folder / "plugins").mkdir()
    (folder / "plugins/bucket.py").write_text(PLUGINS)
    environment = {
        **os.environ,
        "PLUGIN_FOLDERS": str(folder / "plugins"),
        "RUNNER_PORT": "0",
        "RUNNER_INSTANCE_FOLDER": str(folder / "instance"),
        "FILE_STORE_ROOT_PATH": "s3://files/runner",
    }
    process = start([runner, "up"], environment, folder)
    try:
        base = address(process)
        check(base, stored)
        check_absence(base, way, stored)
    finally:
        process.terminate()
        assert process.wait(30) == 0, process.returncode
    drafts = list((folder / "instance/files/tmp").iterdir())
    assert drafts == [], drafts
    check_following(runner, folder, environment, endpoint, way)
    print("a runner with a bucket: ok")


def start(command, environment, folder, stderr=None):
    return subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=stderr, text=True
    )


def address(process):
    for line in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return found.group()
    raise AssertionError("the runner does not say where it is")


def check_following(runner, folder, environment, endpoint, way):
    """A worker that cannot reach the bucket while a module is loaded has it as soon as it can."""
    assert shutil.which("redis-server"), "redis-server is missing: apt install redis-server"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    redis = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    both = {
        **environment,
        "BROKER_URL": f"redis://127.0.0.1:{port}/0",
        "DATABASE_URL": f"sqlite:///{folder}/shared.sqlite",
        "FILE_STORE_ROOT_PATH": "s3://files/shared",
    }
    processes = []
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        instance = folder / "server"
        direct = {"RUNNER_INSTANCE_FOLDER": str(instance), "AWS_ENDPOINT_URL": endpoint}
        processes.append(start([runner, "server"], {**both, **direct}, folder))
        base = address(processes[0])
        bearer = {"Authorization": f"Bearer {(instance / 'token').read_text().strip()}"}
        elsewhere = {"RUNNER_INSTANCE_FOLDER": str(folder / "worker")}
        log = folder / "worker.log"
        with log.open("w") as stderr:
            processes.append(start([runner, "worker"], {**both, **elsewhere}, folder, stderr))

        def view():
            listed = json.loads(request(f"{base}/modules/", headers=bearer)[2])
            return listed["generation"], [(one["generation"], one["failing"]) for one in listed["others"]]

        def until(is_so):
            for _ in range(900):
                if is_so():
                    return
                time.sleep(0.1)
            raise AssertionError((view(), log.read_text()))

        until(lambda: view() == (0, [(0, {})]))
        way.cut()
        module = folder / "kept.lua"
        module.write_text(MODULE)
        load = json.dumps({"target": str(module)}).encode()
        kind = {"Content-Type": "application/json"}
        assert request(f"{base}/modules/", load, {**bearer, **kind})[0] == 201
        until(lambda: "follows what is wanted" in log.read_text())
        assert view()[1][0] != (1, {}), view()
        way.mend()
        until(lambda: view() == (1, [(1, {})]))
        asked = urllib.request.Request(f"{base}/plugins/kept@1-0-0/process/", b"")
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert finished(answer.url)["log"] == "from the bucket"
    finally:
        for process in processes:
            process.terminate()
        ends = [process.wait(30) for process in processes]
        redis.kill()
        redis.wait()
    assert ends == [0, 0], ends


def finished(url):
    for _ in range(300):
        task = json.loads(request(url)[2])
        if task["status"] not in ("PENDING", "UNKNOWN"):
            assert task["status"] == "SUCCESS", task
            return task
        time.sleep(0.1)
    raise AssertionError(task)


def check_absence(base, way, stored):
    """A bucket that is away for some seconds while tasks store in it costs them time, and nothing else."""

    def submit(_):
        asked = urllib.request.Request(f"{base}/plugins/fills@1-0-0/process/", b"size=12")
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.url

    def ready():
        try:
            return True, request(f"{base}/health/ready")[2]
        except urllib.error.HTTPError as error:
            assert error.code == 503, error
            return False, error.read()

    def until(wanted):
        for _ in range(300):
            is_ready, said = ready()
            if is_ready == wanted:
                return said
            time.sleep(0.1)
        raise AssertionError(said)

    before = len(stored())
    tasks = [submit(n) for n in range(8)]
    while len(stored()) == before:
        time.sleep(0.005)
    way.cut()
    said = until(False)
    assert json.loads(said)["checks"]["files"]["ok"] is False, said
    assert request(f"{base}/health/live")[0] == 200
    assert any(json.loads(request(task)[2])["status"] in ("PENDING", "UNKNOWN") for task in tasks)
    way.mend()
    until(True)
    content = b"".join(bytes([n % 251]) * (1 << 20) for n in range(12))
    for task in map(finished, tasks):
        large, small = (output["href"] for output in task["outputs"])
        assert request(large)[2] == content
        assert request(small)[2] == b"small"
    assert len(stored()) == before + len(tasks), stored()
    for task in tasks:
        request(task, method="DELETE")
    assert len(stored()) == before, stored()


def check(base, stored):
    def run(plugin, data, headers=None):
        asked = urllib.request.Request(f"{base}/plugins/{plugin}@1-0-0/process/", data, headers or {})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            url = answer.url
        return url, finished(url)

    request(f"{base}/plugins/")
    url, task = run("fills", b"size=20")
    large, small = (output["href"] for output in task["outputs"])
    content = b"".join(bytes([n % 251]) * (1 << 20) for n in range(20))
    assert request(large)[2] == content
    assert request(small)[2] == b"small"
    status, headers, part = request(large, headers={"Range": "bytes=5000000-17000000"})
    assert (status, part) == (206, content[5000000:17000001])
    assert headers["Content-Range"] == f"bytes 5000000-17000000/{len(content)}"
    assert len(stored()) == 1, "the large one; the small one is a text in its row"

    boundary = uuid.uuid4().hex
    body = (
        f"--{boundary}\r\nContent-Disposition: form-data; name=file; filename=up.bin\r\n\r\n".encode()
        + content
        + f"\r\n--{boundary}--\r\n".encode()
    )
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    kept_url, kept = run("keeps", body, kind)
    assert request(kept["outputs"][0]["href"])[2] == content
    assert len(stored()) == 3, "the upload and the output"

    called_url, called = run("calls", b"")
    assert "large.bin=1048576 small.txt=5" in called["log"], called

    for one in (url, kept_url):
        request(one, method="DELETE")
    assert len(stored()) == 1, stored()
    try:
        request(large)
    except urllib.error.HTTPError as error:
        assert error.code == 404, error
    else:
        raise AssertionError("a deleted output is gone")


main()
