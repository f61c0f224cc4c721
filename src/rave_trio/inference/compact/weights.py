"""A network's parameters as kernels read them: see :mod:`rave_trio.inference.compact.kernels_protocol`."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from rave_trio.inference.compact.kernels_protocol import HEAD_STEPS, PLANES, TAPS, Parameters
from rave_trio.inference.compact.net import CompactNet, Floats, Layer
from rave_trio.inference.compact.strips import aligned
from rave_trio.inference.compact.sums import summed


@attrs.frozen(eq=False)
class Packed:
    """All parameters in one piece of memory."""

    data: npt.NDArray[np.uint8]
    _offsets: tuple[tuple[int, int, int], ...]
    """Of weights, bias and slope of each layer, in bytes."""

    def at(self, base: int) -> tuple[Parameters, ...]:
        """The addresses of each layer's, if the piece lies at ``base``, a multiple of 256 bytes."""
        return tuple(Parameters(base + weights, base + bias, base + slope) for weights, bias, slope in self._offsets)


def packed(net: CompactNet, *, resized: bool = False) -> Packed:
    """In fp16, bias and slopes in fp32, padded as the architecture says.  Weights beyond fp16 become its largest.

    With ``resized`` the tail's are for :meth:`~rave_trio.inference.compact.kernels_protocol.KernelSet.tail_resized`.
    """
    features, outputs = net.architecture.features, net.architecture.outputs
    head, *trunk, tail = net.layers
    if resized:
        tail = summed(tail, net.architecture)
    pieces: list[npt.NDArray[Any]] = []
    offsets = []
    size = 0
    for weights, layer, width in (
        (_head(head, features), head, features),
        *((_taps(layer, features, features), layer, features) for layer in trunk),
        (_taps(tail, outputs, features), tail, outputs),
    ):
        places = []
        for piece in (_half(weights), _row(layer.bias, width), _row(_slopes(layer), width)):
            places.append(size)
            pieces.append(piece)
            size += aligned(piece.nbytes)
        offsets.append((places[0], places[1], places[2]))
    data = np.zeros(size, np.uint8)
    for piece, offset in zip(pieces, (place for places in offsets for place in places), strict=True):
        data[offset : offset + piece.nbytes] = piece.reshape(-1).view(np.uint8)
    return Packed(data, tuple(offsets))


def _head(layer: Layer, features: int) -> Floats:
    """[features][32], of which 27 are taps x planes."""
    weights = np.zeros((features, HEAD_STEPS), np.float32)
    weights[: len(layer.bias), : TAPS * PLANES] = layer.weights.transpose(0, 2, 3, 1).reshape(len(layer.bias), -1)
    return weights


def _taps(layer: Layer, outputs: int, inputs: int) -> Floats:
    """[9 taps][outputs][inputs]."""
    have = layer.weights.shape
    weights = np.zeros((TAPS, outputs, inputs), np.float32)
    weights[:, : have[0], : have[1]] = layer.weights.transpose(2, 3, 0, 1).reshape(TAPS, have[0], have[1])
    return weights


def _slopes(layer: Layer) -> Floats:
    return np.zeros_like(layer.bias) if layer.slope is None else layer.slope


def _row(values: Floats, width: int) -> Floats:
    return np.pad(values.astype(np.float32), (0, width - len(values)))


def _half(weights: Floats) -> npt.NDArray[np.float16]:
    largest = np.finfo(np.float16).max
    return np.clip(weights, -largest, largest).astype(np.float16)
