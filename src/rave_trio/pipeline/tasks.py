"""Running things side by side without wrapping what they raise in exception groups."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

from rave_trio.errors import RaveError

T = TypeVar("T")


@contextmanager
def bare() -> Iterator[None]:
    """Around a nursery: raise the first error of its tasks by itself, with a note for each later one.

    An interrupt (KeyboardInterrupt, SystemExit) goes before an error, and an error before a cancellation.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        first = _first_of(group)
        if first is None:
            raise
    else:
        return
    context = first.__context__
    try:
        raise first
    finally:
        first.__context__ = context  # not the group, which would be shown along with what it holds
        del first


async def alongside(work: Callable[[], Awaitable[T]], companion: Callable[[], Awaitable[None]]) -> T:
    """Return what ``work`` returns, with ``companion`` running beside it and cancelled when ``work`` has ended.

    The first error of either is raised bare, the other's is attached as a note.  Cancellation from outside reaches
    both.
    """
    with bare():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(companion)
            result = await work()
            nursery.cancel_scope.cancel()
    return result


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """What went wrong first, the rest attached; None if all there is are cancellations."""
    _, rest = group.split(trio.Cancelled)
    if rest is None:
        return None
    first, *others = sorted(rest.exceptions, key=lambda error: isinstance(error, Exception))
    for other in others:
        first.add_note(_note(other))
    return first


def _note(error: BaseException) -> str:
    if isinstance(error, RaveError):
        return f"then in {error.stage}: {error}" if error.stage else f"then: {error}"
    return f"then: {error!r}"
