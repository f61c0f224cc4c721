"""Contracts: what is refused before the first frame, what fails a run, and what is left of it."""

from __future__ import annotations

import json

import pytest

import rave_trio
from rave_trio import RunContract, errors
from rave_trio.contract import contract_from, read_contract
from rave_trio.devices.nvidia import Gpu
from rave_trio.promises import Witnessed, broken, check_contract


@pytest.fixture
def run(clip, tmp_path, nearest_x2):
    """A run of six frames under a contract."""
    source = clip(frames=6)

    def make(contract: RunContract, **options) -> rave_trio.PipelineReport:
        how = {"model": str(nearest_x2), "codec": "ffv1", "overwrite": True, **options}
        return rave_trio.upscale_sync(source, tmp_path / "out.mkv", contract=contract, **how)

    return make


def test_a_contract_that_is_kept_is_told_in_the_report(run):
    contract = RunContract(
        requested_device="cpu",
        deterministic_output=True,
        determinism_hash_frames=4,
        max_memory="8GiB",
        max_inference_p95_ms=60_000,
        max_frame_ms=60_000,
    )
    seen = run(contract).as_dict()["contract"]
    assert len(seen["hashes"]) == 4
    assert 0 < seen["inference_p95_ms"] <= seen["inference_ms"] < seen["frame_ms"]
    assert seen["frame_p95_ms"] <= seen["frame_ms"]


def test_without_clauses_about_frames_nothing_is_looked_at(run):
    assert run(RunContract(requested_device="cpu")).witnessed is None


def test_hashes_are_of_the_frames_and_the_same_in_every_run(run):
    first, again = (run(RunContract(determinism_hash_frames=6)).witnessed.hashes for _ in range(2))
    assert first == again
    assert len(set(first)) == 6
    assert run(RunContract(determinism_hash_frames=99)).witnessed.hashes == first
    assert run(RunContract(expected_hashes=first[:3])).witnessed.hashes == first[:3]
    other = run(RunContract(determinism_hash_frames=6), pixel_format="yuv444p").witnessed.hashes
    assert not set(other) & set(first)


def test_a_hash_is_that_of_the_samples(run, tmp_path):
    import hashlib

    import av

    (first,) = run(RunContract(determinism_hash_frames=1)).witnessed.hashes
    with av.open(tmp_path / "out.mkv") as found:
        picture = next(found.decode(video=0)).to_ndarray()  # yuv420p: planes one after the other, without padding
    assert hashlib.sha256(picture.tobytes()).hexdigest() == first


@pytest.mark.parametrize(
    ("contract", "clause"),
    [
        (RunContract(expected_hashes=("0" * 64,)), r"expected_hashes\[0\] was broken: frame 0 is"),
        (RunContract(max_inference_ms=1e-6), "max_inference_ms was broken: a frame took"),
        (RunContract(max_inference_p95_ms=1e-6), "max_inference_p95_ms was broken: one frame in twenty took"),
        (RunContract(max_frame_ms=1e-6), "max_frame_ms was broken"),
        (RunContract(max_frame_p95_ms=1e-6), "max_frame_p95_ms was broken"),
    ],
)
def test_a_broken_clause_fails_the_run_by_name_and_what_was_done_is_kept(run, tmp_path, contract, clause):
    with pytest.raises(errors.ContractBroken, match=clause) as caught:
        run(contract)
    assert "the first 6 frames" in str(caught.value)
    assert not (tmp_path / "out.mkv").exists()
    assert (tmp_path / "out.partial.mkv").exists()


def test_more_hashes_than_frames_are_a_broken_clause(run):
    with pytest.raises(errors.ContractBroken, match=r"expected_hashes\[6\] was broken: frame 6 is not there"):
        run(RunContract(expected_hashes=(*run(RunContract(determinism_hash_frames=6)).witnessed.hashes, "0" * 64)))


def test_another_device_than_the_contracts_is_refused_by_the_plan(run, tmp_path):
    with pytest.raises(errors.ContractRefused, match="requested_device cannot be kept") as caught:
        run(RunContract(requested_device="cuda"), device="cpu")
    assert "--device cuda" in caught.value.remedy
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "abacus"])
def test_a_device_that_is_not_there_is_refused_by_the_plan(run, monkeypatch, device):
    from rave_trio import choice
    from rave_trio.devices.nvidia import Nvidia

    monkeypatch.setattr(choice, "probe_nvidia", lambda **_: Nvidia(problem="there is no driver in this test"))
    with pytest.raises(errors.ContractRefused, match="requested_device cannot be kept"):
        run(RunContract(requested_device=device))


def test_a_limit_of_memory_is_planned_for_and_refused_where_nothing_fits(run):
    free = run(RunContract())
    tight = run(RunContract(max_memory=free.plan.fit.memory - 1))
    assert tight.plan.fit.memory < free.plan.fit.memory
    assert tight.ledger.peak <= tight.ledger.limit == free.plan.fit.memory - 1
    with pytest.raises(errors.ContractRefused, match="max_memory cannot be kept: this needs at least"):
        run(RunContract(max_memory="1MB"))
    with pytest.raises(errors.OutOfMemory):
        run(RunContract(max_memory="8GiB"), vram_limit="1MB")


def test_running_out_of_memory_breaks_a_deterministic_output(run, monkeypatch):
    from rave_trio.inference.openvino_backend import OpenVinoBackend

    genuine, failed = OpenVinoBackend.submit, []

    def scarce(backend, frame):
        if not failed:
            failed.append(True)
            raise MemoryError("no memory in this test")
        return genuine(backend, frame)

    monkeypatch.setattr(OpenVinoBackend, "submit", scarce)
    with pytest.raises(errors.ContractBroken, match="deterministic_output was broken: memory ran out"):
        run(RunContract(deterministic_output=True))


def test_tiles_that_come_of_free_memory_are_no_deterministic_output():
    gpu, contract = Gpu(index=0, name="a GPU"), RunContract(deterministic_output=True)
    with pytest.raises(errors.ContractRefused, match="deterministic_output"):
        check_contract(contract, gpu=gpu, tied=False)
    check_contract(contract, gpu=gpu, tied=True)
    check_contract(contract, gpu=None, tied=False)


def test_a_frame_in_twenty_is_more_than_five_percent():
    seen = Witnessed((), 0, 0, 10.0, 500.0)
    ledger = type("Stats", (), {"peak": 0})()
    assert broken(RunContract(max_frame_p95_ms=10), seen, ledger, 0) is None
    assert "max_frame_p95_ms" in str(broken(RunContract(max_frame_p95_ms=9.9), seen, ledger, 0))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "contract_schema_version is missing"),
        ({"contract_schema_version": 2}, "contract_schema_version is 2"),
        ({"contract_schema_version": 1, "max_memry": 5}, "max_memry is unknown"),
        ({"contract_schema_version": 1, "max_memory": "much"}, "max_memory must be an amount of memory"),
        ({"contract_schema_version": 1, "determinism_hash_frames": -1}, "determinism_hash_frames must be at least 0"),
        ({"contract_schema_version": 1, "max_frame_ms": 0}, "max_frame_ms must be a number above 0"),
        ({"contract_schema_version": 1, "expected_hashes": "abc"}, "expected_hashes must be a list of texts"),
    ],
)
def test_a_contract_that_makes_no_sense_is_refused_with_its_clause(document, said):
    with pytest.raises(errors.GraphError, match=said) as caught:
        contract_from(document)
    assert caught.value.remedy


@pytest.mark.parametrize("ending", ["json", "toml"])
def test_the_command_takes_contracts_and_exits_with_a_status_of_their_own(rave, clip, tmp_path, nearest_x2, ending):
    file = tmp_path / f"contract.{ending}"
    clauses = {"contract_schema_version": 1, "max_frame_ms": 0.001}
    lines = [f"{name} = {value}" for name, value in clauses.items()]
    file.write_text(json.dumps(clauses) if ending == "json" else "\n".join(lines))
    assert read_contract(file) == RunContract(max_frame_ms=0.001)
    done = rave("upscale", clip(frames=2), tmp_path / "out.mkv", "-m", nearest_x2, "--contract", file, "--json")
    assert done.status == errors.ContractBroken.exit_code == 71
    assert done.json["error"]["kind"] == "contract_broken"
    plan = rave("plan", clip(frames=2), tmp_path / "out.mkv", "-m", nearest_x2, "--contract", file, "--json").json
    assert plan["plan"]["contract"] == clauses


def test_a_warning_of_the_audit_fails_the_run_where_the_contract_says_so(run, monkeypatch):
    from rave_trio.audit.findings import AuditFinding, Level
    from rave_trio.audit.run import RunAudit

    strict = RunContract(fail_on_audit_warn=True)
    report = run(strict)
    assert report.audit is not None
    assert report.frames == 6
    monkeypatch.setattr(RunAudit, "_judge_ledger", lambda _: AuditFinding(Level.WARN, "ledger", "planted"))
    with pytest.raises(errors.ContractBroken, match=r"fail_on_audit_warn was broken: ledger: planted; .*is complete"):
        run(strict)
    assert run(RunContract(), audit=True).frames == 6
