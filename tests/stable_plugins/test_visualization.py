"""What the tests of the visualizations share, and the descriptions of the three."""

import json
import re
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from fractions import Fraction
from pathlib import Path

from support import host

SVG = "{http://www.w3.org/2000/svg}"
#: Breaks out of attributes, elements, comments and style sheets, if anything does.
NASTY = "\"'><script>alert(1)</script><!-- ]]> </style></title></svg>&amp;\x00\x0b\ud800\u202e"
#: How a picture shows it.
NASTY_SHOWN = re.sub("[\x00\x0b\ud800\u202e]", "\ufffd", NASTY)
FORMATS = ["application/json", "text/csv", "application/X-lines+json"]


class Case(unittest.TestCase):
    #: The plugin, its first input, and what it writes.
    plugin, field, kinds = "", "data", ()

    @classmethod
    def setUpClass(cls):
        cls.host = host("visualization/charts").__enter__()
        cls.addClassCleanup(cls.host.close)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, content, name="data.json"):
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def run_on(self, source, values=None, **inputs):
        if not isinstance(source, Path):
            source = self.file(source)
        inputs = {self.field: source, **inputs}
        urls = {key: "http://example.org/" for key in inputs}
        return self.host.run(self.plugin, {**urls, **(values or {})}, inputs=inputs)

    def output(self, source, values=None, **inputs):
        self.result = self.run_on(source, values, **inputs)
        self.assertIsNone(self.result.error, self.result.error)
        (output,) = self.result.outputs
        self.assertEqual((output.data_type, output.content_type), self.kinds)
        self.name = output.name
        return output.text

    def refused(self, source, *expected, **inputs):
        result = self.run_on(source, **inputs)
        self.assertIsNotNone(result.error)
        self.assertEqual(result.outputs, [])
        message = result.error["message"].replace("\\", "")  # it is the error's repr
        for part in expected:
            self.assertIn(part, message)
        self.assertLess(len(result.error["message"]), 1000)


class Drawing(Case):
    """What both pictures have in common."""

    kinds = ("image/svg", "image/svg+xml")

    def draw(self, source, values=None, **inputs):
        text = self.output(source, values, **inputs)
        root = ElementTree.fromstring(text)
        self.check_picture(root, text)
        return root

    def check_picture(self, root, text):
        self.assertEqual((root.tag, root.get("role")), (SVG + "svg", "img"))
        names = {child.get("id"): child for child in root if child.get("id")}
        titles = [names[name] for name in root.get("aria-labelledby").split()]
        self.assertEqual([title.tag for title in titles], [SVG + "title", SVG + "desc"])
        self.assertTrue(all(title.text for title in titles))
        self.assertIn("prefers-color-scheme: dark", root.find(SVG + "style").text)
        kinds = "svg g title desc style rect line path text".split()
        self.assertLessEqual({one.tag for one in root.iter()}, {SVG + kind for kind in kinds})
        for one in root.iter():
            for key, value in one.attrib.items():
                self.assertNotRegex(key, r"^on|href")
                self.assertNotRegex(value, r"url\(")
                self.assertNotRegex(value, r"\b(nan|inf)\b", (one.tag, key))
        _, _, width, height = map(float, root.get("viewBox").split())
        for kind in ("x", "x1", "x2"):
            for one in root.findall(f".//*[@{kind}]"):
                self.assertTrue(-1 <= float(one.get(kind)) <= width + 1, one.attrib)
        for kind in ("y", "y1", "y2"):
            for one in root.findall(f".//*[@{kind}]"):
                self.assertTrue(-1 <= float(one.get(kind)) <= height + 1, one.attrib)

    def words(self, root):
        return " ".join(one.text or "" for one in root.iter(SVG + "text"))

    def part(self, root, name):
        return root.find(f".//*[@data-part='{name}']")

    def ticks(self, root, axis):
        """Pairs (value, place) from the labels, and the lines that belong to them."""
        group = root.find(f".//*[@data-axis='{axis}']")
        *labels, title = group.findall(SVG + "text")
        places = [float(line.get(axis + "1")) for line in group.findall(SVG + "line")]
        self.assertEqual(len(labels), len(places))
        self.assertGreaterEqual(len(labels), 2)
        ticks = [(tick_value(label.text), place) for label, place in zip(labels, places)]
        steps = [after[0] - before[0] for before, after in zip(ticks, ticks[1:])]
        self.assertEqual(len(set(steps)), 1, "ticks are equally far from each other")
        digits = f"{steps[0].numerator * 10**400 // steps[0].denominator}".rstrip("0")
        self.assertIn(digits, ("1", "2", "5"), f"a round step, not {float(steps[0])}")
        return ticks, title.text

    def scale(self, root, axis):
        """Where a value belongs, from the first and last tick alone, in exact arithmetic."""
        ticks, _ = self.ticks(root, axis)
        (low, start), (high, end) = ticks[0], ticks[-1]
        start, end = Fraction(start), Fraction(end)

        def place(value):
            return float(start + (Fraction(value) - low) / (high - low) * (end - start))

        for value, at in ticks:
            self.assertAlmostEqual(place(value), at, delta=0.02)
        return place


def tick_value(label):
    """The number behind a label such as `−1,500` or `2.5×10⁹`, exactly."""
    digits, _, power = label.replace("−", "-").replace(",", "").partition("×10")
    power = power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    return Fraction(digits) * Fraction(10) ** int(power or 0)


class Descriptions(unittest.TestCase):
    def test_descriptions(self):
        svg, page = ("image/svg", "image/svg+xml"), ("table/html", "text/html")
        expected = {
            "histogram-visualization": ({"data": "entity/vector"}, svg),
            "scatter-visualization": (
                {"entityUrl": "entity/vector", "clustersUrl": "entity/label"},
                svg,
            ),
            "table-visualization": ({"data": "entity/*"}, page),
        }
        with host("visualization/charts") as running:
            described = running.describe()
        self.assertEqual(list(described), list(expected))
        for name, (inputs, (data_type, content_type)) in expected.items():
            with self.subTest(name):
                plugin = described[name]
                self.assertEqual((plugin["type"], plugin["version"]), ("visualization", "1.0.0"))
                self.assertIn("visualization", plugin["tags"])
                fields = plugin["parameters"]["properties"]
                data = {key: field["x-data"] for key, field in fields.items() if "x-data" in field}
                self.assertEqual(
                    data,
                    {key: {"dataType": one, "contentType": FORMATS} for key, one in inputs.items()},
                )
                # Whoever shows the file sends this parameter and no other.
                self.assertEqual(plugin["parameters"]["required"], [next(iter(inputs))])
                output = {"dataType": data_type, "contentType": [content_type], "required": True}
                self.assertEqual(plugin["dataOutput"], [output])


if __name__ == "__main__":
    unittest.main()
