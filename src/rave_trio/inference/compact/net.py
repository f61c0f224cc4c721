"""A network of the Compact family, as it was found in an ONNX file and free of it."""

from __future__ import annotations

import attrs
import numpy as np
import numpy.typing as npt

from rave_trio.inference.compact.kernels_protocol import FEATURES, PLANES, Architecture, Resampling

MOST_FEATURES = FEATURES[-1]
MOST_TRUNK_LAYERS = 64
MOST_FACTOR = 4

Floats = npt.NDArray[np.float32]


@attrs.frozen(eq=False)
class Layer:
    """A 3x3 convolution that keeps the size, zero beyond the edges, and the activation behind it; all fp32."""

    weights: Floats
    """outputs x inputs x 3 x 3."""
    bias: Floats
    """outputs."""
    slope: Floats | None = None
    """What negative values are multiplied by, outputs; None for no activation."""


@attrs.frozen(eq=False)
class CompactNet:
    """3x3 convolutions with PReLUs between them, a pixel shuffle, and the enlarged input added to the result.

    The last layer's outputs are in the order of PyTorch's PixelShuffle: ``c * factor**2 + i * factor + j``.
    """

    layers: tuple[Layer, ...]
    """The head, the trunk and the tail, at least head and tail."""
    factor: int
    """Of the pixel shuffle."""
    skip: bool
    """Whether the input, its pixels repeated, is added."""
    resampling: Resampling | None
    """A resize of all that."""
    clip: bool
    """Whether the very result is clipped to [0, 1]."""

    @property
    def features(self) -> int:
        """Between the layers, as the file has them."""
        return int(self.layers[0].weights.shape[0])

    @property
    def architecture(self) -> Architecture:
        """What kernels have to be generated for."""
        padded = next(each for each in FEATURES if each >= self.features)
        return Architecture(padded, self.factor, self.skip, self.clip, self.resampling)

    @property
    def scale(self) -> int:
        return self.architecture.scale

    @property
    def trunk(self) -> tuple[Layer, ...]:
        """All layers but the first and the last."""
        return self.layers[1:-1]

    def describe(self) -> str:
        """In a few words, for people."""
        resized = "" if self.resampling is None else f", resized to x{self.scale}"
        return f"{self.features} features, {len(self.trunk)} layers between head and tail, x{self.factor}{resized}"


def evaluate(net: CompactNet, picture: Floats) -> Floats:
    """What ``net`` makes of ``picture``, 3 x H x W, computed by numpy in the dtype of ``picture`` (fp32, fp64)."""
    values = picture
    for layer in net.layers:
        values = convolved(values, layer)
    enlarged = shuffled(values, net.factor)
    if net.skip:
        enlarged = enlarged + picture.repeat(net.factor, axis=1).repeat(net.factor, axis=2)
    if net.resampling is not None:
        enlarged = resampled(enlarged, net.resampling, net.factor)
    return np.clip(enlarged, 0, 1) if net.clip else enlarged


def convolved(values: Floats, layer: Layer) -> Floats:
    """One layer: inputs x H x W to outputs x H x W."""
    _, height, width = values.shape
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)))
    outputs, inputs = layer.weights.shape[:2]
    total = np.zeros((outputs, height * width), values.dtype)
    for y in range(3):
        for x in range(3):
            seen = padded[:, y : y + height, x : x + width].reshape(inputs, -1)
            total += layer.weights[:, :, y, x].astype(values.dtype) @ seen
    total += layer.bias[:, np.newaxis]
    return bent(total.reshape(outputs, height, width), layer.slope)


def bent(sums: Floats, slope: Floats | None) -> Floats:
    """An activation: outputs x H x W."""
    if slope is None:
        return sums
    result: Floats = np.where(sums > 0, sums, slope[:, np.newaxis, np.newaxis] * sums)
    return result


def shuffled(values: Floats, factor: int) -> Floats:
    """PyTorch's PixelShuffle."""
    channels, height, width = values.shape
    planes = channels // factor**2
    blocks = values.reshape(planes, factor, factor, height, width)
    result: Floats = blocks.transpose(0, 3, 1, 4, 2).reshape(planes, factor * height, factor * width)
    return result


def resampled(picture: Floats, how: Resampling, factor: int) -> Floats:
    """The final resize, of rows and then of columns."""
    for axis in (1, 2):
        picture = _resampled(picture.swapaxes(axis, 2), how, factor).swapaxes(axis, 2)
    return picture


def _resampled(picture: Floats, how: Resampling, factor: int) -> Floats:
    length = picture.shape[2]
    pixels = np.arange(length // factor)
    result = np.zeros((*picture.shape[:2], len(pixels) * how.scale), picture.dtype)
    for phase in range(how.scale):
        for at, weight in enumerate(how.taps[phase], start=how.first[phase]):
            result[:, :, phase :: how.scale] += picture[:, :, np.clip(pixels * factor + at, 0, length - 1)] * weight
    return result


def outputs_of(factor: int) -> int:
    """How many outputs a tail has before padding."""
    return PLANES * factor**2
