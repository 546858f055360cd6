"""Points of any number of dimensions, as many as can be drawn, and their labels."""

import random
from dataclasses import dataclass, field
from itertools import chain, islice

from runner import read_entities

from .markup import cut, line
from .values import HREF, ID, LABEL, count, found, is_finite, named, number, text, wrong

#: Marks in one picture. A point in three dimensions is drawn four times.
MAX_MARKS = 8000
#: Rows that are looked at to find out which attributes are numbers.
HEAD = 100


@dataclass
class Point:
    row: int
    name: str
    values: tuple[float, ...]
    #: Empty if it has none.
    label: str = ""


@dataclass
class Points:
    """What is drawn of a file, and what is not."""

    dimensions: list[str]
    drawn: list[Point] = field(default_factory=list)
    #: All that have a place.
    total: int = 0
    #: Points without a place, and the first of them.
    left_out: int = 0
    first_left_out: str = ""
    #: Attributes that would have been further dimensions.
    unused: list[str] = field(default_factory=list)
    labelled: bool = False


def read_points(source, asked, own_labels):
    """Reads all points, keeps as many as can be drawn. Raises EntityError."""
    rows = enumerate(read_entities(source), 1)
    head = list(islice(rows, HEAD))
    points = find_dimensions(source, head, asked, own_labels)
    limit = MAX_MARKS // panels(points)
    chance = random.Random(0)
    for row, entity in chain(head, rows):
        values = coordinates(source, entity, row, points.dimensions)
        wrong_at = next((at for at, value in enumerate(values) if not is_finite(value)), None)
        if wrong_at is not None:
            if not points.left_out:
                attribute = points.dimensions[wrong_at]
                what = found(entity.get(attribute)) if attribute in entity else "missing"
                points.first_left_out = f"{named(entity, row)}, {attribute} is {what}"
            points.left_out += 1
            continue
        points.total += 1
        # Reservoir sampling: each point is drawn with the same chance.
        place = len(points.drawn) if points.total <= limit else chance.randrange(points.total)
        if place < limit:
            label = text(entity.get(LABEL)) if own_labels else ""
            point = Point(row, named(entity, row), tuple(map(float, values)), label)
            points.drawn[place : place + 1] = [point]
    points.drawn.sort(key=lambda point: point.row)
    points.labelled = any(point.label for point in points.drawn)
    return points


def find_dimensions(source, head, asked, own_labels):
    """Which attributes are coordinates."""
    samples = {}  # the first value of each attribute that is not empty
    for _, entity in head:
        for attribute, value in entity.items():
            if samples.get(attribute) in (None, ""):
                samples[attribute] = value
    if not head:
        return Points(asked[:3])
    if asked:
        for attribute in asked:
            if attribute not in samples:
                known = ", ".join(cut(name, 40) for name in islice(samples, 20))
                problem = f"expected the attribute {cut(attribute, 60)!r}, found {known}"
                raise wrong(source, *reversed(head[0]), problem)
        return Points(list(dict.fromkeys(asked))[:3])
    skipped = {ID, HREF, LABEL} if own_labels else {ID, HREF}
    numeric = [
        attribute
        for attribute, value in samples.items()
        if attribute not in skipped and value not in (None, "") and number(value) is not None
    ]
    if not numeric:
        others = [f"{cut(name, 40)!r}: {found(samples[name])}" for name in samples if name != ID]
        seen = ", ".join(others[:3]) or "no attributes but the ID"
        problem = f"expected attributes that are numbers, to be coordinates; found {seen}"
        raise wrong(source, *reversed(head[0]), problem)
    return Points(numeric[:3], unused=numeric[3:])


def coordinates(source, entity, row, dimensions):
    values = []
    for attribute in dimensions:
        value = number(entity.get(attribute))
        if value is None:
            what = found(entity[attribute])
            problem = f"{cut(attribute, 60)!r}: expected a number, found {what}"
            raise wrong(source, entity, row, problem)
        values.append(value)
    return values


def read_labels(source, points):
    """Gives the points that are drawn their labels. Raises EntityError."""
    wanted = {}
    for point in points.drawn:
        wanted.setdefault(point.name, []).append(point)
    column = LABEL
    for row, entity in enumerate(read_entities(source), 1):
        if ID not in entity:
            raise wrong(source, entity, row, "expected an ID, to tell which point it belongs to")
        if column not in entity:
            others = [name for name in entity if name not in (ID, HREF)]
            if row > 1 and not others:
                continue  # no label
            if len(others) != 1:
                names = ", ".join(cut(name, 40) for name in others[:10]) or "none"
                problem = f"expected the attribute 'label', or only one besides ID, found {names}"
                raise wrong(source, entity, row, problem)
            column = others[0]
        for point in wanted.get(text(entity[ID]), ()):
            point.label = text(entity[column])
    points.labelled = True


def panels(points):
    return 4 if len(points.dimensions) == 3 else 1


def omissions(points):
    """What the picture does not show."""
    notes = []
    if points.total > len(points.drawn):
        notes.append(
            f"Drawn are {len(points.drawn):,} of {points.total:,} points, chosen at random."
        )
    if points.left_out:
        example = line(points.first_left_out, 120)
        notes.append(
            f"{count(points.left_out, 'point has', 'points have')} no place and "
            f"{'is' if points.left_out == 1 else 'are'} left out: {example}"
            + (", for example." if points.left_out > 1 else ".")
        )
    if points.unused:
        names = ", ".join(line(name, 30) for name in points.unused[:5])
        more = f" and {len(points.unused) - 5} more" if len(points.unused) > 5 else ""
        used = ", ".join(line(name, 30) for name in points.dimensions)
        notes.append(f"Of the dimensions only {used} are drawn, not {names}{more}.")
    return notes
