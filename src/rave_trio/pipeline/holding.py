"""Making things in worker threads, and closing them there, whatever happens in between."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple, Unpack

import trio
import trio.to_thread
from trio.lowlevel import enable_ki_protection

from rave_trio.errors import RaveError, StageCrashed
from rave_trio.frames import Closable

C = TypeVar("C", bound=Closable)
T = TypeVar("T")
Args = TypeVarTuple("Args")


async def make(maker: Callable[[Unpack[Args]], T], *args: *Args) -> T:
    """Make something in a worker thread.  Raises StageCrashed for what nobody planned for."""
    try:
        return await trio.to_thread.run_sync(maker, *args)
    except RaveError:
        raise
    except Exception as error:
        raise StageCrashed(f"the run could not begin: {type(error).__name__}: {error}") from error


@enable_ki_protection
async def hold(
    held: contextlib.AsyncExitStack,
    maker: Callable[[Unpack[Args]], C],
    *args: *Args,
    unless: Callable[[], bool] = lambda: False,
) -> C:
    """Make something in a worker thread; it is closed in one, whatever else happens, when the stack unwinds.

    An error of closing is a note of the one that the stack unwinds for, if there is one.
    """
    made = await make(maker, *args)

    async def close(_kind: object, first: BaseException | None, _traceback: object) -> None:
        if unless():
            return
        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(made.close)
            except Exception as error:
                if first is None:
                    raise
                first.add_note(f"then: {error!r}")

    held.push_async_exit(close)
    return made
