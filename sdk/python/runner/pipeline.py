"""Graphs of functions, built-ins and plugins, built and run from Python.

The engine is the command `runner`; functions stay in this process, and items come
to them over a socket as they would to a host.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from runner.items import Items
from runner.nodes import Node, make

#: What stands before the names of functions in a graph.
OWN = "python:"
_BUILT_IN = ("source", "map", "filter", "flatten", "batch", "zip", "merge", "sink")


class PipelineError(Exception):
    """A pipeline cannot be run, or a run did not succeed. The message says which node, and why."""


@dataclass(frozen=True)
class Made:
    """An item that left the pipeline."""

    node: str
    #: Its number at the source, then its numbers among what was made of one item.
    lineage: str
    value: Any


class Pipeline:
    """A graph, in either shape of docs/pipelines.md, with functions wherever a plugin may stand.

    A function is given as an object, or by its name: `"module:function"`, or one
    of `functions`, by default those of the module that calls this.
    """

    def __init__(
        self,
        graph: Mapping[str, Any],
        *,
        functions: Optional[Mapping[str, Any]] = None,
        runner: Optional[str] = None,
    ) -> None:
        self.functions = sys._getframe(1).f_globals if functions is None else functions
        self.runner = runner
        self.nodes: Dict[str, Node] = {}
        #: The graph as the command reads it.
        self.document = self._document(graph)

    def _document(self, graph: Mapping[str, Any]) -> Dict[str, Any]:
        nodes = {}
        key = "coro" if "graph" in graph else "use"
        inputs = _inputs(graph)
        for name, node in graph["nodes"].items():
            described = dict(node)
            used = described.get(key)
            arguments = list(described.get("args") or ()) if key == "coro" else []
            function = self._function(used)
            if function is not None:
                own = f"{OWN}{name}"
                self.nodes[own] = _node(name, function, arguments, inputs.get(name, 0))
                described[key] = own
                described.pop("args", None)
            nodes[name] = described
        return {**graph, "nodes": nodes}

    def _function(self, used: Any) -> Optional[Callable[..., Any]]:
        """The function that a node uses, unless that is a built-in or a plugin."""
        if callable(used):
            function: Callable[..., Any] = used
            return function
        if not isinstance(used, str):
            return None
        module, colon, name = used.partition(":")
        if colon and module and name:
            try:
                found = getattr(import_module(module), name)
            except (ImportError, AttributeError) as error:
                raise PipelineError(f"there is no function {used!r}: {error}") from error
            if not callable(found):
                raise PipelineError(f"{used!r} is no function")
            return found  # type: ignore[no-any-return]
        found = None if used in _BUILT_IN else self.functions.get(used)
        return found if callable(found) else None

    def run(self, **parameters: Any) -> "Run":
        """Starts a run with these parameters. What it makes is iterated over, as it comes."""
        return Run(self, parameters)


class Run:
    """A run in progress: an iterator over `Made`. Left early, it is ended."""

    def __init__(self, pipeline: Pipeline, parameters: Mapping[str, Any]) -> None:
        #: What each node and edge did, after the end.
        self.seen: Optional[Dict[str, Any]] = None
        self._folder = tempfile.mkdtemp(prefix="runner-pipeline-")
        ours, theirs = socket.socketpair()
        try:
            self._process = self._start(pipeline, parameters, theirs)
        except BaseException:
            ours.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        finally:
            theirs.close()
        self._said: List[str] = []
        nodes = Items(ours, [*pipeline.nodes.values()], None)
        self._threads = [
            threading.Thread(target=nodes.serve, name="items", daemon=True),
            threading.Thread(target=self._hear, name="errors", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._made = self._read()

    def _start(
        self, pipeline: Pipeline, parameters: Mapping[str, Any], theirs: socket.socket
    ) -> "subprocess.Popen[str]":
        path = os.path.join(self._folder, "graph.json")
        try:
            with open(path, "w", encoding="utf-8") as file:
                json.dump(pipeline.document, file)
        except (TypeError, ValueError) as error:
            raise PipelineError(f"the graph is no JSON: {error}") from error
        nodes = {name: node.describe()["node"] for name, node in pipeline.nodes.items()}
        caller = json.dumps({"fd": theirs.fileno(), "nodes": nodes})
        command = [_runner(pipeline.runner), "pipeline", "run", path, "--json", "--caller", caller]
        for key, value in parameters.items():
            text = value if isinstance(value, str) else json.dumps(value)
            command += ["-p", f"{key}={text}"]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            encoding="utf-8",
            errors="replace",
        )

    def _hear(self) -> None:
        for line in self._process.stderr or ():
            self._said.append(line.rstrip("\n"))
            del self._said[:-100]

    def _read(self) -> Iterator[Made]:
        try:
            for line in self._process.stdout or ():
                message = json.loads(line)
                if "run" in message:
                    self.seen = message["run"].get("seen")
                elif "node" in message:
                    yield Made(message["node"], message["lineage"], message.get("value"))
            self._process.wait()
        finally:
            self.close()
        if self._process.returncode != 0:
            said = [line for line in self._said if line.strip()]
            raise PipelineError("\n".join(said[-5:]) or "the run failed")

    def __iter__(self) -> Iterator[Made]:
        return self._made

    def __next__(self) -> Made:
        return next(self._made)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: Any) -> None:
        self._made.close()  # type: ignore[attr-defined]
        self.close()

    def values(self, node: Optional[str] = None) -> List[Any]:
        """Runs to the end, and gives the values that left, those of one node if it is named."""
        return [made.value for made in self if node in (None, made.node)]

    def close(self) -> None:
        """Ends the run, and waits until functions have cleaned up."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _runner(given: Optional[str]) -> str:
    """The command: what was given, RUNNER, or `runner` on the search path."""
    wanted = given or os.environ.get("RUNNER") or "runner"
    found = shutil.which(wanted)
    if found is None:
        raise PipelineError(
            f"there is no command {wanted!r}: put it on the search path, or its path into RUNNER"
        )
    return found


def _inputs(graph: Mapping[str, Any]) -> Dict[str, int]:
    """How many inputs each node has."""
    inputs: Dict[str, int] = {}
    for successors in (graph.get("graph") or {}).values():
        for name in successors or ():
            inputs[name] = inputs.get(name, 0) + 1
    for edge in graph.get("edges") or ():
        to = str(edge.get("to") if isinstance(edge, Mapping) else edge[1])
        inputs[to] = inputs.get(to, 0) + 1
    for name, node in graph["nodes"].items():
        taken = node.get("from")
        more = len(taken) if isinstance(taken, (list, tuple)) else int(taken is not None)
        inputs[name] = inputs.get(name, 0) + more
    return inputs


def _node(name: str, used: Any, arguments: Sequence[Any], inputs: int) -> Node:
    """The node that a function is. One that has no input is a source."""
    if isinstance(used, Node) and not arguments:
        if used.is_source != (inputs == 0):
            what = "a source, and has an input" if used.is_source else "no source, and has no input"
            raise PipelineError(f"nodes.{name}: {used.name} is {what}")
        return _renamed(used, name)
    function = used.function if isinstance(used, Node) else used
    bound = _bound(function, tuple(arguments), inputs == 0)
    made = make(bound, "0", "", name, (None, None, None), (), {}, inputs == 0)
    return _renamed(made, name)


def _renamed(node: Node, name: str) -> Node:
    """The same node under the name by which the engine opens it."""
    renamed = copy.copy(node)
    renamed.name = f"{OWN}{name}"
    return renamed


def _bound(
    function: Callable[..., Any], arguments: Tuple[Any, ...], is_source: bool
) -> Callable[..., Any]:
    """The function with what follows its item; of a source with all that it gets."""
    is_plain = inspect.isfunction(inspect.unwrap(function)) or inspect.ismethod(function)
    if not arguments and is_plain:
        return function
    if inspect.isasyncgenfunction(function):

        async def yields(*item: Any) -> Any:
            async for value in function(*item, *arguments):
                yield value

        return _like(yields, function, is_source)
    if inspect.iscoroutinefunction(function):

        async def awaits(*item: Any) -> Any:
            return await function(*item, *arguments)

        return _like(awaits, function, is_source)
    if inspect.isgeneratorfunction(function):

        def makes(*item: Any) -> Any:
            yield from function(*item, *arguments)

        return _like(makes, function, is_source)

    def calls(*item: Any) -> Any:
        return function(*item, *arguments)

    return _like(calls, function, is_source)


def _like(
    bound: Callable[..., Any], function: Callable[..., Any], is_source: bool
) -> Callable[..., Any]:
    """Says of a bound function what parameters are left: its item, unless it is a source."""
    bound.__name__ = getattr(function, "__name__", "function")
    parameter = inspect.Parameter("item", inspect.Parameter.POSITIONAL_ONLY)
    left = [] if is_source else [parameter]
    bound.__signature__ = inspect.Signature(left)  # type: ignore[attr-defined]
    return bound
