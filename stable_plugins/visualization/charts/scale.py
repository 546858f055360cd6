"""Linear scales with round ticks.

Ticks are decimals and therefore exact, whether the values are 1e-320 or 1e308; values
are brought to the size of 1 before they are subtracted, so that nothing overflows.
"""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, localcontext
from fractions import Fraction

#: Enough for the difference of any two neighbouring floats.
_EXACT = Context(prec=60, Emin=-10_000, Emax=10_000)
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Scale:
    """Where values lie between `start` and `end`, and which ticks to draw there."""

    def __init__(self, low, high, start, end, ticks=6, whole=False):
        """`low` and `high` are finite; there will be about `ticks` ticks; `whole` for counts."""
        self.start = start
        self.length = end - start
        with localcontext(_EXACT):
            low, high = Decimal(low), Decimal(high)
            if low == high:  # in the middle of its own neighbourhood
                room = abs(low) / 10 or Decimal(1)
                low, high = low - room, high + room
            self.step = _round_step((high - low) / ticks, whole)
            first = (low / self.step).to_integral_value(ROUND_FLOOR)
            last = (high / self.step).to_integral_value(ROUND_CEILING)
            self.ticks = [(first + at) * self.step for at in range(int(last - first) + 1)]
        largest = max(abs(self.ticks[0]), abs(self.ticks[-1]))
        self._exponent = math.frexp(min(float(largest), 1.7e308))[1]
        self._low = self._near_one(Fraction(self.ticks[0]))
        self._span = self._near_one(Fraction(self.ticks[-1]) - Fraction(self.ticks[0]))

    def _near_one(self, fraction):
        return float(fraction * Fraction(2) ** -self._exponent)

    def share(self, value):
        """0 at the first tick, 1 at the last."""
        near = math.ldexp(value, -self._exponent)
        return (near - self._low) / self._span

    def __call__(self, value):
        return self.start + self.share(value) * self.length

    def tick_places(self):
        """Pairs (place, label)."""
        last = len(self.ticks) - 1
        labels = tick_labels(self.ticks, self.step)
        return [(self.start + self.length * at / last, label) for at, label in enumerate(labels)]


def _round_step(least, whole):
    """The least of 1, 2, 5, 10, … that is not below."""
    power = Decimal(1).scaleb(least.adjusted())
    step = next(power * by for by in (1, 2, 5, 10) if power * by >= least)
    return max(step, Decimal(1)) if whole else step


def tick_labels(ticks, step):
    """All with as many digits as the step needs."""
    largest = max(map(abs, ticks))
    exponent = largest.adjusted()
    # How small the last digit is that tells two ticks apart.
    last = step.normalize(_EXACT).as_tuple().exponent
    if exponent < 9 and (last >= -4 or exponent >= -2):
        labels = [f"{tick:,.{max(0, -last)}f}" for tick in ticks]
    else:
        power = "×10" + str(exponent).translate(_SUPERSCRIPT)
        with localcontext(_EXACT):
            labels = [
                f"{tick.scaleb(-exponent):.{max(0, exponent - last)}f}{power}" if tick else "0"
                for tick in ticks
            ]
    return [label.replace("-", "−", 1) if label[0] == "-" else label for label in labels]


def shown(value):
    """A number for people: grouped, six digits if it is not whole, with a real minus."""
    if isinstance(value, (int, Fraction)) and value == int(value) and abs(value) < 10**15:
        digits = f"{int(value):,}"
    else:
        with localcontext(_EXACT):
            if isinstance(value, Fraction):
                value = Decimal(value.numerator) / Decimal(value.denominator)
            digits = f"{Decimal(value):.6g}"
        digits, _, power = digits.partition("e")
        if "." in digits:
            digits = digits.rstrip("0").rstrip(".")
        if power:
            digits += "×10" + str(int(power)).translate(_SUPERSCRIPT)
    return digits.replace("-", "−", 1) if digits[0] == "-" else digits
