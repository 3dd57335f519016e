"""`benchmarks` is no part of the package: the repository's root is looked in last, after what is installed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
