"""What code finds in a session of Sage Cell: `sys._sage_`, interacts, HTML and other languages."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
from typing import Any, Callable, Dict, Iterable, List, Optional

from runner.kernel.automatic import NAMES
from runner.kernel.files import NewFiles
from runner.kernel.interact import UPDATE, Interacts
from runner.kernel.languages import INTERPRETERS, Language, Python
from runner.kernel.loop import Kernel


class Sage:
    """`sys._sage_`."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._files = NewFiles(os.getcwd())
        self._interacts = Interacts(kernel)
        #: When the files that clients know were changed last, by their paths.
        self.sent_files = self._files.sent
        self.namespace: Dict[str, Any] = kernel.shell.names

    def new_files(self) -> List[str]:
        """The files that are new or have changed since the last call. Pictures that R and Octave drew are shown.

        Clients ask for it with each cell, and find the files in the reply.
        """
        named, drawn = self._files.take()
        for path in drawn:
            with contextlib.suppress(FileNotFoundError):
                self.display_file(path, "text/image-filename")
        if named:
            self._kernel.payload["new_files"] = [*self._kernel.payload.get("new_files", ()), *named]
        return named

    def display_message(self, data: Dict[str, Any], metadata: Optional[Dict[str, Any]] = None) -> None:
        """Shows data, by MIME types. `metadata` is that of the message."""
        self._kernel.publish("display_data", {"data": data, "metadata": {}, "transient": {}}, metadata)

    def stream_message(self, stream: str, data: Any, metadata: Optional[Dict[str, Any]] = None) -> None:
        """Prints on `stdout` or `stderr`."""
        if stream not in ("stdout", "stderr"):
            raise ValueError(f"the streams are stdout and stderr; there is no {stream!r}")
        with self._kernel.marked(metadata or {}):
            getattr(sys, stream).write(str(data))

    def reset_kernel_timeout(self, timeout: Any) -> None:
        """For how many seconds this session may be idle; forever, as far as the runner allows, with `inf`."""
        seconds = float(timeout)
        if math.isnan(seconds) or seconds < 0:
            raise ValueError(f"a time is a number of seconds, not {timeout!r}")
        self._kernel.tell("iopub", "kernel_timeout", {"timeout": seconds})

    def clear(self, changed: Iterable[str] = ()) -> None:
        """Empties the output of the cell, or of the interact that runs."""
        self.display_message({"application/sage-clear": {"changed": list(changed or ())}})

    def display_file(self, path: str, mimetype: str = "application/x-file") -> None:
        """Shows a file of the session: a link, or a picture with `text/image-filename`."""
        self.display_message({"text/plain": f"{mimetype} file", mimetype: self._files.link(path)})

    def javascript(self, code: str) -> None:
        """Runs code in the page."""
        self.display_message({"text/plain": "javascript code", "application/javascript": str(code)})


class Html:
    """`html`: shows HTML in the output; `cell://NAME` in it is the URL of a file of the session."""

    def __init__(self, sage: Sage) -> None:
        self._sage = sage

    def __repr__(self) -> str:
        return "<html: html(text) shows HTML>"

    def __call__(self, text: Any) -> None:
        draw = getattr(text, "_repr_html_", None)
        shown = text if isinstance(text, str) or draw is None else draw()
        self._sage.display_message({"text/plain": str(text), "text/html": str(shown)})

    def eval(self, text: Any) -> str:
        """Shows it, as the other languages are asked to."""
        self(text)
        return ""


def enable() -> None:
    """Gives the kernel that serves here `sys._sage_`, and its user the names; once is enough.

    Raises RuntimeError: no kernel serves here.
    """
    kernel = Kernel.current
    if kernel is None:
        raise RuntimeError("no kernel serves in this process")
    sage = getattr(sys, "_sage_", None)
    if not isinstance(sage, Sage):
        sage = Sage(kernel)
        sys._sage_ = sage  # type: ignore[attr-defined]
        kernel.handlers[UPDATE] = sage._interacts.answer
    names = kernel.shell.names
    if names.get("sage") is sys.modules[__name__]:
        # What asked for this left it behind.
        del names["sage"]
    if "interact" not in names:
        kernel.shell.offer(_names(sage))


def _names(sage: Sage) -> Dict[str, Any]:
    return {
        **NAMES,
        **{name: Language(name) for name in INTERPRETERS},
        "Octave": functools.partial(Language, "octave"),
        "html": Html(sage),
        "interact": _decorator(sage._interacts),
        "python": Python(sage.namespace),
        # Clients have code of their own that needs them.
        "os": os,
        "sys": sys,
    }


def _decorator(interacts: Interacts) -> Callable[..., Any]:
    def interact(function: Any = None, controls: Any = None, **options: Any) -> Any:
        """Runs a function now, and again whenever somebody changes one of the controls of its parameters.

        `@interact` or `@interact(controls, update=, layout=, locations=, output=, readonly=, automatic_labels=)`.
        """
        if callable(function):
            return interacts.make(function, controls=controls, **options)
        chosen = controls if function is None else function
        return lambda function: interacts.make(function, controls=chosen, **options)

    return interact
