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
from runner.plugin import Output, Plugin, plugin
from runner.signature import DefinitionError
from runner.task import Cancelled, FetchError, Task

__all__ = [
    "Boolean",
    "Cancelled",
    "Choice",
    "Data",
    "DefinitionError",
    "EntityError",
    "FetchError",
    "Input",
    "Integer",
    "Json",
    "List",
    "Number",
    "Output",
    "Parameter",
    "Plugin",
    "PluginRef",
    "Secret",
    "Task",
    "Text",
    "Upload",
    "Url",
    "plugin",
    "read_entities",
    "write_entities",
]
