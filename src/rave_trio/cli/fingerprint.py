"""``rave-trio fingerprint``: what to send along with a report of a fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_trio.cli.flags import Common, Output
from rave_trio.cli.render import table

if TYPE_CHECKING:
    from rave_trio.fingerprint import EngineFingerprint

DEFAULT_COMMON = Common()


def fingerprint(*, common: Common = DEFAULT_COMMON) -> Output:
    """Show the versions and the hardware that decide what a run does, to be sent along with a report of a fault.

    There is no path in it and no name of a user, host or file.  A run's report has it together with the model's and the
    plan's hash.
    """
    from rave_trio.fingerprint import fingerprint

    common.start_logging()
    found = fingerprint()
    return Output({"fingerprint": found.as_dict()}, _text(found))


def _text(found: EngineFingerprint) -> str:
    rows = [
        ("rave-trio", found.rave_trio),
        ("python", found.python),
        ("platform", found.platform),
        ("cpu", f"{found.cpu.name}, {found.cpu.cores} cores, {found.cpu.memory_bytes / 1e9:.1f} GB"),
        *(("gpu", f"{gpu.name}, {(gpu.memory_total or 0) / 1e9:.1f} GB") for gpu in found.gpus),
        ("driver", found.driver or "none"),
        ("cuda", found.cuda or "none"),
        ("tensorrt", found.tensorrt or "none"),
        ("libraries", ", ".join(f"{name} {version}" for name, version in found.libraries.items())),
        ("ffmpeg", ", ".join(f"{name} {version}" for name, version in found.ffmpeg.items())),
    ]
    return table(rows)
