"""The process that works: builds store, plan and pipeline from the request, and speaks to the supervisor on a pipe.

What it says are JSON lines: progress, each with the silence that may follow it, and at the end the result. It holds
the store's credentials; whatever it starts in turn (a benchmark's processes) inherits neither them nor the pipe.
"""

import argparse
import json
import logging
import os
import select
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from strop_api.errands import SIGNING_PATH
from strop_api.result import CREDENTIALS_PATH, SCRATCH_PATH, Result, RunRequest
from strop_job.outcome import diagnose, exit_code, make_result, redact
from strop_job.progress import Event, Update
from strop_job.store.credentials import CredentialSource, FolderCredentials
from strop_job.store.objects import ObjectStore

log = logging.getLogger(__name__)


class Speaker:
    """Writes lines to the supervisor."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor, self._lock = descriptor, threading.Lock()

    def say(self, message: dict[str, JsonValue]) -> None:
        """One line."""
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._descriptor, data) :]


class PipeReporter:
    """Passes progress on to the supervisor, and SIGTERM on to the pipeline."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker, self._stop = speaker, threading.Event()

    def tell(self, update: Update) -> None:
        """A finished stage is shown by the next one's start."""
        message: dict[str, JsonValue] = {"silence": update.silence_seconds}
        if update.event is not Event.FINISHED:
            progress = update.progress.model_dump(mode="json", by_alias=True)
            message |= {"progress": progress, "measuring": update.measuring}
        self._speaker.say(message)

    def stopping(self) -> bool:
        """Whether SIGTERM has arrived."""
        return self._stop.is_set()

    def stop(self) -> None:
        """SIGTERM arrived."""
        self._stop.set()


@dataclass(frozen=True)
class Place:
    """Where the worker finds what it needs; the defaults are the pod's."""

    request: Path
    scratch: Path
    credentials: Path
    local_store: Path | None
    """A folder that stands for the object store, in tests and on a laptop."""
    signing: Path = Path(SIGNING_PATH)
    """Folder with the key that signs what is published; absent without one."""


def follow(descriptor: int) -> None:
    """Leaves when the supervisor does. The thread sleeps until then; what hangs is told by the lack of progress."""
    poll = select.poll()
    poll.register(descriptor, 0)

    def wait() -> None:
        poll.poll()
        leave()

    threading.Thread(target=wait, name="follow", daemon=True).start()


def leave() -> None:
    """The supervisor is gone and nobody would hear the result: ends this process and what it started."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def open_store(place: Place, request: RunRequest) -> tuple[ObjectStore, tuple[str, ...]]:
    """The object store of the request, and the texts that must appear in no message."""
    if place.local_store is not None:
        from strop_job.store.local import LocalStore

        return LocalStore(place.local_store), ()
    from strop_job.store.s3 import S3Store

    source: CredentialSource = FolderCredentials(place.credentials)
    keys = source.current()
    secrets = (keys.secret_key, keys.access_key, keys.session_token or "")
    return S3Store(request.store, source), tuple(s for s in secrets if s)


def work(place: Place, request: RunRequest, reporter: PipeReporter) -> Result:
    """Does the run; what goes wrong before the pipeline starts becomes a result too."""
    secrets: tuple[str, ...] = ()
    try:
        from strop_job.pipeline import run
        from strop_job.plan import make_plan
        from strop_job.sources import Reach
        from strop_job.trust.mounted import mounted_signer
        from strop_job.walk import Shop, records_of

        store, secrets = open_store(place, request)
        signer, hidden = mounted_signer(place.signing)
        secrets += hidden
        plan = make_plan(request, Reach(store))
        shop = Shop(store, records_of(request, store), place.scratch, reporter, secrets=secrets, signer=signer,
                    answer_published=True)  # fmt: skip
        return run(plan, shop).result
    except Exception as error:
        trouble = diagnose(error, "start", secrets)
        log.warning("%s", redact(repr(error), secrets))
        return make_result(
            request,
            trouble.outcome,
            message=trouble.message + (f" ({trouble.mend})" if trouble.mend else ""),
            field=trouble.field,
        )


def keep_temporary_files_in(scratch: Path) -> None:
    """Of this process and of those it starts: the pod's /tmp is small, and the scratch volume has the spec's size."""
    scratch.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = os.environ["TMPDIR"] = str(scratch)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the child process."""
    place, descriptor = parse(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format="strop: %(levelname)s %(message)s", stream=sys.stderr)
    request = RunRequest.model_validate_json(place.request.read_bytes())
    speaker = Speaker(descriptor)
    reporter = PipeReporter(speaker)
    signal.signal(signal.SIGTERM, lambda *_: reporter.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    follow(descriptor)
    keep_temporary_files_in(place.scratch)
    result = work(place, request, reporter)
    speaker.say({"result": result.model_dump(mode="json", by_alias=True, exclude_defaults=True)})
    return int(exit_code(result.outcome))


def parse(arguments: Sequence[str]) -> tuple[Place, int]:
    """The flags that the supervisor passes."""
    parser = argparse.ArgumentParser(prog="strop_job.worker", description="Started by `strop worker`, not by hand.")
    parser.add_argument("--request", type=Path, required=True)
    parser.add_argument("--descriptor", type=int, required=True)
    parser.add_argument("--scratch", type=Path, default=Path(SCRATCH_PATH))
    parser.add_argument("--credentials", type=Path, default=Path(CREDENTIALS_PATH))
    parser.add_argument("--local-store", type=Path, default=None)
    parser.add_argument("--signing", type=Path, default=Path(SIGNING_PATH))
    known = parser.parse_args(arguments)
    place = Place(known.request, known.scratch, known.credentials, known.local_store, known.signing)
    return place, known.descriptor


if __name__ == "__main__":
    sys.exit(main())
