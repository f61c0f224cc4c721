"""Every format that libav's decoders give is read without loss."""

from __future__ import annotations

from fractions import Fraction

import attrs
import av
import av.filter
import numpy as np
import pytest
from av.video.format import names

from rave_trio import errors
from rave_trio.color import SurfaceToTensor
from rave_trio.color.layout import layout_of
from rave_trio.frames import ColorRange, ColorSpec, Frame, Surface, SurfaceDescriptor
from rave_trio.media._libav import describe_format

BLACK = (0.0, 0.0, 0.0)

REPACKED = {
    "yuv420p": "nv12 nv21 yuvj420p",
    "yuv422p": "nv16 yuyv422 uyvy422 yvyu422 yuvj422p",
    "yuv444p": "nv24 nv42 vuyx vyu444 yuvj444p",
    "yuv440p": "yuvj440p",
    "yuv411p": "yuvj411p",
    "yuva444p": "ayuv vuya uyva",
    "yuv420p10le": "p010le p010be yuv420p10be",
    "yuv420p12le": "p012le p012be yuv420p12be",
    "yuv420p16le": "p016le p016be yuv420p16be",
    "yuv422p10le": "nv20le nv20be p210le p210be y210le yuv422p10be",
    "yuv422p12le": "p212le p212be y212le yuv422p12be",
    "yuv422p16le": "p216le p216be y216le yuv422p16be",
    "yuv444p10le": "p410le p410be xv30le v30xle yuv444p10be yuv444p10msble yuv444p10msbbe",
    "yuv444p12le": "p412le p412be xv36le xv36be yuv444p12be yuv444p12msble yuv444p12msbbe",
    "yuv444p16le": "p416le p416be xv48le xv48be yuv444p16be",
    "yuva444p16le": "ayuv64le ayuv64be yuva444p16be",
    "yuv420p9le": "yuv420p9be",
    "yuv422p14le": "yuv422p14be",
    "yuv440p12le": "yuv440p12be",
    "gbrp": "rgb24 bgr24 rgb0 bgr0 0rgb 0bgr",
    "gbrap": "rgba bgra argb abgr",
    "gbrp9le": "gbrp9be",
    "gbrp10le": "x2rgb10le x2bgr10le gbrp10be",
    "gbrp12le": "gbrp12be",
    "gbrp14le": "gbrp14be",
    "gbrp16le": "rgb48le rgb48be bgr48le bgr48be gbrp16be",
    "gbrap10le": "gbrap10be",
    "gbrap12le": "gbrap12be",
    "gbrap16le": "rgba64le rgba64be bgra64le bgra64be gbrap16be",
    "gray10le": "gray10be",
    "gray12le": "gray12be",
    "gray14le": "gray14be",
    "gray16le": "gray16be ya16le ya16be",
    "gray": "ya8",
}
"""Planar formats, and those that hold the same samples in another order."""

PAIRS = [(planar, name) for planar, others in REPACKED.items() for name in others.split()]

SIZE = (38, 22)


def framed(native: av.VideoFrame, color: ColorSpec) -> Frame:
    surface = SurfaceDescriptor(native.width, native.height, describe_format(native.format.name), color)
    return Frame(0, 0, 1, Fraction(1), True, Surface(surface, native))


def noise(name: str, width: int = SIZE[0], height: int = SIZE[1]) -> av.VideoFrame:
    """Random code values in every plane of a planar little-endian format."""
    native, layout = av.VideoFrame(width, height, name), describe_format(name)
    random = np.random.default_rng(1)
    for plane in native.planes:
        rows = np.frombuffer(plane, np.uint8 if layout.bit_depth == 8 else np.uint16)
        rows[:] = random.integers(0, 2**layout.bit_depth, rows.size)
    return native


def words(name: str, dtype: str, values: np.ndarray) -> av.VideoFrame:
    """A frame of one plane whose rows are these words."""
    width = values.shape[1] if values.ndim == 2 else SIZE[0]
    native = av.VideoFrame(width, len(values), name)
    rows = np.frombuffer(native.planes[0], np.uint8).reshape(len(values), -1)
    raw = np.ascontiguousarray(values.reshape(len(values), -1), dtype).view(np.uint8)
    rows[:, : raw.shape[1]] = raw
    return native


@pytest.mark.parametrize(("planar", "name"), PAIRS, ids=[name for _, name in PAIRS])
def test_formats_that_hold_the_same_samples_give_the_same_tensor(convert, planar, name):
    color = ColorSpec(matrix=1, range=ColorRange.FULL)
    native = noise(planar)
    # Full on both sides, as yuvj is never anything else; one thread, as several write over each other's first samples.
    repacked = native.reformat(format=name, src_color_range=2, dst_color_range=2, threads=1)
    found = convert.to_tensor(framed(repacked, color), BLACK)
    assert (found == convert.to_tensor(framed(native, color), BLACK)).all()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("rgb565", {"R": (11, 5), "G": (5, 6), "B": (0, 5)}),
        ("bgr565", {"B": (11, 5), "G": (5, 6), "R": (0, 5)}),
        ("rgb555", {"R": (10, 5), "G": (5, 5), "B": (0, 5)}),
        ("bgr555", {"B": (10, 5), "G": (5, 5), "R": (0, 5)}),
        ("rgb444", {"R": (8, 4), "G": (4, 4), "B": (0, 4)}),
        ("bgr444", {"B": (8, 4), "G": (4, 4), "R": (0, 4)}),
    ],
)
@pytest.mark.parametrize("order", ["le", "be"])
def test_fields_of_a_word_are_read_in_their_own_depth(convert, name, fields, order):
    values = np.random.default_rng(1).integers(0, 2**16, (22, 38))
    native = words(name + order, "<u2" if order == "le" else ">u2", values)
    found = convert.to_tensor(framed(native, ColorSpec()))
    for channel, letter in enumerate("RGB"):
        shift, bits = fields[letter]
        assert found[channel] == pytest.approx((values >> shift) % 2**bits / (2**bits - 1), abs=1e-6)


@pytest.mark.parametrize(("name", "shifts"), [("rgb8", (5, 2, 0)), ("bgr8", (0, 3, 6))])
def test_colours_of_one_byte_are_read_in_their_own_depth(convert, name, shifts):
    values = np.random.default_rng(1).integers(0, 256, (22, 38))
    found = convert.to_tensor(framed(words(name, "u1", values), ColorSpec()))
    for channel, (shift, bits) in enumerate(zip(shifts, (3, 3, 2), strict=True)):
        assert found[channel] == pytest.approx((values >> shift) % 2**bits / (2**bits - 1), abs=1e-6)


@pytest.mark.parametrize(("name", "white"), [("monow", 0), ("monob", 1)])
def test_one_bit_a_pixel_is_black_and_white(convert, name, white):
    bits = np.random.default_rng(1).integers(0, 2, (22, 37), np.uint8)
    native = av.VideoFrame(37, 22, name)
    packed = np.packbits(bits, axis=1)
    np.frombuffer(native.planes[0], np.uint8).reshape(22, -1)[:, : packed.shape[1]] = packed
    found = convert.to_tensor(framed(native, ColorSpec()))
    assert (found == (bits == white)).all()


def paletted() -> tuple[av.VideoFrame, np.ndarray, np.ndarray]:
    """A picture, its indices, and the palette as R, G, B, A."""
    random = np.random.default_rng(1)
    palette, indices = random.integers(0, 256, (256, 4)), random.integers(0, 256, (22, 37))
    native = av.VideoFrame(37, 22, "pal8")
    np.frombuffer(native.planes[0], np.uint8).reshape(22, -1)[:, :37] = indices
    red, green, blue, alpha = palette.T
    np.frombuffer(native.planes[1], np.uint32)[:] = alpha << 24 | red << 16 | green << 8 | blue
    return native, indices, palette


def test_a_palette_is_looked_into(convert):
    native, indices, palette = paletted()
    surface = SurfaceDescriptor(37, 22, attrs.evolve(describe_format("pal8"), has_alpha=False))
    found = convert.to_tensor(Frame(0, 0, 1, Fraction(1), True, Surface(surface, native)))
    assert found == pytest.approx(palette[indices][..., :3].transpose(2, 0, 1) / 255, abs=1e-6)


def test_a_palette_may_be_transparent(convert):
    native, indices, palette = paletted()
    found = convert.to_tensor(framed(native, ColorSpec()), (1.0, 1.0, 1.0))
    colours = palette[indices].transpose(2, 0, 1) / 255
    assert found == pytest.approx(colours[:3] * colours[3] + 1 - colours[3], abs=1e-6)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("size", [2, 4])
def test_floating_point_samples_are_taken_as_they_are(convert, order, size):
    suffix = f"f{8 * size}{'le' if order == '<' else 'be'}"
    values = np.random.default_rng(1).normal(0.5, 1, (22, 38, 3)).astype(f"{order}f{size}")
    exact = values.transpose(2, 0, 1).astype(np.float32)
    assert (convert.to_tensor(framed(words(f"rgb{suffix}", values.dtype, values), ColorSpec())) == exact).all()
    grey = words(f"gray{suffix}", values.dtype, values[..., 0])
    assert (convert.to_tensor(framed(grey, ColorSpec())) == exact[:1]).all()
    planar = av.VideoFrame(38, 22, f"gbrp{suffix}")
    for plane, channel in zip(planar.planes, (1, 2, 0), strict=True):
        np.frombuffer(plane, values.dtype).reshape(22, -1)[:, :38] = values[..., channel]
    assert (convert.to_tensor(framed(planar, ColorSpec())) == exact).all()
    written = convert.to_surface(exact, SurfaceDescriptor(38, 22, describe_format(f"gbrp{suffix}")))
    assert (convert.to_tensor(written) == exact).all()


@pytest.mark.parametrize("name", ["gbrp10msble", "gbrp12msbbe"])
def test_samples_in_the_high_bits_are_shifted_down(convert, name):
    native, layout = av.VideoFrame(38, 22, name), describe_format(name)
    values = np.random.default_rng(1).integers(0, 2**layout.bit_depth, (3, 22, 38))
    for plane, channel in zip(native.planes, (1, 2, 0), strict=True):
        rows = np.frombuffer(plane, ">u2" if name.endswith("be") else "<u2").reshape(22, -1)
        rows[:, :38] = values[channel] << 16 - layout.bit_depth
    found = convert.to_tensor(framed(native, ColorSpec()))
    assert found == pytest.approx(values / (2**layout.bit_depth - 1), abs=1e-6)


@pytest.mark.parametrize("name", ["yuv420p", "rgb24", "nv12", "yuv444p10le"])
def test_pictures_stored_from_the_last_row_up_are_not_upside_down(convert, name):
    """As decoders of uncompressed video give them."""
    color = ColorSpec(matrix=1, range=ColorRange.LIMITED)
    native = noise("yuv420p").reformat(format=name, threads=1)
    graph = av.filter.Graph()
    source = graph.add_buffer(width=native.width, height=native.height, format=native.format, time_base=Fraction(1, 25))
    flip, sink = graph.add("vflip"), graph.add("buffersink")
    source.link_to(flip)
    flip.link_to(sink)
    graph.configure()
    native.pts, native.time_base = 0, Fraction(1, 25)
    graph.push(native)
    flipped = graph.pull()
    assert flipped.planes[0].line_size < 0
    found = convert.to_tensor(framed(flipped, color))
    assert found[:, ::-1] == pytest.approx(convert.to_tensor(framed(native, color)), abs=1e-6)


def test_formats_are_read_or_refused_by_name():
    refused = set()
    for name in names:
        try:
            assert len(layout_of(name).colours) in (1, 3)
        except errors.InputFormatUnsupported as error:
            assert name in str(error)
            refused.add(name)
    assert {"xyz12le", "bayer_rggb8", "vaapi", "cuda"} <= refused
    assert len(refused) < 40


@pytest.mark.parametrize("name", ["xyz12le", "bayer_bggr8", "uyyvyy411"])
def test_what_cannot_be_read_is_refused_before_the_first_frame(convert, name):
    with pytest.raises(errors.InputFormatUnsupported, match=name):
        SurfaceToTensor(SurfaceDescriptor(32, 32, describe_format(name)), convert.pool)
