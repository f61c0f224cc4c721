"""Everything that watches one run: its health, its numbers over time, the trace, the log of calls, the endpoint."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from rave_trio.devices.cpu import resident_bytes
from rave_trio.devices.nvml import GpuGauge, GpuLoad, NvmlUnavailable
from rave_trio.errors import OutputNotWritable
from rave_trio.fingerprint import EngineFingerprint, fingerprint_of
from rave_trio.memory import Ledger, PoolStats
from rave_trio.observe.calls import CallLog
from rave_trio.observe.health import HealthSnapshot
from rave_trio.observe.series import Series, largest, last, mean
from rave_trio.observe.trace import TraceFile
from rave_trio.pipeline import Observer, UpscalePipeline
from rave_trio.pipeline.metrics import STAGES

if TYPE_CHECKING:
    from rave_trio.observe.prometheus import Endpoint
    from rave_trio.plan import EnginePlan

INTERVAL = 0.25
"""Seconds between two samples."""

RECENT = 20
"""Samples that ``recent_fps`` looks back."""

STEADY_SECONDS = 2.0

CHANNELS = ("decoded", "preprocessed", "upscaled")

COLUMNS = {
    "seconds": last,
    **{f"frames_{stage}": last for stage in STAGES},
    **{f"busy_{stage}": last for stage in STAGES},
    **{f"queue_{channel}": mean for channel in CHANNELS},
    "vram": largest,
    "host_memory": largest,
    "gpu_memory": largest,
    "gpu_busy": mean,
    "gpu_decoder": mean,
    "gpu_encoder": mean,
}
"""Of a run's time series.  What was counted is as of the point's end, queues and shares are means over the time since
the point before, memory is the most in that time."""

log = logging.getLogger("rave_trio.observe")


class Watch:
    """Watches one run.  Made before it begins, closed after it has ended, however that was.

    Threads: making, :meth:`read` and :meth:`close` block, and belong into worker threads; :meth:`sample` belongs to the
    Trio thread; :meth:`health` is for any.
    """

    def __init__(self, plan: EnginePlan, ledger: Ledger) -> None:
        """Raises MetricsPortUnavailable, UsageError (a library is missing) or OutputNotWritable."""
        self._plan = plan
        self._ledger = ledger
        self._pipeline: UpscalePipeline | None = None
        self._pool_stats: Callable[[], PoolStats] = lambda: PoolStats(0, 0, 0, 0, 0, 0)
        self._series = Series(COLUMNS)
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT)
        self._allocations = 0
        self._allocated_at = time.monotonic()
        self._published_since: float | None = None
        self._closed = False
        self._host_memory: int | None = None
        self._gpu_load: GpuLoad | None = None
        self._trace: TraceFile | None = None
        self.notes: list[str] = []
        """What could not be written; complete once closed."""
        self.fingerprint: EngineFingerprint = fingerprint_of(plan)
        options = plan.options
        with contextlib.ExitStack() as held:
            self._gauge = _gauge(held, plan)
            if options.metrics_port is not None:
                held.callback(self._serve(options.metrics_host, options.metrics_port).close)
            if options.trace is not None:
                try:
                    self._trace = TraceFile(options.trace)
                except OSError as error:
                    raise OutputNotWritable(f"{options.trace} cannot be written: {error.strerror}") from error
                held.callback(self._end_trace, self._trace)
            self.read()
            self._held = held.pop_all()

    @property
    def observer(self) -> Observer | None:
        """For the pipeline; None where nobody wants to be told."""
        calls = CallLog() if CallLog.wanted() else None
        wanted: list[Observer] = [each for each in (self._trace, calls) if each is not None]
        return _Both(*wanted) if len(wanted) == 2 else wanted[0] if wanted else None

    def attach(self, pipeline: UpscalePipeline, pool_stats: Callable[[], PoolStats]) -> None:
        """What is watched, once there is something."""
        self._pool_stats = pool_stats
        self._pipeline = pipeline

    @property
    def phase(self) -> str:
        """``upscale``, then ``publish``."""
        return "upscale" if self._published_since is None else "publish"

    def publishing(self) -> None:
        """All frames are done; what follows is publishing."""
        self._published_since = time.perf_counter()

    def read(self) -> None:
        """Look at the host and the GPU, and write what of the trace is due."""
        self._host_memory = resident_bytes()
        self._gpu_load = self._gauge.read() if self._gauge else None
        if self._trace is not None:
            self._trace.flush()

    def sample(self) -> None:
        """Take down how things are now, with what was last read of the host and the GPU."""
        if self._pipeline is None:
            return
        metrics, memory, now = self._pipeline.metrics, self._ledger.stats(), time.monotonic()
        self._recent.append((metrics.elapsed, metrics.frames_encoded))
        if (allocations := self._pool_stats().misses) != self._allocations:
            self._allocations, self._allocated_at = allocations, now
        gpu = self._gpu_load or GpuLoad()
        self._series.add(
            {
                "seconds": metrics.elapsed,
                **{f"frames_{stage.name}": stage.frames_out for stage in metrics.stages},
                **{f"busy_{stage.name}": stage.busy for stage in metrics.stages},
                **{f"queue_{channel.name}": channel.depth for channel in metrics.channels},
                "vram": memory.current,
                "host_memory": self._host_memory,
                "gpu_memory": gpu.memory_used,
                "gpu_busy": gpu.busy,
                "gpu_decoder": gpu.decoder,
                "gpu_encoder": gpu.encoder,
            }
        )
        if self._trace is not None:
            self._trace.counter("memory of frames and network", {"bytes": memory.current})
            for name, nbytes in (("host memory", self._host_memory), ("GPU memory", gpu.memory_used)):
                if nbytes is not None:
                    self._trace.counter(name, {"bytes": nbytes})
            if gpu.busy is not None:
                self._trace.counter("GPU busy", {"percent": 100 * gpu.busy})

    def health(self) -> HealthSnapshot | None:
        """How the run is now; None before it is set up."""
        if self._pipeline is None:
            return None
        metrics, memory, pool = self._pipeline.metrics, self._ledger.stats(), self._pool_stats()
        frames = metrics.frames_encoded
        then, before = next(iter(self._recent.copy()), (0.0, 0))
        steady = pool.misses == self._allocations and time.monotonic() - self._allocated_at >= STEADY_SECONDS
        return HealthSnapshot(
            phase=self.phase,
            frames=frames,
            total=self._plan.media.video.frames,
            elapsed=metrics.elapsed,
            fps=_rate(frames, metrics.elapsed),
            recent_fps=_rate(frames - before, metrics.elapsed - then),
            vram_current=memory.current,
            vram_peak=memory.peak,
            vram_limit=memory.limit,
            vram_by_owner=memory.by_owner,
            pool=pool,
            steady_state=steady and frames > 0,
            metrics=metrics,
            host_memory=self._host_memory,
            gpu=self._gpu_load,
        )

    def series(self) -> dict[str, list[float | None]]:
        """The run's numbers over time; columns of nothing are left out."""
        columns = self._series.columns()
        return {name: values for name, values in columns.items() if any(value is not None for value in values)}

    def close(self) -> None:
        """Stop serving, make the trace whole, and let go of the GPU and of what the run was made of.  Idempotent."""
        self._held.close()
        if (health := self.health()) is not None and not self._closed:
            self._log_end(health)
        self._closed = True
        final = self._pool_stats()
        self._pool_stats = lambda: final

    def _serve(self, host: str, port: int) -> Endpoint:
        from rave_trio.observe.prometheus import Endpoint

        endpoint = Endpoint(host, port, self.health, self.fingerprint)
        log.info("serving metrics at %s", endpoint.url, extra={"port": endpoint.port})
        return endpoint

    def _log_end(self, health: HealthSnapshot) -> None:
        """The figures of a run, however it ended."""
        figures = {
            "frames": health.frames,
            "seconds": round(health.elapsed, 3),
            "fps": round(health.fps, 2),
            "bottleneck": health.metrics.bottleneck,
            "vram_peak": health.vram_peak,
            "pool_hit_rate": round(health.pool.hit_rate, 4),
        }
        log.info("the run has ended", extra=figures)

    def _end_trace(self, trace: TraceFile) -> None:
        if self._published_since is not None:
            trace.span("publish", "busy", self._published_since, time.perf_counter(), None)
        trace.close()
        self.notes += trace.notes
        for note in trace.notes:
            log.info("%s", note)


@attrs.frozen
class _Both:
    """Two observers as one."""

    first: Observer
    second: Observer

    def span(self, stage: str, activity: str, start: float, end: float, frame: int | None) -> None:
        self.first.span(stage, activity, start, end, frame)
        self.second.span(stage, activity, start, end, frame)

    def depth(self, channel: str, depth: int) -> None:
        self.first.depth(channel, depth)
        self.second.depth(channel, depth)


def _gauge(held: contextlib.ExitStack, plan: EnginePlan) -> GpuGauge | None:
    if plan.gpu is None or plan.gpu.uuid is None:
        return None
    try:
        return held.enter_context(contextlib.closing(GpuGauge(plan.gpu.uuid)))
    except NvmlUnavailable as reason:
        log.info("the GPU's load is not watched: %s", reason)
        return None


def _rate(frames: int, seconds: float) -> float:
    return frames / seconds if seconds > 0 else 0.0
