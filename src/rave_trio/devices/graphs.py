"""Sequences of kernels as CUDA graphs: captured the first time, launched as one from then on."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from cuda.bindings import driver

from rave_trio.devices.driver import check

KEPT = 256
"""Graphs kept at once, more than there are pairs of pictures before and behind a backend, and far more than may be
under way: what is dropped for a newer one was done long before.
"""


class Unrecorded:
    """Has sequences of kernels launched one by one, each time anew."""

    def play(self, stream: Any, key: Hashable, work: Callable[[Any], None], *held: Any) -> None:
        """Call ``work(raw)``, which puts its kernels into ``stream``, and return at once."""
        stream.launch(work)

    def close(self) -> None:
        """Nothing is kept."""


class Graphs:
    """Graphs of one stream, by what they do.  One caller at a time, from any thread."""

    def __init__(self) -> None:
        self._graphs: OrderedDict[Hashable, Any] = OrderedDict()

    def play(self, stream: Any, key: Hashable, work: Callable[[Any], None], *held: Any) -> None:
        """Have ``work(raw)`` put its kernels into ``stream``, and return at once.

        What has the same ``key`` is the same work, on the same addresses, and is called once and no more.  ``held`` is
        what must stay open until the work is done; that is the caller's to see to.  Raises LaunchError, and MemoryError
        where there is no room for a graph.
        """
        stream.launch(self._play, key, work)

    def close(self) -> None:
        """Destroy the graphs.  Idempotent; none may be under way."""
        while self._graphs:
            driver.cuGraphExecDestroy(self._graphs.popitem()[1])

    def _play(self, raw: Any, key: Hashable, work: Callable[[Any], None]) -> None:
        if key in self._graphs:
            self._graphs.move_to_end(key)
        else:
            self._graphs[key] = _captured(raw, work)
            if len(self._graphs) > KEPT:
                driver.cuGraphExecDestroy(self._graphs.popitem(last=False)[1])
        check(driver.cuGraphLaunch(self._graphs[key], raw.handle))


def _captured(raw: Any, work: Callable[[Any], None]) -> Any:
    """The graph of what ``work(raw)`` puts into a stream.  Other threads do what they like meanwhile."""
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    check(driver.cuStreamBeginCapture(raw.handle, mode))
    try:
        work(raw)
    except BaseException:
        with contextlib.suppress(Exception):
            _, graph = driver.cuStreamEndCapture(raw.handle)
            driver.cuGraphDestroy(graph)
        raise
    graph = check(driver.cuStreamEndCapture(raw.handle))
    try:
        return check(driver.cuGraphInstantiate(graph, 0))
    finally:
        driver.cuGraphDestroy(graph)
