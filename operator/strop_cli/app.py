"""`strop` and `kubectl strop`, put together: the commands that speak to a cluster, and those that optimize here.

Neither half needs the other's libraries: a command whose libraries are absent says which extra brings them.
"""

import logging
import sys
from copy import copy

import typer

from strop_cli import commands
from strop_job import cli as local

REPLACED = ("plan",)
"""Commands of this machine that the cluster's of the same name call."""
PANEL = "On this machine"
HELP = "Hones trained models, here or in a cluster; publishes only what passed its gates."


def build() -> typer.Typer:
    """All commands."""
    app = typer.Typer(no_args_is_help=True, help=HELP, pretty_exceptions_enable=False)
    app.registered_commands += commands.app.registered_commands
    for info in local.app.registered_commands:
        if info.name not in REPLACED and getattr(info.callback, "__name__", "") not in REPLACED:
            mine = copy(info)
            mine.rich_help_panel = PANEL
            app.registered_commands.append(mine)
    return app


def run(program: str) -> None:
    """Carry the command line out. Raises ModuleNotFoundError for what is not installed."""
    logging.basicConfig(level=logging.WARNING, format="strop: %(levelname)s %(message)s", stream=sys.stderr)
    build()(prog_name=program, complete_var="_STROP_COMPLETE")
