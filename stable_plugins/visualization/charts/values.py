"""Numbers and labels of entities, and where in the file they are wrong."""

import json
import math
import re
from pathlib import PurePosixPath

from runner import EntityError

from .markup import cut

ID, HREF, LABEL = "ID", "href", "label"
#: The formats that `read_entities` reads.
CONTENT_TYPES = ["application/json", "text/csv", "application/X-lines+json"]

_NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|infinity)|[+-]?nan", re.A | re.I
)


def number(value):
    """A number, also one written as text; NaN for what is left empty. None if it is no number."""
    if value is None or value == "":
        return math.nan
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            return math.nan if not text else None
        # An integer longer than that is no longer a number that could be drawn, see `is_finite`.
        return int(text) if len(text) < 400 and text.lstrip("+-").isdigit() else float(text)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    return None


def is_finite(value):
    """Whether a number has a place on an axis."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond 1.8e308
        return False


def text(value):
    """A value of an entity as text; a missing one is empty."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def named(entity, row):
    """What to call an entity: its ID, or its row where it has none."""
    return text(entity.get(ID)) or f"row {row}"


def wrong(source, entity, row, problem):
    """The error of one entity, for people who have the file open."""
    own = text(entity.get(ID))
    where = f"row {row} (ID {cut(own, 40)!r})" if own else f"row {row}"
    return EntityError(source.name, where, problem)


def found(value):
    """A value as an error message shows it."""
    kinds = {dict: "an object", list: "an array", bool: "a boolean", type(None): "nothing"}
    kind = kinds.get(type(value))
    shown = cut(repr(value) if kind is None else text(value), 60)
    return shown if kind is None else f"{kind} ({shown})" if shown else kind


def natural(label):
    """A key that sorts numbers as numbers and `q2` before `q10`."""
    value = number(label) if label else None
    if value is not None and is_finite(value):
        return (0, value, label)
    parts = re.split(r"(\d{1,18})", label, flags=re.A)
    return (1, [(int(part), "") if part.isdigit() else (-1, part) for part in parts], label)


def output_name(source, prefix, ending):
    """`plot_points.svg` for `points.json`."""
    return f"{prefix}_{PurePosixPath(source.name).stem or 'data'}{ending}"


def count(number, noun, plural=None):
    """`1 point`, `1,000 points`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
