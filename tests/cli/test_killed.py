"""A process that is killed changes nothing but a hidden folder, and what that holds can be read."""

from __future__ import annotations

import signal

import av
import pytest

LOOKAHEAD = 32
"""More frames than this encoder and its queue hold at this preset."""


@pytest.mark.parametrize("existing", [None, b"what was there before"], ids=["no file", "a file"])
def test_a_killed_run_leaves_the_output_path_as_it_was(long_clip, tmp_path, start, wait_for_frames, existing):
    target = tmp_path / "out.mkv"
    if existing:
        target.write_bytes(existing)
    running = start(long_clip, target, "--overwrite")
    wait_for_frames(running)
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=60)
    assert (target.read_bytes() if target.exists() else None) == existing
    (left,) = [path for path in tmp_path.iterdir() if path != target]
    assert left.name.startswith(".out.mkv.")


def test_what_a_killed_run_had_encoded_can_be_read(long_clip, tmp_path, nearest_x2, start, wait_for_frames):
    """All but what the encoder still had in its hands."""
    running = start(long_clip, tmp_path / "out.mkv", "-m", nearest_x2, "--preset", "ultrafast")
    done = 0
    while done < 300:
        done = wait_for_frames(running)["done"]
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=60)
    (part,) = tmp_path.glob(".out.mkv.*/part-*.mkv")
    with av.open(part) as container:
        frames = list(container.decode(video=0))
    assert len(frames) > done - LOOKAHEAD
    assert not any(frame.is_corrupt for frame in frames)
