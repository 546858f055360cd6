"""A runner whose files are in a bucket: uploads, outputs, parts of them, what deletion leaves.

usage: runner.py RUNNER FOLDER, with RUNNER_TEST_S3 naming a server that has the bucket `files`
"""

import json
import os
import re
import subprocess
import sys
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


def request(url, data=None, headers=None, method=None):
    asked = urllib.request.Request(url, data, headers or {}, method=method)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return answer.status, answer.headers, answer.read()


def main():
    runner, folder = sys.argv[1], Path(sys.argv[2])
    endpoint = os.environ["RUNNER_TEST_S3"]
    keys = {
        "AWS_ENDPOINT_URL": endpoint,
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
    process = subprocess.Popen(
        [runner, "up"], env=environment, cwd=folder, stdout=subprocess.PIPE, text=True
    )
    try:
        base = None
        for line in process.stdout:
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                base = found.group()
                break
        assert base, "the runner says where it is"
        check(base, stored)
    finally:
        process.terminate()
        assert process.wait(30) == 0, process.returncode
    drafts = list((folder / "instance/files/tmp").iterdir())
    assert drafts == [], drafts
    print("a runner with a bucket: ok")


def check(base, stored):
    def finished(url):
        for _ in range(300):
            task = json.loads(request(url)[2])
            if task["status"] not in ("PENDING", "UNKNOWN"):
                assert task["status"] == "SUCCESS", task
                return task
            time.sleep(0.1)
        raise AssertionError(task)

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
