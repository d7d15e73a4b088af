"""Words that may follow on the command line. Whatever fails here gives no words, and no message."""

import io
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from strop_cli.errors import CliError
from strop_cli.kinds import Kind

NO_FILES, DEFAULT = 4, 0
"""What kubectl makes of its shell's file names beside the answer: none, or its own."""
FILE_OPTIONS = ("-f", "--filename", "--kubeconfig", "--output-dir", "--key", "--policy")


def names(params: Mapping[str, Any], incomplete: str) -> list[str]:
    """ModelOptimizations of the namespace that the options mean."""
    from strop_cli.kinds import OPTIMIZATIONS

    return _found(params, OPTIMIZATIONS, incomplete)


def namespaces(params: Mapping[str, Any], incomplete: str) -> list[str]:
    """Namespaces, for whoever may list them."""
    return _found(params, Kind("", "v1", "namespaces", namespaced=False), incomplete)


def contexts(params: Mapping[str, Any], incomplete: str) -> list[str]:
    """Contexts of the kubeconfig."""
    from strop_cli.cluster import Where, context_names

    return [name for name in context_names(Where(_path(params))) if name.startswith(incomplete)]


def _path(params: Mapping[str, Any]) -> Path | None:
    given = params.get("kubeconfig")
    return Path(given) if given else None


def _found(params: Mapping[str, Any], kind: Kind, incomplete: str) -> list[str]:
    from strop_cli.cluster import Where, connect

    with suppress(CliError):
        cluster = connect(Where(_path(params), params.get("context"), params.get("namespace")))
        found = cluster.list(kind, cluster.namespace if kind.namespaced else None)
        return sorted(name for o in found if (name := o["metadata"]["name"]).startswith(incomplete))
    return []


def answer(words: Sequence[str]) -> None:
    """kubectl's protocol: a line for each word, then what else its shell may offer. The last of `words` is begun."""
    from strop_cli.app import run

    before, incomplete = list(words[:-1]), words[-1] if words else ""
    os.environ |= {
        "_STROP_COMPLETE": "complete_bash",
        "COMP_WORDS": shlex.join(["strop", *before, *([incomplete] if incomplete else [])]),
        "COMP_CWORD": str(len(before) + 1),
    }
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(io.StringIO()), suppress(SystemExit):
        run("strop")
    found = [line for line in said.getvalue().splitlines() if line]
    files = bool(before) and before[-1] in FILE_OPTIONS
    print(*found, f":{DEFAULT if files else NO_FILES}", sep="\n")
