"""Knows how kopf's watches fare: which have listed, when each last showed life. Seen from its HTTP session."""

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace

import aiohttp

RENEW_SECONDS = 240
"""The server ends each watch after this, so that a healthy watch shows life at least so often."""
STUCK_SECONDS = 420.0


class Watches:
    """One entry for each path that is watched."""

    def __init__(self, paths: tuple[str, ...], relisted: Callable[[], None]) -> None:
        now = time.monotonic()
        self._alive = dict.fromkeys(paths, now)
        self._listed: set[str] = set()
        self._filled = asyncio.Event()
        self._relisted = relisted

    @property
    def synced(self) -> bool:
        """Whether every path has been listed once."""
        return len(self._listed) == len(self._alive)

    async def filled(self) -> None:
        """Wait until every path has been listed once: what is not known until then may exist."""
        await self._filled.wait()

    def ages(self) -> dict[str, float]:
        """Seconds since each watch last showed life, by the resource's plural."""
        now = time.monotonic()
        ages: dict[str, float] = {}
        for path, at in self._alive.items():
            plural = path.rpartition("/")[2]
            ages[plural] = max(ages.get(plural, 0.0), now - at)
        return ages

    @property
    def stuck(self) -> list[str]:
        """Plurals whose watch has shown no life for too long."""
        return sorted(plural for plural, age in self.ages().items() if age > STUCK_SECONDS)

    def trace(self) -> aiohttp.TraceConfig:
        """To be put into the session that kopf uses."""
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._on_answer)
        return trace

    async def forgive(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """To be put into the session that kopf uses: at answers that pass it would end, and the process with it.

        A list whose next page has expired is begun anew; a kind that is not served, since the API server has only just
        started, is asked for again after a while.
        """
        answer = await handler(request)
        if answer.status not in (404, 410) or request.url.path not in self._alive:
            return answer
        if answer.status == 404:
            answer.release()
            raise aiohttp.ClientConnectionError(f"{request.url.path} is not served")
        if "watch" not in request.url.query:
            answer.release()
            raise aiohttp.ClientPayloadError(f"the list of {request.url.path} has expired")
        return answer

    async def _on_answer(
        self, _session: aiohttp.ClientSession, _context: SimpleNamespace, params: aiohttp.TraceRequestEndParams
    ) -> None:
        path = params.url.path
        if path not in self._alive or params.response.status != 200:
            return
        self._alive[path] = time.monotonic()
        if "watch" in params.url.query:
            self._listed.add(path)
            if self.synced:
                self._filled.set()
        elif path in self._listed and "continue" not in params.url.query:
            self._relisted()


def watched_paths(namespaces: tuple[str, ...], prefixes: tuple[str, ...], plurals: tuple[str, ...]) -> tuple[str, ...]:
    """The paths that kopf lists and watches: each plural in each namespace, or cluster-wide."""
    places = [f"namespaces/{namespace}/" for namespace in namespaces] or [""]
    return tuple(
        f"{prefix}/{place}{plural}" for prefix, plural in zip(prefixes, plurals, strict=True) for place in places
    )
