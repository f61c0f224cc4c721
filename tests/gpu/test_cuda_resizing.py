"""Exact sizes and models in a row on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
from device_resizing import DeviceResizing

import rave_trio
from rave_trio.graph import DecodeStage, EncodeStage, EnhanceStage, ResizeStage, StageGraph


@pytest.fixture
def machine(machine):
    """The machine of the colours, with what a resizer is given besides."""
    from rave_trio.devices.copies import copy_from_host
    from rave_trio.devices.launcher import CudaLauncher

    machine.lanczos, machine.upload = CudaLauncher(), copy_from_host
    return machine


class TestTheKernelOnTheGpu(DeviceResizing):
    """The suite for every machine."""


def test_a_graph_of_two_models_and_a_size_gives_what_the_cpu_gives(cuda, clip, tmp_path, upscaler, reading):
    models = [upscaler("clean", scale=1), upscaler("twice", scale=2)]
    middle = [
        *(EnhanceStage(model=str(model), precision="fp32") for model in models),
        ResizeStage(width=200, height=90),
    ]
    graph = StageGraph([DecodeStage(), *middle, EncodeStage(codec="ffv1")])
    source, contract = clip(frames=5), rave_trio.RunContract(determinism_hash_frames=5)

    def run(device: str) -> rave_trio.PipelineReport:
        return rave_trio.upscale_sync(
            source, tmp_path / f"{device}.mkv", graph=graph, contract=contract, device=device, overwrite=True
        )

    on_cpu, on_gpu, again = run("cpu"), run("cuda"), run("cuda")
    assert on_gpu.frames == on_cpu.frames == 5
    assert on_gpu.witnessed.hashes == again.witnessed.hashes
    assert on_gpu.ledger.current == 0
    pairs = zip(reading.frames(on_cpu.output), reading.frames(on_gpu.output), strict=True)
    assert all(np.abs(a.astype(int) - b.astype(int)).max() <= 2 for a, b in pairs)
