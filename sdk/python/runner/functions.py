"""What a function says of itself, without importing `inspect` for the plain ones."""

from __future__ import annotations

from runner.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List

#: Kinds of parameters, by the numbers that `inspect` gives them.
POSITIONAL_ONLY, POSITIONAL_OR_KEYWORD, VAR_POSITIONAL, KEYWORD_ONLY, VAR_KEYWORD = range(5)
#: Flags of code objects: has `*args`, has `**kwargs`; is a generator, a coroutine, one for `await`, both.
_VARARGS, _VARKEYWORDS = 0x04, 0x08
_GENERATOR, _COROUTINE, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200


class _Empty:
    """Stands for what is not said: `None` is a default."""

    def __repr__(self) -> str:
        return "EMPTY"


EMPTY = _Empty()


@record(frozen=True)
class Declared:
    """One parameter of a function, as it is declared."""

    name: str
    kind: int
    #: `EMPTY` where there is none.
    default: Any
    #: The type hint; a text where it was not evaluated; `EMPTY` where there is none.
    annotation: Any


def unwrapped(function: Callable[..., Any]) -> Any:
    """The function behind its decorators."""
    seen = set()
    while hasattr(function, "__wrapped__") and id(function) not in seen:
        seen.add(id(function))
        function = function.__wrapped__
    return function


def _is_plain(function: Any) -> bool:
    """Whether all is said by its code: nothing wraps it, and nobody gave it another signature."""
    return (
        type(function) is type(unwrapped)
        and not hasattr(function, "__wrapped__")
        and not hasattr(function, "__signature__")
    )


def declared(function: Callable[..., Any]) -> List[Declared]:
    """The parameters of a function."""
    if not _is_plain(function):
        import inspect

        def known(value: Any) -> Any:
            return EMPTY if value is inspect.Parameter.empty else value

        return [
            Declared(one.name, int(one.kind), known(one.default), known(one.annotation))
            for one in inspect.signature(function).parameters.values()
        ]
    code = function.__code__
    names = code.co_varnames
    plain, keywords = code.co_argcount, code.co_kwonlyargcount
    kinds = dict.fromkeys(names[:plain], POSITIONAL_OR_KEYWORD)
    kinds.update(dict.fromkeys(names[: code.co_posonlyargcount], POSITIONAL_ONLY))
    end = plain + keywords
    if code.co_flags & _VARARGS:
        kinds[names[end]] = VAR_POSITIONAL
        end += 1
    kinds.update(dict.fromkeys(names[plain : plain + keywords], KEYWORD_ONLY))
    if code.co_flags & _VARKEYWORDS:
        kinds[names[end]] = VAR_KEYWORD
    values = function.__defaults__ or ()
    defaults = dict(zip(names[plain - len(values) : plain], values))
    defaults.update(function.__kwdefaults__ or {})
    annotations = function.__annotations__
    return [
        Declared(name, kind, defaults.get(name, EMPTY), annotations.get(name, EMPTY))
        for name, kind in kinds.items()
    ]


def is_suspended(function: Callable[..., Any]) -> bool:
    """Whether a call of it runs nothing yet, but gives a generator or a coroutine."""
    if not _is_plain(function):
        import inspect

        return inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function)
    kinds = _GENERATOR | _COROUTINE | _ITERABLE_COROUTINE | _ASYNC_GENERATOR
    return bool(function.__code__.co_flags & kinds)
