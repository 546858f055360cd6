"""The host, as a real process that is spoken to over pipes."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

from runner.channel import MAX_LINE
from runner.testing import SDK, Closed, Host

PLUGINS = """
import os, signal, subprocess, sys, threading, time
from runner import *

def simple(**options):
    return plugin(version="1.0.0", **options)

@simple()
def shout(task, input_str: str, times: int = 1):
    print("printed")
    os.write(1, b"written to descriptor 1\\n")
    subprocess.run(["echo", "said by a child"], check=True)
    task.log("first")
    task.progress(1, 0, 3, "steps")
    task.link("docs", "https://example.org/")
    task.output("out.txt", input_str.upper() * times, data_type="custom/shout")
    return "done"

@simple()
def outputs(task, name: str, file: Upload() = None):
    task.output("bytes", b"\\xff", data_type="a/b", content_type="x/y")
    with task.open_output("lines.txt", "a/b") as file_out:
        file_out.write("ä\\r\\n")
    with task.open_output("raw.bin", "a/b", mode="wb") as file_out:
        file_out.write(b"\\0")
    open(name, "w").write("own")
    task.output(name, path=name, data_type="a/b")
    if file is not None:
        task.output(file.name, path=file.path, data_type="a/b")
    return os.getcwd()

@simple()
def link(task):
    task.output_url("data.csv", "https://example.org/d", data_type="a/b")

@simple()
def half(task):
    try:
        with task.open_output("half.txt", "a/b") as file:
            file.write("half")
            raise KeyError("x")
    except KeyError:
        return " ".join(os.listdir(task.directory)) or "nothing"

@simple()
def wrong_output(task, how: str):
    if how == "dict":
        task.output("x", {}, data_type="a/b")
    task.output("x", data_type="a/b")

@simple()
def sleeps(task, reach: str = "sleep"):
    done = threading.Event()
    def watch():
        while not task.cancelled:
            time.sleep(0.001)
        done.set()
    if reach == "thread":
        threading.Thread(target=watch).start()
    try:
        task.progress(0)
        while reach == "busy":
            pass
        if reach == "log":
            while True:
                task.log("x" * 1000)
        if reach == "input":
            os.read(os.pipe()[0], 1)
        if reach == "fetch":
            task.fetch("http://never.example/")
        if reach == "swallow":
            try:
                time.sleep(1000)
            except BaseException:
                return "swallowed"
        time.sleep(1000)
    except Exception:
        return "caught it, though it is no Exception"
    finally:
        if reach == "thread":
            done.wait()
        print("cleaned up")

@simple()
def fails(task, how: str):
    if how == "value": raise ValueError("No input argument provided!")
    if how == "lines": raise ValueError("two\\nlines")
    if how == "exit": sys.exit()
    if how == "interrupt": raise KeyboardInterrupt
    if how == "deep": fails.function(task, "deep")
    if how == "long": raise ValueError("x" * 3_000_000)
    if how == "repr":
        class Odd(Exception):
            def __repr__(self): raise RuntimeError
        raise Odd()
    if how == "number": return 5
    if how == "cause":
        try: {}["x"]
        except KeyError as error: raise RuntimeError("worse") from error

@simple()
def keeps(task, how: str = ""):
    if how == "set": task.data["x"] = {1}
    elif how == "long": task.data["x"] = "x" * 2_000_000
    elif how == "nan": task.data["x"] = float("nan")
    else: task.data["count"] = task.data.get("count", 0) + 1

@simple()
def logs(task, how: str):
    if how == "return": return "é" * 3_000_000
    if how == "surrogate": return "a\\ud800b"
    task.log("\\x01" * 3_000_000)

@simple()
def steps(task):
    task.step("next-one", note="prefilled")
    task.step("next-one", "second")

@steps.step("next-one")
def next_one(task, note: str):
    return f"{task.step_id}: {note}"

@simple()
def wrong_step(task, how: str):
    # The second is a step of another plugin.
    task.step("nonsense" if how == "name" else "next-one")

@simple()
def fetches(task, url: Url()):
    try:
        return task.fetch(url).read_text()
    except FetchError as error:
        return f"refused: {error}"

@simple()
def forks(task):
    child = os.fork()
    if child == 0:
        try:
            task.log("from the child")
        except RuntimeError as error:
            print(error, flush=True)
        sys.exit(3)
    return str(os.waitpid(child, 0)[1] != 0)

@simple()
def reads(task):
    return repr(sys.stdin.read()) + repr(task.config) + repr(task.args)

@simple()
def lingers(task):
    threading.Thread(target=time.sleep, args=(1000,)).start()
"""


def started(test, source, name="example.py", **options):
    """A host, for a `with` block, for a module with this source."""
    folder = tempfile.TemporaryDirectory()
    test.addCleanup(folder.cleanup)
    path = Path(folder.name) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))
    return Host(path, **options)


class WithHost(unittest.TestCase):
    """One host for all: that it lives on after each of these is part of the test."""

    config = {"a": 1}

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        path = Path(folder.name) / "example.py"
        path.write_text(PLUGINS)
        cls.host = Host(path, config=cls.config, args=["b"]).__enter__()
        cls.addClassCleanup(cls.host.close)

    def run_plugin(self, name, parameters=None, **more):
        return self.host.run(f"{name}@1-0-0", parameters, **more)

    def failed(self, *arguments, **more):
        result = self.run_plugin(*arguments, **more)
        self.assertIsNotNone(result.error, result)
        return result


class Talking(WithHost):
    def test_welcome_and_describe(self):
        self.assertEqual((self.host.welcome["protocol"], self.host.welcome["framing"]), (1, "lines"))
        described = self.host.request("describe")
        self.assertEqual(described["depends"], [])
        self.assertEqual(described["plugins"][0]["name"], "shout")
        self.assertEqual(described["plugins"][0]["parameters"]["properties"]["times"]["default"], 1)

    def test_run(self):
        result = self.run_plugin("shout", {"inputStr": "ab", "times": 2})
        self.assertIsNone(result.error)
        self.assertEqual(result.log, ["first", "done"])
        progress = {"value": 1, "start": 0, "target": 3, "unit": "steps"}
        self.assertEqual({**result.progress[0], **progress}, result.progress[0])
        self.assertEqual(result.links[0]["href"], "https://example.org/")
        self.assertEqual(
            [(o.name, o.data_type, o.text) for o in result.outputs],
            [("out.txt", "custom/shout", "ABAB")],
        )
        self.assertIsNone(result.data)

    def test_prints_are_on_stderr_before_the_answer(self):
        with started(self, PLUGINS) as host:
            host.run("shout@1-0-0", {"inputStr": "x"})
            host.close()
            self.assertEqual(
                host.stderr.splitlines(), ["printed", "written to descriptor 1", "said by a child"]
            )

    def test_outputs(self):
        upload = {"path": __file__, "name": "a b ü/../x.csv", "contentType": "text/csv"}
        result = self.run_plugin("outputs", {"name": "own.txt"}, inputs={"file": upload})
        self.assertIsNone(result.error)
        contents = [
            ("bytes", b"\xff"),
            ("lines.txt", "ä\r\n".encode()),
            ("raw.bin", b"\0"),
            ("own.txt", b"own"),
        ]
        found = [(output.name, output.content) for output in result.outputs]
        self.assertEqual(found, [*contents, ("a b ü/../x.csv", Path(__file__).read_bytes())])
        self.assertEqual(result.outputs[0].content_type, "x/y")
        self.assertTrue(
            Path(result.log[0]).name.startswith("tmp"), "the run's directory is the current one"
        )

    def test_an_output_that_failed_is_gone(self):
        result = self.run_plugin("half")
        self.assertEqual((result.log, result.outputs), (["nothing"], []))

    def test_a_link(self):
        (output,) = self.run_plugin("link").outputs
        self.assertEqual((output.name, output.content_type), ("data.csv", "text/csv"))
        self.assertEqual((output.url, output.content), ("https://example.org/d", b""))

    def test_wrong_outputs(self):
        for how, words in [
            ("dict", "content must be str or bytes, not dict"),
            ("none", "either content or path="),
        ]:
            self.assertIn(words, self.failed("wrong-output", {"how": how}).error["message"])

    def test_steps_and_data(self):
        asked = self.run_plugin("steps").steps
        self.assertEqual(
            [(one["step"], one["stepId"], one["values"]) for one in asked],
            [("next-one", "next-one", {"note": "prefilled"}), ("next-one", "second", {})],
        )
        result = self.run_plugin("steps", {"note": "x"}, step="next-one", step_id="second")
        self.assertEqual(result.log, ["second: x"])
        first = self.run_plugin("keeps")
        self.assertEqual(first.data, {"count": 1})
        self.assertEqual(self.run_plugin("keeps", data=first.data).data, {"count": 2})

    def test_wrong_steps(self):
        message = self.failed("wrong-step", {"how": "name"}).error["message"]
        self.assertIn("wrong-step@1-0-0 has no step 'nonsense'; it has: none", message)
        self.failed("wrong-step", {"how": "other"})

    def test_no_input_but_configuration(self):
        self.assertEqual(self.run_plugin("reads").log, [f"''{self.config}['b']"])

    def test_a_forked_child_is_no_host(self):
        self.assertEqual(self.run_plugin("forks").log, ["True"])
        self.assertEqual(self.host.request("ping"), {})
        self.assertIn("this is a forked process", self.host.stderr)

    def test_stats(self):
        stats = self.host.request("stats")
        self.assertEqual(stats["pid"], self.host.process.pid)
        self.assertGreater(stats["peakMemory"], 1_000_000)


class Fetching(unittest.TestCase):
    def test_both_answers(self):
        def fetch(url):
            if "good" not in url:
                raise PermissionError(f"{url} is not allowed")
            return {
                "path": __file__,
                "name": "x.py",
                "contentType": "text/x-python",
                "dataType": "*",
                "size": 1,
            }

        with started(self, PLUGINS, fetch=fetch) as host:
            good = host.run("fetches@1-0-0", {"url": "http://good/"})
            self.assertEqual(good.log, [Path(__file__).read_text(encoding="utf-8")])
            bad = host.run("fetches@1-0-0", {"url": "http://bad/"})
            self.assertEqual(bad.log, ["refused: http://bad/ is not allowed"])


class Failing(WithHost):
    def test_exception(self):
        result = self.failed("fails", {"how": "value"})
        self.assertEqual(result.error["code"], -32000)
        self.assertEqual(result.error["message"], "ValueError('No input argument provided!')")
        lines = result.traceback.splitlines()
        self.assertEqual(lines[0], "Traceback (most recent call last):")
        self.assertIn("example.py", lines[1])
        self.assertEqual(lines[-1], "ValueError: No input argument provided!")
        self.assertNotIn(str(SDK), result.traceback)

    def test_others(self):
        for how, message in [
            ("lines", "ValueError('two\\nlines')"),
            ("exit", "SystemExit()"),
            ("interrupt", "KeyboardInterrupt()"),
            ("deep", "RecursionError("),
            ("repr", "Odd (its repr raised RuntimeError)"),
            (
                "number",
                "TypeError('a plugin returns the text for its log, or nothing; this returned int')",
            ),
            ("cause", "RuntimeError('worse')"),
        ]:
            with self.subTest(how=how):
                error = self.failed("fails", {"how": how}).error
                self.assertTrue(error["message"].startswith(message), error)
        self.assertIn("KeyError: 'x'", self.failed("fails", {"how": "cause"}).traceback)

    def test_long_messages_are_cut(self):
        error = self.failed("fails", {"how": "long"}).error
        self.assertIn("characters left out", error["message"])
        self.assertLess(len(json.dumps(error)), MAX_LINE)

    def test_data_that_cannot_be_kept(self):
        for how, words in [
            ("set", "set is not JSON"),
            ("long", "too long"),
            ("nan", "not JSON compliant"),
        ]:
            with self.subTest(how=how):
                message = self.failed("keeps", {"how": how}).error["message"]
                self.assertIn("task.data cannot be kept: ", message)
                self.assertIn(words, message)

    def test_long_and_odd_logs(self):
        result = self.run_plugin("logs", {"how": "return"})
        self.assertEqual("".join(result.log), "é" * 3_000_000)
        result = self.run_plugin("logs", {"how": "log"})
        self.assertEqual("".join(result.log), "\x01" * 3_000_000)
        self.assertEqual(self.run_plugin("logs", {"how": "surrogate"}).log, ["a?b"])

    def test_unknown_plugin_step_and_parameters(self):
        for arguments, more, words in [
            (["nonsense"], {}, "there is no plugin 'nonsense@1-0-0' here; there are: shout@1-0-0"),
            (["shout"], {"step": "x"}, "has no step 'x'"),
            (["shout"], {}, "parameter 'inputStr' is missing"),
        ]:
            with self.subTest(words=words):
                error = self.failed(*arguments, **more).error
                self.assertEqual(error["code"], -32602)
                self.assertIn(words, error["message"])


class Cancelling(WithHost):
    def cancelled(self, reach):
        run = self.host.start("sleeps@1-0-0", {"reach": reach})
        run.notification("progress")
        run.cancel()
        result = run.wait()
        self.assertEqual(result.error, {"code": -32001, "message": "cancelled"})
        # The host is whole: lines have not been torn, and the next run is not hit.
        self.assertEqual(self.run_plugin("shout", {"inputStr": "x"}).log, ["first", "done"])

    def test_wherever_it_is(self):
        for reach in ["sleep", "busy", "input", "swallow", "thread"]:
            with self.subTest(reach=reach):
                self.cancelled(reach)

    def test_in_a_flood_of_messages(self):
        for _ in range(20):
            self.cancelled("log")

    def test_in_a_fetch_that_never_ends(self):
        run = self.host.start("sleeps@1-0-0", {"reach": "fetch"})
        self.host.fetch = lambda url: run.cancel() or {"path": "/nonexistent/late"}
        self.assertEqual(run.wait().error["code"], -32001)

    def test_before_it_begins(self):
        first = self.host.start("sleeps@1-0-0", {})
        second = self.host.start("sleeps@1-0-0", {})
        second.cancel()
        first.notification("progress")
        first.cancel()
        self.assertEqual(first.wait().error["code"], -32001)
        self.assertEqual(second.wait().error["code"], -32001)

    def test_of_another_run_is_ignored(self):
        run = self.host.start("sleeps@1-0-0", {})
        run.notification("progress")
        self.host.send({"method": "cancel", "params": {"task": run.task, "run": 2}})
        self.host.send({"method": "cancel", "params": {"task": 999, "run": 1}})
        self.host.send({"method": "cancel"})
        self.assertEqual(self.host.request("ping"), {})
        run.cancel()
        self.assertEqual(run.wait().error["code"], -32001)

    def test_ping_during_a_run(self):
        for reach in ["sleep", "busy"]:
            run = self.host.start("sleeps@1-0-0", {"reach": reach})
            run.notification("progress")
            for _ in range(3):
                self.assertEqual(self.host.request("ping"), {})
            run.cancel()
            run.wait()

    def test_clean_up_is_run(self):
        with started(self, PLUGINS) as host:
            run = host.start("sleeps@1-0-0", {"reach": "busy"})
            run.notification("progress")
            run.cancel()
            run.wait()
            host.close()
            self.assertEqual(host.stderr, "cleaned up\n")


FORKING = {"a": 1, "isolation": "process"}


class TalkingForks(Talking):
    """The same, with a process for each run."""

    config = FORKING


class FailingForks(Failing):
    config = FORKING


class CancellingForks(Cancelling):
    config = FORKING


class Garbage(WithHost):
    def refused(self, line, code):
        self.host.send_line(line)
        answer = self.host.receive()
        self.assertEqual(answer["error"]["code"], code, answer)
        self.assertEqual(self.host.request("ping"), {})
        return answer

    def test_lines(self):
        for line, code in [
            (b"garbage", -32700),
            (b"\xff\xfe", -32700),
            (b'{"jsonrpc": "2.0", "id": 1, "method"', -32700),
            (b"[" * 200_000, -32700),
            (b"[]", -32600),
            (b"5", -32600),
            (b'{"id": 1}', -32600),
            (b'{"id": 1, "method": 5}', -32600),
            (b'{"id": 1, "method": "run", "params": [1]}', -32600),
            (b'{"id": 1, "method": "nonsense"}', -32601),
            (b'{"id": 1, "method": "' + b"x" * 3 * MAX_LINE + b'"}', -32600),
        ]:
            with self.subTest(line=line[:50]):
                self.assertIn("id", self.refused(line, code))

    def test_ignored(self):
        for line in [b"", b"  \r", b'{"method": "nonsense"}', b'{"id": "stray", "result": 1}']:
            self.host.send_line(line)
        self.assertEqual(self.host.request("ping"), {})


class Ending(unittest.TestCase):
    def test_closed_input(self):
        with started(self, PLUGINS) as host:
            self.assertEqual(host.close(), 0)

    def test_shutdown(self):
        with started(self, PLUGINS) as host:
            host.request("describe")
            host.send({"method": "shutdown"})
            self.assertEqual(host.process.wait(30), 0)

    def test_during_a_run(self):
        for reach in ["sleep", "busy"]:
            with started(self, PLUGINS) as host:
                run = host.start("sleeps@1-0-0", {"reach": reach})
                run.notification("progress")
                host.process.stdin.close()
                self.assertEqual(run.wait().error["code"], -32001)
                self.assertEqual(host.process.wait(30), 0)

    def test_with_a_thread_left_behind(self):
        with started(self, PLUGINS) as host:
            host.run("lingers@1-0-0")
            self.assertEqual(host.close(), 1)

    def test_with_an_import_that_hangs(self):
        source = """
            import time
            print("importing", flush=True)
            time.sleep(1000)
        """
        with started(self, source) as host:
            self.assertEqual(host.request("ping"), {})
            host.send({"id": "d", "method": "describe"})
            self.assertEqual(host.close(), 1)
            self.assertEqual(host.stderr, "importing\n")

    def test_when_the_runner_is_gone(self):
        with started(self, PLUGINS) as host:
            host.process.send_signal(signal.SIGKILL)
            with self.assertRaises(Closed):
                host.request("ping")


class Loading(unittest.TestCase):
    def load_error(self, source, name="example.py"):
        with started(self, source, name) as host:
            host.send({"id": "d", "method": "describe"})
            error = host.answer("d")["error"]
            # A run is refused with the same reason.
            self.assertEqual(host.run("x@1").error, error)
            self.assertEqual(host.request("ping"), {})
        return error

    def test_errors(self):
        for source, message, trace in [
            ("import nonsense_package", "ModuleNotFoundError(", "line 1, in <module>"),
            ("x = \n", "SyntaxError(", "example.py"),
            ("raise SystemExit(3)", "SystemExit(3)", "example.py"),
            (
                "from runner import plugin\n@plugin()\ndef f(task): pass",
                "DefinitionError(",
                "needs a version",
            ),
            ("x = 1", "ValueError('example.py declares no plugin", ""),
        ]:
            with self.subTest(source=source):
                error = self.load_error(source)
                self.assertTrue(error["message"].startswith(message), error)
                self.assertIn(trace, error["data"]["traceback"])
                self.assertNotIn(str(SDK / "module.py"), error["data"]["traceback"])

    def test_missing_entry(self):
        with Host("/nonexistent/plugin.py") as host:
            host.send({"id": "d", "method": "describe"})
            self.assertIn(
                "there is no Python file or package at", host.answer("d")["error"]["message"]
            )

    def test_names_of_the_standard_library(self):
        source = """
            import json
            from runner import plugin
            @plugin(version="1")
            def p(task): return json.dumps([1])
        """
        for name in ["json.py", "queue.py", "runner.py", "with-dash.py"]:
            with self.subTest(name=name), started(self, source, name) as host:
                self.assertEqual(host.run("p@1").log, ["[1]"])

    def test_package_neighbours_and_depends(self):
        with tempfile.TemporaryDirectory() as folder:
            original, snapshot = Path(folder, "plugins"), Path(folder, "modules", "abc")
            for base in (original, snapshot):
                package = base / "pack"
                package.mkdir(parents=True)
                (package / "inner.py").write_text("VALUE = 1")
                (package / "__init__.py").write_text(
                    "from runner import plugin\nfrom .inner import VALUE\n"
                    "import helper, random, more.deep\n"
                    "@plugin(version='1')\n"
                    "def p(task):\n    return f'{VALUE} {helper.VALUE} {__file__}'\n"
                )
            (original / "helper.py").write_text(
                "from runner import plugin\nVALUE = 2\n"
                "@plugin(version='1')\ndef of_the_neighbour(task): pass\n"
            )
            (original / "random.py").write_text(
                "raise RuntimeError('this shadows the standard library')"
            )
            (original / "more").mkdir()
            (original / "more" / "deep.py").write_text("")
            for entry in (snapshot / "pack", snapshot / "pack" / "__init__.py"):
                with Host(entry, env={"RUNNER_MODULE_FOLDER": str(original)}) as host:
                    described = host.request("describe")
                    self.assertEqual([plugin["name"] for plugin in described["plugins"]], ["p"])
                    expected = [str(original / "helper.py"), str(original / "more" / "deep.py")]
                    self.assertEqual(described["depends"], expected)
                    self.assertEqual(host.run("p@1").log, [f"1 2 {snapshot}/pack/__init__.py"])
            self.assertEqual(
                list(Path(folder).rglob("__pycache__")), [], "nothing is written next to plugins"
            )

    def test_started_as_a_module(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "example.py")
            path.write_text(PLUGINS)
            command = [sys.executable, "-m", "runner.host", str(path)]
            environment = {"PYTHONPATH": str(SDK.parent)}
            with Host(path, command=command, env=environment) as host:
                self.assertEqual(host.run("shout", {"inputStr": "x"}).outputs[0].text, "X")

    def test_isolated(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "example.py")
            path.write_text(PLUGINS)
            with Host(
                path, command=[sys.executable, "-I", str(SDK / "host.py"), str(path)]
            ) as host:
                self.assertEqual(host.run("shout", {"inputStr": "x"}).outputs[0].text, "X")

    def test_answers_into_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path, answers = Path(folder, "example.py"), Path(folder, "answers")
            path.write_text(PLUGINS)
            params = {"protocol": 1, "name": "m", "uuid": "", "args": [], "config": {}}
            welcome = {"jsonrpc": "2.0", "id": 1, "method": "welcome", "params": params}
            with open(answers, "wb") as file:
                # What can seek as its output, and cannot as what it prints to.
                done = subprocess.run(
                    [sys.executable, str(SDK / "host.py"), str(path)],
                    input=json.dumps(welcome).encode() + b"\n",
                    stdout=file,
                    stderr=subprocess.PIPE,
                )
            self.assertEqual(done.stderr.decode(), "")
            self.assertEqual(json.loads(answers.read_text())["id"], 1)

    def test_usage(self):
        done = subprocess.run(
            [sys.executable, str(SDK / "host.py")], capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 2)
        self.assertIn("ENTRY", done.stderr)

    def test_descriptors_are_not_inherited(self):
        source = """
            import os, subprocess, sys
            from runner import plugin
            @plugin(version="1")
            def p(task):
                command = ["ls", "/proc/self/fd"]
                return subprocess.run(command, stdout=subprocess.PIPE, close_fds=False).stdout.decode()
        """
        if not os.path.isdir("/proc/self/fd"):
            self.skipTest("there is no /proc")
        with started(self, source) as host:
            # 0, 1, 2, and the one with which ls reads the folder.
            self.assertEqual(host.run("p@1").log[0].split(), ["0", "1", "2", "3"])
