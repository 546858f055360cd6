"""The hello worlds: one behaviour, several kinds of plugins, as recorded from the reference."""

import os
import unittest

from support import ROOT, host

DESCRIPTION = "Tests the connection of all components by printing some text."
EXECUTABLE = ROOT / "stable_plugins" / "demo" / "hello_world_exec"


class HelloWorld(unittest.TestCase):
    def hosts(self):
        yield "hello-world-python", host("demo/hello_world_python.py")
        yield "hello-world-exec", host("demo/hello_world_exec", command=[str(EXECUTABLE)])

    def test_description(self):
        for name, started in self.hosts():
            with self.subTest(name=name), started as running:
                described = running.describe()[name]
                for key in ("steps", "links"):  # empty is as good as absent
                    self.assertIn(described.pop(key, []), ([],))
                self.assertEqual(
                    described,
                    {
                        "name": name,
                        "version": "v0.2.1",
                        "title": name,
                        "description": DESCRIPTION,
                        "help": "This is an example help text with basic **Markdown** support.",
                        "type": "processing",
                        "tags": ["hello-world", "demo"],
                        "parameters": {
                            "type": "object",
                            "properties": {
                                "inputStr": {
                                    "title": "Input String",
                                    "description": "A simple string input.",
                                    "type": "string",
                                    "x-multiline": True,
                                }
                            },
                            "required": ["inputStr"],
                        },
                        "example": {"inputStr": "Sample input string."},
                        "dataOutput": [
                            {
                                "dataType": "custom/hello-world-output",
                                "contentType": ["text/plain"],
                                "required": True,
                            }
                        ],
                    },
                )

    def test_runs(self):
        for name, started in self.hosts():
            with started as running:
                for given, text in [
                    ("my input", "my output"),
                    ('ünï\'cöde "input" 日本\n2nd', 'ünï\'cöde "output" 日本\n2nd'),
                    ("a\r\nb", "a\r\nb"),
                ]:
                    with self.subTest(name=name, given=given):
                        result = running.run(name, {"inputStr": given})
                        self.assertEqual(result.log, [f"result: {text!r}"])
                        (output,) = result.outputs
                        found = (output.name, output.data_type, output.content_type, output.content)
                        expected = (
                            "out.txt",
                            "custom/hello-world-output",
                            "text/plain",
                            text.encode(),
                        )
                        self.assertEqual(found, expected)

    def test_empty(self):
        for name, started in self.hosts():
            with self.subTest(name=name), started as running:
                result = running.run(name, {"inputStr": ""})
                self.assertEqual(result.log, ["Empty input string, no output could be generated!"])
                self.assertEqual(result.outputs, [])

    def test_the_executable_as_a_host(self):
        self.assertTrue(os.access(EXECUTABLE, os.X_OK))
        with host("demo/hello_world_exec", command=[str(EXECUTABLE)]) as running:
            self.assertEqual(running.request("ping"), {})
            running.send({"id": "u", "method": "unknown"})
            self.assertEqual(running.answer("u")["error"]["code"], -32601)
            running.send({"id": "b", "method": "run", "params": {"parameters": {}}})
            self.assertEqual(running.answer("b")["error"]["message"], "KeyError('inputStr')")
            running.send({"method": "cancel", "params": {"task": 1, "run": 1}})
            running.send({"method": "shutdown"})
            self.assertEqual(running.process.wait(30), 0)


class MultiStep(unittest.TestCase):
    NAME = "hello-world-multi-step"

    def setUp(self):
        self.host = host("demo/hello_world_multi_step.py").__enter__()
        self.addCleanup(self.host.close)

    def test_description(self):
        described = self.host.describe()[self.NAME]
        self.assertEqual(described["tags"], ["hello-world", "demo", "multistep"])
        self.assertEqual(described["title"], self.NAME)
        self.assertEqual(described["dataOutput"], [])
        self.assertEqual(described["example"], {"inputStr": "Test."})
        (step,) = described["steps"]
        self.assertEqual(step["step"], "demo-step")
        self.assertEqual(step["parameters"], described["parameters"])
        self.assertEqual(step["example"], {"inputStr": "Sample input string."})
        self.assertNotIn("help", step)

    def test_both_steps(self):
        first = self.host.run(self.NAME, {"inputStr": "first"})
        self.assertEqual(first.log, ["result: 'Processed in the preprocessing step: first'"])
        self.check_progress(first, 50)
        self.check_output(first, "output1.txt", "Processed in the preprocessing step: first")
        (step,) = first.steps
        self.assertEqual((step["step"], step["stepId"]), ("demo-step", "demo-step"))
        self.assertEqual(step["values"], {"inputStr": "Input from preprocessing: first"})

        second = self.host.run(self.NAME, {"inputStr": "second"}, step="demo-step", data=first.data)
        self.assertEqual(second.log, ["result: 'Processed in the processing step: first second'"])
        self.check_progress(second, 100)
        self.check_output(second, "output2.txt", "Processed in the processing step: first second")
        self.assertEqual(second.steps, [])

    def test_empty(self):
        first = self.host.run(self.NAME, {"inputStr": ""})
        self.assertEqual(first.log, ["Empty input string, no output could be generated!"])
        self.assertEqual(first.outputs, [])
        second = self.host.run(self.NAME, {"inputStr": "x"}, step="demo-step", data=first.data)
        self.check_output(second, "output2.txt", "Processed in the processing step:  x")

    def check_progress(self, result, value):
        (progress,) = result.progress
        progress.pop("task")
        self.assertEqual(progress, {"value": value, "start": 0, "target": 100, "unit": "%"})

    def check_output(self, result, name, text):
        (output,) = result.outputs
        found = (output.name, output.data_type, output.content_type, output.text)
        self.assertEqual(found, (name, "hello-world-output", "text/plain", text))


if __name__ == "__main__":
    unittest.main()
