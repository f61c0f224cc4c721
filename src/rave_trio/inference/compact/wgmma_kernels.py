"""The Compact family's kernels for compute capability 9.0, by wgmma and the copy engine (TMA): docs/compact.md."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import attrs
import numpy as np

from rave_trio.color.cuda.specialisation import Codes, codes
from rave_trio.devices.arrays import DevicePicture
from rave_trio.devices.kernel_source import KernelSource
from rave_trio.devices.tensor_map import tensor_map
from rave_trio.frames import SurfaceDescriptor
from rave_trio.inference.compact.kernel_constants import flag, taps, taps_table
from rave_trio.inference.compact.kernels_protocol import (
    EIGHTHS,
    FEATURES,
    HALVES,
    PLANES,
    Architecture,
    Parameters,
    Planes,
    Rows,
    SurfaceTail,
)
from rave_trio.inference.compact.mma_kernels import Head, Resize, Tail
from rave_trio.inference.compact.sums import resizes_within_weights

ARCH = "sm_90a"
"""The only one that has these instructions."""

WIDTH = 128
"""Pixels of a strip; WIDTH in wgmma_strip.cuh, as are the three below."""

BOX_WIDTH = 136
GROUPS = 2
THREADS = 384
FLOAT_BYTES = 4

SHARED_BYTES = 227 << 10
"""The most that a block can have; it always has its multiprocessor to itself."""

RING_BYTES = 10 * BOX_WIDTH * 128
"""Of all rings together, which leaves room for the results of every kernel here."""

STAGE_PITCH = WIDTH + 8
"""Floats; as wgmma_samples.cuh has it."""

BESIDE_BYTES = 2 << 10
"""What barriers and the alignment of all take, or more."""

PRODUCT_ROWS = 64

WHOLE_PIXEL = 128
"""Bytes of the widest pixel for whose channels a warpgroup's registers hold all weights."""


@attrs.frozen
class Tiling:
    """How a kernel cuts up its work, in the words of wgmma_strip.cuh and wgmma_trunk.cu."""

    features: int
    outputs: int
    """That a block computes."""
    rows: int
    """Of outputs that a product computes side by side, where they are fewer than half its rows."""
    shares: int
    """2 where the weights of all input channels are more than a warpgroup's registers hold."""
    itemsize: int = 2
    """Bytes of an activation that is read."""
    written: int = 2
    """Bytes of one that is written, by the trunk."""
    halo: int = 0
    """Pixels and rows that are computed and not the block's."""
    overlap: int = 0
    """Pixels at the left of a strip that are computed and not its own."""
    ring_bytes: int = RING_BYTES

    @property
    def channels(self) -> int:
        """That a warpgroup takes in."""
        return self.features // self.shares

    @property
    def input_pixel(self) -> int:
        """Bytes that a pixel's channels take in shared memory."""
        return _span(self.channels * self.itemsize)

    @property
    def output_pixel(self) -> int:
        """Bytes that a pixel's outputs take in shared memory."""
        return _span(self.outputs * self.written)

    def constants(self) -> list[str]:
        """What stands before the text."""
        slots = self.ring_bytes // (self.rows * BOX_WIDTH * self.input_pixel * self.shares)
        return [
            f"#define ITEM_BYTES {self.itemsize}",
            f"#define MULTIPLY multiply_{'fp16' if self.itemsize == 2 else 'e4m3'}",
            f"constexpr int CHANNELS = {self.channels};",
            f"constexpr int OUTPUTS = {self.outputs};",
            f"constexpr int ROWS = {self.rows};",
            f"constexpr int HALO = {self.halo};",
            f"constexpr int OVERLAP = {self.overlap};",
            f"constexpr int INPUT_PIXEL = {self.input_pixel};",
            f"constexpr int SLOTS = {slots};",
            f"constexpr int SHARED_BYTES = {SHARED_BYTES};",
        ]

    def input_map(self, source: int, height: int, width: int) -> bytes:
        """Boxes of a slot."""
        box = (self.rows, BOX_WIDTH, self.input_pixel // self.itemsize)
        return tensor_map(source, (height, width, self.features), box, self.itemsize, self.input_pixel)

    def output_map(self, target: int, height: int, width: int) -> bytes:
        """Boxes of a unit's results, of which the rows before ``height`` are written."""
        box = (self.rows, WIDTH, self.outputs)
        return tensor_map(target, (height, width, self.features), box, self.written, self.output_pixel)

    def weight_map(self, weights: int, outputs: int) -> bytes:
        """Boxes of a block's weights, of a layer that has ``outputs`` in all."""
        box = (9, self.outputs, self.input_pixel // self.itemsize)
        return tensor_map(weights, (9, outputs, self.features), box, self.itemsize, self.input_pixel)

    def work(self, rows: Rows, width: int) -> tuple[int, int, int]:
        """First row, units down a strip, strips."""
        return rows.begin, -(-(rows.end - rows.begin) // self.rows), -(-width // (WIDTH - 2 * self.halo - self.overlap))


def trunk_tiling(features: int, itemsizes: tuple[int, int] = HALVES) -> Tiling:
    """For a layer between activations of padded ``features``."""
    parts = 1 if features <= PRODUCT_ROWS else 2
    shares = 1 if features * itemsizes[0] <= WHOLE_PIXEL else 2
    return Tiling(features, features // parts, max(1, PRODUCT_ROWS // features), shares, *itemsizes)


def has_tail(features: int, itemsize: int = 2) -> bool:
    """Whether tails of padded ``features`` are computed here; else the plain one is, by the other kernels."""
    return features * itemsize <= WHOLE_PIXEL


def tail_tiling(architecture: Architecture, itemsize: int = 2) -> Tiling:
    """For a tail, where :func:`has_tail`."""
    return Tiling(architecture.features, architecture.outputs, 1, 1, itemsize)


def resizes_at_once(architecture: Architecture, itemsize: int = 2) -> bool:
    """Whether one kernel is tail and resize."""
    return has_tail(architecture.features, itemsize) and resizes_within_weights(architecture)


def resized_tiling(architecture: Architecture, itemsize: int = 2) -> Tiling:
    """For a tail that resizes: its ring is smaller by what rows hand on, HANDED_BYTES in wgmma_tail_resized.cu."""
    assert architecture.resampling is not None
    first, weights = taps(architecture.resampling, architecture.factor)
    awaiting = int(np.count_nonzero(weights[:, 1 - first :].any(axis=1)))
    handed = PLANES * (1 + awaiting) * architecture.scale * WIDTH
    staged = architecture.outputs * STAGE_PITCH
    room = SHARED_BYTES - BESIDE_BYTES - GROUPS * (2 * handed + staged) * FLOAT_BYTES
    return attrs.evolve(tail_tiling(architecture, itemsize), halo=1, ring_bytes=min(room, RING_BYTES))


def trunk_source(tiling: Tiling) -> KernelSource:
    """The convolution between activations."""
    constants = [
        *tiling.constants(),
        f"#define OUTPUT_BYTES {tiling.written}",
        f"#define SHARES {tiling.shares}",
        f"constexpr int FEATURES = {tiling.features};",
        f"constexpr int OUTPUT_PIXEL = {tiling.output_pixel};",
    ]
    return _source(
        f"compact_trunk_{tiling.features}",
        constants,
        "pairs.cuh",
        "wgmma_by_turns.cuh",
        "wgmma_by_shares.cuh",
        "wgmma_trunk.cu",
    )


def tail_source(architecture: Architecture, itemsize: int = 2) -> KernelSource:
    """The last convolution and the pixel shuffle, where :func:`has_tail`."""
    ends_here = architecture.resampling is None
    constants = [
        *tail_tiling(architecture, itemsize).constants(),
        f"constexpr int FACTOR = {architecture.factor};",
        flag("SKIP", ends_here and architecture.skip),
        flag("CLIP", ends_here and architecture.clip),
    ]
    return _source(
        f"compact_tail_{architecture.features}", constants, "wgmma_by_turns.cuh", "wgmma_samples.cuh", "wgmma_tail.cu"
    )


def resized_source(architecture: Architecture, itemsize: int = 2) -> KernelSource:
    """The same and the resize, where :func:`resizes_at_once`; of a tail that is :func:`summed`."""
    assert architecture.resampling is not None
    constants = [
        *resized_tiling(architecture, itemsize).constants(),
        f"constexpr int FACTOR = {architecture.factor}, SCALE = {architecture.scale};",
        *taps_table("PICTURE", architecture.resampling, architecture.factor),
        flag("SKIP", architecture.skip),
        flag("CLIP", architecture.clip),
    ]
    name = f"compact_tail_resized_{architecture.features}"
    return _source(name, constants, "wgmma_by_turns.cuh", "wgmma_samples.cuh", "wgmma_tail_resized.cu")


def surface_tiling(architecture: Architecture, codes: Codes, itemsize: int = 2) -> Tiling:
    """For a tail that ends in a surface."""
    return attrs.evolve(tail_tiling(architecture, itemsize), overlap=1 if codes.before else 0)


def surface_source(architecture: Architecture, codes: Codes, itemsize: int = 2) -> KernelSource:
    """The tail that writes a surface's codes, of an architecture without a resize."""
    constants = [
        *surface_tiling(architecture, codes, itemsize).constants(),
        f"constexpr int FACTOR = {architecture.factor};",
        flag("SKIP", architecture.skip),
        flag("CLIP", architecture.clip),
        codes.text,
    ]
    name = f"compact_tail_surface_{architecture.features}"
    return _source(name, constants, "wgmma_by_turns.cuh", "wgmma_samples.cuh", "wgmma_tail_surface.cu")


class WgmmaKernels:
    """See :class:`rave_trio.inference.compact.kernels_protocol.KernelSet`."""

    def __init__(
        self,
        architecture: Architecture,
        launcher: Any,
        stream: Any,
        *,
        fp8: bool = False,
        at_once: bool = True,
    ) -> None:
        """Compile and load what ``architecture`` needs onto the device of ``stream``.

        The head, a resize by itself and a tail of many features in fp16 are those of
        :mod:`~rave_trio.inference.compact.mma_kernels`.

        With ``fp8`` the trunk writes e4m3.  Without ``at_once`` a resize is always a kernel of its own, and so is a
        conversion, for measuring.
        """
        if architecture.features not in FEATURES:
            raise ValueError(f"there are no kernels for {architecture.features} features")
        self.fp8 = fp8
        self._architecture = architecture
        self._launcher, self._stream = launcher, stream
        self._at_once = at_once
        self._processors = launcher.processors(stream)
        self.head = Head(architecture, launcher, stream)
        self._itemsize = itemsize = 1 if fp8 else 2
        tilings = [trunk_tiling(architecture.features, itemsizes) for itemsizes in (EIGHTHS if fp8 else [HALVES])]
        self._trunk = {tiling.itemsize: (tiling, self._load(stream, trunk_source(tiling))) for tiling in tilings}
        self.resizes_at_once = at_once and resizes_at_once(architecture, itemsize)
        self._tail = self._resized = self._wide_tail = None
        if self.resizes_at_once:
            made = resized_source(architecture, itemsize)
            self._resized = resized_tiling(architecture, itemsize), self._load(stream, made)
            return
        if architecture.resampling is not None:
            self.resize = Resize(architecture, launcher, stream)
        if has_tail(architecture.features, itemsize):
            made = tail_source(architecture, itemsize)
            self._tail = tail_tiling(architecture, itemsize), self._load(stream, made)
        else:
            self._wide_tail = Tail(architecture, launcher, stream)

    def trunk(
        self, raw: Any, source: int, target: int, height: int, width: int, rows: Rows, parameters: Parameters
    ) -> None:
        """See the protocol."""
        tiling, kernel = self._trunk[parameters.reads]
        self._put(
            raw,
            kernel,
            tiling.features // tiling.outputs,
            tiling.work(rows, width),
            tiling.input_map(source, height, width),
            tiling.output_map(target, rows.end, width),
            tiling.weight_map(parameters.weights, tiling.features),
            parameters.bias,
            parameters.slope,
            parameters.scale,
            *parameters.remainders(source, target, height, width, rows.end, tiling.features),
            np.int32(rows.end),
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
        if self._wide_tail is not None:
            self._wide_tail(raw, source, picture, target, height, width, rows, parameters)
            return
        assert self._tail is not None
        into = target.pointer, target.plane, np.int32(width)
        self._put_tail(raw, self._tail, source, picture, height, width, rows, parameters, *into)

    def tail_resized(
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
        assert self._resized is not None
        into = target.pointer, target.plane, np.int32(height), np.int32(width)
        self._put_tail(raw, self._resized, source, picture, height, width, rows, parameters, *into)

    def tail_into(self, target: SurfaceDescriptor, *, dither: bool) -> SurfaceTail | None:
        """See the protocol."""
        how, itemsize = self._architecture, self._itemsize
        if not self._at_once or how.resampling is not None or not has_tail(how.features, itemsize):
            return None
        made = codes(target, how.factor, dither=dither)
        if made is None:
            return None
        kernel = self._load(self._stream, surface_source(how, made, itemsize))
        ending = surface_tiling(how, made, itemsize), kernel

        def put(
            raw: Any,
            source: int,
            picture: Planes,
            target: DevicePicture,
            top: int,
            height: int,
            width: int,
            rows: Rows,
            parameters: Parameters,
        ) -> None:
            planes = [target.planes[number] for number in made.planes]
            into = (
                *(plane.pointer for plane in planes),
                *(plane.pitch for plane in planes),
                np.int32(width),
                np.int32(top),
            )
            self._put_tail(raw, ending, source, picture, height, width, rows, parameters, *into)

        return put

    def _put_tail(
        self,
        raw: Any,
        tail: tuple[Tiling, Any],
        source: int,
        picture: Planes,
        height: int,
        width: int,
        rows: Rows,
        parameters: Parameters,
        *into: Any,
    ) -> None:
        """What all tails are told, and ``into`` where each writes."""
        tiling, kernel = tail
        self._put(
            raw,
            kernel,
            1,
            tiling.work(rows, width),
            tiling.input_map(source, height, width),
            tiling.weight_map(parameters.weights, tiling.outputs),
            parameters.bias,
            parameters.scale,
            picture.pointer,
            picture.plane,
            *into,
        )

    def _load(self, stream: Any, source: KernelSource) -> Any:
        return self._launcher.load(stream, source, arch=ARCH, shared_bytes=SHARED_BYTES)

    def _put(self, raw: Any, kernel: Any, parts: int, work: tuple[int, int, int], *args: Any) -> None:
        """``parts`` blocks share the work of one."""
        _, down, strips = work
        blocks = min(self._processors // parts, down * strips) * parts
        numbers = (np.int32(number) for number in work)
        self._launcher.put(raw, kernel, (blocks,), (THREADS,), *args, *numbers, shared_bytes=SHARED_BYTES)


def _span(nbytes: int) -> int:
    """The swizzle that so many bytes fit into."""
    return next(span for span in (32, 64, 128) if nbytes <= span)


def _source(name: str, constants: list[str], *texts: str) -> KernelSource:
    parts = [
        f"#define KERNEL {name}",
        *constants,
        *(_text(name) for name in ("wgmma_words.cuh", "wgmma_strip.cuh", *texts)),
    ]
    return KernelSource(name, "\n".join(parts))


@cache
def _text(name: str) -> str:
    return resources.files("rave_trio.inference.compact").joinpath("kernels", name).read_text("utf-8")
