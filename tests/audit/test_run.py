"""What is watched of a run: on the CPU for real, on a GPU with stand-ins for CUPTI, NVML and the device."""

from __future__ import annotations

import contextlib
import re

import attrs
import pytest
from cupti_standin import DTOH, HTOD, CuptiStandIn, memcpy, memory

import rave_trio
from rave_trio import errors, job
from rave_trio.audit import memory as memory_audit
from rave_trio.audit import run as watching
from rave_trio.audit.copies import WARM_UP
from rave_trio.audit.findings import AuditFinding, AuditReport, Level
from rave_trio.audit.run import RunAudit
from rave_trio.devices.cupti import Recorder
from rave_trio.devices.nvidia import Gpu
from rave_trio.devices.nvml import NvmlUnavailable
from rave_trio.memory import Ledger, PoolStats
from rave_trio.pipeline.metrics import STAGES, ChannelMetrics, PipelineMetrics, StageMetrics

MIB = 1 << 20
FRAMES = 2 * WARM_UP + 6
WIDTH, HEIGHT = 32, 24
UP, DOWN = [32 * 24, 16 * 12, 16 * 12], [256 * 48 + 256 * 24 + 256 * 23 + 32]
"""Bytes of the planes of the input, and of all of the output's, in rows of 256 bytes."""


@pytest.fixture
def source(clip):
    return clip("in.mkv", frames=FRAMES, width=WIDTH, height=HEIGHT)


@pytest.fixture
def run(source, nearest_x2, tmp_path):
    """A run on the CPU."""

    def make(**options):
        return rave_trio.upscale_sync(
            source, tmp_path / "out.mkv", model=str(nearest_x2), device="cpu", preset="ultrafast", **options
        )

    return make


def levels(report):
    return {finding.code: finding.level for finding in report.findings}


def finding(report, code):
    (found,) = [each for each in report.findings if each.code == code]
    return found


# Levels


def test_levels_are_ordered_and_a_report_has_the_worst():
    found = [AuditFinding(level, "a", "b") for level in (Level.WARN, Level.PASS, Level.FAIL)]
    assert AuditReport(()).level is Level.PASS
    assert AuditReport(tuple(found[:2])).level is Level.WARN
    assert AuditReport(tuple(found)).level is Level.FAIL
    assert AuditReport(tuple(found)).of(Level.FAIL) == (found[2],)
    assert AuditReport(tuple(found)).as_dict()["findings"][0] == {
        "level": "warn", "code": "a", "message": "b", "figures": {}
    }  # fmt: skip


# On the CPU


def test_a_run_on_the_cpu_is_watched_as_far_as_it_goes(run):
    report = run(audit=True)
    assert set(levels(report.audit)) == {"counts", "pool", "ledger", "copies"}
    assert report.audit.level is Level.PASS
    assert finding(report.audit, "counts").figures == {"decoded": FRAMES, "encoded": FRAMES, "published": FRAMES}
    assert finding(report.audit, "pool").figures["hits"] > 0
    assert finding(report.audit, "copies").message.startswith("no device copies")
    assert report.as_dict()["audit"]["level"] == "pass"


def test_a_hit_rate_that_cannot_be_told_says_why(run, monkeypatch):
    monkeypatch.setattr(watching, "ENOUGH_REQUESTS", 10**6)
    few = finding(run(audit=True).audit, "pool")
    assert few.level is Level.PASS
    assert re.search(r"takes 1000000 requests .* there were [1-9]", few.message)
    monkeypatch.setattr(watching, "WARM_UP", FRAMES)
    assert (
        "the run ended with the frames that warm up" in finding(run(audit=True, overwrite=True).audit, "pool").message
    )


def test_without_being_asked_nothing_is_watched(run):
    report = run()
    assert report.audit is None
    assert "audit" not in report.as_dict()


def test_a_promise_that_does_not_hold_fails_and_the_film_is_there(run, monkeypatch, tmp_path, reading):
    class Forgetful(Ledger):
        def __init__(self, limit=None):
            super().__init__(limit)
            self.forgotten = self.enter("forgotten", 5)

    monkeypatch.setattr(job, "Ledger", Forgetful)
    with pytest.raises(errors.AuditFailed, match=r"out.mkv is complete, but its audit failed: ledger: .*forgotten 5 B"):
        run(audit=True)
    assert len(reading.frames(tmp_path / "out.mkv")) == FRAMES


def test_a_run_that_cannot_be_watched_does_not_begin(run, monkeypatch, tmp_path):
    def refuse(_plan, _ledger):
        raise errors.AuditUnavailable("no")

    monkeypatch.setattr(watching, "open_audit", refuse)
    with pytest.raises(errors.AuditUnavailable):
        run(audit=True)
    assert not list(tmp_path.glob("*out*"))


# On a GPU, in so far as stand-ins go


class Held:
    """Goes for a device."""

    def __init__(self):
        self.closed = False

    def close(self):
        self.closed = True


class Encoder:
    """Goes for an encoder: what it calls in ``write`` is what a GPU does for a frame."""

    part, packets = "the part", 5

    def __init__(self, happens):
        self.happens = happens
        self.closed = False

    def write(self, frame):
        self.happens(frame)

    def finish(self):
        return self.part

    def close(self):
        self.closed = True


@attrs.define
class Gpus:
    """What is watched on a GPU that is not there."""

    plan: object
    held: list[int]
    """Bytes that NVML says this process has."""
    library: CuptiStandIn = attrs.field(factory=CuptiStandIn)
    ledger: Account = attrs.field(factory=lambda: Account())
    device: Held = attrs.field(factory=Held)

    def watch(self):
        return RunAudit(self.plan, self.ledger, Recorder(self.library), self.open)

    def open(self):
        self.held[0] = 300 * MIB
        return self.device

    def run(self, *, frames=FRAMES, planted=(), retreats=0):
        """Frames as the plan has them, uploaded and downloaded, with copies beside them."""
        audit = self.watch()

        def happens(_frame):
            at = self.library.time + 1
            ups = [memcpy(HTOD, nbytes, at) for nbytes in UP]
            self.library.happens(*ups, *(memcpy(DTOH, nbytes, at) for nbytes in DOWN))
            self.library.happens(*(memcpy(kind, nbytes, at) for kind, nbytes in planted))

        with self.ledger.enter_all():
            self.library.happens(memory(1, 0xA, 400 * MIB, 1), memory(1, 0xB, 90 * MIB, 2), memcpy(HTOD, 10 * MIB, 3))
            self.held[0] += 520 * MIB
            encoder = audit.around(Encoder(happens), lambda: PoolStats(0, 9, 0, 0, 3, 0))
            for index in range(frames):
                encoder.write(index)
            assert (encoder.finish(), encoder.part, encoder.packets) == ("the part", "the part", 5)
        self.library.happens(memory(2, 0xA, 0, self.library.time), memory(2, 0xB, 0, self.library.time))
        self.held[0] = 310 * MIB
        try:
            return audit.report(frames, metrics(frames), PoolStats(4 * frames, 9, 0, 0, 0, 0), retreats)
        finally:
            audit.close()
            assert self.device.closed
            assert not self.library.enabled


class Account(Ledger):
    """A ledger, and what stands in it while a run is under way."""

    def enter_all(self):
        held = contextlib.ExitStack()
        for owner, nbytes in {"pool": 400, "onnxruntime": 100, "decoder, estimated": 0}.items():
            held.callback(self.enter(owner, nbytes * MIB).close)
        return held


def metrics(frames):
    stages = tuple(StageMetrics(name, frames, frames, 1.0, 0.0, 0.0) for name in STAGES)
    return PipelineMetrics(stages, tuple(ChannelMetrics("c", frames, frames, 0, 1, 4) for _ in range(3)), 1.0)


@pytest.fixture
def gpus(source, nearest_x2, tmp_path, monkeypatch):
    """A plan of software decoding, a GPU, and software encoding."""
    options = rave_trio.UpscaleOptions(source, tmp_path / "out.mkv", model=str(nearest_x2), device="cpu", audit=True)
    plan, _ = rave_trio.make_plan(options)
    gpu = Gpu(0, "a GPU", uuid="GPU-1", memory_free=1 << 34, cuda_ordinal=0)
    made = Gpus(attrs.evolve(plan, gpu=gpu), [0])
    monkeypatch.setattr(memory_audit, "memory_in_use", lambda uuid: 5000 * MIB + made.held[0])
    monkeypatch.setattr(memory_audit, "memory_of_this_process", lambda uuid: made.held[0] or None)
    return made


def test_the_plan_knows_the_copies_that_belong_to_each_frame(gpus):
    copies = gpus.plan.as_dict()["expected_copies"]
    assert [copy["nbytes"] for copy in copies if copy["direction"] == "HtoD"] == UP
    assert [copy["nbytes"] for copy in copies if copy["direction"] == "DtoH"] == DOWN
    on_chip = attrs.evolve(gpus.plan, decoder="nvdec", encoder=attrs.evolve(gpus.plan.encoder, encoder="hevc_nvenc"))
    assert on_chip.copies == ()
    assert attrs.evolve(gpus.plan, gpu=None).copies == ()


def test_a_run_as_planned_passes_with_its_figures(gpus):
    report = gpus.run()
    assert levels(report) == dict.fromkeys(["counts", "pool", "ledger", "copies", "memory"], Level.PASS)
    copies = finding(report, "copies").figures
    assert copies["steady_frames"] == FRAMES - WARM_UP
    assert copies["frame_sized_from"] == min(UP)
    memory = finding(report, "memory").figures
    assert memory["parts"] == {"context": 300 * MIB, "libraries": -10 * MIB, "rest": 30 * MIB}
    assert (memory["left"], memory["kept_beside_the_context"]) == (0, 10 * MIB)


def test_a_planted_copy_is_found(gpus):
    report = gpus.run(planted=[(DTOH, 5000)])
    assert report.level is Level.FAIL
    assert finding(report, "copies").figures["unplanned"] == [
        {"direction": "DtoH", "nbytes": 5000, "count": FRAMES - WARM_UP - 1}
    ]


def test_a_network_that_was_loaded_again_leaves_copies_unjudged(gpus):
    found = finding(gpus.run(planted=[(HTOD, 5000)], retreats=1), "copies")
    assert found.level is Level.WARN
    assert "the network was loaded again" in found.message


def test_what_goes_wrong_with_watching_costs_no_frame_and_is_no_pass(gpus):
    audit = gpus.watch()
    gpus.library.refuses, written = "get_timestamp", []
    encoder = audit.around(Encoder(written.append), lambda: PoolStats(0, 9, 0, 0, 3, 0))
    for index in range(FRAMES):
        encoder.write(index)
    report = audit.report(FRAMES, metrics(FRAMES), PoolStats(1, 9, 0, 0, 0, 0), 0)
    audit.close()
    assert written == list(range(FRAMES))
    found = finding(report, "copies")
    assert found.level is Level.WARN
    assert "the steady state's beginning was missed" in found.message


def test_a_short_clip_is_not_judged_and_does_not_fail(gpus):
    report = gpus.run(frames=WARM_UP)
    assert (levels(report)["copies"], levels(report)["memory"]) == (Level.WARN, Level.WARN)
    assert report.level is Level.WARN


def test_a_gpu_that_nvml_does_not_answer_for_is_a_warning(gpus, monkeypatch):
    def silent(_uuid):
        raise NvmlUnavailable("no")

    monkeypatch.setattr(memory_audit, "memory_in_use", silent)
    assert levels(gpus.run())["memory"] is Level.WARN


def test_a_recording_that_cannot_begin_is_an_error_with_a_remedy(gpus):
    gpus.library.refuses = "activity_enable"
    with pytest.raises(errors.AuditUnavailable, match="another profiler") as caught:
        gpus.watch()
    assert caught.value.exit_code == 43
    assert caught.value.remedy == "or leave out --audit"


def test_a_device_that_cannot_be_opened_ends_the_recording(gpus, monkeypatch):
    def fail():
        raise errors.OutOfMemory("full")

    monkeypatch.setattr(Gpus, "open", lambda self: fail())
    with pytest.raises(errors.OutOfMemory):
        gpus.watch()
    assert not gpus.library.enabled


def test_a_run_that_failed_leaves_nothing_recording(gpus):
    audit = gpus.watch()
    audit.close()
    audit.close()
    assert gpus.device.closed
    assert not gpus.library.enabled
