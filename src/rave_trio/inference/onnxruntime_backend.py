"""The onnxruntime backend: frames through an ONNX model on an NVIDIA GPU, or over host memory on the CPU.

Memory and stream are ours.  A frame's memory is bound by its address, so nothing is copied, and the CUDA provider works
on the stream that it is given and does not wait for it: a run returns when its kernels are in the queue.

No CUDA graphs: a graph holds the addresses with which it was captured, so every frame would be copied into fixed
buffers and out of them, to save launches (about 40 a frame) that the host makes while the frame before is computed.
"""

from __future__ import annotations

from rave_trio import errors
from rave_trio.devices.interface import Stream
from rave_trio.inference.device_backend import DTYPES, DeviceBackend, DevicePool
from rave_trio.inference.device_tiles import Copy
from rave_trio.inference.model import Geometry, ModelMetadata
from rave_trio.inference.onnx_model import prepared
from rave_trio.inference.onnxruntime_session import Cpu, Cuda, OnnxRuntimeSession
from rave_trio.memory import Entry, Ledger

OWNER = "onnxruntime"
"""Whose the arena is in the ledger."""


class OnnxRuntimeBackend(DeviceBackend):
    """A :class:`~rave_trio.inference.device_backend.DeviceBackend` that computes with onnxruntime.

    ``precision`` is fp32 or fp16, whatever the file declares; tensors, weights and all between them are in it.  With
    the CPU provider ``stream`` and ``pool`` are those of a device whose memory the host can read, and fp16 is rounded
    at fewer places than on a GPU.

    ``provider.memory_limit`` of :class:`~rave_trio.inference.onnxruntime_session.Cuda` counts in ``ledger`` as long as
    the backend is open, whether onnxruntime has taken it already or not.
    """

    def __init__(
        self,
        metadata: ModelMetadata,
        geometry: Geometry,
        *,
        precision: str,
        provider: Cpu | Cuda,
        stream: Stream,
        pool: DevicePool,
        copy: Copy,
        ledger: Ledger | None = None,
        batch: int = 1,
    ) -> None:
        """Takes well under a second; with the CUDA provider the first frame takes some more, see ``search``.

        Raises PrecisionUnsupported, ModelUnsupported, DeviceUnknown, and OutOfMemory if the ledger's limit leaves no
        room for the arena.
        """
        if precision not in ("fp16", "fp32"):
            raise errors.PrecisionUnsupported(
                f"onnxruntime does not compute {precision} here", remedy="use --precision fp16 or fp32"
            )
        dtype = DTYPES[precision]
        self._arena = _arena(provider, ledger)
        try:
            model = prepared(metadata, geometry, dtype, batch)
            session = OnnxRuntimeSession(model, metadata.name, dtype, provider)
        except BaseException:
            self._close_arena()
            raise
        super().__init__(metadata, geometry, session, stream=stream, pool=pool, copy=copy, batch=batch)

    def close(self) -> None:
        """Wait for what runs, drop every frame that was not collected, and give back the arena.  Idempotent."""
        super().close()
        self._close_arena()

    def _close_arena(self) -> None:
        if self._arena is not None:
            self._arena.close()


def _arena(provider: Cpu | Cuda, ledger: Ledger | None) -> Entry | None:
    if ledger is None or isinstance(provider, Cpu) or provider.memory_limit is None:
        return None
    entry = ledger.try_enter(OWNER, provider.memory_limit)
    if entry is None:
        raise errors.OutOfMemory(f"there is no room for onnxruntime's {provider.memory_limit} bytes")
    return entry
