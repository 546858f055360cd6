"""The examples of README.md do what it says."""

import os
import re
import tempfile
import unittest
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


class Readme(unittest.TestCase):
    def test_examples(self):
        blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
        self.assertGreaterEqual(len(blocks), 6)
        home = os.getcwd()
        self.addCleanup(os.chdir, home)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            for block in blocks:
                name = re.match(r"# (\w+\.py)\n", block)
                if name:  # a plugin, for the blocks that follow
                    Path(name[1]).write_text(block, encoding="utf-8")
                else:
                    exec(compile(block, str(README), "exec"), {})
            os.chdir(home)
