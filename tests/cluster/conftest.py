"""Makes `import cluster` work in this folder, with or without pytest's `pythonpath = ["tests"]`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
