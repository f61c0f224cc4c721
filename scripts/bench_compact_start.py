#!/usr/bin/env python3
"""How long the kernels of the backend compact take to be ready: compiled for the first time, and out of the cache.

    scripts/bench_compact_start.py [--models animevideo-x4,animevideo-x2] [--rounds 5]

Each measurement is a process of its own, whose CUDA context is there before the clock starts: all kernels of a network
compiled and loaded onto the GPU, with an empty cache (cold) and with the one that this left (warm); the compiler's own
library is loaded within that time.  Seconds, the median and the least and the most.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time


def ready(model: str) -> float:
    """Seconds until the kernels of ``model`` are loaded, in this process."""
    from rave_trio.devices.cuda import CudaDevice
    from rave_trio.devices.launcher import CudaLauncher
    from rave_trio.inference.catalogue import find_model
    from rave_trio.inference.compact.find import find_compact
    from rave_trio.inference.compact.kernel_sets import kernels_for

    net = find_compact(find_model(model)[1])
    device = CudaDevice(0)
    stream, make = device.stream(), kernels_for(device.compute_capability)
    began = time.perf_counter()
    make(net.architecture, CudaLauncher(), stream)
    took = time.perf_counter() - began
    device.close()
    return took


def measured(model: str, cache: str) -> float:
    """The same in a process of its own, whose caches are in ``cache``."""
    command = [sys.executable, __file__, "--child", model]
    environment = os.environ | {"XDG_CACHE_HOME": cache, "CUDA_CACHE_DISABLE": "1"}
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="animevideo-x4,animevideo-x2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(ready(args.child))
        return
    for model in args.models.split(","):
        times: dict[str, list[float]] = {"cold": [], "warm": []}
        for _ in range(args.rounds):
            with tempfile.TemporaryDirectory() as cache:
                for each in times.values():
                    each.append(measured(model, cache))
        for how, found in times.items():
            spread = f"{min(found):.3f} to {max(found):.3f}"
            print(f"{model:14} {how}  {statistics.median(found):.3f} s ({spread})", flush=True)


if __name__ == "__main__":
    main()
