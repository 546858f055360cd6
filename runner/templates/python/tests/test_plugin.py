"""Runs the plugin as the runner does: in a process of its own. README.md says how to start this."""

import unittest
from pathlib import Path

from runner.testing import Host

PLUGIN = Path(__file__).resolve().parent.parent / "@snake@.py"


class TestPlugin(unittest.TestCase):
    def test_lines_are_repeated(self):
        with Host(PLUGIN) as host:
            result = host.run("@name@", {"text": "a\nb", "times": 3})
        self.assertIsNone(result.error)
        self.assertEqual(result.outputs[0].text, "a\na\na\nb\nb\nb")
        self.assertEqual(result.log, ["2 lines became 6"])

    def test_nothing_becomes_nothing(self):
        with Host(PLUGIN) as host:
            result = host.run("@name@", {"text": "", "times": 2})
        self.assertEqual(result.outputs[0].text, "")


if __name__ == "__main__":
    unittest.main()
