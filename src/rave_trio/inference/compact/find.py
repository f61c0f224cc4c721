"""Compact networks in ONNX files: the way from a path to a network, with a second opinion."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np

from rave_trio.inference.compact.graph import NotCompact
from rave_trio.inference.compact.net import CompactNet, evaluate

TOLERANCE = 1e-3
"""How far, as a share of the largest sample, our own reading of a file may be from ONNX's reference, both in fp32."""


def find_compact(path: Path) -> CompactNet:
    """The network of the Compact family that the file is.  Some tenths of a second.

    A network of free size is read at two sizes, which must agree, and computed once with ONNX's own reference, on a
    picture of few pixels.  Raises NotCompact with the reason.
    """
    modified = path.stat()
    return _found(path, modified.st_mtime_ns, modified.st_size)


@lru_cache(maxsize=2)
def _found(path: Path, _modified: int, _size: int) -> CompactNet:
    if importlib.util.find_spec("onnx") is None:
        raise NotCompact("it cannot be looked at without the package onnx")
    from rave_trio.inference.compact.reading import open_onnx
    from rave_trio.inference.compact.recognise import recognised

    file = open_onnx(path)
    first, *others = [recognised(file.at(*size)) for size in file.sizes]
    if not all(_same(first, other) for other in others):
        raise NotCompact("what it computes depends on the picture's size")
    if file.size is None:
        height, width = file.sizes[0]
        picture = np.random.default_rng(0).random((3, height, width), np.float32)
        expected = file.run(picture)
        if expected is not None:
            error = np.abs(evaluate(first, picture) - expected).max() / max(1, np.abs(expected).max())
            if not error <= TOLERANCE:
                raise NotCompact(f"what was read from it computes something else, by {error:.2g}")
    return first


def _same(one: CompactNet, other: CompactNet) -> bool:
    settings = [(net.factor, net.skip, net.resampling, net.clip, len(net.layers)) for net in (one, other)]
    arrays = [
        [array for layer in net.layers for array in (layer.weights, layer.bias, layer.slope) if array is not None]
        for net in (one, other)
    ]
    same = settings[0] == settings[1] and len(arrays[0]) == len(arrays[1])
    return same and all(map(np.array_equal, *arrays))
