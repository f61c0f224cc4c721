"""Rounds of a benchmark on a GPU that is not there: what can be known before they run."""

from __future__ import annotations

import re

import pytest
from made_up_gpus import gpu, machine

import rave_trio
from rave_trio import errors
from rave_trio.bench.clip import write_moving_clip
from rave_trio.bench.rounds import Rounds
from rave_trio.memory.pool import bucket_size

__all__ = ["machine"]


def test_a_network_by_itself_has_as_many_frames_under_way_as_find_room(machine, tmp_path):
    """Its tensors take more than the surfaces that a plan from surface to surface counts."""
    machine(gpu(0))
    width, height, scale = 1280, 720, 4
    clip = tmp_path / "in.mkv"
    write_moving_clip(clip, 1, width, height)

    def rounds(**options) -> Rounds:
        return Rounds(
            *rave_trio.make_plan(rave_trio.UpscaleOptions(clip, tmp_path / "out.mkv", scale=scale, **options))
        )

    with pytest.raises(errors.OutOfMemory) as refused:
        rounds(vram_limit="1MiB")
    least = int(re.search(r"at least (\d+)MiB", str(refused.value))[1])
    tight = rounds(vram_limit=f"{least}MiB")
    depth = tight.plan.fit.depth
    samples = 2 * 3 * width * height
    pair = bucket_size(samples) + bucket_size(samples * scale**2)
    assert tight.plan.fit.network + depth * pair > least << 20
    assert tight.plan.fit.network + tight.at_once(depth) * pair <= least << 20
    assert 1 <= tight.at_once(depth) < depth
    assert rounds().at_once(depth) == depth
    assert rounds(vram_limit=f"{2 * least}MiB").at_once(depth) == depth
