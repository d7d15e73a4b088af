"""Moving many objects at once."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

WORKERS = 4
"""Objects moved at once; large ones are themselves moved in parallel parts."""


def in_parallel(function: Callable[[A], B], items: Iterable[A], workers: int = WORKERS) -> Generator[B]:
    """Results in the order of the items. When one fails, or the caller stops, those not yet begun never begin."""
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def all_done(function: Callable[[A], object], items: Iterable[A], workers: int = WORKERS) -> None:
    """Do it for every item; raises what the first that failed raised."""
    for _ in in_parallel(function, items, workers):
        pass
