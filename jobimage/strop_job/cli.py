"""The command line: run, plan, verify, gc, worker, errand. What is heavy is imported by the command that needs it."""

import logging
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from strop_api.errands import SIGNING_PATH
from strop_api.failures import ExitCode
from strop_api.result import CREDENTIALS_PATH, PROGRESS_PORT, REQUEST_PATH, SCRATCH_PATH, TERMINATION_LOG
from strop_api.rules import InvalidSpec, Problem
from strop_job.errors import StropError
from strop_job.outcome import exit_code

if TYPE_CHECKING:
    from strop_job.console import ConsoleReporter
    from strop_job.local import Wishes

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Hones trained models: see the commands.")
out, err = Console(), Console(stderr=True)


class Form(StrEnum):
    """How an answer is written."""

    TEXT = "text"
    JSON = "json"


SpecFile = Annotated[Path, typer.Argument(help="YAML file with a ModelOptimization.", show_default=False)]
StoreOption = Annotated[
    str, typer.Option("--store", help="Folder that stands for the object store, or `s3` (STROP_S3_ENDPOINT, AWS_…).")
]
PolicyOption = Annotated[Path | None, typer.Option("--policy", help="YAML file with an OptimizationPolicy.")]
CodeOption = Annotated[bool, typer.Option("--allow-code", help="Allow .pt2 models and source by uri: both are code.")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, max=1024, help="Threads of one inference.")]


@app.command()
def run(
    spec: SpecFile,
    store: StoreOption = "out",
    policy: PolicyOption = None,
    allow_code: CodeOption = False,
    threads: ThreadsOption = None,
    force_measure: Annotated[bool, typer.Option(help="Measure again, whatever is on record.")] = False,
    scratch: Annotated[Path | None, typer.Option(help="Folder for work in progress.")] = None,
    signing_key: Annotated[
        Path | None,
        typer.Option(help="Private key that signs what is published, as cosign writes it (COSIGN_PASSWORD)."),
    ] = None,
) -> None:
    """Carry a ModelOptimization out on this machine; publish the result if every gate passes."""
    from strop_job.local import Wishes

    with problems_end_here():
        code = _run(spec, Wishes(store, policy, allow_code, threads), force_measure, scratch, signing_key)
    raise typer.Exit(code)


def _run(path: Path, wishes: "Wishes", force_measure: bool, scratch: Path | None, signing_key: Path | None) -> int:
    from strop_job.console import ConsoleReporter, local_path, show_finished
    from strop_job.local import S3, open_store, read_request

    request = read_request(path, wishes)
    store, secrets = open_store(request.store, wishes)
    signer = None
    if signing_key is not None:
        from strop_job.trust.signing import command_line_signer

        signer, hidden = command_line_signer(signing_key)
        secrets += hidden
    from strop_job.pipeline import run as carry_out
    from strop_job.plan import make_plan
    from strop_job.sources import Reach
    from strop_job.walk import Shop, records_of

    plan = make_plan(request, Reach(store, command_line=True))
    folder = scratch or Path(gettempdir()) / "strop"
    with ConsoleReporter(out) as reporter, stopped_by_signals(reporter):
        shop = Shop(store, records_of(request, store), folder, reporter, force_measure=force_measure, secrets=secrets,
                    signer=signer)  # fmt: skip
        finished = carry_out(plan, shop)
    root = None if wishes.store == S3 else Path(wishes.store)
    paths = [(name, local_path(root, uri) if root else uri) for name, uri in finished.places]
    show_finished(out, finished, paths)
    return int(exit_code(finished.outcome))


@app.command()
def plan(
    spec: SpecFile,
    store: StoreOption = "out",
    policy: PolicyOption = None,
    allow_code: CodeOption = False,
    threads: ThreadsOption = None,
) -> None:
    """Show what a run would do: its stages, which of them are on record, and what this release refuses."""
    from strop_job.local import Wishes

    with problems_end_here():
        code = _plan(spec, Wishes(store, policy, allow_code, threads))
    raise typer.Exit(code)


def _plan(path: Path, wishes: "Wishes") -> int:
    from strop_job.console import show_plan
    from strop_job.local import open_store, read_request
    from strop_job.plan import make_plan, refusals

    request = read_request(path, wishes)
    if refused := refusals(request.spec):
        _list(refused)
        return int(ExitCode.UNSUPPORTED)
    from strop_job.sources import Reach
    from strop_job.walk import forecast, records_of

    store, _ = open_store(request.store, wishes)
    made = make_plan(request, Reach(store, command_line=True))
    show_plan(out, made, forecast(made, records_of(request, store)))
    return 0


@app.command()
def verify(
    uri: Annotated[str, typer.Argument(help="spec.output.uri, a run's folder, or a copy of one.", show_default=False)],
    key: Annotated[Path | None, typer.Option(help="Public key that must have signed, such as cosign.pub.")] = None,
    require: Annotated[list[str] | None, typer.Option(help="Gate that must be among those passed; repeatable.")] = None,
    store: StoreOption = "out",
    policy: PolicyOption = None,
    namespace: Annotated[str, typer.Option(help="Namespace of the policy.")] = "default",
    store_name: Annotated[str, typer.Option(help="Entry of the policy.")] = "default",
    output: Annotated[Form, typer.Option("--output", "-o", help="Form of the answer.")] = Form.TEXT,
) -> None:
    """Check what is published: every digest, the signature, and that every gate was passed."""
    from strop_job.local import Wishes
    from strop_job.trust.command import Question, answer

    with problems_end_here():
        asked = Question(uri, Wishes(store, policy), store_name, namespace, key, require or (), output is Form.JSON)
        code = answer(asked, out)
    raise typer.Exit(int(code))


@app.command()
def gc(
    store: StoreOption = "out",
    policy: PolicyOption = None,
    namespace: Annotated[str, typer.Option(help="Whose records.")] = "default",
    store_name: Annotated[str, typer.Option(help="Entry of the policy.")] = "default",
    keep_days: Annotated[float, typer.Option(min=0, help="Records used within these days are kept.")] = 30.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove records and blobs that no recent run needs. Published artifacts and reports stay."""
    from strop_job.local import Wishes, find_store, open_store, read_policy

    with problems_end_here():
        from strop_job.gc import collect
        from strop_job.records import Records

        wishes = Wishes(store, policy)
        access = find_store(wishes, read_policy(policy), store_name, namespace)
        opened, _ = open_store(access, wishes)
        swept = collect(Records(opened, access.records_uri), keep_days, dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    out.print(
        f"{verb} {swept.records} records, {swept.blobs} blobs, {swept.runs} runs ({swept.size_bytes / 2**20:.1f} MiB); "
        f"kept {swept.kept_records} records, {swept.kept_blobs} blobs",
        soft_wrap=True,
    )


@app.command()
def worker(
    request: Annotated[Path, typer.Option(help="The run request.")] = Path(REQUEST_PATH),
    termination_log: Annotated[Path, typer.Option(help="Where the result is written.")] = Path(TERMINATION_LOG),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of /progress and /healthz.")] = PROGRESS_PORT,
    scratch: Annotated[Path, typer.Option(help="Folder for work in progress.")] = Path(SCRATCH_PATH),
    credentials: Annotated[Path, typer.Option(help="Folder with the store's keys.")] = Path(CREDENTIALS_PATH),
    signing: Annotated[Path, typer.Option(help="Folder with the key that signs; absent without one.")] = Path(
        SIGNING_PATH
    ),
    local_store: Annotated[Path | None, typer.Option(help="Folder instead of the request's store.")] = None,
    stale_seconds: Annotated[float, typer.Option(min=0.1, help="Silence after which health is red.")] = 600.0,
    grace_seconds: Annotated[float, typer.Option(min=0.0, help="Time for the child to leave after SIGTERM.")] = 20.0,
) -> None:
    """The pod's entry: supervise one run, serve its progress, leave its result in the termination log."""
    from strop_job.supervisor import Settings, child_command, supervise

    settings = Settings(request, termination_log, port, stale_seconds, grace_seconds)
    flags = ["--scratch", str(scratch), "--credentials", str(credentials), "--signing", str(signing)]
    if local_store is not None:
        flags += ["--local-store", str(local_store)]
    raise typer.Exit(supervise(settings, child_command(settings, *flags)))


@app.command()
def errand(
    request: Annotated[Path, typer.Option(help="The errand's request.")] = Path(REQUEST_PATH),
    termination_log: Annotated[Path, typer.Option(help="Where the answer is written.")] = Path(TERMINATION_LOG),
    credentials: Annotated[Path, typer.Option(help="Folder with the store's keys.")] = Path(CREDENTIALS_PATH),
    scratch: Annotated[Path, typer.Option(help="Folder for what must be read again.")] = Path(SCRATCH_PATH),
    local_store: Annotated[Path | None, typer.Option(help="Folder instead of the request's store.")] = None,
) -> None:
    """The entry of a small Job beside runs: look for drift, or remove what a deleted resource has published."""
    from strop_job.trust import errand as errands

    code = errands.run(errands.Place(request, termination_log, credentials, scratch, local_store))
    raise typer.Exit(int(code))


@app.command()
def doctor(
    paths: Annotated[list[Path], typer.Argument(help="Specs, ONNX models, engines, Python programs, folders.")],
    shape: Annotated[str, typer.Option("--format", help="text, json or sarif.")] = "text",
    fail_on: Annotated[
        str, typer.Option(help="critical, high, medium, low or never: what ends with code 10.")
    ] = "high",
    select: Annotated[list[str] | None, typer.Option(help="Only these checks; may repeat or list.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="Without these checks.")] = None,
    seconds: Annotated[float, typer.Option(help="How long one graph may be run.", min=1)] = 60,
) -> None:
    """Examine files for known traps: exit code 0, 10 for findings, 11 for what cannot be read.

    Programs are parsed and never run. ONNX graphs are run on made-up inputs, within bounds of time and memory.
    """
    from strop_job.doctor.command import FailOn, Format
    from strop_job.doctor.command import doctor as examine

    with problems_end_here():
        if shape not in list(Format) or fail_on not in list(FailOn):
            raise typer.BadParameter(f"--format takes {', '.join(Format)}; --fail-on takes {', '.join(FailOn)}")
        code = examine(paths, out, Format(shape), FailOn(fail_on), select or (), ignore or (), seconds)
    raise typer.Exit(code)


@contextmanager
def problems_end_here() -> Iterator[None]:
    """Foreseen errors become words and an exit code; a trace is for bugs."""
    try:
        yield
    except InvalidSpec as invalid:
        _list(invalid.problems)
        raise typer.Exit(int(ExitCode.INVALID_INPUT)) from None
    except StropError as error:
        err.print(Text.assemble((str(error.outcome), "bold red"), f"  {error}"), soft_wrap=True)
        raise typer.Exit(int(exit_code(error.outcome))) from None


def _list(problems: Iterable[Problem]) -> None:
    for problem in problems:
        words = Text.assemble(("✗ ", "bold red"), (problem.path, "bold"), f": {problem.message}")
        err.print(words, soft_wrap=True)


@contextmanager
def stopped_by_signals(reporter: "ConsoleReporter") -> Iterator[None]:
    """The first Ctrl-C or SIGTERM asks the run to leave at its next report; the second ends it at once."""

    def stop(number: int, _: object) -> None:
        reporter.stop()
        signal.signal(number, signal.SIG_DFL)

    former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def main() -> None:
    """Entry of the `strop` command."""
    logging.basicConfig(level=logging.WARNING, format="strop: %(levelname)s %(message)s", stream=sys.stderr)
    app()


if __name__ == "__main__":
    main()
