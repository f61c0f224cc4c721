"""The audit on a GPU: the driver's records are what the plan says, and a planted copy is found."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import attrs
import numpy as np
import pytest
import trio
from cuda_rigs import open_gpu

import rave_trio
from rave_trio import errors
from rave_trio.assembly import assemble
from rave_trio.audit.copies import WARM_UP
from rave_trio.audit.findings import Level
from rave_trio.audit.run import open_audit
from rave_trio.color.cuda.planes import layout
from rave_trio.devices.cupti import CuptiUnavailable, Recorder
from rave_trio.devices.pool import POOLS
from rave_trio.memory import Ledger, Waiting
from rave_trio.pipeline import UpscalePipeline

FRAMES = 2 * WARM_UP + 16
WIDTH, HEIGHT = 320, 180
LUMA = 640 * 360
"""Bytes of the first plane of a picture twice as large."""
MIB = 1 << 20
LEFT = 32 * MIB
"""What libraries may load late, in a second run, without being told."""


@pytest.fixture(scope="module", autouse=True)
def recording():
    """Skip, or fail where a GPU is promised, unless there is one and CUPTI records on it."""
    open_gpu().close()
    recorder = Recorder()
    try:
        recorder.start()
    except CuptiUnavailable as error:
        if os.environ.get("RAVE_TRIO_REQUIRE_GPU") == "1":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    recorder.stop()


@pytest.fixture
def source(clip):
    return clip("in.mkv", frames=FRAMES, width=WIDTH, height=HEIGHT)


@pytest.fixture
def run(source, tmp_path):
    def make(**options):
        options = {"preset": "ultrafast", "codec": "libx264", "overwrite": True} | options
        return rave_trio.upscale_sync(source, tmp_path / "out.mkv", device="cuda", audit=True, **options)

    return make


def finding(report, code):
    (found,) = [each for each in report.findings if each.code == code]
    return found


def steady(report, direction):
    """How many copies of which size between host and device there were, of those as large as a plane."""
    figures = finding(report, "copies").figures
    counts: dict[int, int] = {}
    for copy in figures["steady"]:
        if copy["kind"] == direction and copy["nbytes"] >= figures["frame_sized_from"]:
            counts[copy["nbytes"]] = counts.get(copy["nbytes"], 0) + copy["count"]
    return counts


# Records


SCRIPT = """
from rave_trio.devices.pool import POOLS
from rave_trio.devices.cupti import Recorder
from rave_trio.devices.cuda import CudaDevice
for _ in range(2):
    recorder = Recorder()
    recorder.start()
    device = CudaDevice(0)
    memory = device.allocate(1 << 20)
    {work}
    memory.close()
    {end}
    device.close()
print("done")
"""


@pytest.mark.parametrize("end", ["recorder.stop()", "pass"], ids=["stopped", "left running"])
def test_a_process_that_recorded_ends(end):
    script = SCRIPT.format(work="pass", end=end)
    if end == "pass":
        script = script.replace("range(2)", "range(1)")
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "pageable"])
def test_records_have_the_bytes_and_the_memory_of_what_was_copied(cuda, pinned):
    from rave_trio.devices.copies import copy_from_host, copy_to_host

    rows, row_bytes, pitch = 180, 320, 512
    stream, recorder = cuda.stream(), Recorder()
    with contextlib.ExitStack() as held:
        recorder.start()
        held.callback(recorder.stop)
        memory = held.enter_context(contextlib.closing(cuda.allocate(rows * pitch)))
        from rave_trio.devices.arrays import DeviceArray

        plane = DeviceArray(memory, (rows, row_bytes), np.dtype(np.uint8), pitch=pitch)
        host = np.zeros((rows, row_bytes), np.uint8)
        if pinned:
            host = held.enter_context(contextlib.closing(cuda.pin(host.nbytes))).array(host.shape, host.dtype)
        for _ in range(3):
            copy_from_host(stream, host, plane)
            copy_to_host(stream, plane, host)
        stream.synchronize()
        recorder.mark()
        copy_to_host(stream, plane, host)
        stream.synchronize()
        recorder.stop()
    activity, kind = recorder.activity, "pinned" if pinned else "pageable"
    assert activity.lost == 0
    assert {(c.kind, c.nbytes, c.host_memory): t.count for c, t in activity.warm_up.items()} == {
        ("HtoD", rows * row_bytes, kind): 3,
        ("DtoH", rows * row_bytes, kind): 3,
    }
    assert {(c.kind, c.nbytes, c.host_memory): t.count for c, t in activity.steady.items()} == {
        ("DtoH", rows * row_bytes, kind): 1
    }


def test_allocations_are_seen_and_so_is_their_end(cuda):
    recorder = Recorder()
    recorder.start()
    memory = cuda.allocate(5 * MIB)
    during = recorder.now()
    memory.close()
    recorder.stop()
    assert recorder.activity.held_at(during) == 5 * MIB
    assert recorder.activity.held_at_the_end() == 0


# Whole runs


def test_nvdec_and_a_software_encoder_have_one_copy_of_each_picture_and_no_other(run):
    report = run()
    assert report.plan.decoder == "nvdec"
    assert finding(report.audit, "copies").level is Level.PASS, finding(report.audit, "copies").message
    assert steady(report.audit, "HtoD") == {}
    ((nbytes, count),) = steady(report.audit, "DtoH").items()
    assert nbytes == layout(report.plan.encoder.surface).extent
    assert FRAMES - WARM_UP - 1 <= count <= FRAMES - WARM_UP


def test_a_software_decoder_uploads_each_plane_once(run):
    report = run(strict=True)
    assert report.plan.decoder == "libav"
    assert finding(report.audit, "copies").level is Level.PASS, finding(report.audit, "copies").message
    ups = steady(report.audit, "HtoD")
    assert set(ups) == {WIDTH * HEIGHT, WIDTH * HEIGHT // 4}
    assert FRAMES - WARM_UP - 20 <= ups[WIDTH * HEIGHT] <= FRAMES - WARM_UP


class Discarding:
    """Waits for each picture and drops it."""

    def write(self, frame):
        if frame.surface.native.memory.last_use is not None:
            frame.surface.native.memory.last_use.wait()

    def finish(self):
        pass

    def close(self):
        pass


def test_from_nvdec_on_no_frame_comes_to_the_host(source, tmp_path):
    options = rave_trio.UpscaleOptions(source, tmp_path / "out.mkv", device="cuda", audit=True)
    plan, model = rave_trio.make_plan(options)
    plan = attrs.evolve(plan, encoder=attrs.evolve(plan.encoder, encoder="h264_nvenc"))  # so nothing is downloaded
    assert plan.copies == ()
    ledger, waiting = Ledger(), Waiting()
    with contextlib.closing(open_audit(plan, ledger)) as audit:
        with contextlib.closing(assemble(plan, model, ledger, waiting)) as assembly, contextlib.ExitStack() as held:
            decoder = held.enter_context(contextlib.closing(assembly.decoder()))
            backend = held.enter_context(contextlib.closing(assembly.backend()))
            encoder = audit.around(Discarding(), assembly.pool_stats)
            run = UpscalePipeline(plan.fit.pipeline, waiting).run
            metrics = trio.run(run, decoder, assembly.to_tensor(), backend, assembly.to_surface(), encoder)
        report = audit.report(metrics.frames_encoded, metrics, assembly.pool_stats(), 0)
    copies = finding(report, "copies")
    assert copies.level is Level.PASS, copies.message
    assert steady(report, "HtoD") == steady(report, "DtoH") == {}
    assert copies.figures["not_with_the_host"]["count"] > 0  # NVDEC's surfaces into ours: records do come


def _copied(device, frame):
    """Bring the first plane of a surface to the host, as nobody should."""
    from rave_trio.devices.copies import copy_to_host
    from rave_trio.devices.interface import use

    picture = frame.surface.native
    plane, stream = picture.planes[0], device.stream()
    with use(stream, picture.memory):
        copy_to_host(stream, plane, np.empty(plane.shape, plane.dtype))
    stream.synchronize()


@pytest.mark.parametrize("where", ["network", "encoder"])
def test_a_planted_copy_of_each_frame_is_found(run, monkeypatch, tmp_path, reading, where):
    from rave_trio.gpu import assembly

    name, call = {"network": ("RetreatingBackend", "collect"), "encoder": ("DownloadingEncoder", "write")}[where]
    kind = getattr(assembly, name)
    honest = getattr(kind, call)
    devices = []
    made = assembly.CudaDevice
    monkeypatch.setattr(assembly, "CudaDevice", lambda *a: devices.append(made(*a)) or devices[-1])

    def planted(self, *frame):
        done = honest(self, *frame) if where == "network" else None
        _copied(devices[-1], done or frame[0])
        return done or honest(self, *frame)

    monkeypatch.setattr(kind, call, planted)
    with pytest.raises(errors.AuditFailed) as caught:
        run()
    found = finding(caught.value.report.audit, "copies")
    assert found.level is Level.FAIL
    (unplanned,) = found.figures["unplanned"]
    assert (unplanned["direction"], unplanned["nbytes"]) == ("DtoH", LUMA)
    # The network is ahead of the encoder, by whose frames the steady state begins.
    assert FRAMES - WARM_UP - 20 <= unplanned["count"] <= FRAMES - WARM_UP
    assert len(reading.frames(tmp_path / "out.mkv")) == FRAMES


# Memory


def test_a_second_run_leaves_the_memory_as_it_was(run):
    run()
    found = finding(run().audit, "memory")
    assert found.figures["left"] == 0, found.message
    assert abs(found.figures["kept_beside_the_context"]) <= LEFT, found.message


def test_the_parts_of_the_difference_between_nvml_and_the_ledger_are_named(run):
    run()
    found = finding(run().audit, "memory")
    parts = found.figures["parts"]
    print(found.message)  # noqa: T201 (for whoever runs it with -s)
    assert sum(parts.values()) == found.figures["difference"]
    steady = found.figures["samples"][-2]["ledger"]
    assert found.figures["allocated"] >= sum(steady.get(owner, 0) for owner in POOLS) > 0
    assert found.level is not Level.FAIL
