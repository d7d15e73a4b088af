"""Runs the real supervisor over `child.py` in a mode: drive.py MODE REQUEST LOG PORT STALE GRACE."""

import sys
from pathlib import Path

from strop_job.supervisor import Settings, supervise

mode, request, log, port, stale, grace = sys.argv[1:]
child = Path(__file__).with_name("child.py")
settings = Settings(Path(request), Path(log), int(port), float(stale), float(grace))
sys.exit(supervise(settings, lambda descriptor: [sys.executable, str(child), mode, str(descriptor)]))
