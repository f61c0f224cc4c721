"""Layers of the Compact family with random parameters, computed in float32 and float64 by numpy, for checks of kernels.

Activations are H x W x features, pictures 3 x H x W; parameters are packed as kernels_protocol.py says.
"""

from __future__ import annotations

import attrs
import numpy as np

TAPS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


@attrs.frozen
class Layer:
    """Packed as the kernels take it, on the host."""

    weights: np.ndarray
    """[tap][out][in], fp16."""
    bias: np.ndarray
    slope: np.ndarray


def random_layer(random: np.random.Generator, inputs: int, outputs: int) -> Layer:
    """Whose outputs are about as large as its inputs; no two channels are alike."""
    weights = random.normal(0, (1.9 / (9 * inputs)) ** 0.5, (9, outputs, inputs))
    bias = random.normal(0, 0.1, outputs)
    return Layer(weights.astype(np.float16), bias.astype(np.float32), random.uniform(-0.2, 1.2, outputs).astype(np.float32))


def random_activations(random: np.random.Generator, height: int, width: int, features: int) -> np.ndarray:
    return random.standard_normal((height, width, features), np.float32).astype(np.float16)


def convolved(activations: np.ndarray, layer: Layer, dtype: type = np.float32) -> np.ndarray:
    """The sums with their bias, H x W x outputs; outside the picture all is zero."""
    height, width, inputs = activations.shape
    padded = np.zeros((height + 2, width + 2, inputs), dtype)
    padded[1:-1, 1:-1] = activations
    sums = np.zeros((height, width, layer.bias.size), dtype)
    for tap, (dy, dx) in enumerate(TAPS):
        sums += padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] @ layer.weights[tap].astype(dtype).T
    return sums + layer.bias.astype(dtype)


def trunk(activations: np.ndarray, layer: Layer, dtype: type = np.float32) -> np.ndarray:
    """Before it is rounded."""
    sums = convolved(activations, layer, dtype)
    return np.where(sums > 0, sums, sums * layer.slope.astype(dtype))


def tail(
    activations: np.ndarray, layer: Layer, picture: np.ndarray | None, factor: int, clip: bool, dtype: type = np.float32
) -> np.ndarray:
    """3 x factor*H x factor*W, before it is rounded; ``picture`` is None where there is no skip."""
    height, width, _ = activations.shape
    sums = convolved(activations, layer, dtype)[:, :, : 3 * factor**2]
    planes = sums.reshape(height, width, 3, factor, factor).transpose(2, 0, 3, 1, 4)
    result = planes.reshape(3, height * factor, width * factor)
    if picture is not None:
        result = result + picture.astype(dtype).repeat(factor, 1).repeat(factor, 2)
    return result.clip(0, 1) if clip else result


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """||found - expected|| / ||expected||; not a number where ``found`` is not."""
    expected = expected.astype(np.float64)
    return float(np.linalg.norm(found.astype(np.float64) - expected) / max(np.linalg.norm(expected), 1e-30))
