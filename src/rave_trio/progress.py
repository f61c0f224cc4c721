"""Where a run stands, as told to whoever started it."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from rave_trio.observe.health import HealthSnapshot
from rave_trio.pipeline import PipelineMetrics


@attrs.frozen
class Progress:
    """Where a run stands.  ``total`` is an estimate unless the container counts its frames."""

    phase: str
    """``upscale``, then ``publish``."""
    done: int
    total: int | None
    metrics: PipelineMetrics
    _health: Callable[[], HealthSnapshot | None] = attrs.field(repr=False, eq=False)

    def health(self) -> HealthSnapshot:
        """How the run is when this is called, now or at any later moment, from any thread."""
        found = self._health()
        assert found is not None
        return found

    @property
    def fps(self) -> float:
        return self.done / self.metrics.elapsed if self.metrics.elapsed else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds to go, at the mean speed so far."""
        if not self.total or not self.fps:
            return None
        return max(0, self.total - self.done) / self.fps


OnProgress = Callable[[Progress], None]
