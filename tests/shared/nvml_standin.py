"""What goes for pynvml: boards with what NVML says of each, and the errors that it raises."""

from __future__ import annotations

import types

import attrs

GIB = 1 << 30
UUIDS = ["GPU-00000000-1111-2222-3333-444444444444", "GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"]


class NVMLError(Exception):
    def __init__(self, value):
        super().__init__(value)
        self.value = value

    def __str__(self):
        return {4: "Insufficient Permissions", 15: "GPU is lost"}.get(self.value, f"NVML Error with code {self.value}")


@attrs.define
class Board:
    """A GPU as the stand-in for NVML has it; an integer in the place of a value is the error that asking gives."""

    uuid: str | int = UUIDS[0]
    name: str | int = "NVIDIA H200"
    memory: tuple[int, int] | int = (140 * GIB, 139 * GIB)
    capability: tuple[int, int] | int = (9, 0)
    opens: int = 0
    compute_mode: int = 0
    pids: tuple[int, ...] = ()
    held: dict[int, int] = attrs.field(factory=dict)
    mig: int | None = None
    load: tuple[int | None, ...] | int = (0, 0, 0)
    """Percent of time that kernels, NVDEC and NVENC run; None of what the driver does not tell."""
    parts: tuple[Board, ...] = ()


class FakeNvml(types.ModuleType):
    """The functions of pynvml that are used, with its signatures, errors and codes."""

    NVMLError = NVMLError
    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION, NVML_ERROR_NOT_FOUND = 3, 4, 6
    NVML_ERROR_DRIVER_NOT_LOADED, NVML_ERROR_LIBRARY_NOT_FOUND, NVML_ERROR_LIB_RM_VERSION_MISMATCH = 9, 12, 18
    NVML_ERROR_GPU_NOT_FOUND = 28
    NVML_COMPUTEMODE_DEFAULT, NVML_COMPUTEMODE_PROHIBITED, NVML_COMPUTEMODE_EXCLUSIVE_PROCESS = 0, 2, 3

    def __init__(self, *boards, driver="580.82.07", cuda=13000, init=0):
        super().__init__("pynvml")
        self.boards, self.driver, self.cuda, self.init = boards, driver, cuda, init
        self.open = 0

    def nvmlInit(self):  # noqa: N802
        if self.init:
            raise NVMLError(self.init)
        self.open += 1

    def nvmlShutdown(self):  # noqa: N802
        self.open -= 1

    def nvmlSystemGetDriverVersion(self):  # noqa: N802
        return self.driver

    def nvmlSystemGetCudaDriverVersion(self):  # noqa: N802
        return self.cuda

    def nvmlDeviceGetCount(self):  # noqa: N802
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return self._said(self.boards[index], self.boards[index].opens)

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        for board in self.boards:
            if board.uuid == uuid:
                return board
        raise NVMLError(self.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetName(self, handle):  # noqa: N802
        return self._said(handle.name)

    def nvmlDeviceGetUUID(self, handle):  # noqa: N802
        return self._said(handle.uuid)

    def nvmlDeviceGetPciInfo(self, handle):  # noqa: N802
        return types.SimpleNamespace(busId=b"00000000:01:00.0")

    def nvmlDeviceGetCudaComputeCapability(self, handle):  # noqa: N802
        return self._said(handle.capability)

    def nvmlDeviceGetMemoryInfo(self, handle, version=None):  # noqa: N802
        total, free = self._said(handle.memory)
        return types.SimpleNamespace(total=total, free=free, used=total - free)

    def nvmlDeviceGetUtilizationRates(self, handle):  # noqa: N802
        return types.SimpleNamespace(gpu=self._busy(handle, 0), memory=0)

    def nvmlDeviceGetDecoderUtilization(self, handle):  # noqa: N802
        return [self._busy(handle, 1), 166667]

    def nvmlDeviceGetEncoderUtilization(self, handle):  # noqa: N802
        return [self._busy(handle, 2), 166667]

    def nvmlDeviceGetComputeMode(self, handle):  # noqa: N802
        return handle.compute_mode

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802
        return [types.SimpleNamespace(pid=pid, usedGpuMemory=handle.held.get(pid)) for pid in handle.pids]

    def nvmlDeviceGetMigMode(self, device):  # noqa: N802
        if device.mig is None:
            raise NVMLError(self.NVML_ERROR_NOT_SUPPORTED)
        return [device.mig, device.mig]

    def nvmlDeviceGetMaxMigDeviceCount(self, device):  # noqa: N802
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device, index):  # noqa: N802
        if index >= len(device.parts):
            raise NVMLError(self.NVML_ERROR_NOT_FOUND)
        return device.parts[index]

    def _said(self, value, error=0):
        if error or isinstance(value, int):
            raise NVMLError(error or value)
        return value

    def _busy(self, handle, which):
        share = self._said(handle.load)[which]
        return self._said(self.NVML_ERROR_NOT_SUPPORTED if share is None else (share,))[0]
