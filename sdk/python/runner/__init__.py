"""Write plugins for runner.

Layout: `plugin` is the decorator, `parameters` the type hints, `signature` how
a function becomes a JSON Schema, `task` the handle a running plugin gets,
`input` a file handed to it, `entities` streaming readers and writers, `host`
the process that speaks the plugin protocol, `testing` a host for tests.
"""

from runner.entities import EntityError, read_entities, write_entities
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
from runner.web import HttpError, Request, Response

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
    "ModuleInfo",
    "Number",
    "Output",
    "Parameter",
    "Plugin",
    "PluginRef",
    "Request",
    "RequestError",
    "Response",
    "Secret",
    "Task",
    "Text",
    "Upload",
    "Url",
    "plugin",
    "read_entities",
    "write_entities",
]
