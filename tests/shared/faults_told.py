"""How a run ends by each kind of planted fault, in the pipeline alone as in the whole product."""

from __future__ import annotations

from rave_trio import errors

RAISED = {
    "out_of_memory": errors.OutOfMemory,
    "encoder_refusal": errors.EncodeError,
    "disk_full": errors.DiskFull,
}
INTERRUPTS = {"keyboard_interrupt": KeyboardInterrupt, "system_exit": SystemExit}

WRONG_SIZE = {
    ("decode", "read"): ("preprocess", errors.DecodeError),
    ("preprocess", "convert"): ("inference", errors.StageCrashed),
    ("inference", "collect"): ("inference", errors.StageCrashed),
    ("inference", "convert"): ("encode", errors.EncodeError),
}
"""Who notices a picture of a wrong size that the call has handed out."""
