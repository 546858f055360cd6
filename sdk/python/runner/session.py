"""Plugins, from the code of a session: `runner.run` runs one as a task, `runner.plugins` tells which there are.

A kernel has no network; it asks the runner on a line of its own.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import socket
import threading
from pathlib import Path
from typing import IO, Any, Dict, List, Optional

from runner.record import record

#: Bytes of a request, as the runner takes it.
MAX_REQUEST = 1 << 20
#: Bytes that are read at a time.
_CHUNK = 1 << 16
#: Where files go that a plugin is to have and that do not lie in the folder of the session.
_GIVEN = Path(".tmp", "given")


class TaskFailed(Exception):
    """The task of a plugin did not end well. `log` says more than the message, which has its last line."""

    def __init__(self, message: str, result: Optional["TaskResult"] = None) -> None:
        super().__init__(message)
        self.result = result

    @property
    def log(self) -> str:
        return self.result.log if self.result is not None else str(self)


@record(frozen=True)
class TaskOutput:
    """An output of a task, in the folder of the session."""

    name: str
    path: Path
    #: What it means, such as `entity/list`.
    data_type: str
    #: Its media type, such as `text/csv`.
    content_type: str
    #: In bytes.
    size: int
    #: Where the runner has it, for parameters of other plugins.
    url: str

    def read_bytes(self) -> bytes:
        return self.path.read_bytes()

    def text(self, encoding: str = "utf-8") -> str:
        return self.path.read_text(encoding=encoding)

    def json(self) -> Any:
        return json.loads(self.text())


@record(frozen=True)
class TaskResult:
    """A task that has ended."""

    #: Its number.
    task: int
    #: Its URL.
    href: str
    #: Identifier of the plugin.
    plugin: str
    #: `SUCCESS` or `FAILURE`.
    status: str
    log: str
    outputs: List[TaskOutput]

    def output(self, name: str) -> TaskOutput:
        """The first output of this name. Raises KeyError."""
        for output in self.outputs:
            if output.name == name:
                return output
        names = ", ".join(output.name for output in self.outputs) or "none"
        raise KeyError(f"the task has no output {name!r}; it has: {names}")


def run(plugin: str, /, **parameters: Any) -> TaskResult:
    """Runs a plugin as a task and waits for it; its log is shown meanwhile, its outputs are put into the folder of the
    session, below `outputs/`.

    `plugin` is a name (the newest version is taken) or an identifier such as `shout@1.0.0`. A file is given as a
    `pathlib.Path`, an open file, or bytes. Raises TaskFailed, and cancels the task when it is interrupted.
    """
    line, kept = _line(), _Kept()
    try:
        given = {name: kept.given(value) for name, value in parameters.items()}
        answer = line.ask({"run": {"plugin": plugin, "parameters": given}}, _Shown(plugin))
    finally:
        kept.remove()
    outputs = [
        TaskOutput(
            name=one["name"],
            path=Path(one["path"]),
            data_type=one["dataType"],
            content_type=one["contentType"],
            size=one["size"],
            url=one["url"],
        )
        for one in answer["outputs"]
    ]
    result = TaskResult(
        task=answer["task"],
        href=answer["href"],
        plugin=answer["plugin"],
        status=answer["status"],
        log=answer["log"],
        outputs=outputs,
    )
    if result.status != "SUCCESS":
        cause = (result.log.rstrip().splitlines() or ["no reason given"])[-1]
        raise TaskFailed(f"the task {result.task} of {plugin} failed: {cause}", result)
    return result


def plugins() -> List[Dict[str, Any]]:
    """What can be run: `identifier`, `name`, `title`, `description`, `tags` and the names of the `parameters` of each."""
    answer: List[Dict[str, Any]] = _line().ask({"plugins": True}, None)
    return answer


class _Shown:
    """Shows what is heard of a task, as output of the cell."""

    def __init__(self, plugin: str) -> None:
        self.plugin = plugin
        self.has_progress = False

    def hear(self, told: Dict[str, Any]) -> None:
        if "log" in told:
            print(told["log"], end="" if told["log"].endswith("\n") else "\n", flush=True)
        elif "step" in told:
            print(f"{self.plugin} waits for a step: {told['step']}", flush=True)
        elif "progress" in told:
            self._progress(told)

    def _progress(self, told: Dict[str, Any]) -> None:
        line, progress = _line(), told["progress"]
        unit = progress.get("unit", "%")
        of = "" if unit == "%" else f"of {progress.get('target', 100):g} "
        text = f"{self.plugin}: {progress['value']:g} {of}{unit}"
        kind = "update_display_data" if self.has_progress else "display_data"
        self.has_progress = True
        transient = {"display_id": f"progress-{line.number}-{told['id']}"}
        line.publish(kind, {"data": {"text/plain": text}, "metadata": {}, "transient": transient})


class _Kept:
    """Files that a plugin is to have, in the folder of the session."""

    def __init__(self) -> None:
        self.home = Path(_line().folder).resolve()
        #: Those that were put there for this.
        self.folders: List[Path] = []

    def given(self, value: Any) -> Any:
        """A parameter as it goes over the line."""
        if isinstance(value, os.PathLike):
            return {"$file": self._in_folder(Path(os.fspath(value)))}
        if isinstance(value, (bytes, bytearray, memoryview)):
            return {"$file": self._put(bytes(value), "given")}
        if hasattr(value, "read"):
            return {"$file": self._of_open(value)}
        if isinstance(value, (list, tuple)):
            return [self.given(item) for item in value]
        return value

    def _of_open(self, file: IO[Any]) -> str:
        """An open file: all that is in it, or what is still to be read where it has no name."""
        name = getattr(file, "name", None)
        if isinstance(name, str) and os.path.isfile(name):
            if not file.closed and file.writable():
                file.flush()
            return self._in_folder(Path(name))
        content = file.read()
        return self._put(content.encode("utf-8") if isinstance(content, str) else content, "given")

    def _in_folder(self, path: Path) -> str:
        """The path from the session's folder; one elsewhere is copied into it."""
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {str(path)!r}")
        found = path.resolve()
        if self.home in found.parents:
            return str(found.relative_to(self.home))
        return self._put(found.read_bytes(), found.name)

    def _put(self, content: bytes, name: str) -> str:
        folder = self.home / _GIVEN / os.urandom(8).hex()
        folder.mkdir(parents=True)
        self.folders.append(folder)
        (folder / name).write_bytes(content)
        return str((folder / name).relative_to(self.home))

    def remove(self) -> None:
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)


class Line:
    """The line on which a kernel asks. Several threads may."""

    def __init__(self, sock: socket.socket, folder: str, publish: Any, shield: Any) -> None:
        self.socket = sock
        #: Holds off interrupts: half a line would be the end of it.
        self.shield = shield
        #: The folder of the session.
        self.folder = folder
        #: Shows something; as `Kernel.publish`.
        self.publish = publish
        self.pid = os.getpid()
        #: Tells kernels of a session apart.
        self.number = os.urandom(4).hex()
        self.counter = itertools.count(1)
        self.changed = threading.Condition()
        self.is_read = False
        self.held = bytearray()
        #: What was told and not heard yet, by the requests that wait.
        self.told: Dict[int, List[Dict[str, Any]]] = {}
        self.is_over = False

    def ask(self, request: Dict[str, Any], shown: Optional[_Shown]) -> Any:
        """Sends a request and waits for its end; what is told meanwhile is shown."""
        if os.getpid() != self.pid:
            raise RuntimeError("only the kernel itself can ask the runner, not a process that it has forked")
        id = next(self.counter)
        try:
            text = json.dumps({"id": id, **request}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TypeError(f"the parameters are not usable as JSON: {error}; files are given as pathlib.Path") from None
        data = text.encode() + b"\n"
        if len(data) > MAX_REQUEST:
            size = f"the parameters have {len(data)} bytes as JSON; the limit is {MAX_REQUEST}"
            raise ValueError(f"{size}: put what is large into files")
        self.told[id] = []
        is_done = False
        try:
            self._send(data)
            while True:
                told = self._next(id)
                if "done" in told or "failed" in told:
                    is_done = True
                    break
                if shown is not None:
                    shown.hear(told)
        finally:
            del self.told[id]
            if not is_done and not self.is_over:
                self._send(json.dumps({"cancel": id}).encode() + b"\n")
        if "failed" in told:
            raise TaskFailed(told["failed"])
        return told["done"]

    def _send(self, data: bytes) -> None:
        with self.shield, self.changed:
            self.socket.sendall(data)

    def _next(self, id: int) -> Dict[str, Any]:
        """The next that is told of a request. One of those who wait reads for all."""
        while True:
            with self.changed:
                while not self.told[id] and self.is_read and not self.is_over:
                    self.changed.wait()
                if self.told[id]:
                    return self.told[id].pop(0)
                if self.is_over:
                    raise TaskFailed("the runner answers no more")
                self.is_read = True
            try:
                # Interrupts come through here, where nothing is half done.
                select.select([self.socket], [], [])
                self._read()
            finally:
                with self.changed:
                    self.is_read = False
                    self.changed.notify_all()

    def _read(self) -> None:
        with self.shield, self.changed:
            chunk = self.socket.recv(_CHUNK)
            self.is_over = not chunk
            self.held += chunk
            while True:
                line, newline, rest = self.held.partition(b"\n")
                if not newline:
                    break
                self.held = bytearray(rest)
                told = json.loads(line)
                waiting = self.told.get(told.get("id"))
                if waiting is not None:
                    waiting.append(told)


_current: Optional[Line] = None


def begin(sock: socket.socket, folder: str, kernel: Any) -> None:
    """This process is a kernel, and asks on this line."""
    global _current
    sock.set_inheritable(False)
    _current = Line(sock, folder, kernel.publish, kernel.shield)


def _line() -> Line:
    if _current is None:
        raise RuntimeError("this is no session of a runner; a plugin calls others with task.call")
    return _current
