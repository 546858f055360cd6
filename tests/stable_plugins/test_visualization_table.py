"""The table: cells are read back from the page and compared with the entities."""

import csv
import html.parser
import json
import math
import unittest

from support import DATA
from test_visualization import NASTY, NASTY_SHOWN, Case


class Reader(html.parser.HTMLParser):
    """The rows of the first table, the text outside of it, and all tags."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.classes, self.tags, self.outside = [], [], [], ""
        self.cell = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
            self.classes.append([])
        if tag in ("td", "th"):
            self.cell = ""
            self.classes[-1].append(dict(attributes).get("class", ""))

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append(self.cell)
            self.cell = None

    def handle_data(self, data):
        if self.cell is None:
            self.outside += data
        else:
            self.cell += data


class Table(Case):
    plugin, kinds = "table-visualization", ("table/html", "text/html")

    def show(self, source, **values):
        text = self.output(source, values)
        page = Reader(text)
        known = "html head meta title style body main h1 p div table thead tbody tr th td".split()
        self.assertLessEqual({tag for tag, _ in page.tags}, set(known))
        policy = [one["content"] for tag, one in page.tags if "http-equiv" in one]
        self.assertEqual(
            policy,
            ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"],
        )
        for _, attributes in page.tags:
            self.assertFalse([key for key in attributes if key.startswith("on") or "href" in key])
        return page

    def test_samples(self):
        for path in sorted(DATA.glob("*/*.json")) + [DATA / "entities.json"]:
            with self.subTest(path.name):
                data = json.loads(path.read_text())
                data = data if isinstance(data, list) else [data]
                page = self.show(path, nRows=1000)
                columns = list(dict.fromkeys(key for one in data for key in one))
                columns.sort(key=lambda name: name != "ID")
                self.assertEqual(page.rows[0], ["Row", *columns])
                expected = [
                    [str(at), *(cell(one.get(key, "")) for key in columns)]
                    for at, one in enumerate(data, 1)
                ]
                self.assertEqual(page.rows[1:], expected)
                rows = "1 row." if len(data) == 1 else f"All {len(data)} rows."
                self.assertIn(rows, page.outside)
                self.assertEqual(self.result.log, [rows])
                self.assertEqual(self.name, f"table_{path.stem}.html")

    def test_formats(self):
        with open(DATA / "entities.csv", newline="") as file:
            header, *rows = csv.reader(file)
        page = self.show(DATA / "entities.csv")
        self.assertEqual(page.rows[0], ["Row", *header])
        self.assertEqual([row[1:] for row in page.rows[1:]], rows)
        page = self.show(DATA / "entities-lines.json")
        lines = (DATA / "entities-lines.json").read_text().splitlines()
        self.assertEqual(
            [row[1:] for row in page.rows[1:]], [list(json.loads(line).values()) for line in lines]
        )

    def test_pages(self):
        path = self.folder / "many.csv"
        path.write_text("ID,x\n" + "".join(f"p{at},{at}\n" for at in range(1, 100_001)))
        for values, first, last, note in [
            ({}, 1, 100, "Rows 1 to 100 of 100,000. The next page begins with row 101."),
            (
                {"firstRow": 101},
                101,
                200,
                "Rows 101 to 200 of 100,000. The next page begins with row 201.",
            ),
            (
                {"firstRow": 99_990, "nRows": 1000},
                99_990,
                100_000,
                "Rows 99,990 to 100,000 of 100,000.",
            ),
            ({"firstRow": 100_000}, 100_000, 100_000, "Row 100,000 of 100,000."),
        ]:
            with self.subTest(values):
                page = self.show(path, **values)
                expected = [[str(at), f"p{at}", str(at)] for at in range(first, last + 1)]
                self.assertEqual(page.rows[1:], expected)
                self.assertIn(note, page.outside)
                self.assertEqual(self.result.log, [note])
        page = self.show(path, firstRow=100_001)
        self.assertEqual(page.rows, [])
        self.assertIn("There is no row 100,001: the file has 100,000 rows.", page.outside)

    def test_nothing(self):
        for content in ("[]", ""):
            page = self.show(self.file(content, "x.csv" if not content else "x.json"))
            self.assertEqual(page.rows, [])
            self.assertIn("There are no entities in this file.", page.outside)

    def test_values(self):
        data = [
            {"b": None, "ID": "x", "c": 1.0, "d": {"a": ["ü"]}},
            {"e": True, "c": "2e5", "f": " a\n b "},
            {"c": math.nan, "g": 10**50},
        ]
        page = self.show(data)
        self.assertEqual(
            page.rows,
            [
                ["Row", "ID", "b", "c", "d", "e", "f", "g"],
                ["1", "x", "null", "1.0", '{"a": ["ü"]}', "", "", ""],
                ["2", "", "", "2e5", "", "true", " a\n b ", ""],
                ["3", "", "", "NaN", "", "", "", str(10**50)],
            ],
        )
        self.assertEqual(page.classes[1], ["", "", "null", "number", "", "", "", "number"])

    def test_limits(self):
        wide = {f"c{at:04}": at for at in range(5000)}
        page = self.show([wide, {"ID": "x" * 10**6}])
        self.assertEqual(len(page.rows[0]), 101)
        self.assertEqual(page.rows[2][1], "x" * 299 + "…")
        self.assertIn("The first 100 columns are shown, 4,901 more are not.", page.outside)
        self.assertIn("1 longer text is cut after 300 characters.", page.outside)

    def test_markup(self):
        page = self.show(self.file([{"ID": NASTY, NASTY: NASTY}], "<b>&'\".json"))
        self.assertEqual(page.rows, [["Row", "ID", NASTY_SHOWN], ["1", NASTY_SHOWN, NASTY_SHOWN]])
        self.assertIn("<b>&'\".json", page.outside)

    def test_refused(self):
        self.refused(self.file("a,b\n1\n", "x.csv"), "x.csv: line 2: 1 values, but the header")
        self.refused("[{}, 3]", "data.json: line 1, column 6: expected an object")
        self.refused(DATA / "zxcalculus" / "circuit.qasm", "no entities can be read")


def cell(value):
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    unittest.main()
