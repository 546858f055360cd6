"""Scalable vector graphics that look right on light and dark pages.

The light colours are attributes, so that they hold even where style sheets are not
allowed; the style sheet replaces them on dark screens.
"""

import math

from .markup import cut, escape, line, width, wrap

#: By Okabe and Ito: to be told apart by the colour-blind, on white and on black.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
BAR = COLOURS[0]
INK, MUTED, AXIS, GRID, PAPER = "#1f2430", "#5b6270", "#8a91a0", "#dfe3ea", "#ffffff"
STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
.bar:hover, .mark:hover { opacity: .7 }
@media (prefers-color-scheme: dark) {
  .paper { fill: #15171c } .ink { fill: #e8eaf0 } .muted { fill: #a9afbd }
  .axis { stroke: #737b8c } .grid { stroke: #2e323c } .bar { fill: #56b4e9 }
  .mark { stroke: #e8eaf0 }
}
"""
#: Space around the whole picture.
EDGE = 24
#: Sizes of text.
HEADING, NORMAL, SMALL = 18, 13, 11


def decimal(value):
    """A coordinate, to a hundredth of a pixel."""
    return f"{value:.2f}".rstrip("0").rstrip(".").replace("-0", "0" if abs(value) < 0.005 else "-0")


def element(name, content="", **attributes):
    """An element. `content` is markup; attributes are plain: `font_size=12`, `class_="ink"`."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_attribute(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def _attribute(value):
    return decimal(value) if isinstance(value, (int, float)) else value


def text(content, x, y, size=NORMAL, colour=INK, **attributes):
    kind = "ink" if colour == INK else "muted"
    return element(
        "text", escape(content), x=x, y=y, font_size=size, fill=colour, class_=kind, **attributes
    )


def rule(x1, y1, x2, y2, kind="grid"):
    stroke = GRID if kind == "grid" else AXIS
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, class_=kind)


def tooltip(content):
    return element("title", escape(content))


class Picture:
    """A picture with a heading and notes below it. What is drawn begins at `top`."""

    def __init__(self, kind, size, heading, notes, description):
        self.kind = kind
        self.size = size
        self.heading = line(heading, 200)
        self.description = description
        room = size - 2 * EDGE
        title = cut(self.heading, int(room / width("x", HEADING)))
        self.parts = [text(title, EDGE, EDGE + 14, HEADING, font_weight=600)]
        self.top = EDGE + 20
        for part in (part for note in notes for part in wrap(note, room, NORMAL)):
            self.top += 18
            self.parts.append(text(part, EDGE, self.top, NORMAL, MUTED))
        self.top += 20

    def add(self, *parts):
        self.parts.extend(parts)

    def group(self, *parts, **attributes):
        self.parts.append(element("g", "\n".join(parts), **attributes))

    def message(self, content, height):
        """Instead of a drawing."""
        middle = (self.size / 2, (self.top + height) / 2)
        self.add(text(content, *middle, 16, MUTED, text_anchor="middle"))

    def finish(self, height):
        """The document."""
        names = (f"{self.kind}-title", f"{self.kind}-description")
        parts = [
            element("title", escape(self.heading), id=names[0]),
            element("desc", escape(self.description), id=names[1]),
            element("style", STYLE),
            element("rect", width="100%", height="100%", fill=PAPER, class_="paper"),
            *self.parts,
        ]
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + element(
            "svg",
            "\n" + "\n".join(parts) + "\n",
            xmlns="http://www.w3.org/2000/svg",
            width=self.size,
            height=height,
            viewBox=f"0 0 {decimal(self.size)} {decimal(height)}",
            role="img",
            aria_labelledby=" ".join(names),
            style="max-width:100%;height:auto",
        )


def y_axis(scale, left, right, title):
    """Ticks and lines across, from `left` to `right`; the title stands upright at the left."""
    parts, widest = [], 0
    for y, label in scale.tick_places():
        parts.append(rule(left, y, right, y))
        parts.append(text(label, left - 8, y + 4, SMALL, MUTED, text_anchor="end"))
        widest = max(widest, width(label, SMALL))
    x, y = left - widest - 18, scale.start + scale.length / 2
    title = cut(title, max(8, int(abs(scale.length) / width("x", NORMAL))))
    turned = f"rotate(-90 {decimal(x)} {decimal(y)})"
    parts.append(text(title, x, y, text_anchor="middle", transform=turned))
    return element("g", "\n".join(parts), data_axis="y")


def x_axis(scale, top, bottom, title):
    """Ticks and lines upwards, from `bottom` to `top`; the title stands below."""
    parts = []
    for x, label in scale.tick_places():
        parts.append(rule(x, top, x, bottom))
        parts.append(text(label, x, bottom + 18, SMALL, MUTED, text_anchor="middle"))
    middle = scale.start + scale.length / 2
    title = cut(title, max(8, int(abs(scale.length) / width("x", NORMAL))))
    parts.append(text(title, middle, bottom + 38, text_anchor="middle"))
    return element("g", "\n".join(parts), data_axis="x")


def _polygon(corners, radius, turn=0.0):
    angles = [math.tau * at / corners + turn - math.pi / 2 for at in range(corners)]
    points = [f"{decimal(radius * math.cos(a))} {decimal(radius * math.sin(a))}" for a in angles]
    return "M" + "L".join(points) + "Z"


def shapes(radius):
    """Five outlines of about the same area, around 0: circle, square, triangle, diamond, cross."""
    r = decimal(radius)
    third = decimal(radius * 0.42)
    reach = decimal(radius * 1.15)
    return (
        f"M-{r} 0a{r} {r} 0 1 0 {decimal(2 * radius)} 0a{r} {r} 0 1 0-{decimal(2 * radius)} 0Z",
        _polygon(4, radius * 1.25, math.pi / 4),
        _polygon(3, radius * 1.4),
        _polygon(4, radius * 1.3),
        f"M-{third}-{reach}H{third}V-{third}H{reach}V{third}H{third}V{reach}"
        f"H-{third}V{third}H-{reach}V-{third}H-{third}Z",
    )


def mark(outline, x, y, colour, title=""):
    """A point. Without colour it is hollow."""
    return element(
        "path",
        tooltip(title) if title else "",
        d=outline,
        transform=f"translate({decimal(x)} {decimal(y)})",
        fill=colour or "none",
        stroke=INK,
        stroke_width=0.7 if colour else 1,
        stroke_opacity=0.7,
        pointer_events=None if colour else "all",
        class_="mark",
    )
