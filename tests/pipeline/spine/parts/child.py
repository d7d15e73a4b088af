"""A child of the supervisor that does what its mode says; it speaks the worker's protocol on a descriptor."""

import json
import os
import signal
import subprocess
import sys
import time

MODE, DESCRIPTOR = sys.argv[1], int(sys.argv[2])
RESULT = {"runId": "0123456789", "outcome": "Published", "finishedAt": "2026-01-01T00:00:00Z", "message": "fine"}


def say(**message):
    os.write(DESCRIPTOR, json.dumps(message).encode() + b"\n")


def progress(stage, percent, measuring=False):
    say(progress={"stage": stage, "percent": percent}, measuring=measuring)


def forever():
    while True:
        say(beat=True)
        time.sleep(0.05)


def good():
    for percent, stage in ((10, "export"), (40, "int8"), (80, "benchmark")):
        progress(stage, percent, measuring=stage == "benchmark")
    say(result=RESULT)


def waits():
    progress("export", 10)
    forever()


def steps():
    for percent in range(100):
        progress("export", percent)
        time.sleep(0.05)


def obeys():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))
    waits()


def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    waits()


def orphans():
    grandchild = subprocess.Popen(["sleep", "600"])
    progress(f"pid-{grandchild.pid}", 10)
    forever()


def babbles():
    os.write(DESCRIPTOR, b"{not json\n" + b"x" * 400_000 + b"\n" + b'{"progress": {"stage": 5}}\n[1]\n')
    good()


def crashes():
    progress("int8", 40)
    os.kill(os.getpid(), signal.SIGSEGV)


def hogs():
    progress("int8", 40)
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1 << 20)) * 4)


def hogs_in_a_child():
    progress("export", 40)
    hog = [sys.executable, "-c", "kept = []\nwhile True: kept.append(bytearray(b'x') * (4 << 20))"]
    ended = subprocess.run(hog)
    say(result=RESULT | {"outcome": "Failed", "message": f"the export ended with code {ended.returncode}"})
    sys.exit(1)


def wedged():
    """Speaks as the worker does; its stage never comes back from a native call, while other threads live on."""
    import threading

    from strop_job.progress import Tracker
    from strop_job.worker import PipeReporter, Speaker, follow

    reporter = PipeReporter(Speaker(DESCRIPTOR))
    signal.signal(signal.SIGTERM, lambda *_: reporter.stop())
    follow(DESCRIPTOR)
    tracker = Tracker((), reporter)
    tracker.begin("int8", 1.0, silence_seconds=0.5)
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def silent_end():
    progress("int8", 40)
    sys.exit(3)


globals()[MODE]()
