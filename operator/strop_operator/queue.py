"""One queue of due keys: a key is worked on by one worker at a time, and comes back when it is due."""

import asyncio
import heapq
import random
from collections import Counter

from strop_operator.facts import Key

FIRST_DELAY, LAST_DELAY = 1.0, 300.0


class DueQueue:
    """Keys with the time they are due, on the event loop's clock. An earlier time wins."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, Key]] = []
        self._due: dict[Key, float] = {}
        self._busy: set[Key] = set()
        self._failures: Counter[Key] = Counter()
        self._changed = asyncio.Event()

    def put(self, key: Key, after: float = 0.0) -> None:
        """Have the key worked on after so many seconds, or earlier if that was said before."""
        due = asyncio.get_running_loop().time() + after
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, key))
            self._changed.set()

    async def take(self) -> Key:
        """The next due key that nobody works on; `done` must follow."""
        while True:
            key, wait = self._next()
            if key is not None:
                return key
            self._changed.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: Key) -> None:
        """The key was worked on; if it was put meanwhile, it is next."""
        self._busy.discard(key)
        self._failures.pop(key, None)
        self._return(key)

    def failed(self, key: Key) -> float:
        """The work failed: the key comes back after a growing, jittered delay, which is returned."""
        self._busy.discard(key)
        self._failures[key] += 1
        delay = min(FIRST_DELAY * 2.0 ** min(self._failures[key] - 1, 16), LAST_DELAY)
        delay *= random.uniform(0.75, 1.25)  # noqa: S311 - not a secret
        self.put(key, delay)
        self._return(key)
        return delay

    def forget(self, key: Key) -> None:
        """The key's object is gone."""
        self._due.pop(key, None)
        self._failures.pop(key, None)

    def __len__(self) -> int:
        """Keys that are due now."""
        now = asyncio.get_running_loop().time()
        return sum(due <= now for due in self._due.values())

    def _return(self, key: Key) -> None:
        if key in self._due:
            heapq.heappush(self._heap, (self._due[key], key))
            self._changed.set()

    def _next(self) -> tuple[Key | None, float | None]:
        now = asyncio.get_running_loop().time()
        while self._heap:
            due, key = self._heap[0]
            if self._due.get(key) != due or key in self._busy:
                heapq.heappop(self._heap)
                continue
            if due > now:
                return None, due - now
            heapq.heappop(self._heap)
            del self._due[key]
            self._busy.add(key)
            return key, None
        return None, None
