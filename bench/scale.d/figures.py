"""What was measured, as a table and as JSON."""

import statistics


class Aim:
    """What a figure should be: of our value, or of its ratio to the peer's."""

    def __init__(self, text, reached):
        self.text, self._reached = text, reached

    def is_reached(self, ours, ratio):
        return self._reached(ours, ratio)

    @staticmethod
    def ratio(least):
        return Aim(f">= {least:g} x", lambda _, ratio: ratio is not None and ratio >= least)

    @staticmethod
    def at_least(least, unit):
        return Aim(f">= {least:,} {unit}", lambda ours, _: ours >= least)

    @staticmethod
    def below(most, unit):
        return Aim(f"< {most:g} {unit}", lambda ours, _: ours < most)


class Figure:
    """One value, measured several times."""

    def __init__(self, values, unit):
        self.values, self.unit = list(values), unit
        self.median = statistics.median(self.values)

    def __str__(self):
        text = f"{number(self.median)} {self.unit}"
        if len(self.values) > 1:
            text += f" ({number(min(self.values))}–{number(max(self.values))})"
        return text

    def to_json(self):
        return {"median": self.median, "values": self.values, "unit": self.unit}


class Row:
    """A scenario: our figure beside one peer's. Where both were measured in turns, the ratio is the median of
    the ratios of the turns. `less` says that less is better; a ratio above 1 always means that we are better."""

    def __init__(self, scenario, ours, peer_name=None, peer=None, aim=None, less=False):
        self.scenario, self.ours, self.peer_name, self.peer, self.aim = scenario, ours, peer_name, peer, aim
        self.ratio, self.ratios, self.error = None, [], None
        if peer is not None:
            one = len(peer.values) == 1
            pairs = zip(ours.values, peer.values * len(ours.values) if one else peer.values)
            self.ratios = [theirs / mine if less else mine / theirs for mine, theirs in pairs if mine and theirs]
            self.ratio = statistics.median(self.ratios) if self.ratios else None

    @classmethod
    def missing(cls, scenario, error):
        row = cls(scenario, None)
        row.error = str(error)
        return row

    @property
    def reached(self):
        if self.aim is None or self.ours is None:
            return None
        return self.aim.is_reached(self.ours.median, self.ratio)

    @property
    def is_unanimous(self):
        """Whether each turn by itself says the same."""
        ratios = self.ratios if len(self.ratios) == len(self.ours.values) else [self.ratio] * len(self.ours.values)
        return all(self.aim.is_reached(*turn) == self.reached for turn in zip(self.ours.values, ratios))

    def cells(self):
        if self.error:
            return [self.scenario, f"not measured: {self.error}", "", "", "", ""]
        peer = f"{self.peer_name}: {self.peer}" if self.peer else ""
        ratio = f"{self.ratio:.2f} x" if self.ratio is not None else ""
        reached = {None: "", True: "yes", False: "NO"}[self.reached]
        if reached and not self.is_unanimous:
            reached += ", not in each turn"
        return [self.scenario, str(self.ours), peer, ratio, self.aim.text if self.aim else "", reached]

    def to_json(self):
        return {
            "scenario": self.scenario,
            "ours": self.ours and self.ours.to_json(),
            "peer": self.peer and {"name": self.peer_name, **self.peer.to_json()},
            "ratio": self.ratio,
            "ratios": self.ratios,
            "aim": self.aim and self.aim.text,
            "reached": self.reached,
            "error": self.error,
        }


def number(value):
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


HEAD = ["scenario", "ours", "peer", "ratio", "aim", "reached"]


def table(rows):
    cells = [HEAD] + [row.cells() for row in rows]
    # A reason is as long as it is, and has no cells beside it.
    whole = [line for line in cells if not line[1].startswith("not measured")]
    widths = [max(len(line[column]) for line in whole) for column in range(len(HEAD))]
    widths[0] = max(len(line[0]) for line in cells)
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
