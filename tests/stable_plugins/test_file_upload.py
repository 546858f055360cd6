"""file-upload on real files."""

import unittest

from support import DATA, host


class FileUpload(unittest.TestCase):
    def setUp(self):
        self.host = host("file_utils/file_upload.py").__enter__()
        self.addCleanup(self.host.close)

    def test_description(self):
        described = self.host.describe()["file-upload"]
        self.assertEqual(described["version"], "v0.2.0")
        self.assertEqual(described["type"], "dataloader")
        self.assertEqual(described["tags"], ["data-loading"])
        self.assertEqual(described["description"], "Uploads files to use in the workflow.")
        self.assertEqual(
            described["dataOutput"], [{"dataType": "*", "contentType": ["*"], "required": True}]
        )
        self.assertEqual(
            list(described["parameters"]["properties"]), ["file", "dataType", "contentType"]
        )
        self.assertEqual(described["parameters"]["required"], ["dataType", "contentType"])

    def test_files(self):
        path = DATA / "cluster_scatter_visualization" / "entity_100_points.json"
        for name, kind in [
            ("entity_100_points.json", "application/json"),
            ("a b ü/../x.csv", "text/csv"),
        ]:
            with self.subTest(name=name):
                file = {
                    "path": str(path),
                    "name": name,
                    "contentType": kind,
                    "size": path.stat().st_size,
                }
                values = {"dataType": "entity/vector", "contentType": kind}
                result = self.host.run("file-upload", values, inputs={"file": file})
                self.assertIsNone(result.error)
                self.assertEqual(result.log, [])
                (output,) = result.outputs
                # The runner makes the name safe; what the plugin sees of it is what was sent.
                self.assertEqual(
                    (output.name, output.data_type, output.content_type),
                    (name, "entity/vector", kind),
                )
                self.assertEqual(output.content, path.read_bytes())
        self.assertTrue(path.exists())

    def test_without_a_file(self):
        result = self.host.run("file-upload", {"dataType": "a/b", "contentType": "text/csv"})
        self.assertEqual(result.error["message"], "ValueError('No file in request.')")
        self.assertEqual(result.outputs, [])


if __name__ == "__main__":
    unittest.main()
