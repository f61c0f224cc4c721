"""Where a run stands, as told to whoever started it."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from rave_trio.observe.health import HealthSnapshot
from rave_trio.pipeline import PipelineMetrics


@attrs.frozen
class Progress:
    """Where a run stands, as ``on_progress`` is told, in the Trio thread.  A value: it stays as it is.

    >>> import rave_trio
    >>> seen = []
    >>> report = rave_trio.upscale_sync("in.mkv", "out.mkv", on_progress=seen.append)
    >>> seen[-1].done, seen[-1].total, seen[-1].health().phase
    (4, 4, 'publish')
    """

    phase: str
    """``upscale``, then ``publish``."""
    done: int
    """Frames that are encoded."""
    total: int | None
    """How many there will be; an estimate unless the container counts its frames, None where nothing says."""
    metrics: PipelineMetrics
    _health: Callable[[], HealthSnapshot | None] = attrs.field(repr=False, eq=False)

    def health(self) -> HealthSnapshot:
        """How the run is when this is called, now or at any later moment, from any thread."""
        found = self._health()
        assert found is not None
        return found

    @property
    def fps(self) -> float:
        """Frames per second of wall time since the run began."""
        return self.done / self.metrics.elapsed if self.metrics.elapsed else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds to go, at the mean speed so far; None before the first frame, or where no total is known."""
        if not self.total or not self.fps:
            return None
        return max(0, self.total - self.done) / self.fps


OnProgress = Callable[[Progress], None]
