"""Every exception that rave-trio raises on purpose.

``code`` and ``kind`` are stable: programs may match on them.  ``exit_code`` is the status of the command line tool; the
tens digit names the family, which is split by whose fault it is:

    RaveError
    ├── UsageError            2        yours: the request makes no sense
    ├── InputError            10..19   the input's
    ├── OutputError           20..29   the place, the container or the encoder that should take the result
    ├── ModelError            30..39   the model's
    ├── DeviceError           40..49   the device's
    ├── EngineError           50..59   ours
    ├── WatchError            60..69   what should let somebody watch
    ├── ContractError         70..79   whoever wrote the contract's, or the machine's
    └── Stopped               130      nobody's: a stop was asked for

Hundreds of ``code`` follow the engine's older numbering: 1xx device, 2xx model and inference, 3xx media, 4xx flow,
6xx invariants, 7xx recovered faults, 8xx requests, 9xx watching.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar


class RaveError(Exception):
    """Base of all.  ``str(error)`` is one line saying what happened and where; ``remedy`` says what to do.

    ``code``, ``kind`` and ``exit_code`` belong to the class and are stable; the reference lists them all.
    ``stage`` and ``frame`` (index in presentation order, from 0) are set when the error happened while frames flowed.
    """

    code: ClassVar[int] = 0
    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "error"
    default_remedy: ClassVar[str] = ""

    def __init__(
        self, message: str, *, remedy: str | None = None, stage: str | None = None, frame: int | None = None
    ) -> None:
        super().__init__(" ".join(message.split()))
        self.remedy = remedy or self.default_remedy
        self.stage = stage
        self.frame = frame

    def at(self, stage: str, frame: int | None) -> RaveError:
        """Say where it happened, unless that is known already; returns itself."""
        self.stage = self.stage or stage
        self.frame = frame if self.frame is None else self.frame
        return self

    def as_dict(self) -> dict[str, Any]:
        """The ``error`` object of the JSON output."""
        described: dict[str, Any] = {
            "code": self.code,
            "kind": self.kind,
            "message": str(self),
            "remedy": self.remedy,
        }
        if self.stage is not None:
            described["stage"] = self.stage
        if self.frame is not None:
            described["frame"] = self.frame
        if notes := getattr(self, "__notes__", None):
            described["notes"] = list(notes)
        return described


class UsageError(RaveError):
    """A request that cannot be carried out whatever the files are."""

    code, exit_code, kind = 800, 2, "usage"
    default_remedy = "see rave-trio --help"


class GraphError(UsageError):
    """A stage graph or a contract that makes no sense; the message says the place in it."""

    default_remedy = "see docs/graph.md"


class InputError(RaveError):
    """The input cannot be used.  Family 10..19."""


class InputNotFound(InputError):
    code, exit_code, kind = 310, 10, "input_not_found"
    default_remedy = "check the path"


class InputIsDirectory(InputError):
    code, exit_code, kind = 311, 11, "input_is_directory"
    default_remedy = "name one video file inside it"


class InputUnreadable(InputError):
    code, exit_code, kind = 312, 12, "input_unreadable"
    default_remedy = "check the file's permissions and the disk"


class InputEmpty(InputError):
    code, exit_code, kind = 313, 13, "input_empty"
    default_remedy = "copy or record the file again: it has no content"


class InputNotMedia(InputError):
    code, exit_code, kind = 305, 14, "input_not_media"
    default_remedy = "give a video file; rave-trio probe FILE shows what is inside one"


class InputHasNoVideo(InputError):
    code, exit_code, kind = 315, 15, "input_has_no_video"
    default_remedy = "give a file with a video stream; rave-trio probe FILE lists the streams"


class InputTruncated(InputError):
    code, exit_code, kind = 316, 16, "input_truncated"
    default_remedy = "get a complete copy of the file"


class DecodeError(InputError):
    code, exit_code, kind = 300, 17, "decode"
    default_remedy = "the stream is damaged there; get a better copy or remux it with another tool"


class DemuxError(InputError):
    code, exit_code, kind = 302, 18, "demux"
    default_remedy = "the container is damaged there; get a better copy or remux it with another tool"


class InputFormatUnsupported(InputError):
    code, exit_code, kind = 317, 19, "input_format_unsupported"
    default_remedy = "convert it to 8, 10 or 12 bit planar YUV or RGB first"


class OutputError(RaveError):
    """The result cannot be written as asked.  Family 20..29."""


class OutputExists(OutputError):
    code, exit_code, kind = 320, 20, "output_exists"
    default_remedy = "choose another name, or replace it with --overwrite"


class OutputFolderMissing(OutputError):
    code, exit_code, kind = 321, 21, "output_folder_missing"
    default_remedy = "create the folder first"


class OutputNotWritable(OutputError):
    code, exit_code, kind = 322, 22, "output_not_writable"
    default_remedy = "choose a folder that you may write to"


class DiskFull(OutputError):
    code, exit_code, kind = 323, 23, "disk_full"
    default_remedy = "free space on that disk or write to another one"


class ContainerUnsupported(OutputError):
    code, exit_code, kind = 324, 24, "container_unsupported"
    default_remedy = "name a file that ends in .mkv, .mp4, .mov or .webm, or numbered pictures such as out/%05d.png"


class ContainerRejectsStream(OutputError):
    code, exit_code, kind = 325, 25, "container_rejects_stream"
    default_remedy = "write to .mkv, which can hold it"


class OutputSizeUnsupported(OutputError):
    code, exit_code, kind = 326, 26, "output_size_unsupported"
    default_remedy = "use another --scale or --codec"


class EncodeError(OutputError):
    code, exit_code, kind = 301, 27, "encode"
    default_remedy = "try another --codec, --preset or --crf"


class MuxError(OutputError):
    code, exit_code, kind = 303, 28, "mux"
    default_remedy = "write to .mkv, which takes nearly everything"


class OutputIsInput(OutputError):
    code, exit_code, kind = 327, 29, "output_is_input"
    default_remedy = "write to another name: the input is never replaced"


class ModelError(RaveError):
    """The model cannot be used.  Family 30..39."""


class ModelUnknown(ModelError):
    code, exit_code, kind = 210, 30, "model_unknown"
    default_remedy = "rave-trio models lists the shipped ones; a path to an ONNX file works too"


class ModelBroken(ModelError):
    code, exit_code, kind = 211, 31, "model_broken"
    default_remedy = "export or download the ONNX file again"


class ModelUnsupported(ModelError):
    code, exit_code, kind = 201, 32, "model_unsupported"
    default_remedy = (
        "export it with one input and one output: NCHW, 1 or 3 channels, fp32 or fp16, enlarging by an integer"
    )


class ModelScaleMismatch(ModelError):
    code, exit_code, kind = 212, 33, "model_scale_mismatch"
    default_remedy = "leave out --scale or choose a model of that scale"


class InferenceError(ModelError):
    code, exit_code, kind = 200, 34, "inference"
    default_remedy = "try --precision fp32, a smaller --tile or another model"


class DeviceError(RaveError):
    """The device cannot do what was asked.  Family 40..49."""


class DeviceUnknown(DeviceError):
    code, exit_code, kind = 110, 40, "device_unknown"
    default_remedy = "use --device auto or --device cpu"


class PrecisionUnsupported(DeviceError):
    code, exit_code, kind = 111, 41, "precision_unsupported"
    default_remedy = "use --precision auto"


class OutOfMemory(DeviceError, MemoryError):
    """The device, or the limit that was set on it, cannot hold what is needed."""

    code, exit_code, kind = 112, 42, "out_of_memory"
    default_remedy = "use a smaller --tile, or free memory"


class AuditUnavailable(DeviceError):
    """What an audit watches cannot be watched here."""

    code, exit_code, kind = 113, 43, "audit_unavailable"
    default_remedy = "or leave out --audit"


class EngineError(RaveError):
    """A promise of ours that did not hold.  Family 50..59."""

    default_remedy = "please report this with the command and the output of -vv"


class FrameCountMismatch(EngineError):
    code, exit_code, kind = 600, 50, "frame_count_mismatch"


class StageCrashed(EngineError):
    """An exception nobody planned for; the original is ``__cause__``."""

    code, exit_code, kind = 700, 51, "stage_crashed"


class Stalled(EngineError):
    """A native call did not return.  Its thread, and what that holds, was left behind."""

    code, exit_code, kind = 702, 52, "stalled"
    default_remedy = "run it again; --stall-timeout gives slow machines more time"


class AuditFailed(EngineError):
    """A run whose result is published and whose audit found a promise that did not hold; ``report`` has both."""

    code, exit_code, kind = 601, 53, "audit_failed"

    report: Any = None
    """The :class:`rave_trio.PipelineReport`."""

    def as_dict(self) -> dict[str, Any]:
        described = super().as_dict()
        return described if self.report is None else {**described, "report": self.report.as_dict()}


class WatchError(RaveError):
    """The run cannot be watched as asked.  Family 60..69."""


class MetricsPortUnavailable(WatchError):
    code, exit_code, kind = 900, 60, "metrics_port_unavailable"
    default_remedy = "choose another --metrics-port or --metrics-host; port 0 takes any that is free"


class ContractError(RaveError):
    """A clause of the run's contract.  Family 70..79."""


class ContractRefused(ContractError):
    """What was asked for cannot keep the contract; nothing ran."""

    code, exit_code, kind = 610, 70, "contract_refused"
    default_remedy = "change that clause, or what is asked for"


class ContractBroken(ContractError):
    """The run did not keep the contract; nothing was published, unless the message says so."""

    code, exit_code, kind = 611, 71, "contract_broken"
    default_remedy = "loosen that clause, or find out what was in the way"


class Stopped(RaveError):
    """The run was stopped by a signal or by :meth:`rave_trio.Stop.request` before all frames were done."""

    code, exit_code, kind = 401, 130, "stopped"
    default_remedy = "run the same command again to start over"


@contextlib.contextmanager
def located(stage: str, frame: Callable[[], int | None]) -> Iterator[None]:
    """Give an error inside its stage and frame; one that nobody planned for becomes a StageCrashed or OutOfMemory."""
    try:
        yield
    except RaveError as error:
        error.at(stage, frame())
        raise
    except Exception as error:
        index = frame()
        place = "" if index is None else f" on frame {index}"
        if isinstance(error, MemoryError):
            raise OutOfMemory(f"{stage} found no memory{place}", stage=stage, frame=index) from error
        what = f"{stage} crashed{place}: {type(error).__name__}: {error}"
        raise StageCrashed(what, stage=stage, frame=index) from error
