"""Other languages from Python: objects with `eval`, each with an interpreter that goes on between calls."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

#: The most that a call may put out, in bytes.
MOST = 8 << 20
#: Seconds for an interpreter that closed its output to end.
_ENDING = 2
#: Characters of the output of an interpreter that failed, which are told.
_TOLD = 2000


class Interpreter(NamedTuple):
    """How a program takes code.

    `run` is what it is sent: `{code}` stands for the code or `{path}` for a file with it, and `{a}`, `{b}` for what it prints
    together, on a line of its own, when it is done.
    """

    programs: Tuple[str, ...]
    options: Tuple[str, ...]
    run: str
    #: What is sent before anything else.
    first: str = ""
    #: What a statement ends with, if the code does not.
    ends: str = ""
    #: How a path is written.
    quoted: Callable[[str], str] = json.dumps
    #: What is taken out of the output.
    noise: str = ""


INTERPRETERS: Dict[str, Interpreter] = {
    "sh": Interpreter(
        ("bash", "sh"),
        (),
        # Its input is the line to this process.
        ". {path} </dev/null; printf '\\n%s%s\\n' {a} {b}\n",
        quoted=shlex.quote,
    ),
    "r": Interpreter(
        ("R",),
        ("--no-echo", "--no-save", "--no-restore"),
        'try(source({path}, print.eval = TRUE)); cat("\\n", "{a}", "{b}", "\\n", sep = "")\n',
        # Without it, what is drawn goes into a PDF.
        first="options(device = function(...) png())\n",
    ),
    "octave": Interpreter(
        ("octave-cli", "octave"),
        ("--quiet", "--no-history", "--no-init-file", "--no-gui"),
        'try, source({path}); catch failure, disp(["error: " failure.message]); end, '
        'printf("\\n%s%s\\n", "{a}", "{b}"); fflush(stdout);\n',
    ),
    "maxima": Interpreter(
        ("maxima",),
        ("--very-quiet",),
        '{code}\nprint(concat("{a}", "{b}"))$\n',
        first="display2d: false$\n",
        ends=";",
    ),
    "gap": Interpreter(("gap",), ("-q", "-b", "-T"), '{code}\nPrint("\\n", "{a}", "{b}", "\\n");\n', ends=";"),
    "gp": Interpreter(("gp",), ("-q", "-f"), '{code}\nprint("\\n", "{a}", "{b}")\n', noise=r"^%\d+ = "),
    "singular": Interpreter(("Singular",), ("-q",), '{code}\nprint("{a}" + "{b}");\n', ends=";"),
}


class Language:
    """A language, and its interpreter from its first use on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._how = INTERPRETERS[name]
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self._folder = ""
        self._first = ""
        self._mark = ("", "")

    def __repr__(self) -> str:
        return f"<{self.name}: {self.name}.eval(code) runs code of that language>"

    def eval(self, code: str) -> str:
        """Runs code, and answers with what it puts out, errors among it.

        Raises RuntimeError: the interpreter is not installed, ended, or put out more than `MOST` bytes.
        """
        if not isinstance(code, str):
            raise TypeError(f"code of {self.name} is text, not {type(code).__name__}")
        process = self._started()
        try:
            return self._run(process, code)
        except BaseException:
            # In the middle of something, it is of no more use.
            self.quit()
            raise

    __call__ = eval

    def path(self) -> str:
        """The folder in which the interpreter was started, or would be."""
        return self._folder or os.getcwd()

    def quit(self) -> None:
        """Ends the interpreter. The next call starts another, which knows nothing of what was."""
        process, self._process, self._folder = self._process, None, ""
        if process is not None:
            if process.poll() is None:
                # It leads a group with all that it started.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.quit()
        program = next(filter(None, map(shutil.which, self._how.programs)), None)
        if program is None:
            raise RuntimeError(f"{self.name} is not installed here: there is no {' or '.join(self._how.programs)} on PATH")
        self._process = subprocess.Popen(
            [program, *self._how.options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            # Interrupts are for this process, which ends it.
            start_new_session=True,
        )
        self._folder, self._first = os.getcwd(), self._how.first
        self._mark = ("done-", secrets.token_hex(8))
        return self._process

    def _run(self, process: "subprocess.Popen[bytes]", code: str) -> str:
        how, code = self._how, code.rstrip()
        if how.ends and not code.endswith((how.ends, "$")):
            code += how.ends
        words = {"code": code, "a": self._mark[0], "b": self._mark[1]}
        with contextlib.ExitStack() as removed:
            if "{path}" in how.run:
                file = removed.enter_context(tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="code-"))
                file.write(code + "\n")
                file.flush()
                words["path"] = how.quoted(file.name)
            sent = re.sub(r"\{(path|code|a|b)\}", lambda found: words[found.group(1)], how.run)
            first, self._first = self._first, ""
            text = self._talk(process, (first + sent).encode())
        if how.noise:
            text = re.sub(how.noise, "", text, flags=re.MULTILINE)
        return text.rstrip("\n")

    def _talk(self, process: "subprocess.Popen[bytes]", sent: bytes) -> str:
        """Sends it, and answers with what comes until the mark."""
        assert process.stdin is not None and process.stdout is not None
        source, sink = process.stdout.fileno(), process.stdin.fileno()
        os.set_blocking(sink, False)
        mark, at = "".join(self._mark).encode(), -1
        came = bytearray()
        while True:
            ready, free, _ = select.select([source], [sink] if sent else [], [])
            if free:
                try:
                    sent = sent[os.write(sink, sent) :]
                except BrokenPipeError:
                    sent = b""
            if not ready:
                continue
            data = os.read(source, 1 << 16)
            seen = max(0, len(came) - len(mark))
            came += data
            if at < 0:
                at = came.find(mark, seen)
            # The rest of its line would be the beginning of the next answer.
            if at >= 0 and came.find(b"\n", at) >= 0:
                return _text(came[:at])
            if not data:
                return self._ended(process, _text(came))
            if len(came) > MOST:
                raise RuntimeError(f"{self.name} put out more than {MOST} bytes and was ended")

    def _ended(self, process: "subprocess.Popen[bytes]", text: str) -> str:
        try:
            status = process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            status = -1
        self.quit()
        if status:
            raise RuntimeError(f"{self.name} ended with status {status}: {text.strip()[-_TOLD:]}")
        return text


class Python:
    """The language of the session itself, as if it were another one."""

    def __init__(self, names: Dict[str, Any]) -> None:
        self._names = names

    def eval(self, code: str) -> str:
        """Runs code among the names of the user. What it prints is output of the cell."""
        exec(compile(code, "<python>", "exec"), self._names)
        return ""

    __call__ = eval


def _text(data: bytearray) -> str:
    return data.decode("utf-8", "replace").replace("\r\n", "\n")
