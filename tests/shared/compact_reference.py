"""What the kernels of the Compact family compute, in numpy, and packed parameters with random values."""

from __future__ import annotations

import attrs
import numpy as np

from rave_trio.inference.compact.e4m3 import NOT_A_NUMBER
from rave_trio.inference.compact.kernels_protocol import (
    REMAINDER_PIXELS,
    REMAINING,
    REMAINING_CHANNELS,
    Architecture,
    Resampling,
)

HEAD_DEPTH = 32


@attrs.frozen
class Layer:
    """One layer's parameters: weights OIHW in fp16, bias and slope in fp32."""

    weights: np.ndarray
    bias: np.ndarray
    slope: np.ndarray | None


def random_layer(rng, outputs: int, inputs: int, *, activates: bool) -> Layer:
    """Weights that keep the size of what goes through, and slopes of either sign and beyond 1."""
    weights = rng.normal(0, (9 * inputs) ** -0.5, (outputs, inputs, 3, 3)).astype(np.float16)
    bias = rng.normal(0, 0.5, outputs).astype(np.float32)
    return Layer(weights, bias, rng.uniform(-0.5, 1.5, outputs).astype(np.float32) if activates else None)


def packed_head(layer: Layer, features: int) -> np.ndarray:
    packed = np.zeros((features, HEAD_DEPTH), np.float16)
    packed[: len(layer.weights), :27] = layer.weights.transpose(0, 2, 3, 1).reshape(len(layer.weights), 27)
    return packed


def packed(layer: Layer, outputs: int) -> np.ndarray:
    """[9 taps][outputs][inputs]."""
    taps = np.zeros((9, outputs, layer.weights.shape[1]), np.float16)
    taps[:, : len(layer.weights)] = layer.weights.transpose(2, 3, 0, 1).reshape(9, *layer.weights.shape[:2])
    return taps


def padded(values: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([values, np.zeros(size - len(values), values.dtype)])


def convolution(x: np.ndarray, weights: np.ndarray, bias: np.ndarray, dtype) -> np.ndarray:
    """H x W x C through OIHW weights with zeros around, in ``dtype``."""
    height, width, _ = x.shape
    around = np.pad(x.astype(dtype), ((1, 1), (1, 1), (0, 0)))
    out = np.tile(bias.astype(dtype), (height, width, 1))
    for ky in range(3):
        for kx in range(3):
            out += around[ky : ky + height, kx : kx + width] @ weights[:, :, ky, kx].T.astype(dtype)
    return out


def through(
    x: np.ndarray, layer: Layer, dtype=np.float64, *, added: np.ndarray | None = None, fp8: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The layer's result, and the sum of the sizes of all that is added up, which bounds the errors of the sums;
    ``added`` goes into the sums of those channels that have remainders.  With ``fp8`` it is bent as what becomes e4m3.
    """
    result = convolution(x, layer.weights, layer.bias, dtype)
    size = convolution(np.abs(x), np.abs(layer.weights), np.abs(layer.bias), dtype)
    if added is not None:
        result[:, :, REMAINING_CHANNELS] += added
        size[:, :, REMAINING_CHANNELS] += np.abs(added)
    if layer.slope is not None:
        bent = layer.slope * result
        result = np.maximum(result, bent) if fp8 else np.where(result > 0, result, bent)
        size *= np.maximum(1, np.abs(layer.slope))
    return result, size


def shuffled(x: np.ndarray, factor: int) -> np.ndarray:
    """H x W x (3 * factor**2) to 3 x (H * factor) x (W * factor)."""
    height, width, _ = x.shape
    blocks = x.reshape(height, width, 3, factor, factor).transpose(2, 0, 3, 1, 4)
    return blocks.reshape(3, height * factor, width * factor)


def random_ends(rng, arch: Architecture, itemsize: int) -> tuple[np.ndarray, np.ndarray]:
    """A tail's bias, and the scale of each output where activations take ``itemsize`` bytes."""
    bias = rng.normal(0, 0.2, arch.outputs).astype(np.float32)
    scale = rng.uniform(0.5, 1, arch.outputs) if itemsize == 1 else np.ones(arch.outputs)
    return bias, scale.astype(np.float32)


def of_samples(values: np.ndarray, arch: Architecture, height: int, width: int) -> np.ndarray:
    """What outputs have, as 3 x (height * factor) x (width * factor)."""
    blocks = values[: 3 * arch.factor**2].reshape(3, arch.factor, arch.factor)
    return np.tile(blocks, (1, height, width))


def enlarged(picture: np.ndarray, factor: int) -> np.ndarray:
    return picture.repeat(factor, axis=1).repeat(factor, axis=2)


def resampled(x: np.ndarray, factor: int, resampling: Resampling) -> np.ndarray:
    """3 x (H * factor) x (W * factor) to 3 x (H * scale) x (W * scale)."""
    for axis in (1, 2):
        count = x.shape[axis] // factor
        matrix = np.zeros((count * resampling.scale, x.shape[axis]))
        for pixel in range(count):
            for phase, (first, taps) in enumerate(zip(resampling.first, resampling.taps, strict=True)):
                for k, tap in enumerate(taps):
                    at = min(max(pixel * factor + first + k, 0), x.shape[axis] - 1)
                    matrix[pixel * resampling.scale + phase, at] += tap
        x = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
    return x


def from_sums(x: np.ndarray, factor: int, resampling: Resampling) -> np.ndarray:
    """H x W x (3 * factor**2), the outputs of a tail that has the resize within its weights, to 3 x (H * scale) x
    (W * scale): each pixel's own sums, and the neighbours' outermost samples with their weights."""
    height, width, _ = x.shape
    sums = x.reshape(height, width, 3, factor, factor).transpose(2, 3, 4, 0, 1)
    weights = [dict(enumerate(*pair)) for pair in zip(resampling.taps, resampling.first, strict=True)]
    for axis in (0, 1):
        parts = np.moveaxis(sums, (1 + axis, 3 + axis), (0, 1))
        first, last = parts[resampling.scale], parts[resampling.scale + 1]
        before, behind = np.concatenate([first[:1], last[:-1]]), np.concatenate([first[1:], last[-1:]])
        results = [parts[at] + of.get(-1, 0) * before + of.get(factor, 0) * behind for at, of in enumerate(weights)]
        sums = np.moveaxis(np.stack(results), (0, 1), (1 + axis, 3 + axis))
    return sums.transpose(0, 3, 1, 4, 2).reshape(3, height * resampling.scale, width * resampling.scale)


def cubic(scale: int, factor: int, a: float = -0.75) -> Resampling:
    """ONNX's Resize, mode cubic, half_pixel, by scale / factor."""

    def weight(d: float) -> float:
        return ((a + 2) * d - (a + 3)) * d * d + 1 if d <= 1 else ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    first, taps = [], []
    for phase in range(scale):
        centre = (phase + 0.5) * factor / scale - 0.5
        left = int(np.floor(centre)) - 1
        first.append(left)
        taps.append(tuple(weight(abs(centre - at)) for at in range(left, left + 4)))
    return Resampling(scale, tuple(first), tuple(taps))


def architecture(features: int, factor: int = 4, *, skip=True, clip=False, resampling=None) -> Architecture:
    return Architecture(features, factor, skip, clip, resampling)


def remainders_as_pixels_lie(held: np.ndarray, height: int) -> np.ndarray:
    """Remainders as they lie in memory, as rows x pixels (a multiple of REMAINDER_PIXELS) x REMAINING."""
    strips = held.size // (height * REMAINDER_PIXELS * REMAINING)
    pixels = held.reshape(height, strips, 2, REMAINING, 4, 8, 2).transpose(0, 1, 2, 5, 4, 6, 3)
    return pixels.reshape(height, strips * REMAINDER_PIXELS, REMAINING)


def remainders_as_threads_hold(remaining: np.ndarray) -> np.ndarray:
    """The way back, of rows of any number of pixels: what lies beyond them is no number."""
    beyond = -remaining.shape[1] % REMAINDER_PIXELS
    whole = np.pad(remaining, ((0, 0), (0, beyond), (0, 0)), constant_values=NOT_A_NUMBER)
    pixels = whole.reshape(len(whole), -1, 2, 8, 4, 2, REMAINING)
    return pixels.transpose(0, 1, 2, 6, 4, 3, 5).reshape(-1)
