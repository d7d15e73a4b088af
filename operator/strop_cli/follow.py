"""`strop status`: the tree of one resource, redrawn on a terminal until there is an outcome; elsewhere a line for each
change, and the tree at the end."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from strop_api.status import RunStatus
from strop_cli import find
from strop_cli.cluster import Cluster
from strop_cli.errors import NO_ANSWER, CliError, Missing, Unreachable
from strop_cli.kinds import OPTIMIZATIONS
from strop_cli.optimizations import Optimization, outcome, parse
from strop_cli.tree import plain, tree

PATIENCE = 20
"""Attempts in a row to reach a server that was reached before."""
PAUSE_SECONDS = 2.0


@dataclass
class Picture:
    """What is drawn: the newest state, and the stages that were seen to pass."""

    found: Optimization
    passed: list[str] = field(default_factory=list)

    def take(self, found: Optimization) -> None:
        """A newer state."""
        before, now = self.found.status, found.status
        if (
            now.run is None
            or before.run is None
            or now.run.id != before.run.id
            or now.run.attempt != before.run.attempt
        ):
            self.passed.clear()
        elif before.progress is not None and now.progress is not None and before.progress.stage != now.progress.stage:
            self.passed.append(before.progress.stage)
        self.found = found

    def __rich__(self) -> Tree:
        """Drawn anew each time, so that durations go on."""
        return tree(self.found, self.passed)


def _attempt(run: RunStatus | None) -> tuple[str, int] | None:
    return (run.id, run.attempt) if run is not None else None


def once(cluster: Cluster, name: str, console: Console) -> int:
    """Show how it stands now; the exit code of its outcome, NO_ANSWER where it has none."""
    found = find.one(cluster, name)
    console.print(tree(found), soft_wrap=not console.is_terminal)
    code = outcome(found)
    return NO_ANSWER if code is None else code


def follow(cluster: Cluster, name: str, console: Console, timeout_seconds: float | None) -> int:
    """Show every change until there is an outcome; its exit code. Raises CliError when time is up first."""
    picture: Picture | None = None
    drawn = ""
    live = Live(console=console, refresh_per_second=2, transient=True) if console.is_terminal else None
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    try:
        for found in states(cluster, name, deadline):
            if picture is None:
                picture = Picture(found)
                if live is not None:
                    live.update(picture)
                    live.start()
            picture.take(found)
            if live is None and (line := plain(found)) != drawn:
                console.print(Text(line), soft_wrap=True)
                drawn = line
            if outcome(found) is not None:
                break
    finally:
        if live is not None:
            live.stop()
    if picture is None:
        raise CliError(f"nothing was heard of {name}")
    console.print(picture, soft_wrap=not console.is_terminal)
    code = outcome(picture.found)
    if code is None:
        raise CliError(
            f"{name} has no outcome after {timeout_seconds:g} s", mend="it goes on; give a longer --timeout, or none"
        )
    return code


def states(cluster: Cluster, name: str, deadline: float | None) -> Iterator[Optimization]:
    """The resource as it is and after every change, until the deadline. Raises Missing when it is deleted meanwhile."""
    found = find.one(cluster, name)
    uid = found.uid
    yield found
    while deadline is None or time.monotonic() < deadline:
        try:
            for kind, document in cluster.watch(OPTIMIZATIONS, name, found.version, deadline):
                found = parse(document)
                if kind == "DELETED" or found.uid != uid:
                    raise Missing(f"{name} was deleted")
                yield found
        except Unreachable:  # it is asked again, with patience
            time.sleep(PAUSE_SECONDS)
        newer = _again(cluster, name, deadline)
        if newer.uid != uid:
            raise Missing(f"{name} was deleted, and made anew")
        if newer.version != found.version:
            found = newer
            yield found


def _again(cluster: Cluster, name: str, deadline: float | None) -> Optimization:
    """After a watch has ended: a server that restarts is given some time. At first it does not answer, and then it may
    not know every kind and every right yet."""
    for left in reversed(range(PATIENCE)):
        try:
            return parse(cluster.get(OPTIMIZATIONS, name))
        except Missing:
            raise
        except CliError:
            if left == 0 or (deadline is not None and time.monotonic() >= deadline):
                raise
        time.sleep(PAUSE_SECONDS)
    raise AssertionError("unreachable")
