"""Cutting tiles out of a picture in a device's memory, and putting their results together there.

All is done by copies of rectangles on a stream: nothing is read by the host.
"""

from __future__ import annotations

from typing import Protocol

from rave_trio.devices.arrays import DeviceArray
from rave_trio.devices.interface import Stream
from rave_trio.inference.tiling import Tile


class Copy(Protocol):
    """Copies one rectangle on a stream: two arrays of one shape (rows x columns) and dtype, each of its own pitch."""

    def __call__(self, stream: Stream, source: DeviceArray, target: DeviceArray, /) -> None: ...


def part(array: DeviceArray, plane: int, rows: tuple[int, int], columns: tuple[int, int]) -> DeviceArray:
    """A rectangle of one plane of ``array`` (C x H x W): from the first of ``rows`` up to, not with, the second."""
    (top, bottom), (left, right) = rows, columns
    return DeviceArray(
        array.memory,
        (bottom - top, right - left),
        array.dtype,
        offset=array.offset + (plane * array.shape[1] + top) * array.pitch + left * array.dtype.itemsize,
        pitch=array.pitch,
    )


def planes(array: DeviceArray, first: int, count: int) -> DeviceArray:
    """Some planes of ``array`` (C x H x W)."""
    _, height, width = array.shape
    offset = array.offset + first * height * array.pitch
    return DeviceArray(array.memory, (count, height, width), array.dtype, offset=offset, pitch=array.pitch)


def stacked(array: DeviceArray, count: int) -> DeviceArray:
    """``array`` (count * C x H x W) as pictures, count x C x H x W."""
    channels, height, width = array.shape
    shape = (count, channels // count, height, width)
    return DeviceArray(array.memory, shape, array.dtype, offset=array.offset, pitch=array.pitch)


def cut(copy: Copy, stream: Stream, picture: DeviceArray, tile: Tile, target: DeviceArray) -> None:
    """Fill ``target`` (C x h x w) with a tile of ``picture`` (C x H x W); beyond the picture its edge is repeated.

    Beyond the edge each copy doubles what is there already, so a few are enough.  A tile that is all of the picture is
    one copy.
    """
    if picture.shape == target.shape:
        copy(stream, _rows(picture), _rows(target))
        return
    channels, height, width = target.shape
    rows = min(height, picture.shape[1] - tile.rows.start)
    columns = min(width, picture.shape[2] - tile.columns.start)
    for plane in range(channels):
        top, left = tile.rows.start, tile.columns.start
        source = part(picture, plane, (top, top + rows), (left, left + columns))
        copy(stream, source, part(target, plane, (0, rows), (0, columns)))
        for done, more in _doublings(columns, width):
            source = part(target, plane, (0, rows), (columns - 1, columns - 1 + more))
            copy(stream, source, part(target, plane, (0, rows), (done, done + more)))
        for done, more in _doublings(rows, height):
            source = part(target, plane, (rows - 1, rows - 1 + more), (0, width))
            copy(stream, source, part(target, plane, (done, done + more), (0, width)))


def paste(copy: Copy, stream: Stream, result: DeviceArray, tile: Tile, picture: DeviceArray, scale: int) -> None:
    """Put what counts of a tile's ``result`` (C x h*scale x w*scale) in its place in ``picture`` (C x H x W)."""
    if result.shape == picture.shape:
        copy(stream, _rows(result), _rows(picture))
        return
    rows, columns = tile.rows, tile.columns
    for plane in range(result.shape[0]):
        source = part(
            result,
            plane,
            ((rows.keep - rows.start) * scale, (rows.end - rows.start) * scale),
            ((columns.keep - columns.start) * scale, (columns.end - columns.start) * scale),
        )
        target = part(
            picture, plane, (rows.keep * scale, rows.end * scale), (columns.keep * scale, columns.end * scale)
        )
        copy(stream, source, target)


def _rows(array: DeviceArray) -> DeviceArray:
    """The rows of all planes, which follow one another, as one rectangle."""
    return DeviceArray(array.memory, (array.rows, array.shape[-1]), array.dtype, offset=array.offset, pitch=array.pitch)


def _doublings(done: int, wanted: int) -> list[tuple[int, int]]:
    """How one row or column becomes all that are wanting: (where, how many), each time at most as many as are there."""
    steps, there = [], 1
    while done < wanted:
        more = min(there, wanted - done)
        steps.append((done, more))
        done, there = done + more, there + more
    return steps
