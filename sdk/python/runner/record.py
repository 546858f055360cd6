"""Records that cannot be changed: frozen dataclasses, without what importing `dataclasses` costs.

It brings `inspect` along, a third of the time in which a plugin's process starts.
"""

from __future__ import annotations

__all__ = ["record"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(*, frozen):
        """Makes the class below a record of its annotated fields; those with a value may be left out."""
        if not frozen:
            raise TypeError("a record is frozen")

        def declare(cls):
            names = tuple(cls.__annotations__)
            defaults = {name: getattr(cls, name) for name in names if hasattr(cls, name)}

            def __init__(self, *values, **named):
                if len(values) > len(names):
                    raise TypeError(f"{cls.__name__} takes {len(names)} values, not {len(values)}")
                given = dict(zip(names, values))
                for name, value in named.items():
                    if name not in names or name in given:
                        raise TypeError(f"{cls.__name__} has no place for {name}={value!r}")
                    given[name] = value
                for name in names:
                    if name not in given and name not in defaults:
                        raise TypeError(f"{cls.__name__} needs {name}")
                self.__dict__.update({**defaults, **given})

            def __setattr__(self, name, value):
                raise AttributeError(f"{cls.__name__}.{name} cannot be changed")

            def __delattr__(self, name):
                raise AttributeError(f"{cls.__name__}.{name} cannot be removed")

            def __eq__(self, other):
                if other.__class__ is not self.__class__:
                    return NotImplemented
                return all(getattr(self, name) == getattr(other, name) for name in names)

            def __hash__(self):
                return hash(tuple(getattr(self, name) for name in names))

            def __repr__(self):
                shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
                return f"{type(self).__qualname__}({shown})"

            for method in (__init__, __setattr__, __delattr__, __eq__, __hash__, __repr__):
                setattr(cls, method.__name__, method)
            cls.__match_args__ = names
            return cls

        return declare
