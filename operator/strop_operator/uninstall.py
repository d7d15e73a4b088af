"""`python -m strop_operator.uninstall`: before the operator goes, let no resource wait for it for ever.

What is being deleted is given time to be cleaned up, as long as the operator is there. Then the Lease is taken from it,
so that nobody sets a finalizer any more, and those that are left are taken away: artifacts stay. An operator that is
installed again sets them again.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Sequence

import uvloop

from strop_api import GROUP, VERSION
from strop_api.optimization import PLURAL
from strop_operator import paths
from strop_operator.client import ApiError, Client, Json, from_kubeconfig, in_cluster
from strop_operator.leader import Leader
from strop_operator.settings import Settings, parse

log = logging.getLogger("strop_operator.uninstall")

WAIT_SECONDS = 240.0
"""Below Helm's own five minutes."""
LOOK_SECONDS = 2.0
LEASE_SECONDS = 120
"""Helm deletes the operator after its hook in less; one that is installed again waits so long at most."""


async def leave(client: Client, settings: Settings, wait_seconds: float) -> int:
    """Make every resource free to go; how many artifacts stay behind without anybody to remove them."""
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline and (busy := [i for i in await _held(client, settings) if _going(i)]):
        log.info("waiting for %s to be cleaned up", ", ".join(_named(item) for item in busy[:5]))
        await asyncio.sleep(LOOK_SECONDS)
    await Leader(client, settings.operator_namespace, settings.identity).take_over(LEASE_SECONDS)
    left = await _held(client, settings)
    for item in left:
        await _free(client, item)
    return len(left)


async def _held(client: Client, settings: Settings) -> list[Json]:
    """Resources with our finalizer, wherever the operator serves."""
    ours = f"/apis/{GROUP}/{VERSION}"
    places = [f"{ours}/namespaces/{namespace}/{PLURAL}" for namespace in settings.namespaces] or [f"{ours}/{PLURAL}"]
    found: list[Json] = []
    for place in places:
        try:
            found += [item for item in await client.list(place) if paths.FINALIZER in _finalizers(item)]
        except ApiError as error:
            if error.status != 404:  # the kind itself is gone, and with it every resource
                raise
    return found


async def _free(client: Client, item: Json) -> None:
    """Take the finalizer away; whoever changes the resource meanwhile makes this try again."""
    meta = item["metadata"]
    path = paths.resource(meta["namespace"], meta["name"])
    wanted = [name for name in _finalizers(item) if name != paths.FINALIZER]
    body = {"metadata": {"resourceVersion": meta["resourceVersion"], "finalizers": wanted}}
    try:
        await client.merge(path, body)
        log.warning("%s: artifacts stay at %s", _named(item), item["spec"]["output"]["uri"])
    except ApiError as error:
        if error.status == 409:
            await _free(client, await client.get(path))
        elif error.status != 404:
            raise


def _finalizers(item: Json) -> list[str]:
    return item["metadata"].get("finalizers") or []


def _going(item: Json) -> bool:
    return "deletionTimestamp" in item["metadata"]


def _named(item: Json) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


async def _run(settings: Settings, wait_seconds: float) -> None:
    access = from_kubeconfig(settings.kubeconfig) if settings.kubeconfig is not None else in_cluster()
    client = Client(access, 2)
    try:
        left = await leave(client, settings, wait_seconds)
        log.info("done: %d resources keep their artifacts", left)
    finally:
        await client.close()


def main(words: Sequence[str]) -> None:
    """Entry point; flags and environment are the operator's."""
    settings = parse(words)
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    uvloop.run(_run(settings, float(os.environ.get("STROP_UNINSTALL_WAIT_SECONDS", WAIT_SECONDS))))


if __name__ == "__main__":
    main(sys.argv[1:])
