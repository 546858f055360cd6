"""The process in which a Python plugin runs: `python -m runner.host ENTRY`, or by its path.

Speaks docs/protocol.md. The main thread loads the module and runs the tasks; a
reader thread always reads, so that `ping` is answered and `cancel` heard during
a run. A cancel raises `Cancelled` in the main thread by way of a signal, which
also wakes it from a sleep or a blocking read. Where each run has a process of its
own, this is the host in each of them, and `runner.zygote` the one above.
"""

from __future__ import annotations

import os
import sys

if __package__ in (None, ""):  # started by its path: the package is the folder it lies in
    _here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(_here), *(path for path in sys.path if path != _here)]

import contextlib
import itertools
import json
import math
import queue
import resource
import signal
import threading
import time
import traceback
from typing import Any, Dict, List, Optional, Tuple

from runner.channel import MAX_LINE, Channel, Garbage, encode
from runner.module import SDK_FOLDER, Module
from runner.plugin import REGISTRY, Form, Plugin
from runner.task import Cancelled, RequestError, Task

PROTOCOL = 1
#: Codes of JSON-RPC, and ours from -32000 down.
FAILED, CANCELLED, UNKNOWN_METHOD, BAD_PARAMS = -32000, -32001, -32601, -32602
#: Wakes the main thread; nothing else about this signal matters.
WAKE = signal.SIGUSR1
#: Between two signals to a main thread that has not noticed the first, in seconds.
WAKE_PAUSE = 0.01
#: How long the plugin may still take to end when the host has to exit, in seconds.
EXIT_GRACE = 1.0
#: The most that is told of a traceback, in characters; the middle is left out.
MAX_TRACEBACK = 64 * 1024


class Run:
    """One `run` request, from its arrival to its answer."""

    def __init__(self, id: Any, params: Dict[str, Any]) -> None:
        self.id = id
        self.params = params
        #: Set by the reader thread.
        self.cancelled = False
        #: Whether Cancelled has been raised: once is enough, clean-up is left in peace.
        self.interrupted = False

    @property
    def key(self) -> Tuple[Any, Any]:
        return self.params.get("task"), self.params.get("run")


class Interruption:
    """Raises Cancelled in the main thread while a plugin runs, never in the middle of a message."""

    def __init__(self) -> None:
        self.run: Optional[Run] = None
        self.depth = 0
        signal.signal(WAKE, lambda *_: self.check())

    def check(self) -> None:
        run = self.run
        if run is not None and run.cancelled and not run.interrupted and self.depth == 0:
            run.interrupted = True
            raise Cancelled()

    def wake(self, run: Run, end: float = math.inf) -> None:
        """Signals the main thread until it has noticed. Called in another thread.

        Once is not enough: a signal that comes just before a system call does not interrupt it.
        """
        while self.run is run and not run.interrupted and time.monotonic() < end:
            signal.pthread_kill(threading.main_thread().ident or 0, WAKE)
            time.sleep(WAKE_PAUSE)

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self.depth += 1

    def __exit__(self, *_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self.depth -= 1
            self.check()


class Host:
    def __init__(self, module: Module, source: int, sink: int, begun: bytes = b"") -> None:
        self.module = module
        self.interruption = Interruption()
        self.channel = Channel(source, sink, self.interruption, begun)
        self.welcome: Dict[str, Any] = {}
        self.plugins: List[Plugin] = []
        self.loaded = False
        self.load_error: Optional[Dict[str, Any]] = None
        self.inbox: "queue.SimpleQueue[Any]" = queue.SimpleQueue()
        #: Guards `runs` and `waiting`.
        self.lock = threading.Lock()
        self.runs: Dict[Tuple[Any, Any], Run] = {}
        #: Our own requests, by id, waiting for their responses.
        self.waiting: Dict[str, "queue.SimpleQueue[Dict[str, Any]]"] = {}
        self.numbers = itertools.count(1)
        self.finished = 0
        self.pid = os.getpid()

    # --- the reader thread -------------------------------------------------

    def read(self) -> None:
        try:
            for message in self.channel.receive():
                if isinstance(message, Garbage):
                    self._fail(None, message.code, message.reason)
                elif message.get("method") == "shutdown":
                    break
                else:
                    self._dispatch(message)
        finally:
            self._leave()

    def _dispatch(self, message: Dict[str, Any]) -> None:
        method, id = message.get("method"), message.get("id")
        params = message.get("params") or {}
        if method is None and ("result" in message or "error" in message):
            with self.lock:
                answer = self.waiting.pop(str(id), None)
            if answer is not None:
                answer.put(message)
        elif not isinstance(method, str) or not isinstance(params, dict):
            self._fail(id, -32600, "a request has a method and an object of params")
        elif method == "cancel":
            self._cancel(params)
        elif "id" not in message:
            pass  # a notification that a newer runner may send
        elif method == "ping":
            self._answer(id, {})
        elif method == "stats":
            unit = 1 if sys.platform == "darwin" else 1024
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
            self._answer(id, {"pid": self.pid, "runs": self.finished, "peakMemory": peak})
        elif method == "run":
            run = Run(id, params)
            with self.lock:
                self.runs[run.key] = run
            self.inbox.put(run)
        elif method in ("welcome", "describe"):
            self.inbox.put(message)
        else:
            self._fail(id, UNKNOWN_METHOD, f"unknown method {method!r}")

    def _cancel(self, params: Dict[str, Any]) -> None:
        with self.lock:
            run = self.runs.get((params.get("task"), params.get("run")))
            if run is not None:
                run.cancelled = True
        if run is not None and self.interruption.run is run:
            threading.Thread(target=self.interruption.wake, args=(run,), daemon=True).start()

    def _leave(self) -> None:
        """Ends the process: in good order if the plugin lets us, else without it."""
        with self.lock:
            for run in self.runs.values():
                run.cancelled = True
        self.inbox.put(None)
        # This thread is a daemon: where the process ends sooner, it ends with it.
        end = time.monotonic() + EXIT_GRACE
        active = self.interruption.run
        if active is not None:
            self.interruption.wake(active, end)
        time.sleep(max(0.0, end - time.monotonic()))
        os._exit(1)

    # --- the main thread ---------------------------------------------------

    def serve(self) -> None:
        threading.Thread(target=self.read, name="protocol", daemon=True).start()
        while True:
            message = self.inbox.get()
            if message is None:
                return
            if isinstance(message, Run):
                self._load()
                self._run(message)
            elif message["method"] == "welcome":
                self.welcome = message.get("params") or {}
                listener = self._listener()
                self._answer(message["id"], {"protocol": PROTOCOL, "framing": "lines"})
                self._load()
                if listener is not None:
                    self._serve_routes(listener)
            else:
                self._load()
                self._describe(message["id"])

    def _listener(self) -> Any:
        """The socket for requests to the own routes, where this host is there for them."""
        config = self.welcome.get("config") or {}
        if not config.get("web"):
            return None
        from runner import serving

        return serving.take(config)

    def _serve_routes(self, listener: Any) -> None:
        from runner import serving

        limit = int(self.welcome["config"]["web"].get("connections") or 1)
        arguments = (listener, self.plugins, limit)
        threading.Thread(target=serving.serve, args=arguments, name="routes", daemon=True).start()

    def _load(self) -> None:
        if self.loaded:
            return
        self.loaded = True
        try:
            name = self.module.load().__name__
            self.plugins = REGISTRY.declared_by(name)
            if not self.plugins:
                raise ValueError(f"{self.module.path.name} declares no plugin with @plugin")
        except BaseException as error:  # SystemExit too: the host answers, whatever the plugin does
            self.load_error = _failure(error)
        _flush()

    def _describe(self, id: Any) -> None:
        if self.load_error is not None:
            self.channel.send({"id": id, "error": self.load_error})
            return
        try:
            plugins = [plugin.describe() for plugin in self.plugins]
            self._answer(id, {"plugins": plugins, "depends": self.module.depends()})
        except (TypeError, ValueError) as error:
            self._fail(id, FAILED, f"the description cannot be sent: {error}")

    def _run(self, run: Run) -> None:
        answer = self._outcome(run)
        _flush()  # what was printed belongs to this run, and comes before its end
        if os.getpid() != self.pid:
            os._exit(1)  # a child that the plugin forked and that found its way back here
        with self.lock:
            if self.runs.get(run.key) is run:
                del self.runs[run.key]
            self.finished += 1
        if run.cancelled:
            answer = {"error": {"code": CANCELLED, "message": "cancelled"}}
        self.channel.send({"id": run.id, **answer})

    def _outcome(self, run: Run) -> Dict[str, Any]:
        if self.load_error is not None:
            return {"error": self.load_error}
        task = None
        try:
            plugin, form = self._find(run.params)
            parameters = run.params.get("parameters") or {}
            inputs = run.params.get("inputs") or {}
            arguments = form.signature.arguments(parameters, inputs)
            request = self._request
            task = Task(
                run.params,
                plugin,
                self.channel.notify,
                request,
                lambda: run.cancelled,
                self.welcome,
            )
            home = os.getcwd()
            os.chdir(task.directory)
        except (LookupError, TypeError, ValueError, OSError) as error:
            message = str(error.args[0]) if isinstance(error, LookupError) else str(error)
            return {"error": {"code": BAD_PARAMS, "message": message}}
        try:
            try:
                self.interruption.run = run  # from here on a cancel raises in this thread
                self.interruption.check()
                log = form(task, **arguments)
            finally:
                self.interruption.run = None
            return {"result": self._result(task, run, log)}
        except BaseException as error:
            self.interruption.run = None  # a cancel may have hit the `finally` above
            return {"error": _failure(error)}
        finally:
            task._end()
            with contextlib.suppress(OSError):
                os.chdir(home)

    def _find(self, params: Dict[str, Any]) -> Tuple[Plugin, Form]:
        wanted, step = params.get("plugin"), params.get("step")
        for plugin in self.plugins:
            if plugin.identifier == wanted:
                if step is None:
                    return plugin, plugin
                if step in plugin.steps:
                    return plugin, plugin.steps[step]
                raise LookupError(f"{wanted} has no step {step!r}")
        offered = ", ".join(plugin.identifier for plugin in self.plugins)
        raise LookupError(f"there is no plugin {wanted!r} here; there are: {offered}")

    @staticmethod
    def _result(task: Task, run: Run, log: Any) -> Dict[str, Any]:
        if log is not None and not isinstance(log, str):
            kind = type(log).__name__
            raise TypeError(
                f"a plugin returns the text for its log, or nothing; this returned {kind}"
            )
        try:
            result = task._kept(run.params.get("data"))
            encode(result)
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"task.data cannot be kept: {error}") from None
        if log is None:
            return result
        try:
            encode({"id": run.id, "result": {**result, "log": log}, "jsonrpc": "2.0"})
        except ValueError:  # too long for one message
            task.log(log)
            return result
        return {**result, "log": log}

    def _request(self, method: str, params: Dict[str, Any]) -> Any:
        id = f"host-{next(self.numbers)}"
        answer: "queue.SimpleQueue[Dict[str, Any]]" = queue.SimpleQueue()
        with self.interruption, self.lock:
            self.waiting[id] = answer
        self.channel.send({"id": id, "method": method, "params": params})
        message = answer.get()
        if "error" in message:
            raise RequestError((message["error"] or {}).get("message") or "no reason given")
        return message["result"]

    def _answer(self, id: Any, result: Any) -> None:
        self.channel.send({"id": id, "result": result})

    def _fail(self, id: Any, code: int, message: str) -> None:
        self.channel.send({"id": id, "error": {"code": code, "message": message}})


def _failure(error: BaseException) -> Dict[str, Any]:
    """An exception of the plugin as an error of JSON-RPC."""
    try:
        message = " ".join(repr(error).splitlines()) or type(error).__name__
    except BaseException as worse:
        message = f"{type(error).__name__} (its repr raised {type(worse).__name__})"
    try:
        trace = _own_frames(error)
        text = "".join(traceback.format_exception(type(error), error, trace))
    except BaseException as worse:
        text = f"no traceback: formatting it raised {type(worse).__name__}"
    return {
        "code": FAILED,
        "message": _shortened(message, MAX_TRACEBACK),
        "data": {"traceback": _shortened(text, MAX_TRACEBACK)},
    }


def _own_frames(error: BaseException) -> Any:
    """The traceback from the plugin's first frame on."""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith((SDK_FOLDER + os.sep, "<frozen importlib")):
            return trace
        trace = trace.tb_next
    return None


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _take_descriptors() -> Tuple[int, int]:
    """Moves the protocol out of the way: the plugin's input is empty, and what it prints is log."""
    source, sink = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore
    return source, sink


def main(arguments: List[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m runner.host ENTRY", file=sys.stderr)
        return 2
    root = os.path.dirname(SDK_FOLDER)
    if os.path.abspath(sys.path[0]) in (root, os.getcwd()):
        del sys.path[0]  # what lies in the current folder is not for plugins to import
    sys.path.append(root)
    sys.dont_write_bytecode = True  # nothing is written next to a plugin
    source, sink = _take_descriptors()
    module = Module(arguments[0], os.environ.get("RUNNER_MODULE_FOLDER", ""))
    with contextlib.suppress(BrokenPipeError):  # the runner is gone
        first = _first_line(source)
        if _is_isolated(first):
            from runner.zygote import Zygote

            return Zygote(module, source, sink).serve(first)
        Host(module, source, sink, first).serve()
    _flush()
    return 0


def _first_line(source: int) -> bytes:
    """The first line, and not a byte more: who reads on is decided by what it says."""
    line = bytearray()
    while not line.endswith(b"\n") and len(line) <= MAX_LINE:
        byte = os.read(source, 1)
        if not byte:
            break
        line += byte
    return bytes(line)


def _is_isolated(line: bytes) -> bool:
    """Whether it is a `welcome` that asks for a process for each run."""
    try:
        message = json.loads(line)
        config = message["params"].get("config") or {}
        isolated: bool = message["method"] == "welcome" and config.get("isolation") == "process"
        return isolated
    except (ValueError, LookupError, TypeError, AttributeError):
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
