"""The same through the whole product: real files, a real model, real codecs, and a fault at one of their calls."""

from __future__ import annotations

import gc

import pytest
import trio
import trio.from_thread
import trio.testing
from faults_told import INTERRUPTS, RAISED, WRONG_SIZE

import rave_trio
from rave_trio import assembly, delivery, errors, job, running
from rave_trio.media.decoder import LibavDecoder
from rave_trio.pipeline import alongside
from rave_trio.testing import Fault, FaultPlan, Planted, assert_nothing_left, every_fault, holdings

PATIENCE = 5.0
FIRST, MIDDLE, LAST = 0, 2, 5
FRAMES = 6

ALL = [
    *every_fault((MIDDLE,)),
    *(Fault(stage, frame, "exception") for stage in ("decode", "encode") for frame in (FIRST, LAST)),
    *(Fault("inference", frame, "exception", "collect") for frame in (FIRST, LAST)),
]

RECOVERED = [f for f in ALL if (f.stage, f.kind) == ("inference", "out_of_memory") and f.call in ("submit", "collect")]
"""What is made up for by doing the same with less memory."""


def of(*kinds):
    return [fault for fault in ALL if fault.kind in kinds and fault.stage != "publish" and fault not in RECOVERED]


SEEN_BY_THE_NEXT = [fault for fault in of("corrupt_size") if (fault.stage, fault.call) != ("inference", "convert")]
"""The encoder looks at the picture itself, whatever size it is said to have."""


def publishing(*kinds):
    return [fault for fault in ALL if fault.kind in kinds and fault.stage == "publish"]


class Product:
    """Upscales one small clip with the faults that were planted; keeps hold of the accounts that a run makes."""

    def __init__(self, monkeypatch, source, target, model):
        self.source, self.target, self.model = source, target, model
        self.plan = FaultPlan(())
        self.scope = trio.CancelScope()
        self.stalled = trio.Event()
        self.ledgers, self.pools = [], []
        self._patch = monkeypatch.setattr
        self._keep(job, "Ledger", self.ledgers)
        self._keep(assembly, "HostPool", self.pools)
        converters = {"SurfaceToTensor": "preprocess", "TensorToSurface": "inference"}
        self._wrap("LibavDecoder", lambda made: self.plan.around_decoder(made))
        self._wrap("OpenVinoBackend", lambda made: self.plan.around_backend(made))
        self._wrap("PartEncoder", lambda made: self.plan.around_encoder(made))
        for name, stage in converters.items():
            self._wrap(name, lambda made, stage=stage: self.plan.around_converter(made, stage))
        publish = delivery.publish
        self._patch(delivery, "publish", lambda *what, **how: self.plan.around_publishing(publish)(*what, **how))

    def plant(self, *faults):
        self.plan = FaultPlan(
            faults,
            on_cancellation=lambda: trio.from_thread.run_sync(self.scope.cancel),
            on_stall=lambda: trio.from_thread.run_sync(self.stalled.set),
        )

    async def run(self, **options):
        with trio.fail_after(PATIENCE), self.scope:
            return await rave_trio.upscale(
                self.source, self.target, model=str(self.model), preset="ultrafast", **options
            )
        return None

    async def released(self):
        await self.stalled.wait()
        while trio.testing.active_thread_count() > 1:
            await trio.testing.wait_all_tasks_blocked(cushion=0.001)
        self.plan.release()
        await trio.sleep_forever()

    @property
    def files(self):
        return sorted(path.name for path in self.target.parent.iterdir())

    def _keep(self, where, name, kept):
        make = getattr(where, name)

        def keeping(*what, **how):
            kept.append(make(*what, **how))
            return kept[-1]

        self._patch(where, name, keeping)

    def _wrap(self, name, around):
        make = getattr(assembly, name)
        self._patch(assembly, name, lambda *what, **how: around(make(*what, **how)))


@pytest.fixture(scope="session")
def six_frames(session_clip):
    return session_clip("six.mkv", frames=FRAMES, width=48, height=32)


@pytest.fixture
def product(monkeypatch, six_frames, tmp_path, nearest_x2, warmed_up):
    product = Product(monkeypatch, six_frames, tmp_path / "out.mkv", nearest_x2)
    gc.disable()
    try:
        before = holdings()
        yield product
        assert_nothing_left(before, ledgers=product.ledgers, pools=product.pools)
        assert len(product.ledgers) == len(product.pools) == 1
    finally:
        gc.enable()


@pytest.fixture(scope="session")
def warmed_up(six_frames, tmp_path_factory, nearest_x2):
    """What libraries open on first use and keep for good is open: threads of a pool come one by one."""
    target = tmp_path_factory.mktemp("warm") / "out.mkv"
    how = {"model": str(nearest_x2), "preset": "ultrafast", "overwrite": True}
    report = rave_trio.upscale_sync(six_frames, target, **how)
    most, quiet = holdings().native_threads, 0
    while quiet < 5:
        rave_trio.upscale_sync(six_frames, target, **how)
        rave_trio.upscale_sync(six_frames, target, **how, vram_limit=report.plan.fit.memory - 1)  # with one stream
        now = holdings().native_threads
        most, quiet = max(most, now), 0 if now > most else quiet + 1


@pytest.mark.parametrize("fault", of("exception"), ids=str)
async def test_what_nobody_foresaw_is_a_crash_of_its_stage_with_the_cause(product, fault):
    product.plant(fault)
    with pytest.raises(errors.StageCrashed) as caught:
        await product.run()
    assert isinstance(caught.value.__cause__, Planted)
    assert (caught.value.stage, caught.value.frame) == (fault.stage, fault.frame)
    assert product.files == []


@pytest.mark.parametrize("fault", of(*RAISED), ids=str)
async def test_an_error_of_ours_is_raised_as_itself_with_its_place(product, fault):
    product.plant(fault)
    with pytest.raises(RAISED[fault.kind], match="planted") as caught:
        await product.run()
    assert (caught.value.stage, caught.value.frame) == (fault.stage, fault.frame)
    assert product.files == []


@pytest.mark.parametrize("fault", RECOVERED, ids=str)
async def test_a_network_that_finds_no_memory_is_run_with_less_and_no_frame_is_lost(product, fault, reading):
    product.plant(fault)
    report = await product.run()
    assert (report.frames, product.files) == (FRAMES, ["out.mkv"])
    assert any(note.startswith("memory ran out 1 times") for note in report.notes)


@pytest.mark.parametrize("fault", of(*INTERRUPTS) + publishing(*INTERRUPTS), ids=str)
async def test_an_interrupt_is_passed_on_unchanged(product, fault):
    product.plant(fault)
    with pytest.raises(INTERRUPTS[fault.kind]):
        await product.run()
    assert product.files == []


@pytest.mark.parametrize("fault", SEEN_BY_THE_NEXT, ids=str)
async def test_a_picture_of_a_wrong_size_is_noticed_by_whoever_gets_it(product, fault):
    stage, error = WRONG_SIZE[fault.stage, fault.call]
    product.plant(fault)
    with pytest.raises(error) as caught:
        await product.run()
    assert (caught.value.stage, caught.value.frame) == (stage, fault.frame)
    assert product.files == []


@pytest.mark.parametrize("fault", of("short_read"), ids=str)
async def test_an_input_that_ends_early_fails_and_keeps_the_frames_before_its_end(product, fault, reading):
    product.plant(fault)
    with pytest.raises(errors.InputTruncated, match=r"out\.partial\.mkv") as caught:
        await product.run()
    assert (caught.value.stage, caught.value.frame) == ("decode", fault.frame)
    assert product.files == ["out.partial.mkv"]
    assert len(reading.frames(product.target.with_name("out.partial.mkv"))) == fault.frame


@pytest.mark.parametrize("fault", of("slow") + publishing("slow"), ids=str)
async def test_a_slow_call_changes_nothing(product, fault):
    product.plant(fault)
    report = await product.run()
    assert product.plan.happened == [fault]
    assert report.frames == FRAMES
    assert product.files == ["out.mkv"]


@pytest.mark.parametrize("fault", of("stall") + publishing("stall"), ids=str)
async def test_a_stalled_call_that_goes_on_at_last_changes_nothing(product, fault):
    product.plant(fault)
    report = await alongside(product.run, product.released)
    assert report.frames == FRAMES
    assert product.files == ["out.mkv"]


@pytest.mark.parametrize("fault", of("cancellation"), ids=str)
async def test_a_cancelled_run_keeps_what_it_has_read_as_a_partial_file(product, fault, reading):
    product.plant(fault)
    await product.run()
    assert product.scope.cancel_called
    (kept,) = product.files
    assert kept in ("out.mkv", "out.partial.mkv")
    assert len(reading.frames(product.target.with_name(kept))) > (fault.frame or 0)


@pytest.mark.parametrize("fault", publishing(*RAISED), ids=str)
async def test_a_publishing_that_fails_keeps_the_result_beside_its_place(product, fault, reading):
    product.plant(fault)
    with pytest.raises(RAISED[fault.kind], match=r"6 finished frames are in .*out\.partial\.mkv"):
        await product.run()
    assert product.files == ["out.partial.mkv"]
    assert len(reading.frames(product.target.with_name("out.partial.mkv"))) == FRAMES


async def test_a_publishing_that_fails_again_and_again_leaves_nothing(product):
    product.plant(*[Fault("publish", None, "disk_full")] * 3)
    with pytest.raises(errors.DiskFull, match="planted"):
        await product.run()
    assert product.files == []


async def test_what_nobody_foresaw_in_publishing_is_a_crash_that_keeps_the_result_too(product):
    product.plant(Fault("publish", None, "exception"))
    with pytest.raises(errors.StageCrashed, match=r"6 finished frames are in .*out\.partial\.mkv") as caught:
        await product.run()
    assert caught.value.stage == "publish"
    assert isinstance(first_cause(caught.value), Planted)
    assert product.files == ["out.partial.mkv"]


@pytest.mark.parametrize("name", ["PartsFolder", "LibavDecoder", "OpenVinoBackend", "PartEncoder", "SurfaceToTensor"])
async def test_what_nobody_foresaw_in_opening_a_part_is_a_crash_with_the_cause(product, monkeypatch, name):
    def failing(*what, **how):
        raise Planted(name)

    monkeypatch.setattr(running if name == "PartsFolder" else assembly, name, failing)
    with pytest.raises(errors.StageCrashed) as caught:
        await product.run()
    assert isinstance(first_cause(caught.value), Planted)
    assert product.files == []


async def test_an_error_of_closing_is_a_note_of_the_one_that_came_first(product, monkeypatch):
    product.plant(Fault("encode", MIDDLE, "disk_full"))
    close = LibavDecoder.close

    def failing(decoder):
        close(decoder)
        raise OSError("no luck")

    monkeypatch.setattr(LibavDecoder, "close", failing)
    with pytest.raises(errors.DiskFull, match="planted") as caught:
        await product.run()
    assert caught.value.__notes__ == ["then: OSError('no luck')"]


@pytest.mark.parametrize("fault", of("exception", "out_of_memory", "cancellation"), ids=str)
async def test_a_limit_of_memory_makes_no_difference_to_how_a_run_ends(product, fault):
    plan, _ = rave_trio.make_plan(rave_trio.UpscaleOptions(product.source, product.target, model=str(product.model)))
    product.plant(fault)
    expected = {"exception": errors.StageCrashed, "out_of_memory": errors.OutOfMemory}.get(fault.kind)
    if expected is None:
        await product.run(vram_limit=plan.fit.memory)
        assert len(product.files) == 1
    else:
        with pytest.raises(expected):
            await product.run(vram_limit=plan.fit.memory)
        assert product.files == []
    (ledger,) = product.ledgers
    assert ledger.stats().peak <= ledger.limit == plan.fit.memory


def first_cause(error):
    while error.__cause__ is not None:
        error = error.__cause__
    return error
