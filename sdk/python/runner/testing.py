"""Runs plugins in tests as the runner does: in a real host process, through the protocol.

with Host("shout.py") as host:
    result = host.run("shout", {"inputStr": "hello"})
assert result.outputs[0].text == "HELLO"
"""

from __future__ import annotations

import http.client
import itertools
import json
import mimetypes
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

#: Where the package lies, for hosts started by the path of host.py.
SDK = Path(__file__).resolve().parent


class Closed(Exception):
    """The host ended, or did not answer in time."""


@dataclass
class OutputFile:
    """A file that a run announced."""

    name: str
    data_type: str
    content_type: Optional[str]
    content: bytes
    #: Where the content stands, if the output is a link.
    url: Optional[str] = None

    @property
    def text(self) -> str:
        return self.content.decode("utf-8")


@dataclass
class Result:
    """All that came of a run."""

    #: The entries of the log; the answer's own comes last.
    log: List[str] = field(default_factory=list)
    progress: List[Dict[str, Any]] = field(default_factory=list)
    outputs: List[OutputFile] = field(default_factory=list)
    steps: List[Dict[str, Any]] = field(default_factory=list)
    links: List[Dict[str, Any]] = field(default_factory=list)
    data: Any = None
    #: `{"code", "message", "data"?}`, or `None` if the run succeeded.
    error: Optional[Dict[str, Any]] = None

    @property
    def traceback(self) -> str:
        return str(((self.error or {}).get("data") or {}).get("traceback", ""))


class RunInProgress:
    """A run that was started and may be watched, cancelled, and waited for."""

    def __init__(self, host: Host, id: int, task: int, run: int, directory: str) -> None:
        self.host = host
        self.id = id
        self.task = task
        self.run = run
        self.directory = directory
        self.result = Result()

    def cancel(self) -> None:
        self.host.send({"method": "cancel", "params": {"task": self.task, "run": self.run}})

    def notification(self, method: str) -> Dict[str, Any]:
        """The next notification of this kind; others on the way are kept for the result."""
        while True:
            message = self.host.receive()
            if "method" not in message:
                raise Closed(f"the run ended without a {method!r}: {message}")
            self._take(message)
            if message["method"] == method:
                return dict(message["params"])

    def wait(self) -> Result:
        answer = self.host.answer(self.id, self._take)
        result = self.result
        result.error = answer.get("error")
        own = answer.get("result") or {}
        result.data = own.get("data")
        if own.get("log") is not None:
            result.log.append(own["log"])
        return result

    def _take(self, message: Dict[str, Any]) -> None:
        method, params = message["method"], message.get("params", {})
        if method == "log":
            self.result.log.append(params["text"])
        elif method == "output":
            if "text" in params:
                content = params["text"].encode("utf-8")
            elif "url" in params:
                content = b""
            else:
                content = (Path(self.directory) / params["path"]).read_bytes()
            kind = params.get("contentType") or mimetypes.guess_type(params["name"])[0]
            self.result.outputs.append(
                OutputFile(
                    params["name"], params["dataType"], kind, content, params.get("url")
                )
            )
        else:
            kept = {
                "progress": self.result.progress,
                "step": self.result.steps,
                "link": self.result.links,
            }
            kept.get(method, []).append(params)


class Host:
    """A module in a host of its own, for a `with` block.

    `timeout` is how long the host may be silent, in seconds.
    """

    def __init__(
        self,
        entry: Union[str, "os.PathLike[str]"],
        *,
        command: Optional[Sequence[str]] = None,
        config: Optional[Mapping[str, Any]] = None,
        args: Sequence[str] = (),
        env: Optional[Mapping[str, str]] = None,
        fetch: Optional[Callable[[str], Mapping[str, Any]]] = None,
        web: bool = False,
        timeout: float = 30,
    ) -> None:
        self.entry = Path(entry).absolute()
        #: How the host is started: as the module's interpreter, unless it is an executable.
        self.command = list(command or [*_python(), str(SDK / "host.py"), str(self.entry)])
        self.config = dict(config or {})
        self.args = list(args)
        self.env = dict(env or {})
        #: Answers the plugin's `task.fetch`; raises to refuse.
        self.fetch = fetch
        #: Whether the host answers requests to own routes, sent with `visit`.
        self.web = web
        self.timeout = timeout
        self.stderr = ""
        self._ids = itertools.count(1)
        self._lines: "queue.Queue[Optional[bytes]]" = queue.Queue()

    def __enter__(self) -> Host:
        self.folder = tempfile.TemporaryDirectory(prefix="runner-host-")
        listener = self._listen() if self.web else None
        self.process = subprocess.Popen(
            self.command,
            pass_fds=() if listener is None else (listener.fileno(),),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **self.env},
            cwd=self.folder.name,
        )
        if listener is not None:
            listener.close()
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._log)]
        for thread in self._threads:
            thread.start()
        try:
            self.welcome = self.request(
                "welcome",
                protocol=1,
                name=self.entry.stem,
                uuid="00000000-0000-0000-0000-000000000000",
                args=self.args,
                config=self.config,
                directory=self.folder.name,
            )
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> int:
        """Closes the host's input and waits for its end. Says its exit status."""
        assert self.process.stdin and self.process.stdout and self.process.stderr
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            status = self.process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        for thread in self._threads:
            thread.join()
        self.process.stdout.close()
        self.process.stderr.close()
        self.folder.cleanup()
        return status

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _log(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.stderr += line.decode("utf-8", "replace")

    # --- messages ---

    def send(self, message: Mapping[str, Any]) -> None:
        self.send_line(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def send_line(self, line: bytes) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write(line + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Closed(f"the host ended; its log:\n{self.stderr}") from None

    def receive(self) -> Dict[str, Any]:
        """The next message for a caller; a `fetch` on the way is answered."""
        while True:
            try:
                line = self._lines.get(timeout=self.timeout)
            except queue.Empty:
                raise Closed(
                    f"the host was silent for {self.timeout} s; its log:\n{self.stderr}"
                ) from None
            if line is None:
                self._lines.put(None)
                raise Closed(f"the host ended; its log:\n{self.stderr}")
            message: Dict[str, Any] = json.loads(line)
            if message.get("method") != "fetch":
                return message
            self.send({"id": message["id"], **self._fetched(message["params"]["url"])})

    def _fetched(self, url: str) -> Dict[str, Any]:
        try:
            if self.fetch is None:
                raise LookupError("this test fetches nothing")
            return {"result": dict(self.fetch(url))}
        except Exception as error:
            return {"error": {"code": -32000, "message": str(error)}}

    def answer(
        self, id: int, take: Optional[Callable[[Dict[str, Any]], None]] = None
    ) -> Dict[str, Any]:
        while True:
            message = self.receive()
            if "method" not in message and message.get("id") == id:
                return message
            if "method" in message and take is not None:
                take(message)

    def request(self, method: str, **params: Any) -> Any:
        """The result of a request. Raises Closed with the error where there is none."""
        id = next(self._ids)
        self.send({"id": id, "method": method, "params": params})
        answer = self.answer(id)
        if "error" in answer:
            raise Closed(f"{method}: {answer['error']}")
        return answer["result"]

    def describe(self) -> Dict[str, Any]:
        """All plugins of the module by name."""
        return {plugin["name"]: plugin for plugin in self.request("describe")["plugins"]}

    # --- own routes ---

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(self.folder.name, "web"))
        listener.listen()
        self.config["web"] = {"fd": listener.fileno(), "connections": 16}
        return listener

    def visit(
        self,
        plugin: str,
        path: str,
        method: str = "GET",
        body: Any = None,
        headers: Optional[Mapping[str, str]] = None,
    ) -> http.client.HTTPResponse:
        """Sends a request to a route of a plugin, called by its name or its identifier.

        `body` is bytes, or yields bytes. The response is open; read it.
        """
        identifier = self._identifier(plugin)
        connection = http.client.HTTPConnection("localhost", timeout=self.timeout)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(self.timeout)
        connection.sock.connect(os.path.join(self.folder.name, "web"))
        forwarded = {
            "X-Forwarded-Host": "localhost",
            "X-Forwarded-Proto": "http",
            "X-Forwarded-Prefix": f"/plugins/{identifier}",
            "X-Runner-Plugin": identifier,
        }
        connection.request(method, path, body, {**forwarded, **(headers or {})})
        return connection.getresponse()

    # --- runs ---

    def _identifier(self, plugin: str) -> str:
        if "@" in plugin:
            return plugin
        version = self.describe()[plugin]["version"]
        return f"{plugin}@{version}".replace(".", "-")

    def start(
        self,
        plugin: str,
        parameters: Optional[Mapping[str, Any]] = None,
        *,
        inputs: Optional[Mapping[str, Any]] = None,
        step: Optional[str] = None,
        step_id: Optional[str] = None,
        data: Any = None,
    ) -> RunInProgress:
        """Starts a run of a plugin, called by its name or its identifier.

        `inputs` are the files: paths, or the objects of the protocol.
        """
        plugin = self._identifier(plugin)
        id = next(self._ids)
        # Where a host that forks for each run leaves it alone.
        runs = os.path.join(self.folder.name, "run")
        os.makedirs(runs, exist_ok=True)
        directory = tempfile.mkdtemp(dir=runs)
        params = {
            "task": id,
            "run": 1,
            "plugin": plugin,
            "step": step,
            "stepId": step_id or step,
            "parameters": dict(parameters or {}),
            "inputs": {key: _input(value) for key, value in (inputs or {}).items()},
            "data": data,
            "directory": directory,
            "baseUrl": "http://localhost",
            "outputText": 1 << 20,
        }
        self.send({"id": id, "method": "run", "params": params})
        return RunInProgress(self, id, id, 1, directory)

    def run(
        self, plugin: str, parameters: Optional[Mapping[str, Any]] = None, **more: Any
    ) -> Result:
        """Starts a run and waits for its end."""
        return self.start(plugin, parameters, **more).wait()


def _python() -> List[str]:
    """This interpreter, as strict about warnings as it is here."""
    return [sys.executable, *(f"-W{option}" for option in sys.warnoptions)]


def _input(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_input(one) for one in value]
    if isinstance(value, Mapping):
        return dict(value)
    path = Path(value)
    return {
        "path": str(path.absolute()),
        "name": path.name,
        "contentType": mimetypes.guess_type(path.name)[0],
        "dataType": "*",
        "url": path.absolute().as_uri(),
        "size": path.stat().st_size,
    }
