"""A histogram of counted results, such as those of a quantum circuit."""

import math
from fractions import Fraction

from runner import Choice, Data, Output, plugin, read_entities

from .markup import cut, line, width
from .scale import Scale, shown
from .svg import BAR, EDGE, MUTED, NORMAL, SMALL, Picture, element, rule, text, tooltip, y_axis
from .values import (
    CONTENT_TYPES,
    HREF,
    ID,
    count,
    found,
    is_finite,
    natural,
    number,
    output_name,
    wrong,
)

WIDTH, HEIGHT = 960, 540
#: Bars that can still be told apart: all results of eight qubits.
MAX_BARS = 256
#: Characters of a label below a bar, and in its tooltip.
MAX_LABEL, MAX_LONG = 18, 500


@plugin(
    version="1.0.0",
    title="Histogram",
    description="Draws a histogram of counts, such as the results of a quantum circuit.",
    type="visualization",
    tags=["visualization", "histogram"],
    outputs=[Output("image/svg", "image/svg+xml")],
)
def histogram_visualization(
    task,
    *,
    data: Data(
        "entity/vector",
        CONTENT_TYPES,
        label="Counts",
        description="URL of a file with the counts: one entity whose attributes are the labels.",
    ),
    order: Choice(
        {"file": "As in the file", "label": "By label", "count": "By count, highest first"},
        "Order of the bars",
    ) = "file",
):
    """Draws a bar for each label of a file like `{"00": 480, "01": 20, "10": 24, "11": 500}`.

    `ID` and `href` are no labels. Counts may be negative or fractions (quasi-probabilities).
    Of several entities in the file the first is drawn; of more than 256 labels those with the
    highest counts. The picture says so.
    """
    entities = read_entities(data)
    entity = next(entities, None)
    counts = {} if entity is None else read_counts(data, entity)
    more = 0 if entity is None else sum(1 for _ in entities)

    task.output(
        output_name(data, "histogram", ".svg"),
        draw(data.name, counts, order, more),
        data_type="image/svg",
        content_type="image/svg+xml",
    )
    return f"{count(min(len(counts), MAX_BARS), 'bar')} drawn."


def read_counts(source, entity):
    """The labels and their counts. Raises EntityError."""
    counts = {}
    for label, value in entity.items():
        if label in (ID, HREF):
            continue
        counted = number(value)
        if counted is None or not is_finite(counted):
            problem = f"{cut(label, 60)!r}: expected a finite number as count, found {found(value)}"
            raise wrong(source, entity, 1, problem)
        counts[label] = counted
    return counts


def draw(name, counts, order, more):
    total = sum(map(Fraction, counts.values()))
    bars = chosen_bars(counts, order)
    notes = [f"{count(len(counts), 'label')}, in total {shown(total)}"] if counts else []
    if len(bars) < len(counts):
        rest = shown(total - sum(Fraction(value) for _, value in bars))
        notes.append(
            f"Drawn are the {MAX_BARS} labels with the highest counts; "
            f"the other {len(counts) - len(bars):,} count {rest} together."
        )
    if more:
        notes.append(
            f"Drawn is the first entity of the file; {count(more, 'other is', 'others are')} not."
        )
    picture = Picture("histogram", WIDTH, f"Counts of {name}", notes, described(bars, notes))
    if bars:
        draw_bars(picture, bars, total)
    else:
        picture.message("There are no counts in this file.", HEIGHT)
    return picture.finish(HEIGHT)


def chosen_bars(counts, order):
    bars = list(counts.items())
    if len(bars) > MAX_BARS:
        highest = sorted(range(len(bars)), key=lambda at: (-abs(bars[at][1]), at))[:MAX_BARS]
        bars = [bars[at] for at in sorted(highest)]
    if order == "label":
        bars.sort(key=lambda bar: natural(bar[0]))
    elif order == "count":
        bars.sort(key=lambda bar: -bar[1])
    return bars


def described(bars, notes):
    """The picture in words."""
    if not bars:
        return "A histogram without bars: there are no counts in this file."
    highest = max(bars, key=lambda bar: bar[1])
    lowest = min(bars, key=lambda bar: bar[1])
    parts = ["A histogram.", *(note.rstrip(".") + "." for note in notes)]
    parts.append(f"The highest count is {shown(highest[1])} of {line(highest[0], 60)},")
    parts.append(f"the lowest {shown(lowest[1])} of {line(lowest[0], 60)}.")
    return " ".join(parts)


def draw_bars(picture, bars, total):
    values = [value for _, value in bars]
    whole = all(isinstance(value, int) for value in values)
    low, high = min(0, *values), max(0, *values)
    if low == high:
        high = 1

    def heights(start, end):
        return Scale(low, high, start, end, whole=whole)

    labels = [short(label) for label, _ in bars]
    longest = max(width(label, SMALL) for label in labels)
    tick = max(width(label, SMALL) for _, label in heights(1, 0).tick_places())
    left = EDGE + max(tick + 34, 40)
    right = WIDTH - EDGE
    slot = (right - left) / len(bars)
    size = fitting(labels, slot - 8, (12, 11, 10, 9))
    if size is None:  # slanted, the first of them reaching to the left
        left = max(left, EDGE + longest * 0.72 - slot / 2)
        slot = (right - left) / len(bars)
    bottom = HEIGHT - EDGE - 24 - (18 if size else 12 + longest * 0.72)
    # Room for the numbers above the bars.
    y = heights(bottom, picture.top + 16)

    picture.add(y_axis(y, left, right, "Count"))
    numbers = [shown(value) for value in values]
    number_size = fitting(numbers, slot - 2, (11, 10, 9, 8))
    zero = y(0)
    drawn, above = [], []
    for at, (label, value) in enumerate(bars):
        place, x = y(value), left + slot * at
        share = f" ({shown(float(100 * Fraction(value) / total))} %)" if low == 0 < total else ""
        drawn.append(
            element(
                "rect",
                tooltip(f"{cut(label, MAX_LONG)}: {shown(value)}{share}"),
                x=x + slot * 0.1,
                y=min(zero, place),
                width=slot * 0.8,
                height=abs(zero - place),
                fill=BAR,
                class_="bar",
            )
        )
        if number_size:
            middle = x + slot / 2
            beside = place - 5 if value >= 0 else place + number_size + 3
            above.append(text(numbers[at], middle, beside, number_size, text_anchor="middle"))
    picture.group(*drawn, data_part="bars")
    picture.group(*above, data_part="counts", pointer_events="none")
    picture.add(rule(left, zero, right, zero, "axis"))
    picture.group(*label_row(labels, left, slot, bottom, size), data_part="labels")
    picture.add(text("Label", (left + right) / 2, HEIGHT - EDGE + 4, NORMAL, text_anchor="middle"))


def short(label):
    """A label on one line. A long one keeps its end too, in which neighbours often differ."""
    label = " ".join(label[:MAX_LONG].split()) or "(empty)"
    half = MAX_LABEL // 2
    return label if len(label) <= MAX_LABEL else f"{label[:half]}…{label[1 - half :]}"


def fitting(texts, room, sizes):
    """The first of the sizes in which all texts fit."""
    return next((size for size in sizes if all(width(one, size) <= room for one in texts)), None)


def label_row(labels, left, slot, bottom, size):
    """Side by side, or slanted, then as many as there is room for."""
    every = 1 if size else math.ceil(14 / slot)
    for at in range(0, len(labels), every):
        x = left + slot * (at + 0.5)
        if size:
            yield text(labels[at], x, bottom + 18, size, MUTED, text_anchor="middle")
        else:
            y = bottom + 12
            turned = f"rotate(-45 {x:.2f} {y:.2f})"
            yield text(labels[at], x, y, SMALL, MUTED, text_anchor="end", transform=turned)
