"""As drive.py, with a SIGTERM that arrives when the child is reaped and the supervisor has not noted it yet."""

import os
import runpy
import signal
from pathlib import Path

reap = os.waitpid


def waitpid(*arguments):
    pid, status = reap(*arguments)
    if pid:
        os.kill(os.getpid(), signal.SIGTERM)
    return pid, status


os.waitpid = waitpid
runpy.run_path(str(Path(__file__).with_name("drive.py")))
