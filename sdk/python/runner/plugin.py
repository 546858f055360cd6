"""The decorator that makes a function a plugin, and the registry that finds it again."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from runner.functions import unwrapped
from runner.record import record
from runner.signature import DefinitionError, Signature

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union

    from runner.web import Routes

TYPES = ("processing", "visualization", "conversion", "dataloader", "interaction")

#: PEP 440, as lenient as the standard: `v0.2.1` and `1.0.0-rc1` are versions.
_VERSION = r"""
    \s*v?(\d+!)?\d+(\.\d+)*
        ([-_.]?(a|b|c|rc|alpha|beta|pre|preview)([-_.]?\d+)?)?
        (-\d+|[-_.]?(post|rev|r)([-_.]?\d+)?)?
        ([-_.]?dev([-_.]?\d+)?)?
        (\+[a-z0-9]+([-_.][a-z0-9]+)*)?\s*"""


def _is_version(text: str) -> bool:
    if text.isascii() and text.replace(".", "").isdigit() and "" not in text.split("."):
        return True  # like most
    import re

    return re.fullmatch(_VERSION, text, re.IGNORECASE | re.VERBOSE) is not None


def kebab_case(name: str) -> str:
    return name.strip("_").replace("_", "-")


def _where(function: Callable[..., Any]) -> str:
    code = getattr(unwrapped(function), "__code__", None)
    name = getattr(function, "__name__", repr(function))
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name


def _filled(**entries: Any) -> Dict[str, Any]:
    """The entries that say something; an absent key and an empty one mean the same."""
    return {key: value for key, value in entries.items() if value not in (None, [], {}, "")}


@record(frozen=True)
class Output:
    """A file that a plugin writes, as its description promises it."""

    data_type: str
    content_type: Union[str, Sequence[str]]
    name: Optional[str] = None
    required: bool = True

    def describe(self) -> Dict[str, Any]:
        kinds = (
            [self.content_type] if isinstance(self.content_type, str) else list(self.content_type)
        )
        described = {"dataType": self.data_type, "contentType": kinds, "required": self.required}
        return described if self.name is None else {**described, "name": self.name}


@record(frozen=True)
class Link:
    """A link in the description of a plugin. A relative `href` leads to a route of its own."""

    type: str
    href: str


class Form:
    """A function behind a form: the plugin itself, or one of its steps."""

    def __init__(
        self,
        function: Callable[..., Any],
        title: Optional[str],
        description: Optional[str],
        help: Optional[str],
        example: Optional[Mapping[str, Any]],
    ) -> None:
        self.function = function
        self.where = _where(function)
        self.signature = self._signature(function)
        self.title = title
        self._description = description
        self._help = help
        self.example = self.signature.values(example or {}, f"{self.where}: example")

    def _signature(self, function: Callable[..., Any]) -> Signature:
        return Signature(function, self.where)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.function(*arguments, **named)

    def run(self, task: Any, **given: Any) -> Any:
        """What a run of a task does: calls the function."""
        return self.function(task, **given)

    @property
    def help(self) -> Optional[str]:
        """The docstring, unless it was given."""
        import inspect  # only a description needs it

        return inspect.getdoc(self.function) if self._help is None else inspect.cleandoc(self._help)

    @property
    def description(self) -> Optional[str]:
        return self._description

    def form(self) -> Dict[str, Any]:
        return {
            "parameters": self.signature.schema(),
            **_filled(help=self.help, example=self.example),
        }


class Step(Form):
    """A step that a run may ask for with `task.step`."""

    def __init__(self, name: str, *form: Any) -> None:
        super().__init__(*form)
        self.name = name

    def describe(self) -> Dict[str, Any]:
        return {
            "step": self.name,
            **_filled(title=self.title, description=self.description),
            **self.form(),
        }


class Plugin(Form):
    """A function that is a plugin. Calling it calls the function."""

    def __init__(
        self, name: str, version: str, module: str, form: Tuple[Any, ...], **metadata: Any
    ) -> None:
        super().__init__(*form)
        self.name = name
        self.version = version
        #: The name of the Python module that declared it.
        self.module = module
        self.metadata = metadata
        self.steps: Dict[str, Step] = {}
        self._routes: Optional[Routes] = None

    @property
    def description(self) -> Optional[str]:
        """The first paragraph of the help, unless it was given."""
        if self._description is not None or not self.help:
            return self._description
        return " ".join(self.help.split("\n\n")[0].split())

    @property
    def routes(self) -> Routes:
        """Its own routes."""
        if self._routes is None:
            from runner.web import Routes

            self._routes = Routes()
        return self._routes

    @property
    def identifier(self) -> str:
        return f"{self.name}@{self.version}".replace(".", "-")

    def step(
        self,
        name: Optional[str] = None,
        *,
        title: Optional[str] = None,
        description: Optional[str] = None,
        help: Optional[str] = None,
        example: Optional[Mapping[str, Any]] = None,
    ) -> Callable[[Callable[..., Any]], Step]:
        """Makes the function below a step, called as the function if `name` is left out."""
        if name is not None and not isinstance(name, str):
            raise DefinitionError('a step is declared with @….step() or @….step("name")')

        def declare(function: Callable[..., Any]) -> Step:
            step = Step(
                name or kebab_case(function.__name__), function, title, description, help, example
            )
            if step.name in self.steps:
                raise DefinitionError(
                    f"{step.where}: {self.identifier} has a step {step.name!r} already"
                )
            self.steps[step.name] = step
            return step

        return declare

    def route(
        self, pattern: str, *, methods: Sequence[str] = ("GET",)
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Makes the function below answer requests below the URL of the plugin.

        `{name}` takes a segment of the path, `{name:path}` the rest; both are arguments.
        """

        from runner.web import Route

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            self.routes.add(Route(pattern, methods, function, _where(function)))
            return function

        return declare

    def static(self, pattern: str, folder: Union[str, "os.PathLike[str]"]) -> None:
        """Answers with the files of a folder that lies beside the file in which this is called."""
        from runner.web import Route, static_folder

        beside = sys._getframe(1).f_globals.get("__file__", "")
        files = static_folder(folder, beside, self.where)
        self.routes.add(Route(f"{pattern.rstrip('/')}/{{path:path}}", ("GET",), files, self.where))

    def describe(self) -> Dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            **_filled(title=self.title, description=self.description),
            **self.metadata,
            **self.form(),
            "steps": [step.describe() for step in self.steps.values()],
            **_filled(routes=True if self._routes else None),
        }


class Registry:
    """All plugins declared in this process, in the order of their declaration."""

    def __init__(self) -> None:
        self.plugins: Dict[str, Plugin] = {}

    def add(self, plugin: Plugin) -> None:
        other = self.plugins.get(plugin.identifier)
        if other is not None:
            raise DefinitionError(
                f"{plugin.where}: {plugin.identifier} is declared already, by {other.where}"
            )
        self.plugins[plugin.identifier] = plugin

    def declared_by(self, module: str) -> List[Plugin]:
        """The plugins of a module and its submodules, not those of what it imports."""
        return [
            one
            for one in self.plugins.values()
            if one.module == module or one.module.startswith(module + ".")
        ]


REGISTRY = Registry()


def plugin(
    function: Optional[Callable[..., Any]] = None,
    /,
    *,
    version: Optional[str] = None,
    name: Optional[str] = None,
    title: Optional[str] = None,
    description: Optional[str] = None,
    help: Optional[str] = None,
    type: str = "processing",
    tags: Sequence[str] = (),
    outputs: Iterable[Output] = (),
    links: Iterable[Any] = (),
    example: Optional[Mapping[str, Any]] = None,
    schedules: Iterable[Mapping[str, Any]] = (),
) -> Callable[[Callable[..., Any]], Plugin]:
    """Makes the function below a plugin: `@plugin(version="1.0.0")`.

    `name` is the function's in kebab-case, `help` its docstring and
    `description` the first paragraph of the help, unless they are given.
    `schedules` is work that comes again: `{"cron": "0 3 * * *", "parameters": {…}}`.
    """
    module = sys._getframe(1).f_globals.get("__name__", "")
    if function is not None:
        raise DefinitionError('a plugin needs a version: @plugin(version="1.0.0")')
    check_version(version, "plugin")
    if type not in TYPES:
        raise DefinitionError(f"type {type!r} is not one of {', '.join(TYPES)}")
    if isinstance(tags, str):
        raise DefinitionError(f"tags must be a list of texts, not the text {tags!r}")
    outputs = list(outputs)
    for output in outputs:
        if not isinstance(output, Output):
            raise DefinitionError(f"outputs must be a list of Output(...), not {output!r}")
    metadata = {
        "type": type,
        "tags": list(tags),
        "dataOutput": [output.describe() for output in outputs],
        "links": [_link(link) for link in links],
        **_filled(schedules=[_schedule(schedule) for schedule in schedules] or None),
    }

    def declare(function: Callable[..., Any]) -> Plugin:
        if isinstance(function, Form) or not callable(function):
            raise DefinitionError(f"@plugin belongs on a function, not on {function!r}")
        form = (function, title, description, help, example)
        own = name or kebab_case(function.__name__)
        declared = Plugin(own, version or "", module, form, **metadata)
        REGISTRY.add(declared)
        return declared

    return declare


def check_version(version: Any, what: str) -> None:
    """Raises DefinitionError unless it is a version."""
    if version is None:
        raise DefinitionError(f'a {what} needs a version: @{what}(version="1.0.0")')
    if not isinstance(version, str) or not _is_version(version):
        raise DefinitionError(f'version {version!r} is not one by PEP 440, such as "1.0.0"')


#: What a schedule may say.
_SCHEDULE = ("name", "cron", "every", "time_zone", "jitter", "overlap", "missed", "parameters")


def _schedule(schedule: Any) -> Dict[str, Any]:
    if not isinstance(schedule, Mapping):
        raise DefinitionError(f'a schedule is {{"cron": "0 3 * * *"}}, not {schedule!r}')
    for key in schedule:
        if key not in _SCHEDULE:
            raise DefinitionError(f"a schedule has no {key!r}; it has {', '.join(_SCHEDULE)}")
    if ("cron" in schedule) == ("every" in schedule):
        raise DefinitionError(f"a schedule has either cron or every: {schedule!r}")
    return {"timeZone" if key == "time_zone" else key: value for key, value in schedule.items()}


def _link(link: Any) -> Dict[str, str]:
    if isinstance(link, Link):
        return {"type": link.type, "href": link.href}
    if isinstance(link, Mapping) and {"type", "href"} <= set(link):
        return dict(link)
    if isinstance(link, (list, tuple)) and len(link) == 2:
        return {"type": link[0], "href": link[1]}
    raise DefinitionError(f'a link is a Link("docs", "https://…"), not {link!r}')
