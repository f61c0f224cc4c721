"""Engines come back from disk exactly as they were put there, or not at all."""

from __future__ import annotations

import concurrent.futures
import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import attrs
import pytest

from rave_trio.inference import engine_cache
from rave_trio.inference.engine_cache import EngineCache, EngineKey, default_folder

KEY = EngineKey(
    library="tensorrt_rtx",
    version="1.7.1.116",
    gpu="NVIDIA GeForce RTX 4090",
    compute_capabilities=("8.9",),
    driver="580.159.03",
    model_sha256="ab" * 32,
    shapes=((1, 3, 64, 64),) * 3,
    precision="fp16",
    options=(("optimization_level", "3"),),
)

OTHER = {
    "library": "tensorrt",
    "version": "1.7.2",
    "gpu": "NVIDIA GeForce RTX 4080",
    "compute_capabilities": ("8.9", "12.0"),
    "driver": "590.10",
    "model_sha256": "cd" * 32,
    "shapes": ((1, 3, 64, 64), (1, 3, 64, 64), (1, 3, 64, 72)),
    "precision": "fp32",
    "options": (),
    "format": engine_cache.FORMAT + 1,
}

ENGINE = bytes(range(256)) * 40


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "cache" / "engines"


@pytest.fixture
def cache(folder) -> EngineCache:
    return EngineCache(folder)


def never() -> bytes:
    raise AssertionError("the engine was built again")


def load_or_build(cache, key, build):
    """What a backend does."""
    engine = cache.load(key)
    if engine is None:
        engine = build()
        cache.store(key, engine)
    return engine


class TestKey:
    def test_every_part_of_it_is_tried_below(self):
        assert OTHER.keys() == set(attrs.fields_dict(EngineKey))

    @pytest.mark.parametrize("part", OTHER)
    def test_an_engine_that_differs_in_one_part_is_another_one(self, cache, part):
        cache.store(KEY, ENGINE)
        assert cache.load(attrs.evolve(KEY, **{part: OTHER[part]})) is None
        assert cache.load(KEY) == ENGINE

    def test_equal_keys_name_the_same_file(self, cache):
        assert cache.path(KEY) == cache.path(attrs.evolve(KEY))


class TestHit:
    def test_an_engine_is_built_once(self, cache):
        assert load_or_build(cache, KEY, lambda: ENGINE) == ENGINE
        assert load_or_build(cache, KEY, never) == ENGINE

    def test_what_building_raises_goes_on_and_nothing_is_kept(self, cache, folder):
        def fail():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            load_or_build(cache, KEY, fail)
        assert not folder.exists()

    def test_the_file_says_what_it_was_built_from(self, cache):
        cache.store(KEY, ENGINE)
        first, second = cache.path(KEY).read_bytes().split(b"\n")[:2]
        assert first == b"rave-trio engine cache"
        for part in (b"NVIDIA GeForce RTX 4090", b"580.159.03", b"8.9", b"1.7.1.116", b"fp16"):
            assert part in second

    def test_an_engine_and_what_was_compiled_for_it_are_kept_side_by_side(self, cache):
        cache.store(KEY, ENGINE)
        cache.store(KEY, b"kernels", "runtime")
        assert (cache.load(KEY), cache.load(KEY, "runtime")) == (ENGINE, b"kernels")

    def test_a_discarded_engine_is_gone(self, cache):
        cache.store(KEY, ENGINE)
        cache.discard(KEY)
        cache.discard(KEY)
        assert cache.load(KEY) is None

    def test_only_the_user_may_look_into_the_folder(self, cache, folder):
        cache.store(KEY, ENGINE)
        assert folder.stat().st_mode & 0o077 == 0


def flipped(at: int):
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


class TestDamage:
    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(flipped(3), id="in the first line"),
            pytest.param(flipped(40), id="in the key"),
            pytest.param(flipped(-1 - len(ENGINE) // 2), id="in the engine"),
            pytest.param(lambda data: data[:-1], id="a byte short"),
            pytest.param(lambda data: data + b"x", id="a byte long"),
            pytest.param(lambda data: data[:100], id="cut in the key"),
            pytest.param(lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2), id="half zero"),
            pytest.param(lambda data: b"", id="empty"),
            pytest.param(lambda data: b"\n" * 5000, id="another file"),
            pytest.param(lambda data: b"x" * (1 << 17), id="no line at all"),
        ],
    )
    def test_a_damaged_file_is_noticed_and_built_again(self, cache, caplog, damage):
        cache.store(KEY, ENGINE)
        path = cache.path(KEY)
        path.write_bytes(damage(path.read_bytes()))
        assert cache.load(KEY) is None
        assert "made again" in caplog.text
        assert load_or_build(cache, KEY, lambda: ENGINE) == ENGINE
        assert load_or_build(cache, KEY, never) == ENGINE

    def test_another_engine_s_file_under_this_name_is_not_taken(self, cache):
        stranger = attrs.evolve(KEY, gpu="NVIDIA GeForce RTX 3060")
        cache.store(stranger, ENGINE)
        cache.path(stranger).rename(cache.path(KEY))
        assert cache.load(KEY) is None

    def test_a_folder_under_this_name_is_lived_with(self, cache, caplog):
        cache.path(KEY).mkdir(parents=True)
        assert load_or_build(cache, KEY, lambda: ENGINE) == ENGINE
        assert "cannot be" in caplog.text


WRITER = """
import sys
from pathlib import Path
from rave_trio.inference.engine_cache import EngineCache, EngineKey
key = EngineKey("l", "v", "g", (), "d", "s", (), "p")
cache = EngineCache(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(40):
    if cache.load(key) is None:
        cache.store(key, b"never the same")
    cache.store(key, sys.argv[2].encode() * 500_000)
"""
SHARED = EngineKey("l", "v", "g", (), "d", "s", (), "p")


def writer(folder: Path, *arguments: str, script: str = WRITER) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


class TestSeveralAtOnce:
    def test_threads_that_build_the_same_engine_all_get_one(self, cache, folder):
        together = threading.Barrier(8)

        def build():
            together.wait()
            return ENGINE

        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda _: load_or_build(cache, KEY, build), range(8)))
        assert found == [ENGINE] * 8
        assert [path.name for path in folder.iterdir()] == [cache.path(KEY).name]

    def test_processes_that_write_the_same_engine_leave_a_whole_one_at_every_moment(self, cache, folder, caplog):
        writers = [writer(folder, letter) for letter in "abc"]
        whole = {None, b"never the same", *(letter * 500_000 for letter in (b"a", b"b", b"c"))}
        for process in writers:
            assert process.stdout.readline() == "ready\n"
        for process in writers:
            process.stdin.write("go\n")
            process.stdin.flush()
        while any(process.poll() is None for process in writers):
            assert cache.load(SHARED) in whole
        assert caplog.text == "", "nobody met half a file"
        for process in writers:
            process.communicate()
            assert process.returncode == 0
        assert cache.load(SHARED) in whole - {None}
        assert [path.name for path in folder.iterdir()] == [cache.path(SHARED).name]


KILLED = """
import os, signal, sys
from pathlib import Path
from rave_trio.inference.engine_cache import EngineCache, EngineKey
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
EngineCache(Path(sys.argv[1])).store(EngineKey("l", "v", "g", (), "d", "s", (), "p"), b"unfinished" * 1000)
"""


class TestAKilledWriter:
    def test_leaves_what_was_there_before(self, cache, folder):
        cache.store(SHARED, ENGINE)
        process = writer(folder, script=KILLED)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert len(list(folder.iterdir())) == 2
        assert cache.load(SHARED) == ENGINE

    def test_leaves_nothing_for_good(self, cache, folder):
        writer(folder, script=KILLED).communicate()
        (left,) = folder.iterdir()
        cache.store(KEY, ENGINE)
        assert left.exists(), "its writer may still be at work"
        os.utime(left, (1, 1))
        cache.store(KEY, ENGINE)
        assert not left.exists()


def keys(count: int) -> list[EngineKey]:
    return [attrs.evolve(KEY, gpu=f"GPU {at}") for at in range(count)]


class TestLimit:
    def test_what_was_not_used_for_longest_goes_first(self, folder):
        cache = EngineCache(folder, limit=3 * len(ENGINE))
        used, unused, new = keys(3)
        for at, key in enumerate((used, unused)):
            cache.store(key, ENGINE)
            os.utime(cache.path(key), (at, at))
        assert cache.load(used) == ENGINE
        cache.store(new, ENGINE)
        assert [cache.load(key) is not None for key in (used, unused, new)] == [True, False, True]

    def test_holds_for_all_files_together(self, folder):
        cache = EngineCache(folder, limit=3 * len(ENGINE))
        for key in keys(8):
            cache.store(key, ENGINE)
            cache.store(key, b"kernels", "runtime")
            assert sum(path.stat().st_size for path in folder.iterdir()) <= 3 * len(ENGINE)
        assert cache.load(key) == ENGINE

    def test_an_engine_that_is_larger_is_not_kept_and_takes_nothing_else_s_place(self, folder, caplog):
        cache = EngineCache(folder, limit=len(ENGINE) + 2000)
        small, large = keys(2)
        assert cache.store(small, ENGINE)
        assert not cache.store(large, ENGINE * 2)
        assert cache.load(small) == ENGINE
        assert "not kept" in caplog.text

    def test_files_that_are_not_ours_are_left_alone(self, folder):
        cache = EngineCache(folder, limit=len(ENGINE) + 2000)
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_bytes(bytes(10 * len(ENGINE)))
        cache.store(KEY, ENGINE)
        assert (folder / "notes.txt").exists()
        assert cache.load(KEY) == ENGINE


class TestAFolderThatCannotBeUsed:
    def test_is_a_warning(self, tmp_path, caplog):
        (tmp_path / "file").write_text("not a folder")
        cache = EngineCache(tmp_path / "file" / "engines")
        assert load_or_build(cache, KEY, lambda: ENGINE) == ENGINE
        assert "cannot be written" in caplog.text

    def test_such_as_one_on_a_full_disk_is_left_as_it_was(self, cache, folder, caplog, monkeypatch):
        cache.store(KEY, ENGINE)

        def full(file):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        assert not cache.store(KEY, b"other")
        assert "No space left" in caplog.text
        assert [path.name for path in folder.iterdir()] == [cache.path(KEY).name]
        assert cache.load(KEY) == ENGINE

    def test_keeps_nothing_where_there_is_none(self):
        assert not EngineCache(None).store(KEY, ENGINE)
        assert load_or_build(EngineCache(None), KEY, lambda: ENGINE) == ENGINE


class TestDefaultFolder:
    def test_is_where_the_user_keeps_caches(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert default_folder() == tmp_path / "rave-trio" / "engines"

    @pytest.mark.parametrize("value", [None, "", "relative/path"])
    def test_is_in_the_home_where_that_is_not_said(self, monkeypatch, tmp_path, value):
        monkeypatch.setenv("HOME", str(tmp_path))
        if value is None:
            monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert default_folder() == tmp_path / ".cache" / "rave-trio" / "engines"
