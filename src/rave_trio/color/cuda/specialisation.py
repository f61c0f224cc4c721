"""The CUDA source of a conversion: what its kernel must know stands in constants before the text that all share.

The coefficients come from where the CPU's do (matrix, levels, chroma, dither), so there is one definition of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

import attrs
import numpy as np

from rave_trio import errors
from rave_trio.color.chroma import Grid, Kernel, decimation, grids_of, interpolation
from rave_trio.color.cuda.planes import device_layout_of
from rave_trio.color.dither import SIDE, UNIT, thresholds
from rave_trio.color.layout import Component
from rave_trio.color.levels import chroma_levels, levels_of, range_of
from rave_trio.color.matrix import holds_gbr, matrix_of
from rave_trio.frames import SurfaceDescriptor

BLOCK = (32, 4)
"""Threads of a block, across and down: a warp a row, so that its accesses lie side by side."""

VECTOR = 16
"""Bytes: the widest access of a thread."""


@attrs.frozen
class Tile:
    """What one thread converts: ``pixels`` across, a power of two, and ``groups`` of as many lines as share chroma."""

    pixels: int
    groups: int


@attrs.frozen
class Specialisation:
    """The source of one kernel, and how it is to be launched."""

    name: str
    """The function's, with C linkage."""
    body: str
    """The source but for half precision: C++17 that host compilers know too, given CUDA's few words."""
    pixels: int
    """That a thread converts across."""
    lines: int
    """That a thread converts down."""
    planes: tuple[int, ...]
    """Which of the surface's planes holds each component, in the order of the kernel's parameters."""

    @property
    def code(self) -> str:
        """The whole source, which includes no header."""
        return f"{_text('half.cuh')}\n{self.body}"

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Blocks across and down for pictures of this size, in pixels."""
        return -(-width // (self.pixels * BLOCK[0])), -(-height // (self.lines * BLOCK[1]))


def reading(source: SurfaceDescriptor, dtype: Any, tile: Tile | None = None) -> Specialisation:
    """Surfaces like ``source`` to tensors of ``dtype``, float16 or float32.

    Raises InputFormatUnsupported for a format that the kernels do not know, ValueError for another dtype.
    """
    components = device_layout_of(source.pixel_format.name).colours
    tile = _tile(source, dtype, tile)
    common = _common("to_tensor", components[0], dtype, tile)
    if _is_yuv(source, components):
        return _made("yuv_to_tensor", [*common, *_yuv_to_tensor(source, components)], source, components, tile)
    levels = levels_of(components[0], range_of(source.color, source.pixel_format))
    constants = [
        _int("COMPONENTS", len(components)),
        _float("OFFSET", levels.offset),
        _float("SCALE", 1 / levels.scale),
    ]
    return _made("colours_to_tensor", [*common, *constants], source, components, tile)


@attrs.frozen
class Codes:
    """What a kernel of another's must know to write surfaces itself, of luma and chroma."""

    text: str
    """In the namespace ``codes``, whose ``Chroma`` and ``write_luma`` take lines of samples as they would be stored."""
    planes: tuple[int, ...]
    """Which of the surface's planes holds each component."""
    before: int
    """Columns to the left of a thread's own that its chroma looks at."""


def codes(target: SurfaceDescriptor, side: int, *, dither: bool) -> Codes | None:
    """For surfaces like ``target``, and threads that have ``side`` x ``side`` samples from multiples of that on.

    None where there is no chroma, where it looks at other samples than these and ``side`` to the left of them, and for
    a ``side`` that is no power of two.
    """
    components = device_layout_of(target.pixel_format.name).colours
    if side & (side - 1) or not _is_yuv(target, components):
        return None
    grids = grids_of(target.color, target.pixel_format)
    (x, across), (y, down) = (_low_pass(grid) for grid in grids)
    is_whole = all(side % grid.factor == 0 for grid in grids)
    is_within = x >= -side and x + len(across) <= grids[0].factor and y >= 0 and y + len(down) <= grids[1].factor
    if not (is_whole and is_within):
        return None
    tile = Tile(side, side // grids[1].factor)
    constants = [*_sample(components[0], tile), *_rounding(target, components[0], dither=dither)]
    constants += _tensor_to_yuv(target, components)
    texts = map(_text, ("access.cuh", "codes.cuh", "yuv_codes.cuh"))
    text = "\n".join(["namespace codes {", *constants, *texts, "}  // namespace codes"])
    return Codes(text, tuple(component.plane for component in components), max(0, -x))


def writing(target: SurfaceDescriptor, dtype: Any, *, dither: bool = False, tile: Tile | None = None) -> Specialisation:
    """Tensors of ``dtype``, float16 or float32, to surfaces like ``target``; ``dither``: see the converter.

    Raises InputFormatUnsupported for a format that the kernels do not know, ValueError for another dtype.
    """
    components = device_layout_of(target.pixel_format.name).colours
    tile = _tile(target, dtype, tile)
    common = [
        *_common("to_surface", components[0], dtype, tile),
        *_rounding(target, components[0], dither=dither),
    ]
    if _is_yuv(target, components):
        return _made("tensor_to_yuv", [*common, *_tensor_to_yuv(target, components)], target, components, tile)
    levels = levels_of(components[0], range_of(target.color, target.pixel_format))
    constants = [
        _int("COMPONENTS", len(components)),
        _float("OFFSET", levels.offset),
        _float("SCALE", levels.scale),
    ]
    return _made("tensor_to_colours", [*common, *constants], target, components, tile)


def _is_yuv(surface: SurfaceDescriptor, components: tuple[Component, ...]) -> bool:
    """Whether there is a matrix to go through.  Raises InputFormatUnsupported for interleaved B and R."""
    holds_rgb = surface.pixel_format.is_rgb or holds_gbr(surface.color, surface.pixel_format)
    if holds_rgb and any(component.step != component.dtype.itemsize for component in components):
        raise errors.InputFormatUnsupported(
            f"R, G and B in the planes of {surface.pixel_format.name} are not supported on a GPU",
            remedy="use gbrp or a deeper form of it",
        )
    return len(components) == 3 and not holds_rgb


def _tile(surface: SurfaceDescriptor, dtype: Any, tile: Tile | None) -> Tile:
    itemsize = np.dtype(dtype).itemsize
    if np.dtype(dtype) not in (np.dtype(np.float16), np.dtype(np.float32)):
        raise ValueError(f"tensors are float16 or float32, not {np.dtype(dtype)}")
    factor = 1 << surface.pixel_format.chroma_shift_x
    tile = tile or Tile(VECTOR // itemsize, 1)
    return attrs.evolve(tile, pixels=max(tile.pixels, 2 * factor))


def _common(name: str, component: Component, dtype: Any, tile: Tile) -> list[str]:
    return [
        f"#define KERNEL {name}",
        f"using Element = {'float' if np.dtype(dtype).itemsize == 4 else 'Half'};",
        _int("THREADS", BLOCK[0] * BLOCK[1]),
        *_sample(component, tile),
    ]


def _sample(component: Component, tile: Tile) -> list[str]:
    return [
        f"using Sample = unsigned {'char' if component.dtype.itemsize == 1 else 'short'};",
        _int("PIXELS", tile.pixels),
        _int("GROUPS", tile.groups),
        _int("SHIFT", component.shift),
    ]


def _rounding(target: SurfaceDescriptor, component: Component, *, dither: bool) -> list[str]:
    luma = matrix_of(target.color, target.height).luma
    return [
        f"constexpr bool DITHER = {str(dither).lower()};",
        _int("THRESHOLDS_SIDE", SIDE),
        _int("THRESHOLDS_UNIT", UNIT),
        _table("int", "THRESHOLDS", [SIDE, SIDE], thresholds().reshape(-1).tolist()),
        _float("HIGHEST", 2**component.bits - 1),
        _float("RED_WEIGHT", luma[0]),
        _float("BLUE_WEIGHT", luma[2]),
    ]


def _yuv_to_tensor(source: SurfaceDescriptor, components: tuple[Component, ...]) -> list[str]:
    range = range_of(source.color, source.pixel_format)
    matrix = matrix_of(source.color, source.height)
    luma = levels_of(components[0], range)
    chroma = chroma_levels(components[1].bits, range, wide=matrix.wide_chroma)
    x, y = grids_of(source.color, source.pixel_format)
    unit = interpolation(x)[1] * interpolation(y)[1]
    shares = matrix.to_rgb[:, 1:] / (chroma.scale * unit)
    names = [f"{plane}_IN_{channel}" for channel in ("RED", "GREEN", "BLUE") for plane in ("CB", "CR")]
    return [
        *_chroma_places(source, components),
        *_interpolation("X", x),
        *_interpolation("Y", y),
        _float("LUMA_OFFSET", luma.offset),
        _float("LUMA_SCALE", 1 / luma.scale),
        _float("CHROMA_OFFSET", chroma.offset),
        *(_float(name, share) for name, share in zip(names, shares.reshape(-1), strict=True)),
    ]


def _tensor_to_yuv(target: SurfaceDescriptor, components: tuple[Component, ...]) -> list[str]:
    range = range_of(target.color, target.pixel_format)
    matrix = matrix_of(target.color, target.height)
    luma = levels_of(components[0], range)
    chroma = chroma_levels(components[1].bits, range, wide=matrix.wide_chroma)
    x, y = grids_of(target.color, target.pixel_format)
    unit = sum(_low_pass(x)[1]) * sum(_low_pass(y)[1])
    constants = []
    for name, difference in (("CB", matrix.cb), ("CR", matrix.cr)):
        constants += [
            _int(f"{name}_MINUEND", difference.minuend),
            _int(f"{name}_SUBTRAHEND", difference.subtrahend),
            _float(f"{name}_SCALE", chroma.scale * difference.factor / unit),
        ]
    for name, grid in (("X", x), ("Y", y)):
        begin, taps = _low_pass(grid)
        constants += [
            _int(f"{name}_BEGIN", begin),
            _int(f"{name}_COUNT", len(taps)),
            _table("float", f"{name}_WEIGHTS", [len(taps)], taps),
        ]
    return [
        *_chroma_places(target, components),
        _float("LUMA_OFFSET", luma.offset),
        _float("LUMA_SCALE", luma.scale),
        _float("CHROMA_OFFSET", chroma.offset),
        *constants,
    ]


def _chroma_places(surface: SurfaceDescriptor, components: tuple[Component, ...]) -> list[str]:
    _, cb, cr = components
    return [
        _int("FACTOR_X", 1 << surface.pixel_format.chroma_shift_x),
        _int("FACTOR_Y", 1 << surface.pixel_format.chroma_shift_y),
        f"constexpr bool INTERLEAVED = {str(cb.plane == cr.plane).lower()};",
        _int("CB_AT", cb.offset // cb.dtype.itemsize),
        _int("CR_AT", cr.offset // cr.dtype.itemsize),
    ]


def _interpolation(axis: str, grid: Grid) -> list[str]:
    """The kernels of all phases, as rows of one table that begin with the same sample."""
    kernels, _ = interpolation(grid)
    first = min(kernel.start for kernel in kernels)
    span = max(kernel.start + len(kernel.taps) for kernel in kernels) - first

    def row(kernel: Kernel) -> list[int]:
        before = kernel.start - first
        return [*[0] * before, *kernel.taps, *[0] * (span - before - len(kernel.taps))]

    return [
        _int(f"{axis}_FIRST", first),
        _int(f"{axis}_SPAN", span),
        _table("float", f"{axis}_WEIGHTS", [grid.factor, span], [tap for kernel in kernels for tap in row(kernel)]),
        _table("int", f"{axis}_BEGINS", [grid.factor], [kernel.start - first for kernel in kernels]),
    ]


def _low_pass(grid: Grid) -> tuple[int, list[int]]:
    """Where decimation's weights begin, in luma samples from the group's first, and what they are."""
    sums, begin = decimation(grid)
    box = np.ones(grid.factor, int)
    taps = box
    for _ in range(sums - 1):
        taps = np.convolve(taps, box)
    return begin, taps.tolist()


def _made(
    kernel: str, constants: list[str], surface: SurfaceDescriptor, components: tuple[Component, ...], tile: Tile
) -> Specialisation:
    shared = ["access.cuh"] if kernel.endswith("tensor") else ["access.cuh", "codes.cuh"]
    if kernel == "tensor_to_yuv":
        shared.append("yuv_codes.cuh")
    text = ["\n".join(constants), *map(_text, shared), _text(f"{kernel}.cu")]
    order = [component.plane for component in components]
    if holds_gbr(surface.color, surface.pixel_format) and len(components) == 3:
        order = [order[2], order[0], order[1]]
    return Specialisation(
        name=constants[0].split()[-1],
        body="\n".join(text),
        pixels=tile.pixels,
        lines=tile.groups << surface.pixel_format.chroma_shift_y,
        planes=tuple(order),
    )


@cache
def _text(name: str) -> str:
    return resources.files("rave_trio.color.cuda").joinpath("kernels", name).read_text("utf-8")


def _int(name: str, value: int) -> str:
    return f"constexpr int {name} = {value};"


def _float(name: str, value: float) -> str:
    return f"constexpr float {name} = {_literal(value)};"


def _table(kind: str, name: str, sizes: list[int], values: Iterable[int]) -> str:
    shape = "".join(f"[{size}]" for size in sizes)
    rows = list(values)
    if len(sizes) == 1:
        inner = ", ".join(map(str, rows))
    else:
        inner = ", ".join(
            "{" + ", ".join(map(str, rows[i : i + sizes[1]])) + "}" for i in range(0, len(rows), sizes[1])
        )
    return f"__device__ constexpr {kind} {name}{shape} = {{{inner}}};"


def _literal(value: float) -> str:
    """Rounded to float32 once, here."""
    return f"{float(np.float32(value)).hex()}f"
