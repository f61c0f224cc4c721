"""What is kept when the result cannot go where it should."""

from __future__ import annotations

import av
import pytest

import rave_trio
from rave_trio import errors


def test_what_is_kept_of_a_publishing_that_fails_is_fit_for_its_container(made, tmp_path, nearest_x2, monkeypatch):
    from rave_trio import delivery

    genuine = delivery.publish

    def publish(what, target, **how):
        if target.name == "out.mp4":
            raise errors.MuxError("the disk went away")
        return genuine(what, target, **how)

    monkeypatch.setattr(delivery, "publish", publish)
    with pytest.raises(errors.MuxError, match=r"finished frames are in .*out\.partial\.mkv$"):
        rave_trio.upscale_sync(made("subtitles_mov_text"), tmp_path / "out.mp4", model=str(nearest_x2))
    with av.open(tmp_path / "out.partial.mkv") as kept:
        assert kept.streams.subtitles[0].codec_context.name in ("subrip", "srt")
