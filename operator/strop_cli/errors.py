"""What the command line says when a cluster does not do as asked: what was wrong, and whom to ask or what to do."""

from strop_api.failures import ExitCode

# ruff: noqa: N818 - each is named for what it says

NO_ANSWER = 3
"""Exit code where there is no outcome to tell: not finished, suspended, or the cluster could not be asked."""


class CliError(Exception):
    """A foreseen end of a command."""

    def __init__(self, message: str, *, mend: str = "", code: int = NO_ANSWER) -> None:
        super().__init__(message)
        self.message, self.mend, self.code = message, mend, code


class UnusableInput(CliError):
    """What was given to the command cannot be used."""

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message, mend=mend, code=int(ExitCode.INVALID_INPUT))


class Missing(CliError):
    """There is no such object."""


class Forbidden(CliError):
    """RBAC does not let this user do it."""


class Conflict(CliError):
    """Somebody else changed the object in between."""


class Unreachable(CliError):
    """A server did not answer."""
