"""A kernel: requests of clients, one after the other, and what is told on the way."""

from __future__ import annotations

import builtins
import collections
import contextlib
import datetime
import faulthandler
import getpass
import importlib
import os
import platform
import select
import sys
import threading
import traceback
import uuid
from typing import Any, Callable, ClassVar, Deque, Dict, Iterator, List, Optional, Sequence

from runner.kernel.interrupts import Shield
from runner.kernel.output import Outputs, Stream
from runner.kernel.wire import PROTOCOL, Line, Message, encode, to_json

comm: Any = None
with contextlib.suppress(ImportError):
    comm = importlib.import_module("comm")
    importlib.import_module("comm.base_comm")


class StdinNotImplementedError(RuntimeError):
    """The client takes no questions."""


def _shell(kernel: "Kernel") -> Any:
    try:
        import IPython  # noqa: F401
    except ImportError:
        from runner.kernel.plain import PlainShell

        return PlainShell(kernel)
    from runner.kernel.ipython import make

    return make(kernel)


class Kernel:
    """Made once, in the zygote; serves in its forks."""

    #: The one that serves in this process.
    current: ClassVar[Optional["Kernel"]] = None

    def __init__(self) -> None:
        self.session = ""
        self.count = 0
        self.pid = os.getpid()
        self.line: Optional[Line] = None
        self.lock = threading.RLock()
        self.shield = Shield()
        self.outputs: Optional[Outputs] = None
        self.waiting: Deque[Message] = collections.deque()
        self.parent: Dict[str, Any] = {}
        self.parent_json = b"{}"
        self.is_muted = False
        #: Whether what is queued is not to be executed, since the request in progress has failed.
        self.aborts = False
        self.takes_questions = False
        self.comms: Any = None
        #: What answers requests beyond those of Jupyter, by their kinds, with the content of the reply.
        self.handlers: Dict[str, Callable[[Message], Dict[str, Any]]] = {}
        #: Metadata of all that is told now, such as whose output it is.
        self.mark: Dict[str, Any] = {}
        #: What is to go into the payload of the reply in progress.
        self.payload: Dict[str, Any] = {}
        self.shell = _shell(self)

    def info(self) -> Dict[str, Any]:
        """The content of `kernel_info_reply`."""
        name, version = self.shell.implementation
        return {
            "status": "ok",
            "protocol_version": PROTOCOL,
            "implementation": name,
            "implementation_version": version,
            "language_info": {
                "name": "python",
                "version": platform.python_version(),
                "mimetype": "text/x-python",
                "codemirror_mode": {"name": "ipython", "version": 3},
                "pygments_lexer": "ipython3",
                "nbconvert_exporter": "python",
                "file_extension": ".py",
            },
            "banner": self.shell.banner,
            "help_links": [],
            "supported_features": [],
        }

    # --- what is told ------------------------------------------------------

    def tell(
        self,
        channel: str,
        kind: str,
        content: Dict[str, Any],
        metadata: Optional[Dict[str, Any]] = None,
        buffers: Optional[Sequence[bytes]] = None,
    ) -> None:
        """Sends a message about the request in progress."""
        if os.getpid() != self.pid:
            return  # a fork that the code has made has no line of its own
        with self.shield, self.lock:
            self.count += 1
            header = {
                "msg_id": f"{self.session}_{self.count}",
                "msg_type": kind,
                "session": self.session,
                "username": "kernel",
                "date": datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z"),
                "version": PROTOCOL,
            }
            parts = [channel.encode(), to_json(header), self.parent_json, to_json(metadata or {}), to_json(content)]
            parts += [bytes(buffer) for buffer in buffers or ()]
            if self.line is not None:
                self.line.write(encode(parts))

    def publish(
        self,
        kind: str,
        content: Dict[str, Any],
        metadata: Optional[Dict[str, Any]] = None,
        buffers: Optional[Sequence[bytes]] = None,
    ) -> None:
        """Tells everyone, after what was printed before."""
        if kind != "stream":
            self._drain()
        # As ipykernel does it: clients read values with silent cells.
        if not self.is_muted or kind.endswith("display_data"):
            self.tell("iopub", kind, content, {**self.mark, **(metadata or {})}, buffers)

    def _print(self, name: str, text: str) -> None:
        if not self.is_muted:
            self.tell("iopub", "stream", {"name": name, "text": text}, self.mark)

    def _drain(self) -> None:
        # What a fork has printed is the output of this process.
        if self.outputs is not None and os.getpid() == self.pid:
            self.outputs.drain()

    @contextlib.contextmanager
    def marked(self, mark: Dict[str, Any]) -> Iterator[None]:
        """Within it, all that is told has this metadata."""
        before = self.mark
        self._drain()
        self.mark = {**before, **mark}
        try:
            yield
        finally:
            try:
                self._drain()
            finally:
                self.mark = before

    def _status(self, state: str) -> None:
        self.tell("iopub", "status", {"execution_state": state})

    # --- the loop ----------------------------------------------------------

    def serve(self, line: Line) -> None:
        """Answers until the runner is gone."""
        Kernel.current = self
        self.pid = os.getpid()
        self.line = line
        self.session = str(uuid.uuid4())
        self.shield.watch()
        original = os.fdopen(os.dup(2), "w", buffering=1, errors="replace")
        sys.__stderr__ = original  # type: ignore[misc]
        self.outputs = Outputs(self._print, self.shield)
        sys.stdout = sys.__stdout__ = Stream("stdout", self.outputs, 1)  # type: ignore[misc, assignment]
        sys.stderr = Stream("stderr", self.outputs, 2)
        os._exit = self._exit(os._exit)
        builtins.input = self._input
        getpass.getpass = self._getpass
        self._use_comms()
        faulthandler.enable(file=original)
        self._status("starting")
        self._status("idle")
        while True:
            message = self.waiting.popleft() if self.waiting else line.read()
            if message is None:
                return
            self._answer(message)

    def _exit(self, exit: Any) -> Any:
        """What was printed is sent before the end that asks nobody."""

        def exit_with_last_words(status: int) -> None:
            if os.getpid() == self.pid and self.outputs is not None:
                try:
                    self.outputs.drain()
                except BaseException:
                    pass  # the end comes all the same
            exit(status)

        return exit_with_last_words

    def _answer(self, message: Message) -> None:
        kind = message.header.get("msg_type", "")
        self.parent = message.header
        self.parent_json = to_json(message.header)
        answer = getattr(self, f"_do_{kind}", None)
        handler = self.handlers.get(kind)
        self._status("busy")
        try:
            if answer is not None:
                answer(message)
            elif handler is not None:
                self._handle(message, handler)
            elif kind.endswith("_request"):
                self.tell(message.channel, _reply_to(kind), _error("ValueError", f"this kernel has no {kind}", []))
        except Exception as error:
            traceback.print_exc(file=sys.__stderr__)
            content = _error(type(error).__name__, str(error), traceback.format_exc().splitlines())
            self.tell(message.channel, _reply_to(kind), {"payload": [], **content})
        finally:
            self._drain()
            self.is_muted = False
            self.mark = {}
            self._status("idle")
        if self.aborts:
            self.aborts = False
            self._abort_waiting()

    # --- requests ----------------------------------------------------------

    def _do_kernel_info_request(self, message: Message) -> None:
        self.tell(message.channel, "kernel_info_reply", self.info())

    def _do_execute_request(self, message: Message) -> None:
        content = message.content
        code = content.get("code")
        if not isinstance(code, str):
            raise ValueError("`code` is to be text")
        silent = bool(content.get("silent", False))
        store = bool(content.get("store_history", not silent)) and not silent
        self.takes_questions = bool(content.get("allow_stdin", False))
        if not silent:
            number = self.shell.execution_count
            self.publish("execute_input", {"code": code, "execution_count": number})
        self.is_muted = silent
        reply = self._run(lambda: self.shell.execute(code, silent, store, content.get("user_expressions") or {}))
        is_last = reply["status"] == "error" and content.get("stop_on_error", True) and not silent
        if is_last:
            # What comes after the answer was sent by somebody who knows of the failure.
            self._read_waiting()
        self.tell(message.channel, "execute_reply", reply)
        self.aborts = is_last

    def _handle(self, message: Message, handler: Callable[[Message], Dict[str, Any]]) -> None:
        reply = self._run(lambda: handler(message))
        self.tell(message.channel, _reply_to(message.header["msg_type"]), reply)

    def _run(self, code: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
        """Runs code of the user, which an interrupt breaks off. Answers with the content of its reply."""
        self.payload = {}
        self.shield.watch()
        self.shield.is_open = True
        try:
            reply = code()
        except KeyboardInterrupt:
            reply = _error("KeyboardInterrupt", "", ["KeyboardInterrupt"])
        finally:
            self.shield.is_open = False
            self.shield.is_pending = False
            self.takes_questions = False
        if os.getpid() != self.pid:
            os._exit(0)  # a fork that the code has made came back
        self._drain()
        # Sage Cell's client reads the first entry alone, and takes for granted that there is an array.
        payload = reply.setdefault("payload", [])
        if self.payload:
            payload[:1] = [{**(payload[0] if payload else {}), **self.payload}]
        return reply

    def _read_waiting(self) -> None:
        """Reads what was sent by now."""
        assert self.line is not None
        while select.select([self.line.socket], [], [], 0)[0]:
            if not self.line.fill():
                break
        while True:
            message = self.line.take()
            if message is None:
                break
            self.waiting.append(message)

    def _abort_waiting(self) -> None:
        """What was queued behind a cell that failed is not executed."""
        kept: List[Message] = []
        for message in self.waiting:
            if message.header.get("msg_type") != "execute_request":
                kept.append(message)
                continue
            self.parent = message.header
            self.parent_json = to_json(message.header)
            self._status("busy")
            self.tell(message.channel, "execute_reply", {"status": "aborted", "payload": []})
            self._status("idle")
        self.waiting = collections.deque(kept)

    def _do_complete_request(self, message: Message) -> None:
        code, position = _at(message.content)
        self.tell(message.channel, "complete_reply", self.shell.complete_at(code, position))

    def _do_inspect_request(self, message: Message) -> None:
        code, position = _at(message.content)
        level = int(message.content.get("detail_level", 0))
        data = self.shell.inspect_at(code, position, level)
        content = {"status": "ok", "found": bool(data), "data": data, "metadata": {}}
        self.tell(message.channel, "inspect_reply", content)

    def _do_is_complete_request(self, message: Message) -> None:
        code = message.content.get("code", "")
        self.tell(message.channel, "is_complete_reply", self.shell.is_complete(code))

    def _do_history_request(self, message: Message) -> None:
        lines = self.shell.history()
        content = message.content
        kind, output = content.get("hist_access_type"), bool(content.get("output"))
        if kind == "tail":
            lines = lines[-int(content.get("n") or 1000) :]
        elif kind == "range":
            start, stop = int(content.get("start") or 1), int(content.get("stop") or len(lines) + 1)
            lines = [line for line in lines if start <= line[0] < stop]
        elif kind == "search":
            import fnmatch

            pattern = content.get("pattern") or "*"
            lines = [line for line in lines if fnmatch.fnmatch(line[1], pattern)][-int(content.get("n") or 1000) :]
        shown = [(0, number, (text, None) if output else text) for number, text in lines]
        self.tell(message.channel, "history_reply", {"status": "ok", "history": shown})

    def _do_comm_info_request(self, message: Message) -> None:
        wanted = message.content.get("target_name")
        comms = self.comms.comms.items() if self.comms is not None else ()
        shown = {id: {"target_name": comm.target_name} for id, comm in comms if wanted in (None, comm.target_name)}
        self.tell(message.channel, "comm_info_reply", {"status": "ok", "comms": shown})

    def _do_shutdown_request(self, message: Message) -> None:
        """The runner ends a kernel by itself; this one was asked on the way."""
        self.tell(message.channel, "shutdown_reply", {"status": "ok", "restart": message.content.get("restart", False)})
        self._status("idle")
        os._exit(0)

    def _do_comm_open(self, message: Message) -> None:
        self._comm("comm_open", message)

    def _do_comm_msg(self, message: Message) -> None:
        self._comm("comm_msg", message)

    def _do_comm_close(self, message: Message) -> None:
        self._comm("comm_close", message)

    def _comm(self, verb: str, message: Message) -> None:
        if self.comms is not None:
            self.shield.is_open = True
            try:
                getattr(self.comms, verb)(None, None, message.as_dict())
            except KeyboardInterrupt:
                pass
            finally:
                self.shield.is_open = False

    def _use_comms(self) -> None:
        """Messages of widgets and the like, if the package for them is here."""
        if comm is None:
            return
        from comm.base_comm import BaseComm, CommManager

        kernel = self

        class Comm(BaseComm):  # type: ignore[misc]
            def publish_msg(self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **keys: Any) -> None:
                content = {"data": data or {}, "comm_id": self.comm_id, **keys}
                kernel.publish(msg_type, content, metadata, buffers)

        self.comms = CommManager()
        comm.create_comm = Comm
        comm.get_comm_manager = lambda: self.comms

    # --- questions ---------------------------------------------------------

    def _input(self, prompt: object = "", /) -> str:
        return self._ask(str(prompt), False)

    def _getpass(self, prompt: str = "Password: ", stream: Any = None) -> str:
        return self._ask(prompt, True)

    def _ask(self, prompt: str, password: bool) -> str:
        if not self.takes_questions:
            raise StdinNotImplementedError("input() was called, but this client takes no questions")
        assert self.line is not None and self.outputs is not None
        self.outputs.drain()
        self.tell("stdin", "input_request", {"prompt": prompt, "password": password})
        while True:
            # Interrupts come through while nothing is here, and wait while something is read.
            select.select([self.line.socket], [], [])
            with self.shield:
                if not self.line.fill():
                    raise EOFError("the runner is gone")
                while True:
                    message = self.line.take()
                    if message is None:
                        break
                    if message.channel == "stdin":
                        return str(message.content.get("value", ""))
                    self.waiting.append(message)


def _error(name: str, value: str, trace: List[str]) -> Dict[str, Any]:
    return {"status": "error", "ename": name, "evalue": value, "traceback": trace}


def _reply_to(kind: str) -> str:
    return (kind[: -len("_request")] if kind.endswith("_request") else kind) + "_reply"


def _at(content: Dict[str, Any]) -> Any:
    """Code, and where in it; at its end if that is not said."""
    code = content.get("code")
    if not isinstance(code, str):
        raise ValueError("`code` is to be text")
    position = content.get("cursor_pos")
    return code, len(code) if position is None else max(0, min(int(position), len(code)))
