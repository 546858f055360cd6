"""The shell of IPython, which says what it has to say through a kernel.

It is made once, in the zygote, without a history in a database: that has a thread of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, Callable, Dict, List, Tuple

import IPython
from IPython.core import payloadpage, page
from IPython.core.completer import provisionalcompleter, rectify_completions
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.tokenutil import token_at_cursor
from traitlets import Any as AnyTrait
from traitlets import Type
from traitlets.config import Config

from runner.failure import own_frames


class Hook(DisplayHook):
    """Tells the value of a cell."""

    def start_displayhook(self) -> None:
        self.content: Dict[str, Any] = {}

    def write_output_prompt(self) -> None:
        self.content["execution_count"] = self.prompt_count

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        self.content.update(data=format_dict, metadata=md_dict or {})

    def finish_displayhook(self) -> None:
        if self.content.get("data"):
            self.shell.kernel.publish("execute_result", self.content)
        self.content = {}


class Publisher(DisplayPublisher):
    """Tells what is displayed."""

    def publish(
        self, data: Any, metadata: Any = None, source: Any = None, *, transient: Any = None, update: bool = False, **_: Any
    ) -> None:
        kind = "update_display_data" if update else "display_data"
        content = {"data": data, "metadata": metadata or {}, "transient": transient or {}}
        self.shell.kernel.publish(kind, content)

    def clear_output(self, wait: bool = False) -> None:
        self.shell.kernel.publish("clear_output", {"wait": wait})


class Shell(InteractiveShell):
    """IPython's shell in a kernel."""

    kernel = AnyTrait()
    displayhook_class = Type(Hook)
    display_pub_class = Type(Publisher)
    #: There is no terminal.
    readline_use = False
    autoindent = False

    @property
    def implementation(self) -> Tuple[str, str]:
        return "ipython", IPython.__version__

    @property
    def banner(self) -> str:
        return f"Python {sys.version}\nIPython {IPython.__version__}"

    def init_hooks(self) -> None:
        super().init_hooks()
        self.set_hook("show_in_pager", page.as_hook(payloadpage.page), 99)

    def init_virtualenv(self) -> None:
        """The interpreter is that of the environment already."""

    def enable_gui(self, gui: Any = None) -> None:
        """No window is shown; pictures are told."""

    def ask_exit(self) -> None:
        """A cell that says `exit` ends the kernel."""
        self.payload_manager.write_payload({"source": "ask_exit", "keepkernel": False})

    def set_next_input(self, s: str, replace: bool = False) -> None:
        self.payload_manager.write_payload({"source": "set_next_input", "text": s, "replace": replace})

    def system(self, cmd: str) -> None:
        """`!cmd`: its output comes as that of the cell; it has no input."""
        command = self.var_expand(cmd, depth=1)
        with subprocess.Popen(command, shell=True, stdin=subprocess.DEVNULL) as process:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                process.terminate()
                code = process.wait()
        self.user_ns["_exit_code"] = code

    def _showtraceback(self, etype: Any, evalue: Any, stb: List[str]) -> None:
        self.failure: Dict[str, Any] = {"ename": etype.__name__, "evalue": str(evalue), "traceback": stb}
        self.kernel.publish("error", self.failure)

    # --- what a kernel asks ------------------------------------------------

    def execute(self, code: str, silent: bool, store: bool, expressions: Dict[str, str]) -> Dict[str, Any]:
        self.failure = {}
        result = self.run_cell(code, store_history=store, silent=silent)
        number = self.execution_count - (1 if store else 0)
        payload = self.payload_manager.read_payload()
        self.payload_manager.clear_payload()
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            told = self.failure or {"ename": type(error).__name__, "evalue": str(error), "traceback": []}
            return {"status": "error", "execution_count": number, "payload": payload, **told}
        values = self.user_expressions(expressions)
        return {"status": "ok", "execution_count": number, "user_expressions": values, "payload": payload}

    @property
    def names(self) -> Dict[str, Any]:
        """The names of the user."""
        own: Dict[str, Any] = self.user_ns
        return own

    def offer(self, names: Dict[str, Any]) -> None:
        """Gives the user names that the user has not taken."""
        for name, value in names.items():
            if self.user_ns.setdefault(name, value) is value:
                self.user_ns_hidden[name] = value

    def guard(self, function: Callable[[], None], caught: type[BaseException]) -> Dict[str, Any]:
        """Calls a function of the user. What it raises is shown, and answered; empty if it raises nothing."""
        self.failure = {}
        try:
            function()
        except caught as error:
            self.showtraceback((type(error), error, own_frames(error)), tb_offset=0)
            return self.failure or {"ename": type(error).__name__, "evalue": str(error), "traceback": []}
        return {}

    def values(self, expressions: Dict[str, str]) -> Dict[str, Any]:
        """What expressions of a client give."""
        found: Dict[str, Any] = self.user_expressions(expressions)
        return found

    def show_figures(self) -> None:
        """Shows the figures that were drawn until now, as at the end of a cell."""
        backend = sys.modules.get("matplotlib_inline.backend_inline")
        if backend is not None:
            backend.flush_figures()

    def complete_at(self, code: str, position: int) -> Dict[str, Any]:
        with provisionalcompleter():
            found = list(rectify_completions(code, self.Completer.completions(code, position)))
        details = [
            {"start": one.start, "end": one.end, "text": one.text, "type": one.type, "signature": one.signature} for one in found
        ]
        return {
            "status": "ok",
            "matches": [one.text for one in found],
            "cursor_start": found[0].start if found else position,
            "cursor_end": found[0].end if found else position,
            "metadata": {"_jupyter_types_experimental": details},
        }

    def inspect_at(self, code: str, position: int, level: int) -> Dict[str, Any]:
        try:
            found = self.object_inspect_mime(token_at_cursor(code, position), detail_level=level)
        except KeyError:
            return {}
        return {str(kind): text for kind, text in found.items()}

    def is_complete(self, code: str) -> Dict[str, Any]:
        status, indent = self.input_transformer_manager.check_complete(code)
        return {"status": status, **({"indent": " " * (indent or 0)} if status == "incomplete" else {})}

    def history(self) -> List[Tuple[int, str]]:
        lines = enumerate(self.history_manager.input_hist_raw)
        return [(number, text) for number, text in lines if number > 0]


def make(kernel: Any) -> Shell:
    """The shell of a kernel."""
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    config = Config()
    config.HistoryManager.enabled = False
    config.Completer.use_jedi = False
    shell: Shell = Shell.instance(config=config, kernel=kernel)
    shell.configurables.append(shell)
    _use_inline(shell)
    _warm(shell)
    return shell


def _warm(shell: Shell) -> None:
    """Loads what IPython loads when it is first needed, so that forks have it."""
    # Nobody hears what they say.
    for code in ("1", "1/0", "(", "%who_ls", "print()"):
        shell.execute(code, False, True, {"a": "1"})
    shell.complete_at("pri", 3)
    shell.inspect_at("print", 5, 0)
    shell.is_complete("for")
    shell.reset(new_session=True)
    shell.execution_count = 1


def _use_inline(shell: Shell) -> None:
    """Figures that are open at the end of a cell are shown, also without `%matplotlib`."""
    try:
        from matplotlib_inline.config import InlineBackend
    except ImportError:
        return
    InlineBackend.instance(parent=shell)
