"""Everything at full size: checkpoints with random weights, and what is measured with them."""

import sys
from pathlib import Path

# The builders of tests/tiny and the broken stages of tests/fakes serve here too.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
