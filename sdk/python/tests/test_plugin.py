"""The decorator: what it makes of a function, and what it says about mistakes."""

import unittest

from runner import DefinitionError, Output, plugin
from runner.plugin import REGISTRY, TYPES


class Declared(unittest.TestCase):
    def setUp(self):
        self.addCleanup(REGISTRY.plugins.update, dict(REGISTRY.plugins))
        self.addCleanup(REGISTRY.plugins.clear)
        REGISTRY.plugins.clear()

    def test_description(self):
        @plugin(
            version="v1.0",
            title="Title",
            type="conversion",
            tags=["a"],
            outputs=[Output("a/b", "text/plain"), Output("*", ["*"], name="x", required=False)],
            links=[
                ("docs", "https://example.org/"),
                {"type": "code", "href": "https://example.org/c"},
            ],
            example={"n_rows": 1},
        )
        def some_thing(task, n_rows: int):
            """Does it.
            And more.

            With *details*.
            """

        @some_thing.step(title="Next")
        def next_one(task, x: str):
            pass

        parameter = {"nRows": {"title": "N rows", "type": "integer"}}
        self.assertEqual(
            some_thing.describe(),
            {
                "name": "some-thing",
                "version": "v1.0",
                "title": "Title",
                "description": "Does it. And more.",
                "help": "Does it.\nAnd more.\n\nWith *details*.",
                "type": "conversion",
                "tags": ["a"],
                "parameters": {"type": "object", "properties": parameter, "required": ["nRows"]},
                "example": {"nRows": 1},
                "dataOutput": [
                    {"dataType": "a/b", "contentType": ["text/plain"], "required": True},
                    {"dataType": "*", "contentType": ["*"], "required": False, "name": "x"},
                ],
                "links": [
                    {"type": "docs", "href": "https://example.org/"},
                    {"type": "code", "href": "https://example.org/c"},
                ],
                "steps": [
                    {
                        "step": "next-one",
                        "title": "Next",
                        "parameters": {
                            "type": "object",
                            "properties": {"x": {"title": "X", "type": "string"}},
                            "required": ["x"],
                        },
                    }
                ],
            },
        )
        self.assertEqual(some_thing.identifier, "some-thing@v1-0")

    def test_is_still_a_function(self):
        @plugin(version="1")
        def double(task, n: int):
            return str(2 * n)

        self.assertEqual(double(None, 4), "8")

    def test_versions(self):
        for number, version in enumerate(
            ["1", "v0.2.1", "1!2.0", "1.0rc1", "1.0.0-rc.1", "1.0.post1.dev2", "1.0+a.b"]
        ):
            with self.subTest(version=version):
                plugin(version=version, name=f"p{number}")(lambda task: None)
        for version in ["", "one", "1.0.x", "1..0", "1.0+", 1]:
            with self.subTest(version=version), self.assertRaisesRegex(DefinitionError, "version"):
                plugin(version=version)

    def test_schedules_are_described_as_the_protocol_has_them(self):
        schedule = {"cron": "0 3 * * *", "time_zone": "UTC", "parameters": {"n": 1}}

        @plugin(version="1.0.0", schedules=[schedule])
        def sweep(task, n: int):
            pass

        self.addCleanup(REGISTRY.plugins.pop, "sweep@1-0-0")
        expected = {"cron": "0 3 * * *", "timeZone": "UTC", "parameters": {"n": 1}}
        self.assertEqual(sweep.describe()["schedules"], [expected])

    def test_mistakes(self):
        def function(task):
            pass

        for use, words in [
            (lambda: plugin(function), r'@plugin\(version="1.0.0"\)'),
            (lambda: plugin(), "needs a version"),
            (lambda: plugin(version="1", type="nonsense"), ", ".join(TYPES)),
            (lambda: plugin(version="1", tags="demo"), "tags"),
            (lambda: plugin(version="1", outputs=["x"]), "Output"),
            (lambda: plugin(version="1", schedules=["0 3 * * *"]), "schedule"),
            (lambda: plugin(version="1", schedules=[{"crom": "x"}]), "crom"),
            (lambda: plugin(version="1", schedules=[{"parameters": {}}]), "cron or every"),
            (lambda: plugin(version="1", schedules=[{"cron": "x", "every": "1h"}]), "cron or every"),
            (lambda: plugin(version="1", links=["x"]), "link"),
            (lambda: plugin(version="1")("function"), "belongs on a function"),
            (lambda: plugin(version="1", example={"x": 1})(function), "there is no parameter 'x'"),
        ]:
            with self.subTest(words=words), self.assertRaisesRegex(DefinitionError, words):
                use()

    def test_duplicates(self):
        def function(task):
            pass

        declared = plugin(version="1.0")(function)
        with self.assertRaisesRegex(
            DefinitionError, r"function@1-0 is declared already, by function \(.*test_plugin"
        ):
            plugin(version="1.0")(function)
        plugin(version="1.1")(function)
        declared.step("s")(function)
        with self.assertRaisesRegex(DefinitionError, "has a step 's' already"):
            declared.step("s")(function)
        with self.assertRaisesRegex(DefinitionError, "step"):
            declared.step(function)
