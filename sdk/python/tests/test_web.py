"""Own routes of plugins: patterns, forms, files, and the server in its host."""

import io
import json
import os
import tempfile
import unittest
from pathlib import Path

from runner import DefinitionError, HttpError, Link, plugin
from runner.multipart import parse
from runner.plugin import REGISTRY
from runner.testing import Host
from runner.web import Folder, Headers, Request, Response, Route, Routes, Values

PLUGIN = """
import html
from runner import HttpError, Response, plugin

@plugin(version="1.0.0")
def shout(task):
    pass

shout.static("/static", "files")

@shout.route("/page/{name}")
def page(request, name):
    return f"<h1>{html.escape(name)}</h1>{request.url('page/next')} {request.base_url}"

@shout.route("/count", methods=["POST"])
def count(request):
    return {"size": sum(len(piece) for piece in request.stream())}

@shout.route("/echo", methods=["POST"])
def echo(request):
    return Response(request.stream(), content_type="text/plain")

@shout.route("/json", methods=["PUT"])
def read(request):
    return request.json()

@shout.route("/fails")
def fails(request):
    raise KeyError("secret")

@shout.route("/exits")
def exits(request):
    raise SystemExit(1)

@shout.route("/refused")
def refused(request):
    raise ConnectionRefusedError("by somebody else")

@shout.route("/wrong")
def wrong(request):
    return 5

@shout.route("/nothing")
def nothing(request):
    pass

@shout.route("/bytes")
def some_bytes(request):
    return b"\\0"
"""


def request(method="GET", target="/", headers=(), body=b""):
    return Request(method, target, headers, io.BytesIO(body).read)


class Patterns(unittest.TestCase):
    def setUp(self):
        self.routes = Routes()

    def add(self, pattern, methods=("GET",), said=None):
        def handler(request, **values):
            return {"by": said or pattern, **values}

        self.routes.add(Route(pattern, methods, handler, "here"))

    def ask(self, target, method="GET"):
        return json.loads(self.routes.answer(request(method, target)).body)

    def test_plain_segments_come_first_whatever_the_order(self):
        for pattern in ("/{rest:path}", "/a/{x}", "/a/b", "/{x}/b"):
            self.add(pattern)
        self.assertEqual(self.ask("/a/b"), {"by": "/a/b"})
        self.assertEqual(self.ask("/a/c"), {"by": "/a/{x}", "x": "c"})
        self.assertEqual(self.ask("/c/b"), {"by": "/{x}/b", "x": "c"})
        self.assertEqual(self.ask("/c/d/"), {"by": "/{rest:path}", "rest": "c/d/"})

    def test_a_parameter_is_one_segment_and_decoded_late(self):
        self.add("/a/{x}")
        self.assertEqual(self.ask("/a/b%2Fc%20d"), {"by": "/a/{x}", "x": "b/c d"})
        for path in ("/a/", "/a", "/a/b/", "/a/b/c", "/", "//a/b"):
            with self.subTest(path), self.assertRaises(HttpError) as raised:
                self.ask(path)
            self.assertEqual(raised.exception.status, 404)

    def test_methods_that_nobody_takes_are_told_which_are(self):
        self.add("/a", ["get"])
        self.add("/a", ["POST"], "post")
        self.assertEqual(self.ask("/a", "POST"), {"by": "post"})
        self.assertEqual(self.ask("/a", "HEAD"), {"by": "/a"})
        with self.assertRaises(HttpError) as raised:
            self.ask("/a", "PUT")
        self.assertEqual(raised.exception.headers, {"Allow": "GET, HEAD, POST, OPTIONS"})
        options = self.routes.answer(request("OPTIONS", "/a"))
        self.assertEqual(options.headers["Allow"], "GET, HEAD, POST, OPTIONS")

    def test_what_cannot_be_a_route_is_refused(self):
        wrong = "page,,//x,/,/ui,/ui/,/process/,/{x}y,/{x:path}/y,/{1}"
        for pattern in wrong.split(","):
            with self.subTest(pattern), self.assertRaises(DefinitionError):
                Route(pattern, ["GET"], print, "here")
        with self.assertRaises(DefinitionError):
            Route("/x", "GET", print, "here")
        Route("/ui/x", ["GET"], print, "here")

    def test_a_plugin_says_that_it_has_routes(self):
        @plugin(version="1.0.0", links=[Link("home", "page/start"), ("docs", "https://x.org/")])
        def routed(task):
            pass

        self.addCleanup(REGISTRY.plugins.pop, "routed@1-0-0")
        self.assertNotIn("routes", routed.describe())
        routed.route("/page/{name}")(lambda request, name: name)
        description = routed.describe()
        self.assertIs(description["routes"], True)
        self.assertEqual(description["links"][0], {"type": "home", "href": "page/start"})
        with self.assertRaisesRegex(DefinitionError, "no folder 'missing'"):
            routed.static("/static", "missing")


class Values_(unittest.TestCase):
    def test_the_first_value_wins_and_all_are_kept(self):
        values = Values([("a", "1"), ("b", "2"), ("a", "3")])
        self.assertEqual((dict(values), values.all("a")), ({"a": "1", "b": "2"}, ["1", "3"]))
        headers = Headers([("X-A", "1"), ("x-a", "2")])
        self.assertEqual((headers["x-A"], headers.get("X-a"), "X-A" in headers), ("1", "1", True))
        self.assertEqual(headers.all("X-a"), ["1", "2"])

    def test_the_way_back_is_known(self):
        asked = request(
            target="/x?a=%C3%A4&a=b&c",
            headers=[
                ("X-Forwarded-Host", "h:1"),
                ("X-Forwarded-Proto", "https"),
                ("X-Forwarded-Prefix", "/r/plugins/p@1-0"),
            ],
        )
        self.assertEqual(asked.base, "https://h:1/r/plugins/p@1-0/")
        self.assertEqual(asked.base_url, "https://h:1/r")
        self.assertEqual(asked.url("a/b?c"), "https://h:1/r/plugins/p@1-0/a/b?c")
        self.assertEqual(asked.query.pairs, [("a", "ä"), ("a", "b"), ("c", "")])

    def test_bodies_have_limits(self):
        with self.assertRaises(HttpError) as raised:
            request(body=b"x" * 11).body(10)
        self.assertEqual(raised.exception.status, 413)
        for body in (b"{", b"\xff", b"[" * 100_000):
            with self.assertRaises(HttpError) as raised:
                request(body=body).json()
            self.assertEqual(raised.exception.status, 400)


class Forms(unittest.TestCase):
    BODY = (
        b"preamble\r\n--b\r\nContent-Disposition: form-data; name=\"a%22\"\r\n\r\n"
        b"1\r\n-bx\r\n\r\n--b\r\n"
        b"content-disposition: form-data; name=f; filename=\"c:\\\\dir\\\\x.txt\"\r\n"
        b"Content-Type: text/plain\r\n\r\n\0--b\r\n\r\n--b\r\n"
        b"Content-Disposition: form-data; name=\"none\"; filename=\"\"\r\n\r\n\r\n--b--\r\nafter"
    )

    def test_parts_are_found_however_the_body_is_cut(self):
        for size in (1, 2, 3, 7, 1000):
            pieces = (self.BODY[at : at + size] for at in range(0, len(self.BODY), size))
            fields, files = parse(pieces, 'boundary="b"')
            self.assertEqual(fields, [('a"', "1\r\n-bx\r\n")], size)
            self.assertEqual(list(files), ["f"])
            file = files["f"]
            self.assertEqual((file.name, file.content_type), ("x.txt", "text/plain"))
            self.assertEqual(file.file.read(), b"\0--b\r\n")
            file.file.close()

    def test_what_is_no_form_is_said(self):
        for body, options in [
            (b"", "boundary=b"),
            (b"--b\r\n", "boundary=b"),
            (self.BODY[:-12], "boundary=b"),
            (b"--b\r\n" + b"x" * 20_000, "boundary=b"),
            (b"--b\r\n\r\n\r\n" * 1001 + b"--b--", "boundary=b"),
            (self.BODY, ""),
            (self.BODY, "boundary=" + "b" * 71),
        ]:
            with self.subTest(options), self.assertRaises(HttpError) as raised:
                parse(iter([body]), options)
            self.assertEqual(raised.exception.status, 400)
        with self.assertRaises(HttpError) as raised:
            parse(iter([b"--b\r\n\r\n", b"x" * (17 << 20), b"\r\n--b--"]), "boundary=b")
        self.assertEqual(raised.exception.status, 413)


class Folders(unittest.TestCase):
    def test_nothing_outside_is_answered(self):
        with tempfile.TemporaryDirectory() as root:
            inside = Path(root, "in")
            inside.mkdir()
            Path(root, "secret").write_text("x")
            Path(root, "in-secret").write_text("x")
            (inside / "a.js").write_text("1")
            os.symlink(Path(root, "secret"), inside / "link")
            os.symlink(inside / "a.js", inside / "alias.js")
            folder = Folder(inside)
            outside = ("link", "../secret", "../in-secret", "/a.js", "..")
            for path in (*outside, "a.js/", "", "a.js/x", "a\0", ".hidden"):
                with self.subTest(path), self.assertRaises(HttpError):
                    folder(request(), path)
            for path in ("a.js", "alias.js"):
                answer = folder(request(), path)
                self.assertEqual(answer.headers["Content-Type"], "text/javascript; charset=utf-8")
                answer.body.close()
            known = request(headers=[("If-None-Match", answer.headers["ETag"])])
            self.assertEqual(folder(known, "a.js").status, 304)


class Serving(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        entry = Path(cls.folder.name, "shout.py")
        entry.write_text(PLUGIN)
        Path(cls.folder.name, "files").mkdir()
        Path(cls.folder.name, "files", "x.css").write_text("a {}")
        cls.host = Host(entry, web=True)
        cls.host.__enter__()
        cls.addClassCleanup(cls.host.close)

    def ask(self, path, method="GET", body=None, **headers):
        with self.host.visit("shout", path, method, body, headers) as answer:
            return answer.status, answer.headers, answer.read()

    def test_pages_and_files(self):
        status, headers, body = self.ask("/page/%3Cb%3E")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        base = "http://localhost/plugins/shout@1-0-0/page/next http://localhost"
        self.assertEqual(body.decode(), f"<h1>&lt;b&gt;</h1>{base}")
        self.assertEqual(self.ask("/page/x", "HEAD")[::2], (200, b""))
        self.assertEqual(self.ask("/static/x.css")[::2], (200, b"a {}"))
        self.assertEqual(self.ask("/nothing")[::2], (204, b""))
        status, headers, body = self.ask("/bytes")
        self.assertEqual((headers["Content-Type"], body), ("application/octet-stream", b"\0"))

    def test_bodies_of_every_framing(self):
        pieces = [b"x" * 1000] * 100
        for body in (b"".join(pieces), iter(pieces)):
            status, _, answer = self.ask("/count", "POST", body)
            self.assertEqual((status, json.loads(answer)), (200, {"size": 100_000}))
        self.assertEqual(self.ask("/echo", "POST", iter(pieces))[2], b"".join(pieces))
        self.assertEqual(json.loads(self.ask("/json", "PUT", b'[1, "a"]')[2]), [1, "a"])

    def test_failures_are_told_to_the_log_only(self):
        for path in ("/fails", "/exits", "/refused", "/wrong"):
            status, _, body = self.ask(path)
            error = {"code": 500, "status": "Internal Server Error"}
            self.assertEqual((status, json.loads(body)), (500, error))
        self.assertEqual(self.ask("/missing")[0], 404)
        self.assertEqual(self.ask("/count")[0], 405)
        status, _, body = self.ask("/json", "PUT", b"{")
        self.assertEqual(status, 400)
        self.assertIn("no JSON", json.loads(body)["message"])
        with self.host.visit("other@1-0", "/page/x") as answer:
            self.assertEqual(answer.status, 404)
        # The protocol goes on beside.
        self.assertEqual(self.host.request("ping"), {})
        for told in ("KeyError: 'secret'", "SystemExit", "this returned int"):
            self.assertIn(told, self.host.stderr)


class Responses(unittest.TestCase):
    def test_errors_have_the_form_of_the_runners(self):
        error = Response.error(404, "No such page.")
        expected = {"code": 404, "message": "No such page.", "status": "Not Found"}
        self.assertEqual(json.loads(error.body), expected)
        self.assertEqual(json.loads(Response.error(599).body), {"code": 599, "status": "Error"})

    def test_a_given_type_is_kept(self):
        plain = Response("x", headers={"content-type": "text/plain"})
        self.assertEqual(plain.headers, {"content-type": "text/plain"})


if __name__ == "__main__":
    unittest.main()
