"""What a set of kernels for the Compact family does, and how numbers lie in a device's memory.

Activations are dense, rows x width x features: NHWC of one picture, with ``features`` the network's own padded with
zero channels to one of :data:`FEATURES`; their memory begins at a multiple of 256 bytes.  What lies outside their rows
and columns counts as zero.  Pictures are planar RGB, nominally in [0, 1].  Both are fp16.

Packed parameters, each piece at a multiple of 256 bytes, zero where padded; a tap is ``3 * ky + kx``:

| layer | weights, fp16 | bias and slope, fp32 |
| --- | --- | --- |
| head | [features][32]: ``3 * tap + c`` of 27, c being R, G, B | [features] each |
| trunk | [9 taps][features out][features in] | [features] each |
| tail | [9 taps][outputs][features in] | bias [outputs]; no slope |

In fp8 the trunk's first layer, which reads fp16, has weights in fp16 as the head has; it and all others of the trunk
write e4m3, and what reads that has weights in e4m3.  Sums of e4m3 are multiplied by a scale, an output's own, before
the bias.  Of the channels 0, 2, 4 and so on, :data:`REMAINING` in all, what rounding took away lies behind the
activations, the remainders, e4m3 too.  A layer of the trunk adds each remainder to the same channel's sum, as through
the weight of the middle tap, and leaves those of its own results; the first one only leaves them, the last one does
neither, and the tail adds none.

Remainders begin at :func:`remainders_at` and lie as the threads of a matrix product hold them.  Of a row, 128 pixels
take 1024 bytes, and the last ones that are left as many.  Of these pixels, pixel ``64 * a + 8 * b + 2 * c + d``, with d
below 2, c below 4 and b below 8, has that of channel ``2 * i`` at byte ``512 * a + 64 * i + 16 * c + 2 * b + d``.

After the bias comes ``x > 0 ? x : slope * x``, before e4m3 ``max(x, slope * x)``, and then rounding.  The tail's output
``c * factor**2 + i * factor + j`` of the pixel (y, x) is plane c's sample (y * factor + i, x * factor + j).

Where :attr:`KernelSet.resizes_at_once` the resize is within the tail's weights and bias, and its outputs are sums in
the places of samples: ``c * factor**2 + v * factor + h`` is the v-th sum of rows of the h-th sum of columns of the
pixel's samples of plane c.  Sums up to before ``scale`` are of the samples as the pixel's own results count them; sum
``scale`` is the first sample and sum ``scale + 1`` the last one, which neighbours count; others are zero.
"""

from __future__ import annotations

from typing import Any, Protocol

import attrs

from rave_trio.devices.arrays import DevicePicture
from rave_trio.frames import SurfaceDescriptor

FEATURES = (16, 32, 48, 64, 96, 128)
"""What a network's features are padded to, the next larger of these."""

OUTPUT_STEP = 16
"""The tail's outputs are padded to a multiple of this."""

PLANES = 3

TAPS = 9
HEAD_STEPS = 32
"""Of the head's inputs, all taps together, padded."""

ALIGNMENT = 256
"""Bytes; where each piece of parameters and each buffer begins."""

REMAINING = 8
"""Channels that have remainders, which in a network in fp8 are its most important ones."""

REMAINING_CHANNELS = slice(0, 2 * REMAINING, 2)
"""Which they are."""

REMAINDER_PIXELS = 128
"""Remainders of a row take as much memory as if its pixels were a multiple of this."""


def remainders_at(height: int, width: int, features: int) -> int:
    """How many bytes behind where e4m3 activations begin their remainders do; ``height`` rows are held."""
    return -(-height * width * features // ALIGNMENT) * ALIGNMENT


def remainder_bytes(height: int, width: int) -> int:
    """All of them together."""
    return height * -(-width // REMAINDER_PIXELS) * REMAINDER_PIXELS * REMAINING


@attrs.frozen
class Resampling:
    """A final resize, in both directions alike, by weighted sums that repeat with every pixel of the picture.

    The result is ``scale`` times as large as the picture, made of one that is ``factor`` (the tail's) times as large.
    Row ``scale * y + p`` of the result is the sum over k of ``taps[p][k]`` times row ``factor * y + first[p] + k`` of
    that, rows beyond the edge being the edge's; columns likewise.
    """

    scale: int
    first: tuple[int, ...]
    """For each of ``scale`` phases."""
    taps: tuple[tuple[float, ...], ...]
    """For each phase as many weights, zero where fewer are needed."""


@attrs.frozen
class Architecture:
    """All that kernels are generated for."""

    features: int
    """Padded: one of :data:`FEATURES`."""
    factor: int
    """Of the pixel shuffle, 1 to 4: the tail has ``3 * factor**2`` outputs."""
    skip: bool
    """Whether the picture, each pixel repeated ``factor`` x ``factor`` times, is added to what the tail computes."""
    clip: bool
    """Whether the result is clipped to [0, 1], at the very end."""
    resampling: Resampling | None = None
    """None where the tail's picture is the result."""

    @property
    def outputs(self) -> int:
        """Of the tail, padded."""
        return -(-PLANES * self.factor**2 // OUTPUT_STEP) * OUTPUT_STEP

    @property
    def scale(self) -> int:
        """By how much the network enlarges."""
        return self.factor if self.resampling is None else self.resampling.scale


HALVES = 2, 2
"""Bytes of the activations that a layer of the trunk reads and writes."""

EIGHTHS = (2, 1), (1, 1)
"""The same in fp8, of the first layer and of the others."""


@attrs.frozen
class Parameters:
    """Addresses of one layer's packed parameters on the device, and in fp8 whether it has to do with remainders.

    What is written in e4m3 is limited to what that holds.  It is divided beforehand, by way of scale and bias (or
    weights and bias), since the activation function is positively homogeneous.  Where the slope is more than 1 it is
    negated too: for ``-x`` the maximum is what the function makes of ``x``, negated.
    """

    weights: int
    bias: int
    slope: int = 0
    """0 in the tail, which has none."""
    scale: int = 0
    """Of a layer that reads e4m3: fp32 [outputs], by which sums are multiplied before the bias, and in the trunk behind
    them [:data:`REMAINING`], by which remainders are; else 0."""
    remains: bool = False
    """Whether a layer of the trunk leaves remainders, and adds those of what it reads in e4m3."""

    @property
    def reads(self) -> int:
        """Bytes of an activation that a layer of the trunk reads."""
        return 1 if self.scale else 2

    def remainders(self, source: int, target: int, height: int, width: int, end: int, features: int) -> tuple[int, int]:
        """Where a layer of the trunk finds remainders and where it leaves them, each 0 where it does not.

        The activations are those at ``source``, of ``height`` rows, and at ``target``, before row ``end``.
        """
        if not self.remains:
            return 0, 0
        found = source + remainders_at(height, width, features) if self.scale else 0
        return found, target + remainders_at(end, width, features)


@attrs.frozen
class Planes:
    """A planar fp16 picture in a device's memory: the sample (c, y, x) lies ``c * plane + y * width + x`` elements on.

    ``width`` is the picture's own.  ``pointer`` may be any address of an fp16 value: a strip begins where it likes.
    """

    pointer: int
    plane: int
    """Elements from one plane to the next, which may be more than the rows at hand take."""


@attrs.frozen
class Rows:
    """The rows to write, ``begin`` to before ``end``; others are left as they are."""

    begin: int
    end: int


class SurfaceTail(Protocol):
    """The last convolution and the pixel shuffle straight into a surface; see :meth:`KernelSet.tail_into`."""

    def __call__(
        self,
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
        """Of the activations at ``source`` into the rows of ``target`` that belong to ``rows``.

        ``target`` is all of the surface, and row 0 of the activations is row ``top`` of the picture.
        """


class KernelSet(Protocol):
    """The kernels of one architecture, loaded onto one device.  One caller at a time, from any thread.

    Each call puts one kernel into ``raw`` (cuda.core's stream, which may be being captured into a graph) and returns at
    once; it allocates nothing and waits for nothing.

    ``height`` and ``width`` are of what is read, at least 1: of a picture, or of those rows of a strip of it that hold
    something; what lies below is not read, since it may be numbers that are none.  ``rows`` are counted in pixels of
    that picture too, end at ``height`` or above, and are such that the rows read around them hold something as well.
    The tail writes the rows ``factor * rows.begin`` to before ``factor * rows.end`` of its target, and the resize
    ``scale *`` as many.

    Targets overlap no source.  The same values give the same results whatever ``rows``, ``height`` and where the memory
    lies, so that strips join without a seam.
    """

    @property
    def fp8(self) -> bool:
        """Whether the trunk writes e4m3; else it writes fp16."""

    @property
    def resizes_at_once(self) -> bool:
        """Whether :meth:`tail_resized` is there, for this architecture: in place of :meth:`tail` and :meth:`resize`."""

    def head(
        self, raw: Any, picture: Planes, target: int, height: int, width: int, rows: Rows, parameters: Parameters
    ) -> None:
        """The first convolution, of the picture into the activations at ``target``."""

    def trunk(
        self, raw: Any, source: int, target: int, height: int, width: int, rows: Rows, parameters: Parameters
    ) -> None:
        """One convolution between activations."""

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
        """The last convolution and the pixel shuffle, of the activations at ``source`` into a planar picture.

        Without a resampling this is the result: with the skip added, and then clipped, in fp32 before rounding.  With
        one it is neither, and goes to :meth:`resize`.
        """

    def resize(
        self, raw: Any, source: Planes, picture: Planes, target: Planes, height: int, width: int, rows: Rows
    ) -> None:
        """The resampling of what the tail wrote, ``factor`` times the picture's size, and of the skip, in fp32.

        Called only for architectures with a resampling.  ``height`` and ``width`` are the picture's.
        """

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
        """The last convolution and the resampling at once, of the activations at ``source`` into the result.

        The tail's outputs are the sums that it has then, of which none is rounded or written anywhere.  ``rows`` are
        the resize's; what is read around them is as far as both reach, and ends at ``height`` only where the picture
        does.  Called only if :attr:`resizes_at_once`.
        """

    def tail_into(self, target: SurfaceDescriptor, *, dither: bool) -> SurfaceTail | None:
        """A tail that writes surfaces like ``target``, with the codes of the tail's picture converted by
        :mod:`rave_trio.color.cuda`, bit for bit; None where these kernels leave that to the converter.  Some seconds.
        """


class MakeKernels(Protocol):
    """A kernel set's class: ``MmaKernels(architecture, launcher, stream)``."""

    def __call__(self, architecture: Architecture, launcher: Any, stream: Any) -> KernelSet:
        """Compile and load the kernels onto the device of ``stream`` (an engine's, with ``raw``).  Some seconds once.

        ``launcher`` is a :class:`rave_trio.devices.launcher.CudaLauncher`: ``load`` with ``arch`` and
        ``shared_bytes``, then ``put`` into the raw stream.
        """
