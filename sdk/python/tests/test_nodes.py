"""Functions as nodes: how they are declared, and what goes over their socket."""

import asyncio
import inspect
import json
import os
import socket
import tempfile
import threading
import unittest

from runner import DefinitionError, Pipeline, PipelineError, node, source
from runner import pipeline
from runner.items import Items
from runner.outcome import MAX_ITEM, PART
from runner.plugin import REGISTRY


class Desk(unittest.TestCase):
    def setUp(self):
        self.addCleanup(REGISTRY.plugins.update, dict(REGISTRY.plugins))
        self.addCleanup(REGISTRY.plugins.clear)
        REGISTRY.plugins.clear()

    def serve(self, *nodes):
        """The pipeline's end of a socket whose other end these nodes serve."""
        ours, theirs = socket.socketpair()
        ours.settimeout(30)
        served = threading.Thread(target=Items(theirs, nodes, None).serve)
        served.start()
        self.lines = ours.makefile("rwb")

        def end():
            self.lines.close()
            ours.close()
            served.join(30)
            self.assertFalse(served.is_alive())
            theirs.close()

        self.end = end
        self.addCleanup(end)
        self.id = 0

    def send(self, method, **params):
        self.id += 1
        message = {"jsonrpc": "2.0", "id": self.id, "method": method, "params": params}
        self.lines.write(json.dumps(message).encode() + b"\n")
        self.lines.flush()
        return self.id

    def hear(self):
        return json.loads(self.lines.readline())

    def ask(self, method, **params):
        id = self.send(method, **params)
        answer = self.hear()
        self.assertEqual(answer["id"], id)
        self.assertNotIn("error", answer)
        return answer["result"]

    def open(self, plugin, number=1, **more):
        params = {"node": number, "name": "n", "plugin": plugin.identifier, "with": {}, **more}
        self.assertEqual(self.ask("open", **params), {})


class Declared(Desk):
    def test_description(self):
        @node(version="1.0.0", tags=["a"], example=["x"])
        def reverse_it(item: str, times: int = 1, context=None) -> str:
            """Turns it round."""
            return item[::-1]

        described = reverse_it.describe()
        self.assertEqual(described["name"], "reverse-it")
        expected = {
            "source": False,
            "takes": {"type": "string"},
            "gives": {"type": "string"},
            "example": ["x"],
        }
        self.assertEqual(described["node"], expected)
        self.assertEqual([*described["parameters"]["properties"]], ["times", "items"])
        self.assertEqual(reverse_it("abc"), "cba")

        @source(version="1.0.0", gives={"type": "integer"})
        def count(to: int):
            yield from range(to)

        described = count.describe()
        self.assertEqual(described["node"], {"source": True, "gives": {"type": "integer"}})
        self.assertEqual([*described["parameters"]["properties"]], ["to"])

    def test_mistakes(self):
        with self.assertRaisesRegex(DefinitionError, "needs a version"):
            node(lambda item: item)
        with self.assertRaisesRegex(DefinitionError, "a first parameter for its item"):
            node(version="1")(lambda: 1)
        with self.assertRaisesRegex(DefinitionError, "'n' needs a type hint"):
            node(version="1")(lambda item, n: 1)
        with self.assertRaisesRegex(DefinitionError, "'items' is that of its runs"):

            @node(version="1")
            def taken(item, items: list):
                return item


class Socket(Desk):
    def test_outcomes(self):
        @node(version="1.0.0")
        def all_kinds(item):
            if item == "bad":
                raise ValueError("is bad")
            if item == "nan":
                return float("nan")
            return None if item == "none" else item

        self.serve(all_kinds)
        self.open(all_kinds)
        items = ["a", "bad", "none", "nan", [1]]
        made = self.ask("items", node=1, items=items)["made"]
        self.assertEqual(made[:3], [["a"], {"error": "ValueError: is bad"}, []])
        self.assertIn("no JSON", made[3]["error"])
        self.assertEqual(made[4], [[1]])
        self.assertEqual(self.ask("close", node=1), {})
        self.send("items", node=1, items=[1])
        self.assertIn("node 1 is not open", self.hear()["error"]["message"])

    def test_many_in_flight_and_their_parameters(self):
        going = asyncio.Event()
        waits = []

        @node(version="1.0.0")
        async def slow(item, add: int):
            waits.append(item)
            if len(waits) == 3:
                going.set()
            await going.wait()
            return item + add

        self.serve(slow)
        params = {"with": None, "concurrency": 3}
        self.open(slow, **params)
        sent = [{"items": [n], "with": [{"add": 10 * n}]} for n in (1, 2, 3)]
        ids = [self.send("items", node=1, **one) for one in sent]
        answers = {}
        for _ in ids:
            answer = self.hear()
            answers[answer["id"]] = answer["result"]["made"]
        self.assertEqual([answers[id] for id in ids], [[[11]], [[22]], [[33]]])

    def test_a_request_that_is_dropped_is_let_go(self):
        @node(version="1.0.0")
        async def waits(item):
            await asyncio.sleep(1000)

        self.serve(waits)
        self.open(waits)
        id = self.send("items", node=1, items=[1])
        self.lines.write(json.dumps({"method": "drop", "params": {"id": id}}).encode() + b"\n")
        self.lines.flush()
        answer = self.hear()
        self.assertEqual((answer["id"], answer["error"]["code"]), (id, -32001))

    def test_much_comes_in_parts(self):
        @node(version="1.0.0")
        def long(item):
            return "x" * item

        self.serve(long)
        self.open(long)
        id = self.send("items", node=1, items=[PART, PART // 2, MAX_ITEM, 1])
        parts, answer = [], self.hear()
        while "id" not in answer:
            self.assertEqual((answer["method"], answer["params"]["id"]), ("made", id))
            parts += answer["params"]["made"]
            answer = self.hear()
        made = parts + answer["result"]["made"]
        self.assertEqual([len(one[0]) for one in (made[0], made[1], made[3])], [PART, PART // 2, 1])
        self.assertIn(f"at most {MAX_ITEM}", made[2]["error"])

    def test_sources(self):
        @source(version="1.0.0")
        def count(to: int):
            yield from range(to)

        @source(version="1.0.0")
        async def letters():
            for letter in "abc":
                yield letter

        self.serve(count, letters)
        self.open(count, 1, **{"with": {"to": 5}})
        self.assertEqual(self.ask("pull", node=1, count=3), {"values": [0, 1, 2], "end": False})
        self.assertEqual(self.ask("pull", node=1, count=3), {"values": [3, 4], "end": True})
        self.open(letters, 2)
        self.assertEqual(self.ask("pull", node=2, count=9)["values"], ["a", "b", "c"])

    def test_functions_of_each_kind_take_what_follows_their_item(self):
        def calls(item, more):
            return item + more

        def yields(item, more):
            yield item + more

        async def awaits(item, more):
            return item + more

        async def streams(item, more):
            yield item + more

        async def first(stream):
            async for value in stream:
                return value

        made = {
            calls: lambda value: value,
            yields: next,
            awaits: asyncio.run,
            streams: lambda stream: asyncio.run(first(stream)),
        }
        for function, value in made.items():
            bound = pipeline._bound(function, (2,), False)
            self.assertEqual(list(inspect.signature(bound).parameters), ["item"])
            self.assertEqual(value(bound(1)), 3, function.__name__)

    def test_what_a_source_has_made_is_not_held_back(self):
        going = threading.Event()

        @source(version="1.0.0")
        def halting():
            yield 1
            yield 2
            going.wait(30)
            yield 3

        self.serve(halting)
        self.open(halting)
        values = []
        while len(values) < 2:
            values += self.ask("pull", node=1, count=9)["values"]
        self.assertEqual(values, [1, 2])
        going.set()
        self.assertEqual(self.ask("pull", node=1, count=9)["values"], [3])

    def test_a_source_that_is_dropped_while_it_waits_lets_go(self):
        going = threading.Event()
        self.addCleanup(going.set)

        @source(version="1.0.0")
        def waiting():
            going.wait(30)
            yield 1

        self.serve(waiting)
        self.open(waiting)
        id = self.send("pull", node=1, count=9)
        self.lines.write(json.dumps({"method": "drop", "params": {"id": id}}).encode() + b"\n")
        self.lines.flush()
        self.assertEqual(self.hear()["id"], id)
        self.assertEqual(self.ask("close", node=1), {})

    def test_setup_values_and_cleanup_when_the_pipeline_is_gone(self):
        seen = []

        @node(version="1.0.0")
        def first(item, context):
            context.values["sum"] += item
            return context.values["sum"]

        @first.setup
        def begin(context):
            context.values["sum"] = 100

        @first.cleanup
        def end(context):
            seen.append(context.name)

        @node(version="1.0.0")
        async def second(item, context):
            return context.values["sum"]

        @second.cleanup
        async def end_second(context):
            seen.append(context.values["sum"])

        self.serve(first, second)
        self.open(first, 1)
        self.open(second, 2)
        self.assertEqual(self.ask("items", node=1, items=[1, 2])["made"], [[101], [103]])
        self.assertEqual(self.ask("items", node=2, items=[0])["made"], [[103]])
        self.end()
        self.assertEqual(sorted(seen, key=str), [103, "n"])

    def test_files_are_items(self):
        @node(version="1.0.0")
        def copied(item, context):
            with open(item["path"], encoding="utf-8") as file:
                text = file.read()
            return context.file("copy.txt", text.upper(), data_type="custom/copy")

        with tempfile.TemporaryDirectory() as folder:
            given = os.path.join(folder, "given.txt")
            with open(given, "w", encoding="utf-8") as file:
                file.write("text")
            self.serve(copied)
            self.open(copied, directory=folder)
            item = {"name": "given.txt", "dataType": "custom/given", "path": given}
            [[made]] = self.ask("items", node=1, items=[item])["made"]
            self.assertEqual((made["name"], made["dataType"]), ("copy.txt", "custom/copy"))
            self.assertEqual(os.path.dirname(made["path"]), folder)
            with open(made["path"], encoding="utf-8") as file:
                self.assertEqual(file.read(), "TEXT")
            self.end()

    def test_what_cannot_be_opened(self):
        @node(version="1.0.0")
        def needs(item, n: int):
            return item

        @needs.setup
        def begin(context):
            raise RuntimeError("no")

        self.serve(needs)
        for params, message in [
            ({"plugin": "other@1-0-0", "with": {}}, "there is no node 'other@1-0-0' here"),
            ({"plugin": "needs@1-0-0", "with": {}}, "parameter 'n' is missing"),
            ({"plugin": "needs@1-0-0", "with": {"n": 1}}, "RuntimeError: no"),
        ]:
            with self.subTest(message):
                self.send("open", node=self.id, name="n", **params)
                self.assertIn(message, self.hear()["error"]["message"])


def by_name(item):
    return item


class Graphs(unittest.TestCase):
    def test_functions_by_object_and_by_name(self):
        pipeline = Pipeline(
            {
                "nodes": {
                    "inp": {"coro": lambda: iter("ab")},
                    "own": {"coro": "by_name"},
                    "other": {"coro": "os.path:basename"},
                    "up": {"coro": "map", "args": ["item | upper"]},
                },
                "graph": {"inp": ["own"], "own": ["other"], "other": ["up"], "up": None},
            }
        )
        used = {name: node["coro"] for name, node in pipeline.document["nodes"].items()}
        expected = {
            "inp": "python:inp",
            "own": "python:own",
            "other": "python:other",
            "up": "map",
        }
        self.assertEqual(used, expected)
        self.assertTrue(pipeline.nodes["python:inp"].is_source)
        self.assertFalse(pipeline.nodes["python:own"].is_source)

    def test_mistakes(self):
        with self.assertRaisesRegex(PipelineError, "there is no function 'os:nowhere'"):
            Pipeline({"nodes": {"a": {"use": "os:nowhere"}}})
        pipeline = Pipeline({"nodes": {"a": {"use": lambda: iter("a")}}}, runner="/nowhere/runner")
        with self.assertRaisesRegex(PipelineError, "there is no command '/nowhere/runner'"):
            pipeline.run()


if __name__ == "__main__":
    unittest.main()
