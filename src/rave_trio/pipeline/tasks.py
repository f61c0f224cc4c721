"""Running one thing beside another without wrapping what it raises in exception groups."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")


async def alongside(work: Callable[[], Awaitable[T]], companion: Callable[[], Awaitable[None]]) -> T:
    """Return what ``work`` returns, with ``companion`` running beside it and cancelled when ``work`` has ended.

    The first Exception of either is raised bare, the other's is attached as a note.  Cancellation from outside
    reaches both.
    """
    results: list[T] = []
    failures: list[Exception] = []

    async def guarded(call: Callable[[], Awaitable[object]]) -> None:
        try:
            await call()
        except Exception as error:
            failures.append(error)
            nursery.cancel_scope.cancel()

    async def main() -> None:
        results.append(await work())

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guarded, companion)
            await guarded(main)
            nursery.cancel_scope.cancel()
    finally:
        if failures:
            first, *others = failures
            for other in others:
                first.add_note(f"then: {other}")
            raise first
    return results[0]
