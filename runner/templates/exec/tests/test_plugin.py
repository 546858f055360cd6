"""Speaks the protocol with the executable, as the runner does. Needs nothing but Python."""

import json
import subprocess
import tempfile
import unittest
from pathlib import Path

PLUGIN = Path(__file__).resolve().parent.parent / "@name@"


class TestPlugin(unittest.TestCase):
    def test_lines_are_repeated(self):
        with tempfile.TemporaryDirectory() as directory:
            run = {"parameters": {"text": "a\nb", "times": 3}, "inputs": {}, "directory": directory}
            requests = [("welcome", {"protocol": 1}), ("describe", {}), ("run", run)]
            lines = [
                json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
                for id, (method, params) in enumerate(requests)
            ]
            done = subprocess.run(
                [PLUGIN], input="\n".join(lines) + "\n", stdout=subprocess.PIPE, text=True, check=True
            )
            answers = [json.loads(line) for line in done.stdout.splitlines()]
            self.assertEqual(answers[0]["result"]["protocol"], 1)
            self.assertEqual(answers[1]["result"]["plugins"][0]["name"], "@name@")
            self.assertEqual(answers[2]["params"]["path"], "lines.txt")
            self.assertEqual(answers[3]["result"]["log"], "2 lines became 6")
            self.assertEqual(Path(directory, "lines.txt").read_text(), "a\na\na\nb\nb\nb")


if __name__ == "__main__":
    unittest.main()
