"""The kinds of parameters. Each is used as a type hint and knows its JSON Schema."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping

from runner.input import Input

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Dict, Iterable, Optional, Sequence, Type, Union

#: Rules whose message `messages` may replace: the keywords that a value can fail.
RULES = frozenset(
    "required type enum format pattern minimum maximum exclusiveMinimum exclusiveMaximum "
    "minLength maxLength minItems maxItems".split()
)


class _Missing:
    """Stands for "no default": `None` is a value that an author may mean."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


def camel_case(name: str) -> str:
    """`n_rows` as it is called on the wire: `nRows`."""
    first, *rest = [part for part in name.split("_") if part] or [name]
    return first + "".join(part[0].upper() + part[1:] for part in rest)


def snake_case(key: str) -> str:
    """What the runner takes for the identifier of `key`: `nRows` is `n_rows`."""
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in key)


class Parameter:
    """What all kinds have in common.

    `label` and `description` (Markdown) are shown in the form; `default` makes
    the parameter optional; `id` replaces the identifier of the field in the
    form; `messages` replaces what is said when a rule fails, such as
    `{"minimum": "Must be positive."}`.
    """

    #: Whether the value is a file, which the runner hands over as an `Input`.
    is_file: ClassVar[bool] = False
    #: What a value has to be, in the words of an error message.
    noun: ClassVar[str] = "a value"

    def __init__(
        self,
        label: Optional[str] = None,
        description: Optional[str] = None,
        *,
        default: Any = MISSING,
        id: Optional[str] = None,
        messages: Optional[Mapping[str, str]] = None,
    ) -> None:
        self.label = label
        self.description = description
        self.id = id
        self.messages = {camel_case(rule): text for rule, text in (messages or {}).items()}
        unknown = sorted(set(self.messages) - RULES)
        if unknown:
            raise TypeError(
                f"messages: no rule is called {unknown[0]!r}; there are {', '.join(sorted(RULES))}"
            )
        self.default = default if default is MISSING else self.to_wire(default)

    def rules(self) -> Dict[str, Any]:
        """The keywords of JSON Schema that are this kind's own."""
        return {}

    def schema(self, title: str) -> Dict[str, Any]:
        """The JSON Schema, with `title` where the author gave no label."""
        schema: Dict[str, Any] = {"title": title if self.label is None else self.label}
        if self.description is not None:
            schema["description"] = self.description
        schema.update(self.rules())
        if self.id is not None:
            schema["x-id"] = self.id
        if self.messages:
            schema["x-messages"] = dict(self.messages)
        return schema

    def to_python(self, value: Any) -> Any:
        """A validated value from the wire, as the function gets it."""
        return value

    def to_wire(self, value: Any) -> Any:
        """A value of the author (a default, an example) as JSON. Raises TypeError."""
        if not self.accepts(value):
            raise TypeError(f"{value!r} is not {self.noun}")
        return value

    def accepts(self, value: Any) -> bool:
        return True


def _given(**rules: Any) -> Dict[str, Any]:
    return {key: value for key, value in rules.items() if value is not None}


class _String(Parameter):
    noun = "a str"

    def rules(self) -> Dict[str, Any]:
        return {"type": "string"}

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str)


class Text(_String):
    """A text; `multiline` makes it a text area."""

    def __init__(
        self,
        label: Optional[str] = None,
        description: Optional[str] = None,
        *,
        multiline: bool = False,
        min_length: Optional[int] = None,
        max_length: Optional[int] = None,
        pattern: Optional[str] = None,
        **common: Any,
    ) -> None:
        super().__init__(label, description, **common)
        self.multiline = multiline
        self.bounds = _given(minLength=min_length, maxLength=max_length, pattern=pattern)

    def rules(self) -> Dict[str, Any]:
        return {
            **super().rules(),
            **self.bounds,
            **({"x-multiline": True} if self.multiline else {}),
        }


class Secret(_String):
    """A password or token: not shown, not logged, not answered."""

    def rules(self) -> Dict[str, Any]:
        return {**super().rules(), "writeOnly": True}


class Url(_String):
    """A URL, handed over as it is."""

    def rules(self) -> Dict[str, Any]:
        return {**super().rules(), "format": "uri"}


class Number(Parameter):
    """A number, handed over as `float`."""

    noun = "a number"
    json_type: ClassVar[str] = "number"

    def __init__(
        self,
        label: Optional[str] = None,
        description: Optional[str] = None,
        *,
        minimum: Optional[float] = None,
        maximum: Optional[float] = None,
        exclusive_minimum: Optional[float] = None,
        exclusive_maximum: Optional[float] = None,
        **common: Any,
    ) -> None:
        super().__init__(label, description, **common)
        self.bounds = _given(
            minimum=minimum,
            maximum=maximum,
            exclusiveMinimum=exclusive_minimum,
            exclusiveMaximum=exclusive_maximum,
        )

    def rules(self) -> Dict[str, Any]:
        return {"type": self.json_type, **self.bounds}

    def accepts(self, value: Any) -> bool:
        # Not NaN and not infinite: JSON has neither.
        return (
            isinstance(value, (int, float)) and not isinstance(value, bool) and value - value == 0
        )

    def to_python(self, value: Any) -> Any:
        return float(value)


class Integer(Number):
    """A whole number."""

    noun = "an int"
    json_type = "integer"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    def to_python(self, value: Any) -> Any:
        return int(value)  # JSON Schema takes 3.0 for an integer


class Boolean(Parameter):
    """Yes or no. Give it a default: a box that is not ticked sends nothing."""

    noun = "a bool"

    def rules(self) -> Dict[str, Any]:
        return {"type": "boolean"}

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bool)


class Choice(Parameter):
    """One of several: `Choice(["a", "b"])`, `Choice({"a": "The first"})`, `Choice(SomeEnum)`.

    Of an enumeration the wire has the values and the function gets the member;
    `labels` may name its values for people.
    """

    noun = "one of the choices"

    def __init__(
        self,
        options: Union[Type[enum.Enum], Mapping[Any, str], Iterable[Any]],
        label: Optional[str] = None,
        description: Optional[str] = None,
        *,
        labels: Optional[Mapping[Any, str]] = None,
        **common: Any,
    ) -> None:
        self.enum: Optional[Type[enum.Enum]] = None
        if isinstance(options, type) and issubclass(options, enum.Enum):
            self.enum = options
            self.options = [member.value for member in options]
        elif isinstance(options, str):
            raise TypeError(f"a choice needs several options, not the text {options!r}")
        else:
            self.options = list(options)
            if isinstance(options, Mapping):
                labels = {**options, **(labels or {})}
        if not self.options:
            raise TypeError("a choice needs at least one option")
        for option in self.options:
            if not isinstance(option, (str, int, float)) and option is not None:
                raise TypeError(f"the option {option!r} is neither text nor number")
        self.labels = {str(self._plain(option)): text for option, text in (labels or {}).items()}
        stray = sorted(set(self.labels) - {str(option) for option in self.options})
        if stray:
            raise TypeError(f"there is a label for {stray[0]!r}, which is no option")
        super().__init__(label, description, **common)

    @staticmethod
    def _plain(value: Any) -> Any:
        return value.value if isinstance(value, enum.Enum) else value

    def rules(self) -> Dict[str, Any]:
        return {
            "enum": list(self.options),
            **({"x-labels": dict(self.labels)} if self.labels else {}),
        }

    def to_python(self, value: Any) -> Any:
        return value if self.enum is None else self.enum(value)

    def to_wire(self, value: Any) -> Any:
        plain = self._plain(value)
        # `True == 1`, so the type counts too.
        if not any(plain == option and type(plain) is type(option) for option in self.options):
            raise TypeError(f"{value!r} is not one of {', '.join(map(repr, self.options))}")
        return plain


class List(Parameter):
    """Several values of one kind, texts if nothing else is said. Commas separate them in a form."""

    def __init__(
        self,
        items: Any = str,
        label: Optional[str] = None,
        description: Optional[str] = None,
        *,
        min_items: Optional[int] = None,
        max_items: Optional[int] = None,
        **common: Any,
    ) -> None:
        from runner.signature import parameter_of

        self.items, optional = parameter_of(items)
        if optional:
            raise TypeError("the items of a list cannot be optional")
        self.is_file = self.items.is_file  # type: ignore[misc]
        self.bounds = _given(minItems=min_items, maxItems=max_items)
        super().__init__(label, description, **common)

    def rules(self) -> Dict[str, Any]:
        return {"type": "array", "items": self.items.rules(), **self.bounds}

    def to_python(self, value: Any) -> Any:
        return [self.items.to_python(item) for item in value]

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"{value!r} is not a list")
        return [self.items.to_wire(item) for item in value]


def _kinds(content_type: Union[str, Sequence[str]]) -> list[str]:
    return [content_type] if isinstance(content_type, str) else list(content_type)


class Data(_String):
    """A file of another plugin or of the web, given by its URL.

    The runner fetches it and the function gets an `Input`; with `fetch=False`
    it gets the URL and may call `task.fetch` itself.
    """

    noun = "a URL"

    def __init__(
        self,
        data_type: str = "*",
        content_type: Union[str, Sequence[str]] = "*",
        *,
        label: Optional[str] = None,
        description: Optional[str] = None,
        fetch: bool = True,
        **common: Any,
    ) -> None:
        super().__init__(label, description, **common)
        self.data: Dict[str, Any] = {"dataType": data_type, "contentType": _kinds(content_type)}
        if not fetch:
            self.data["fetch"] = False
        self.is_file = fetch  # type: ignore[misc]

    def rules(self) -> Dict[str, Any]:
        return {**super().rules(), "format": "uri", "x-data": dict(self.data)}

    def to_python(self, value: Any) -> Any:
        return Input.from_wire(value) if self.is_file else value


class Upload(Parameter):
    """A file that the caller sends along. The function gets an `Input`."""

    is_file = True

    def __init__(
        self,
        data_type: Optional[str] = None,
        content_type: Union[str, Sequence[str], None] = None,
        *,
        label: Optional[str] = None,
        description: Optional[str] = None,
        **common: Any,
    ) -> None:
        super().__init__(label, description, **common)
        self.data: Optional[Dict[str, Any]] = None
        if data_type is not None or content_type is not None:
            self.data = {"dataType": data_type or "*", "contentType": _kinds(content_type or "*")}

    def rules(self) -> Dict[str, Any]:
        return {
            "type": "string",
            "format": "binary",
            **({"x-data": dict(self.data)} if self.data else {}),
        }

    def to_wire(self, value: Any) -> Any:
        raise TypeError("an upload has no default and no example; `= None` makes it optional")

    def to_python(self, value: Any) -> Any:
        return Input.from_wire(value)


class PluginRef(_String):
    """Another plugin, given by its URL; `tags`, `name` and `version` say which ones fit."""

    noun = "a URL"

    def __init__(
        self,
        tags: Sequence[str] = (),
        name: Optional[str] = None,
        version: Optional[str] = None,
        *,
        label: Optional[str] = None,
        description: Optional[str] = None,
        **common: Any,
    ) -> None:
        super().__init__(label, description, **common)
        self.plugin = {"tags": list(tags), **_given(name=name, version=version)}

    def rules(self) -> Dict[str, Any]:
        return {**super().rules(), "format": "uri", "x-plugin": dict(self.plugin)}


class Json(Parameter):
    """Any JSON, or what `schema` (a JSON Schema) allows."""

    noun = "JSON"

    def __init__(
        self,
        label: Optional[str] = None,
        description: Optional[str] = None,
        *,
        schema: Optional[Mapping[str, Any]] = None,
        **common: Any,
    ) -> None:
        super().__init__(label, description, **common)
        self.own = dict(schema or {})

    def rules(self) -> Dict[str, Any]:
        return dict(self.own)

    def accepts(self, value: Any) -> bool:
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            return False
        return True
