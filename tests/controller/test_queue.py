"""The queue of due keys and the cache behind it."""

import asyncio
from dataclasses import replace

from facts_parts import UID, job, pod, resource

from strop_operator.cache import Cache
from strop_operator.queue import DueQueue

A, B = ("team", "a"), ("team", "b")


def test_a_key_is_worked_on_by_one_at_a_time_and_comes_back_when_it_was_put_meanwhile() -> None:
    """Two reconciles of one resource would race with themselves; a lost put would lose an event."""

    async def scene() -> None:
        queue = DueQueue()
        queue.put(A)
        assert await queue.take() == A
        queue.put(A)
        queue.put(B)
        assert await queue.take() == B
        waiting = asyncio.create_task(queue.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        queue.done(A)
        assert await asyncio.wait_for(waiting, 5) == A

    asyncio.run(scene())


def test_the_earliest_time_wins() -> None:
    """An event must not wait for a timer that was set before it."""

    async def scene() -> None:
        queue = DueQueue()
        queue.put(A, 1000)
        queue.put(A)
        queue.put(A, 2000)
        assert await asyncio.wait_for(queue.take(), 5) == A
        queue.done(A)
        assert len(queue) == 0

    asyncio.run(scene())


def test_failures_wait_longer_each_time_until_one_succeeds() -> None:
    """An API server in trouble must not be hammered."""

    async def scene() -> None:
        queue, delays = DueQueue(), []
        for _ in range(12):
            queue.put(A)
            await queue.take()
            delays.append(queue.failed(A))
        assert delays[0] < 2
        assert delays[3] > delays[0]
        assert max(delays) <= 300 * 1.25
        queue.put(A)
        await queue.take()
        queue.done(A)
        queue.put(A)
        await queue.take()
        assert queue.failed(A) < 2

    asyncio.run(scene())


def test_older_news_never_replaces_newer() -> None:
    """The answer to our own write may overtake the watch."""
    cache = Cache()
    cache.put_resource(resource(version=10))
    cache.put_resource(resource(version=9, generation=99))
    assert cache.resources["team", "digits"].generation == 1
    cache.put_job(job(version=5, deleting=True))
    cache.put_job(job(version=4))
    assert cache.jobs.of(UID)[0].deleting


def test_places_are_counted_by_jobs_that_may_run() -> None:
    """A count that drifts would block a namespace, or open it too far."""
    cache = Cache()
    cache.put_resource(resource())
    assert cache.put_job(job()) == ("team", "digits")
    cache.put_job(job())
    cache.put_job(job(uid="second"))
    assert cache.occupied("team", ("team", "digits")) == 2
    cache.put_job(job(ended="Complete"))
    cache.drop_job("second")
    cache.drop_job("second")
    assert cache.occupied("team", ("team", "digits")) == 0


def test_an_eviction_is_counted_once_and_outlives_its_pod() -> None:
    """Pods of an eviction vanish; without the count a run would be evicted for ever."""
    cache = Cache()
    for number in range(3):
        disrupted = pod(uid=f"pod-{number}", disrupted="drained")
        cache.put_pod(replace(disrupted, disrupted=None))
        cache.put_pod(disrupted)
        cache.put_pod(disrupted)
        cache.drop_pod(disrupted.uid)
    assert cache.evictions["job-uid"] == 3


def test_a_resource_made_anew_is_not_forgotten_with_its_namesake() -> None:
    """The DELETED event of the old one may come after the new one was listed."""
    cache = Cache()
    cache.put_resource(resource())
    cache.put_resource(resource(uid="new", version=1))
    cache.drop_resource(resource())
    assert cache.resources["team", "digits"].uid == "new"
