"""Items of a pipeline, taken from its socket. The messages are those of docs/protocol.md."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import socket
import threading
from typing import Any, Dict, List, Optional, Sequence

from runner.nodes import CONTEXT, Node, NodeContext
from runner.opened import AsyncNode, Opened, ThreadNode, is_async
from runner.outcome import (
    BAD_PARAMS,
    FAILED,
    MAX_ITEM,
    PART,
    UNKNOWN_METHOD,
    Refusal,
    encode,
    outcome_text,
)
from runner.plugin import Plugin

Message = Dict[str, Any]


class Items:
    """The node host's end of a pipeline's socket."""

    def __init__(self, connection: socket.socket, plugins: Sequence[Plugin], problem: Any) -> None:
        self.connection = connection
        self.plugins = plugins
        #: Why there are no plugins, as an error of JSON-RPC.
        self.problem = problem
        self.sending = threading.Lock()
        self.nodes: Dict[int, Opened] = {}
        #: What the nodes of the module share.
        self.values: Dict[str, Any] = {}
        self.loop: Optional[asyncio.AbstractEventLoop] = None

    def serve(self) -> None:
        """Takes items until the pipeline closes the socket; then the nodes clean up."""
        with self.connection.makefile("rb", buffering=1 << 18) as lines:
            for line in lines:
                try:
                    message = json.loads(line)
                except ValueError:
                    continue  # the end in the middle of a line
                self._take(message)
        for node in [*self.nodes.values()]:
            node.leave()
        for node in [*self.nodes.values()]:
            node.join()

    def _take(self, message: Message) -> None:
        method, id, params = message.get("method"), message.get("id"), message.get("params") or {}
        node = self.nodes.get(params.get("node", -1))
        if method == "drop":
            for one in [*self.nodes.values()]:
                one.drop(params.get("id"))
        elif id is None:
            pass  # a notification that a newer runner may send
        elif method == "ping":
            self.answer(id, {})
        elif method == "describe":
            self.answer(id, {"plugins": [plugin.describe() for plugin in self.plugins]})
        elif method == "open":
            self._open(id, params)
        elif method in ("items", "pull", "close"):
            if node is None:
                self.fail(id, BAD_PARAMS, f"node {params.get('node')} is not open")
            else:
                if method == "close":
                    del self.nodes[params["node"]]
                node.put(message)
        else:
            self.fail(id, UNKNOWN_METHOD, f"unknown method {method!r}")

    def _open(self, id: Any, params: Dict[str, Any]) -> None:
        if self.problem is not None:
            self.send(encode({"jsonrpc": "2.0", "id": id, "error": self.problem}))
            return
        wanted, number = params.get("plugin"), params["node"]
        nodes = [one for one in self.plugins if isinstance(one, Node)]
        plugin = next((one for one in nodes if wanted in (one.identifier, one.name)), None)
        if plugin is None:
            offered = ", ".join(one.identifier for one in nodes) or "none"
            self.fail(id, BAD_PARAMS, f"there is no node {wanted!r} here; there are: {offered}")
            return
        if number in self.nodes:
            self.fail(id, BAD_PARAMS, f"node {number} is open already")
            return
        kind = AsyncNode if is_async(plugin) else ThreadNode
        self.nodes[number] = kind(self, plugin, id, params)

    def running_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of all nodes that are `async`."""
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
            run = self.loop.run_forever
            threading.Thread(target=run, name="nodes", daemon=True).start()
        return self.loop

    def send(self, line: bytes) -> None:
        with self.sending:
            try:
                self.connection.sendall(line + b"\n")
            except OSError:
                pass  # the pipeline is gone, which is noticed where it is read

    def answer(self, id: Any, result: Any) -> None:
        self.send(b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (id, encode(result)))

    def fail(self, id: Any, code: int, message: str) -> None:
        error = {"code": code, "message": message}
        self.send(encode({"jsonrpc": "2.0", "id": id, "error": error}))

    def answer_made(self, id: int, made: List[Any]) -> None:
        """Answers `items`, in parts where it is much. What is no JSON is an error of its item."""
        try:
            text = encode(made)
            if len(text) <= PART:
                self.send(b'{"jsonrpc":"2.0","id":%d,"result":{"made":%b}}' % (id, text))
                return
        except (TypeError, ValueError, RecursionError):
            pass
        part: List[bytes] = []
        size = 0
        for outcome in made:
            one = outcome_text(outcome)
            if part and size + len(one) > PART:
                self._part(id, part)
                part, size = [], 0
            part.append(one)
            size += len(one)
        self.send(b'{"jsonrpc":"2.0","id":%d,"result":{"made":[%b]}}' % (id, b",".join(part)))

    def answer_pulled(self, id: int, values: List[Any], end: bool) -> None:
        """Answers `pull`."""
        text = encode(values)
        if len(text) > MAX_ITEM:
            what = f"what the source made has {len(text)} bytes as JSON; it has at most {MAX_ITEM}"
            raise Refusal(FAILED, what)
        result = b'{"values":%b,"end":%b}' % (text, b"true" if end else b"false")
        self.send(b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (id, result))

    def _part(self, id: int, part: List[bytes]) -> None:
        params = b'{"id":%d,"made":[%b]}' % (id, b",".join(part))
        self.send(b'{"jsonrpc":"2.0","method":"made","params":%b}' % params)


def inherited(config: Dict[str, Any]) -> Optional[socket.socket]:
    """The socket that `welcome` tells of, if this host takes items."""
    number = (config.get("items") or {}).get("fd")
    if number is None:
        return None
    connection = socket.socket(fileno=number)
    connection.setblocking(True)
    os.set_inheritable(number, False)
    return connection


def run_as_task(plugin: Node, task: Any, given: Dict[str, Any]) -> str:
    """A node whose plugin is run as a task: works on the items that were given."""
    sent: List[Any] = []
    arguments = {key: value for key, value in given.items() if key != "items"}
    context = NodeContext(plugin.name, arguments, {}, str(task.directory))
    more = {CONTEXT: context} if plugin.wants_context else {}

    async def work() -> None:
        try:
            await _awaited(plugin.setup_function and plugin.setup_function(context))
            if plugin.is_source:
                sent.extend(await _made(plugin.function(**arguments, **more)))
            for item in given.get("items") or []:
                made = plugin.function(item, **arguments, **more)
                sent.extend(await _made(made))
        finally:
            await _awaited(plugin.cleanup_function and plugin.cleanup_function(context))

    asyncio.run(work())
    kept = [_kept(task, value) for value in sent]
    lines = b"".join(encode(value) + b"\n" for value in kept).decode("utf-8")
    task.output(
        "items.jsonl", lines, data_type="custom/items", content_type="application/X-lines+json"
    )
    return f"{len(given.get('items') or [])} in, {len(sent)} out"


def _kept(task: Any, value: Any) -> Any:
    """A value for a list of items; one that is a file becomes an output."""
    if not (isinstance(value, dict) and {"name", "dataType", "path"} <= value.keys()):
        return value
    kind, content_type = value["dataType"], value.get("contentType")
    task.output(value["name"], path=value["path"], data_type=kind, content_type=content_type)
    return {key: one for key, one in value.items() if key != "path"}


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def _made(made: Any) -> List[Any]:
    if inspect.isasyncgen(made):
        return [value async for value in made]
    if inspect.isgenerator(made):
        return list(made)
    value = await _awaited(made)
    return [] if value is None else [value]
