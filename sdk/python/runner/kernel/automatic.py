"""Controls from the defaults of parameters, and from the functions that notebooks of Sage use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Callable, Dict, Iterable, Optional

from runner.kernel import controls, sliders
from runner.kernel.controls import Button, Checkbox, Control, ExpressionBox, HtmlBox, InputBox, InputGrid, Selector, UpdateButton, shown
from runner.kernel.sliders import ContinuousSlider, DiscreteSlider, Slider, stepped

#: Choices that are shown as buttons; more are a list.
_MOST_BUTTONS = 5


def control(value: Any, name: str) -> Control:
    """The control that a default stands for. Raises ValueError: it stands for none."""
    try:
        return _control(value, name)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ValueError(f"{name}={shown(value)} is no control: {error}") from None


def _control(value: Any, name: str) -> Control:
    if name == "auto_update" and value is False:
        return UpdateButton(value=True, default=False)
    label: Optional[str] = None
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        label, value = value
    start = None
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], (tuple, list, range, Iterator)):
        start, value = value
    made = _shaped(value, start)
    if label is not None:
        made.label = label
    return made


def _shaped(value: Any, start: Any) -> Control:
    if isinstance(value, Control):
        return value
    if isinstance(value, bool):
        return Checkbox(value)
    if isinstance(value, str):
        return InputBox(value)
    if isinstance(value, (list, range)):
        return _chosen(list(value), start)
    if isinstance(value, Iterator):
        return DiscreteSlider(value, start)
    if isinstance(value, tuple):
        return _slid(value, start)
    if getattr(value, "ndim", 0) in (1, 2) and hasattr(value, "tolist"):
        return _grid(value)
    return ExpressionBox(value)


def _chosen(values: Any, start: Any) -> Control:
    if len(values) == 1:
        (one,) = values
        value, text = one if isinstance(one, (tuple, list)) and len(one) == 2 else (one, one)
        return Button(value, value, str(text))
    return Selector(values, start, "button" if len(values) <= _MOST_BUTTONS else "list")


def _slid(value: Any, start: Any) -> Control:
    if len(value) == 2:
        return ContinuousSlider(value, start)
    if len(value) == 3 and not any(isinstance(one, str) for one in value):
        return Slider(stepped(*value), start)
    return DiscreteSlider(value, start)


def _grid(array: Any) -> Control:
    """An array of numpy; the function gets one of its shape."""
    rows, columns = array.shape if array.ndim == 2 else (1, len(array))
    make, shape = type(array), array.shape

    def adapter(cells: Any) -> Any:
        # It is loaded: the array is one of its own.
        numpy: Any = sys.modules["numpy"]
        made = numpy.array(cells).reshape(shape)
        return made if make is numpy.ndarray else make(made)

    return InputGrid(rows, columns, array, adapter=adapter)


def input_box(
    default: Any = None,
    label: Optional[str] = None,
    type: Optional[Callable[[Any], Any]] = None,
    width: int = 80,
    height: int = 1,
) -> Control:
    """A box for text if `type` is `str`; else for an expression, whose value `type` takes if it is given."""
    if type is str:
        return InputBox("" if default is None else default, label, width, height)
    return ExpressionBox(default, label, width, height, type)


def selector(
    values: Iterable[Any],
    label: Optional[str] = None,
    default: Any = None,
    nrows: Optional[int] = None,
    ncols: Optional[int] = None,
    width: Any = None,
    buttons: bool = False,
) -> Selector:
    """A list, or buttons if they are asked for or given rows or columns. `values` may have labels: `(value, label)`."""
    kind = "button" if buttons or nrows or ncols else "list"
    return Selector(values, default, kind, nrows, ncols, width or "", label)


def checkbox(default: Any = True, label: Optional[str] = None) -> Checkbox:
    """A box to tick."""
    return Checkbox(default, label)


def text_control(value: Any = "") -> HtmlBox:
    """HTML between the controls."""
    return HtmlBox(value)


def color_selector(
    default: Any = (0, 0, 1), label: Optional[str] = None, widget: str = "colorpicker", hide_box: bool = False
) -> controls.ColorSelector:
    """A colour: a name, `#rrggbb`, or red, green and blue from 0 to 1. The function gets `#rrggbb`."""
    return controls.ColorSelector(default, hide_box, label=label)


def input_grid(
    nrows: int,
    ncols: int,
    default: Any = None,
    label: Optional[str] = None,
    to_value: Optional[Callable[[Any], Any]] = None,
    width: int = 4,
) -> InputGrid:
    """Boxes in rows and columns; `to_value` takes the list of rows."""
    return InputGrid(nrows, ncols, 0 if default is None else default, width, label, to_value)


#: What makes controls, by the names that users know.
NAMES: Dict[str, Any] = {
    **{
        one.__name__: one
        for one in (
            *(checkbox, color_selector, input_box, input_grid, selector, text_control, sliders.slider, sliders.range_slider),
            *(Button, Checkbox, ContinuousSlider, DiscreteSlider, ExpressionBox, HtmlBox, InputBox, InputGrid, Selector),
            *(controls.ButtonBar, controls.ColorSelector, sliders.MultiSlider, UpdateButton),
        )
    },
    "button": Button,
    "button_bar": controls.ButtonBar,
}
