"""`runner.run` in a session, whose runner is a thread here."""

import contextlib
import io
import json
import os
import signal
import socket
import tempfile
import threading
import unittest
from pathlib import Path

import runner
from runner import session

DONE = {"task": 5, "href": "http://x/tasks/5/", "plugin": "p@1", "status": "SUCCESS", "log": "all", "outputs": []}


class Kernel:
    def __init__(self):
        self.shield = contextlib.nullcontext()
        self.shown = []

    def publish(self, *told):
        self.shown.append(told)


class SessionTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder.name)
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        self.kernel = Kernel()
        session.begin(ours, folder.name, self.kernel)
        self.theirs = theirs
        self.asked = []
        self.seen = {}

    def answer(self, *told):
        """Answers every request so, in a thread."""
        thread = threading.Thread(target=self._answer, args=(told,), daemon=True)
        thread.start()

    def _answer(self, told):
        for line in self.theirs.makefile("rb"):
            request = json.loads(line)
            self.asked.append(request)
            for file in self.files(request):
                self.seen[file] = Path(file).read_bytes()
            for one in told if "cancel" not in request else ():
                self.theirs.sendall(json.dumps({"id": request["id"], **one}).encode() + b"\n")

    @staticmethod
    def files(request):
        values = request.get("run", {}).get("parameters", {}).values()
        return [value["$file"] for value in values if isinstance(value, dict) and "$file" in value]

    def test_an_answer_is_a_result(self):
        output = {"name": "a", "path": "outputs/5/a", "dataType": "x/y", "contentType": "text/plain", "size": 1, "url": "u"}
        Path("outputs/5").mkdir(parents=True)
        Path("outputs/5/a").write_text("[1]")
        self.answer({"task": 5}, {"log": "first\n"}, {"log": "second"}, {"done": {**DONE, "outputs": [output]}})
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            result = runner.run("p", number=1, list=[1, "x"])
        self.assertEqual(printed.getvalue(), "first\nsecond\n")
        self.assertEqual((result.task, result.status, result.output("a").json()), (5, "SUCCESS", [1]))
        self.assertEqual(self.asked[0]["run"], {"plugin": "p", "parameters": {"number": 1, "list": [1, "x"]}})
        with self.assertRaisesRegex(KeyError, "it has: a"):
            result.output("b")

    def test_files_lie_in_the_folder_for_as_long_as_it_takes(self):
        Path("own").write_text("own")
        elsewhere = tempfile.NamedTemporaryFile("w+", suffix=".csv")
        self.addCleanup(elsewhere.close)
        elsewhere.write("else")
        self.answer({"done": DONE})
        runner.run("p", a=Path("own"), b=b"bytes", c=elsewhere, d=io.StringIO("text"))
        given = {name: value["$file"] for name, value in self.asked[0]["run"]["parameters"].items()}
        self.assertEqual(given["a"], "own")
        self.assertTrue(given["c"].endswith(".csv"))
        self.assertEqual([self.seen[given[name]] for name in "abcd"], [b"own", b"bytes", b"else", b"text"])
        self.assertEqual(os.listdir(".tmp/given"), [])

    def test_a_failure_is_raised(self):
        self.answer({"done": {**DONE, "status": "FAILURE", "log": "first\nthe cause"}})
        with self.assertRaisesRegex(runner.TaskFailed, "the cause") as raised:
            runner.run("p")
        self.assertEqual(raised.exception.log, "first\nthe cause")

    def test_a_refusal_and_an_end_are_raised(self):
        self.answer({"failed": "no such plugin"})
        with self.assertRaisesRegex(runner.TaskFailed, "no such plugin"):
            runner.run("p")
        self.theirs.shutdown(socket.SHUT_RDWR)
        with self.assertRaises((runner.TaskFailed, OSError)):
            runner.run("p")

    def test_an_interrupt_takes_the_request_back(self):
        self.answer({"log": "begun\n"})
        # Who starts the tests in the background has it ignored.
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))

        class Interrupting(io.StringIO):
            def flush(self):
                signal.raise_signal(signal.SIGINT)

        with contextlib.redirect_stdout(Interrupting()), self.assertRaises(KeyboardInterrupt):
            runner.run("p")
        self.theirs.shutdown(socket.SHUT_WR)
        deadline = threading.Event()
        while len(self.asked) < 2 and not deadline.wait(0.01):
            pass
        self.assertEqual(self.asked[1], {"cancel": self.asked[0]["id"]})

    def test_threads_hear_what_is_theirs(self):
        self.answer({"log": "x"}, {"done": DONE})
        results = []
        with contextlib.redirect_stdout(io.StringIO()):
            threads = [threading.Thread(target=lambda: results.append(runner.run("p").task)) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(results, [5] * 20)

    def test_progress_replaces_itself(self):
        self.answer({"progress": {"value": 1, "target": 4, "unit": "files"}}, {"progress": {"value": 2, "target": 4, "unit": "files"}}, {"done": DONE})
        runner.run("p")
        kinds = [(kind, content["data"]["text/plain"]) for kind, content in self.kernel.shown]
        self.assertEqual(kinds, [("display_data", "p: 1 of 4 files"), ("update_display_data", "p: 2 of 4 files")])

    def test_what_is_no_json_is_said(self):
        for value in (object(), float("nan")):
            with self.assertRaisesRegex(TypeError, "JSON"):
                runner.run("p", value=value)
        with self.assertRaisesRegex(ValueError, "limit"):
            runner.run("p", value="x" * (1 << 20))

    def test_outside_of_a_session_it_says_so(self):
        before, session._current = session._current, None
        self.addCleanup(setattr, session, "_current", before)
        with self.assertRaisesRegex(RuntimeError, "no session"):
            runner.run("p")


if __name__ == "__main__":
    unittest.main()
