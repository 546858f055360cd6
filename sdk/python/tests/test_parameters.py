"""Hints become JSON Schema, and values of the wire become arguments."""

from __future__ import annotations

import enum
import sys
import typing
import unittest
from typing import Annotated, Any, Dict, List, Literal, Optional, Union

import runner
from runner import (
    Choice,
    Data,
    DefinitionError,
    Integer,
    Json,
    Number,
    PluginRef,
    Secret,
    Text,
    Upload,
    Url,
)
from runner.signature import Signature


class Color(enum.Enum):
    RED = "r"
    BLUE = "b"


def schema(function: Any) -> Dict[str, Any]:
    return Signature(function, "here").schema()


def one(hint: Any, default: Any = ...) -> Dict[str, Any]:
    """The schema of a single parameter `value` with this hint."""

    def function(task, value):
        pass

    function.__annotations__ = {"value": hint}
    function.__defaults__ = None if default is ... else (default,)
    found = schema(function)
    required = found.get("required") == ["value"]
    return {**found["properties"]["value"], "required": required}


class PlainHints(unittest.TestCase):
    def test_each(self):
        for hint, expected in [
            (str, {"type": "string"}),
            (int, {"type": "integer"}),
            (float, {"type": "number"}),
            (bool, {"type": "boolean"}),
            (list, {"type": "array", "items": {"type": "string"}}),
            (List, {"type": "array", "items": {"type": "string"}}),
            (List[int], {"type": "array", "items": {"type": "integer"}}),
            (list[Color], {"type": "array", "items": {"enum": ["r", "b"]}}),
            (dict, {"type": "object"}),
            (Dict[str, int], {"type": "object"}),
            (Any, {}),
            (Color, {"enum": ["r", "b"]}),
            (Literal["x", 2], {"enum": ["x", 2]}),
        ]:
            with self.subTest(hint=hint):
                self.assertEqual(one(hint), {"title": "Value", **expected, "required": True})

    def test_optional(self):
        for hint in [Optional[int], Union[None, int], Optional[Integer()], Literal[1, None]]:
            with self.subTest(hint=hint):
                self.assertFalse(one(hint)["required"])
                self.assertNotIn("default", one(hint))

    def test_union_operator(self):
        if sys.version_info < (3, 10):
            self.skipTest("int | None is of Python 3.10")
        self.assertFalse(one(int | None)["required"])

    def test_none_makes_optional_without_default(self):
        found = one(int, None)
        self.assertFalse(found["required"])
        self.assertNotIn("default", found)

    def test_defaults(self):
        for hint, default, expected in [
            (int, 5, 5),
            (bool, False, False),
            (Color, Color.BLUE, "b"),
            (list[Color], [Color.RED], ["r"]),
            (Optional[str], "", ""),
            (Literal["x", "y"], "y", "y"),
        ]:
            with self.subTest(hint=hint):
                found = one(hint, default)
                self.assertEqual(found["default"], expected)
                self.assertFalse(found["required"])

    def test_annotated(self):
        self.assertEqual(one(Annotated[str, Text("Name", multiline=True)])["x-multiline"], True)
        self.assertFalse(one(Annotated[Optional[int], Integer(minimum=1)])["required"])
        self.assertEqual(one(Annotated[int, "a note"])["type"], "integer")

    def test_hints_as_text(self):
        # This very module says `from __future__ import annotations`.
        def function(task, color: Color, n_rows: Integer("Rows", minimum=1) = 3):
            pass

        self.assertEqual(
            schema(function),
            {
                "type": "object",
                "properties": {
                    "color": {"title": "Color", "enum": ["r", "b"]},
                    "nRows": {"title": "Rows", "type": "integer", "minimum": 1, "default": 3},
                },
                "required": ["color"],
            },
        )


class Classes(unittest.TestCase):
    def test_each(self):
        data = {"dataType": "entity/list", "contentType": ["text/csv"]}
        for hint, expected in [
            (Text, {"type": "string"}),
            (
                Text(multiline=True, min_length=1, pattern="a+"),
                {"type": "string", "minLength": 1, "pattern": "a+", "x-multiline": True},
            ),
            (Secret(), {"type": "string", "writeOnly": True}),
            (Url(), {"type": "string", "format": "uri"}),
            (Integer(minimum=0), {"type": "integer", "minimum": 0}),
            (
                Number(exclusive_minimum=0, maximum=1),
                {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            ),
            (Choice(["a", "b"]), {"enum": ["a", "b"]}),
            (Choice({"a": "The first"}), {"enum": ["a"], "x-labels": {"a": "The first"}}),
            (
                Choice(Color, labels={Color.RED: "Red"}),
                {"enum": ["r", "b"], "x-labels": {"r": "Red"}},
            ),
            (
                runner.List(Integer(minimum=1), min_items=1),
                {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1},
            ),
            (Data("entity/list", "text/csv"), {"type": "string", "format": "uri", "x-data": data}),
            (
                Data("entity/list", ["text/csv"], fetch=False),
                {"type": "string", "format": "uri", "x-data": {**data, "fetch": False}},
            ),
            (Upload(), {"type": "string", "format": "binary"}),
            (
                Upload("entity/list", "text/csv"),
                {"type": "string", "format": "binary", "x-data": data},
            ),
            (
                PluginRef(["a"], version=">=1"),
                {"type": "string", "format": "uri", "x-plugin": {"tags": ["a"], "version": ">=1"}},
            ),
            (Json(), {}),
            (Json(schema={"type": "object"}), {"type": "object"}),
        ]:
            with self.subTest(hint=hint):
                self.assertEqual(one(hint), {"title": "Value", **expected, "required": True})

    def test_common(self):
        found = one(
            Integer(
                "Rows",
                "How *many*.",
                minimum=1,
                default=2,
                id="rows",
                messages={"minimum": "More!"},
            )
        )
        self.assertEqual(
            found,
            {
                "title": "Rows",
                "description": "How *many*.",
                "type": "integer",
                "minimum": 1,
                "default": 2,
                "x-id": "rows",
                "x-messages": {"minimum": "More!"},
                "required": False,
            },
        )

    def test_messages_in_snake_case(self):
        found = one(Text(min_length=1, messages={"min_length": "Say something."}))
        self.assertEqual(found["x-messages"], {"minLength": "Say something."})


class Names(unittest.TestCase):
    def test_on_the_wire(self):
        def function(
            task,
            n_rows: int,
            zip1_url: str,
            x: int,
            input_file_url: str,
            class_: str,
            a_1: int,
            aB: int,
        ):
            pass

        found = schema(function)["properties"]
        self.assertEqual(
            list(found), ["nRows", "zip1Url", "x", "inputFileUrl", "class", "a1", "aB"]
        )
        # An identifier is only said where the key does not lead back to it.
        self.assertEqual(
            {key: one["x-id"] for key, one in found.items() if "x-id" in one},
            {"a1": "a_1", "aB": "aB"},
        )

    def test_title_from_name(self):
        def function(task, input_file_url: str):
            pass

        self.assertEqual(schema(function)["properties"]["inputFileUrl"]["title"], "Input file url")


class Mistakes(unittest.TestCase):
    def check(self, function: Any, *words: str) -> None:
        with self.assertRaises(DefinitionError) as raised:
            schema(function)
        for word in ("here", *words):
            self.assertIn(word, str(raised.exception))

    def test_each(self):
        def no_hint(task, n):
            pass

        def bad_hint(task, n: complex):
            pass

        def union(task, n: Union[int, str]):
            pass

        def stars(task, *n: int):
            pass

        def no_task():
            pass

        def collision(task, a_b: int, aB: int):
            pass

        def bad_default(task, n: int = "5"):
            pass

        def two_defaults(task, n: Integer(default=1) = 2):
            pass

        def not_an_option(task, n: Choice(["a"]) = "b"):
            pass

        def unknown_name(task, n: Nonsense):  # noqa: F821
            pass

        async def waiting(task):
            pass

        for function, *words in [
            (no_hint, "'n'", "needs a type hint"),
            (bad_hint, "'n'", "complex", "Text"),
            (union, "'n'", "union"),
            (stars, "'n'", "keyword"),
            (no_task, "def no_task(task, ...)"),
            (collision, "'a_b'", "'aB'"),
            (bad_default, "'n'", "'5' is not an int"),
            (two_defaults, "'n'", "leave one out"),
            (not_an_option, "'b' is not one of 'a'"),
            (unknown_name, "'n'", "Nonsense"),
            (waiting, "async"),
        ]:
            with self.subTest(function=function.__name__):
                self.check(function, *words)

    def test_of_classes(self):
        for make, word in [
            (lambda: Choice([]), "at least one"),
            (lambda: Choice("ab"), "several options"),
            (lambda: Choice(["a"], labels={"b": "B"}), "'b'"),
            (lambda: Integer(messages={"minimun": "x"}), "'minimun'"),
            (lambda: Number(default=float("nan")), "not a number"),
            (lambda: Integer(default=True), "not an int"),
            (lambda: Json(default={1, 2}), "not JSON"),
            (lambda: Upload(default="x"), "no default"),
            (lambda: runner.List(Optional[int]), "optional"),
        ]:
            with self.subTest(word=word), self.assertRaisesRegex(TypeError, word):
                make()


class Arguments(unittest.TestCase):
    def arguments(
        self, function: Any, values: Dict[str, Any], inputs: Any = None
    ) -> Dict[str, Any]:
        return Signature(function, "here").arguments(values, inputs or {})

    def test_conversions(self):
        def function(
            task,
            n_rows: int,
            ratio: float,
            color: Color,
            colors: list[Color],
            note: Optional[str],
            flag: bool = True,
        ):
            pass

        values = {"nRows": 3.0, "ratio": 1, "color": "b", "colors": ["r"], "unknown": 1}
        found = self.arguments(function, values)
        self.assertEqual(
            found,
            {
                "n_rows": 3,
                "ratio": 1.0,
                "color": Color.BLUE,
                "colors": [Color.RED],
                "note": None,
                "flag": True,
            },
        )
        self.assertIs(type(found["n_rows"]), int)
        self.assertIs(type(found["ratio"]), float)

    def test_files(self):
        def function(
            task,
            *,
            table: Data(),
            tables: runner.List(Data()),
            file: Upload() = None,
            url: Data(fetch=False),
        ):
            pass

        file = {
            "path": __file__,
            "name": "x.csv",
            "contentType": "text/csv",
            "dataType": "a/b",
            "size": 7,
        }
        values = {"table": "http://x/", "tables": ["http://x/"], "url": "http://y/"}
        found = self.arguments(
            function, values, {"table": {**file, "url": "http://x/"}, "tables": [file]}
        )
        self.assertEqual(found["table"].url, "http://x/")
        self.assertEqual((found["table"].name, found["table"].size), ("x.csv", 7))
        self.assertEqual([one.data_type for one in found["tables"]], ["a/b"])
        self.assertIsNone(found["file"])
        self.assertEqual(found["url"], "http://y/")

    def test_missing(self):
        def function(task, a: int):
            pass

        def file(task, a: Data()):
            pass

        with self.assertRaisesRegex(ValueError, "'a' is missing"):
            self.arguments(function, {})
        with self.assertRaisesRegex(ValueError, "not handed over"):
            self.arguments(file, {"a": "http://x/"})

    def test_values_of_the_author(self):
        def function(task, n_rows: int, color: Color):
            pass

        signature = Signature(function, "here")
        self.assertEqual(
            signature.values({"n_rows": 1, "color": Color.RED}, "example"),
            {"nRows": 1, "color": "r"},
        )
        self.assertEqual(signature.values({"nRows": 1}, "example"), {"nRows": 1})
        with self.assertRaisesRegex(
            DefinitionError, "example: there is no parameter 'rows'.*n_rows, color"
        ):
            signature.values({"rows": 1}, "example")
        with self.assertRaisesRegex(DefinitionError, "'n_rows': 'x' is not an int"):
            signature.values({"n_rows": "x"}, "example")


class Exports(unittest.TestCase):
    def test_all_is_there(self):
        for name in runner.__all__:
            self.assertTrue(hasattr(runner, name), name)
        self.assertIn("read_entities", dir(runner))
        with self.assertRaisesRegex(AttributeError, "no attribute 'nothing'"):
            runner.nothing  # noqa: B018
