"""What a run on a GPU shows of it, with a stand-in for NVML: no GPU is needed."""

from __future__ import annotations

import socket
import sys
import threading

import attrs
import pytest
from nvml_standin import GIB, UUIDS, Board, FakeNvml

import rave_trio
from rave_trio.devices.nvidia import Gpu
from rave_trio.memory import Ledger, PoolStats
from rave_trio.observe.watch import Watch
from rave_trio.options import UpscaleOptions
from rave_trio.pipeline import UpscalePipeline


@pytest.fixture
def nvml(monkeypatch):
    module = FakeNvml(Board(memory=(80 * GIB, 75 * GIB), load=(97, 12, None)))
    monkeypatch.setitem(sys.modules, "pynvml", module)
    yield module
    assert module.open == 0


def watching(bunny, tmp_path, uuid: str, **options) -> Watch:
    plan, _ = rave_trio.make_plan(UpscaleOptions(bunny, tmp_path / "out.mkv", **options))
    watch = Watch(attrs.evolve(plan, gpu=Gpu(0, "NVIDIA H200", uuid=uuid)), Ledger())
    watch.attach(UpscalePipeline(), lambda: PoolStats(0, 0, 0, 0, 0, 0))
    return watch


async def test_the_gpu_is_in_health_series_and_trace(bunny, tmp_path, nvml):
    watch = watching(bunny, tmp_path, UUIDS[0], trace=tmp_path / "t.json")
    watch.sample()
    nvml.boards[0].memory, nvml.boards[0].load = (80 * GIB, 73 * GIB), (50, 12, None)
    watch.read()
    watch.sample()
    health = watch.health()
    watch.close()
    watch.close()
    assert (health.gpu.memory_used, health.gpu.busy, health.gpu.decoder, health.gpu.encoder) == (
        7 * GIB,
        0.5,
        0.12,
        None,
    )
    series = watch.series()
    assert series["gpu_memory"] == [5 * GIB, 7 * GIB]
    assert series["gpu_busy"] == [0.97, 0.5]
    assert "gpu_encoder" not in series
    assert '"name":"GPU busy"' in (tmp_path / "t.json").read_text()
    assert (watch.fingerprint.driver, watch.fingerprint.cuda) == ("580.82.07", "13.0")


async def test_a_gpu_that_nvml_does_not_know_is_not_watched(bunny, tmp_path, nvml):
    watch = watching(bunny, tmp_path, "GPU-ffffffff-0000-0000-0000-000000000000")
    watch.read()
    assert watch.health().gpu is None
    watch.close()


async def test_a_port_in_use_lets_go_of_the_gpu_and_makes_no_trace(bunny, tmp_path, nvml):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(rave_trio.RaveError, match="in use"):
            watching(bunny, tmp_path, UUIDS[0], metrics_port=taken.getsockname()[1], trace=tmp_path / "t.json")
    assert nvml.open == 0
    assert not list(tmp_path.iterdir())


async def test_a_driver_that_hangs_holds_up_neither_the_progress_nor_the_end_of_a_run(
    long_clip, tmp_path, nearest_x2, monkeypatch
):
    answered, told, genuine, stop = threading.Event(), [], Watch.read, rave_trio.Stop()

    def read(watch):
        genuine(watch)
        if watch.health() is not None:  # the run has begun
            answered.wait()

    def count(progress):
        told.append(progress.done)
        if len(told) == 4:
            stop.request()

    monkeypatch.setattr(Watch, "read", read)
    try:
        with pytest.raises(rave_trio.Stopped):
            await rave_trio.upscale(
                long_clip, tmp_path / "out.mkv", model=str(nearest_x2), on_progress=count, stop=stop
            )
    finally:
        answered.set()
    assert len(told) >= 4
