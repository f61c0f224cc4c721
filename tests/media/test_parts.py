"""Parts and publishing: times, order, and what an encoder's reordering does to them."""

from __future__ import annotations

from array import array
from fractions import Fraction

import attrs
import av
import pytest

from rave_trio import errors
from rave_trio.frames import Frame, Surface, SurfaceDescriptor
from rave_trio.media._libav import describe_format
from rave_trio.media.carriage import Carriage, Fate
from rave_trio.media.encoders import ENCODERS, EncoderSettings, encoder_options
from rave_trio.media.parts import PartEncoder, PartsFolder
from rave_trio.media.probe import probe
from rave_trio.media.publish import Publication, publish

TICKS = Fraction(1, 90000)


@pytest.fixture
def encode(tmp_path, reading):
    """Encode frames at the given pts into a part."""

    def run(pts, encoder="libx264", name="part.mkv", preset=None):
        surface = SurfaceDescriptor(64, 48, describe_format("yuv420p"))
        settings = EncoderSettings(
            encoder, encoder_options(ENCODERS[encoder], None, preset), surface, Fraction(25), TICKS
        )
        writer = PartEncoder(tmp_path / name, settings)
        for index, at in enumerate(pts):
            native = av.VideoFrame.from_ndarray(reading.draw(index, 64, 48), "rgb24").reformat(format="yuv420p")
            writer.write(Frame(index, at, 3600, TICKS, False, Surface(surface, native)))
        part = writer.finish()
        assert writer.packets == len(pts)
        writer.close()
        return part

    return run


def publication(part, source, complete=True):
    """Everything of ``source`` beside the video, as it is."""
    media = probe(source)
    fates = {media.video.index: Fate.UPSCALED}
    carriage = tuple(Carriage(s, fates.get(s.index, Fate.COPIED), s.codec) for s in media.streams)
    return Publication(part, media, carriage, complete)


def published(part, source, target, workspace, complete=True, **how):
    workspace.mkdir(exist_ok=True)
    publish(publication(part, source, complete), target, workspace=workspace, overwrite=True, **how)
    return target


@pytest.mark.parametrize("encoder", ["libx264", "libx265", "libsvtav1", "ffv1"])
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_published_times_are_the_frames_own_whatever_the_encoder_reorders(
    encode, clip, tmp_path, reading, encoder, container
):
    if (encoder, container) == ("ffv1", "mp4"):
        return
    pts = [0, 3600, 3601, 9000, 90000, 90001, 94000, 180000, 190000, 200000, 210000, 210900, 300000]
    if container == "mkv":
        pts = [90 * (p // 90 + i) for i, p in enumerate(pts)]  # whole milliseconds
    part = encode(pts, encoder, preset="12" if encoder == "libsvtav1" else None)
    target = published(part, clip(frames=2), tmp_path / f"out.{container}", tmp_path / "work")
    assert reading.times(target) == [p * TICKS for p in pts]


def test_packets_leave_in_decoding_order_with_rising_dts(encode, clip, tmp_path):
    part = encode([3600 * i for i in range(40)])
    assert part.reorder_delay > 0, "x264 medium reorders, or this test shows nothing"
    target = published(part, clip(frames=2), tmp_path / "out.mp4", tmp_path / "work")
    with av.open(target) as result:
        packets = [p for p in result.demux(video=0) if p.dts is not None]
    dts = [p.dts for p in packets]
    assert dts == sorted(set(dts))
    assert all(p.dts <= p.pts for p in packets)


def test_times_beyond_32_bits_are_kept(encode, clip, tmp_path, reading):
    pts = [(1 << 33) + 3600 * i for i in range(5)]
    target = published(encode(pts), clip(frames=2), tmp_path / "out.mov", tmp_path / "work")
    assert reading.times(target) == [p * TICKS for p in pts]


def test_a_repeated_time_in_a_damaged_source_does_not_stop_the_encoder(encode):
    part = encode([0, 3600, 3600, 7200])
    assert list(part.pts) == [0, 3600, 3600, 7200]


def test_a_part_that_lost_a_frame_is_not_published(encode, clip, tmp_path):
    part = encode([3600 * i for i in range(10)])
    longer = attrs.evolve(part, pts=array("q", [*part.pts, 99999]), durations=array("q", [*part.durations, 1]))
    with pytest.raises(errors.FrameCountMismatch, match="10 of the 11 frames"):
        published(longer, clip(frames=2), tmp_path / "out.mkv", tmp_path / "work")
    assert not (tmp_path / "out.mkv").exists()


def test_publishing_again_does_not_replace_what_came_into_being_meanwhile(encode, clip, tmp_path):
    part, target = encode([0, 3600]), tmp_path / "out.mkv"
    target.write_bytes(b"precious")
    (tmp_path / "work").mkdir()
    with pytest.raises(errors.OutputExists):
        publish(publication(part, clip(frames=2)), target, workspace=tmp_path / "work", overwrite=False)
    assert target.read_bytes() == b"precious"


def test_a_cancelled_publishing_leaves_the_target_as_it_was(encode, clip, tmp_path):
    class CancelledError(Exception):
        pass

    def tick():
        raise CancelledError

    target = tmp_path / "out.mkv"
    with pytest.raises(CancelledError):
        published(encode([0, 3600]), clip(frames=2), target, tmp_path / "work", tick=tick)
    assert not target.exists()


def test_an_incomplete_run_is_published_with_its_sound_cut_where_it_ends(encode, clip, tmp_path, reading):
    source = clip(frames=100, audio=True)
    part = encode([3600 * i for i in range(25)])
    target = published(part, source, tmp_path / "out.mkv", tmp_path / "work", complete=False)
    sound = reading.packets(target, 1).times
    assert 1 - Fraction(1024, 48000) * 2 <= sound[-1] < 1


def test_publishing_an_incomplete_run_does_not_read_the_rest_of_a_long_input(encode, clip, tmp_path, monkeypatch):
    from rave_trio.media import publish as room

    read = []
    genuine = room._Copy.take
    monkeypatch.setattr(room._Copy, "take", lambda copy, packet: (read.append(packet.dts), genuine(copy, packet))[1])
    source = clip(frames=250, rate=5, audio=True)  # 50 seconds
    part = encode([3600 * i for i in range(25)])
    published(part, source, tmp_path / "out.mkv", tmp_path / "work", complete=False)
    assert 46 < len(read) < 13 * 48, "one second is wanted and ten may lie between"


def test_a_part_that_was_not_finished_still_opens(tmp_path, reading):
    """What remains after a crash is a Matroska file that holds what the encoder had given out."""
    surface = SurfaceDescriptor(64, 48, describe_format("yuv420p"))
    options = encoder_options(ENCODERS["libx264"], None, "ultrafast")
    writer = PartEncoder(
        tmp_path / "part.mkv", EncoderSettings("libx264", options, surface, Fraction(25), Fraction(1, 25))
    )
    for index in range(200):
        native = av.VideoFrame.from_ndarray(reading.draw(index, 64, 48), "rgb24").reformat(format="yuv420p")
        writer.write(Frame(index, index, 1, Fraction(1, 25), False, Surface(surface, native)))
    assert writer.packets > 0
    with pytest.raises(ValueError, match="not finished"):
        writer.part  # noqa: B018
    writer.close()
    writer.close()
    assert len(reading.frames(tmp_path / "part.mkv")) == writer.packets


def test_the_parts_folder_is_hidden_beside_the_output_and_goes(tmp_path):
    folder = PartsFolder(tmp_path / "out.mkv")
    assert folder.path.parent == tmp_path
    assert folder.path.name.startswith(".out.mkv.")
    folder.part_path(0).write_bytes(b"x")
    folder.close()
    folder.close()
    assert list(tmp_path.iterdir()) == []
