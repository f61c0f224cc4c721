"""How a run is doing at a moment."""

from __future__ import annotations

from typing import Any

import attrs

from rave_trio.devices.nvml import GpuLoad
from rave_trio.memory import PoolStats
from rave_trio.pipeline import PipelineMetrics


@attrs.frozen
class HealthSnapshot:
    """A run at a moment, from :meth:`Progress.health`.  Memory in bytes, times in seconds.  A value, for any thread.

    ``vram_*`` is the account of the memory that frames and network take on the device, on the host where that computes.
    """

    phase: str
    """``upscale``, then ``publish``."""
    frames: int
    """Finished so far."""
    total: int | None
    """How many there will be; an estimate unless the container counts its frames."""
    elapsed: float
    """Since the run began."""
    fps: float
    """Frames per second since the run began."""
    recent_fps: float
    """The same over the last five seconds or so."""
    vram_current: int
    """Now."""
    vram_peak: int
    """The most so far."""
    vram_limit: int | None
    """What ``--vram-limit`` says."""
    vram_by_owner: dict[str, int]
    """Now, by what it is for."""
    pool: PoolStats
    """How requests for that memory were met."""
    steady_state: bool
    """Whether frames flow and the pool has met every request of the last two seconds from what it holds."""
    metrics: PipelineMetrics
    """Frames, times and queues of each stage."""
    host_memory: int | None
    """What of this process is in RAM."""
    gpu: GpuLoad | None
    """All of the GPU, whoever uses it."""

    @property
    def queue_depths(self) -> dict[str, int]:
        """Frames that wait in each channel."""
        return {channel.name: channel.depth for channel in self.metrics.channels}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        stages = {
            stage.name: {
                "activity": stage.activity,
                "since": stage.since,
                "frame": stage.frame,
                "frames_in": stage.frames_in,
                "frames_out": stage.frames_out,
            }
            for stage in self.metrics.stages
        }
        plain = attrs.asdict(self, filter=lambda field, _: field.name not in ("metrics", "pool"))
        pool = {**attrs.asdict(self.pool), "hit_rate": self.pool.hit_rate}
        return {**plain, "pool": pool, "queue_depths": self.queue_depths, "stages": stages}
