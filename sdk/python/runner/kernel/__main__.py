"""`python -m runner.kernel CONFIG`: the zygote; its line to the runner is descriptor 3."""

import json
import sys

from runner.kernel.zygote import Zygote

sys.exit(Zygote(json.loads(sys.argv[1]), 3).serve())
