"""Controls that slide, over numbers and over values."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Union

from runner.kernel.controls import Control, index, number, position, shown, taken

#: Steps of a slider that is not told of any.
_STEPS = 500
#: Steps between whole numbers, the finest that fits first.
_PARTS = (100, 50, 20, 10, 5, 2, 1)
#: Values that are told one by one.
_MOST_STEPS = 1000


class Numbers:
    """What numbers a slider passes over: all between two, or in steps from the first."""

    kind = "continuous"

    def __init__(self, low: Any, high: Any, step: Any = None, snaps: bool = False) -> None:
        self.low, self.high = sorted((number(low), number(high)))
        if self.low == self.high:
            raise ValueError(f"a slider from {shown(low)} to {shown(high)} has nowhere to go")
        self.is_whole = all(isinstance(one, int) for one in (low, high, step or 1))
        self.step = float(step) if step else self._fine_step()
        self.snaps = snaps

    def _fine_step(self) -> float:
        """One that meets the whole numbers, if the ends are such."""
        span = self.high - self.low
        if not self.is_whole:
            return float(span) / _STEPS
        return next((1 / parts for parts in _PARTS if span * parts <= _STEPS), 1.0)

    def described(self) -> Dict[str, Any]:
        return {"range": [float(self.low), float(self.high)], "step": self.step}

    def checked(self, value: Any) -> Any:
        # Rounding may lead a client beyond the ends.
        inside = min(max(number(value), self.low), self.high)
        return inside if isinstance(inside, (int, float)) else float(inside)

    placed = checked

    def given(self, value: Any) -> Any:
        if self.snaps:
            step = int(self.step) if self.is_whole else self.step
            value = self.low + round(float(value - self.low) / step) * step
        return int(value) if self.is_whole and float(value).is_integer() else value

    @property
    def ends(self) -> Sequence[Any]:
        return self.low, self.high


class Values:
    """What values a slider passes over, one by one. A client knows their positions."""

    kind = "discrete"

    def __init__(self, values: Iterable[Any]) -> None:
        self.values = taken(values)
        if not self.values:
            raise ValueError("a slider over no values")

    def described(self) -> Dict[str, Any]:
        return {"values": [str(value) for value in self.values], "range": [0, len(self.values) - 1], "step": 1}

    def checked(self, value: Any) -> Any:
        return index(value, len(self.values))

    def placed(self, value: Any) -> Any:
        return position(self.values, value, nearest=True)

    def given(self, value: Any) -> Any:
        return self.values[value]

    @property
    def ends(self) -> Sequence[Any]:
        return self.values[0], self.values[-1]


Track = Union[Numbers, Values]


class Slider(Control):
    """A slider on a track; with two handles, the function gets the pair of what is between them."""

    kind = "slider"

    def __init__(
        self,
        track: Track,
        default: Any = None,
        range_slider: bool = False,
        display_value: bool = True,
        label: Optional[str] = None,
        adapter: Optional[Callable[[Any], Any]] = None,
    ) -> None:
        super().__init__(None, label)
        self.track = track
        self.is_range = bool(range_slider)
        self.display_value = bool(display_value)
        self.adapter = adapter
        if default is None:
            default = track.ends if self.is_range else track.ends[0]
        self.value = self.placed(default)

    def described(self) -> Dict[str, Any]:
        subtype = self.track.kind + ("_range" if self.is_range else "")
        return {"subtype": subtype, **self.track.described(), "default": self.value, "display_value": self.display_value}

    def checked(self, value: Any) -> Any:
        return self._each(self.track.checked, value)

    def placed(self, value: Any) -> Any:
        return self._each(self.track.placed, value)

    def _each(self, take: Callable[[Any], Any], value: Any) -> Any:
        if not self.is_range:
            return take(value)
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise ValueError(f"a beginning and an end were expected, not {shown(value)}")
        return sorted(take(one) for one in value)

    def given(self, names: Dict[str, Any]) -> Any:
        value = tuple(map(self.track.given, self.value)) if self.is_range else self.track.given(self.value)
        return self.adapter(value) if self.adapter else value


class DiscreteSlider(Slider):
    """A slider over values."""

    def __init__(
        self,
        values: Iterable[Any] = (0, 1),
        default: Any = None,
        range_slider: bool = False,
        display_value: bool = True,
        label: Optional[str] = None,
    ) -> None:
        super().__init__(Values(values), default, range_slider, display_value, label)


class ContinuousSlider(Slider):
    """A slider over the numbers of an interval."""

    def __init__(
        self,
        interval: Any = (0, 100),
        default: Any = None,
        steps: Optional[int] = None,
        stepsize: Any = None,
        label: Optional[str] = None,
        range_slider: bool = False,
        display_value: bool = True,
        adapter: Optional[Callable[[Any], Any]] = None,
    ) -> None:
        super().__init__(_interval(interval, stepsize, steps), default, range_slider, display_value, label, adapter)


class MultiSlider(Control):
    """Several sliders side by side; the function gets the list of what they are at."""

    kind = "multi_slider"

    def __init__(
        self,
        sliders: int = 1,
        values: Sequence[Any] = ((0, 1),),
        interval: Sequence[Any] = ((0, 1),),
        slider_type: str = "continuous",
        default: Any = None,
        stepsize: Sequence[Any] = (0,),
        steps: Sequence[Any] = (0,),
        display_values: bool = True,
        label: Optional[str] = None,
    ) -> None:
        super().__init__(None, label)
        count = int(sliders)
        if count < 1:
            raise ValueError(f"{sliders} sliders are none")
        self.subtype = "discrete" if slider_type == "discrete" else "continuous"
        self.display_values = bool(display_values)
        self.tracks: List[Any] = []
        if self.subtype == "discrete":
            self.tracks = [Values(one) for one in _spread(values, count)]
        else:
            shapes = zip(_spread(interval, count), _spread(stepsize, count), _spread(steps, count))
            self.tracks = [_interval(*shape) for shape in shapes]
        starts = default if isinstance(default, (list, tuple)) else [default]
        starts = [track.ends[0] if one is None else one for track, one in zip(self.tracks, _spread(starts, count))]
        self.value = self.placed(starts)

    def described(self) -> Dict[str, Any]:
        each = [track.described() for track in self.tracks]
        return {
            "subtype": self.subtype,
            "sliders": len(each),
            "default": self.value,
            "display_values": self.display_values,
            **{name: [one[name] for one in each] for name in each[0]},
        }

    def checked(self, value: Any) -> Any:
        return [track.checked(one) for track, one in zip(self.tracks, self._list(value))]

    def placed(self, value: Any) -> Any:
        return [track.placed(one) for track, one in zip(self.tracks, self._list(value))]

    def _list(self, value: Any) -> Sequence[Any]:
        if not isinstance(value, (list, tuple)) or len(value) != len(self.tracks):
            raise ValueError(f"a list of {len(self.tracks)} was expected, not {shown(value)}")
        return value

    def given(self, names: Dict[str, Any]) -> Any:
        return [track.given(one) for track, one in zip(self.tracks, self.value)]


def _interval(interval: Any, stepsize: Any, steps: Any) -> Numbers:
    if not isinstance(interval, (list, tuple)) or len(interval) != 2:
        raise ValueError(f"an interval has a beginning and an end, which {shown(interval)} has not")
    low, high = interval
    if not stepsize and steps:
        stepsize = abs(float(high) - float(low)) / int(steps)
    return Numbers(low, high, stepsize)


def _spread(values: Sequence[Any], count: int) -> Sequence[Any]:
    """One for each; a single one is for all."""
    spread = list(values) * count if len(values) == 1 else list(values)
    if len(spread) != count:
        raise ValueError(f"{count} sliders were given {len(spread)} of {shown(values)}")
    return spread


def stepped(low: Any, high: Any, step: Any) -> Track:
    """The numbers from one to another in steps, both ends among them where the steps meet them."""
    step = number(step)
    if step == 0 or (number(high) - number(low)) / step < 0:
        raise ValueError(f"steps of {shown(step)} do not lead from {shown(low)} to {shown(high)}")
    # Steps of floats do not add up to the end exactly.
    count = math.floor(float((high - low) / step) + 1e-9) + 1
    if count > _MOST_STEPS:
        return Numbers(low, low + (count - 1) * step, abs(step), snaps=True)
    return Values(_rounded(low + at * step) for at in range(count))


def _rounded(value: Any) -> Any:
    """Without what multiples of floats have too much."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def slider(
    vmin: Any = 100,
    vmax: Any = None,
    step_size: Any = None,
    default: Any = None,
    label: Optional[str] = None,
    display_value: bool = True,
) -> Slider:
    """A slider from `vmin` to `vmax`, in steps if they are given; from 0 to `vmin`; or over the values in `vmin`."""
    return Slider(_track(vmin, vmax, step_size), default, False, display_value, label)


def range_slider(
    vmin: Any = 100,
    vmax: Any = None,
    step_size: Any = None,
    default: Any = None,
    label: Optional[str] = None,
    display_value: bool = True,
) -> Slider:
    """A slider with two handles."""
    return Slider(_track(vmin, vmax, step_size), default, True, display_value, label)


def _track(low: Any, high: Any, step: Any) -> Track:
    if high is None:
        if hasattr(low, "__iter__"):
            return Values(low)
        low, high = 0, low
    return Numbers(low, high) if step is None else stepped(low, high, step)
