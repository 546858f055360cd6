"""The scatter plot: points are read back from the picture and compared with the data."""

import json
import math
import re
import unittest
from collections import Counter
from fractions import Fraction

from support import DATA
from test_visualization import NASTY, NASTY_SHOWN, SVG, Drawing

SCATTER = DATA / "cluster_scatter_visualization"


class Scatter(Drawing):
    plugin, field = "scatter-visualization", "entityUrl"

    def points(self, group):
        """Of each point: its tooltip by line, place, look."""
        found = []
        for mark in group.find(".//*[@data-part='points']"):
            name, *lines = mark.find(SVG + "title").text.split("\n")
            x, y = map(float, re.findall(r"-?[\d.]+", mark.get("transform")))
            look = (mark.get("fill"), mark.get("d"))
            found.append((name, dict(line.split(": ", 1) for line in lines), (x, y), look))
        return found

    def check_plane(self, plane, points, axes):
        """All points of one plane lie where the ticks say, in the order of the file."""
        x, y = self.scale(plane, "x"), self.scale(plane, "y")
        drawn = self.points(plane)
        self.assertEqual(len(drawn), len(points))
        for (name, _, place, _), point in zip(drawn, points):
            if "ID" in point:
                self.assertEqual(name, str(point["ID"]))
            self.assertAlmostEqual(place[0], x(point[axes[0]]), delta=0.02)
            self.assertAlmostEqual(place[1], y(point[axes[1]]), delta=0.02)
        titles = [self.ticks(plane, axis)[1] for axis in "xy"]
        self.assertEqual(titles, list(axes))

    def check_clusters(self, root, drawn, labels):
        """One look for each cluster, another for each other; as the legend says."""
        looks = {}
        for name, lines, _, look in drawn:
            label = labels.get(name, "none")
            self.assertEqual(lines["cluster"], label)
            looks.setdefault(label, set()).add(look)
        self.assertTrue(all(len(one) == 1 for one in looks.values()))
        self.assertEqual(len({one for some in looks.values() for one in some}), len(looks))
        sizes = Counter(labels.get(name, "none") for name, *_ in drawn)
        legend = self.part(root, "legend")
        _, *names = [one.text for one in legend.findall(SVG + "text")]
        fills = [mark.get("fill") for mark in legend.findall(SVG + "path")]
        without = sizes.pop("none", 0)
        expected = {f"{label} ({size})": label for label, size in sizes.items()}
        if without:
            expected[f"no label ({without})"] = "none"
        self.assertEqual(sorted(names), sorted(expected))
        for name, fill in zip(names, fills):
            self.assertEqual({fill}, {look[0] for look in looks[expected[name]]})

    def planes(self, root):
        return root.findall(f"{SVG}g[@data-part='plane']")

    def test_plane_samples(self):
        for points, clusters in [
            ("entity_100_points", "cluster_100_points_1_cluster"),
            ("entity_100_points", "cluster_100_points_4_clusters"),
            ("entity_100_points", "cluster_100_points_4_clusters_missing_id"),
            ("entity_1_point", "cluster_1_point"),
        ]:
            with self.subTest(points=points, clusters=clusters):
                path, other = SCATTER / f"{points}.json", SCATTER / f"{clusters}.json"
                root = self.draw(path, clustersUrl=other)
                (plane,) = self.planes(root)
                data = json.loads(path.read_text())
                self.check_plane(plane, data, ("dim0", "dim1"))
                labels = {one["ID"]: str(one["label"]) for one in json.loads(other.read_text())}
                self.check_clusters(root, self.points(plane), labels)
                self.assertEqual(self.name, f"scatter_{points}.svg")
                self.assertIn(
                    "1 point drawn." if len(data) == 1 else "100 points drawn.", self.result.log
                )

    def test_without_clusters(self):
        root = self.draw(SCATTER / "entity_100_points.json")
        points = self.points(root)
        self.assertEqual(len({look for *_, look in points}), 1)
        self.assertNotEqual(points[0][3][0], "none")
        self.assertNotIn("cluster", points[0][1])
        self.assertIsNone(self.part(root, "legend"))

    def test_space_samples(self):
        path = SCATTER / "entity_3d_90_points.json"
        data = json.loads(path.read_text())
        for name in ("", "_missing_label"):
            clusters = SCATTER / f"cluster_3d_90_points_8_clusters{name}.json"
            root = self.draw(path, clustersUrl=clusters)
            labels = {
                one["ID"]: str(one["label"])
                for one in json.loads(clusters.read_text())
                if "label" in one
            }
            planes = self.planes(root)
            for plane, axes in zip(planes, ("01", "21", "02")):
                axes = [f"dim{axis}" for axis in axes]
                with self.subTest(axes=axes):
                    self.check_plane(plane, data, axes)
                    self.check_clusters(root, self.points(plane), labels)
            self.assertEqual(len(planes), 3)
            self.check_space(root, data)

    def check_space(self, root, data):
        """The picture is a linear map of space: four points tell where all others are."""
        drawn = {name: place for name, _, place, _ in self.points(self.part(root, "space"))}
        self.assertEqual(len(drawn), len(data))
        spread = [max(data, key=lambda one: one[key]) for key in ("dim0", "dim1", "dim2")]
        spread.append(min(data, key=lambda one: one["dim0"] + one["dim1"] + one["dim2"]))
        rows = [[1, one["dim0"], one["dim1"], one["dim2"]] for one in spread]
        for axis in (0, 1):
            map_ = solve(rows, [drawn[one["ID"]][axis] for one in spread])
            for one in data:
                row = [1, one["dim0"], one["dim1"], one["dim2"]]
                expected = sum(a * b for a, b in zip(map_, row))
                self.assertAlmostEqual(drawn[one["ID"]][axis], expected, delta=0.1)

    def test_many_clusters(self):
        root = self.draw(
            SCATTER / "entity_100_points.json",
            clustersUrl=SCATTER / "cluster_100_points_100_clusters.json",
        )
        points = self.points(root)
        looks = Counter(look for *_, look in points)
        self.assertEqual(sorted(looks.values()), [1] * 30 + [70])
        self.assertEqual({look[0] for look, size in looks.items() if size > 1}, {"none"})
        words = self.words(root)
        self.assertIn("The 30 largest clusters are coloured; the others are hollow.", words)
        self.assertIn("70 others (70)", words)
        self.assertEqual(points[0][1]["cluster"], "44", "tooltips name all")

    def test_own_labels(self):
        data = [{"ID": "a", "x": 1, "y": 2, "label": 0}, {"ID": "b", "x": 2, "y": 3, "label": -1}]
        root = self.draw(data)
        self.check_clusters(root, self.points(root), {"a": "0", "b": "-1"})
        _, first, second = [one.text for one in self.part(root, "legend").iter(SVG + "text")]
        self.assertEqual((first, second), ("-1 (1)", "0 (1)"))

    def test_labels_by_another_name(self):
        data = [{"ID": 1, "x": 1, "y": 2}, {"ID": 2, "x": 2, "y": 3}, {"x": 5, "y": 5}]
        clusters = self.file("ID,href,Cluster\n1,,red\n2,,\n3,,blue\n", "c.csv")
        root = self.draw(data, clustersUrl=clusters)
        self.check_clusters(root, self.points(root), {"1": "red"})
        self.assertEqual([name for name, *_ in self.points(root)], ["1", "2", "row 3"])

    def test_one_dimension(self):
        root = self.draw([{"ID": "a", "x": 1}, {"ID": "b", "x": 4}])
        x = self.scale(root, "x")
        (_, _, first, _), (_, _, second, _) = self.points(root)
        self.assertAlmostEqual(first[0], x(1), delta=0.02)
        self.assertAlmostEqual(second[0], x(4), delta=0.02)
        self.assertEqual(first[1], second[1])

    def test_dimensions(self):
        data = [
            {"ID": str(at), "a": at, "b": at * at, "c": -at, "d": 7, "e": "x"} for at in range(5)
        ]
        root = self.draw(data, {"dimensions": ["d", "b"]})
        self.check_plane(self.planes(root)[0], data, ("d", "b"))
        root = self.draw(data)
        self.assertEqual(len(self.planes(root)), 3)
        self.assertIn("Of the dimensions only a, b, c are drawn, not d.", self.words(root))
        result = self.run_on(data, {"dimensions": ["a", "z"]})
        self.assertIn("expected the attribute 'z', found ID, a, b", result.error["message"])

    def test_numbers(self):
        for values in [
            [(0, 0), (0, 0)],
            [(5, -3), (5, -3), (5, -3)],
            [(1e308, -1e308), (-1.7e308, 1.7e308), (0, 0)],
            [(5e-324, 1e-320), (1e-322, -1e-320)],
            [(1.0, 1e15), (1.0 + 2**-52, 1e15 + 0.125)],
            [(10**300, 1e-300), (-(10**20), 1)],
            [("1.5", " 2 "), ("-1E3", ".5")],
            [(123456789.5, 0.000123), (123456790.5, 0.000124)],
        ]:
            with self.subTest(values):
                data = [{"ID": str(at), "x": x, "y": y} for at, (x, y) in enumerate(values)]
                root = self.draw(data)
                plain = [
                    {
                        key: Fraction(value.strip())
                        if isinstance(value, str) and key != "ID"
                        else value
                        for key, value in one.items()
                    }
                    for one in data
                ]
                self.check_plane(self.planes(root)[0], plain, ("x", "y"))

    def test_points_without_a_place(self):
        data = [{"ID": "ok", "x": 1, "y": 2}, {"ID": "no", "x": "NaN", "y": 1}]
        root = self.draw(data)
        self.check_plane(self.planes(root)[0], data[:1], ("x", "y"))
        note = "1 point has no place and is left out: no, x is 'NaN'."
        self.assertIn(note, self.words(root))
        self.assertIn(note, self.result.log[0])
        for value in (math.inf, -math.inf, math.nan, "", None, "-Infinity", 10**400):
            with self.subTest(value):
                root = self.draw([*data, {"ID": "bad", "x": 1, "y": value}, {"y": 1}])
                self.assertEqual([name for name, *_ in self.points(root)], ["ok"])
                self.assertIn("3 points have no place and are left out", self.words(root))

    def test_nothing(self):
        for content in ["[]", '[{"x": NaN, "y": NaN}]']:
            with self.subTest(content):
                root = self.draw(content, clustersUrl=self.file("[]", "c.json"))
                self.assertIn("There are no points to draw in this file.", self.words(root))
        root = self.draw(self.file("ID,x,y\n", "empty.csv"))
        self.assertIn("There are no points", self.words(root))
        # No labels at all: all points are hollow, and that is said.
        data = [{"ID": "a", "x": 1, "y": 2}]
        root = self.draw(data, clustersUrl=self.file("[]", "c.json"))
        self.check_clusters(root, self.points(root), {})

    def test_many_points(self):
        path = self.folder / "many.csv"
        with open(path, "w") as file:
            file.write("ID,x,y\n")
            file.writelines(f"p{at},{at},{at % 317}\n" for at in range(100_000))
        root = self.draw(path)
        points = self.points(root)
        self.assertEqual(len(points), 8000)
        self.assertIn("Drawn are 8,000 of 100,000 points, chosen at random.", self.words(root))
        x, y = self.scale(root, "x"), self.scale(root, "y")
        numbers = [int(name[1:]) for name, *_ in points]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertAlmostEqual(sum(numbers) / 8000, 50_000, delta=2_000)
        for at, (_, _, place, _) in zip(numbers, points):
            self.assertAlmostEqual(place[0], x(at), delta=0.02)
            self.assertAlmostEqual(place[1], y(at % 317), delta=0.02)
        again = self.points(self.draw(path))
        self.assertEqual(points, again, "the same every time")

    def test_markup(self):
        data = [{"ID": NASTY, "x" + NASTY: 1, "y<b>": 2, "label": NASTY}]
        root = self.draw(self.file(data, "<i>&.json"))
        ((name, lines, _, _),) = self.points(root)
        self.assertEqual(name, NASTY_SHOWN)
        self.assertEqual(lines["cluster"], NASTY_SHOWN)
        self.assertEqual(self.ticks(root, "y")[1], "y<b>")
        long = [{"ID": "i" * 10**6, "x" * 10**6: 1, "y": 2, "label": "l" * 10**6}]
        self.draw(long)
        self.assertLess(self.result.outputs[0].text.__len__(), 20_000)

    def test_refused(self):
        good = {"ID": "a", "x": 1, "y": 2}
        self.refused(
            [good, {"ID": "b", "x": 1, "y": "two"}],
            "data.json: row 2 (ID 'b'): 'y': expected a number, found 'two'",
        )
        self.refused([good, {"x": [1], "y": 2}], "row 2: 'x': expected a number, found an array")
        self.refused(
            DATA / "entities.json",
            "row 1 (ID 'paintA'): expected attributes that are "
            "numbers, to be coordinates; found 'href': 'http://",
            "'color': '#8a2be2'",
        )
        self.refused([{"ID": "a"}], "found no attributes but the ID")
        self.refused("[[1, 2]]", "expected an object")
        for clusters, expected in [
            ([{"label": 1}], "c.json: row 1: expected an ID"),
            (
                [{"ID": "a", "p": 1, "q": 2}],
                "row 1 (ID 'a'): expected the attribute 'label', or "
                "only one besides ID, found p, q",
            ),
            ([{"ID": "a"}], "found none"),
            ("nonsense", "c.json: line 1, column 1: expected an array of objects"),
        ]:
            with self.subTest(expected):
                self.refused([good], expected, clustersUrl=self.file(clusters, "c.json"))


def solve(rows, values):
    """Four equations, by elimination in exact arithmetic."""
    rows = [[Fraction(value) for value in (*row, right)] for row, right in zip(rows, values)]
    for at in range(len(rows)):
        pivot = next(i for i in range(at, len(rows)) if rows[i][at])
        rows[at], rows[pivot] = rows[pivot], rows[at]
        rows[at] = [value / rows[at][at] for value in rows[at]]
        for i, row in enumerate(rows):
            if i != at:
                rows[i] = [a - row[at] * b for a, b in zip(row, rows[at])]
    return [row[-1] for row in rows]


if __name__ == "__main__":
    unittest.main()
