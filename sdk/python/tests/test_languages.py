"""Code of other languages: with a shell, which is everywhere, and with the interpreters that are installed."""

import os
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

from runner.kernel import languages
from runner.kernel.languages import INTERPRETERS, Language, Python

#: Shows each line that it is sent; and the end of each call, as Maxima would.
ECHO = """
import re, sys
for line in iter(sys.stdin.readline, ""):
    if line.startswith("print("):
        line = "".join(re.findall('"([a-z0-9-]+)"', line)) + "\\n"
    print(line, end="", flush=True)
"""


def is_alive(pid):
    try:
        state = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


class ShellTest(unittest.TestCase):
    def setUp(self):
        self.sh = Language("sh")
        self.addCleanup(self.sh.quit)

    def test_what_is_put_out_comes_back(self):
        self.assertEqual(self.sh.eval("echo one; echo two >&2"), "one\ntwo")
        self.assertEqual(self.sh.eval("printf ü"), "ü")
        self.assertEqual(self.sh.eval(""), "")
        self.assertEqual(self.sh("echo called"), "called")

    def test_it_goes_on_between_calls(self):
        self.sh.eval("x='it is known'")
        self.assertEqual(self.sh.eval('echo "$x"'), "it is known")

    def test_code_may_hold_anything(self):
        self.assertEqual(self.sh.eval("cat <<'end'\n{a} {path} \"quoted\" \\n 'too'\nend"), "{a} {path} \"quoted\" \\n 'too'")

    def test_it_has_no_input(self):
        self.assertEqual(self.sh.eval("cat; read x; echo on"), "on")

    def test_much_goes_in_and_out(self):
        text = "x" * 500_000
        self.assertEqual(self.sh.eval(f"cat <<end\n{text}\nend"), text)

    def test_its_end_is_told_and_the_next_call_starts_another(self):
        with self.assertRaisesRegex(RuntimeError, "sh ended with status 3: last words"):
            self.sh.eval("echo last words; exit 3")
        self.assertEqual(self.sh.eval("echo again"), "again")
        self.assertEqual(self.sh.eval("echo done; exit"), "done")

    def test_what_puts_out_too_much_is_ended(self):
        with mock.patch.object(languages, "MOST", 100_000), self.assertRaisesRegex(RuntimeError, "more than 100000 bytes"):
            self.sh.eval("while :; do echo more; done")
        self.assertEqual(self.sh.eval("echo again"), "again")

    def test_an_interrupt_ends_it_with_what_it_started(self):
        # Where tests run in the background, interrupts are ignored.
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
        with tempfile.TemporaryDirectory() as folder:
            told = Path(folder, "pid")

            def interrupt():
                while not (told.exists() and told.read_text().endswith("\n")):
                    time.sleep(0.01)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

            threading.Thread(target=interrupt).start()
            with self.assertRaises(KeyboardInterrupt):
                self.sh.eval(f"sleep 600 & echo $! > {told}; wait")
            pid = told.read_text().strip()
        until = time.monotonic() + 30
        while is_alive(pid):
            self.assertLess(time.monotonic(), until, "what it started goes on")
            time.sleep(0.01)
        self.assertEqual(self.sh.eval("echo again"), "again")

    def test_only_text_is_code(self):
        with self.assertRaisesRegex(TypeError, "code of sh is text, not int"):
            self.sh.eval(5)


class OthersTest(unittest.TestCase):
    def test_what_is_not_installed_says_so(self):
        with mock.patch.dict(os.environ, PATH="/nowhere"):
            for name, how in INTERPRETERS.items():
                with self.assertRaisesRegex(RuntimeError, f"^{name} is not installed here: there is no {how.programs[0]}"):
                    Language(name).eval("1")

    def test_the_folder_is_told(self):
        self.assertEqual(Language("octave").path(), os.getcwd())

    def test_python_runs_among_the_names_of_the_user(self):
        names = {"x": 20}
        self.assertEqual(Python(names).eval("y = 2 * x"), "")
        self.assertEqual(names["y"], 40)

    def test_a_statement_is_ended_once(self):
        """With a program in the place of an interpreter, that shows what it is sent."""
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder, "maxima")
            program.write_text(f"#!{sys.executable}\n{ECHO}")
            program.chmod(program.stat().st_mode | stat.S_IEXEC)
            with mock.patch.dict(os.environ, PATH=f"{folder}:{os.environ['PATH']}"):
                maxima = Language("maxima")
                self.addCleanup(maxima.quit)
                self.assertEqual(maxima.eval("1 + 1"), "display2d: false$\n1 + 1;")
                self.assertEqual(maxima.eval("x: 5$"), "x: 5$")

    def test_each_that_is_installed_computes_and_goes_on(self):
        cases = {
            "r": ("x <- 6", "x * 7", "[1] 42"),
            "octave": ("x = 6;", "disp(x * 7)", "42"),
            "maxima": ("x: 6$", "x * 7", "42"),
            "gap": ("x := 6;;", "x * 7;", "42"),
            "gp": ("x = 6;", "x * 7", "42"),
            "singular": ("int x = 6;", "x * 7;", "42"),
        }
        for name, (first, second, shown) in cases.items():
            if not any(map(shutil.which, INTERPRETERS[name].programs)):
                continue
            with self.subTest(language=name):
                language = Language(name)
                self.addCleanup(language.quit)
                self.assertEqual(language.eval(first), "")
                self.assertEqual(language.eval(second).strip(), shown)


if __name__ == "__main__":
    unittest.main()
