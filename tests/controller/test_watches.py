"""How the operator knows that its watches live, from a real HTTP session."""

import asyncio
from itertools import islice

import aiohttp
import pytest
from aiohttp import web

from strop_operator import watches as module
from strop_operator.handlers import LONGEST_DELAY_SECONDS, Patience
from strop_operator.watches import RENEW_SECONDS, STUCK_SECONDS, Watches, watched_paths

PATHS = watched_paths((), ("/apis/batch/v1", "/api/v1"), ("jobs", "pods"))


async def ask(watches: Watches, *requests: str, status: int = 200) -> None:
    """Send requests through a traced session to a server that answers each with the status."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text="{}")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession(trace_configs=[watches.trace()]) as session:
        for request in requests:
            async with session.get(f"http://{host}:{port}{request}"):
                pass
    await runner.cleanup()


def test_the_caches_are_filled_when_every_list_is_followed_by_its_watch() -> None:
    """To decide before all Jobs are listed would start what runs already."""
    watches = Watches(PATHS, lambda: None)
    asyncio.run(ask(watches, PATHS[0], PATHS[0] + "?watch=true", PATHS[1]))
    assert not watches.synced
    asyncio.run(ask(watches, PATHS[1] + "?watch=true", status=403))
    assert not watches.synced
    asyncio.run(ask(watches, PATHS[1] + "?watch=true"))
    assert watches.synced


def test_nothing_is_judged_before_everything_is_listed() -> None:
    """Each resource would be looked at again and again while thousands are still being listed."""
    watches = Watches(PATHS, lambda: None)

    async def work() -> bool:
        waiting = asyncio.create_task(watches.filled())
        await ask(watches, PATHS[0] + "?watch=true")
        before = waiting.done()
        await ask(watches, PATHS[1] + "?watch=true")
        await asyncio.wait_for(waiting, 5)
        return before

    assert not asyncio.run(work())


def test_a_second_listing_casts_doubt_on_what_was_known() -> None:
    """Objects deleted between a broken watch and the next list are told by nobody."""
    doubts: list[int] = []
    watches = Watches(PATHS, lambda: doubts.append(1))
    asyncio.run(ask(watches, PATHS[0], PATHS[0] + "?watch=true", PATHS[0] + "?watch=true"))
    assert not doubts
    asyncio.run(ask(watches, PATHS[0] + "?limit=500", PATHS[0] + "?limit=500&continue=x"))
    assert doubts == [1]


def test_a_watch_that_shows_no_life_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """kopf's own liveness stays green in that case; the kubelet must learn of it here."""
    watches = Watches(PATHS, lambda: None)
    asyncio.run(ask(watches, PATHS[0] + "?watch=true"))
    began = module.time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: began + STUCK_SECONDS + 1)
    asyncio.run(ask(watches, PATHS[0] + "?watch=true"))
    assert watches.stuck == ["pods"]


def test_an_api_server_that_is_away_for_a_minute_leaves_no_watch_stuck_and_is_asked_again() -> None:
    """A healthy watch may be silent until the server renews it; the outage and one delay come on top."""
    assert STUCK_SECONDS > RENEW_SECONDS + 60 + LONGEST_DELAY_SECONDS
    for _ in range(2):  # kopf begins anew for each request
        delays = list(islice(Patience(), 1000))
        assert max(delays) == LONGEST_DELAY_SECONDS
        assert sum(delays) > 3600
