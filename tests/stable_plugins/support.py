"""What the tests of all themes share: the plugins' host, and real data."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "sdk" / "python"))

from runner.testing import Host  # noqa: E402

#: Samples from the QHAna project; see tests/data/README.md.
DATA = ROOT / "tests" / "data" / "qhana"


def host(plugin, **options):
    """A host for a plugin, called by its path below stable_plugins/."""
    return Host(ROOT / "stable_plugins" / plugin, **options)
