"""What every command prints with ``--json`` is as its published schema says, on success and on failure."""

from __future__ import annotations

import json
from collections.abc import Iterator

import jsonschema
import pytest
from cyclopts import App
from made_up_gpus import BOTH, gpu, machine
from referencing import Registry, Resource

from rave_trio import UpscaleOptions, job, make_plan
from rave_trio.audit import selftest, stress, suite
from rave_trio.audit.selftest import Check
from rave_trio.cli.app import build_app
from rave_trio.cli.progress import open_progress
from rave_trio.devices import nvidia
from rave_trio.devices.nvidia import DecoderFormat, EncoderFormat, Gpu, Nvidia, VideoEngines
from rave_trio.memory import Ledger
from rave_trio.report import SCHEMA

__all__ = ["machine"]

FILES = {path.stem: json.loads(path.read_text()) for path in SCHEMA.parent.glob("*.json")}
REGISTRY = Registry().with_resources(
    [(f"{name}.json", Resource.from_contents(schema)) for name, schema in FILES.items()]
)

SUCCEEDS = {
    "upscale": [
        ["{clip}", "{out}.mkv", "-m", "{model}"],
        ["{rich}", "{out}.mkv", "-m", "{model}", "--tile", "32", "--vram-limit", "500MB", "--audit"],
        ["{clip}", "{out}.mkv", "--graph", "{graph}", "--profile", "quality", "--contract", "{contract}"],
        ["{clip}", "{out}/%05d.png", "-m", "{model}"],
    ],
    "plan": [
        ["{clip}", "{out}.mkv"],
        ["{rich}", "{out}.mkv", "--graph", "{graph}", "--profile", "production_strict"],
        ["{hdr}", "{out}.mkv", "--size", "200x100"],
    ],
    "graph show": [
        [],
        ["-m", "x.onnx", "--size", "1920x", "--deinterlace", "bwdif", "--frame-rate", "24000/1001", "--crf", "3"],
        ["--profile", "production_strict", "--format", "toml"],
    ],
    "graph validate": [["{graph}"]],
    "image": [["{picture}", "{out}.png", "-m", "{model}"]],
    "probe": [["{clip}"], ["{rich}"], ["{hdr}"], ["{sample}"]],
    "compare": [["{clip}", "{clip}"], ["{clip}", "{rich}"]],
    "models": [[]],
    "devices": [[]],
    "fingerprint": [[]],
    "selftest": [[]],
    "audit": [["{clip}", "--quick", "--device", "cpu"]],
    "audit stress": [["--frames", "4"]],
    "benchmark": [
        ["{clip}", "-m", "{model}", "--repeat", "1", "--warm-up", "0"],
        [
            "{clip}",
            "-m",
            "{model}",
            "--repeat",
            "1",
            "--warm-up",
            "0",
            "--skip-encode",
            "--sweep",
            "streams=1,tile=auto",
        ],
    ],
    "benchmark compare": [["{measured}", "{measured}"]],
    "validate": [["{fixture}", "--update"], ["{fixture}", "{odd}"]],
    "completion": [["bash"]],
}
"""Arguments by command.  A command that is not here, or has no schema, fails a test below."""

FAILS = {
    "upscale": [
        ["{nothing}.mkv", "{out}.mkv"],
        ["{clip}", "{clip}"],
        ["{broken}", "{out}.mkv", "-m", "{model}"],
        ["{clip}", "{out}.mkv", "-m", "{model}", "--contract", "{impossible}"],
        ["{clip}", "{out}.mkv", "--device", "cuda:9"],
        ["{clip}"],
    ],
    "plan": [["{clip}", "{nothing}/out.mkv"], ["{clip}", "{out}.mkv", "--model", "{clip}"]],
    "graph show": [["--graph", "{nothing}"]],
    "graph validate": [["{contract}"]],
    "image": [["{clip}", "{out}.jpg"]],
    "probe": [["{nothing}"], ["{model}"]],
    "compare": [["{clip}", "{nothing}"]],
    "audit": [["{nothing}"]],
    "audit stress": [["--frames", "0"]],
    "benchmark": [["{nothing}"], ["{clip}", "--sweep", "colour"]],
    "benchmark compare": [["{clip}", "{nothing}"]],
    "validate": [["{fixture}", "{nothing}"]],
    "completion": [["tcsh"]],
}
"""The same where a command ends with an error of its own; an unknown flag fails every command."""


def commands(app: App, words: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command that does something, by its words."""
    below = [name for name in app if not name.startswith("-")]
    if words and (not below or app.default_command is not None):
        yield " ".join(words)
    for name in below:
        yield from commands(app[name], (*words, name))


COMMANDS = sorted(commands(build_app(None)))


def cases(table: dict[str, list[list[str]]]) -> list[object]:
    return [
        pytest.param(command, arguments, id=f"{command} {at}")
        for command, several in table.items()
        for at, arguments in enumerate(several)
    ]


def schema_of(command: str) -> dict[str, object]:
    return FILES[f"command-{command.replace(' ', '-')}"]


def check(command: str, document: object) -> None:
    jsonschema.Draft202012Validator(schema_of(command), registry=REGISTRY).validate(document)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Checks of the machine that take no time."""
    monkeypatch.setattr(selftest, "all_checks", lambda: [Check("cpu", lambda folder: f"looked into {folder}")])
    monkeypatch.setattr(suite, "QUICK", suite.Extent(runs=3, stressed=4))
    defaults = {**stress.stress_test_synthetic.__kwdefaults__, "sizes": ((64, 32), (96, 64))}
    monkeypatch.setattr(stress.stress_test_synthetic, "__kwdefaults__", defaults)


@pytest.fixture
def fill(tmp_path, clip, nearest_x2, bunny, rave):
    """Makes the files that arguments name."""

    def write(name: str, content: object) -> str:
        (tmp_path / name).write_text(json.dumps(content))
        return str(tmp_path / name)

    def damaged() -> str:
        whole = bunny.read_bytes()
        (tmp_path / "broken.mkv").write_bytes(whole[: len(whole) // 3])
        return str(tmp_path / "broken.mkv")

    def fixture(name: str, model: object) -> str:
        clip(frames=3)
        lines = [
            "fixture_schema_version = 1",
            'input = "in.mkv"',
            f'model = "{model}"',
            "frames = 3",
            "max_seconds = 99",
        ]
        (tmp_path / name).write_text("\n".join(lines))
        return str(tmp_path / name)

    def picture() -> str:
        made = clip("picture.png", frames=1, codec="png", pixel_format="rgb24")
        return str(made)

    def measured() -> str:
        found, runs = tmp_path / "measured.json", ("--repeat", "1", "--warm-up", "0", "--overwrite")
        made = rave("benchmark", clip(frames=3), "-m", nearest_x2, *runs, "--json-out", found)
        assert made.status == 0, made.stderr
        return str(found)

    rich = {"audio": True, "subtitle": "one", "chapters": True, "attachment": b"font", "title": "A title"}
    hdr = {"codec": "libx265", "pixel_format": "yuv420p10le", "options": {"x265-params": MASTERING}}
    stages = [{"kind": "enhance", "model": str(nearest_x2)}] * 2
    makers = {
        "{clip}": lambda: str(clip(frames=3)),
        "{rich}": lambda: str(clip("rich.mkv", frames=4, **rich)),
        "{hdr}": lambda: str(clip("hdr.mkv", frames=2, **hdr)),
        "{broken}": damaged,
        "{picture}": picture,
        "{sample}": lambda: str(bunny),
        "{model}": lambda: str(nearest_x2),
        "{graph}": lambda: write(
            "graph.json",
            {"graph_schema_version": 1, "stages": [{"kind": "decode"}, *stages, {"kind": "encode"}]},
        ),
        "{contract}": lambda: write(
            "contract.json", {"contract_schema_version": 1, "determinism_hash_frames": 2, "max_frame_ms": 1e9}
        ),
        "{impossible}": lambda: write("impossible.json", {"contract_schema_version": 1, "max_frame_ms": 1e-6}),
        "{measured}": measured,
        "{fixture}": lambda: fixture("fixture.toml", nearest_x2),
        "{odd}": lambda: fixture("odd.toml", "no-such-model"),
        "{nothing}": lambda: str(tmp_path / "nothing"),
        "{out}": lambda: str(tmp_path / "out"),
    }

    def fill(arguments: list[str]) -> list[str]:
        (tmp_path / "out").mkdir()
        filled = []
        for argument in arguments:
            for name, make in makers.items():
                if name in argument:
                    argument = argument.replace(name, make())
            filled.append(argument)
        return filled

    return fill


MASTERING = (
    "log-level=none:hdr10=1:max-cll=1000,400:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
)


@pytest.mark.parametrize(("command", "arguments"), cases(SUCCEEDS))
def test_what_a_command_prints_is_as_its_schema_says(rave, fill, command, arguments):
    result = rave(*command.split(), *fill(arguments), "--json")
    assert result.json["ok"] is True, result.json
    check(command, result.json)


@pytest.mark.parametrize(("command", "arguments"), cases(FAILS))
def test_what_a_command_prints_where_it_fails_is_as_its_schema_says(rave, fill, command, arguments):
    result = rave(*command.split(), *fill(arguments), "--json")
    assert result.status > 1
    assert result.json["ok"] is False
    check(command, result.json)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_flag_is_told_as_the_schema_says(rave, command):
    result = rave(*command.split(), "--no-such-flag", "--json")
    assert (result.status, result.json["error"]["kind"]) == (2, "usage")
    check(command, result.json)


def test_progress_is_lines_as_the_schema_says(rave, fill, capfd):
    result = rave("upscale", *fill(["{clip}", "{out}.mkv", "-m", "{model}"]), "--progress", "jsonl")
    with open_progress("jsonl") as shown:
        shown.stopping(again=False)
    lines = [json.loads(line) for line in (result.stderr + capfd.readouterr().err).splitlines()]
    assert {line["event"] for line in lines} == {"plan", "progress", "stopping"}
    published = jsonschema.Draft202012Validator(FILES["progress"], registry=REGISTRY)
    for line in lines:
        published.validate(line)
        assert not published.is_valid({**line, "more": 1})


def test_an_audit_that_fails_brings_its_report_along_as_the_schema_says(rave, fill, monkeypatch):
    def forgetful(*arguments):
        ledger = Ledger(*arguments)
        entries.append(ledger.enter("forgotten", 5))
        return ledger

    entries: list[object] = []
    monkeypatch.setattr(job, "Ledger", forgetful)
    result = rave("upscale", *fill(["{clip}", "{out}.mkv", "-m", "{model}"]), "--audit", "--json")
    assert (result.status, result.json["error"]["report"]["audit"]["level"]) == (53, "fail")
    check("upscale", result.json)


def test_a_gpu_is_as_the_schemas_say(rave, monkeypatch):
    video = VideoEngines(
        (DecoderFormat("hevc", "4:2:0", 8, 8192, 8192, 144, 144, 7),),
        (EncoderFormat("hevc", ["4:2:0"], [8, 10], 8192, 8192, 4, 1),),
        ("something is odd",),
    )
    gpu = Gpu(0, "NVIDIA L4", "GPU-1", None, (8, 9), 24 * 10**9, 23 * 10**9, cuda_ordinal=1, video=video)
    monkeypatch.setattr(nvidia, "probe_nvidia", lambda **_: Nvidia("580.82", "13.0", (gpu,)))
    monkeypatch.setattr("rave_trio.fingerprint.probe_nvidia", nvidia.probe_nvidia)
    for command in ("devices", "fingerprint"):
        found = rave(command, "--json").json
        assert "NVIDIA L4" in json.dumps(found)
        check(command, found)


@pytest.mark.parametrize("options", [{}, {"codec": "libx265"}, {"batch": 2, "streams": 2}, {"backend": "onnxruntime"}])
def test_a_plan_for_a_gpu_is_as_the_schemas_say(machine, clip, tmp_path, options):
    machine(gpu(0), engines=BOTH)
    plan, _ = make_plan(UpscaleOptions(clip(codec="ffv1"), tmp_path / "out.mkv", device="cuda", **options))
    found = json.loads(json.dumps(plan.as_dict(), default=str))
    assert found["expected_copies"]
    schema = {"$ref": "report.json#/$defs/plan"}
    jsonschema.Draft202012Validator(schema, registry=REGISTRY).validate(found)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_schema_and_is_run_above(command):
    jsonschema.Draft202012Validator.check_schema(schema_of(command))
    assert SUCCEEDS.get(command), f"{command} is not run: add it to SUCCEEDS, and to FAILS where it can fail"


def test_every_schema_of_a_command_belongs_to_one():
    published = {name.removeprefix("command-") for name in FILES if name.startswith("command-")}
    assert published == {command.replace(" ", "-") for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_field_that_the_schema_does_not_know_is_refused(command):
    document = {"schema_version": 1, "command": command.split()[0], "ok": False, "error": dict(ERROR)}
    check(command, document)
    with pytest.raises(jsonschema.ValidationError):
        check(command, {**document, "more": 1})
    with pytest.raises(jsonschema.ValidationError):
        check(command, {**document, "error": {**ERROR, "more": 1}})
    success = schema_of(command)["$defs"]["success"]
    assert success["additionalProperties"] is False


ERROR = {"code": 800, "kind": "usage", "message": "no", "remedy": "yes"}
