"""Entities: the samples of the wild, round trips, and nonsense."""

import json
import random
import tempfile
import tracemalloc
import unittest
from pathlib import Path

from runner import EntityError, Input, entities, read_entities, write_entities
from runner.entities import CSV, JSON, LINES, entity_format

ENDINGS = {CSV: "csv", JSON: "json", LINES: "jsonl"}


class InFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, content, name="x.json"):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    def read(self, content, name="x.json", content_type=None):
        return list(read_entities(self.file(content, name), content_type))


class Formats(unittest.TestCase):
    def test_by_media_type_and_name(self):
        for content_type, name, expected in [
            ("text/csv", "x.json", CSV),
            ("Text/CSV; charset=utf-8", "", CSV),
            ("application/json", "x.csv", JSON),
            ("application/X-lines+json", "", LINES),
            ("application/x-ndjson", "", LINES),
            (None, "a.b.CSV", CSV),
            ("application/octet-stream", "x.jsonl", LINES),
            ("text/plain", "x.json", JSON),
        ]:
            with self.subTest(content_type=content_type, name=name):
                self.assertEqual(entity_format(content_type, name), expected)

    def test_unknown(self):
        for content_type, name in [("image/png", "x.csv"), (None, "x"), ("text/plain", "x.txt")]:
            with (
                self.subTest(content_type=content_type),
                self.assertRaisesRegex(EntityError, "supported are text/csv"),
            ):
                entity_format(content_type, name)


class Reading(InFolder):
    def test_csv(self):
        for content in [
            "ID,href\na,x\nb,\n",
            "ID,href\r\na,x\r\nb,",
            "\ufeffID,href\na,x\n\nb,\n\n",
            '"ID","href"\r\n"a","x"\r\n"b",""\r\n',
        ]:
            with self.subTest(content=content):
                self.assertEqual(
                    self.read(content, "x.csv"), [{"ID": "a", "href": "x"}, {"ID": "b", "href": ""}]
                )

    def test_csv_quotes(self):
        self.assertEqual(
            self.read('ID,t\n1,"a, ""b""\r\nc"\n', "x.csv"), [{"ID": "1", "t": 'a, "b"\r\nc'}]
        )

    def test_json(self):
        for content in [
            '[{"ID": "a"}, {"ID": "b"}]',
            '\ufeff [\r\n{"ID":"a"}\r\n,\r\n{"ID":"b"}\r\n]\r\n',
            '{"ID": "a"}\n{"ID": "b"}\n',  # JSON lines by another name
        ]:
            with self.subTest(content=content):
                self.assertEqual(self.read(content), [{"ID": "a"}, {"ID": "b"}])
        self.assertEqual(self.read('{"ID": "a"}'), [{"ID": "a"}])

    def test_lines(self):
        self.assertEqual(
            self.read('\ufeff{"ID": "a"}\r\n\r\n{"ID": "b"}', "x.jsonl"), [{"ID": "a"}, {"ID": "b"}]
        )

    def test_empty(self):
        for content, name in [
            ("", "x.csv"),
            ("\n\n", "x.csv"),
            ("ID,href\n", "x.csv"),
            ("[]", "x.json"),
            (" [ ] ", "x.json"),
            ("", "x.jsonl"),
            ("\n", "x.jsonl"),
        ]:
            with self.subTest(content=content, name=name):
                self.assertEqual(self.read(content, name), [])

    def test_input_and_charset(self):
        path = self.file("ID,n\n1,\xfc\n".encode("latin-1"), "data")
        given = Input(path, "data.csv", "text/csv; charset=ISO-8859-1")
        self.assertEqual(list(read_entities(given)), [{"ID": "1", "n": "\xfc"}])

    def test_errors_say_where(self):
        for content, name, *words in [
            ("ID,a\n1\n", "x.csv", "x.csv", "line 2", "1 values", "2 columns (ID, a)"),
            ("ID,a\n1,2\n1,2,3\n", "x.csv", "line 3", "3 values"),
            ("ID,ID\n", "x.csv", "line 1", "two columns are called 'ID'"),
            ("ID,,a\n", "x.csv", "line 1", "column 2", "no name"),
            ('ID,a\n1,"open\n', "x.csv", "not CSV"),
            ('ID,a\n1,"a"b\n', "x.csv", "line 2", "not CSV"),
            (b"ID,a\n1,2\n3,\xff\n", "x.csv", "line 3", "0xff", "not utf-8"),
            ("", "x.json", "line 1, column 1", "array of objects", "end of the file"),
            ('[{"a": 1},\n {"a": }]', "x.json", "line 2, column 8", "not JSON"),
            ('[{"a": 1},\n 5]', "x.json", "line 2, column 2", "expected an object", "'5'"),
            ('[{"a": 1},]', "x.json", "line 1, column 11", "']'"),
            ('[{"a": 1} {"a": 2}]', "x.json", "line 1, column 11", "',' or ']'"),
            ('[{"a": 1}', "x.json", "end of the file"),
            ('[{"a": "open', "x.json", "line 1, column 8", "Unterminated"),
            ("[] x", "x.json", "line 1, column 4", "after the array"),
            ('"text"', "x.json", "line 1, column 1"),
            (b'[{"a": "\xc3"}]', "x.json", "line 1", "not utf-8"),
            ('{"a": 1}\n{"a"\n', "x.jsonl", "line 2, column 5"),
            ('{"a": 1}\n[1]\n', "x.jsonl", "line 2", "found an array"),
            ("null\n", "x.jsonl", "found null"),
            ("[" * 100000, "x.jsonl", "line 1", "cannot be read"),
            ('[{"a":' + "[" * 100000, "x.json", "line 1, column 2", "cannot be read"),
        ]:
            with self.subTest(content=content[:40]):
                with self.assertRaises(EntityError) as raised:
                    self.read(content, name)
                for word in words:
                    self.assertIn(word, str(raised.exception))

    def test_position_far_into_a_file(self):
        lines = ",\n".join('{"ID": "%d", "text": "%s"}' % (i, "x" * (i % 97)) for i in range(20000))
        with self.assertRaisesRegex(EntityError, "line 20001, column 3: expected an object"):
            self.read("[" + lines + ",\n  7]")

    def test_objects_longer_than_a_chunk(self):
        long = [
            {"ID": str(i), "text": "ä" * i} for i in (1, entities.CHUNK - 20, 3 * entities.CHUNK, 2)
        ]
        for name in ("x.json", "x.jsonl"):
            path = self.folder / name
            write_entities(path, long)
            self.assertEqual(list(read_entities(path)), long)

    def test_too_long(self):
        self.addCleanup(setattr, entities, "MAX_ENTITY", entities.MAX_ENTITY)
        entities.MAX_ENTITY = 1 << 17
        for content, name in [
            ('[{"a": "' + "x" * (1 << 20) + '"}]', "x.json"),
            ('{"a": "' + "x" * (1 << 20) + '"}', "x.jsonl"),
            ("ID\n" + "x" * (1 << 20), "x.csv"),
        ]:
            with (
                self.subTest(name=name),
                self.assertRaisesRegex(EntityError, "longer than 131072 characters"),
            ):
                self.read(content, name)

    def test_memory_stays_flat(self):
        def rows():
            for number in range(60_000):
                yield {"ID": str(number), "href": "", "text": "some text, repeated " * 5}

        for format, ending in ENDINGS.items():
            path = self.folder / f"large.{ending}"
            write_entities(path, rows())
            self.assertGreater(path.stat().st_size, 6_000_000)
            tracemalloc.start()
            try:
                self.assertEqual(sum(1 for _ in read_entities(path)), 60_000)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            with self.subTest(format=format):
                self.assertLess(peak, 1_500_000)


class Writing(InFolder):
    def written(self, items, name, **options):
        write_entities(self.folder / name, items, **options)
        return (self.folder / name).read_text(encoding="utf-8")

    def test_formats(self):
        items = [{"ID": "a", "n": 1, "x": None}, {"ID": "ü", "n": 2.5, "x": ["y"]}]
        self.assertEqual(self.written(items, "x.csv"), 'ID,n,x\na,1,\nü,2.5,"[""y""]"\n')
        self.assertEqual(
            self.written(items, "x.jsonl").splitlines()[1], '{"ID": "ü", "n": 2.5, "x": ["y"]}'
        )
        self.assertEqual(json.loads(self.written(items, "x.json")), items)
        self.assertEqual(self.written([], "x.json"), "[]\n")
        self.assertEqual(self.written([], "x.csv"), "")
        self.assertEqual(self.written([], "x.csv", attributes=["ID", "n"]), "ID,n\n")
        self.assertEqual(self.written([{"n": 1}], "x.csv", attributes=["ID", "n"]), "ID,n\n,1\n")

    def test_errors_leave_nothing_behind(self):
        for items, name, words in [
            (
                [{"ID": 1}, {"ID": 2, "b": 3}],
                "x.csv",
                "entity 2: the attribute 'b' is not among the columns .ID.",
            ),
            ([{"ID": float("nan")}], "x.json", "entity 1: cannot be written as JSON"),
            ([{"ID": {1}}], "x.jsonl", "entity 1"),
            ([{"ID": "\ud800"}], "x.csv", "entity 1: cannot be written as UTF-8"),
        ]:
            with self.subTest(words=words), self.assertRaisesRegex(EntityError, words):
                self.written(items, name)
            self.assertFalse((self.folder / name).exists())

    def test_half_a_surrogate_pair_is_escaped(self):
        self.assertEqual(self.written([{"ID": "\ud800"}], "x.jsonl"), '{"ID": "\\ud800"}\n')


class RoundTrips(InFolder):
    """Random entities come back as they were: as texts from CSV, as they are from JSON."""

    ALPHABET = "aZ0 ,;\"'\n\r\t\\{}[]:äß日😀\u2028\u0001"

    def setUp(self):
        super().setUp()
        self.random = random.Random(20261122)
        self.addCleanup(setattr, entities, "CHUNK", entities.CHUNK)

    def text(self):
        return "".join(self.random.choices(self.ALPHABET, k=self.random.randrange(12)))

    def value(self, depth=0):
        kind = self.random.randrange(8 if depth < 3 else 6)
        if kind == 6:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        if kind == 7:
            return {self.text(): self.value(depth + 1) for _ in range(self.random.randrange(4))}
        numbers = (self.random.randrange(-(10**20), 10**20), self.random.uniform(-1e9, 1e9))
        return [self.text(), *numbers, True, False, None][kind]

    def test_json(self):
        for _ in range(150):
            entities.CHUNK = self.random.choice([1, 2, 3, 7, 64, 1 << 16])
            items = [
                {
                    "ID": str(i),
                    **{self.text(): self.value() for _ in range(self.random.randrange(5))},
                }
                for i in range(self.random.randrange(8))
            ]
            for name in ("x.json", "x.jsonl"):
                self.assertEqual(write_entities(self.folder / name, items), len(items))
                self.assertEqual(list(read_entities(self.folder / name)), items)

    def test_csv(self):
        for _ in range(200):
            names = [f"{i}{self.text()}" for i in range(self.random.randrange(1, 5))]
            items = [
                {name: self.text() for name in names} for _ in range(self.random.randrange(1, 8))
            ]
            write_entities(self.folder / "x.csv", items)
            self.assertEqual(list(read_entities(self.folder / "x.csv")), items)

    def test_cut_and_broken_files_never_crash(self):
        """Every prefix and many small changes of a good file are read, or refused."""
        items = [{"ID": "ä", "n": [1.5, None], "t": 'x"\n'}, {"ID": "b", "n": -12, "t": "\\"}]
        for format, ending in ENDINGS.items():
            name = f"good.{ending}"
            write_entities(self.folder / name, items)
            good = (self.folder / name).read_bytes()
            broken = [good[:cut] for cut in range(len(good))]
            for _ in range(300):
                some = bytearray(good)
                some[self.random.randrange(len(some))] = self.random.randrange(256)
                broken.append(bytes(some))
            for content in broken:
                path = self.file(content, f"x.{ending}")
                try:
                    for entity in read_entities(path):
                        self.assertIsInstance(entity, dict)
                except EntityError as error:
                    self.assertRegex(str(error), rf"x\.{ending}: line \d+")

    def test_nonsense(self):
        for _ in range(300):
            content = self.random.randbytes(self.random.randrange(200))
            for ending in ENDINGS.values():
                path = self.file(content, f"x.{ending}")
                try:
                    list(read_entities(path))
                except EntityError as error:
                    self.assertRegex(str(error), r"line \d+")
