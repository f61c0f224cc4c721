"""The reference for the room's tests: ITU-T H.273 in float64, sample by sample, written for reading."""

from __future__ import annotations

import numpy as np

from rave_trio.frames import ChromaLocation, ColorRange, ColorSpec, SurfaceDescriptor
from rave_trio.media._libav import describe_format

KR_KB = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
"""ITU-T H.273, table 4."""

LEFT = ("LEFT", "TOP_LEFT", "BOTTOM_LEFT", "UNSPECIFIED")


def forward(matrix: int) -> np.ndarray:
    """3 x 3: R, G, B to the numbers that planes Y, Cb and Cr stand for."""
    if matrix == 0:
        return np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    if matrix == 8:
        return np.array([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0, -0.5]])
    kr, kb = KR_KB[matrix]
    y = np.array([kr, 1 - kr - kb, kb])
    return np.array([y, ([0, 0, 1] - y) / (2 * (1 - kb)), ([1, 0, 0] - y) / (2 * (1 - kr))])


def steps(matrix: int, full: bool, bits: int) -> list[tuple[float, float]]:
    """For each plane, how many codes make 1 and which code is 0."""
    unit = 2 ** (bits - 8)
    luma = (2**bits - 1, 0) if full else (219 * unit, 16 * unit)
    if matrix == 0:
        return [luma] * 3
    middle = 2 ** (bits - 1)
    chroma = (2**bits - 1, middle) if full else ((219 if matrix == 8 else 224) * unit, middle)
    return [luma, chroma, chroma]


def grid(surface: SurfaceDescriptor) -> tuple[tuple[int, float], tuple[int, float]]:
    """Factor and position of the first chroma sample, down and across."""
    where = surface.color.chroma_location.name
    down, across = 1 << surface.pixel_format.chroma_shift_y, 1 << surface.pixel_format.chroma_shift_x
    first_line = 0 if "TOP" in where else down - 1 if "BOTTOM" in where else (down - 1) / 2
    first_column = 0 if where in LEFT else (across - 1) / 2
    return (down, first_line), (across, first_column)


def upsample(plane: np.ndarray, size: int, factor: int, first: float, axis: int) -> np.ndarray:
    """Along one axis: the cubic Hermite spline through the samples, with the slopes between their neighbours."""
    at = (np.arange(size) - first) / factor
    k = np.floor(at).astype(int)
    t = (at - k).reshape(-1, 1) if axis == 0 else at - k
    a, b, c, d = (np.take(plane, np.clip(k + j, 0, plane.shape[axis] - 1), axis) for j in (-1, 0, 1, 2))
    slope_b, slope_c = (c - a) / 2, (d - b) / 2
    return (
        (2 * t**3 - 3 * t**2 + 1) * b
        + (t**3 - 2 * t**2 + t) * slope_b
        + (-2 * t**3 + 3 * t**2) * c
        + (t**3 - t**2) * slope_c
    )


def downsample(plane: np.ndarray, factor: int, first: float, axis: int) -> np.ndarray:
    """Along one axis: the mean of a group where chroma lies midway, a triangle around it where it lies on a sample."""
    size = plane.shape[axis]
    columns = []
    for k in range(-(-size // factor)):
        center = factor * k + first
        reach = range(int(np.ceil(center - factor + 1e-9)), int(np.floor(center + factor - 1e-9)) + 1)
        if first == int(first):
            weights = {i: factor - abs(i - center) for i in reach}
        else:
            weights = {i: 1.0 for i in reach if abs(i - center) < factor / 2}
        total = sum(w * np.take(plane, min(max(i, 0), size - 1), axis) for i, w in weights.items())
        columns.append(total / sum(weights.values()))
    return np.stack(columns, axis)


class Reference:
    """What the converters should do; code values are arrays of integers, one for each plane."""

    KR_KB = KR_KB

    @staticmethod
    def descriptor(name, width, height, matrix=1, full=None, location="UNSPECIFIED") -> SurfaceDescriptor:
        range_ = ColorRange.UNSPECIFIED if full is None else ColorRange.FULL if full else ColorRange.LIMITED
        color = ColorSpec(matrix=matrix, range=range_, chroma_location=ChromaLocation[location])
        return SurfaceDescriptor(width, height, describe_format(name), color)

    @staticmethod
    def to_rgb(codes, surface) -> np.ndarray:
        """3 x H x W of planar YUV or grey."""
        full = surface.color.range == ColorRange.FULL
        matrix, bits = surface.color.matrix, surface.pixel_format.bit_depth
        values = [
            (c.astype(float) - zero) / one for c, (one, zero) in zip(codes, steps(matrix, full, bits), strict=False)
        ]
        if len(values) == 1:
            return np.stack(values * 3)
        down, across = grid(surface)
        for i in (1, 2):
            values[i] = upsample(upsample(values[i], surface.height, *down, 0), surface.width, *across, 1)
        return np.einsum("ij,jyx->iyx", np.linalg.inv(forward(matrix)), np.stack(values))

    @staticmethod
    def to_codes(rgb, surface) -> list[np.ndarray]:
        """The planes of YUV or grey, neither rounded nor clipped."""
        full = surface.color.range == ColorRange.FULL
        matrix, bits = surface.color.matrix, surface.pixel_format.bit_depth
        planes = list(np.einsum("ij,jyx->iyx", forward(matrix), rgb.astype(float)))
        if surface.pixel_format.is_grey:
            planes = planes[:1]
        down, across = grid(surface)
        for i in range(1, len(planes)):
            planes[i] = downsample(downsample(planes[i], *down, 0), *across, 1)
        return [one * p + zero for p, (one, zero) in zip(planes, steps(matrix, full, bits), strict=False)]

    @staticmethod
    def shapes(surface) -> list[tuple[int, int]]:
        """Height and width of each plane."""
        layout = surface.pixel_format
        chroma = -(-surface.height >> layout.chroma_shift_y), -(-surface.width >> layout.chroma_shift_x)
        whole = surface.height, surface.width
        return [whole] if layout.is_grey else [whole, chroma, chroma]
