"""What the cache counts and keeps in order: places, who waits for them, evictions."""

from dataclasses import replace

import pytest
from facts_parts import grant, job, pod, resource, seen

from strop_api.reasons import Reason
from strop_operator.cache import Cache
from strop_operator.decide import MAX_EVICTIONS, Action, decide
from strop_operator.facts import Key

FIRST, SECOND, THIRD = KEYS = [("team", name) for name in ("first", "second", "third")]


@pytest.fixture
def line() -> Cache:
    """Three that wait, in this order."""
    cache = Cache()
    for namespace, name in KEYS:
        cache.put_resource(resource(namespace=namespace, name=name, uid=name))
        cache.join_line((namespace, name))
    return cache


def ask(cache: Cache, key: Key, places: int) -> Action:
    """What is decided for one that has no Job, with so many places in its namespace."""
    policy = grant(limits={"concurrentRuns": places})
    return decide(seen(grant=policy, occupied=cache.occupied(key[0], key), ahead=cache.ahead(key))).action


def test_the_first_in_line_stays_the_first_until_it_leaves(line: Cache) -> None:
    """Somebody else may take the place before the first comes to it: asking must not cost it its turn."""
    assert [line.next_queued("team") for _ in range(2)] == [FIRST, FIRST]
    line.join_line(FIRST)
    assert line.next_queued("team") == FIRST
    assert line.leave_line(FIRST)
    assert not line.leave_line(FIRST)
    assert line.next_queued("team") == SECOND
    assert line.next_queued("elsewhere") is None


def test_a_place_goes_to_whoever_waited_longest(line: Cache) -> None:
    """Whoever happens to be looked at first must not overtake: in a busy namespace some would wait for ever."""
    assert ask(line, THIRD, places=1) is Action.WAIT
    assert ask(line, ("team", "newcomer"), places=3) is Action.WAIT
    assert ask(line, FIRST, places=1) is Action.LAUNCH
    assert ask(line, SECOND, places=2) is Action.LAUNCH


def test_one_that_is_being_launched_takes_one_place_not_two(line: Cache) -> None:
    """It is in the line and has its place reserved; counted twice it would keep another out."""
    line.reserved.add(FIRST)
    assert ask(line, SECOND, places=2) is Action.LAUNCH


def test_a_deleted_resource_makes_way(line: Cache) -> None:
    """It would otherwise hold a turn that it never takes."""
    line.drop_resource(line.resources[FIRST])
    assert line.next_queued("team") == SECOND
    assert line.ahead(SECOND) == 0


@pytest.mark.parametrize("how", [{"disrupted": "drained"}, {"exit_code": 42}], ids=["disrupted", "left after SIGTERM"])
def test_every_pod_that_the_job_ignores_is_counted_once_and_capped(how: dict[str, object]) -> None:
    """The Job replaces such a pod for ever: without a count of ours a run could be evicted for days."""
    cache = Cache()
    launched = job()
    cache.put_job(launched)
    for number in range(MAX_EVICTIONS + 1):
        evicted = replace(pod(), uid=str(number), **how)
        cache.put_pod(evicted)
        cache.put_pod(replace(evicted, phase="Failed"))
    assert cache.evictions[launched.uid] == MAX_EVICTIONS + 1
    decision = decide(seen(jobs=(launched,), pods=cache.pods.of(launched.owner_uid), evictions=MAX_EVICTIONS + 1))
    assert decision.reason is Reason.EVICTED_TOO_OFTEN


def test_a_disrupted_pod_that_then_leaves_by_itself_is_one_eviction() -> None:
    """The worker obeys the SIGTERM of a drain: that is one cause, seen twice."""
    cache = Cache()
    cache.put_job(job())
    for version, how in enumerate(({"disrupted": "drained"}, {"disrupted": "drained", "exit_code": 42}), 20):
        cache.put_pod(replace(pod(), version=version, **how))
    assert cache.evictions[job().uid] == 1
