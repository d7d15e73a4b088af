"""The commands that speak to a cluster. Each is a few lines that call what does the work; a library is imported by the
command that needs it, so that `strop worker` starts in an image that has none of them."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from strop_cli.errors import CliError
from strop_cli.options import (
    OPERATOR_NAMESPACE,
    Context,
    Form,
    FormOption,
    Kubeconfig,
    Name,
    Namespace,
    OperatorNamespace,
    completed,
    errors_end_here,
    note,
    out,
    reach,
    say,
    show,
    width,
)
from strop_cli.words import aligned, shown

if TYPE_CHECKING:
    from strop_cli.cluster import Cluster
    from strop_cli.comparing import Side
    from strop_cli.planning import Forecast

PANEL = "In a cluster"
app = typer.Typer()
command = app.command


@command("ls", rich_help_panel=PANEL)
def list_(
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")] = False,
    selector: Annotated[str, typer.Option("--selector", "-l", help="Labels, as kubectl takes them.")] = "",
    namespace: Namespace = None,
    output: FormOption = Form.TABLE,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """List the resources: how each stands, its progress, and what was measured."""
    with errors_end_here():
        from strop_cli import find, listing

        cluster = reach(kubeconfig, context, namespace)
        found = find.every(cluster, None if everywhere else cluster.namespace, selector)
        if output is not Form.TABLE:
            show({"apiVersion": "v1", "kind": "List", "items": [dict(o.document) for o in found]}, output)
        elif found:
            for line in listing.lines(found, namespaced=everywhere, width=width()):
                say(line)
        else:
            note(f"no ModelOptimizations in {'the cluster' if everywhere else f'namespace {cluster.namespace}'}")


@command(rich_help_panel=PANEL)
def status(
    name: Name,
    watch: Annotated[bool, typer.Option(help="Go on until there is an outcome.")] = True,
    timeout: Annotated[str, typer.Option(help="How long at most, such as 90s, 30m or 6h; 0: without end.")] = "0",
    namespace: Namespace = None,
    output: FormOption = Form.TABLE,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show a resource's run as a tree, to its outcome; the exit code is then that of `strop run`, and 3 without one.

    With -o json or yaml the status is printed once there is an outcome.
    """
    with errors_end_here():
        from rich.console import Console

        from strop_cli import find
        from strop_cli.follow import follow, once

        cluster, seconds = reach(kubeconfig, context, namespace), _seconds(timeout)
        console = out if output is Form.TABLE else Console(quiet=True)
        code = follow(cluster, name, console, seconds) if watch else once(cluster, name, console)
        if output is not Form.TABLE:
            show(find.one(cluster, name).document.get("status") or {}, output)
    raise typer.Exit(code)


@command(rich_help_panel=PANEL)
def logs(
    name: Name,
    follow: Annotated[bool, typer.Option(help="Go on as the worker does.")] = True,
    previous: Annotated[bool, typer.Option("--previous", "-p", help="The attempts before the newest.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, help="So many of the last lines.")] = None,
    since: Annotated[str, typer.Option(help="Not older than, such as 10m.")] = "0",
    timestamps: Annotated[bool, typer.Option(help="With the time of each line.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print what the worker says: of the newest pod of the newest Job, or of the attempts before it."""
    with errors_end_here():
        from strop_cli import find
        from strop_cli import logs as reading

        cluster = reach(kubeconfig, context, namespace)
        found = reading.pods(cluster, find.one(cluster, name))
        seconds = _seconds(since)
        wish = reading.Wish(follow and not previous, tail, round(seconds) if seconds else None, timestamps)
        if previous and len(found) == 1:
            note(f"pod {found[0]['metadata']['name']} is the only attempt of this Job")
        for pod in found[:-1] if previous else found[-1:]:
            note(f"pod {pod['metadata']['name']}")
            for line in reading.lines(cluster, pod, wish, time.monotonic() + 3600):
                text = line.decode(errors="replace")
                typer.echo(shown(text.replace("\t", "    ")) if out.is_terminal else text)


@command(rich_help_panel=PANEL)
def report(
    name: Name,
    run: Annotated[str | None, typer.Option(help="An earlier run, by its id.")] = None,
    file: Annotated[Path | None, typer.Option("--output-file", "-o", help="By default NAME-RUN.html here.")] = None,
    uri_only: Annotated[bool, typer.Option("--uri", help="Only print where it lies.")] = False,
    namespace: Namespace = None,
    operator_namespace: OperatorNamespace = OPERATOR_NAMESPACE,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Save a run's report, a page that opens from the disk. The store's keys are the policy's Secret's, if you may read
    it, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; STROP_S3_ENDPOINT replaces the store's address."""
    with errors_end_here():
        from strop_cli import fetching, find
        from strop_cli.door import open_door

        cluster = reach(kubeconfig, context, namespace)
        found = find.one(cluster, name)
        uri = fetching.report_uri(found, run)
        if uri_only:
            say(shown(uri))
            return
        with _uri_is_told(uri):
            door = open_door(cluster, found.namespace, _store_name(found.spec), operator_namespace)
        here = found.status.run.id if found.status.run is not None else "run"
        path = file or Path(f"{name}-{run or here}.html")
        fetching.save_report(door, uri, path)
        say(str(path))


@command("get-engine", rich_help_panel=PANEL)
def get_engine(
    name: Name,
    folder: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="By default NAME here; it must not exist, or be empty.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="By default the first that was published.")] = None,
    key: Annotated[Path | None, typer.Option(help="Public key that must have signed, such as cosign.pub.")] = None,
    namespace: Namespace = None,
    operator_namespace: OperatorNamespace = OPERATOR_NAMESPACE,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Download what was published, and keep it only if every digest is that of the status and the manifest, the
    provenance speaks of these files, and every gate was passed."""
    with errors_end_here():
        from strop_cli import fetching, find
        from strop_cli.door import open_door

        cluster = reach(kubeconfig, context, namespace)
        found = find.one(cluster, name)
        wanted = fetching.published(found, target)
        public = None
        if key is not None:
            from strop_job.trust.signing import read_public_key

            public = read_public_key(key)
        with _uri_is_told(wanted.folder):
            door = open_door(cluster, found.namespace, _store_name(found.spec), operator_namespace)
        here = folder or Path(name)
        checked = fetching.fetch(door, wanted, here, lambda f: note(f"{f.name} ({f.size_bytes} bytes)"), public)
        note(f"verified: {checked.files} files; signature: {checked.signature}")
        for words in checked.notes:
            note(f"note: {shown(words)}")
        say(str(here / wanted.engine))


@command(rich_help_panel=PANEL)
def compare(
    first: Annotated[str, typer.Argument(help="NAME, or NAME@RUN for an earlier run.", autocompletion=completed)],
    second: Annotated[str, typer.Argument(help="What is held against it, likewise.", autocompletion=completed)],
    target: Annotated[str | None, typer.Option(help="By default the first that was measured.")] = None,
    namespace: Namespace = None,
    output: FormOption = Form.TABLE,
    operator_namespace: OperatorNamespace = OPERATOR_NAMESPACE,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Put the figures of two runs side by side. The second is called better or worse only where intervals are apart."""
    with errors_end_here():
        from strop_cli import comparing

        cluster = reach(kubeconfig, context, namespace)
        a, b = (_side(cluster, word, target, operator_namespace) for word in (first, second))
        if output is not Form.TABLE:
            show(comparing.document(a, b), output)
            return
        for line in comparing.lines(a, b, width()):
            say(line)


@command(rich_help_panel=PANEL)
def retry(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Stop a run that goes on and begin another.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Ask for another run of the same spec. Finished work is on record, so only what failed is done again."""
    with errors_end_here():
        from strop_cli.actions import retry as again

        again(reach(kubeconfig, context, namespace), name, force=force)
        say(f"{name}: another run is asked for; follow it with strop status {name}")


@command(rich_help_panel=PANEL)
def suspend(name: Name, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None) -> None:
    """Stop a resource's pod and start none; finished work is kept."""
    _suspend(name, namespace, context, kubeconfig, True)


@command(rich_help_panel=PANEL)
def resume(name: Name, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None) -> None:
    """Let a suspended resource go on from what is on record."""
    _suspend(name, namespace, context, kubeconfig, False)


def _suspend(name: str, namespace: str | None, context: str | None, kubeconfig: Path | None, wanted: bool) -> None:
    with errors_end_here():
        from strop_cli.actions import set_suspend

        _, changed = set_suspend(reach(kubeconfig, context, namespace), name, wanted)
        word = "suspended" if wanted else "resumed"
        say(f"{name}: {word}" if changed else f"{name}: {'suspended' if wanted else 'not suspended'} already")


@command(rich_help_panel=PANEL)
def plan(
    spec: Annotated[
        Path | None, typer.Argument(help="YAML file to plan for this machine, without a cluster.", show_default=False)
    ] = None,
    filename: Annotated[
        Path | None, typer.Option("--filename", "-f", help="YAML file to plan for the cluster; /dev/stdin is one.")
    ] = None,
    store: Annotated[str, typer.Option(help="Without a cluster: as for `strop run`.")] = "out",
    policy: Annotated[Path | None, typer.Option(help="Without a cluster: as for `strop run`.")] = None,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Without a cluster: as for `strop run`.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Without a cluster: as for `strop run`.")] = None,
    namespace: Namespace = None,
    output: FormOption = Form.TABLE,
    operator_namespace: OperatorNamespace = OPERATOR_NAMESPACE,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show what would run, before anything does: what refuses it, and which stages are on record.

    `strop plan -f FILE` asks a cluster, and says which nodes could take it; `strop plan FILE` asks this machine.
    """
    if (spec is None) is (filename is None):
        raise typer.BadParameter("give a file: -f FILE to plan for the cluster, or FILE alone for this machine")
    if filename is None and spec is not None:
        from strop_job import cli

        cli.plan(spec, store, policy, allow_code, threads)
        return
    with errors_end_here():
        from strop_cli.planning import forecast

        found = forecast(reach(kubeconfig, context, namespace), filename or Path(), operator_namespace)
        if output is not Form.TABLE:
            show(found.document(), output)
        else:
            _show_forecast(found)
    raise typer.Exit(found.code)


def _show_forecast(found: "Forecast") -> None:
    from strop_cli.planning import node_rows, stage_rows

    say(Text.assemble((f"{found.namespace}/{found.name}", "bold"), f"  {found.action}"))
    for refusal in found.refusals:
        say(Text.assemble(("✗ ", "bold red"), shown(refusal)))
    if found.image:
        say(f"image {shown(found.image)}")
    for finding in found.findings:
        mend = f" → {finding.mend}" if finding.mend else ""
        say(Text.assemble((finding.severity.value, "yellow"), f" {finding.check}: {finding.message}{mend}"))
    tables: tuple[tuple[tuple[str, ...], list[tuple[str, ...]]], ...] = (
        (("NODE", "COULD TAKE IT", "WHY"), list(node_rows(found.nodes))),
        (("STAGE", "ON RECORD"), list(stage_rows(found.stages))),
    )
    for headings, rows in tables:
        for line in aligned(headings, rows, width(), len(headings) - 1) if rows else ():
            say(line)
    if found.nodes:
        note("nodes are judged as if they were empty: what runs on them now is not looked at")
    if found.stages:
        note("records are looked for with this machine's libraries and hardware: the cluster's may have more")
    for words in found.unknown:
        note(f"not known: {shown(words)}")


def _side(cluster: "Cluster", word: str, target: str | None, operator_namespace: str) -> "Side":
    from strop_cli import comparing, find
    from strop_cli.door import open_door

    name, run = comparing.split(word)
    found = find.one(cluster, name)
    if run is None or (found.status.run is not None and found.status.run.id == run):
        return comparing.present(found, target)
    door = open_door(cluster, found.namespace, _store_name(found.spec), operator_namespace)
    return comparing.past(found, run, door)


def _store_name(spec: Mapping[str, Any]) -> str:
    return str((spec.get("storeRef") or {}).get("name", "default"))


@contextmanager
def _uri_is_told(uri: str) -> Iterator[None]:
    """Whoever may not open the store learns at least where in it to look."""
    try:
        yield
    except CliError as error:
        raise CliError(f"{error.message}; it lies at {uri}", mend=error.mend, code=error.code) from None


def _seconds(text: str) -> float | None:
    """`90s`, `30m`, `6h`, `45`; None for 0."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    digits, unit = (text[:-1], units[text[-1]]) if text and text[-1] in units else (text, 1)
    try:
        found = float(digits) * unit
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no duration: write 90s, 30m or 6h") from None
    return found or None
