"""Every common codec as input: all frames at their times, in the input's depth and subsampling."""

from __future__ import annotations

import numpy as np
import pytest

import rave_trio

CODECS = [
    ("libx264", "yuv420p", "mp4"),
    ("libx264", "yuv422p10le", "mkv"),
    ("libx265", "yuv420p12le", "mkv"),
    ("libx265", "gray", "mkv"),
    ("libsvtav1", "yuv420p10le", "mkv"),
    ("libvpx", "yuv420p", "webm"),
    ("libvpx-vp9", "yuv444p", "webm"),
    ("mpeg2video", "yuv420p", "ts"),
    ("mpeg2video", "yuv422p", "mkv"),
    ("mpeg4", "yuv420p", "avi"),
    ("mpeg1video", "yuv420p", "mpg"),
    ("prores_ks", "yuv422p10le", "mov"),
    ("dnxhd", "yuv422p", "mov"),
    ("ffv1", "yuv444p16le", "mkv"),
    ("ffv1", "gray10le", "mkv"),
    ("ffv1", "gbrp10le", "mkv"),
    ("huffyuv", "yuv422p", "avi"),
    ("rawvideo", "uyvy422", "mov"),
    ("mjpeg", "yuvj422p", "avi"),
    ("msmpeg4", "yuv420p", "avi"),
    ("wmv2", "yuv420p", "asf"),
    ("flv", "yuv420p", "flv"),
    ("qtrle", "rgb24", "mov"),
    ("png", "rgb24", "mov"),
]
HOW = {
    "libx265": {"options": {"x265-params": "log-level=none"}},
    "libsvtav1": {"options": {"preset": "12"}},
    "dnxhd": {"width": 256, "height": 128, "options": {"profile": "dnxhr_hq"}},
    "libvpx": {"options": {"deadline": "realtime", "cpu-used": "8"}},
    "libvpx-vp9": {"options": {"deadline": "realtime", "cpu-used": "8"}},
}


@pytest.mark.parametrize(("codec", "pixels", "container"), CODECS)
def test_a_video_comes_out_with_all_it_had(clip, tmp_path, nearest_x2, reading, codec, pixels, container):
    source = clip(f"in.{container}", frames=10, codec=codec, pixel_format=pixels, **HOW.get(codec, {}))
    target = tmp_path / "out.mkv"
    report = rave_trio.upscale_sync(source, target, model=str(nearest_x2), codec="ffv1", strict=True)
    assert report.frames == 10
    found = rave_trio.compare(source, target)
    assert found.differences == ()
    before, after = reading.frames(source)[5], reading.frames(target)[5]
    reduced = after.reshape(before.shape[0], 2, before.shape[1], 2, 3).mean(axis=(1, 3))
    assert np.abs(reduced - before).mean() < 3
