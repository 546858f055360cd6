"""entity-filter on real data."""

import csv
import io
import json
import tempfile
import unittest
from pathlib import Path

from support import DATA, host

POINTS = DATA / "cluster_scatter_visualization" / "entity_3d_90_points.json"
LABELS = DATA / "confusion_matrix" / "clusters_4_named_labels.json"


class EntityFilter(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.host = host("data_preparation/entity_filter.py").__enter__()
        cls.addClassCleanup(cls.host.close)
        cls.points = json.loads(POINTS.read_text())

    def run_filter(
        self, path, attributes=None, strategy="BLOCKLIST", rows=None, sampling="ALL_ROWS", ids=None
    ):
        values = {
            "inputFileUrl": "http://example.org/",
            "attributeFilterStrategy": strategy,
            "rowSampling": sampling,
        }
        given = {"attributes": attributes, "nRows": rows, "idList": ids}
        values.update({key: value for key, value in given.items() if value is not None})
        return self.host.run("entity-filter", values, inputs={"inputFileUrl": path})

    def filtered(self, path, *arguments, **more):
        result = self.run_filter(path, *arguments, **more)
        self.assertIsNone(result.error, result.error)
        self.assertEqual(result.log, ["Filter successful."])
        (output,) = result.outputs
        self.assertEqual(output.data_type, "entity/list")
        return output

    def points_filtered(self, *arguments, **more):
        return json.loads(self.filtered(POINTS, *arguments, **more).text)

    def refused(self, path, *arguments, **more):
        result = self.run_filter(path, *arguments, **more)
        self.assertIsNotNone(result.error)
        self.assertEqual(result.outputs, [])
        return result.error["message"]

    def test_description(self):
        described = self.host.describe()["entity-filter"]
        self.assertEqual(
            (described["version"], described["title"]), ("v0.2.1", "Entity loader/filter")
        )
        self.assertEqual(described["tags"], ["preprocessing", "filter", "sample"])
        kinds = ["application/json", "text/csv"]
        expected = [{"dataType": "entity/list", "contentType": kinds, "required": True}]
        self.assertEqual(described["dataOutput"], expected)
        parameters = described["parameters"]
        self.assertEqual(
            parameters["required"], ["inputFileUrl", "attributeFilterStrategy", "rowSampling"]
        )
        fields = parameters["properties"]
        keys = [
            "inputFileUrl",
            "attributes",
            "attributeFilterStrategy",
            "nRows",
            "rowSampling",
            "idList",
        ]
        self.assertEqual(list(fields), keys)
        self.assertEqual(
            fields["inputFileUrl"]["x-data"], {"dataType": "entity/list", "contentType": kinds}
        )
        self.assertEqual(
            fields["nRows"]["x-messages"], {"minimum": "Number of Rows must be a positive number."}
        )
        self.assertEqual(fields["nRows"]["minimum"], 1)
        self.assertEqual(fields["rowSampling"]["enum"], ["RANDOM", "FIRST_N", "ALL_ROWS"])
        self.assertEqual(fields["attributeFilterStrategy"]["x-labels"]["ALLOWLIST"], "Allowlist")

    def test_all_rows_change_nothing(self):
        self.assertEqual(self.points_filtered(), self.points)
        self.assertEqual(self.points_filtered(rows=5), self.points)

    def test_formats_are_kept(self):
        paints = json.loads((DATA / "entities.json").read_text())
        output = self.filtered(DATA / "entities.csv", ["href"])
        self.assertEqual((output.name, output.content_type), ("filtered_entities.csv", "text/csv"))
        self.assertEqual(output.text, "ID,color\npaintA,#8a2be2\npaintB,#e9322d\n")
        output = self.filtered(DATA / "entities.json", ["color"])
        self.assertEqual(
            (output.name, output.content_type), ("filtered_entities.json", "application/json")
        )
        expected = [{"ID": paint["ID"], "href": paint["href"]} for paint in paints]
        self.assertEqual(json.loads(output.text), expected)
        # JSON lines that go by the name of JSON are read as what they are.
        self.assertEqual(json.loads(self.filtered(DATA / "entities-lines.json").text), paints)
        file = {
            "path": str(DATA / "entities-lines.json"),
            "name": "x.jsonl",
            "contentType": "application/X-lines+json",
        }
        output = self.filtered(file)
        self.assertEqual([json.loads(line) for line in output.text.splitlines()], paints)

    def test_attributes(self):
        kept = self.points_filtered(["dim0", "dim2", "nonsense"], "ALLOWLIST")
        self.assertEqual(
            kept, [{key: one[key] for key in ("ID", "dim0", "dim2")} for one in self.points]
        )
        kept = self.points_filtered(["dim0", "href", "ID"], "BLOCKLIST")
        self.assertEqual(
            kept, [{key: one[key] for key in ("ID", "dim1", "dim2")} for one in self.points]
        )
        self.assertEqual(
            self.points_filtered([], "ALLOWLIST"), [{"ID": one["ID"]} for one in self.points]
        )

    def test_first_rows(self):
        self.assertEqual(self.points_filtered(rows=7, sampling="FIRST_N"), self.points[:7])
        self.assertEqual(self.points_filtered(rows=90, sampling="FIRST_N"), self.points)

    def test_random_rows(self):
        seen = set()
        for _ in range(20):
            kept = self.points_filtered(rows=30, sampling="RANDOM")
            ids = [one["ID"] for one in kept]
            self.assertEqual(
                kept, [one for one in self.points if one["ID"] in ids], "the order is the file's"
            )
            self.assertEqual(len(kept), 30)
            seen.update(ids)
        # Each row is left out of all twenty with a chance of (2/3)^20, 3 in 10,000: ten are not.
        self.assertGreater(len(seen), 80)
        self.assertEqual(self.points_filtered(rows=90, sampling="RANDOM"), self.points)

    def test_ids(self):
        expected = [one for one in self.points if one["ID"] in ("3", "40", "12")]
        for sampling in ("ALL_ROWS", "FIRST_N", "RANDOM"):
            with self.subTest(sampling=sampling):
                self.assertEqual(
                    self.points_filtered(ids=["40", "3", "12"], sampling=sampling), expected
                )

    def test_ids_and_rows(self):
        kept = self.points_filtered(ids=["40", "1"], rows=5, sampling="FIRST_N")
        self.assertEqual([one["ID"] for one in kept], ["0", "1", "2", "3", "40"])
        kept = self.points_filtered(ids=["40", "1"], rows=5, sampling="RANDOM")
        self.assertEqual(len({one["ID"] for one in kept}), 5)
        self.assertLessEqual({"40", "1"}, {one["ID"] for one in kept})

    def test_labels_as_texts(self):
        labels = json.loads(LABELS.read_text())
        self.assertEqual(
            json.loads(self.filtered(LABELS, rows=3, sampling="FIRST_N").text), labels[:3]
        )

    def test_csv_round_trip(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "points.csv")
            with open(path, "w", newline="") as file:
                writer = csv.DictWriter(file, list(self.points[0]))
                writer.writeheader()
                writer.writerows(self.points)
            output = self.filtered(
                path, ["dim0"], "ALLOWLIST", rows=2, sampling="FIRST_N", ids=["5"]
            )
        rows = list(csv.DictReader(io.StringIO(output.text)))
        self.assertEqual(
            rows,
            [
                {"ID": one["ID"], "dim0": str(one["dim0"])}
                for one in (self.points[0], self.points[5])
            ],
        )

    def test_refused(self):
        message = self.refused(POINTS, rows=91, sampling="FIRST_N")
        self.assertIn(
            "Number of rows requested is greater than number of rows in input file!", message
        )
        self.assertIn(
            "greater than number of rows in input", self.refused(POINTS, rows=91, sampling="RANDOM")
        )
        message = self.refused(POINTS, rows=2, sampling="RANDOM", ids=["1", "2", "3"])
        self.assertIn("Length of ID list greater than number of rows!", message)
        message = self.refused(POINTS, ids=["1", "nobody", "another"])
        self.assertIn("The following IDs could not be found: another, nobody", message)
        missing = (
            DATA / "cluster_scatter_visualization" / "cluster_100_points_4_clusters_missing_id.json"
        )
        self.assertIn("could not be found: 0", self.refused(missing, ids=["0"]))

    def test_not_entities(self):
        file = {"path": __file__, "name": "x.json", "contentType": "application/json"}
        message = self.refused(file)
        self.assertIn("x.json: line 1, column 1: expected an array of objects", message)
        message = self.refused({**file, "contentType": "image/png"})
        self.assertIn("supported are text/csv, application/json and", message)


if __name__ == "__main__":
    unittest.main()
