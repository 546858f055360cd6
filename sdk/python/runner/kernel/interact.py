"""Interacts: functions that run again when somebody changes the controls of their parameters."""

from __future__ import annotations

import inspect
import uuid
from typing import Any, Callable, Dict, Iterable, List, Optional, Set, Tuple

from runner.kernel import automatic
from runner.kernel.controls import Control, InputBox, UpdateButton
from runner.kernel.wire import Message

#: The kind of the message that changes controls.
UPDATE = "sagenb.interact.update_interact"
#: Interacts of a session; the oldest is forgotten for a new one.
MOST = 500
#: Where the output of an interact stands among its controls.
_OUTPUT = "_output"


class Interacts:
    """Those of a session."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.known: Dict[str, Interact] = {}
        #: Those whose functions are running, each called by the one before.
        self.running: List[Interact] = []

    def show(self, data: Dict[str, Any]) -> None:
        self.kernel.publish("display_data", {"data": data, "metadata": {}, "transient": {}})

    def make(self, function: Any, **options: Any) -> Any:
        """The decorator `interact`."""
        if isinstance(function, Handle):
            function = function._function
        made = Interact(self, function, **options)
        while len(self.known) >= MOST:
            oldest = next((one for one in self.known.values() if one not in self.running), None)
            if oldest is None:
                raise RuntimeError(f"more than {MOST} interacts in one another")
            self.forget(oldest.id)
        self.known[made.id] = made
        if self.running:
            self.running[-1].inner.append(made.id)
        made.show()
        # Its session waits for somebody who changes something.
        self.kernel.tell("iopub", "kernel_timeout", {"timeout": float("inf")})
        made.run(Exception)
        return made.handle

    def forget(self, id: str) -> None:
        """With all that its output has in it."""
        gone = self.known.pop(id, None)
        for inner in gone.inner if gone is not None else ():
            self.forget(inner)

    def answer(self, message: Message) -> Dict[str, Any]:
        """Sets controls as a client asks, and runs the function. The content of the reply."""
        content = message.content
        try:
            interact, values = self._asked(content)
            expressions = _object(content, "user_expressions")
        except ValueError as error:
            told = {"ename": "ValueError", "evalue": str(error), "traceback": [f"ValueError: {error}"]}
            return {"status": "error", "user_expressions": {}, **told}
        interact.set(values)
        failure = {}
        if content.get("update_last") or any(interact.controls[name].update for name in values):
            failure = interact.run(BaseException)
        if failure:
            return {"status": "error", "user_expressions": {}, **failure}
        return {"status": "ok", "result": None, "user_expressions": self.kernel.shell.values(expressions)}

    def _asked(self, content: Dict[str, Any]) -> Tuple["Interact", Dict[str, Any]]:
        id = content.get("interact_id")
        interact = self.known.get(id) if isinstance(id, str) else None
        if interact is None:
            raise ValueError(f"this session has no interact {str(id)[:100]!r} (any more)")
        return interact, interact.checked(_object(content, "values"))


class Interact:
    """A function with controls."""

    def __init__(
        self,
        home: Interacts,
        function: Callable[..., Any],
        controls: Any = None,
        update: Optional[Iterable[str]] = None,
        layout: Any = None,
        locations: Any = None,
        output: bool = True,
        readonly: bool = False,
        automatic_labels: bool = True,
    ) -> None:
        self.id = str(uuid.uuid4())
        self.home = home
        self.function = function
        self.handle = Handle(self)
        self.takes_handle, self.controls = _controls(function, controls)
        #: Those that have changed since the last run.
        self.changed: Set[str] = set(self.controls)
        #: The ids of interacts that are made while this one runs.
        self.inner: List[str] = []
        updating = set(self.controls if update and "*" in update else update or ())
        unknown = updating.difference(self.controls)
        if unknown:
            raise ValueError(f"there are no controls {', '.join(sorted(map(str, unknown)))} that could update")
        updating.update(name for name, one in self.controls.items() if isinstance(one, UpdateButton))
        for name, one in self.controls.items():
            one.update = name in updating if updating else one.is_input
            if one.label is None:
                one.label = name if automatic_labels else ""
        self.locations = _locations(locations, self.controls)
        self.layout = _layout(layout, list(self.controls), output, self.locations or {})
        self.readonly = bool(readonly)

    @property
    def name(self) -> str:
        return str(getattr(self.function, "__name__", "function"))

    def show(self) -> None:
        """Tells clients of its controls."""
        described = {
            name: {"control_type": one.kind, "raw": True, **one.described(), "label": str(one.label), "update": one.update}
            for name, one in self.controls.items()
        }
        content = {
            "new_interact_id": self.id,
            "controls": described,
            "layout": self.layout,
            "locations": self.locations,
            "readonly": self.readonly,
        }
        self.home.show({"text/plain": f"interact {self.name}", "application/sage-interact": content})

    def checked(self, values: Dict[str, Any]) -> Dict[str, Any]:
        """Values of a client, as they are kept. Raises ValueError: one of them is none."""
        checked = {}
        for name, value in values.items():
            control = self._control(name)
            try:
                checked[name] = control.checked(value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return checked

    def set(self, values: Dict[str, Any]) -> None:
        for name, value in values.items():
            self.controls[name].value = value
            self.changed.add(name)

    def place(self, name: str, value: Any) -> None:
        """Sets a control from Python, and shows it."""
        control = self._control(name)
        self.set({name: control.placed(value)})
        told = {"interact_id": self.id, "control": name, "value": control.value}
        self.home.show({"application/sage-interact-update": told})

    def given(self, name: str) -> Any:
        """What the function gets for a control."""
        return self._control(name).given(self._around())

    def _around(self) -> Dict[str, Any]:
        own: Dict[str, Any] = getattr(inspect.unwrap(self.function), "__globals__", self.home.kernel.shell.names)
        return own

    def _control(self, name: str) -> Control:
        try:
            return self.controls[name]
        except KeyError:
            raise ValueError(f"interact {self.name} has no control {name[:100]!r}") from None

    def run(self, caught: type[BaseException]) -> Dict[str, Any]:
        """Calls the function, and shows what it raises of that kind; answers with it, or with nothing."""
        shell, home = self.home.kernel.shell, self.home
        inner, self.inner = self.inner, []
        for id in inner:
            home.forget(id)
        # Figures from before are not part of its output.
        shell.show_figures()
        home.running.append(self)
        try:
            with home.kernel.marked({"interact_id": self.id}):
                changed, self.changed = self.changed, set()
                home.show({"application/sage-clear": {"changed": [name for name in self.controls if name in changed]}})
                failure: Dict[str, Any] = shell.guard(self._call, caught)
                shell.show_figures()
        finally:
            home.running.remove(self)
            for control in self.controls.values():
                control.reset()
        return failure

    def _call(self) -> None:
        names = self._around()
        given = {name: one.given(names) for name, one in self.controls.items()}
        self.function(*[self.handle] * self.takes_handle, **given)


class Handle:
    """What the user has of an interact: its function to call, and its controls as attributes."""

    def __init__(self, interact: Interact) -> None:
        self.__dict__["_interact"] = interact
        self.__dict__["_function"] = interact.function

    def __call__(self, *values: Any, **named: Any) -> Any:
        return self._function(*values, **named)

    def __repr__(self) -> str:
        return f"<interact {self._interact.name}>"

    def __dir__(self) -> List[str]:
        return [*self._interact.controls, "_state", "_update"]

    def __getattr__(self, name: str) -> Any:
        # While somebody copies this, it has nothing yet.
        if name.startswith("_") or name not in self._interact.controls:
            raise AttributeError(f"an interact has no {name!r} but for its controls")
        return self._interact.given(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._interact.controls:
            raise AttributeError(f"an interact has no {name!r} but for its controls")
        self._interact.place(name, value)

    def _update(self) -> None:
        """Runs the function with what the controls have."""
        self._interact.run(Exception)

    def _state(self, values: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Sets controls, if there are values for them, and answers with those of all."""
        for name, value in (values or {}).items():
            self._interact.place(name, value)
        return {name: self._interact.given(name) for name in self._interact.controls}


def _controls(function: Callable[..., Any], more: Any) -> Tuple[bool, Dict[str, Control]]:
    """Whether the function takes the interact first, and its controls by their names."""
    parameters = list(inspect.signature(function).parameters.values())
    named = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    takes_handle = bool(named) and named[0].default is named[0].empty and named[0].kind is not named[0].KEYWORD_ONLY
    pairs = [(one.name, one.default) for one in named[takes_handle:]]
    listed = more.items() if isinstance(more, dict) else more or ()
    pairs += [(one, inspect.Parameter.empty) if isinstance(one, str) else tuple(one) for one in listed]
    controls: Dict[str, Control] = {}
    for name, value in pairs:
        if not isinstance(name, str) or name.startswith("_"):
            raise ValueError(f"{name!r} is no name of a control: a name is text and begins with no underscore")
        if name in controls:
            raise ValueError(f"there are two controls {name!r}")
        controls[name] = InputBox() if value is inspect.Parameter.empty else automatic.control(value, name)
    return takes_handle, controls


def _locations(locations: Any, names: Iterable[str]) -> Optional[Dict[str, str]]:
    """Where in the page parts stand. A text is what the ids of their places begin with."""
    if locations is None or locations is False:
        return None
    if locations is True or isinstance(locations, str):
        begin = "" if locations is True else locations
        return {name: f"#{begin}{name}" for name in (*names, _OUTPUT, "_bookmarks")}
    return {str(name): str(place) for name, place in dict(locations).items()}


def _layout(layout: Any, names: List[str], output: bool, placed: Iterable[str]) -> List[List[Tuple[Optional[str], int]]]:
    """Rows of names and widths; what is left out comes at the end, the output last."""
    if isinstance(layout, dict):
        middle = [row for place, rows in layout.items() if place not in ("top", "bottom") for row in rows]
        shown = [[_OUTPUT]] if output else []
        layout = [*layout.get("top", ()), *middle, *shown, *layout.get("bottom", ())]
    seen = set(placed)
    rows: List[List[Tuple[Optional[str], int]]] = []
    for row in layout or ():
        parts: List[Tuple[Optional[str], int]] = []
        for one in [row] if isinstance(row, str) else row:
            name, width = one if isinstance(one, (tuple, list)) else (one, 1)
            if name is not None and name != _OUTPUT and name not in names:
                raise ValueError(f"the layout has {name!r}, which is no control")
            if name is not None and name in seen:
                raise ValueError(f"the layout has {name!r} twice")
            seen.add(name)
            parts.append((name, int(width)))
        rows.append(parts)
    rows += [[(name, 1)] for name in names if name not in seen]
    if output and _OUTPUT not in seen:
        rows.append([(_OUTPUT, 1)])
    return rows


def _object(content: Dict[str, Any], name: str) -> Dict[str, Any]:
    value = content.get(name)
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"`{name}` is to be an object, not {str(value)[:100]}")
    return value or {}
