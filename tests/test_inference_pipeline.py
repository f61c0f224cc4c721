"""One picture in, one out: arrays, frames and files, with their depth, grey and alpha."""

from __future__ import annotations

import re
from fractions import Fraction

import av
import numpy as np
import pytest
from lanczos_reference import resized

import rave_trio
from rave_trio import InferencePipeline, errors
from rave_trio.inference.openvino_backend import OpenVinoBackend


def noise(shape, dtype):
    random = np.random.default_rng(4)
    if np.dtype(dtype).kind == "u":
        return random.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    return random.random(shape).astype(dtype)


@pytest.fixture
def doubling(nearest_x2):
    with InferencePipeline(model=str(nearest_x2), precision="fp32", device="cpu") as pipeline:
        yield pipeline


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_an_array_comes_back_as_an_array_of_its_kind(doubling, channels, dtype):
    picture = noise((6, 10) if channels is None else (6, 10, channels), dtype)
    result = doubling.process(picture)
    assert result.dtype == picture.dtype
    expected = picture.repeat(2, axis=0).repeat(2, axis=1)
    assert result.shape == expected.shape
    if np.dtype(dtype).kind == "u":
        assert (result == expected).all()
    else:
        assert abs(result - expected).max() < 1e-6


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_is_kept_and_brought_to_the_new_size_by_lanczos(doubling, channels, dtype):
    picture = noise((9, 12, channels), dtype)
    result = doubling.process(picture)
    full = np.iinfo(dtype).max
    alpha = np.clip(resized(picture[np.newaxis, :, :, -1] / full, 18, 24)[0], 0, 1) * full
    assert (result[:, :, :-1] == picture.repeat(2, axis=0).repeat(2, axis=1)[:, :, :-1]).all()
    assert abs(result[:, :, -1] - alpha).max() < 1


def test_pictures_of_one_size_share_what_was_made_and_others_get_their_own(nearest_x2, monkeypatch):
    made, closed = [], []
    genuine_init, genuine_close = OpenVinoBackend.__init__, OpenVinoBackend.close

    def init(backend, *args, **how):
        made.append(True)
        genuine_init(backend, *args, **how)

    def close(backend):
        closed.append(True)
        genuine_close(backend)

    monkeypatch.setattr(OpenVinoBackend, "__init__", init)
    monkeypatch.setattr(OpenVinoBackend, "close", close)
    with InferencePipeline(model=str(nearest_x2)) as pipeline:
        for size in ((6, 10), (6, 10), (10, 6), (10, 6), (6, 10)):
            assert pipeline.process(noise((*size, 3), np.uint8)).shape == (2 * size[0], 2 * size[1], 3)
        assert (len(made), len(closed)) == (3, 2)
    assert len(closed) == 3
    pipeline.close()
    assert len(closed) == 3
    assert pipeline._ledger.stats().current == 0


def test_it_does_what_a_run_does(clip, tmp_path, upscaler, reading):
    model = str(upscaler(scale=2))
    source = clip(frames=1, codec="ffv1", pixel_format="bgr0")
    how = {"model": model, "precision": "fp32", "size": "100x70"}
    report = rave_trio.upscale_sync(source, tmp_path / "out.mkv", codec="ffv1", pixel_format="bgr0", **how)
    with InferencePipeline(**how) as pipeline:
        result = pipeline.process(reading.frames(source)[0])
    assert abs(result.astype(int) - reading.frames(report.output)[0]).max() <= 1


def test_a_graph_and_tiles_and_a_limit_work_as_in_runs(upscaler):
    from rave_trio import DecodeStage, EncodeStage, EnhanceStage, ResizeStage, StageGraph

    clean, twice = str(upscaler("clean", scale=1)), str(upscaler("twice"))
    picture = noise((96, 160, 3), np.float32)

    def graph(**how):
        middle = EnhanceStage(model=clean, precision="fp32", **how), EnhanceStage(model=twice, **how)
        return StageGraph([DecodeStage(), *middle, ResizeStage(width=200, height=100), EncodeStage()])

    results = []
    with InferencePipeline(graph=graph(), vram_limit="1MB") as pipeline, pytest.raises(errors.OutOfMemory) as caught:
        pipeline.process(picture)
    least = re.search(r"--vram-limit (\d+MiB)", caught.value.remedy)[1]
    for options in ({"graph": graph()}, {"graph": graph(tile=64)}, {"graph": graph(), "vram_limit": least}):
        with InferencePipeline(**options) as pipeline:
            results.append(pipeline.process(picture))
    assert results[0].shape == (100, 200, 3)
    assert all(abs(result - results[0]).max() < 1e-4 for result in results[1:])


def test_memory_that_runs_out_means_smaller_tiles(upscaler, monkeypatch):
    picture = noise((300, 280, 3), np.float32)
    with InferencePipeline(model=str(upscaler()), precision="fp32") as pipeline:
        expected = pipeline.process(picture)
        genuine, failed = OpenVinoBackend.collect, []

        def scarce(backend):
            if not failed:
                failed.append(True)
                raise MemoryError("no memory in this test")
            return genuine(backend)

        monkeypatch.setattr(OpenVinoBackend, "collect", scarce)
        assert abs(pipeline.process(picture) - expected).max() < 1e-5
        assert failed


@pytest.mark.parametrize("shape", [(4, 4, 5), (16,), (0, 4), (2, 2, 2, 2)])
def test_what_has_no_shape_of_a_picture_is_refused(doubling, shape):
    with pytest.raises(ValueError, match="is no picture"):
        doubling.process(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, bool, complex])
def test_what_is_of_another_dtype_is_refused(doubling, dtype):
    with pytest.raises(TypeError, match="arrays of uint8, uint16 or floating"):
        doubling.process(np.zeros((4, 4, 3), dtype))


def test_a_device_that_is_not_there_is_refused_at_once():
    with pytest.raises(errors.DeviceUnknown):
        InferencePipeline(device="abacus")


PNG = ["gray", "ya8", "rgb24", "rgba", "gray16be", "ya16be", "rgb48be", "rgba64be"]


def write_png(path, pixel_format, height=24, width=32):
    """A soft picture in that format, its alpha included; and its samples."""
    deep, channels = pixel_format.endswith("be"), {"g": 1, "y": 2, "r": 3}[pixel_format[0]]
    channels = 4 if pixel_format.startswith("rgba") else channels
    full = 65535 if deep else 255
    y, x = np.mgrid[0:height, 0:width]
    waves = [0.5 + 0.4 * np.sin(x / (5 + k) + y / (7 - k)) for k in range(channels)]
    samples = np.stack(waves, 2)
    codes = np.round(samples * full).astype(">u2" if deep else "u1")
    frame = av.VideoFrame(width, height, pixel_format)
    rows = np.frombuffer(frame.planes[0], np.uint8).reshape(height, -1)
    rows[:, : width * channels * codes.itemsize] = codes.reshape(height, -1).view(np.uint8)
    context = av.VideoCodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt = width, height, pixel_format
    path.write_bytes(b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)]))
    return codes.astype(int)


def read_png(path):
    """The format, and H x W x C codes."""
    with av.open(path) as file:
        frame = next(file.decode(video=0))
    deep, height, width = frame.format.name.endswith("be"), frame.height, frame.width
    rows = np.frombuffer(frame.planes[0], np.uint8).reshape(height, -1)
    channels = {"gray": 1, "ya8": 2, "rgb2": 3, "rgba": 4, "ya16": 2, "rgb4": 3}[frame.format.name[:4]]
    used = np.ascontiguousarray(rows[:, : width * channels * (2 if deep else 1)])
    return frame.format.name, used.view(">u2" if deep else "u1").reshape(height, width, channels).astype(int)


@pytest.mark.parametrize("pixel_format", PNG)
def test_a_png_of_every_kind_stays_what_it_is(rave, tmp_path, nearest_x2, pixel_format):
    codes = write_png(tmp_path / "in.png", pixel_format)
    done = rave("image", tmp_path / "in.png", tmp_path / "out.png", "-m", nearest_x2, "-p", "fp32")
    assert (done.status, done.stderr) == (0, "")
    found, result = read_png(tmp_path / "out.png")
    assert found == pixel_format
    colours = codes.shape[2] - ("a" in pixel_format.replace("gray", ""))
    expected = codes.repeat(2, axis=0).repeat(2, axis=1)
    assert abs(result[:, :, :colours] - expected[:, :, :colours]).max() <= (1 if pixel_format.endswith("be") else 0)
    if colours < codes.shape[2]:
        full = 65535 if pixel_format.endswith("be") else 255
        alpha = resized(codes[np.newaxis, :, :, -1] / full, 48, 64)[0] * full
        assert abs(result[:, :, -1] - alpha).max() <= 1


@pytest.mark.parametrize("pixel_format", ["yuvj420p", "yuvj444p"])
def test_a_jpeg_is_read_as_what_it_shows(rave, tmp_path, nearest_x2, reading, pixel_format):
    context = av.VideoCodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 64, 48, pixel_format, Fraction(1, 25)
    context.options = {"qmin": "1", "qmax": "1"}
    drawn = reading.draw(2, 64, 48)
    frame = av.VideoFrame.from_ndarray(drawn, "rgb24").reformat(format=pixel_format, dst_colorspace="itu601")
    source = tmp_path / "in.jpg"
    source.write_bytes(b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)]))
    assert rave("image", source, tmp_path / "out.png", "-m", nearest_x2, "-p", "fp32").status == 0
    found, result = read_png(tmp_path / "out.png")
    assert found == "rgb24"
    assert reading.psnr(result.astype(np.uint8), drawn.repeat(2, axis=0).repeat(2, axis=1)) > 30


def test_an_image_is_described_as_json(rave, tmp_path, nearest_x2):
    write_png(tmp_path / "in.png", "rgb24")
    files = tmp_path / "in.png", tmp_path / "out.png"
    image = rave("image", *files, "-m", nearest_x2, "--size", "40x", "--json").json["image"]
    assert (image["width"], image["height"], image["pixel_format"]) == (40, 30, "rgb24")


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("out.jpg", errors.ContainerUnsupported),
        ("none/out.png", errors.OutputFolderMissing),
        ("in.png", errors.OutputIsInput),
        ("taken.png", errors.OutputExists),
        ("n" * 300 + ".png", errors.OutputNotWritable),
        ("/proc/out.png", errors.OutputNotWritable),
    ],
)
def test_an_output_that_cannot_be_is_refused_and_left_alone(rave, tmp_path, nearest_x2, target, error):
    write_png(tmp_path / "in.png", "rgb24")
    write_png(tmp_path / "taken.png", "gray")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    refused = rave("image", tmp_path / "in.png", tmp_path / target, "-m", nearest_x2)
    assert refused.status == error.exit_code
    assert "Traceback" not in refused.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("content", "status"), [(None, 10), (b"", 13), (b"no picture at all", 14), (b"\x89PNG\r\n\x1a\n" + b"x" * 50, None)]
)
def test_an_input_that_is_no_picture_is_refused_without_a_traceback(rave, tmp_path, content, status):
    if content is not None:
        (tmp_path / "in.png").write_bytes(content)
    refused = rave("image", tmp_path / "in.png", tmp_path / "out.png")
    assert 10 <= refused.status < 20
    assert status in (None, refused.status)
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "out.png").exists()


def test_a_file_is_replaced_when_asked_for_and_is_whole_or_as_it_was(rave, tmp_path, nearest_x2, monkeypatch):
    from rave_trio import files

    write_png(tmp_path / "in.png", "rgb24")
    write_png(tmp_path / "out.png", "gray")
    before = (tmp_path / "out.png").read_bytes()

    def refuse(_path):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", refuse)
        failed = rave("image", tmp_path / "in.png", tmp_path / "out.png", "-m", nearest_x2, "-y")
    assert failed.status == errors.DiskFull.exit_code
    assert (tmp_path / "out.png").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "out.png"]
    assert rave("image", tmp_path / "in.png", tmp_path / "out.png", "-m", nearest_x2, "-y").status == 0
    assert read_png(tmp_path / "out.png")[0] == "rgb24"
