"""From an API server's refusal to an error that says what to do about it."""

import json
from collections.abc import Mapping
from typing import Any

from strop_api import GROUP
from strop_api.failures import ExitCode
from strop_cli.errors import CliError, Conflict, Forbidden, Missing, Unreachable
from strop_cli.kinds import Ask

BUSY = 429
UNDECLARED = "field not declared in schema"


def refused(ask: Ask, status: int, body: bytes) -> CliError:
    """What a status code above 399 means for this request."""
    said = _document(body)
    message = str(said.get("message") or body[:300].decode(errors="replace").strip() or "no reason was given")
    match status:
        case 401:
            return CliError(
                "the cluster does not accept these credentials", mend="log in again, or choose another --context"
            )
        case 403:
            return _forbidden(ask, message)
        case 404:
            return _missing(ask, said)
        case 409:
            words = f"{ask.resource} {ask.name} was changed by somebody else meanwhile"
            return Conflict(words, mend="look at it again, then repeat the command")
        case 400 | 422:
            return _invalid(message)
        case 500 if UNDECLARED in message:  # how a server-side apply says it
            return _invalid(message)
        case _ if status >= 500 or status == BUSY:
            return Unreachable(f"the API server has trouble (HTTP {status}): {message}", mend="try again in a moment")
        case _:
            return CliError(f"the cluster refuses to {ask}: HTTP {status}: {message}")


def _invalid(message: str) -> CliError:
    return CliError(f"the cluster refuses this: {message}", code=int(ExitCode.INVALID_INPUT))


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _forbidden(ask: Ask, message: str) -> CliError:
    user = message.partition('User "')[2].partition('"')[0]
    kind, where = ("role", f" -n {ask.namespace}") if ask.kind.namespaced and ask.namespace else ("clusterrole", "")
    role = f"kubectl create {kind} strop-user --verb={ask.verb} --resource={ask.resource}{where}"
    who = f" (you are {user})" if user else ""
    if not user:
        return Forbidden(f"the cluster does not let you {ask}: {message}")
    binding = f"kubectl create {kind}binding strop-user --{kind}=strop-user --user={user}{where}"
    return Forbidden(f"you may not {ask}{who}", mend=f"ask an admin of the cluster for: {role} && {binding}")


def _missing(ask: Ask, said: Mapping[str, Any]) -> CliError:
    """A name that is not there is told from a kind that is not: of a kind that it has, the server names the object."""
    details = said.get("details")
    if isinstance(details, dict) and details.get("name"):
        return Missing(f"there is no {ask.kind.full} {details['name']} {ask.place}")
    if ask.kind.group == GROUP:
        words = f"this cluster does not know {ask.kind.full}: Strop is not installed in it, or in another version"
        return CliError(words, mend="have an admin apply crds/, or choose another --context")
    return CliError(f"this cluster does not know {ask.kind.full} ({ask.path})")
