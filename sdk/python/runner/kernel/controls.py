"""The controls of interacts: how each is described to a client, and what its values mean."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

#: Values that a slider takes out of an iterator.
MOST_VALUES = 10_000
#: Columns of a box that is not told of any.
_WIDTH = 30
_COLORS = {
    "black": "#000000",
    "white": "#ffffff",
    "gray": "#808080",
    "red": "#ff0000",
    "green": "#008000",
    "blue": "#0000ff",
    "cyan": "#00ffff",
    "magenta": "#ff00ff",
    "yellow": "#ffff00",
    "orange": "#ffa500",
    "purple": "#800080",
    "brown": "#a52a2a",
    "pink": "#ffc0cb",
}


class Control:
    """A control. `value` is what the client has; `label` is that of the parameter where it is `None`."""

    kind = ""
    #: Whether clients may set it.
    is_input = True

    def __init__(self, value: Any, label: Optional[str]) -> None:
        self.value = value
        self.label = label
        #: Whether a change runs the function.
        self.update = False

    def described(self) -> Dict[str, Any]:
        """What a client needs to show it, beside label and update."""
        raise NotImplementedError

    def checked(self, value: Any) -> Any:
        """A value of a client, as it is kept. Raises ValueError: it is none."""
        raise NotImplementedError

    def placed(self, value: Any) -> Any:
        """What a client has for a value that the function has. Raises ValueError: there is none."""
        return self.checked(value)

    def given(self, names: Dict[str, Any]) -> Any:
        """What the function gets; `names` are those around it. May raise what code of the user raises."""
        return self.value

    def reset(self) -> None:
        """The function has run."""


class Checkbox(Control):
    """A box to tick."""

    kind = "checkbox"

    def __init__(self, default: Any = True, label: Optional[str] = None, raw: bool = True) -> None:
        super().__init__(bool(default), label)

    def described(self) -> Dict[str, Any]:
        return {"default": self.value}

    def checked(self, value: Any) -> Any:
        if not isinstance(value, bool):
            raise ValueError(f"true or false was expected, not {shown(value)}")
        return value


class InputBox(Control):
    """A box for text, which the function gets as it is, or as `adapter` makes it."""

    kind = "input_box"
    evaluates = False

    def __init__(
        self,
        default: Any = "",
        label: Optional[str] = None,
        width: int = 0,
        height: int = 1,
        keypress: bool = False,
        adapter: Optional[Callable[[Any], Any]] = None,
    ) -> None:
        super().__init__(str(default), label)
        self.width = int(width or 0) or _WIDTH
        self.height = int(height or 1)
        self.keypress = keypress
        self.adapter = adapter

    def described(self) -> Dict[str, Any]:
        return {
            "subtype": "textarea" if self.height > 1 else "input",
            "default": self.value,
            "width": self.width,
            "height": self.height,
            "evaluate": self.evaluates,
            "keypress": bool(self.keypress),
        }

    def checked(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError(f"text was expected, not {shown(value)}")
        return value

    def placed(self, value: Any) -> Any:
        return str(value)

    def given(self, names: Dict[str, Any]) -> Any:
        return self.adapter(self.value) if self.adapter else self.value


class ExpressionBox(InputBox):
    """A box for an expression of Python, whose value the function gets."""

    evaluates = True

    def __init__(
        self,
        default: Any = "0",
        label: Optional[str] = None,
        width: int = 0,
        height: int = 1,
        adapter: Optional[Callable[[Any], Any]] = None,
    ) -> None:
        text = default if isinstance(default, str) else repr(default)
        super().__init__(text, label, width, height, False, adapter)
        #: What stands for itself, also where its text is no expression.
        self.known = {} if isinstance(default, str) else {text: default}

    def placed(self, value: Any) -> Any:
        text = repr(value)
        self.known = {text: value}
        return text

    def given(self, names: Dict[str, Any]) -> Any:
        value = self.known[self.value] if self.value in self.known else _evaluated(self.value, names)
        return self.adapter(value) if self.adapter else value


class InputGrid(Control):
    """Boxes in rows and columns; the function gets the list of rows, or what `adapter` makes of it."""

    kind = "input_grid"

    def __init__(
        self,
        nrows: int = 1,
        ncols: int = 1,
        default: Any = "0",
        width: int = 5,
        label: Optional[str] = None,
        adapter: Optional[Callable[[Any], Any]] = None,
        evaluate: bool = True,
    ) -> None:
        self.rows, self.columns = int(nrows), int(ncols)
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"an input grid has rows and columns, not {nrows} by {ncols}")
        self.width = int(width or 0) or 5
        self.adapter = adapter
        self.evaluate = evaluate
        super().__init__(self.placed(default), label)

    def described(self) -> Dict[str, Any]:
        return {
            "nrows": self.rows,
            "ncols": self.columns,
            "default": self.value,
            "width": self.width,
            "evaluate": bool(self.evaluate),
        }

    def checked(self, value: Any) -> Any:
        is_grid = isinstance(value, list) and len(value) == self.rows
        if not is_grid or not all(isinstance(row, list) and len(row) == self.columns for row in value):
            raise ValueError(f"{self.rows} rows of {self.columns} texts were expected, not {shown(value)}")
        if not all(isinstance(cell, str) for row in value for cell in row):
            raise ValueError(f"texts were expected, not {shown(value)}")
        return value

    def placed(self, value: Any) -> Any:
        """Rows, all cells in one list, or one value for all cells."""
        cells = value.tolist() if hasattr(value, "tolist") else value
        if not isinstance(cells, (list, tuple)):
            cells = [cells] * (self.rows * self.columns)
        if any(isinstance(row, (list, tuple)) for row in cells):
            cells = [cell for row in cells for cell in (row if isinstance(row, (list, tuple)) else [row])]
        if len(cells) != self.rows * self.columns:
            raise ValueError(f"an input grid of {self.rows} by {self.columns} has no {len(cells)} values")
        texts = [cell if isinstance(cell, str) else repr(cell) if self.evaluate else str(cell) for cell in cells]
        return [texts[at : at + self.columns] for at in range(0, len(texts), self.columns)]

    def given(self, names: Dict[str, Any]) -> Any:
        rows = self.value
        if self.evaluate:
            rows = [[_evaluated(cell, names) for cell in row] for row in rows]
        return self.adapter(rows) if self.adapter else [list(row) for row in rows]


class _Choice(Control):
    """One of several values, each with a label: `(value, label)` or the value alone."""

    def __init__(self, values: Iterable[Any], label: Optional[str]) -> None:
        pairs = [one if isinstance(one, tuple) and len(one) == 2 else (one, str(one)) for one in values]
        if not pairs:
            raise ValueError("there is nothing to choose from")
        self.values = [value for value, _ in pairs]
        self.labels = [str(text) for _, text in pairs]
        super().__init__(None, label)

    def laid_out(self, rows: Optional[int], columns: Optional[int]) -> Tuple[int, int]:
        count = len(self.values)
        columns = int(columns or 0) or math.ceil(count / int(rows or 1))
        rows = int(rows or 0) or math.ceil(count / columns)
        if rows < 1 or columns < 1 or rows * columns < count:
            raise ValueError(f"{rows} by {columns} have no room for {count} values")
        return rows, columns

    def checked(self, value: Any) -> Any:
        return index(value, len(self.values))

    def placed(self, value: Any) -> Any:
        return position(self.values, value)

    def given(self, names: Dict[str, Any]) -> Any:
        return self.values[self.value]


class Selector(_Choice):
    """A list, radio buttons or buttons of which one is chosen."""

    kind = "selector"

    def __init__(
        self,
        values: Iterable[Any],
        default: Any = None,
        selector_type: str = "list",
        nrows: Optional[int] = None,
        ncols: Optional[int] = None,
        width: Any = "",
        label: Optional[str] = None,
    ) -> None:
        super().__init__(values, label)
        self.subtype = selector_type if selector_type in ("button", "radio") else "list"
        is_list = self.subtype == "list"
        self.grid: Tuple[Optional[int], Optional[int]] = (None, None) if is_list else self.laid_out(nrows, ncols)
        self.width = _css(width)
        self.value = 0 if default is None else self.placed(default)

    def described(self) -> Dict[str, Any]:
        return {
            "subtype": self.subtype,
            "values": len(self.values),
            "value_labels": self.labels,
            "default": self.value,
            "nrows": self.grid[0],
            "ncols": self.grid[1],
            "width": self.width,
        }


class ButtonBar(_Choice):
    """Buttons; the function gets the value of the one that was pressed, and `default` in runs for other reasons."""

    kind = "button_bar"

    def __init__(
        self,
        values: Iterable[Any] = (0,),
        default: Any = "",
        nrows: Optional[int] = None,
        ncols: Optional[int] = None,
        width: Any = "",
        label: Optional[str] = None,
    ) -> None:
        super().__init__(values, label)
        self.default = default
        self.grid = self.laid_out(nrows, ncols)
        self.width = _css(width)

    def described(self) -> Dict[str, Any]:
        shape = {"nrows": self.grid[0], "ncols": self.grid[1]}
        return {"values": len(self.values), "value_labels": self.labels, **shape, "width": self.width}

    def checked(self, value: Any) -> Any:
        return None if value is None else super().checked(value)

    def given(self, names: Dict[str, Any]) -> Any:
        return self.default if self.value is None else super().given(names)

    def reset(self) -> None:
        self.value = None


class Button(Control):
    """A button; the function gets `value` when it was pressed, and `default` in runs for other reasons."""

    kind = "button"

    def __init__(
        self, default: Any = "", value: Any = "", text: str = "Button", width: Any = "", label: Optional[str] = None
    ) -> None:
        super().__init__(False, label)
        self.default, self.pressed = default, value
        self.text, self.width = str(text), _css(width)

    def described(self) -> Dict[str, Any]:
        return {"text": self.text, "width": self.width}

    def checked(self, value: Any) -> Any:
        if not isinstance(value, bool):
            raise ValueError(f"true or false was expected, not {shown(value)}")
        return value

    def placed(self, value: Any) -> Any:
        return bool(value)

    def given(self, names: Dict[str, Any]) -> Any:
        return self.pressed if self.value else self.default

    def reset(self) -> None:
        self.value = False


class UpdateButton(Button):
    """A button without which nothing runs the function, unless other controls are said to."""

    def __init__(
        self, text: str = "Update", value: Any = "", default: Any = "", width: Any = "", label: Optional[str] = ""
    ) -> None:
        super().__init__(default, value, text, width, label)


class HtmlBox(Control):
    """HTML between the controls."""

    kind = "html_box"
    is_input = False

    def __init__(self, value: Any = "", label: Optional[str] = "") -> None:
        super().__init__(str(value), label)

    def described(self) -> Dict[str, Any]:
        return {"value": self.value}

    def checked(self, value: Any) -> Any:
        # The real client sends what it shows when it restores a state.
        if not isinstance(value, str):
            raise ValueError(f"text was expected, not {shown(value)}")
        return self.value

    def placed(self, value: Any) -> Any:
        return str(value)


class ColorSelector(Control):
    """A colour, `#rrggbb`."""

    kind = "color_selector"

    def __init__(
        self, default: Any = "#000000", hide_input: bool = False, sage_color: bool = True, label: Optional[str] = None
    ) -> None:
        super().__init__(self.placed(default), label)
        self.hide_input = hide_input

    def described(self) -> Dict[str, Any]:
        return {"default": self.value, "hide_input": bool(self.hide_input)}

    def checked(self, value: Any) -> Any:
        if not isinstance(value, str) or not re.fullmatch("#[0-9a-fA-F]{6}", value):
            raise ValueError(f"a colour as #rrggbb was expected, not {shown(value)}")
        return value.lower()

    def placed(self, value: Any) -> Any:
        """A name, `#rgb`, `#rrggbb`, or red, green and blue from 0 to 1."""
        if isinstance(value, (tuple, list)) and len(value) == 3:
            parts = [round(255 * min(1.0, max(0.0, number(part)))) for part in value]
            return "#" + "".join(f"{part:02x}" for part in parts)
        if isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{3}", value):
            value = "#" + "".join(2 * digit for digit in value[1:])
        return self.checked(_COLORS.get(value, value) if isinstance(value, str) else value)


def _evaluated(text: str, names: Dict[str, Any]) -> Any:
    return eval(text.strip(), names)


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:100] + "…"


def _css(width: Any) -> str:
    """A width in CSS; numbers are in characters."""
    return f"{width}em" if isinstance(width, (int, float)) else str(width or "")


def number(value: Any) -> Any:
    """A number as it is, if it is one. Raises ValueError: it is none, or not finite."""
    try:
        if not isinstance(value, (str, bytes, bool)) and math.isfinite(value):
            return value
    except (TypeError, OverflowError):
        pass
    raise ValueError(f"a number was expected, not {shown(value)}")


def index(value: Any, count: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise ValueError(f"a position from 0 to {count - 1} was expected, not {shown(value)}")
    return value


def position(values: Sequence[Any], wanted: Any, nearest: bool = False) -> int:
    """Where a value is, or the one nearest to it. Raises ValueError: it is not among them."""
    for at, value in enumerate(values):
        try:
            if value is wanted or bool(value == wanted):
                return at
        except Exception:
            continue  # not everything can be compared
    if nearest:
        try:
            return min(range(len(values)), key=lambda at: abs(float(values[at]) - float(wanted)))
        except (TypeError, ValueError):
            pass
    raise ValueError(f"{shown(wanted)} is not among the values")


def taken(values: Iterable[Any]) -> List[Any]:
    """What an iterator gives, up to a bound."""
    return list(itertools.islice(values, MOST_VALUES))
