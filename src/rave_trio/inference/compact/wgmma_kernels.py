"""The Compact family's kernels for compute capability 9.0, by wgmma and the copy engine (TMA): docs/compact.md."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import attrs
import numpy as np

from rave_trio.devices.kernel_source import KernelSource
from rave_trio.devices.tensor_map import tensor_map
from rave_trio.inference.compact.kernels_protocol import (
    FEATURES,
    Architecture,
    KernelSet,
    MakeKernels,
    Parameters,
    Planes,
    Rows,
)

ARCH = "sm_90a"
"""The only one that has these instructions."""

WIDTH = 128
"""Pixels of a strip; WIDTH in wgmma_strip.cuh, as are the two below."""

BOX_WIDTH = 136
THREADS = 384

SHARED_BYTES = 227 << 10
"""The most that a block can have; it always has its multiprocessor to itself."""

TAIL_FEATURES = (16, 32, 48, 64)
"""Where the tail is computed here, with outputs for a product's 64 rows; elsewhere by the other kernels."""

PRODUCT_ROWS = 64


@attrs.frozen
class Tiling:
    """How a kernel cuts up its work, as wgmma_strip.cuh has it."""

    channels: int
    """That a warpgroup takes in, and that a block puts out."""
    itemsize: int
    """Bytes of an activation."""
    rows: int
    """Of outputs that a product computes side by side, where there are fewer channels than its 64 rows."""
    shares: int = 1
    """2 where the weights of all channels are more than a warpgroup's registers hold."""

    @property
    def pixel_bytes(self) -> int:
        """That a pixel takes in shared memory: the span of a swizzle."""
        return next(span for span in (32, 64, 128) if self.channels * self.itemsize <= span)

    @property
    def features(self) -> int:
        """Of all shares."""
        return self.channels * self.shares

    @property
    def slots(self) -> int:
        """Of a ring, as many as fit beside the results."""
        return 10 // self.shares

    def constants(self) -> list[str]:
        """What stands before the text."""
        return [
            f"#define ELEMENT_BYTES {self.itemsize}",
            f"#define MULTIPLY multiply_{'fp16' if self.itemsize == 2 else 'e4m3'}",
            f"#define SHARES {self.shares}",
            f"constexpr int CHANNELS = {self.channels};",
            f"constexpr int PIXEL_BYTES = {self.pixel_bytes};",
            f"constexpr int ROWS = {self.rows};",
            f"constexpr int SLOTS = {self.slots};",
            f"constexpr int SHARED_BYTES = {SHARED_BYTES};",
        ]

    def input_map(self, source: int, height: int, width: int) -> bytes:
        """Boxes of a slot."""
        box = (self.rows, BOX_WIDTH, self.pixel_bytes // self.itemsize)
        return tensor_map(source, (height, width, self.features), box, self.itemsize, self.pixel_bytes)

    def output_map(self, target: int, height: int, width: int) -> bytes:
        """Boxes of a unit's results, of which the rows before ``height`` are written."""
        box = (self.rows, WIDTH, self.channels)
        return tensor_map(target, (height, width, self.features), box, self.itemsize, self.pixel_bytes)

    def work(self, rows: Rows, width: int) -> tuple[int, int, int]:
        """First row, units down a strip, strips."""
        return rows.begin, -(-(rows.end - rows.begin) // self.rows), -(-width // WIDTH)


def trunk_tiling(features: int) -> Tiling:
    """For activations in fp16 of padded ``features``."""
    if features > PRODUCT_ROWS:
        return Tiling(features // 2, 2, 1, shares=2)
    return Tiling(features, 2, PRODUCT_ROWS // features)


def trunk_source(tiling: Tiling) -> KernelSource:
    """The convolution between activations."""
    return _source(f"compact_trunk_{tiling.features}", tiling.constants(), "by_turns.cuh", "by_shares.cuh", "trunk.cu")


def tail_source(architecture: Architecture) -> KernelSource:
    """The last convolution, for features of :data:`TAIL_FEATURES`."""
    ends_here = architecture.resampling is None
    constants = [
        f"constexpr int FACTOR = {architecture.factor};",
        f"constexpr int OUTPUTS = {architecture.outputs};",
        f"constexpr bool SKIP = {str(ends_here and architecture.skip).lower()};",
        f"constexpr bool CLIP = {str(ends_here and architecture.clip).lower()};",
    ]
    tiling = _tail_tiling(architecture.features)
    name = f"compact_tail_{architecture.features}"
    return _source(name, [*tiling.constants(), *constants], "by_turns.cuh", "tail.cu")


class WgmmaKernels:
    """See :class:`rave_trio.inference.compact.kernels_protocol.KernelSet`.

    Trunk and tail are launched so that they may begin before the kernel ahead of them has ended, and wait for it.
    """

    itemsize = 2

    def __init__(self, architecture: Architecture, launcher: Any, stream: Any, others: MakeKernels) -> None:
        """``others`` makes the kernels for what is limited by memory, which need none of these instructions."""
        if architecture.features not in FEATURES:
            raise ValueError(f"there are no kernels for {architecture.features} features")
        self._launcher = launcher
        self._blocks = launcher.processors(stream)
        self._others = others(architecture, launcher, stream)
        self._trunk_tiling = trunk_tiling(architecture.features)
        self._trunk = self._load(stream, trunk_source(self._trunk_tiling))
        self._tail_tiling = _tail_tiling(architecture.features)
        self._has_tail = architecture.features in TAIL_FEATURES
        self._tail = self._load(stream, tail_source(architecture)) if self._has_tail else None

    def head(
        self, raw: Any, picture: Planes, target: int, height: int, width: int, rows: Rows, parameters: Parameters
    ) -> None:
        """See the protocol."""
        self._others.head(raw, picture, target, height, width, rows, parameters)

    def trunk(
        self, raw: Any, source: int, target: int, height: int, width: int, rows: Rows, parameters: Parameters
    ) -> None:
        """See the protocol."""
        tiling = self._trunk_tiling
        self._put(
            raw,
            self._trunk,
            tiling,
            rows,
            width,
            tiling.input_map(source, height, width),
            tiling.output_map(target, rows.end, width),
            parameters.weights,
            parameters.bias,
            parameters.slope,
            0,
        )

    def tail(
        self,
        raw: Any,
        source: int,
        picture: Planes,
        target: Planes,
        height: int,
        width: int,
        rows: Rows,
        parameters: Parameters,
    ) -> None:
        """See the protocol."""
        if not self._has_tail:
            self._others.tail(raw, source, picture, target, height, width, rows, parameters)
            return
        tiling = self._tail_tiling
        self._put(
            raw,
            self._tail,
            tiling,
            rows,
            width,
            tiling.input_map(source, height, width),
            parameters.weights,
            parameters.bias,
            picture.pointer,
            picture.plane,
            target.pointer,
            target.plane,
            np.int32(width),
        )

    def resize(
        self, raw: Any, source: Planes, picture: Planes, target: Planes, height: int, width: int, rows: Rows
    ) -> None:
        """See the protocol."""
        self._others.resize(raw, source, picture, target, height, width, rows)

    def _load(self, stream: Any, source: KernelSource) -> Any:
        return self._launcher.load(stream, source, arch=ARCH, shared_bytes=SHARED_BYTES)

    def _put(self, raw: Any, kernel: Any, tiling: Tiling, rows: Rows, width: int, *args: Any) -> None:
        first_row, down, strips = tiling.work(rows, width)
        blocks = min(self._blocks // tiling.shares, down * strips) * tiling.shares
        work = np.int32(first_row), np.int32(down), np.int32(strips)
        self._launcher.put(
            raw, kernel, (blocks,), (THREADS,), *args, *work, shared_bytes=SHARED_BYTES, overlapping=True
        )


def _tail_tiling(features: int) -> Tiling:
    return Tiling(features, 2, 1)


def _source(name: str, constants: list[str], *texts: str) -> KernelSource:
    parts = [f"#define KERNEL {name}", *constants, *(_text(part) for part in ("words.cuh", "strip.cuh", *texts))]
    return KernelSource(name, "\n".join(parts))


@cache
def _text(part: str) -> str:
    return resources.files("rave_trio.inference.compact").joinpath("kernels", f"wgmma_{part}").read_text("utf-8")
