"""Code values through a whole run: decoded, made RGB, through a model whose result is known, made YUV and encoded."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import rave_trio

WIDTH, HEIGHT = 96, 64
LAYOUTS = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}
MATRICES = {"BT.601": 6, "BT.709": 1, "BT.2020": 9, "SMPTE 240M": 7}
KR_KB = {6: (0.299, 0.114), 1: (0.2126, 0.0722), 9: (0.2627, 0.0593), 7: (0.212, 0.087)}
"""ITU-T H.273, table 4."""


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """A model that gives back what it gets."""
    shape = ["n", 3, "h", "w"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["in"], ["out"])],
        "identity",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
    )
    path = tmp_path_factory.mktemp("models") / "identity.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def codes_of(rgb, matrix, bits, full):
    """H x W x 3 RGB in [0, 1] as Y, Cb, Cr code values in float64, not rounded (ITU-T H.273, 8.3)."""
    kr, kb = KR_KB[matrix]
    red, green, blue = np.moveaxis(rgb.astype(np.float64), 2, 0)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    if full:
        top = 2**bits - 1
        return luma * top, *(c * top + 2 ** (bits - 1) for c in chroma)
    step = 2 ** (bits - 8)
    return (16 + 219 * luma) * step, *((128 + 224 * c) * step for c in chroma)


def grey_ramp():
    return np.repeat(np.linspace(0, 1, WIDTH)[None, :, None], HEIGHT, 0).repeat(3, 2)


def saturated_bars():
    bars = [(r, g, b) for g in (0, 1) for r in (0, 1) for b in (0, 1)]
    columns = [bars[8 * x // WIDTH] for x in range(WIDTH)]
    rows = np.linspace(1, 0.5, 4).repeat(HEIGHT // 4)  # at 100%, then weaker
    return np.array(columns, float)[None] * rows[:, None, None]


def real_frame(bunny):
    with av.open(bunny) as source:
        frame = next(f for i, f in enumerate(source.decode(video=0)) if i == 40)
        return frame.to_ndarray(format="rgb24")[40 : 40 + HEIGHT, 100 : 100 + WIDTH] / 255


def pictures(bunny):
    return {"grey ramp": grey_ramp(), "saturated bars": saturated_bars(), "real frame": real_frame(bunny)}


def write(path, shown, layout, bits, matrix, full):
    """A lossless clip of those pictures, each a frame, and their planes' code values."""
    across, down = LAYOUTS[layout]
    written = []
    with av.open(path, "w") as out:
        stream = out.add_stream("ffv1", rate=25, options={"level": "3"})
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = f"yuv{layout}p" + (f"{bits}le" if bits > 8 else "")
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full else 1
        for index, rgb in enumerate(shown):
            luma, *chroma = (np.clip(plane, 0, 2**bits - 1) for plane in codes_of(rgb, matrix, bits, full))
            small = [c.reshape(HEIGHT // down, down, WIDTH // across, across).mean(axis=(1, 3)) for c in chroma]
            planes = [np.rint(plane).astype(np.uint8 if bits == 8 else np.uint16) for plane in (luma, *small)]
            frame = av.VideoFrame(WIDTH, HEIGHT, stream.pix_fmt)
            for target, plane in zip(frame.planes, planes, strict=True):
                rows = np.frombuffer(target, plane.dtype).reshape(plane.shape[0], -1)
                rows[:, : plane.shape[1]] = plane
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
            written.append([plane.astype(int) for plane in planes])
        out.mux(stream.encode(None))
    return written


def read(path):
    """The planes' code values of every frame."""
    with av.open(path) as source:
        return [planes_of(frame) for frame in source.decode(video=0)]


def planes_of(frame):
    kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    return [np.frombuffer(p, kind).reshape(p.height, -1)[:, : p.width].astype(int) for p in frame.planes]


def away_from_edges(plane):
    """Where a chroma sample and its neighbours within two are all but equal."""
    padded = np.pad(plane, 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
    return np.ptp(windows, axis=(2, 3)) <= 1


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_code_values_come_through(tmp_path, bunny, identity, nearest_x2, matrix, full, bits):
    shown = pictures(bunny)
    for layout in LAYOUTS:
        source = tmp_path / f"{layout}.mkv"
        written = write(source, shown.values(), layout, bits, MATRICES[matrix], full)
        for model, times in ((identity, 1), (nearest_x2, 2)):
            target = tmp_path / f"{layout}-x{times}.mkv"
            rave_trio.upscale_sync(source, target, model=str(model), codec="ffv1", precision="fp32")
            for name, before, after in zip(shown, written, read(target), strict=True):
                assert_same_codes(before, after, times, layout, name)
            assert rave_trio.compare(source, target).differences == ()


def assert_same_codes(before, after, times, layout, picture):
    errors = [abs(a - b.repeat(times, 0).repeat(times, 1)) for a, b in zip(after, before, strict=True)]
    assert errors[0].max() <= 1, f"{picture}: luma does not depend on what happens to chroma"
    for error, plane in zip(errors[1:], before[1:], strict=True):
        smooth = away_from_edges(plane).repeat(times, 0).repeat(times, 1)
        assert error[smooth].max(initial=0) <= 2, picture
        assert error[smooth].mean() <= 1 if smooth.any() else True, picture
    if layout == "444":
        assert max(error.max() for error in errors) <= 1, picture
