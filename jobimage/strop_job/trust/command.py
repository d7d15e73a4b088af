"""`strop verify`: which folder is meant, and how what was found is shown."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from strop_api.failures import ExitCode
from strop_job.errors import InvalidInput
from strop_job.local import Wishes, find_store, open_store, read_policy
from strop_job.publish import MANIFEST, POINTER
from strop_job.trust.places import DiskPlace, Place, StoredPlace
from strop_job.trust.verification import Verification
from strop_job.trust.verify import verify

SCHEME = "s3://"


@dataclass(frozen=True)
class Question:
    """What is to be verified, and how."""

    uri: str
    """`s3://` below the store, or the path of a copy on this disk."""
    wishes: Wishes
    store_name: str = "default"
    namespace: str = "default"
    key: Path | None = None
    required: Sequence[str] = ()
    as_json: bool = False


def answer(question: Question, out: Console) -> ExitCode:
    """Verify, say what was found, and return the exit code. Raises StropError."""
    key = None
    if question.key is not None:
        from strop_job.trust.signing import read_public_key

        key = read_public_key(question.key)
    try:
        found = verify(_place(question), key, question.required)
    except OSError as error:
        raise InvalidInput(f"{error.filename}: {error.strerror}", mend="check its permissions") from error
    if question.as_json:
        out.print_json(json.dumps(found.document()))
    else:
        for line in _lines(found):
            out.print(line, soft_wrap=True)
    return ExitCode.PUBLISHED if found.passed else ExitCode.INVALID_INPUT


def _place(question: Question) -> Place:
    uri = question.uri.rstrip("/")
    for paper in (POINTER, MANIFEST):
        uri = uri.removesuffix(f"/{paper}")
    if uri.startswith(SCHEME):
        access = find_store(
            question.wishes, read_policy(question.wishes.policy), question.store_name, question.namespace
        )
        store, _ = open_store(access, question.wishes)
        return StoredPlace(store, uri)
    if "://" in uri or not Path(uri).is_dir():
        raise InvalidInput(f"{question.uri} is neither s3:// nor a folder here", mend="give spec.output.uri")
    return DiskPlace(Path(uri).resolve())


def _lines(found: Verification) -> Iterator[Text]:
    yield Text.assemble(("verified" if found.passed else "NOT VERIFIED", _tone(found)), f"  {found.uri}")
    for fault in found.faults:
        yield Text.assemble(("✗ ", "bold red"), (str(fault.problem), "bold"), f": {_shown(fault.message)}")
    if (seen := found.provenance) is not None:
        run, on = seen.run, seen.hardware
        yield Text(_shown(f"  run {run.id} of {run.namespace}/{run.name}, target {run.target}"))
        yield Text(_shown(f"  measured on {on.get('cpu_model', 'unknown')} ({on.get('arch', 'unknown')})"))
    yield Text(f"  files compared: {found.files}; signature: {found.signature}")
    for gate in found.gates:
        yield Text(_shown(f"  {gate.verdict:<8} {gate.gate}: {gate.message}"))
    for note in found.notes:
        yield Text(f"  note: {note}", style="dim")


def _shown(text: str) -> str:
    """Without what would steer a terminal: the words are those of whoever wrote the folder."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _tone(found: Verification) -> str:
    return "bold green" if found.passed else "bold red"
