"""What watching costs a run: the price of each thing that is noted, times how often it was in a real run.

    python scripts/bench_watching.py [INPUT]

Prints shares of the run's wall time, once as every run is watched and once with --trace.  Prices are the lowest of
five rounds, so they do not depend on what else the machine does; wall time does, and is longer then.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path

import trio

import rave_trio
from rave_trio.memory import Ledger, PoolStats
from rave_trio.observe.trace import TraceFile
from rave_trio.observe.watch import INTERVAL, Watch
from rave_trio.options import UpscaleOptions
from rave_trio.pipeline import UpscalePipeline
from rave_trio.pipeline.metrics import Observer, StageMeter


def price(call: Callable[[], object], number: int = 2000) -> float:
    """Seconds for one call."""
    return min(timeit.repeat(call, number=number, repeat=5)) / number


async def hop(call: Callable[[], object]) -> float:
    """The same on a worker thread and back."""
    rounds = []
    for _ in range(5):
        begin = timeit.default_timer()
        for _ in range(200):
            await trio.to_thread.run_sync(call)
        rounds.append((timeit.default_timer() - begin) / 200)
    return min(rounds)


def timing(observer: Observer | None) -> float:
    """Of one call or wait of a stage."""
    meter = StageMeter("decode", observer)

    def once() -> None:
        with meter.time("busy"):
            pass

    return price(once)


def main() -> None:
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/media/bunny.mkv")
    with tempfile.TemporaryDirectory() as folder:
        target, trace = Path(folder, "out.mkv"), Path(folder, "trace.json")
        report = rave_trio.upscale_sync(source, target, trace=trace)
        events = len(json.loads(trace.read_text())["traceEvents"])
        # Calls, and for every frame a wait at both ends of each channel.
        timings = sum(stage.latency.calls for stage in report.metrics.stages) + 6 * report.frames
        depths = 9 * report.frames

        plan = rave_trio.make_plan(UpscaleOptions(source, target, overwrite=True))[0]
        watch = Watch(plan, Ledger())
        watch.attach(UpscalePipeline(), lambda: PoolStats(0, 0, 0, 0, 0, 0))
        sample = price(watch.sample, 200) + trio.run(hop, watch.read)
        watch.close()

        written = TraceFile(Path(folder, "priced.json"))
        depths_seen = itertools.count()
        traced, depth = timing(written), price(lambda: written.depth("decoded", next(depths_seen)))
        begin = timeit.default_timer()
        written.flush()
        flush = (timeit.default_timer() - begin) / 20_000
        written.discard()

        off = timings * timing(None) + report.seconds / INTERVAL * sample
        on = off + timings * (traced - timing(None)) + depths * depth + events * flush
        print(f"{report.frames} frames in {report.seconds:.1f} s, {timings} timings, {events} events in the trace")
        print(f"a timing {1e6 * timing(None):.2f} us, traced {1e6 * traced:.2f} us, a depth {1e6 * depth:.2f} us")
        print(f"a sample {1e6 * sample:.0f} us, writing an event {1e6 * flush:.2f} us")
        print(f"watching takes {off / report.seconds:.3%} of the run, with --trace {on / report.seconds:.3%}")


if __name__ == "__main__":
    main()
