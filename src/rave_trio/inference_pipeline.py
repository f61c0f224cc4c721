"""One picture in, one out, without a video: the same models, devices and exact sizes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import attrs
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from rave_trio.assembly import HostWorkshop, Workshop, retreating, size_of
from rave_trio.choice import Choice, choose
from rave_trio.color.pictures import Picture, from_array, from_frame, to_array, to_frame
from rave_trio.costs import Costs, costs_of
from rave_trio.fit import Work, best_fit
from rave_trio.frames import ChromaLocation, Frame, PixelFormat, SurfaceDescriptor, Tensor
from rave_trio.gpu.path import unsuited
from rave_trio.graph import StageGraph
from rave_trio.inference.model import Geometry
from rave_trio.inference.retreat import RetreatingBackend
from rave_trio.intent import graph_of
from rave_trio.media.picture import surface_of
from rave_trio.memory import Ledger, Waiting
from rave_trio.options import UpscaleOptions
from rave_trio.plan import networks_of, precision_of
from rave_trio.profiles import with_profile
from rave_trio.resizing.host import Lanczos
from rave_trio.steps import Enhancing, Step, steps_of

Floats = npt.NDArray[np.float32]

PLANAR = PixelFormat("gbrp", 8, is_rgb=True)
"""What memory is counted for; there are no surfaces here."""


TRIED = 64, 64
"""Width and height for which the models are found first, before there is a picture."""


@attrs.frozen
class Setting:
    """What computes, and how."""

    choice: Choice
    precision: str
    audited: bool = False

    @property
    def backend(self) -> str:
        """The library."""
        return self.choice.backend

    @property
    def threads(self) -> int:
        """Of the host."""
        return self.choice.host.cores


class InferencePipeline:
    """Models over single pictures; what was made for one size serves the next picture of that size.

    ``options`` are those of :class:`rave_trio.UpscaleOptions` that say what is done with a picture and where: model,
    scale, precision, device, backend, tile, vram_limit, size, square_pixels, graph, profile.  Of a graph what decodes
    and encodes is not looked at.

    Blocking; one caller at a time, from any thread.  Closing it gives everything back; so does leaving a ``with``.

    >>> import numpy as np
    >>> from rave_trio import InferencePipeline
    >>> picture = np.zeros((48, 64, 3), np.uint8)
    >>> with InferencePipeline(scale=2) as pipeline:
    ...     larger = pipeline.process(picture)
    >>> larger.shape, larger.dtype
    ((96, 128, 3), dtype('uint8'))
    """

    def __init__(self, **options: Any) -> None:
        """Read the models, choose the device and open it.

        Raises UsageError, a ModelError, DeviceUnknown, PrecisionUnsupported or OutOfMemory.
        """
        self._options = UpscaleOptions(input="", output="", **with_profile(options))
        self._graph: StageGraph = graph_of(self._options)
        steps = steps_of(self._graph, SurfaceDescriptor(*TRIED, PLANAR))
        models = [step.model.metadata.path for step in steps if isinstance(step, Enhancing)]
        choice = choose(
            self._options.device,
            self._options.backend,
            unsuited=lambda backend, gpu: unsuited(backend, models, self._graph.precision, self._options, gpu),
        )
        precision, _ = precision_of(choice, self._graph.precision, models)
        self.setting = Setting(choice, precision)
        """What computes, and how."""
        self._ledger = Ledger(self._options.vram_limit)
        self._workshop: Workshop | None = _workshop(self.setting, self._ledger)
        self._made: tuple[tuple[int, int], tuple[Step, ...], RetreatingBackend] | None = None

    def process(self, picture: npt.NDArray[Any] | VideoFrame) -> Any:
        """The picture enhanced, of the kind that it came as.

        An array is H x W or H x W x 1 to 4 (grey, grey and alpha, RGB, RGB and alpha), uint8 or uint16 in full range,
        or floating with white at 1; the result has its channels and its dtype.  A libav frame, whose colour tags count,
        gives a frame in gray, ya8, rgb24 or rgba, or their 16 bits for what had more than 8.  Alpha, which is straight,
        is brought to the result's size by Lanczos-3.

        Raises ValueError or TypeError for what is no picture, a ModelError for what the model cannot take, OutOfMemory.
        """
        if isinstance(picture, np.ndarray):
            return to_array(*self.enhance(from_array(picture)), like=picture)
        found = from_frame(picture, surface_of(picture, ChromaLocation.UNSPECIFIED, None))
        return to_frame(*self.enhance(found), grey=found.grey, deep=found.deep)

    def enhance(self, picture: Picture) -> tuple[Floats, Floats | None]:
        """Samples and alpha of the result: C x H x W, with C of 1 where the model makes grey, and H x W; float32."""
        assert self._workshop is not None, "the pipeline is closed"
        _, height, width = picture.samples.shape
        steps, backend = self._backend(height, width)
        tensor = self._workshop.tensor(picture.samples)
        frame = Frame(0, 0, 1, Fraction(1), True, tensor)
        try:
            backend.submit(frame)
        except BaseException:
            frame.close()
            raise
        done = backend.collect()
        try:
            assert isinstance(done.picture, Tensor)
            samples = self._workshop.samples(done.picture)
        finally:
            done.close()
        alpha = None
        if picture.alpha is not None:
            alpha = np.empty(size_of(steps[-1].target), np.float32)
            Lanczos((height, width), alpha.shape).plane(picture.alpha, alpha)
        return samples, alpha

    def close(self) -> None:
        """Give back memory, models and the device.  Idempotent."""
        self._forget()
        workshop, self._workshop = self._workshop, None
        if workshop is not None:
            workshop.close()

    def _backend(self, height: int, width: int) -> tuple[tuple[Step, ...], RetreatingBackend]:
        """What works on pictures of that size, made if the one before was of another."""
        if self._made is not None and self._made[0] == (height, width):
            return self._made[1:]
        self._forget()
        assert self._workshop is not None
        source = SurfaceDescriptor(width, height, PLANAR)
        steps = steps_of(self._graph, source)
        options, precision = self._options, self.setting.precision
        target = attrs.evolve(steps[-1].target, pixel_format=PLANAR)
        choice = self.setting.choice
        costs = _alone(costs_of(choice.host, choice.gpu, precision))
        networks = tuple(map(_alone, networks_of(choice, precision, steps)))
        work = Work(steps, source, target, precision, costs, networks, None, None, options.stall_timeout)
        backend = retreating(work, best_fit(work, options.vram_limit), self._workshop)
        self._made = (height, width), steps, backend
        return steps, backend

    def _forget(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            made[2].close()

    def __enter__(self) -> InferencePipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _workshop(setting: Setting, ledger: Ledger) -> Workshop:
    gpu = setting.choice.gpu
    if gpu is None:
        return HostWorkshop(setting, ledger, Waiting())
    from rave_trio.gpu.assembly import GpuWorkshop

    return GpuWorkshop(setting, gpu, ledger, Waiting())


@attrs.frozen
class _Alone:
    """What a picture costs that has no video around it: no surfaces, no encoder, nothing else under way."""

    inner: Costs

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def surface(self, surface: SurfaceDescriptor) -> int:
        return 0

    def encoder_frames(self) -> int:
        return 0

    def depth(self, geometry: Geometry, streams: int, batch: int) -> int:
        return 1

    def waiting(self, geometry: Geometry, streams: int, batch: int) -> int:
        return 1


def _alone(costs: Costs) -> Costs:
    return cast(Costs, _Alone(costs))
