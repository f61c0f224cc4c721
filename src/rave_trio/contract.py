"""What a run has to keep, or fail: a contract as a document and as a value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from rave_trio.errors import GraphError
from rave_trio.graph.documents import build, read_document
from rave_trio.graph.settings import Above, Bytes, Switch, Text, Texts, Whole, given, setting
from rave_trio.values import as_bytes

CONTRACT_SCHEMA_VERSION = 1


@attrs.frozen(kw_only=True)
class RunContract:
    """The clauses of a run; those that are None are not there.

    What the plan can see that cannot be kept is refused before the first frame, as ContractRefused; what is not kept
    fails the run as ContractBroken, and nothing is published.  Both name the clause.

    A frozen value, for any thread.  Raises UsageError for a clause that makes no sense.

    >>> from rave_trio import RunContract
    >>> RunContract(requested_device="cuda", determinism_hash_frames=8, max_frame_p95_ms=250).hashed_frames
    8
    """

    contract_schema_version: int = CONTRACT_SCHEMA_VERSION
    requested_device: str | None = setting(Text(), "what has to compute: cpu, cuda for any GPU, or one such as cuda:1")
    deterministic_output: bool | None = setting(
        Switch(), "whether the same job on the same machine and libraries must give the same frames"
    )
    determinism_hash_frames: int | None = setting(
        Whole(0), "how many output frames, from the first on, are hashed before encoding, for the report"
    )
    expected_hashes: tuple[str, ...] | None = setting(Texts(), "hashes of an earlier report that must come out again")
    fail_on_audit_warn: bool | None = setting(
        Switch(), "whether the run is audited, and a warning of the audit fails it as a failure does"
    )
    max_memory: int | str | None = setting(Bytes(), "the most that the engine may hold, as 2GiB; it plans for that")
    max_inference_p95_ms: float | None = setting(
        Above(), "the most that 95% of the frames may take from the models' taking them to their results"
    )
    max_inference_ms: float | None = setting(Above(), "the same for every frame")
    max_frame_p95_ms: float | None = setting(
        Above(), "the most that 95% of the frames may take from decoded to encoded, queues included"
    )
    max_frame_ms: float | None = setting(Above(), "the same for every frame")

    @property
    def memory_limit(self) -> int | None:
        """``max_memory`` in bytes."""
        return as_bytes(self.max_memory)

    @property
    def hashed_frames(self) -> int:
        """How many frames are hashed."""
        return max(self.determinism_hash_frames or 0, len(self.expected_hashes or ()))

    @property
    def watches(self) -> bool:
        """Whether frames have to be looked at as they flow."""
        limits = self.max_inference_p95_ms, self.max_inference_ms, self.max_frame_p95_ms, self.max_frame_ms
        return bool(self.hashed_frames) or any(limit is not None for limit in limits)

    def as_dict(self) -> dict[str, Any]:
        """The document, in plain values; clauses that are not there are left out."""
        return {"contract_schema_version": self.contract_schema_version, **given(self)}


def read_contract(path: str | Path) -> RunContract:
    """The contract in a file, TOML if its name ends so and JSON otherwise.  Raises GraphError, which names the file."""
    path = Path(path)
    try:
        return contract_from(read_document(path))
    except GraphError as error:
        raise GraphError(f"{path}: {error}", remedy=error.remedy) from error


def contract_from(document: Mapping[str, Any]) -> RunContract:
    """The contract of plain values.  Raises GraphError with the clause."""
    clauses = {name: value for name, value in document.items() if name not in ("contract_schema_version", "$schema")}
    if "contract_schema_version" not in document:
        raise GraphError(
            "contract_schema_version is missing", remedy=f"write contract_schema_version {CONTRACT_SCHEMA_VERSION}"
        )
    version = document["contract_schema_version"]
    if version != CONTRACT_SCHEMA_VERSION or isinstance(version, bool):
        raise GraphError(
            f"contract_schema_version is {version!r}, and this rave-trio knows {CONTRACT_SCHEMA_VERSION}",
            remedy=f"write contract_schema_version {CONTRACT_SCHEMA_VERSION}",
        )
    contract: RunContract = build(RunContract, clauses, "", "a contract has")
    return contract
