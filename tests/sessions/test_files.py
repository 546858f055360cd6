"""Files into a session and out of it."""

import concurrent.futures
import hashlib
import http.client
import io
import os
import zipfile
from urllib.parse import quote

import pytest

from support.wait import until
from support.wire import Channels

pytestmark = pytest.mark.runner


@pytest.fixture
def files(target, kernel, client):
    """The path of a session's files, when its kernel is there."""
    client.run("1")
    return f"/api/kernels/{kernel}/files"


def listed(target, files):
    answer = target.request("GET", files)
    assert answer.status_code == 200, answer.text
    return {one["path"]: one["size"] for one in answer.json()["files"]}


@pytest.mark.parametrize("content", [b"", b"text\n", os.urandom(3_000_000)], ids=["empty", "short", "3 MB"])
def test_a_file_goes_in_and_comes_out(target, files, client, content):
    assert target.request("PUT", f"{files}/given.bin", data=content).status_code in (200, 201, 204)
    answer = client.run("import hashlib; print(hashlib.sha256(open('given.bin', 'rb').read()).hexdigest())")
    assert answer.text().strip() == hashlib.sha256(content).hexdigest()
    assert listed(target, files)["given.bin"] == len(content)
    got = target.request("GET", f"{files}/given.bin")
    assert got.status_code == 200 and got.content == content


def test_what_a_cell_writes_comes_out(target, files, client):
    client.run("import os; os.mkdir('below'); open('below/made.txt', 'w').write('by the cell')")
    assert listed(target, files)["below/made.txt"] == 11
    got = target.request("GET", f"{files}/below/made.txt")
    assert got.text == "by the cell"
    # It is never shown as a page of this server.
    assert "attachment" in got.headers["Content-Disposition"]


def test_a_file_is_replaced_and_removed(target, files, client):
    for text in ("a long first text", "second"):
        target.request("PUT", f"{files}/x.txt", data=text)
    assert client.run("print(open('x.txt').read())").text() == "second\n"
    assert target.request("DELETE", f"{files}/x.txt").status_code == 204
    assert target.request("GET", f"{files}/x.txt").status_code == 404
    assert client.run("import os; print(os.path.exists('x.txt'))").text() == "False\n"


@pytest.mark.parametrize("name", ["ä ö.txt", "%25.txt", "a b&c=d?.txt", "'quoted'\".txt"])
def test_names_are_taken_as_they_are(target, files, client, name):
    assert target.request("PUT", f"{files}/{quote(name)}", data="x").status_code in (200, 201, 204)
    assert client.run(f"print(open({name!r}).read())").text() == "x\n"
    assert name in listed(target, files)


OUTSIDE = ["../outside.txt", "%2e%2e/outside.txt", "a/../../outside.txt", "..%2foutside.txt", "%2fetc%2fpasswd", "%00", "", "."]


def by_hand(target, method, path, body=b""):
    """A request whose path no library tidies up."""
    connection = http.client.HTTPConnection(target.url.removeprefix("http://"), timeout=30)
    connection.request(method, path, body or None, target.authorization)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_that_leads_elsewhere_is_refused(target, files, path):
    before = {one for one in target.folder.rglob("*") if "outside" in one.name}
    for method in ("PUT", "GET", "DELETE"):
        status, content = by_hand(target, method, f"{files}/{path}", b"x" if method == "PUT" else b"")
        assert 400 <= status < 500, f"{method} {path}: {status}"
        assert b"root:" not in content
    assert {one for one in target.folder.rglob("*") if "outside" in one.name} == before


@pytest.mark.parametrize("place", ["/etc/passwd", "../../token", "/proc/self/environ"])
def test_a_link_that_leads_elsewhere_is_not_followed(target, files, client, place):
    client.run(f"import os; os.symlink({place!r}, 'link'); os.symlink('/', 'root')")
    for path in ("link", "root/etc/passwd"):
        got = target.request("GET", f"{files}/{path}")
        assert 400 <= got.status_code < 500, f"{path}: {got.status_code}"
        assert "root:" not in got.text and target.token not in got.text
    target.request("PUT", f"{files}/root/tmp/planted", data="x")
    assert not os.path.exists("/tmp/planted")


@pytest.mark.parametrize("deed", ["os.mkfifo('odd')", "import socket; s = socket.socket(socket.AF_UNIX); s.bind('odd')", "os.mkdir('odd')"])
def test_what_is_no_file_holds_nobody_up(target, files, client, deed):
    client.run(f"import os; {deed}")
    assert 400 <= target.request("GET", f"{files}/odd").status_code < 500
    assert 400 <= target.request("PUT", f"{files}/odd", data="x").status_code < 500


def test_an_upload_that_is_cut_leaves_nothing(target, files):
    connection = http.client.HTTPConnection(target.url.removeprefix("http://"), timeout=30)
    connection.putrequest("PUT", f"{files}/cut.bin")
    for name, value in {**target.authorization, "Content-Length": "1000000"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(b"x" * 100_000)
    connection.close()
    until("it is gone", lambda: "cut.bin" not in listed(target, files))


def test_files_outlive_a_restart_and_end_with_the_session(target):
    kernel = target.start_kernel()
    files = f"/api/kernels/{kernel}/files"
    with Channels(target, kernel) as client:
        client.run("1")
        target.request("PUT", f"{files}/kept.txt", data="kept")
        target.request("POST", f"/api/kernels/{kernel}/restart")
        assert client.run("print(open('kept.txt').read())").text() == "kept\n"
    target.end_kernel(kernel)
    assert target.request("GET", f"{files}/kept.txt").status_code == 404


def test_files_need_the_token(target, files):
    for method in ("GET", "PUT", "DELETE"):
        assert target.request(method, f"{files}/x.txt?token=wrong", token=False).status_code in (401, 403)


def test_files_of_an_unknown_kernel_are_404(target):
    url = "/api/kernels/00000000-0000-4000-8000-000000000000/files"
    assert target.request("GET", url).status_code == 404
    assert target.request("PUT", f"{url}/x", data="x").status_code == 404


# --- forms ----------------------------------------------------------------


def test_a_form_brings_files_under_their_names(target, files, client):
    sent = [("file", ("a.txt", b"one")), ("whatever", ("deep/er/b.bin", os.urandom(500_000))), ("file", ("a ä.txt", b""))]
    answer = target.request("POST", files, files=[*sent, ("text", (None, "no file"))])
    assert answer.status_code == 201, answer.text
    assert answer.json()["files"] == [{"path": name, "size": len(content)} for _, (name, content) in sent]
    assert listed(target, files) == {name: len(content) for _, (name, content) in sent}
    below = target.request("POST", f"{files}?folder=place/", files={"x": ("c.txt", b"three")})
    assert below.json()["files"] == [{"path": "place/c.txt", "size": 5}]
    assert client.run("print(open('place/c.txt').read(), open('a.txt').read())").text() == "three one\n"


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..", "a\x00b"])
def test_a_form_with_a_name_that_leads_elsewhere_leaves_nothing(target, files, name):
    body = b"--B\r\nContent-Disposition: form-data; name=f; filename=good.txt\r\n\r\ngood\r\n--B\r\n"
    body += b'Content-Disposition: form-data; name=f; filename="' + name.encode() + b'"\r\n\r\nbad\r\n--B--\r\n'
    answer = target.request("POST", files, {"Content-Type": "multipart/form-data; boundary=B"}, data=body)
    assert answer.status_code == 400, f"{answer.status_code}: {answer.text}"
    assert listed(target, files) == {}


@pytest.mark.parametrize(
    "kind, body",
    [
        ("multipart/form-data; boundary=B", b"--B\r\nContent-Disposition: form-data; name=f; filename=a\r\n\r\ncut"),
        ("multipart/form-data; boundary=B", b"nonsense"),
        ("multipart/form-data; boundary=B", b'--B\r\nContent-Disposition: form-data; name="f"\r\n\r\nno file\r\n--B--\r\n'),
        ("multipart/form-data", b"--B--\r\n"),
        ("application/json", b"{}"),
    ],
    ids=["cut", "no form", "no file", "no boundary", "json"],
)
def test_what_is_no_form_of_files_is_400_and_leaves_nothing(target, files, kind, body):
    answer = target.request("POST", files, {"Content-Type": kind}, data=body)
    assert answer.status_code == 400 and answer.json()["message"], answer.text
    assert listed(target, files) == {}


def test_an_upload_that_is_cut_keeps_the_file_that_was_there(target, files, client):
    target.request("PUT", f"{files}/kept.txt", data="as it was")
    connection = http.client.HTTPConnection(target.url.removeprefix("http://"), timeout=30)
    connection.putrequest("PUT", f"{files}/kept.txt")
    for name, value in {**target.authorization, "Content-Length": "1000000"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(b"x" * 100_000)
    drafts = "import os; print([name for name in os.listdir() if name.startswith('.draft')])"
    until("it has begun", lambda: client.run(drafts).text() != "[]\n")
    connection.close()
    until("its draft is gone", lambda: client.run(drafts).text() == "[]\n")
    assert target.request("GET", f"{files}/kept.txt").text == "as it was"


# --- archives -------------------------------------------------------------


def test_all_files_come_as_an_archive(target, files, client):
    client.run("import os; os.makedirs('a/b'); open('a/b/x.txt', 'w').write('deep'); open('top.bin', 'wb').write(b'0' * 3_000_000)")
    client.run("open('.hidden', 'w').close(); os.symlink('/etc/passwd', 'link'); os.mkfifo('pipe')")
    answer = target.request("GET", f"{files}.zip")
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert {one.filename: one.file_size for one in archive.infolist()} == {"a/b/x.txt": 4, "top.bin": 3_000_000}
        assert archive.read("a/b/x.txt") == b"deep"
        assert archive.getinfo("top.bin").date_time[0] >= 2025
    below = target.request("GET", f"{files}.zip?folder=a")
    with zipfile.ZipFile(io.BytesIO(below.content)) as archive:
        assert archive.namelist() == ["b/x.txt"]
    shown = target.request("GET", f"{files}?folder=a").json()["files"]
    assert [one["path"] for one in shown] == ["a/b/x.txt"]
    for path in (f"{files}.zip?folder=none", f"{files}.zip?folder=../..", f"{files}?folder=/etc", f"{files}.zip?folder=top.bin"):
        assert 400 <= target.request("GET", path).status_code < 500, path


def test_an_archive_that_nobody_reads_holds_nobody_up(target, files, client):
    client.run("import os; open('large', 'wb').write(os.urandom(30_000_000))")
    for _ in range(20):
        answer = target.request("GET", f"{files}.zip", stream=True)
        assert answer.status_code in (200, 503)
        answer.close()
    answer = until("an archive", lambda: (got := target.request("GET", f"{files}.zip")).status_code == 200 and got)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None and archive.getinfo("large").file_size == 30_000_000


# --- URLs for plugins -----------------------------------------------------


def test_a_file_has_a_url_that_needs_no_token(target, files):
    for name in ("a b ä.txt", "deep/%25.json"):
        target.request("PUT", f"{files}/{quote(name)}", data=name)
    shown = {one["path"]: one["url"] for one in target.request("GET", files).json()["files"]}
    for name in ("a b ä.txt", "deep/%25.json"):
        url = shown[name]
        assert url.startswith(target.url)
        got = target.request("GET", url.removeprefix(target.url), token=False)
        assert got.status_code == 200 and got.content == name.encode() and "attachment" in got.headers["Content-Disposition"]
        tag = url.split("/shared/")[1].split("/")[0]
        for wrong in (url.replace(tag, "0" * 32), url.replace(tag, tag[1:]), url + "x"):
            assert target.request("GET", wrong.removeprefix(target.url), token=False).status_code == 404
    other = shown["a b ä.txt"].rsplit("/", 1)[0] + "/" + quote("deep/%25.json")
    assert target.request("GET", other.removeprefix(target.url), token=False).status_code == 404


def run(target, plugin, **values):
    """Runs a plugin as a client does; gives the task when it has ended."""
    answer = target.request("POST", f"/plugins/{plugin}@1-0-0/process/", data=values)
    assert answer.status_code == 303, answer.text
    path = answer.headers["Location"]

    def ended():
        task = target.request("GET", path).json()
        return task["status"] != "PENDING" and task

    return until("the end of the task", ended), path


def test_a_file_of_a_session_is_an_input_of_any_plugin(target, files):
    target.request("PUT", f"{files}/in/data.csv", data="a,b\n1,2\n")
    (shown,) = target.request("GET", files).json()["files"]
    task, _ = run(target, "weigh", data=shown["url"])
    assert task["status"] == "SUCCESS", task["log"]
    got = target.request("GET", task["outputs"][0]["href"].removeprefix(target.url))
    assert got.json() == {"name": "data.csv", "size": 8}


def test_an_output_of_a_task_comes_into_a_session(target, files, client):
    task, path = run(target, "shout", inputStr="hello")
    url, number = task["outputs"][0]["href"], path.strip("/").split("/")[1]
    for wanted in (f"from={quote(url, safe='')}", f"from={quote(url.removeprefix(target.url), safe='')}", f"task={number}&output=out.txt"):
        answer = target.request("POST", f"{files}/got/out.txt?{wanted}")
        assert answer.status_code == 201, answer.text
        assert answer.json() == {"path": "got/out.txt", "size": 5}
        assert client.run("print(open('got/out.txt').read())").text() == "HELLO\n"
        target.request("DELETE", f"{files}/got/out.txt")
    for wanted, status in {
        f"from={quote(url + 'x', safe='')}": 404,
        "from=/files/999999/%3Ffile-id=x": 404,
        "from=http://127.0.0.1/secret": 404,
        f"task={number}&output=none": 404,
        "task=999999&output=out.txt": 404,
        "task=x&output=out.txt": 400,
        f"task={number}": 400,
        f"from=x&task={number}&output=x": 400,
        "": 400,
    }.items():
        answer = target.request("POST", f"{files}/got/out.txt?{wanted}")
        assert answer.status_code == status and answer.json()["message"], f"{wanted}: {answer.status_code} {answer.text}"
    assert 400 <= by_hand(target, "POST", f"{files}/..%2fx?task={number}&output=out.txt")[0] < 500
    assert listed(target, files) == {}


# --- the quota ------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow():
    """A server where a session has 4 MiB of files."""
    from support.target import Runner

    server = Runner({"SESSION_FILES_PER_SESSION": str(4 << 20)})
    yield server
    server.stop()


@pytest.fixture
def small(narrow):
    """A kernel there, and the path of its files."""
    kernel = narrow.start_kernel()
    with Channels(narrow, kernel) as client:
        client.run("1")
        yield client, f"/api/kernels/{kernel}/files"
    narrow.end_kernel(kernel)


def test_more_than_a_session_may_have_is_507_and_leaves_nothing(narrow, small):
    client, files = small
    assert narrow.request("PUT", f"{files}/a", data=b"x" * (3 << 20)).status_code == 204
    parts = (b"x" * (1 << 16) for _ in range(80))
    for answer in (
        narrow.request("PUT", f"{files}/b", data=b"x" * (2 << 20)),
        narrow.request("PUT", f"{files}/b", data=parts),
        narrow.request("POST", files, files={"f": ("b", b"x" * (2 << 20))}),
    ):
        assert answer.status_code == 507, answer.text
        assert str(4 << 20) in answer.json()["message"] and "SESSION_FILES_PER_SESSION" in answer.json()["message"]
    assert listed(narrow, files) == {"a": 3 << 20}
    assert narrow.request("DELETE", f"{files}/a").status_code == 204
    assert narrow.request("PUT", f"{files}/b", data=b"x" * (2 << 20)).status_code == 204


def test_uploads_at_once_do_not_pass_the_quota(narrow, small):
    _, files = small
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        put = lambda number: narrow.request("PUT", f"{files}/{number}", data=(b"x" * (1 << 16) for _ in range(16))).status_code  # noqa: E731
        statuses = list(pool.map(put, range(8)))
    assert set(statuses) <= {204, 507} and 507 in statuses
    assert sum(listed(narrow, files).values()) <= 4 << 20


def test_a_cell_that_writes_more_is_interrupted_and_told_why(narrow, small):
    client, files = small
    code = "import time\nfor n in range(3000):\n    open(f'f{n}', 'wb').write(b'x' * 30_000)\n    time.sleep(0.002)"
    answer = client.run(code)
    assert answer.reply.content["ename"] == "KeyboardInterrupt"
    assert "SESSION_FILES_PER_SESSION" in answer.text("stderr") and str(4 << 20) in answer.text("stderr")
    # What reads and removes goes on.
    assert client.run("import glob, os; print(len(glob.glob('f*')) > 100); [os.remove(f) for f in glob.glob('f*')]; 1").status == "ok"
    assert narrow.request("PUT", f"{files}/b", data=b"x" * (2 << 20)).status_code == 204


def test_a_cell_that_does_not_stop_writing_loses_its_kernel(narrow, small):
    client, files = small
    code = (
        "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nn = 0\n"
        "while True:\n    n += 1\n    open(f'f{n}', 'wb').write(b'x' * 30_000)\n    time.sleep(0.005)"
    )
    answer = client.run(code)
    assert answer.reply.content["ename"] == "KernelDied"
    assert "SESSION_FILES_PER_SESSION" in answer.reply.content["evalue"]
    # The next kernel is in the same folder, and lives.
    assert client.run("import glob; print(len(glob.glob('f*')) > 100)").text() == "True\n"
    assert narrow.request("PUT", f"{files}/b", data=b"x").status_code == 507
