"""Video engines are asked for once, and again when anything about them may have changed."""

from __future__ import annotations

import pytest

from rave_trio.caches import cache_folder
from rave_trio.devices import engines_cache
from rave_trio.devices.engines_cache import remembered_engines
from rave_trio.devices.nvidia import DecoderFormat, EncoderFormat, Gpu, VideoEngines

GPU = Gpu(0, "a GPU", uuid="GPU-1")
ENGINES = VideoEngines(
    (DecoderFormat("h264", "4:2:0", 8, 4096, 4096, engines=7),),
    (EncoderFormat("hevc", ("4:2:0", "4:4:4"), (8, 10), 8192, 8192, max_b_frames=5),),
    ("a note",),
)


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What was asked of the GPU itself."""
    questions = []

    def ask(gpu, is_installed):
        questions.append((gpu, is_installed))
        return ENGINES

    monkeypatch.setattr(engines_cache, "video_engines", ask)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return questions


def test_what_was_asked_once_is_remembered(asked):
    assert [remembered_engines(GPU, "580.1", "2.2.4") for _ in range(3)] == [ENGINES] * 3
    assert len(asked) == 1


@pytest.mark.parametrize(
    "other",
    [(Gpu(0, "a GPU", uuid="GPU-2"), "580.1", "2.2.4"), (GPU, "590.1", "2.2.4"), (GPU, "580.1", "2.3.0")],
    ids=["GPU", "driver", "library"],
)
def test_another_gpu_driver_or_library_is_asked_again(asked, other):
    remembered_engines(GPU, "580.1", "2.2.4")
    remembered_engines(*other)
    assert len(asked) == 2


def test_nothing_is_remembered_of_what_is_not_there(asked):
    remembered_engines(GPU, "580.1", None)
    assert asked == [(GPU, False)]
    assert not cache_folder("devices").exists()


def test_a_gpu_that_did_not_answer_is_asked_again(asked, monkeypatch):
    monkeypatch.setattr(engines_cache, "video_engines", lambda *_: VideoEngines(notes=("no answer within 60 s",)))
    remembered_engines(GPU, "580.1", "2.2.4")
    assert not cache_folder("devices").exists()


@pytest.mark.parametrize("kept", ["", "{", "[]", '{"decoders": [{"codec": "h264"}], "encoders": [], "notes": []}'])
def test_a_damaged_memory_is_replaced(asked, kept):
    remembered_engines(GPU, "580.1", "2.2.4")
    (path,) = cache_folder("devices").iterdir()
    path.write_text(kept)
    assert remembered_engines(GPU, "580.1", "2.2.4") == ENGINES
    assert remembered_engines(GPU, "580.1", "2.2.4") == ENGINES
    assert len(asked) == 2


def test_a_cache_that_cannot_be_written_is_done_without(asked, tmp_path):
    (tmp_path / "rave-trio").write_text("a file in the way")
    assert remembered_engines(GPU, "580.1", "2.2.4") == ENGINES
