"""The process in which a Python plugin runs: `python -m runner.host ENTRY`, or by its path.

Speaks docs/protocol.md. The main thread reads, loads the module and runs the tasks.
When that takes it longer than a moment, a second thread reads in its place, so that
`ping` is answered and `cancel` heard meanwhile; a short run costs no change of threads.
A cancel raises `Cancelled` in the main thread by way of a signal, which also wakes it
from a sleep or a blocking read. Where each run has a process of its own, this is the
host in each of them, and `runner.zygote` the one above.
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
import signal
import time
from _thread import allocate_lock, get_ident

from runner.channel import MAX_LINE, Channel, Garbage, encode
from runner.failure import FAILED, failure
from runner.module import SDK_FOLDER, Module
from runner.plugin import REGISTRY, Form, Plugin
from runner.task import RequestError, Task
from runner.threads import TICK, WAKE, Answer, Inbox, Interruption, Run, Watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

PROTOCOL = 1
#: Codes of JSON-RPC, and ours from -32000 down.
CANCELLED, UNKNOWN_METHOD, BAD_PARAMS = -32001, -32601, -32602
#: How long the plugin may still take to end when the host has to exit, in seconds.
EXIT_GRACE = 1.0


class Host:
    def __init__(self, module: Module, source: int, sink: int, begun: bytes = b"") -> None:
        self.module = module
        self.interruption = Interruption()
        self.channel = Channel(source, sink, self.interruption, begun)
        self.welcome: Dict[str, Any] = {}
        self.plugins: List[Plugin] = []
        self.loaded = False
        self.load_error: Optional[Dict[str, Any]] = None
        self.inbox = Inbox()
        #: Held by the one thread that reads, and which that is; 0 for none.
        self.reading = allocate_lock()
        self.reader = 0
        #: Guards `runs` and `waiting`.
        self.lock = allocate_lock()
        self.runs: Dict[Tuple[Any, Any], Run] = {}
        #: Our own requests, by id, waiting for their responses.
        self.waiting: Dict[str, Answer] = {}
        self.numbers = itertools.count(1)
        self.finished = 0
        self.pid = os.getpid()
        #: How much the main thread has begun, and whether it is at it.
        self.begun, self.busy = 0, False
        self.watcher: Optional[Watcher] = None

    # --- whoever reads -----------------------------------------------------

    def _read(self) -> bool:
        """Reads a message and deals with it, or leaves it to the main thread. `False` at the end."""
        message = self.channel.read()
        if message is None or (isinstance(message, dict) and message.get("method") == "shutdown"):
            return False
        if isinstance(message, Garbage):
            self._fail(None, message.code, message.reason)
        else:
            self._dispatch(message)
        return True

    def read_beside(self) -> None:
        """Reads in another thread while the main one is busy, unless somebody does."""
        if not self._take_turn():
            return
        with contextlib.suppress(Exception):
            while self._read():
                if self.inbox.messages and not self.busy:
                    self._end_turn()  # the main thread takes what is there, and reads on
                    return
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
            memory = peak_memory()
            self._answer(id, {"pid": self.pid, "runs": self.finished, "peakMemory": memory})
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
        if run is None or self.interruption.run is not run:
            return
        if get_ident() == self.interruption.main:
            return  # it notices when it has read this
        import threading

        threading.Thread(target=self.interruption.wake, args=(run,), daemon=True).start()

    def _depart(self) -> None:
        """Ends the process from the main thread on, whatever the plugin's threads do."""
        import threading

        threading.Thread(target=self._leave, daemon=True).start()

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
        while True:
            message = self._next()
            if message is None:
                return
            self.begun += 1
            self.busy = True
            if self.watcher is not None:
                self.watcher.wake()
            self._obey(message)
            self.busy = False

    def _next(self) -> Any:
        """What there is to do; `None` at the end."""
        while not self.inbox.messages:
            if not self._take_turn():
                return self.inbox.get()
            # Whoever read before may have left something.
            while not self.inbox.messages:
                if not self._read():
                    self._depart()
                    return None
            self._end_turn()
        return self.inbox.get()

    def _obey(self, message: Any) -> None:
        if isinstance(message, Run):
            self._load()
            self._run(message)
        elif message["method"] == "welcome":
            self.welcome = message.get("params") or {}
            listener = self._listener()
            self._answer(message["id"], {"protocol": PROTOCOL, "framing": "lines"})
            self.watcher = Watcher(self)
            self._load()
            if listener is not None:
                self._serve_routes(listener)
            if (self.welcome.get("config") or {}).get("items"):
                self._serve_items()
        else:
            self._load()
            self._describe(message["id"])

    def serve_one(self, before: Callable[[], None]) -> None:
        """Waits for a `run` and runs it, after `before`; a `cancel` is a signal here."""
        while not self.inbox.messages:
            if not self._read():
                return
        before()
        run = self.inbox.get()
        signal.signal(WAKE, lambda *_: self._cancel_here(run))
        self._run(run)

    def _cancel_here(self, run: Run) -> None:
        run.cancelled = True
        self.interruption.check()

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
        import threading

        arguments = (listener, self.plugins, limit)
        threading.Thread(target=serving.serve, args=arguments, name="routes", daemon=True).start()

    def _serve_items(self) -> None:
        import threading

        from runner import items

        connection = items.inherited(self.welcome["config"])
        assert connection is not None, "items are served where there is a socket for them"
        taken = items.Items(connection, self.plugins, self.load_error)

        def serve() -> None:
            taken.serve()
            _flush()
            os._exit(0)

        threading.Thread(target=serve, name="items", daemon=True).start()

    def _load(self) -> None:
        if self.loaded:
            return
        self.loaded = True
        try:
            name = self.module.load().__name__
            self.plugins = REGISTRY.declared_by(name)
            if not self.plugins:
                raise ValueError(f"{os.path.basename(self.module.path)} declares no plugin with @plugin")
        except BaseException as error:  # SystemExit too: the host answers, whatever the plugin does
            self.load_error = failure(error)
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
        self._end_turn()  # a cancel may have come in the way of that
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
            os.chdir(task._directory)
        except (LookupError, TypeError, ValueError, OSError) as error:
            message = str(error.args[0]) if isinstance(error, LookupError) else str(error)
            return {"error": {"code": BAD_PARAMS, "message": message}}
        try:
            try:
                self.interruption.run = run  # from here on a cancel raises in this thread
                self.interruption.check()
                log = form.run(task, **arguments)
            finally:
                self.interruption.run = None
            return {"result": self._result(task, run, log)}
        except BaseException as error:
            self.interruption.run = None  # a cancel may have hit the `finally` above
            return {"error": failure(error)}
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
        answer = Answer()
        with self.interruption, self.lock:
            self.waiting[id] = answer
        self.channel.send({"id": id, "method": method, "params": params})
        message = self._answer_to(answer)
        if "error" in message:
            raise RequestError((message["error"] or {}).get("message") or "no reason given")
        return message["result"]

    def _answer_to(self, answer: Answer) -> Dict[str, Any]:
        """Waits for it; reads itself while nobody else does."""
        while answer.message is None:
            try:
                if not self._take_turn():
                    answer.arrived.acquire(timeout=TICK)
                elif answer.message is None:
                    self._read_or_abandon()
            finally:
                self._end_turn()
        return answer.message

    def _read_or_abandon(self) -> None:
        self.channel.wait()
        with self.interruption:
            if self._read():
                return
        # The runner is gone.
        self._depart()
        while True:
            time.sleep(EXIT_GRACE)

    def _take_turn(self) -> bool:
        """Whether this thread may read, until it ends its turn."""
        with self.interruption:
            is_taken = self.reading.acquire(blocking=False)
            if is_taken:
                self.reader = get_ident()
            return is_taken

    def _end_turn(self) -> None:
        """Others may read, if it was this thread's turn."""
        with self.interruption:
            if self.reader == get_ident():
                self.reader = 0
                self.reading.release()

    def _answer(self, id: Any, result: Any) -> None:
        self.channel.send({"id": id, "result": result})

    def _fail(self, id: Any, code: int, message: str) -> None:
        self.channel.send({"id": id, "error": {"code": code, "message": message}})


def peak_memory() -> int:
    """The most memory that this process has had, in bytes."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


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
    # Before its descriptor is another: a stream that could seek asks where it is.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore
    os.dup2(2, 1)
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
        begun = _first_line(source)
        first, _, rest = begun.partition(b"\n")
        if _is_isolated(first):
            from runner.zygote import Zygote

            return Zygote(module, source, sink, rest).serve(first)
        Host(module, source, sink, begun).serve()
    _flush()
    return 0


def _first_line(source: int) -> bytes:
    """The first line, and what came with it."""
    begun = b""
    while b"\n" not in begun and len(begun) <= MAX_LINE:
        chunk = os.read(source, 1 << 16)
        if not chunk:
            break
        begun += chunk
    return begun


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
