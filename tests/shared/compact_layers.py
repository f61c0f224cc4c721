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
    """[tap][out][in], fp16; or numbers that e4m3 holds."""
    bias: np.ndarray
    slope: np.ndarray


def random_layer(random: np.random.Generator, inputs: int, outputs: int) -> Layer:
    """Whose outputs are about as large as its inputs; no two channels are alike."""
    weights = random.normal(0, (1.9 / (9 * inputs)) ** 0.5, (9, outputs, inputs)).astype(np.float16)
    bias = random.normal(0, 0.1, outputs).astype(np.float32)
    return Layer(weights, bias, random.uniform(-0.2, 1.2, outputs).astype(np.float32))


def random_activations(random: np.random.Generator, height: int, width: int, features: int) -> np.ndarray:
    return random.standard_normal((height, width, features), np.float32).astype(np.float16)


def convolved(activations: np.ndarray, layer: Layer, dtype: type = np.float32) -> np.ndarray:
    """The sums with their bias, H x W x outputs; outside the picture all is zero."""
    height, width, inputs = activations.shape
    padded = np.zeros((height + 2, width + 2, inputs), dtype)
    padded[1:-1, 1:-1] = activations
    sums = np.zeros((height * width, layer.bias.size), dtype)
    for tap, (dy, dx) in enumerate(TAPS):
        pixels = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width].reshape(-1, inputs)
        sums += pixels @ layer.weights[tap].astype(dtype).T
    return (sums + layer.bias.astype(dtype)).reshape(height, width, -1)


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


def _e4m3_numbers() -> np.ndarray:
    """Of the codes 0 to 126; 127 is none."""
    exponent, mantissa = np.divmod(np.arange(127), 8)
    return np.where(exponent == 0, mantissa / 512, (8 + mantissa) / 8 * 2.0 ** (exponent - 7))


E4M3 = _e4m3_numbers()


def to_e4m3(numbers: np.ndarray) -> np.ndarray:
    """Codes, uint8: rounded to nearest even, limited."""
    size = np.abs(numbers)
    above = np.searchsorted(E4M3, size).clip(1, 126)
    below = above - 1
    to_above, to_below = E4M3[above] - size, size - E4M3[below]
    code = np.where((to_above < to_below) | ((to_above == to_below) & (above % 2 == 0)), above, below)
    return np.where(np.signbit(numbers), code | 0x80, code).astype(np.uint8)


def from_e4m3(codes: np.ndarray) -> np.ndarray:
    """Numbers, float32; 127 and 255 are none."""
    size = np.append(E4M3, np.nan)[codes & 0x7F]
    return np.where(codes & 0x80, -size, size).astype(np.float32)
