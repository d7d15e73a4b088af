"""Options that several commands have, where answers go, and how errors end a command. Loads no client of a cluster."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.text import Text

from strop_api.failures import OUTCOME_EXIT_CODES
from strop_cli.errors import CliError
from strop_cli.words import hidden, shown
from strop_job.errors import StropError

if TYPE_CHECKING:
    from strop_cli.cluster import Cluster

out, err = Console(highlight=False), Console(stderr=True, highlight=False)


class Form(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def completed(context: typer.Context, incomplete: str) -> list[str]:
    """Names of resources that begin so."""
    from strop_cli.completion import names

    return names(context.params, incomplete)


def completed_contexts(context: typer.Context, incomplete: str) -> list[str]:
    """Contexts of the kubeconfig that begin so."""
    from strop_cli.completion import contexts

    return contexts(context.params, incomplete)


def completed_namespaces(context: typer.Context, incomplete: str) -> list[str]:
    """Namespaces that begin so."""
    from strop_cli.completion import namespaces

    return namespaces(context.params, incomplete)


Name = Annotated[str, typer.Argument(help="Name of the ModelOptimization.", autocompletion=completed)]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="By default the context's.", autocompletion=completed_namespaces),
]
Context = Annotated[
    str | None, typer.Option(help="Context of the kubeconfig; the current one.", autocompletion=completed_contexts)
]
Kubeconfig = Annotated[Path | None, typer.Option(help="By default KUBECONFIG, or ~/.kube/config.")]
FormOption = Annotated[Form, typer.Option("--output", "-o", help="Form of the answer.")]
OperatorNamespace = Annotated[
    str,
    typer.Option(envvar="STROP_OPERATOR_NAMESPACE", help="Whose policy holds where a namespace has none."),
]
OPERATOR_NAMESPACE = "strop-system"


def reach(kubeconfig: Path | None, context: str | None, namespace: str | None) -> "Cluster":
    """The cluster that the options mean."""
    from strop_cli.cluster import Where, connect

    return connect(Where(kubeconfig, context, namespace))


def show(document: Any, form: Form) -> None:
    """A document on stdout, as JSON or YAML."""
    if form is Form.JSON:
        text = json.dumps(document, indent=2, ensure_ascii=False)
    else:
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True).rstrip()
    typer.echo(text)


def say(line: str | Text) -> None:
    """A line for people on stdout; never folded or cut."""
    out.print(line if isinstance(line, Text) else Text(line), soft_wrap=True)


def note(line: str) -> None:
    """A line beside the answer, on stderr."""
    err.print(Text(line, "dim"), soft_wrap=True)


def width() -> int | None:
    """Columns of the terminal; None where stdout is none, and lines may be as long as they are."""
    return out.width if out.is_terminal else None


@contextmanager
def errors_end_here() -> Iterator[None]:
    """Foreseen errors become words and an exit code; a trace is for bugs."""
    try:
        yield
    except CliError as error:
        _tell(error.message, error.mend)
        raise typer.Exit(error.code) from None
    except StropError as error:
        _tell(str(error), "")
        raise typer.Exit(int(OUTCOME_EXIT_CODES[error.outcome])) from None


def _tell(message: str, mend: str) -> None:
    lines = "\n".join(shown(line) for line in hidden(message).splitlines())
    err.print(Text.assemble(("error: ", "bold red"), lines), soft_wrap=True)
    if mend:
        err.print(Text(f"  → {shown(mend)}"), soft_wrap=True)
