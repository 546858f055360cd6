"""Functions that are nodes of pipelines: `@node` takes items, `@source` makes them."""

from __future__ import annotations

import atexit
import inspect
import shutil
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from runner.functions import POSITIONAL_ONLY, POSITIONAL_OR_KEYWORD, Declared, declared
from runner.parameters import Json
from runner.plugin import REGISTRY, Plugin, _filled, check_version, kebab_case
from runner.signature import DefinitionError, Field, Signature

#: The parameter by which a function asks for its context.
CONTEXT = "context"
#: The parameter of a run that is a task: the items to work on.
ITEMS = "items"

_TYPES: Dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}


class NodeContext:
    """What a node knows while it is open. All nodes of a module in one run share `values`."""

    def __init__(
        self,
        name: str,
        parameters: Mapping[str, Any],
        values: Dict[str, Any],
        directory: Optional[str] = None,
    ) -> None:
        #: The name of the node in its pipeline.
        self.name = name
        #: Its parameters, where they are the same for every item.
        self.parameters = dict(parameters)
        #: Whatever the nodes of this module want to share.
        self.values = values
        self._directory = directory

    @property
    def directory(self) -> Path:
        """Where the node may write files."""
        if self._directory is None:  # a function of a program
            self._directory = tempfile.mkdtemp(prefix="runner-node-")
            atexit.register(shutil.rmtree, self._directory, ignore_errors=True)
        return Path(self._directory)

    def file(
        self,
        name: str,
        content: Union[str, bytes, None] = None,
        *,
        path: Optional[str] = None,
        data_type: str,
        content_type: Optional[str] = None,
    ) -> Dict[str, Any]:
        """An item that is a file, to be returned or yielded: `content` (a text is written as
        UTF-8), or the file at `path` below `directory`.

        Each is handed over once, and is gone from `directory` then. A node that is given such an
        item finds the file at `item["path"]`, until it has returned.
        """
        if (content is None) == (path is None):
            raise TypeError("context.file needs either content or path=")
        if content is not None:
            found = self.directory / uuid.uuid4().hex
            found.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        else:
            found = (self.directory / str(path)).absolute()
        item = {"name": name, "dataType": data_type, "path": str(found)}
        return item if content_type is None else {**item, "contentType": content_type}


class NodeSignature(Signature):
    """The parameters of a node's function: all but its item, which comes first, and its context."""

    def __init__(self, function: Callable[..., Any], where: str, is_source: bool) -> None:
        found = declared(function)
        if not is_source:
            if not found or found[0].kind not in (POSITIONAL_ONLY, POSITIONAL_OR_KEYWORD):
                name = getattr(function, "__name__", "f")
                raise DefinitionError(
                    f"{where} needs a first parameter for its item: def {name}(item, ...)"
                )
            self.item: Optional[Declared] = found.pop(0)
        else:
            self.item = None
        self.wants_context = any(one.name == CONTEXT for one in found)
        self._declare(function, [one for one in found if one.name != CONTEXT], where)
        if not is_source:
            if any(field.key == ITEMS for field in self.fields):
                raise DefinitionError(f"{where}: the parameter {ITEMS!r} is that of its runs")
            items = Json(label="Items", schema={"type": "array"})
            self.fields.append(Field(ITEMS, ITEMS, items, False, []))


class Node(Plugin):
    """A function that is a node. Calling it calls the function.

    Run as a task it works on the list `items`, and puts what it makes into `items.jsonl`.
    """

    def __init__(
        self,
        name: str,
        version: str,
        module: str,
        form: Tuple[Any, ...],
        is_source: bool,
        shape: Dict[str, Any],
        **metadata: Any,
    ) -> None:
        self.is_source = is_source
        super().__init__(name, version, module, form, **metadata)
        self.shape = shape
        self.setup_function: Optional[Callable[[NodeContext], Any]] = None
        self.cleanup_function: Optional[Callable[[NodeContext], Any]] = None

    def _signature(self, function: Callable[..., Any]) -> Signature:
        return NodeSignature(function, self.where, self.is_source)

    def setup(self, function: Callable[[NodeContext], Any]) -> Callable[[NodeContext], Any]:
        """Has the function below called before the first item: `@my_node.setup`."""
        self.setup_function = function
        return function

    def cleanup(self, function: Callable[[NodeContext], Any]) -> Callable[[NodeContext], Any]:
        """Has the function below called after the last item, however the run ends."""
        self.cleanup_function = function
        return function

    @property
    def wants_context(self) -> bool:
        signature = self.signature
        return isinstance(signature, NodeSignature) and signature.wants_context

    def arguments(self, given: Mapping[str, Any]) -> Dict[str, Any]:
        """What the function is called with beside item and context. Raises ValueError."""
        arguments = self.signature.arguments(given, {})
        arguments.pop(ITEMS, None)
        return arguments

    def describe(self) -> Dict[str, Any]:
        return {**super().describe(), "node": {"source": self.is_source, **self.shape}}

    def run(self, task: Any, **given: Any) -> Any:
        from runner.items import run_as_task

        return run_as_task(self, task, given)


def node(
    function: Optional[Callable[..., Any]] = None,
    /,
    *,
    version: Optional[str] = None,
    name: Optional[str] = None,
    title: Optional[str] = None,
    description: Optional[str] = None,
    help: Optional[str] = None,
    tags: Sequence[str] = (),
    takes: Optional[Mapping[str, Any]] = None,
    gives: Optional[Mapping[str, Any]] = None,
    example: Sequence[Any] = (),
) -> Callable[[Callable[..., Any]], Node]:
    """Makes the function below a node of pipelines: `@node(version="1.0.0")`.

    Its first parameter is the item. What it returns is an item, unless it is
    None, which is nothing; what it yields are items. It may be `async`. Its
    other parameters are those of `with`. `takes` and `gives` are JSON Schemas of
    items, by default those of the type hints; `example` are items to try it with.
    """
    module = sys._getframe(1).f_globals.get("__name__", "")
    if function is not None:
        raise DefinitionError('a node needs a version: @node(version="1.0.0")')
    texts = (title, description, help)
    shape = {"takes": takes, "gives": gives, "example": list(example)}
    return _declare(module, version, name, texts, tags, shape, False)


def source(
    function: Optional[Callable[..., Any]] = None,
    /,
    *,
    version: Optional[str] = None,
    name: Optional[str] = None,
    title: Optional[str] = None,
    description: Optional[str] = None,
    help: Optional[str] = None,
    tags: Sequence[str] = (),
    gives: Optional[Mapping[str, Any]] = None,
) -> Callable[[Callable[..., Any]], Node]:
    """Makes the generator below a source of pipelines: `@source(version="1.0.0")`.

    What it yields are items; it is asked for them as there is room.
    """
    module = sys._getframe(1).f_globals.get("__name__", "")
    if function is not None:
        raise DefinitionError('a source needs a version: @source(version="1.0.0")')
    return _declare(module, version, name, (title, description, help), tags, {"gives": gives}, True)


def _declare(
    module: str,
    version: Optional[str],
    name: Optional[str],
    texts: Tuple[Optional[str], Optional[str], Optional[str]],
    tags: Iterable[str],
    shape: Dict[str, Any],
    is_source: bool,
) -> Callable[[Callable[..., Any]], Node]:
    check_version(version, "node")

    def declare(function: Callable[..., Any]) -> Node:
        declared = make(function, version or "", module, name, texts, tags, shape, is_source)
        REGISTRY.add(declared)
        return declared

    return declare


def make(
    function: Callable[..., Any],
    version: str,
    module: str,
    name: Optional[str],
    texts: Tuple[Optional[str], Optional[str], Optional[str]],
    tags: Iterable[str],
    shape: Dict[str, Any],
    is_source: bool,
) -> Node:
    """A node that is not registered."""
    title, description, help = texts
    own = kebab_case(name or str(getattr(function, "__name__", "node")))
    form = (function, title, description, help, None)
    hinted = {**_hinted(function, is_source), **_filled(**shape)}
    metadata: Dict[str, Any] = {"type": "processing", "tags": [*tags]}
    return Node(own, version, module, form, is_source, hinted, **metadata)


def _hinted(function: Callable[..., Any], is_source: bool) -> Dict[str, Any]:
    """Schemas of the items by the type hints, as far as those are plain."""
    signature = inspect.signature(function)
    hinted = {}
    first: List[inspect.Parameter] = list(signature.parameters.values())[:1]
    if not is_source and first and first[0].annotation in _TYPES:
        hinted["takes"] = {"type": _TYPES[first[0].annotation]}
    returned = signature.return_annotation
    yields = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if not yields and not is_source and _is_plain(returned):
        hinted["gives"] = {"type": _TYPES[returned]}
    return hinted


def _is_plain(hint: Any) -> bool:
    try:
        return hint in _TYPES
    except TypeError:  # not hashable
        return False
