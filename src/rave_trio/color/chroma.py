"""Chroma between its own resolution and that of luma, with regard to where its samples lie.

Positions are counted in luma samples: chroma sample k lies at ``factor * k + offset`` (:class:`Grid`).  Edges are
continued by repeating the outermost sample.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import attrs
import numpy as np
from numpy.lib.stride_tricks import as_strided

from rave_trio.color.levels import Levels
from rave_trio.color.samples import Array, Floats, Samples
from rave_trio.frames import ChromaLocation, ColorSpec, PixelFormat

AT_TOP = (ChromaLocation.TOP_LEFT, ChromaLocation.TOP)
AT_BOTTOM = (ChromaLocation.BOTTOM_LEFT, ChromaLocation.BOTTOM)
AT_LEFT = (ChromaLocation.LEFT, ChromaLocation.TOP_LEFT, ChromaLocation.BOTTOM_LEFT)

MARGIN = 2
"""Chroma samples that interpolation needs beyond those that its output covers, on every side."""


@attrs.frozen
class Grid:
    """How chroma samples lie among luma samples, along one axis."""

    factor: int
    """Luma samples for each chroma sample."""
    offset: Fraction
    """Where the first chroma sample lies, in luma samples."""

    def size(self, luma: int) -> int:
        """Chroma samples for ``luma`` luma samples."""
        return -(-luma // self.factor)


def grids_of(color: ColorSpec, pixel_format: PixelFormat) -> tuple[Grid, Grid]:
    """The grids along x and y.

    As its location says, chroma lies with the leftmost luma sample of its group or midway between all of them; with the
    first line, the last line or midway (H.273, Chroma420SampleLocType, extended here from 4:2:0 to any factor).
    Untagged is left: with the leftmost luma sample, midway between lines.
    """
    location = color.chroma_location
    if location == ChromaLocation.UNSPECIFIED:
        location = ChromaLocation.LEFT
    wide, high = 1 << pixel_format.chroma_shift_x, 1 << pixel_format.chroma_shift_y
    x = Fraction(0) if location in AT_LEFT else Fraction(wide - 1, 2)
    y = Fraction(0) if location in AT_TOP else Fraction(high - 1, 1 if location in AT_BOTTOM else 2)
    return Grid(wide, x), Grid(high, y)


@attrs.frozen
class Kernel:
    """Weights of consecutive samples, the first of them ``start`` samples on, in whole numbers of some common unit."""

    start: int
    taps: tuple[int, ...]


@cache
def interpolation(grid: Grid) -> tuple[tuple[Kernel, ...], int]:
    """A kernel for each luma sample of a group, from chroma samples counted from the group's own; and their unit.

    Catmull-Rom: the cubic through the two nearest samples whose slope there is that between their neighbours.
    The weights are whole numbers of 1/unit and unit is a power of two, so they can be applied to integers.
    """
    exact = []
    for phase in range(grid.factor):
        at = (phase - grid.offset) / grid.factor
        whole = math.floor(at)
        t = at - whole
        weights = (
            (-t + 2 * t**2 - t**3) / 2,
            (2 - 5 * t**2 + 3 * t**3) / 2,
            (t + 4 * t**2 - 3 * t**3) / 2,
            (-(t**2) + t**3) / 2,
        )
        exact.append((whole - 1, weights) if t else (whole, (Fraction(1),)))
    unit = math.lcm(*(weight.denominator for _, weights in exact for weight in weights))
    return tuple(Kernel(start, tuple(int(unit * w) for w in weights)) for start, weights in exact), unit


def decimation(grid: Grid) -> tuple[int, int]:
    """How many running sums over ``factor`` luma samples make a chroma sample, and where the first of them begins.

    One (a box) where chroma lies midway, two (a triangle: 1 2 1 for a factor of two) where it lies on a luma sample:
    the shortest low-passes that are symmetric about it.
    """
    if grid.offset.denominator == 1:
        return 2, int(grid.offset) - (grid.factor - 1)
    return 1, 0


class Upsampler:
    """Both chroma planes to luma's resolution, strip after strip.  Keeps scratch memory; one caller at a time."""

    def __init__(self, x: Grid, y: Grid, levels: tuple[Levels, Levels], bits: int, width: int, lines: int) -> None:
        """For pictures ``width`` luma samples wide, in strips of ``lines`` lines, a multiple of the y factor.

        ``levels`` are those of Cb and of Cr, which have the same offset; ``bits`` is their depth.
        """
        self._x, self._y = x, y
        self._offset = levels[0].offset
        self._scales = np.array([1 / level.scale for level in levels], np.float32)[:, np.newaxis, np.newaxis]
        self._across = x.size(width)
        self._groups = lines // y.factor
        rows = self._groups + 2 * MARGIN
        if x.factor > 1:
            shape = 2, rows, self._across + 2 * MARGIN
            kernels, _ = interpolation(x)
            largest = max(sum(map(abs, kernel.taps)) for kernel in kernels) << (bits - 1)
            self._padded: Array = np.empty(shape, np.int16 if largest < 1 << 15 else np.float32)
            self._total = np.empty_like(self._padded)
            self._products = {weight: np.empty_like(self._padded).reshape(-1) for weight in _weights(x)}
        if y.factor > 1:
            self._wide = np.empty((2, rows, width), np.float32)

    def strip(self, chroma: tuple[Samples, Samples], start: int, out: Floats) -> None:
        """Fill ``out``, 2 x lines x width, with Cb and Cr as numbers, from line ``start`` on.

        A picture's strips must be asked for one after the other, from the top.
        """
        first, groups = start // self._y.factor, self._y.size(out.shape[1])
        if self._y.factor == 1:
            self._widen(chroma, first, out)
            return
        wide = self._wide[:, : groups + 2 * MARGIN]
        done = 2 * MARGIN if start else 0
        wide[:, :done] = self._wide[:, self._groups : self._groups + done]
        self._widen(chroma, first - MARGIN + done, wide[:, done:])
        self._heighten(wide, out)

    def _widen(self, chroma: tuple[Samples, Samples], first: int, out: Floats) -> None:
        """Chroma rows ``first`` on at luma's width; those beyond the picture's edges repeat the outermost."""
        height = chroma[0].shape[0]
        begin = min(max(first, 0), height - 1)
        end = max(min(first + out.shape[1], height), begin + 1)
        top = max(begin - first, 0)
        here = out[:, top : top + end - begin]
        if self._x.factor == 1:
            for samples, plane in zip(chroma, here, strict=True):
                np.copyto(plane, samples.rows(begin, end), casting="unsafe")
            np.subtract(here, self._offset, out=here)
            np.multiply(here, self._scales, out=here)
        else:
            self._interpolate(chroma, begin, end, here)
        out[:, :top] = here[:, :1]
        out[:, top + end - begin :] = here[:, -1:]

    def _interpolate(self, chroma: tuple[Samples, Samples], begin: int, end: int, out: Floats) -> None:
        # All rows of both planes are one long row here: what crosses their ends falls into the margins.
        size = 2 * (end - begin) * self._padded.shape[2]
        flat, total = self._padded.reshape(-1)[:size], self._total.reshape(-1)[: size - 2 * MARGIN]
        padded = flat.reshape(2, end - begin, -1)
        inner = padded[:, :, MARGIN : MARGIN + self._across]
        for samples, plane in zip(chroma, inner, strict=True):
            np.copyto(plane, samples.rows(begin, end), casting="unsafe")
        np.subtract(inner, int(self._offset), out=inner)
        padded[:, :, :MARGIN] = inner[:, :, :1]
        padded[:, :, MARGIN + self._across :] = inner[:, :, -1:]
        products = {}
        for weight, scratch in self._products.items():
            products[weight] = flat
            if weight != 1:
                products[weight] = scratch[:size]
                np.multiply(flat, weight, out=products[weight])
        kernels, unit = interpolation(self._x)
        for phase, kernel in enumerate(kernels):
            target = out[:, :, phase :: self._x.factor]
            across = target.shape[2]
            if len(kernel.taps) == 1:
                np.multiply(inner[:, :, kernel.start :][:, :, :across], self._scales, out=target)
                continue
            terms = [
                (tap, products[abs(tap)][MARGIN + kernel.start + i :][: len(total)])
                for i, tap in enumerate(kernel.taps)
            ]
            _add(terms, total)
            summed = self._total.reshape(-1)[:size].reshape(2, end - begin, -1)[:, :, :across]
            np.multiply(summed, self._scales / unit, out=target)

    def _heighten(self, wide: Floats, out: Floats) -> None:
        """Lines from rows and their margins."""
        kernels, unit = interpolation(self._y)
        plane, row, sample = wide.strides
        for phase, kernel in enumerate(kernels):
            target, first = out[:, phase :: self._y.factor], wide[:, MARGIN + kernel.start :]
            lines, width = target.shape[1:]
            rows = as_strided(first, (2, lines, len(kernel.taps), width), (plane, row, row, sample), writeable=False)
            # Not a product of matrices, which is left to as many threads as the library for it likes.
            np.einsum("t,pltx->plx", np.array(kernel.taps, np.float32) / np.float32(unit), rows, out=target)


def _weights(grid: Grid) -> list[int]:
    """What samples are multiplied with where a sum of several is wanted."""
    kernels, _ = interpolation(grid)
    return sorted({abs(tap) for kernel in kernels if len(kernel.taps) > 1 for tap in kernel.taps})


def _add(terms: list[tuple[int, Array]], out: Array) -> None:
    """The sum of two or more arrays, each with the sign of its number; at least one is positive."""
    (_, total), *others = sorted(terms, key=lambda term: -term[0])
    for tap, term in others:
        (np.add if tap > 0 else np.subtract)(total, term, out=out)
        total = out


class Downsampler:
    """Two colour differences at luma's resolution to chroma's, a strip at a time.  Keeps scratch memory.

    One caller at a time.
    """

    def __init__(self, x: Grid, y: Grid, levels: tuple[Levels, Levels], width: int, lines: int) -> None:
        """For pictures ``width`` luma samples wide, in strips of at most ``lines`` lines, a multiple of the y factor.

        ``levels`` are those of the two chroma planes, which have the same offset.
        """
        self._x, self._y = x, y
        sums = decimation(x)[0], decimation(y)[0]
        unit = x.factor ** sums[0] * y.factor ** sums[1]
        self._offset = levels[0].offset
        self._scales = np.array([level.scale / unit for level in levels], np.float32)[:, np.newaxis, np.newaxis]
        self._width, self._across = width, x.size(width)
        self._left, right = _reach(x)
        self.above, self.below = _reach(y)
        """Lines that are needed before and after those of a strip."""
        columns = self._left + self._across * x.factor + right
        groups = lines // y.factor
        self._field = np.empty((2, self.above + lines + self.below, columns), np.float32)
        self._sums = np.empty((2, 2 * groups * columns), np.float32)
        self._chroma = np.empty((2, groups, self._across), np.float32)

    def strip(self, pairs: list[tuple[Floats, Floats]], above: int, groups: int) -> Floats:
        """2 x ``groups`` x chroma width: code values, not rounded, of the difference of each of the two pairs.

        All have luma's width and the strip's lines with ``above`` more before them; lines that are missing there or at
        the end are beyond the picture's edge.  The result is scratch memory, good until the next call.
        """
        whole = self._field[:, : self.above + groups * self._y.factor + self.below]
        top = self.above - above
        lines = len(pairs[0][0])
        here = whole[:, top : top + lines]
        inner = here[:, :, self._left : self._left + self._width]
        for (minuend, subtrahend), plane in zip(pairs, inner, strict=True):
            np.subtract(minuend, subtrahend, out=plane)
        here[:, :, : self._left] = inner[:, :, :1]
        here[:, :, self._left + self._width :] = inner[:, :, -1:]
        whole[:, :top] = here[:, :1]
        whole[:, top + lines :] = here[:, -1:]
        rows = self._add_rows(whole, groups)
        sums, begin = decimation(self._x)
        added = self._add_columns(rows, sums)[:, :, self._left + begin :: self._x.factor][:, :, : self._across]
        chroma = self._chroma[:, :groups]
        np.multiply(added, self._scales, out=chroma)
        np.add(chroma, self._offset, out=chroma)
        return chroma

    def _add_rows(self, whole: Floats, groups: int) -> Floats:
        factor = self._y.factor
        sums, begin = decimation(self._y)
        if factor == 1:
            return whole
        box = [1] * factor
        taps = box if sums == 1 else [min(i + 1, 2 * factor - 1 - i) for i in range(2 * factor - 1)]
        rows = [whole[:, self.above + begin + i :: factor][:, :groups] for i in range(len(taps))]
        shape = rows[0].shape
        scratch, product = (s[: math.prod(shape)].reshape(shape) for s in self._sums)
        total = rows[0]
        for tap, row in zip(taps[1:], rows[1:], strict=True):
            term = row if tap == 1 else np.multiply(row, tap, out=product)
            total = np.add(total, term, out=scratch)
        return total

    def _add_columns(self, rows: Floats, sums: int) -> Floats:
        """At each column the sum over as many columns as the factor, from there on; ``sums`` times over."""
        # All rows of both planes are one long row here: what crosses their ends is not used.
        if self._x.factor == 1:
            return rows
        if not rows.flags.c_contiguous:
            scratch = self._sums[0][: rows.size].reshape(rows.shape)
            np.copyto(scratch, rows)
            rows = scratch
        total, spare = rows.reshape(-1), self._sums[1][: rows.size]
        for _ in range(sums):
            distance = 1
            while distance < self._x.factor:
                np.add(total[:-distance], total[distance:], out=spare[:-distance])
                total, spare = spare, total
                distance *= 2
        return total.reshape(rows.shape)


def _reach(grid: Grid) -> tuple[int, int]:
    """How many luma samples decimation needs before and after its groups."""
    sums, begin = decimation(grid)
    return -begin, begin + sums * (grid.factor - 1) + 1 - grid.factor
