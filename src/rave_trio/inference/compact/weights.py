"""A network's parameters as kernels read them: see :mod:`rave_trio.inference.compact.kernels_protocol`.

In fp8 each channel of what a layer hands on is divided by its scale s, so that it fits into e4m3.  With
inputs x / s(in) and weights w * s(in) / u, u being of each output, sums come out u times too small; multiplied by
u / s(out), with the bias divided by s(out), they are the outputs divided by theirs, since the activation function is
positively homogeneous.  So scales change nothing but what rounding does.  They are negative where a slope is more than
1: see :class:`rave_trio.inference.compact.kernels_protocol.Parameters`.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from rave_trio.inference.compact import e4m3
from rave_trio.inference.compact.calibration import Calibration, reordered
from rave_trio.inference.compact.kernels_protocol import (
    HEAD_STEPS,
    PLANES,
    REMAINING,
    REMAINING_CHANNELS,
    TAPS,
    Parameters,
)
from rave_trio.inference.compact.net import CompactNet, Floats, Layer
from rave_trio.inference.compact.strips import aligned
from rave_trio.inference.compact.sums import summed

HANDED_ON = 0.6
"""Of the error of a rounded tap, to the next one."""

UNITS = 8
"""Tried for the weights of each output."""

HALF_ROOM = 2.0**15
"""Weights in fp16 that are divided by scales stay below."""


@attrs.frozen
class _Pieces:
    """One layer's, as they are to lie in memory."""

    weights: npt.NDArray[Any]
    bias: Floats
    slope: Floats
    scale: Floats | None = None
    """None where fp16 is read."""
    remains: bool = False

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        return tuple(each for each in (self.weights, self.bias, self.slope, self.scale) if each is not None)


@attrs.frozen(eq=False)
class Packed:
    """All parameters in one piece of memory."""

    data: npt.NDArray[np.uint8]
    _layers: tuple[tuple[tuple[int, ...], bool], ...]
    """Of each layer where its pieces lie, in bytes, and whether it has to do with remainders."""

    def at(self, base: int) -> tuple[Parameters, ...]:
        """The addresses of each layer's, if the piece lies at ``base``, a multiple of 256 bytes."""
        return tuple(_parameters([base + place for place in places], remains) for places, remains in self._layers)


def _parameters(addresses: list[int], remains: bool) -> Parameters:
    weights, bias, slope, scale = (*addresses, 0)[:4]
    return Parameters(weights, bias, slope, scale, remains)


def packed(net: CompactNet, calibration: Calibration | None = None, *, resized: bool = False) -> Packed:
    """In fp16, bias and slopes in fp32, padded as the architecture says.  Weights beyond fp16 become its largest.

    With a ``calibration`` it is in fp8.  With ``resized`` the tail's are for
    :meth:`~rave_trio.inference.compact.kernels_protocol.KernelSet.tail_resized`.
    """
    if calibration is not None:
        net = reordered(net, calibration.order)
    if resized:
        net = attrs.evolve(net, layers=(*net.layers[:-1], summed(net.layers[-1], net.architecture)))
    layers = _halves(net) if calibration is None else _eighths(net, calibration)
    arrays, places = [], []
    size = 0
    for pieces in layers:
        own = []
        for array in pieces.arrays:
            arrays.append((size, array))
            own.append(size)
            size += aligned(array.nbytes)
        places.append((tuple(own), pieces.remains))
    data = np.zeros(size, np.uint8)
    for offset, array in arrays:
        data[offset : offset + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return Packed(data, tuple(places))


def _halves(net: CompactNet) -> list[_Pieces]:
    features, outputs = net.architecture.features, net.architecture.outputs
    head, *trunk, tail = net.layers
    between = [_half(_taps(layer, features, features), layer) for layer in trunk]
    return [_half(_head(head, features), head), *between, _half(_taps(tail, outputs, features), tail)]


def _eighths(net: CompactNet, calibration: Calibration) -> list[_Pieces]:
    """In fp8: the head and the weights of the trunk's first layer in fp16."""
    features, outputs = net.architecture.features, net.architecture.outputs
    head, *trunk, tail = net.layers
    if not trunk:
        raise ValueError("a network without a trunk cannot be in fp8")
    scales = [
        np.where(_slopes(layer) > 1, -each[calibration.order], each[calibration.order])
        for layer, each in zip(trunk, calibration.scales, strict=True)
    ]
    energies = [energy[calibration.order] for energy in calibration.energies]
    first, *others = trunk
    steepest = np.abs(first.weights).max(axis=(1, 2, 3)) / HALF_ROOM
    least = np.exp2(np.ceil(np.log2(np.maximum(steepest, np.finfo(np.float32).tiny))))
    read = np.copysign(np.maximum(np.abs(scales[0]), least), scales[0])
    across = read[:, np.newaxis, np.newaxis, np.newaxis]
    divided = attrs.evolve(first, weights=first.weights / across, bias=first.bias / read)
    between = [_half(_taps(divided, features, features), divided)]
    own = np.arange(len(read))[REMAINING_CHANNELS]
    for layer, written, energy in zip(others, scales[1:], energies[:-1], strict=True):
        through = _row(layer.weights[own, own, 1, 1] * read[own] / written[own], REMAINING)
        between.append(_eighth(layer, read, written, energy, features, features, through))
        read = written
    between = [*(attrs.evolve(each, remains=True) for each in between[:-1]), between[-1]]
    ones = np.ones(len(tail.bias), np.float32)
    last = _eighth(tail, read, ones, energies[-1], outputs, features)
    return [_half(_head(head, features), head), *between, last]


def _eighth(
    layer: Layer,
    read: Floats,
    written: Floats,
    energy: npt.NDArray[Any],
    outputs: int,
    features: int,
    through: Floats | None = None,
) -> _Pieces:
    """A layer that reads e4m3, of inputs with these scales and mean squares; ``through`` is for remainders."""
    weights = layer.weights * read[:, np.newaxis, np.newaxis]
    units = _units(weights, energy / np.square(read))
    rounded = attrs.evolve(layer, weights=_rounded(weights / units[:, np.newaxis, np.newaxis, np.newaxis]))
    return _Pieces(
        e4m3.encoded(_taps(rounded, outputs, features)),
        _row(layer.bias / written, outputs),
        _row(_slopes(layer), outputs),
        np.concatenate([_row(units / written, outputs), *([] if through is None else [through])]),
    )


def _units(weights: Floats, energy: npt.NDArray[Any]) -> Floats:
    """What the weights of each output are divided by: of UNITS from where the largest fills e4m3 to half of that, the
    one with which rounding adds least to the output."""
    weights = np.nan_to_num(weights)
    filling = np.abs(weights).max(axis=(1, 2, 3)) / e4m3.LARGEST
    filling = np.where(filling > 0, filling, 1)
    tried = [filling * 2 ** (at / UNITS) for at in range(UNITS)]
    errors = []
    for units in tried:
        across = units[:, np.newaxis, np.newaxis, np.newaxis]
        more = e4m3.rounded(weights / across) * across - weights
        errors.append((np.square(more).sum(axis=(2, 3)) + np.square(more.sum(axis=(2, 3)))) @ energy)
    best = np.argmin(errors, axis=0)
    result: Floats = np.array(tried)[best, np.arange(len(weights))].astype(np.float32)
    return result


def _rounded(weights: Floats) -> Floats:
    """To numbers of e4m3, tap after tap from the largest on, each with a part of the error that is left from the one
    before: so taps together, which is what flat areas are made of, are rounded less than each."""
    taps = weights.reshape(*weights.shape[:2], TAPS).astype(np.float64)
    order = np.argsort(-np.abs(taps), axis=2, kind="stable")
    left = np.zeros(taps.shape[:2])
    for at in np.moveaxis(order, 2, 0)[..., np.newaxis]:
        wanted = np.take_along_axis(taps, at, 2)[..., 0] + HANDED_ON * left
        numbers = e4m3.rounded(np.nan_to_num(wanted))
        left = wanted - numbers
        np.put_along_axis(taps, at, numbers[..., np.newaxis], 2)
    return taps.reshape(weights.shape).astype(np.float32)


def _half(weights: Floats, layer: Layer) -> _Pieces:
    """A layer that reads fp16, its weights laid out."""
    largest = np.finfo(np.float16).max
    halves = np.clip(weights, -largest, largest).astype(np.float16)
    width = len(weights) if weights.ndim == 2 else weights.shape[1]
    return _Pieces(halves, _row(layer.bias, width), _row(_slopes(layer), width))


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


def _row(values: npt.NDArray[Any], width: int) -> Floats:
    return np.pad(values.astype(np.float32), (0, width - len(values)))
