"""How the parameters of a function become a JSON Schema, and a run its arguments."""

from __future__ import annotations

import enum
import sys
from collections.abc import Hashable

from runner import parameters
from runner.functions import (
    EMPTY,
    POSITIONAL_ONLY,
    POSITIONAL_OR_KEYWORD,
    VAR_KEYWORD,
    VAR_POSITIONAL,
    Declared,
    declared,
    is_suspended,
    unwrapped,
)
from runner.parameters import MISSING, Parameter, camel_case, snake_case
from runner.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Mapping, Tuple

#: What classes stand for.
_SIMPLE: Dict[Any, Callable[[], Parameter]] = {
    str: parameters.Text,
    int: parameters.Integer,
    float: parameters.Number,
    bool: parameters.Boolean,
    list: parameters.List,
    dict: lambda: parameters.Json(schema={"type": "object"}),
}


class DefinitionError(TypeError):
    """A plugin is not declared as it has to be. The message says where and how."""


def parameter_of(hint: Any) -> Tuple[Parameter, bool]:
    """The parameter that a type hint stands for, and whether it may be absent. Raises TypeError."""
    if isinstance(hint, Parameter):
        return hint, False
    if isinstance(hint, type) and hint in _SIMPLE:
        return _SIMPLE[hint](), False
    import typing  # imported by whoever has other hints

    unions: List[Any] = [typing.Union]
    if sys.version_info >= (3, 10):
        import types

        unions.append(types.UnionType)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    # Before Python 3.11, list[int] is taken for a class too.
    if origin is None and isinstance(hint, type) and issubclass(hint, Parameter):
        return hint(), False
    if origin is None and isinstance(hint, type) and issubclass(hint, enum.Enum):
        return parameters.Choice(hint), False
    if hint is typing.Any:
        return parameters.Json(), False
    if origin is None and isinstance(hint, Hashable) and hint in _SIMPLE:
        return _SIMPLE[hint](), False
    if origin is list and len(arguments) <= 1:
        return parameters.List(*arguments), False
    if origin is dict:
        return _SIMPLE[dict](), False
    if origin is typing.Literal:
        choices = [value for value in arguments if value is not None]
        return parameters.Choice(choices), len(choices) < len(arguments)
    if origin in unions:
        kinds = [kind for kind in arguments if kind is not type(None)]
        if len(kinds) == 1 and len(kinds) < len(arguments):
            return parameter_of(kinds[0])[0], True
        raise TypeError(
            "a union of several types is not supported; use one type, Optional[...], or Json()"
        )
    if hasattr(hint, "__metadata__"):  # typing.Annotated[str, Text(...)]
        kind, *notes = arguments
        optional = parameter_of(kind)[1] if typing.get_origin(kind) in unions else False
        for note in notes:
            if isinstance(note, Parameter):
                return note, optional
        return parameter_of(kind)
    raise TypeError(
        f"{hint!r} cannot be a parameter; there are str, int, float, bool, list[...], "
        "Optional[...], Literal[...], enumerations, and Text, Secret, Integer, Number, Boolean, "
        "Choice, List, Data, Upload, PluginRef, Url, Json"
    )


@record(frozen=True)
class Field:
    """One parameter of one function."""

    #: As the function calls it, such as `n_rows`.
    name: str
    #: As the wire calls it, such as `nRows`.
    key: str
    parameter: Parameter
    required: bool
    #: As JSON; `MISSING` where there is none.
    default: Any = MISSING

    def schema(self) -> Dict[str, Any]:
        title = self.name.strip("_").replace("_", " ")
        schema = self.parameter.schema(title[:1].upper() + title[1:])
        if self.default is not MISSING:
            schema["default"] = self.default
        if snake_case(self.key) != self.name.strip("_"):
            schema.setdefault("x-id", self.name)
        return schema


class Signature:
    """All parameters of one function but the task, which comes first."""

    def __init__(self, function: Callable[..., Any], where: str) -> None:
        if is_suspended(function):
            raise DefinitionError(f"{where} is async or a generator; a plugin is a plain function")
        found = declared(function)
        if not found or found[0].kind not in (POSITIONAL_ONLY, POSITIONAL_OR_KEYWORD):
            raise DefinitionError(
                f"{where} needs a first parameter for its task: def {function.__name__}(task, ...)"
            )
        self._declare(function, found[1:], where)

    def _declare(
        self, function: Callable[..., Any], declared: List[Declared], where: str
    ) -> None:
        self.where = where
        self.fields: List[Field] = [self._field(function, one) for one in declared]
        keys: Dict[str, str] = {}
        for field in self.fields:
            other = keys.setdefault(field.key, field.name)
            if other != field.name:
                raise DefinitionError(
                    f"{where}: {other!r} and {field.name!r} are both {field.key!r} on the wire"
                )

    def _field(self, function: Callable[..., Any], declared: Declared) -> Field:
        where = f"{self.where}: parameter {declared.name!r}"
        if declared.kind in (VAR_POSITIONAL, VAR_KEYWORD, POSITIONAL_ONLY):
            raise DefinitionError(f"{where} must have one name and be usable as a keyword")
        hint = declared.annotation
        if hint is EMPTY:
            raise DefinitionError(f"{where} needs a type hint, such as {declared.name}: str")
        if isinstance(hint, str):  # from __future__ import annotations
            try:
                hint = eval(hint, unwrapped(function).__globals__)
            except Exception as error:
                raise DefinitionError(
                    f"{where}: the type hint {hint!r} cannot be evaluated: {error!r}"
                ) from error
        try:
            parameter, optional = parameter_of(hint)
            default = parameter.default
            if declared.default is None:
                optional = True
            elif declared.default is not EMPTY:
                if default is not MISSING:
                    raise TypeError(
                        "has a default in its type hint and another in the function; leave one out"
                    )
                default = parameter.to_wire(declared.default)
        except TypeError as error:
            raise DefinitionError(f"{where}: {error}") from error
        required = not optional and default is MISSING
        return Field(declared.name, camel_case(declared.name), parameter, required, default)

    def schema(self) -> Dict[str, Any]:
        schema: Dict[str, Any] = {
            "type": "object",
            "properties": {field.key: field.schema() for field in self.fields},
        }
        required = [field.key for field in self.fields if field.required]
        if required:
            schema["required"] = required
        return schema

    def values(self, given: Mapping[str, Any], what: str) -> Dict[str, Any]:
        """Values of the author as JSON, called by either name. For examples and prefilled steps."""
        fields = {name: field for field in self.fields for name in (field.key, field.name)}
        values = {}
        for name, value in given.items():
            if name not in fields:
                known = ", ".join(field.name for field in self.fields) or "none"
                raise DefinitionError(f"{what}: there is no parameter {name!r}; there are: {known}")
            field = fields[name]
            try:
                values[field.key] = value if value is None else field.parameter.to_wire(value)
            except TypeError as error:
                raise DefinitionError(f"{what}: {name!r}: {error}") from error
        return values

    def arguments(self, values: Mapping[str, Any], inputs: Mapping[str, Any]) -> Dict[str, Any]:
        """What the function is called with. Raises ValueError."""
        arguments = {}
        for field in self.fields:
            source = inputs if field.parameter.is_file else values
            value = source.get(field.key)
            if (
                value is None
                and field.parameter.is_file
                and values.get(field.key)
                and field.key not in inputs
            ):
                raise ValueError(f"the file of parameter {field.key!r} was not handed over")
            if value is None and field.default is not MISSING and not field.parameter.is_file:
                value = field.default
            if value is None and field.required and field.key not in source:
                raise ValueError(f"parameter {field.key!r} is missing")
            arguments[field.name] = None if value is None else field.parameter.to_python(value)
        return arguments
