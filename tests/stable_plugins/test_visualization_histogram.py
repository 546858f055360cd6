"""The histogram: bars are read back from the picture and compared with the counts."""

import json
import math
import unittest
from fractions import Fraction
from pathlib import Path

from support import DATA
from test_visualization import NASTY, NASTY_SHOWN, SVG, Drawing

HISTOGRAMS = DATA / "histogram_visualization"
RECTANGLE = ("x", "y", "width", "height")


class Histogram(Drawing):
    plugin = "histogram-visualization"

    def bars(self, root):
        """Pairs (label, rectangle)."""
        found = []
        for bar in root.iterfind(".//*[@data-part='bars']/*"):
            label, _, _ = bar.find(SVG + "title").text.rpartition(": ")
            found.append((label, {key: float(bar.get(key)) for key in RECTANGLE}))
        return found

    def check_bars(self, root, counts):
        """Each bar stands on zero and reaches to its count."""
        bars = self.bars(root)
        self.assertEqual([label for label, _ in bars], list(counts))
        y = self.scale(root, "y")
        right = 0
        for (_, bar), count in zip(bars, counts.values()):
            self.assertAlmostEqual(bar["y"], min(y(0), y(count)), delta=0.02)
            self.assertAlmostEqual(bar["y"] + bar["height"], max(y(0), y(count)), delta=0.03)
            self.assertGreater(bar["x"], right)
            right = bar["x"] + bar["width"]
        self.assertLess(max((bar["width"] for _, bar in bars)) - bars[0][1]["width"], 0.02)
        # Proportional to the counts, without a look at the axis.
        tallest = max(bars, key=lambda bar: bar[1]["height"])
        for label, bar in bars:
            if counts[tallest[0]]:
                share = Fraction(counts[label]) / Fraction(counts[tallest[0]])
                expected = abs(float(share)) * tallest[1]["height"]
                self.assertAlmostEqual(bar["height"], expected, delta=0.02)

    def test_samples(self):
        samples = sorted(HISTOGRAMS.glob("*.json"))
        self.assertEqual(len(samples), 5)
        for path in samples:
            with self.subTest(path.name):
                counts = json.loads(path.read_text())
                counts.pop("ID", None)
                root = self.draw(path)
                self.check_bars(root, counts)
                self.assertEqual(self.name, f"histogram_{path.stem}.svg")
                bars = "1 bar" if len(counts) == 1 else f"{len(counts)} bars"
                self.assertEqual(self.result.log, [f"{bars} drawn."])
                words = self.words(root)
                self.assertIn(path.name, words)
                self.assertIn(f"in total {sum(counts.values()):,}", words)
                self.assertEqual(
                    [one.text for one in self.part(root, "labels")],
                    list(counts),
                    "every label is readable",
                )
                self.assertEqual(
                    [one.text for one in self.part(root, "counts")],
                    [f"{count:,}" for count in counts.values()],
                )

    def test_tooltips_and_description(self):
        root = self.draw({"a": 1, "b": 3, "ID": "x", "href": "y"})
        titles = [bar.find(SVG + "title").text for bar in self.part(root, "bars")]
        self.assertEqual(titles, ["a: 1 (25 %)", "b: 3 (75 %)"])
        described = root.find(SVG + "desc").text
        self.assertIn("The highest count is 3 of b, the lowest 1 of a.", described)
        self.assertEqual([value for value, _ in self.ticks(root, "y")[0]], [0, 1, 2, 3])

    def test_order(self):
        counts = {"q10": 1, "q2": 5, "q1": 3}
        for order, expected in [
            ("file", ["q10", "q2", "q1"]),
            ("label", ["q1", "q2", "q10"]),
            ("count", ["q2", "q1", "q10"]),
        ]:
            with self.subTest(order):
                root = self.draw(counts, {"order": order})
                self.check_bars(root, {label: counts[label] for label in expected})

    def test_formats(self):
        for name, content in [
            ("a.csv", "ID,00,11\nx,10, 2e1 \n"),
            ("a.jsonl", '{"00": 10, "11": 20}\n'),
            ("a.json", '[{"00": "10", "11": "20"}]'),
        ]:
            with self.subTest(name):
                self.check_bars(self.draw(self.file(content, name)), {"00": 10, "11": 20})

    def test_numbers(self):
        for counts in [
            {"a": 0, "b": 0},
            {"a": -5, "b": 7},
            {"a": -5, "b": -7},
            {"a": 0.25, "b": -0.0625, "c": 0.8125},
            {"a": 1e308, "b": -1.7e308, "c": 1},
            {"a": 5e-324, "b": 1e-322},
            {"a": 10**300, "b": 10**299},
            {"a": 7, "b": 7, "c": 7},
            {"a": 2**63, "b": 2**64},
            {str(at): at for at in range(256)},
            {"x" * 200 + str(at): at for at in range(30)},
            {"": 1, " ": 2, "日本語": 3, "👾" * 30: 4},
        ]:
            with self.subTest(list(counts.items())[:3]):
                self.check_bars(self.draw(counts), counts)

    def test_nothing(self):
        for content in ["[]", "{}", '{"ID": "x", "href": ""}']:
            with self.subTest(content):
                root = self.draw(content)
                self.assertEqual(self.bars(root), [])
                self.assertIn("There are no counts in this file.", self.words(root))
        self.assertIn("no counts", self.words(self.draw(self.file("", "empty.csv"))))

    def test_long_labels(self):
        root = self.draw({"0" * 30 + "1": 1, "a\n b": 2, "": 3})
        self.assertEqual(
            [one.text for one in self.part(root, "labels")],
            ["000000000…00000001", "a b", "(empty)"],
        )

    def test_several_entities(self):
        root = self.draw([{"a": 1}, {"b": 2}, {"c": 3}])
        self.check_bars(root, {"a": 1})
        self.assertIn("the first entity of the file; 2 others are not", self.words(root))

    def test_many_labels(self):
        counts = {f"{at:017b}": (at * 7919) % 100_003 for at in range(100_000)}
        root = self.draw(counts)
        drawn = sorted(counts, key=lambda label: -counts[label])[:256]
        self.check_bars(root, {label: counts[label] for label in sorted(drawn)})
        words = self.words(root)
        self.assertIn("100,000 labels", words)
        rest = sum(counts.values()) - sum(counts[label] for label in drawn)
        self.assertIn(f"the other 99,744 count {rest:,} together", words)
        self.assertEqual(self.result.log, ["256 bars drawn."])

    def test_markup(self):
        path = self.file({NASTY: 1, "</svg>": 2}, "<b>&'\".json")
        root = self.draw(path)
        self.assertEqual([label for label, _ in self.bars(root)], [NASTY_SHOWN, "</svg>"])
        self.assertIn("<b>&'\".json", self.words(root))

    def test_refused(self):
        for value, expected in [
            (None, "'00': expected a finite number as count, found nothing"),
            ("many", "expected a finite number as count, found 'many'"),
            ("NaN", "found 'NaN'"),
            ("-inf", "found '-inf'"),
            ("1_000", "found '1_000'"),
            ("٣", "found '٣'"),
            (True, "found a boolean (true)"),
            ({"a": 1}, 'found an object ({"a": 1})'),
            ([1], "found an array ([1])"),
            (math.nan, "found nan"),
            (10**400, "found 1000"),
            ("9" * 4000, "found '9999"),
            (NASTY, "found"),
        ]:
            with self.subTest(value=expected):
                self.refused({"ID": "it", "00": value}, "data.json: row 1 (ID 'it'): ", expected)
        self.refused("[1]", "data.json: line 1, column 2: expected an object")
        self.refused("", "expected an array of objects, found the end of the file")
        self.refused("ID,a\n1,2,3\n" * 2, "data.json: line 1, column 1")
        self.refused(Path(__file__), "no entities can be read from media type 'text/x-python'")


if __name__ == "__main__":
    unittest.main()
