"""Where a file says it ends."""

from __future__ import annotations

import pytest

from rave_trio.media.extent import declared_size, is_cut_short


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4", "in.mov", "in.webm"])
@pytest.mark.parametrize("options", [{}, {"preset": "ultrafast"}])
def test_a_whole_file_is_as_long_as_it_says(clip, name, options):
    codec = "libvpx" if name.endswith("webm") else "libx264"
    path = clip(name, codec=codec, options=None if name.endswith("webm") else options)
    assert declared_size(path) == path.stat().st_size
    assert not is_cut_short(path)


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4", "in.mov"])
@pytest.mark.parametrize("left", [0.2, 0.5, 0.99])
def test_a_cut_file_is_noticed(clip, tmp_path, name, left):
    whole = clip(name, frames=20).read_bytes()
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(whole[: int(len(whole) * left)])
    assert is_cut_short(cut)


def test_what_another_hand_appended_is_not_part_of_the_file(clip):
    path = clip("in.mp4")
    path.write_bytes(path.read_bytes() + b"TAGA song title".ljust(128, b" "))
    assert not is_cut_short(path)


def test_formats_that_say_nothing_are_never_cut_short(clip, tmp_path):
    assert not is_cut_short(clip("in.h264"))
    (tmp_path / "short").write_bytes(b"\x1a")
    assert not is_cut_short(tmp_path / "short")


def test_a_segment_of_unknown_size_is_open_ended(tmp_path):
    live = tmp_path / "live.mkv"
    live.write_bytes(b"\x1a\x45\xdf\xa3\x80" + b"\x18\x53\x80\x67" + b"\x01" + b"\xff" * 7 + b"anything")
    assert declared_size(live) is None


def test_a_box_with_a_64_bit_size_is_measured_by_it(tmp_path):
    path = tmp_path / "large.mp4"
    path.write_bytes(
        b"\0\0\0\x08ftyp" + b"\0\0\0\x01mdat" + (1 << 33).to_bytes(8, "big") + b"the beginning of eight gigabytes"
    )
    assert declared_size(path) == 8 + (1 << 33)
    assert is_cut_short(path)
