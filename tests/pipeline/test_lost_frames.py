"""A stage that loses, repeats or swaps a frame ends the run with an error that says where."""

from __future__ import annotations

import attrs
import pytest

from rave_trio.errors import EngineError, FrameCountMismatch


def repeating_at(rig, stage, index):
    """Make a stage give out a frame as if it were the one before it."""
    part, method = {
        "decode": (rig.decoder, "read"),
        "preprocess": (rig.to_tensor, "convert"),
        "inference": (rig.backend, "collect"),
        "to_surface": (rig.to_surface, "convert"),
    }[stage]
    honest = getattr(part, method)

    def lie(*frame):
        result = honest(*frame)
        if result is not None and result.index == index:
            result.index -= 1
        return result

    setattr(part, method, lie)


@pytest.mark.parametrize("index", [1, 4, 7])
@pytest.mark.parametrize(
    ("culprit", "stage"),
    [("decode", "decode"), ("preprocess", "preprocess"), ("inference", "inference"), ("to_surface", "inference")],
)
async def test_a_frame_that_comes_twice_is_an_error_that_says_where(rig, culprit, stage, index):
    repeating_at(rig, culprit, index)

    with pytest.raises(FrameCountMismatch, match=rf"{stage} .*frame {index - 1} .*frame {index}") as caught:
        await rig.run()

    assert (caught.value.stage, caught.value.frame) == (stage, index)
    assert not rig.encoder.finished
    assert rig.encoder.indices == list(range(len(rig.encoder.indices)))


async def test_a_decoder_that_skips_a_frame_is_caught(rig):
    honest = rig.decoder.read

    def skipping():
        frame = honest()
        if frame is not None and frame.index == 3:
            frame.close()
            return honest()
        return frame

    rig.decoder.read = skipping

    with pytest.raises(FrameCountMismatch, match=r"decode .*frame 4 .*frame 3"):
        await rig.run()


@pytest.mark.parametrize("depth", [2, 3])
async def test_a_backend_that_swaps_two_frames_is_caught(rig, depth):
    rig.backend.depth = depth
    honest = rig.backend.submit

    def hurrying(frame):
        honest(frame)
        rig.backend.under_way.rotate()

    rig.backend.submit = hurrying
    start = rig.backend.hold("submit 0")

    async with rig.running() as run:
        await rig.settled()
        start.open()

    assert isinstance(run.error, FrameCountMismatch)
    assert (run.error.stage, run.error.frame) == ("inference", 0)


async def test_a_backend_that_loses_a_frame_is_caught_at_the_next_one(rig):
    honest = rig.backend.submit

    def losing(frame):
        if frame.index == 3:
            frame.close()
        else:
            honest(frame)

    rig.backend.submit = losing

    with pytest.raises(EngineError) as caught:
        await rig.run()

    assert (caught.value.stage, caught.value.frame) == ("inference", 3)


async def test_a_backend_that_loses_the_last_frame_is_caught(rig):
    honest = rig.backend.submit

    def losing(frame):
        if frame.index == rig.decoder.total - 1:
            frame.close()
        else:
            honest(frame)

    rig.backend.submit = losing

    with pytest.raises(EngineError) as caught:
        await rig.run()

    assert (caught.value.stage, caught.value.frame) == ("inference", rig.decoder.total - 1)


async def test_a_converter_that_swaps_frames_leaves_none_of_them_open(rig):
    honest = rig.to_tensor.convert
    kept = []

    def swapping(frame):
        converted = honest(frame)
        if frame.index == 0:
            kept.append(converted)
            return attrs.evolve(converted, picture=rig.tensor(0))
        return kept.pop() if frame.index == 1 else converted

    rig.to_tensor.convert = swapping

    with pytest.raises(FrameCountMismatch, match=r"preprocess .*frame 0 .*frame 1"):
        await rig.run()


async def test_counts_that_differ_fail_the_run_at_its_end(rig):
    async with rig.running() as run:
        run.pipeline._preprocessed.sent += 1

    assert isinstance(run.error, FrameCountMismatch)
    assert str(run.error) == "8 frames at preprocess out, but 9 at preprocessed in"
