"""Tests run from anywhere: the five scripts lie one folder up."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
