"""kopf's wiring: events become facts, facts become due keys. No handler ever waits for the API."""

import logging
import time
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import Any

import aiohttp
import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

from strop_api import GROUP, VERSION
from strop_api.optimization import PLURAL
from strop_api.policy import POLICY_NAME, POLICY_PLURAL
from strop_operator import paths
from strop_operator.client import Access, open_session
from strop_operator.facts import Key, job_fact, pod_fact, policy_fact, resource_fact
from strop_operator.reconcile import Reconciler
from strop_operator.watches import RENEW_SECONDS, watched_paths

KOPF_CONNECTIONS = 0
"""No limit: kopf holds one connection for each watch, and a bound would starve the last of them."""
PAGE = 100
"""Objects in one page of a list. Measured after a restart on 500 running resources: 86 MiB; pages of 500 took 124."""
IDLE_SECONDS = 0.02
"""kopf's worker of an object outlives its last event by this, and holds the whole object meanwhile."""
LONGEST_DELAY_SECONDS = 5.0
"""An API server that comes back is found again within this."""


class Patience:
    """Delays between attempts of one request, in seconds, without end.

    kopf's own list ends after 54 s, and the whole process with it: an API server may be away for longer.
    """

    def __iter__(self) -> Iterator[float]:
        return chain((0.5, 1.0, 2.0), repeat(LONGEST_DELAY_SECONDS))


class NoDiffBase(kopf.DiffBaseStorage):
    """Keeps no essence of objects: kopf would else compute it for every event, and nobody asks for it."""

    def build(self, **_: Any) -> Any:
        """Nothing."""
        return None

    def fetch(self, **_: Any) -> Any:
        """Nothing."""
        return None

    def store(self, **_: Any) -> None:
        """Nothing."""


class NoMemories(ResourceMemories):
    """Keeps nothing of objects: kopf notes handlers' progress, daemons and indices, and we have none.

    Measured on 5,000 resources with their Jobs and pods: 12 MiB less.
    """

    async def recall(self, *args: Any, **options: Any) -> ResourceMemory:
        """A blank sheet for each event."""
        return await super().recall(*args, **{**options, "ephemeral": True})


def all_paths(namespaces: tuple[str, ...]) -> tuple[str, ...]:
    """What kopf lists and watches for the handlers below."""
    ours = f"/apis/{GROUP}/{VERSION}"
    plurals = (PLURAL, POLICY_PLURAL, "jobs", "pods")
    return watched_paths(namespaces, (ours, ours, "/apis/batch/v1", "/api/v1"), plurals)


def configure(settings: kopf.OperatorSettings) -> None:
    """kopf as a watcher and nothing else: it writes no Events, annotations, finalizers or peering objects."""
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.persistence.consistency_timeout = 0
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.queueing.idle_timeout = IDLE_SECONDS
    settings.networking.error_backoffs = Patience()
    settings.watching.chunk_size = PAGE
    settings.watching.server_timeout = RENEW_SECONDS
    settings.watching.label_selectors["batch", "v1", "jobs"] = paths.SELECTOR
    settings.watching.label_selectors["", "v1", "pods"] = paths.SELECTOR
    settings.process.ultimate_exiting_timeout = 30


def registry(access: Access, reconciler: Reconciler, opened: list[aiohttp.ClientSession]) -> kopf.OperatorRegistry:
    """The handlers, bound to a reconciler. Sessions made for kopf are added to `opened`, to be closed at the end."""
    handlers = kopf.OperatorRegistry()
    _authenticate(handlers, access, reconciler, opened)
    _watch_ours(handlers, reconciler)
    _watch_workers(handlers, reconciler)
    return handlers


def _authenticate(
    handlers: kopf.OperatorRegistry, access: Access, reconciler: Reconciler, opened: list[aiohttp.ClientSession]
) -> None:
    @kopf.on.startup(registry=handlers)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings)

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> kopf.AiohttpSession:
        session = open_session(access, KOPF_CONNECTIONS, [reconciler.watches.trace()], reconciler.watches.forgive)
        opened.append(session)
        return kopf.AiohttpSession(server=access.server, aiohttp_session=session)


def _watch_ours(handlers: kopf.OperatorRegistry, reconciler: Reconciler) -> None:
    cache, queue = reconciler.cache, reconciler.queue

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=handlers)
    async def resource(event: kopf.RawEvent, **_: Any) -> None:
        fact = resource_fact(event["object"])
        if event["type"] == "DELETED":
            cache.drop_resource(fact)
            if fact.key not in cache.resources:
                reconciler.forget(fact.key)
        elif cache.put_resource(fact):  # else it is the answer to our own write
            queue.put(fact.key)

    @kopf.on.event(GROUP, VERSION, POLICY_PLURAL, registry=handlers)
    async def policy(event: kopf.RawEvent, **_: Any) -> None:
        fact = policy_fact(event["object"])
        if fact.name != POLICY_NAME:
            return
        if event["type"] == "DELETED":
            cache.drop_policy(fact.namespace, time.time())
        else:
            cache.put_policy(fact, time.time())
        everywhere = fact.namespace == reconciler.settings.operator_namespace
        _wake(reconciler, [key for key in cache.resources if everywhere or key[0] == fact.namespace])


def _watch_workers(handlers: kopf.OperatorRegistry, reconciler: Reconciler) -> None:
    cache = reconciler.cache

    @kopf.on.event("batch", "v1", "jobs", registry=handlers)
    async def job(event: kopf.RawEvent, **_: Any) -> None:
        fact = job_fact(event["object"])
        gone = event["type"] == "DELETED"
        key = cache.drop_job(fact.uid) if gone else cache.put_job(fact)
        if gone or not fact.live:
            _wake(reconciler, [cache.next_queued(fact.namespace)])
        _wake(reconciler, [key])

    @kopf.on.event("", "v1", "pods", registry=handlers)
    async def pod(event: kopf.RawEvent, **_: Any) -> None:
        fact = pod_fact(event["object"])
        if fact.job_uid:
            _wake(reconciler, [cache.drop_pod(fact.uid) if event["type"] == "DELETED" else cache.put_pod(fact)])


def _wake(reconciler: Reconciler, keys: Iterable[Key | None]) -> None:
    for key in keys:
        if key is not None:
            reconciler.queue.put(key)


def quiet_logs() -> None:
    """kopf's own lines at INFO tell of every login and watch; the operator's tell of every transition."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
