"""A scatter plot of points in one, two or three dimensions, with clusters."""

import math
from collections import Counter
from dataclasses import dataclass

from runner import Data, List, Output, plugin

from .markup import cut, line, width
from .points import Points, omissions, read_labels, read_points
from .scale import Scale, shown
from .svg import (
    COLOURS,
    EDGE,
    MUTED,
    NORMAL,
    SMALL,
    Picture,
    element,
    mark,
    rule,
    shapes,
    text,
    x_axis,
    y_axis,
)
from .values import CONTENT_TYPES, count, natural, output_name

WIDTH = 960
#: Clusters with a look of their own: each of six colours with each of five shapes.
MAX_CLUSTERS = 30


@plugin(
    version="1.0.0",
    title="Scatter plot",
    description="Draws points in two or three dimensions, and the clusters that they belong to.",
    type="visualization",
    tags=["visualization", "scatter", "cluster"],
    outputs=[Output("image/svg", "image/svg+xml")],
)
def scatter_visualization(
    task,
    *,
    entity_url: Data(
        "entity/vector",
        CONTENT_TYPES,
        label="Points",
        description="URL of a file of entities whose attributes are the coordinates.",
    ),
    clusters_url: Data(
        "entity/label",
        CONTENT_TYPES,
        label="Clusters",
        description="URL of a file of entities with the same IDs and a `label`.",
    ) = None,
    dimensions: List(
        str,
        "Dimensions",
        "Attributes to draw, one to three; the first ones that are numbers if left empty.",
        max_items=3,
    ) = None,
):
    """Draws a point for each entity. In three dimensions, from three sides and at an angle.

    Clusters come from a second file or, without one, from the attribute `label` of the points.
    Points without a label are hollow. A coordinate that is empty, not a number (NaN) or infinite
    has no place: the point is left out. Of very many points a random selection is drawn, the same
    every time. The picture tells what is missing.
    """
    points = read_points(entity_url, dimensions or [], clusters_url is None)
    if clusters_url is not None:
        read_labels(clusters_url, points)
    task.output(
        output_name(entity_url, "scatter", ".svg"),
        draw(entity_url.name, points),
        data_type="image/svg",
        content_type="image/svg+xml",
    )
    return "\n".join([f"{count(len(points.drawn), 'point')} drawn.", *omissions(points)])


# --- drawing ---------------------------------------------------------------


def looks(points):
    """Per label: (colour, number of the shape). Labels that are not there look like no label."""
    sizes = Counter(point.label for point in points.drawn if point.label)
    ordered = sorted(sizes, key=natural)
    if len(ordered) > MAX_CLUSTERS:
        largest = sorted(ordered, key=lambda label: -sizes[label])[:MAX_CLUSTERS]
        ordered = sorted(largest, key=natural)
    # Six colours and five shapes: thirty pairs before one comes again.
    styles = {label: (COLOURS[at % 6], at % 5) for at, label in enumerate(ordered)}
    return styles, sizes


def draw(name, points):
    styles, sizes = looks(points)
    notes = [count(points.total, "point")] if points.drawn else []
    if points.labelled and sizes:
        notes[0] += f" in {count(len(sizes), 'cluster')}"
    notes += omissions(points)
    if len(styles) < len(sizes):
        notes.append(f"The {MAX_CLUSTERS} largest clusters are coloured; the others are hollow.")
    legend = legend_entries(points, styles, sizes)
    size = 4.5 if len(points.drawn) <= 500 else 3.5 if len(points.drawn) <= 2000 else 2.5
    picture = Picture("scatter", WIDTH, f"Points of {name}", notes, described(points, notes, sizes))
    if not points.drawn:
        picture.message("There are no points to draw in this file.", 540)
        return picture.finish(540)

    room = legend_width(legend)
    right = WIDTH - EDGE - room
    style = Style(points, styles, shapes(size))
    if len(points.dimensions) == 3:
        bottom = draw_three(picture, style, right)
    else:
        bottom = max(540, picture.top + 400)
        box = (EDGE, picture.top, right, bottom - EDGE)
        titles = points.dimensions if len(points.dimensions) == 2 else [points.dimensions[0], None]
        draw_plane(picture, style, box, (0, 1), titles)
    draw_legend(picture, legend, right + 24)
    return picture.finish(max(bottom, picture.top + 34 + 18 * len(legend) + EDGE))


def described(points, notes, sizes):
    """The picture in words."""
    if not points.drawn:
        return "A scatter plot without points." + " ".join(["", *notes])
    parts = ["A scatter plot.", *(note.rstrip(".") + "." for note in notes)]
    for at, dimension in enumerate(points.dimensions):
        low, high = extent(points, at)
        parts.append(f"{line(dimension, 60)}: {shown(low)} to {shown(high)}.")
    if sizes:
        largest = [f"{line(label, 60)} ({size:,})" for label, size in sizes.most_common(5)]
        parts.append(f"The largest clusters: {', '.join(largest)}.")
    return " ".join(parts)


@dataclass
class Style:
    """How each point is drawn."""

    points: Points
    looks: dict[str, tuple[str, int]]
    outlines: tuple[str, ...]

    def mark(self, point, x, y):
        # Points that all have no label are no special ones.
        colour, shape = self.looks.get(point.label, (None, 0))
        if not self.points.labelled:
            colour = COLOURS[0]
        lines = [cut(point.name, 200)]
        for dimension, value in zip(self.points.dimensions, point.values):
            lines.append(f"{cut(dimension, 60)}: {shown(value)}")
        if self.points.labelled:
            lines.append(f"cluster: {cut(point.label, 200) or 'none'}")
        return mark(self.outlines[shape], x, y, colour, "\n".join(lines))


def extent(points, at):
    values = [point.values[at] for point in points.drawn]
    return min(values), max(values)


def axis(points, at, start, end, ticks=6):
    """The scale of a dimension; with as many ticks as have room, if it lies horizontally."""
    while True:
        scale = Scale(*extent(points, at), start, end, ticks)
        places = scale.tick_places()
        widest = max(width(label, SMALL) for _, label in places) + 10
        if ticks == 1 or start > end or widest * (len(places) - 1) <= end - start:
            return scale
        ticks -= 1


def draw_plane(picture, style, box, axes, titles):
    """Two dimensions against each other, within a box that has room for their ticks."""
    left, top, right, bottom = box
    points = style.points
    flat = titles[1] is None
    bottom -= 44
    top += 8
    if flat:
        y = Scale(-1, 1, bottom, top)
    else:
        y = axis(points, axes[1], bottom, top)
        left += 34 + max(width(label, SMALL) for _, label in y.tick_places())
    x = axis(points, axes[0], left + 8, right - 16, 8)
    parts = [x_axis(x, top, bottom, line(titles[0], 60))]
    if flat:
        parts.append(rule(x.start, y(0), x.start + x.length, y(0), "axis"))
    else:
        parts.append(y_axis(y, x.start, x.start + x.length, line(titles[1], 60)))
    marks = []
    for point in points.drawn:
        height = 0 if flat else point.values[axes[1]]
        marks.append(style.mark(point, x(point.values[axes[0]]), y(height)))
    parts.append(element("g", "\n".join(marks), data_part="points"))
    picture.group(*parts, data_part="plane")


def draw_three(picture, style, right):
    """From the front, from the side and from above, and all of it at an angle."""
    side = min((right - EDGE - 16) / 2, 440)
    names = style.points.dimensions
    across = [EDGE, EDGE + side + 16]
    down = [picture.top, picture.top + side + 16]
    for column, row, axes in ((0, 0, (0, 1)), (1, 0, (2, 1)), (0, 1, (0, 2))):
        box = (across[column], down[row], across[column] + side, down[row] + side)
        draw_plane(picture, style, box, axes, [names[axes[0]], names[axes[1]]])
    draw_space(picture, style, across[1] + side / 2, down[1] + side / 2 - 8, side)
    return down[1] + side + EDGE


#: From where one looks at the cube: to its side, and down on it.
AZIMUTH, ELEVATION = math.radians(32), math.radians(24)


def project(x, y, z):
    """A place in the cube from -1 to 1, y upwards, as (right, down, towards the eye)."""
    across = x * math.cos(AZIMUTH) + z * math.sin(AZIMUTH)
    depth = z * math.cos(AZIMUTH) - x * math.sin(AZIMUTH)
    down = depth * math.sin(ELEVATION) - y * math.cos(ELEVATION)
    return across, down, depth * math.cos(ELEVATION) + y * math.sin(ELEVATION)


def draw_space(picture, style, middle, centre, side):
    points = style.points
    size = side / 3.4
    scales = [Scale(*extent(points, at), -1, 1) for at in range(3)]

    def place(*at):
        across, down, near = project(*at)
        return middle + size * across, centre + size * down, near

    corners = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    parts = []
    for corner in corners:
        for at in range(3):
            other = tuple(1 if i == at else value for i, value in enumerate(corner))
            if corner[at] < 0:
                kind = "axis" if tuple(corner) in AXES[at] else "grid"
                parts.append(rule(*place(*corner)[:2], *place(*other)[:2], kind))
    for at, (corner,) in enumerate(AXES):
        ends = [list(corner), list(corner)]
        ends[1][at] = 1
        parts += axis_names(scales[at], points.dimensions[at], at, *(place(*end) for end in ends))
    drawn = []
    for point in points.drawn:
        x, y, near = place(*(scale(value) for scale, value in zip(scales, point.values)))
        drawn.append((near, style.mark(point, x, y)))
    drawn.sort(key=lambda pair: pair[0])  # the nearest last, over the others
    parts.append(element("g", "\n".join(one for _, one in drawn), data_part="points"))
    picture.group(*parts, data_part="space")


#: Where the axes of x, y and z begin: at the lower front and at the left.
AXES = (((-1, -1, 1),), ((-1, -1, -1),), ((1, -1, -1),))


def axis_names(scale, name, at, low, high):
    """The name of an axis at its middle, its first and last tick at its ends."""
    labels = [label for _, label in scale.tick_places()]
    anchor, dx, dy = (("end", -4, 16), ("end", -8, 4), ("start", 6, 14))[at]
    parts = [
        text(labels[0], low[0] + dx, low[1] + dy, SMALL, MUTED, text_anchor=anchor),
        text(labels[-1], high[0] + dx, high[1] + dy, SMALL, MUTED, text_anchor=anchor),
    ]
    x, y = (low[0] + high[0]) / 2, (low[1] + high[1]) / 2
    parts.append(text(line(name, 16), x + 2 * dx, y + dy, NORMAL, text_anchor=anchor))
    return parts


# --- legend ----------------------------------------------------------------


def legend_entries(points, styles, sizes):
    """Triples (text, colour, shape)."""
    if not points.labelled or not points.drawn:
        return []
    entries = [(f"{line(label, 22)} ({sizes[label]:,})", *look) for label, look in styles.items()]
    others = len(sizes) - len(styles)
    if others:
        inside = sum(size for label, size in sizes.items() if label not in styles)
        entries.append((f"{count(others, 'other')} ({inside:,})", None, 0))
    without = sum(not point.label for point in points.drawn)
    if without:
        entries.append((f"no label ({without:,})", None, 0))
    return entries


def legend_width(entries):
    return max((width(entry[0], NORMAL) for entry in entries), default=-40) + 40


def draw_legend(picture, entries, left):
    if not entries:
        return
    outlines = shapes(5)
    parts = [text("Cluster", left, picture.top + 16, NORMAL, font_weight=600)]
    for at, (name, colour, shape) in enumerate(entries):
        y = picture.top + 38 + 18 * at
        parts.append(mark(outlines[shape], left + 6, y - 4, colour))
        parts.append(text(name, left + 18, y, NORMAL))
    picture.group(*parts, data_part="legend")
