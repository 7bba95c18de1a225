"""Targets of other processes lie beside the tests: they cannot import the tests themselves."""

import sys
from pathlib import Path

# In importlib mode the folder of a test is not on the path, and other processes need it there.
sys.path.insert(0, str(Path(__file__).parent))
