"""Real inputs, made on the spot: clips by PyAV, models by onnx; and the command line, called in this process."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the processors; numpy asks when it is loaded
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import attrs
import av
import numpy as np
import onnx
import pytest
from av.packet import Packet
from onnx import TensorProto, helper, numpy_helper

pytest_plugins = ["onnx_graphs", "compact_graphs"]
pytest.register_assert_rewrite("backend_conformance")

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_finish() -> None:
    """Let the garbage collector leave alone what is there before any test: it would look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def bunny() -> Path:
    """The real clip: 96 frames of 320x180 at 25 fps, H.264 with B-frames, AAC stereo."""
    return ROOT / "tests" / "media" / "bunny.mkv"


def draw(index: int, width: int, height: int) -> np.ndarray:
    """H x W x 3 uint8: soft colours that move with ``index``, so that frames can be told apart."""
    y, x = np.mgrid[0:height, 0:width]
    red = 128 + 90 * np.sin(x / 9 + index / 3)
    green = 128 + 90 * np.sin(y / 7 - index / 4)
    blue = np.full_like(red, 40 + 12 * (index % 16))
    return np.stack([red, green, blue], axis=2).astype(np.uint8)


def make_clip(
    path: Path,
    *,
    frames: int = 8,
    width: int = 64,
    height: int = 48,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    rate: int = 25,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    audio: bool = False,
    subtitle: str | None = None,
    attachment: bytes | None = None,
    chapters: bool = False,
    title: str | None = None,
    options: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
) -> Path:
    """Write a small clip.  ``pts`` are in ``time_base`` (default 1/rate); ``audio`` adds a tone in FLAC or AAC."""
    time_base = time_base or Fraction(1, rate)
    pts = pts or range(frames)
    with av.open(path, "w") as out:
        video = out.add_stream(codec, rate=rate, options=options or {})
        video.width, video.height, video.pix_fmt = width, height, pixel_format
        video.codec_context.time_base = time_base
        for name, value in (tags or {}).items():
            setattr(video.codec_context, name, value)
        if title:
            out.metadata["title"] = title
        sound = out.add_stream("aac", rate=48000, layout="stereo") if audio else None
        if sound is not None:
            sound.metadata["language"] = "nor"
            sound.metadata["title"] = "Commentary"
        text = out.add_mux_stream("subrip") if subtitle else None
        if text is not None:
            text.time_base = Fraction(1, 1000)
            text.metadata["language"] = "fra"
        if attachment is not None:
            out.add_attachment("font.ttf", "font/ttf", attachment)
        if chapters:
            half = 500 * len(pts) // rate
            out.set_chapters(
                [
                    {"id": 1, "start": 0, "end": half, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}},
                    {
                        "id": 2,
                        "start": half,
                        "end": 2 * half,
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": "Two"},
                    },
                ]
            )
        packets: list[Packet] = []
        if sound is not None:
            samples = round(48000 * len(pts) / rate)
            tone = (0.2 * np.sin(2 * np.pi * 440 * np.arange(samples) / 48000)).astype(np.float32)
            for start in range(0, samples, 1024):
                piece = np.stack([tone[start : start + 1024]] * 2)
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="fltp", layout="stereo")
                frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
                packets += sound.encode(frame)
            packets += sound.encode(None)
        for index, at in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(draw(index, width, height), "rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = at, time_base
            packets += video.encode(frame)
        packets += video.encode(None)
        if text is not None and subtitle is not None:
            packet = Packet(subtitle.encode())
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = 40
            packet.duration = 100
            packets.append(packet)
        out.mux(sorted(packets, key=lambda p: p.dts * p.time_base))
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """A maker of clips in the test's folder: ``clip("in.mkv", frames=4)``."""

    def make(name: str = "in.mkv", **how: Any) -> Path:
        return make_clip(tmp_path / name, **how)

    return make


@pytest.fixture(scope="session")
def session_clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The same for clips that several tests share; they are read only."""
    folder = tmp_path_factory.mktemp("clips")

    def make(name: str, **how: Any) -> Path:
        return make_clip(folder / name, **how)  # an absolute name is where it says

    return make


@pytest.fixture(scope="session")
def long_clip(session_clip: Callable[..., Path]) -> Path:
    """3000 frames with sound, so that a run is never over before it is stopped: 120 of them, again and again."""
    frames, times = 120, 25
    piece = session_clip("piece.mkv", frames=frames, audio=True, options={"preset": "ultrafast"})
    path = piece.with_name("long.mkv")
    with av.open(piece) as before, av.open(path, "w", options={"avoid_negative_ts": "disabled"}) as after:
        copies = [after.add_stream_from_template(stream) for stream in before.streams]
        packets = [packet for packet in before.demux() if packet.dts is not None]
        for turn in range(times):
            for packet in packets:
                copy = Packet(bytes(packet))
                copy.stream, copy.time_base = copies[packet.stream.index], packet.time_base
                copy.is_keyframe = packet.is_keyframe
                shift = round(turn * frames / 25 / packet.time_base)
                copy.pts, copy.dts, copy.duration = packet.pts + shift, packet.dts + shift, packet.duration
                if packet.pts >= 0 or turn == 0:  # what primes the sound comes once
                    after.mux(copy)
    return path


@pytest.fixture(scope="session")
def nearest_x2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that repeats every pixel twice: fast, and its result is known."""
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    node = helper.make_node(
        "Resize",
        ["in", "", "scales"],
        ["out"],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    graph = helper.make_graph(
        [node],
        "nearest",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3, "h2", "w2"])],
        [scales],
    )
    path = tmp_path_factory.mktemp("models") / "nearest-x2.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@attrs.frozen
class Called:
    """What one command line did."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """Stdout as the one JSON object that it must be."""
        document: dict[str, Any] = json.loads(self.stdout)
        return document


@pytest.fixture
def rave(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Called]:
    """Call the command line in this process: ``rave("upscale", source, target)``.  Estimates are hasty."""
    from rave_trio.cli import main

    monkeypatch.setattr("rave_trio.estimate.SAMPLE_SECONDS", 0.01)

    def call(*arguments: object) -> Called:
        status = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Called(status, captured.out, captured.err)

    return call


@attrs.frozen
class Track:
    """One stream as read back: its packets' or frames' times as exact seconds, and the packets' bytes."""

    times: tuple[Fraction, ...]
    durations: tuple[Fraction, ...]
    payload: bytes


def read_packets(path: Path, index: int) -> Track:
    """The packets of one stream, in the order of their presentation."""
    with av.open(path) as source:
        stream = source.streams[index]
        packets = [p for p in source.demux(stream) if p.pts is not None]
        packets.sort(key=lambda p: p.pts)
        return Track(
            tuple(p.pts * p.time_base for p in packets),
            tuple((p.duration or 0) * p.time_base for p in packets),
            b"".join(bytes(p) for p in packets),
        )


def read_frames(path: Path) -> list[np.ndarray]:
    """All frames as H x W x 3 uint8 RGB."""
    with av.open(path) as source:
        return [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]


def frame_times(path: Path) -> list[Fraction]:
    """Presentation times of the decoded frames, in seconds."""
    with av.open(path) as source:
        return [frame.pts * frame.time_base for frame in source.decode(video=0)]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures, in dB."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


@pytest.fixture(scope="session")
def reading() -> Any:
    """The functions that read results back, for tests that cannot import this file."""

    class Reading:
        packets = staticmethod(read_packets)
        frames = staticmethod(read_frames)
        times = staticmethod(frame_times)
        psnr = staticmethod(psnr)
        draw = staticmethod(draw)

    return Reading
