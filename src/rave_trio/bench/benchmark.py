"""The benchmark: the pipeline and its network alone, in turn, in one process."""

from __future__ import annotations

import contextlib
import logging
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs

from rave_trio.bench.clip import write_moving_clip
from rave_trio.bench.report import BenchmarkReport, Settings
from rave_trio.bench.rounds import Flow, Rounds, scratch
from rave_trio.bench.spread import Spread
from rave_trio.errors import UsageError
from rave_trio.fingerprint import fingerprint_of
from rave_trio.options import UpscaleOptions
from rave_trio.plan import make_plan

log = logging.getLogger("rave_trio.bench")


def run_benchmark(options: UpscaleOptions, settings: Settings) -> BenchmarkReport:
    """Measure one plan.  The input must be there: see :func:`prepared`.  Blocking, for as long as all runs take.

    Raises what planning and running raise.
    """
    plan, steps = make_plan(options)
    rounds = Rounds(plan, steps)
    flows: list[Flow] = []
    networks: list[float] = []
    for number in range(settings.warm_up + settings.repeat):
        flow = rounds.pipeline(settings.frames, encode=settings.encode)
        network = rounds.network(flow.metrics.frames_encoded)
        log.info("round %d: pipeline %.3f fps, network alone %.3f", number + 1, flow.fps, network)
        if number >= settings.warm_up:
            flows.append(flow)
            networks.append(network)
    return BenchmarkReport(
        plan=plan,
        settings=settings,
        fingerprint=fingerprint_of(plan),
        pipeline=Spread.of(flow.fps for flow in flows),
        network=Spread.of(networks),
        typical=typical(flows),
        resident_peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def typical(flows: list[Flow]) -> Flow:
    """The one of the median speed; of an even number, the faster of the two in the middle."""
    return sorted(flows, key=lambda flow: flow.fps)[len(flows) // 2]


@contextlib.contextmanager
def prepared(options: UpscaleOptions, settings: Settings) -> Iterator[UpscaleOptions]:
    """The options with an output that goes nowhere and, where a clip is to be made, that clip as their input."""
    if options.trace is not None or options.report is not None or options.metrics_port is not None:
        raise UsageError("a benchmark is not watched", remedy="leave out --trace, --report and --metrics-port")
    with tempfile.TemporaryDirectory(prefix="rave-trio-") as name:
        folder = Path(name)
        source = options.input
        if settings.synthetic is not None:
            source = folder / "in.mkv"
            write_moving_clip(source, settings.frames, *settings.synthetic)
        yield attrs.evolve(options, input=source, output=scratch(folder))
