"""The handle that a running plugin gets for its task."""

from __future__ import annotations

import contextlib
import json
import os

from runner.input import Input
from runner.plugin import Plugin
from runner.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO, Any, Callable, Dict, Iterator, List, Mapping, Optional, Union

#: Characters of a log entry that surely fit in a line, however they are escaped.
_LOG_PIECE = 128 * 1024
# The longest output that is told as text instead of made a file, in bytes: making and removing a file
# costs as much as passing on some thousands of bytes.
_SHORT_OUTPUT = 16 * 1024


class Cancelled(BaseException):
    """The task was cancelled. Raised where the plugin happens to be; clean up and let it pass.

    Like KeyboardInterrupt it is no Exception, so that `except Exception` does not catch it.
    """


class RequestError(Exception):
    """The runner could not do what it was asked for."""


class FetchError(RequestError):
    """The runner could not download a URL."""


class CallError(RequestError):
    """A plugin could not be called, or its task did not end well.

    `called` is the task, if there is one; `called.log` says more than the message, which has its last line.
    """

    def __init__(self, message: str, called: Optional[Called] = None) -> None:
        super().__init__(message)
        self.called = called

    def __repr__(self) -> str:
        # It stands in the log of the caller, and in that of its caller: quotes in quotes would double.
        return str(self)


@record(frozen=True)
class Called:
    """A task that was called, as it ended."""

    task: int
    href: str
    status: str
    log: str
    outputs: List[Input]

    def output(self, name: str) -> Input:
        """The output of this name. Raises KeyError."""
        for output in self.outputs:
            if output.name == name:
                return output
        names = ", ".join(repr(output.name) for output in self.outputs) or "none"
        raise KeyError(f"the called task has no output {name!r}; it has: {names}")


@record(frozen=True)
class ModuleInfo:
    """The module that a plugin belongs to, as it was loaded."""

    #: Its instance name: one file may be loaded under several.
    name: str
    #: Another one for each load.
    uuid: str
    #: The `args` of its manifest.
    args: List[Any]


class Task:
    """One run of a plugin: where it logs, writes its outputs and asks for steps."""

    def __init__(
        self,
        params: Mapping[str, Any],
        plugin: Plugin,
        notify: Callable[..., None],
        request: Callable[[str, Dict[str, Any]], Any],
        is_cancelled: Callable[[], bool],
        welcome: Mapping[str, Any],
    ) -> None:
        #: The task's number.
        self.id: int = params.get("task", 0)
        #: How often this task has been dispatched.
        self.run: int = params.get("run", 0)
        #: The id of the step that is being processed; `None` for the plugin itself.
        self.step_id: Optional[str] = params.get("stepId")
        self._directory = os.path.abspath(params.get("directory") or ".")
        #: The base URL of the runner as the client knows it that made the task; no slash at the end.
        self.base_url: str = params.get("baseUrl") or ""
        #: Kept between the runs of a task, from step to step. Anything that is JSON.
        self.data: Any = {} if params.get("data") is None else params["data"]
        #: The configuration that the module was started with.
        self.config: Dict[str, Any] = dict(welcome.get("config") or {})
        #: The arguments that the module was loaded with.
        self.args: List[Any] = list(welcome.get("args") or [])
        #: What the module is called, and with what it was loaded.
        self.module = ModuleInfo(
            str(welcome.get("name") or ""), str(welcome.get("uuid") or ""), self.args
        )
        self.plugin = plugin
        self._notify_runner = notify
        self._request = request
        self._is_cancelled = is_cancelled
        self._outputs = 0
        # Bytes of outputs that the runner takes as text; an older one takes none.
        self._text_room: int = params.get("outputText") or 0
        self._open = True

    def _notify(self, method: str, **params: Any) -> None:
        if not self._open:
            raise RuntimeError(f"the run of task {self.id} has ended")
        self._notify_runner(method, task=self.id, **params)

    @property
    def directory(self) -> Path:
        """This run's own directory, empty at first, removed after the run."""
        from pathlib import Path

        return Path(self._directory)

    @property
    def cancelled(self) -> bool:
        """Whether the task was cancelled. For threads; in the plugin's own, Cancelled is raised."""
        return self._is_cancelled()

    def raise_if_cancelled(self) -> None:
        if self.cancelled:
            raise Cancelled()

    def log(self, text: Any) -> None:
        """Adds an entry to the task's log. What the plugin prints is added too."""
        text = str(text)
        for start in range(0, len(text) or 1, _LOG_PIECE):
            self._notify("log", text=text[start : start + _LOG_PIECE])

    def progress(
        self, value: float, start: float = 0, target: float = 100, unit: str = "%"
    ) -> None:
        """Says how far the task has come on its way from `start` to `target`."""
        self._notify("progress", value=value, start=start, target=target, unit=unit)

    def output(
        self,
        name: str,
        content: Union[str, bytes, bytearray, memoryview, None] = None,
        *,
        path: Union[str, "os.PathLike[str]", None] = None,
        data_type: str,
        content_type: Optional[str] = None,
    ) -> None:
        """Keeps a file: `content` (a text is written as UTF-8), or the file at `path`.

        The media type is guessed from the name unless given. A file below
        `task.directory` is taken over, any other is copied.
        """
        if (content is None) == (path is None):
            raise TypeError("task.output needs either content or path=")
        if path is not None:
            found = (self.directory / path).absolute()
            if self.directory.resolve() not in found.resolve().parents:
                import shutil
                from pathlib import Path

                found = Path(shutil.copyfile(found, self._new_path()))
        else:
            if isinstance(content, str):
                text, content = content, content.encode("utf-8")
                if len(content) <= min(_SHORT_OUTPUT, self._text_room):
                    self._text_room -= len(content)
                    self._announce({"text": text}, name, data_type, content_type)
                    return
            elif not isinstance(content, (bytes, bytearray, memoryview)):
                kind = type(content).__name__
                raise TypeError(
                    f"content must be str or bytes, not {kind}; for JSON use json.dumps"
                )
            found = self._new_path()
            found.write_bytes(content)
        self._announce({"path": str(found)}, name, data_type, content_type)

    def output_url(
        self, name: str, url: str, *, data_type: str, content_type: Optional[str] = None
    ) -> None:
        """Keeps a link: the content stays at `url`, and clients are sent there.

        `url` is an http or https URL that they can open.
        """
        self._announce({"url": url}, name, data_type, content_type)

    @contextlib.contextmanager
    def open_output(
        self,
        name: str,
        data_type: str,
        content_type: Optional[str] = None,
        *,
        mode: str = "w",
        encoding: str = "utf-8",
    ) -> Iterator[IO[Any]]:
        """A file to write in a `with` block, kept if the block ends well.

        `mode="w"` takes text and leaves line ends alone, `mode="wb"` takes bytes.
        """
        if mode not in ("w", "wb"):
            raise ValueError(f'mode must be "w" or "wb", not {mode!r}')
        path = self._new_path()
        text = {} if "b" in mode else {"encoding": encoding, "newline": ""}
        try:
            with open(path, mode, **text) as file:  # type: ignore[call-overload]
                yield file
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self._announce({"path": str(path)}, name, data_type, content_type)

    def _new_path(self) -> Path:
        # Not the output's own name: that is for people and may be anything.
        self._outputs += 1
        return self.directory / f".output-{self._outputs}"

    def _announce(
        self, content: Dict[str, str], name: str, data_type: str, content_type: Optional[str]
    ) -> None:
        guess = {} if content_type is None else {"contentType": content_type}
        self._notify("output", name=name, dataType=data_type, **content, **guess)

    def step(self, step: str, step_id: Optional[str] = None, /, **values: Any) -> None:
        """Asks for a step when this run has ended; `values` prefill its form.

        `step_id` tells two steps of one declaration apart.
        """
        declared = self.plugin.steps.get(step)
        if declared is None:
            known = ", ".join(self.plugin.steps) or "none"
            raise ValueError(f"{self.plugin.identifier} has no step {step!r}; it has: {known}")
        prefilled = declared.signature.values(values, f"step {step!r}")
        self._notify("step", step=step, stepId=step_id or step, values=prefilled)

    def link(self, type: str, href: str) -> None:
        """Shows a link with the task. A relative one leads to a route of the plugin's own."""
        self._notify("link", type=type, href=href)

    def fetch(self, url: str) -> Input:
        """Has the runner download `url`. Raises FetchError."""
        try:
            answer = self._request("fetch", {"url": url, "task": self.id})
        except RequestError as error:
            raise FetchError(str(error)) from None
        return Input.from_wire(answer)

    def call(self, plugin: str, /, **parameters: Any) -> Called:
        """Runs another plugin as a task of its own, and waits for it; nothing else is held up meanwhile.

        `plugin` is a name (the newest version is taken), an identifier or the URL of a plugin of this
        runner; the parameters have the names that the plugin gives them on the wire (camelCase).
        Raises CallError, also if the called task fails.
        """
        try:
            params = {"plugin": plugin, "parameters": parameters, "task": self.id}
            answer = self._request("call", params)
        except RequestError as error:
            raise CallError(str(error)) from None
        called = Called(
            task=answer["task"],
            href=answer["href"],
            status=answer["status"],
            log=answer["log"],
            outputs=[Input.from_wire(output) for output in answer["outputs"]],
        )
        if called.status != "SUCCESS":
            # Its cause alone: with the tracebacks of all callers a deep chain doubles at every level.
            cause = (called.log.rstrip().splitlines() or ["no reason given"])[-1]
            raise CallError(f"the called task of {plugin} failed: {cause}", called)
        return called

    def _end(self) -> None:
        self._open = False

    def _kept(self, before: Any) -> Dict[str, Any]:
        """`data` for the answer, if there is something to say. Raises TypeError or ValueError."""
        if before is None and self.data == {}:
            return {}
        json.dumps(self.data, allow_nan=False)
        return {"data": self.data}
