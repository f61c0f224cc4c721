"""Whole runs on a GPU, however they end: the frames are right, and nothing is left in its memory."""

from __future__ import annotations

import pytest
import trio
from cuda_rigs import open_gpu

import rave_trio
from rave_trio import errors, job
from rave_trio.audit.clip import psnr
from rave_trio.inference.compact.kernel_sets import computes_fp8
from rave_trio.testing import Fault, FaultPlan, Planted, every_fault

FRAMES = 12
CLOSE = 50.0
"""dB between fp16 and fp32 as RGB of 8 bit, where one code value of chroma is two."""

CLOSE_IN_FP8 = 40.0
"""The same between fp8 and fp16."""

KINDS = ("exception", "out_of_memory", "disk_full", "encoder_refusal", "short_read")
ENDED = {
    "exception": errors.StageCrashed,
    "out_of_memory": errors.OutOfMemory,
    "disk_full": errors.DiskFull,
    "encoder_refusal": errors.EncodeError,
    "short_read": errors.InputTruncated,
}
STAGES = ("decode", "inference", "encode")
FAULTS = [f for f in every_fault((3,), STAGES) if f.kind in KINDS and (f.stage, f.call) != ("inference", "convert")]
RECOVERED = [f for f in FAULTS if f.kind == "out_of_memory" and f.call in ("submit", "collect")]
"""A network that finds no memory is made again for smaller tiles."""


@pytest.fixture
def source(clip):
    return clip("in.mkv", frames=FRAMES, width=320, height=180, audio=True)


@pytest.fixture
def gpu_run(monkeypatch, source, tmp_path):
    """Runs upscale on the first GPU with faults planted; afterwards nothing of the run may be held."""
    open_gpu().close()
    from rave_trio.gpu import assembly

    plan, ledgers, devices = [FaultPlan(())], [], []

    def wrap(name, around):
        make = getattr(assembly, name)
        monkeypatch.setattr(assembly, name, lambda *what, **how: around(plan[0])(make(*what, **how)))

    def keep(where, name, kept):
        make = getattr(where, name)

        def keeping(*what, **how):
            kept.append(make(*what, **how))
            return kept[-1]

        monkeypatch.setattr(where, name, keeping)

    wrap("NvdecDecoder", lambda plan: plan.around_decoder)
    wrap("DownloadingEncoder", lambda plan: plan.around_encoder)
    keep(assembly, "CudaDevice", devices)
    keep(job, "Ledger", ledgers)
    network = assembly.GpuAssembly.network
    monkeypatch.setattr(
        assembly.GpuAssembly, "network", lambda self, *what: plan[0].around_backend(network(self, *what))
    )

    async def run(*faults, **options):
        plan[0] = FaultPlan(faults)
        with trio.fail_after(60):
            asked = {"device": "cuda", "batch": 1, "streams": 1} | options  # nothing is measured, faults would meet it
            return await rave_trio.upscale(source, tmp_path / "out.mkv", **asked)

    yield run
    assert not any(ledger.stats().current for ledger in ledgers)
    assert not any(device.used + device.pinned for device in devices)


async def test_frames_are_those_of_the_cpu_at_their_times(gpu_run, source, tmp_path, reading):
    report = await gpu_run(codec="ffv1")
    expected = await rave_trio.upscale(source, tmp_path / "cpu.mkv", device="cpu", precision="fp32", codec="ffv1")
    assert report.frames == expected.frames == FRAMES
    assert report.plan.decoder == "nvdec"
    assert report.page_locked.current == 0 < report.page_locked.peak
    compared = rave_trio.compare(source, report.output)
    assert compared.same, compared.differences
    for found, exact in zip(reading.frames(report.output), reading.frames(expected.output), strict=True):
        assert psnr(found, exact) > CLOSE


async def test_a_run_in_fp8_gives_the_frames_of_fp16_but_for_rounding(gpu_run, reading):
    device = open_gpu()
    capability = device.compute_capability
    device.close()
    if not computes_fp8(capability):
        pytest.skip("the GPU has no kernels in fp8")
    report = await gpu_run(codec="ffv1", precision="fp16")
    expected = reading.frames(report.output)
    for precision in ("fp8", "fastest"):
        report = await gpu_run(codec="ffv1", precision=precision, overwrite=True)
        assert (report.plan.precision, report.frames) == ("fp8", FRAMES)
        for found, other in zip(reading.frames(report.output), expected, strict=True):
            assert psnr(found, other) > CLOSE_IN_FP8


@pytest.mark.parametrize(("batch", "streams"), [(4, 1), (1, 2), (5, 2)])
async def test_batches_and_streams_give_the_same_frames_in_order(gpu_run, source, tmp_path, reading, batch, streams):
    report = await gpu_run(codec="ffv1", batch=batch, streams=streams)
    assert (report.plan.batch, report.plan.streams, report.frames) == (batch, streams, FRAMES)
    one = await rave_trio.upscale(source, tmp_path / "one.mkv", device="cuda", codec="ffv1", batch=1, streams=1)
    assert rave_trio.compare(source, report.output).same
    for found, exact in zip(reading.frames(report.output), reading.frames(one.output), strict=True):
        assert psnr(found, exact) > CLOSE


async def test_tiles_in_batches_give_the_whole_frames(gpu_run, source, tmp_path, reading):
    report = await gpu_run(codec="ffv1", batch=4, streams=2, tile=96)
    assert report.plan.geometries[0].tiles > 4
    whole = await rave_trio.upscale(source, tmp_path / "whole.mkv", device="cuda", codec="ffv1", batch=1, streams=1)
    for found, exact in zip(reading.frames(report.output), reading.frames(whole.output), strict=True):
        assert psnr(found, exact) > CLOSE


@pytest.mark.parametrize("fault", RECOVERED, ids=str)
async def test_batches_without_memory_go_on_one_by_one(gpu_run, fault):
    report = await gpu_run(fault, batch=4, streams=2)
    assert report.frames == FRAMES
    assert any(note.startswith("memory ran out 1 times") for note in report.notes)


async def test_software_decoding_gives_the_same_frames(gpu_run, tmp_path, reading):
    """What --strict asks for, since NVDEC conceals damage."""
    report = await gpu_run(strict=True, codec="ffv1")
    assert report.plan.decoder == "libav"
    assert report.frames == FRAMES


@pytest.mark.parametrize("fault", [f for f in FAULTS if f not in RECOVERED], ids=str)
async def test_a_fault_ends_the_run_with_its_stage_and_frame(gpu_run, tmp_path, fault):
    with pytest.raises(ENDED[fault.kind]) as caught:
        await gpu_run(fault)
    assert (caught.value.stage, caught.value.frame) == (fault.stage, fault.frame)
    if fault.kind == "exception":
        assert isinstance(caught.value.__cause__, Planted)
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize("fault", RECOVERED, ids=str)
async def test_a_network_without_memory_goes_on_with_smaller_tiles(gpu_run, fault):
    report = await gpu_run(fault)
    assert report.frames == FRAMES
    assert any(note.startswith("memory ran out 1 times") for note in report.notes)


async def test_a_cancelled_run_keeps_what_it_has_read(gpu_run, tmp_path, reading):
    scope = trio.CancelScope()

    def stop(progress):
        if progress.done:
            scope.cancel()

    with scope:
        await gpu_run(Fault("encode", 3, "slow"), on_progress=stop)
    (kept,) = tmp_path.glob("out*.mkv")
    assert reading.frames(kept)


async def test_two_stops_end_at_once_and_leave_nothing(gpu_run, tmp_path):
    stop = rave_trio.Stop()

    def now(_plan):
        stop.request()
        stop.request()

    with pytest.raises(errors.Stopped):
        await gpu_run(stop=stop, on_plan=now)
    assert not list(tmp_path.glob("*out*"))


async def test_a_run_on_a_gpu_is_watched_through_nvml(gpu_run, tmp_path):
    seen = []
    report = await gpu_run(
        on_progress=lambda progress: seen.append(progress.health()),
        trace=tmp_path / "t.json",
        report=tmp_path / "r.html",
    )
    assert all(health.gpu.memory_used > 0 for health in seen)
    assert max(report.series["gpu_memory"]) >= report.ledger.peak > 0
    assert report.fingerprint.driver
    assert len(report.fingerprint.gpus) == 1
    assert '"GPU memory"' in (tmp_path / "t.json").read_text()
    assert "<svg" in (tmp_path / "r.html").read_text()
