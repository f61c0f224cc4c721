"""A network's parameters as kernels read them: see :mod:`rave_trio.inference.compact.kernels_protocol`.

In fp8 each channel of what a layer of the trunk hands on is divided by its scale s, so that it fits into e4m3.  With
inputs x / s(in) and weights w * s(in) / u, u being of each output, sums come out u times too small; multiplied by
u / s(out), with the bias divided by s(out), they are the outputs divided by theirs, since the activation function is
positively homogeneous.  So scales change nothing but what rounding does.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from rave_trio.inference.compact import e4m3
from rave_trio.inference.compact.calibration import Calibration, reordered
from rave_trio.inference.compact.kernels_protocol import HEAD_STEPS, PLANES, REMAINING, TAPS, Parameters
from rave_trio.inference.compact.net import CompactNet, Floats, Layer
from rave_trio.inference.compact.strips import aligned
from rave_trio.inference.compact.sums import summed

FEWEST_FP8_LAYERS = 2
"""Of a trunk: its first one reads fp16 and its last one writes it."""

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
    narrow: bool = False

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        return tuple(each for each in (self.weights, self.bias, self.slope, self.scale) if each is not None)


@attrs.frozen(eq=False)
class Packed:
    """All parameters in one piece of memory."""

    data: npt.NDArray[np.uint8]
    _layers: tuple[tuple[tuple[int, ...], bool], ...]
    """Of each layer where its pieces lie, in bytes, and whether it writes e4m3."""

    def at(self, base: int) -> tuple[Parameters, ...]:
        """The addresses of each layer's, if the piece lies at ``base``, a multiple of 256 bytes."""
        return tuple(_parameters([base + place for place in places], narrow) for places, narrow in self._layers)


def _parameters(addresses: list[int], narrow: bool) -> Parameters:
    weights, bias, slope, scale = (*addresses, 0)[:4]
    return Parameters(weights, bias, slope, scale, narrow)


def packed(net: CompactNet, calibration: Calibration | None = None, *, resized: bool = False) -> Packed:
    """In fp16, bias and slopes in fp32, padded as the architecture says.  Weights beyond fp16 become its largest.

    With a ``calibration`` the trunk, of at least :data:`FEWEST_FP8_LAYERS`, is in fp8.  With ``resized`` the tail's are
    for :meth:`~rave_trio.inference.compact.kernels_protocol.KernelSet.tail_resized`.
    """
    features, outputs = net.architecture.features, net.architecture.outputs
    if calibration is not None:
        net = reordered(net, calibration.order)
    head, *trunk, tail = net.layers
    if resized:
        tail = summed(tail, net.architecture)
    between = _halves(trunk, features) if calibration is None else _narrow(trunk, calibration, features)
    layers = [_half(_head(head, features), head), *between, _half(_taps(tail, outputs, features), tail)]
    arrays, places = [], []
    size = 0
    for pieces in layers:
        own = []
        for array in pieces.arrays:
            arrays.append((size, array))
            own.append(size)
            size += aligned(array.nbytes)
        places.append((tuple(own), pieces.narrow))
    data = np.zeros(size, np.uint8)
    for offset, array in arrays:
        data[offset : offset + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return Packed(data, tuple(places))


def _halves(trunk: list[Layer], features: int) -> list[_Pieces]:
    return [_half(_taps(layer, features, features), layer) for layer in trunk]


def _narrow(trunk: list[Layer], calibration: Calibration, features: int) -> list[_Pieces]:
    """The trunk in fp8."""
    if len(trunk) < FEWEST_FP8_LAYERS:
        raise ValueError(f"a trunk of {len(trunk)} layers cannot be in fp8")
    ones = np.ones(len(trunk[0].bias), np.float32)
    first, *between = (scales[calibration.order] for scales in calibration.scales)
    energies = (energy[calibration.order] for energy in calibration.energies)
    steepest = np.abs(trunk[0].weights).max(axis=(1, 2, 3)) / HALF_ROOM
    first = np.maximum(first, np.exp2(np.ceil(np.log2(np.maximum(steepest, np.finfo(np.float32).tiny)))))
    layer = attrs.evolve(
        trunk[0], weights=trunk[0].weights / first[:, np.newaxis, np.newaxis, np.newaxis], bias=trunk[0].bias / first
    )
    pieces = [attrs.evolve(_half(_taps(layer, features, features), layer), narrow=True)]
    read = first
    for layer, written, energy in zip(trunk[1:], (*between, ones), energies, strict=True):
        pieces.append(_eighths(layer, read, written, energy, features, narrow=len(pieces) < len(trunk) - 1))
        read = written
    return pieces


def _eighths(
    layer: Layer, read: Floats, written: Floats, energy: npt.NDArray[Any], features: int, *, narrow: bool
) -> _Pieces:
    """A layer that reads e4m3, of inputs with these scales and mean squares."""
    weights = layer.weights * read[:, np.newaxis, np.newaxis]
    units = _units(weights, energy / np.square(read))
    rounded = attrs.evolve(layer, weights=_rounded(weights / units[:, np.newaxis, np.newaxis, np.newaxis]))
    codes = e4m3.encoded(_taps(rounded, features, features))
    own = np.arange(min(len(units), REMAINING))
    through = weights[own, own, 1, 1] / written[own]
    return _Pieces(
        codes,
        _row(layer.bias / written, features),
        _row(_slopes(layer), features),
        np.concatenate([_row(units / written, features), _row(through, REMAINING)]),
        narrow,
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
