"""The first error of any stage is raised by itself, with its place; nothing stays open behind it."""

from __future__ import annotations

import signal

import pytest
import trio

from rave_trio.errors import EncodeError, InferenceError, RaveError, StageCrashed
from rave_trio.pipeline import PipelineConfig, Stop, UpscalePipeline, run_stoppable

LAST = 7
CALLS = [
    ("decode", "decoder", "read"),
    ("preprocess", "to_tensor", "convert"),
    ("inference", "backend", "submit"),
    ("inference", "backend", "collect"),
    ("inference", "to_surface", "convert"),
    ("encode", "encoder", "write"),
]


@pytest.mark.parametrize("frame", [0, 3, LAST])
@pytest.mark.parametrize(("stage", "part", "call"), CALLS)
async def test_an_unforeseen_error_is_wrapped_with_its_stage_and_frame(rig, stage, part, call, frame):
    error = ValueError("no such luck")
    getattr(rig, part).fail(f"{call} {frame}", error)

    with pytest.raises(StageCrashed) as caught:
        await rig.run()

    assert str(caught.value) == f"{stage} crashed on frame {frame}: ValueError: no such luck"
    assert (caught.value.stage, caught.value.frame) == (stage, frame)
    assert caught.value.__cause__ is error
    assert not hasattr(caught.value, "__notes__")
    assert not rig.encoder.finished


@pytest.mark.parametrize("frame", [0, 3, LAST])
@pytest.mark.parametrize(("stage", "part", "call"), CALLS)
async def test_an_error_of_ours_is_raised_as_itself_with_its_stage_and_frame(rig, stage, part, call, frame):
    error = RaveError("as foreseen")
    getattr(rig, part).fail(f"{call} {frame}", error)

    with pytest.raises(RaveError) as caught:
        await rig.run()

    assert caught.value is error
    assert (error.stage, error.frame) == (stage, frame)
    assert error.__cause__ is None
    assert not rig.encoder.finished


@pytest.mark.parametrize("error", [trio.BrokenResourceError(), trio.ClosedResourceError(), trio.EndOfChannel()])
@pytest.mark.parametrize(("stage", "part", "call"), CALLS)
async def test_an_error_like_those_of_channels_is_not_taken_for_one(rig, stage, part, call, error):
    getattr(rig, part).fail(f"{call} 3", error)

    with pytest.raises(StageCrashed) as caught:
        await rig.run()

    assert caught.value.__cause__ is error
    assert (caught.value.stage, caught.value.frame) == (stage, 3)


@pytest.mark.parametrize("total", [0, 5])
async def test_an_error_while_the_encoder_finishes_is_of_no_single_frame(rig, total):
    rig.decoder.total = total
    rig.encoder.fail("finish", OSError("disk on fire"))

    with pytest.raises(StageCrashed) as caught:
        await rig.run()

    assert str(caught.value) == "encode crashed: OSError: disk on fire"
    assert (caught.value.stage, caught.value.frame) == ("encode", None)
    assert rig.encoder.indices == list(range(total))


async def test_an_error_that_knows_its_place_keeps_it(rig):
    rig.backend.fail("submit 4", InferenceError("boom", stage="inference", frame=2))

    with pytest.raises(InferenceError) as caught:
        await rig.run()

    assert (caught.value.stage, caught.value.frame) == ("inference", 2)


async def test_a_group_of_errors_is_one_unforeseen_error(rig):
    group = ExceptionGroup("several", [ValueError("a"), ValueError("b")])
    rig.encoder.fail("write 1", group)

    with pytest.raises(StageCrashed) as caught:
        await rig.run()

    assert caught.value.__cause__ is group


@pytest.mark.parametrize(("stage", "part", "call"), CALLS[:-1])
async def test_an_error_in_a_held_encoder_is_a_note_of_what_failed_before_it(rig, stage, part, call):
    rig.backend.depth = 1  # frame 0 comes out before frame 1 goes in
    first = getattr(rig, part).hold(f"{call} 1")
    getattr(rig, part).fail(f"{call} 1", RaveError("first"))
    second = rig.encoder.hold("write 0")
    rig.encoder.fail("write 0", OSError("second"))

    async with rig.running() as run:
        await first.reached()
        await second.reached()
        first.open()
        await rig.settled()
        second.open()

    assert str(run.error) == "first"
    assert (run.error.stage, run.error.frame) == (stage, 1)
    assert run.error.__notes__ == ["then in encode: encode crashed on frame 0: OSError: second"]


async def test_an_error_in_a_held_decoder_is_a_note_of_what_failed_after_it(rig):
    gate = rig.decoder.hold("read 2")
    rig.decoder.fail("read 2", RaveError("second"))
    rig.encoder.fail("write 1", EncodeError("first"))

    async with rig.running() as run:
        await rig.settled()
        gate.open()

    assert str(run.error) == "first"
    assert (run.error.stage, run.error.frame) == ("encode", 1)
    assert run.error.__notes__ == ["then in decode: second"]


@pytest.mark.parametrize(("stage", "part", "call"), CALLS)
async def test_an_error_ends_the_run_at_once(rig, stage, part, call):
    """Later stages finish the call they are in and begin no other; earlier ones stop reading."""
    rig.decoder.total = 1000
    rig.config = PipelineConfig(1, 1, 1)
    rig.backend.depth = 1
    getattr(rig, part).fail(f"{call} 2", RaveError("boom"))

    with pytest.raises(RaveError, match="boom"):
        await rig.run()

    assert rig.decoder.calls["read"] <= 3 + 7 + 1
    assert rig.encoder.indices in ([], [0], [0, 1])


@pytest.mark.parametrize("call", ["submit 2", "collect 2"])
async def test_the_encoder_does_not_finish_while_a_failed_backend_closes(rig, call):
    rig.backend.fail(call, InferenceError("boom"))
    rig.encoder.fail("finish", EncodeError("this would come first"))
    closing = rig.backend.hold("close")

    async with rig.running() as run:
        await closing.reached()
        await rig.settled()
        assert rig.encoder.calls["finish"] == 0
        closing.open()

    assert isinstance(run.error, InferenceError)
    assert not hasattr(run.error, "__notes__")


async def test_a_backend_that_cannot_be_closed_fails_a_run_that_went_well(rig):
    rig.backend.fail("close", OSError("stuck"))

    with pytest.raises(StageCrashed) as caught:
        await rig.run()

    assert str(caught.value) == "inference crashed: OSError: stuck"
    assert caught.value.stage == "inference"


@pytest.mark.parametrize(("stage", "part", "call"), CALLS)
async def test_a_backend_that_cannot_be_closed_does_not_hide_what_went_wrong_before(rig, stage, part, call):
    getattr(rig, part).fail(f"{call} 3", RaveError("first"))
    rig.backend.fail("close", OSError("stuck"))

    with pytest.raises(RaveError) as caught:
        await rig.run()

    assert str(caught.value) == "first"
    assert caught.value.stage == stage
    assert caught.value.__notes__ == ["then in inference: inference crashed: OSError: stuck"]


async def test_an_error_is_not_lost_when_the_run_is_ended_at_once_meanwhile(rig):
    """The decoder fails while the encoder is held; before that one comes back, the run is stopped hard."""
    stop = Stop()
    reading = rig.decoder.hold("read 3")
    rig.decoder.fail("read 3", RaveError("boom"))
    writing = rig.encoder.hold("write 0")

    async with rig.running(stop=stop) as run:
        await writing.reached()
        reading.open()
        await rig.settled()
        stop.request()
        stop.request()
        writing.open()

    assert str(run.error) == "boom"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(
    ("part", "call"), [(part, f"{call} 2") for _, part, call in CALLS] + [("encoder", "finish"), ("backend", "close")]
)
async def test_an_interrupt_in_a_stage_is_raised_bare(rig, part, call, interrupt):
    getattr(rig, part).fail(call, interrupt())

    with pytest.raises(interrupt):
        await rig.run()

    assert not rig.encoder.finished or call == "close"


async def test_an_interrupt_is_not_hidden_by_an_error_before_it(rig):
    reading = rig.decoder.hold("read 2")
    rig.decoder.fail("read 2", RaveError("boom"))
    writing = rig.encoder.hold("write 0")
    rig.encoder.fail("write 0", KeyboardInterrupt())

    async with rig.running() as run:
        await writing.reached()
        reading.open()
        await rig.settled()
        writing.open()

    assert isinstance(run.error, KeyboardInterrupt)
    assert run.error.__notes__ == ["then in decode: boom"]


def test_a_signal_in_a_plain_trio_program_comes_out_as_keyboard_interrupt(rig):
    """Trio delivers it to the main task, which waits for the stages."""
    rig.decoder.total = 10**9

    async def main():
        honest = rig.encoder.write

        def interrupted(frame):
            if frame.index == 2:
                signal.raise_signal(signal.SIGINT)
            honest(frame)

        rig.encoder.write = interrupted
        stop = Stop()
        await run_stoppable(lambda: rig.run(stop=stop), stop)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)

    assert not rig.encoder.finished


@pytest.mark.parametrize("channel", ["_decoded", "_preprocessed", "_upscaled"])
def test_a_signal_that_finds_a_stage_with_a_frame_in_its_hands_leaves_no_frame_open(rig, channel):
    """Python runs signal handlers between any two instructions of the main thread, which is Trio's."""
    rig.decoder.total = 10**9

    async def main():
        pipeline = UpscalePipeline(rig.config)
        inlet = getattr(pipeline, channel)
        honest = inlet.receive

        async def interrupted():
            frame = await honest()
            if frame.index == 2:
                signal.raise_signal(signal.SIGINT)
            return frame

        inlet.receive = interrupted
        inlet.take = lambda soon: None  # no frame comes but by way of the task
        await rig.run(pipeline=pipeline)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)

    assert not rig.encoder.finished
