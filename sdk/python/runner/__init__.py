"""Write plugins for runner.

Layout: `plugin` is the decorator, `parameters` the type hints, `signature` how
a function becomes a JSON Schema, `task` the handle a running plugin gets,
`nodes` functions that are nodes of pipelines, `items` how they are fed,
`pipeline` graphs that are run from Python, `input` a file handed to it,
`entities` streaming readers and writers, `host` the process that speaks the
plugin protocol, `zygote` one that forks for each run, `threads` what the threads
of a host share, `children` how what a run left behind ends, `testing` a host for tests,
`session` plugins that are run from the code of a session, whose kernel is `kernel`.

A host starts in the time that its imports take. So what a module needs seldom is
imported where it is needed, and what only type checkers need not at all: `record`
and `functions` stand in for `dataclasses` and `inspect`.
"""

from __future__ import annotations

from runner.input import Input
from runner.parameters import (
    Boolean,
    Choice,
    Data,
    Integer,
    Json,
    List,
    Number,
    Parameter,
    PluginRef,
    Secret,
    Text,
    Upload,
    Url,
)
from runner.plugin import Link, Output, Plugin, plugin
from runner.signature import DefinitionError
from runner.task import (
    CallError,
    Called,
    Cancelled,
    FetchError,
    ModuleInfo,
    RequestError,
    Task,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runner.entities import EntityError, read_entities, write_entities
    from runner.nodes import Node, NodeContext, node, source
    from runner.pipeline import Made, Pipeline, PipelineError
    from runner.session import TaskFailed, TaskOutput, TaskResult, plugins, run
    from runner.web import HttpError, Request, Response

#: What is imported when somebody asks for it: a process that starts is not held up by what it does not use.
_LATER = {
    "EntityError": "runner.entities",
    "read_entities": "runner.entities",
    "write_entities": "runner.entities",
    "Made": "runner.pipeline",
    "Node": "runner.nodes",
    "NodeContext": "runner.nodes",
    "node": "runner.nodes",
    "Pipeline": "runner.pipeline",
    "PipelineError": "runner.pipeline",
    "source": "runner.nodes",
    "TaskFailed": "runner.session",
    "TaskOutput": "runner.session",
    "TaskResult": "runner.session",
    "plugins": "runner.session",
    "run": "runner.session",
    "HttpError": "runner.web",
    "Request": "runner.web",
    "Response": "runner.web",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'runner' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Boolean",
    "CallError",
    "Called",
    "Cancelled",
    "Choice",
    "Data",
    "DefinitionError",
    "EntityError",
    "FetchError",
    "HttpError",
    "Input",
    "Integer",
    "Json",
    "Link",
    "List",
    "Made",
    "ModuleInfo",
    "Node",
    "NodeContext",
    "Number",
    "Output",
    "Parameter",
    "Pipeline",
    "PipelineError",
    "Plugin",
    "PluginRef",
    "Request",
    "RequestError",
    "Response",
    "Secret",
    "Task",
    "TaskFailed",
    "TaskOutput",
    "TaskResult",
    "Text",
    "Upload",
    "Url",
    "node",
    "plugin",
    "plugins",
    "read_entities",
    "run",
    "source",
    "write_entities",
]
