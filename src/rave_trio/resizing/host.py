"""Lanczos-3 on the CPU: each axis as products with the few rows of a banded matrix that are not all zero."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from rave_trio.frames import Frame, Tensor
from rave_trio.memory import HostPool
from rave_trio.resizing import RESIZER_DEPTH
from rave_trio.resizing.lanczos import Taps, taps

Floats = npt.NDArray[np.float32]

BLOCK = 32
"""Output samples that share one product: more make it larger, fewer make more of it count."""


class Lanczos:
    """Planes of one size to another, in float32.  Stateless once made; any thread."""

    def __init__(self, source: tuple[int, int], target: tuple[int, int]) -> None:
        """Sizes are height x width."""
        self.target = target
        self._rows = _bands(taps(source[0], target[0])) if source[0] != target[0] else None
        self._columns = _bands(taps(source[1], target[1])) if source[1] != target[1] else None

    def plane(self, source: Floats, target: Floats) -> None:
        """Fill ``target`` from ``source``, both height x width."""
        between = source
        if self._rows is not None:
            between = target if self._columns is None else np.empty((self.target[0], source.shape[1]), np.float32)
            for start, low, matrix in self._rows:
                np.matmul(matrix, source[low : low + matrix.shape[1]], out=between[start : start + len(matrix)])
        if self._columns is not None:
            for start, low, matrix in self._columns:
                target[:, start : start + len(matrix)] = between[:, low : low + matrix.shape[1]] @ matrix.T
        elif between is source:
            np.copyto(target, source)


def _bands(axis: Taps) -> list[tuple[int, int, Floats]]:
    """Blocks of the matrix: the first output sample, the first input sample, and the weights between theirs."""
    blocks = []
    reached = axis.first[:, np.newaxis] + np.arange(axis.weights.shape[1])
    places = np.clip(reached, 0, axis.source - 1)
    for start in range(0, len(places), BLOCK):
        block = places[start : start + BLOCK]
        low = int(block.min())
        matrix = np.zeros((len(block), int(block.max()) - low + 1))
        rows = np.broadcast_to(np.arange(len(block))[:, np.newaxis], block.shape)
        np.add.at(matrix, (rows, block - low), axis.weights[start : start + BLOCK])
        blocks.append((start, low, matrix.astype(np.float32)))
    return blocks


class HostResizer:
    """Frames with tensors in (C x H x W float32), the same frames in another size out, in order.

    Like a model's backend: a frame is the resizer's from :meth:`submit` until :meth:`collect` has computed it.  One
    caller at a time, from any thread.
    """

    depth = RESIZER_DEPTH

    def __init__(self, source: tuple[int, int], target: tuple[int, int], pool: HostPool) -> None:
        """Sizes are height x width; results are leased from ``pool``."""
        self._lanczos = Lanczos(source, target)
        self._pool = pool
        self._frames: deque[Frame] = deque()

    def submit(self, frame: Frame) -> None:
        """Take a frame."""
        self._frames.append(frame)

    def collect(self) -> Frame:
        """The oldest frame, resized.  Raises OutOfMemory; the frame is closed then."""
        frame = self._frames.popleft()
        try:
            source = frame.tensor
            shape = (source.shape[0], *self._lanczos.target)
            lease = self._pool.lease(4 * shape[0] * shape[1] * shape[2])
            result = Tensor(lease.array(shape, np.float32), lease)
        except BaseException:
            frame.close()
            raise
        try:
            for before, after in zip(source, result.array, strict=True):
                self._lanczos.plane(before, after)
        except BaseException:
            result.close()
            frame.close()
            raise
        return frame.become(result)

    def close(self) -> None:
        """Drop every frame that was not collected.  Idempotent."""
        while self._frames:
            self._frames.popleft().close()
