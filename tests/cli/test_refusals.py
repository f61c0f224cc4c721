"""Whatever is wrong with a request: one line that says so, a remedy, an exit status of its own, and nothing touched."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

RAVE = [sys.executable, "-m", "rave_trio"]


def missing(folder: Path, source: Path) -> list[object]:
    return [folder / "nothing.mkv"]


def folder_as_input(folder: Path, source: Path) -> list[object]:
    return [folder]


def empty_file(folder: Path, source: Path) -> list[object]:
    (folder / "empty.mkv").touch()
    return [folder / "empty.mkv"]


def text_file(folder: Path, source: Path) -> list[object]:
    (folder / "notes.mkv").write_text("Dear diary,\n" * 100)
    return [folder / "notes.mkv"]


def sound_only(folder: Path, source: Path) -> list[object]:
    path = folder / "sound.flac"
    with av.open(path, "w") as out:
        stream = out.add_stream("flac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return [path]


def cut_mp4(folder: Path, source: Path) -> list[object]:
    whole = folder / "whole.mp4"
    with av.open(source) as before, av.open(whole, "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        for packet in before.demux(video=0):
            if packet.pts is not None:
                packet.stream = stream
                after.mux(packet)
    cut = folder / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[:-100])
    return [cut]


def scale_five(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.mkv", "--scale", "5"]


def existing_output(folder: Path, source: Path) -> list[object]:
    (folder / "there.mkv").write_bytes(b"precious")
    return [source, folder / "there.mkv"]


def missing_folder(folder: Path, source: Path) -> list[object]:
    return [source, folder / "no" / "out.mkv"]


def folder_as_output(folder: Path, source: Path) -> list[object]:
    (folder / "out.mkv").mkdir()
    return [source, folder / "out.mkv"]


def no_such_container(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.avi"]


def codec_not_in_container(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.webm", "--codec", "libx264"]


def too_small_for_the_encoder(folder: Path, source: Path) -> list[object]:
    tiny = folder / "tiny.mkv"
    with av.open(tiny, "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 2, 2, "yuv420p"
        out.mux(stream.encode(av.VideoFrame(2, 2, "yuv420p")))
        out.mux(stream.encode(None))
    return [tiny, folder / "out.mkv", "--codec", "libx265"]


def name_too_long(folder: Path, source: Path) -> list[object]:
    return [source, folder / ("x" * 300 + ".mkv")]


def input_name_too_long(folder: Path, source: Path) -> list[object]:
    return [folder / ("x" * 300 + ".mkv")]


def dangling_link_as_output(folder: Path, source: Path) -> list[object]:
    (folder / "out.mkv").symlink_to(folder / "elsewhere.mkv")
    return [source, folder / "out.mkv"]


def output_is_input(folder: Path, source: Path) -> list[object]:
    return [source, source, "--overwrite"]


def partial_is_input(folder: Path, source: Path) -> list[object]:
    return [source.rename(folder / "film.partial.mkv"), folder / "film.mkv"]


def pipe_as_input(folder: Path, source: Path) -> list[object]:
    os.mkfifo(folder / "pipe.mkv")
    return [folder / "pipe.mkv"]


def unwritable_place(folder: Path, source: Path) -> list[object]:
    return [source, "/proc/out.mkv"]


def unknown_model(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.mkv", "-m", "animevideo-x9"]


def text_as_model(folder: Path, source: Path) -> list[object]:
    (folder / "model.onnx").write_text("not a model")
    return [source, folder / "out.mkv", "-m", folder / "model.onnx"]


def model_that_does_not_fit(folder: Path, source: Path) -> list[object]:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["in"], ["out"])],
        "nhwc",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, "h", "w", 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, "h", "w", 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "nhwc.onnx")
    return [source, folder / "out.mkv", "-m", folder / "nhwc.onnx"]


def model_of_another_scale(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.mkv", "-m", "animevideo-x4", "-s", "2"]


def gpu_that_is_not_there(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.mkv", "-d", "cuda:7"]


def quality_out_of_range(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.mkv", "--crf", "52"]


def unknown_preset(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.mkv", "--preset", "warp"]


def quality_for_a_lossless_encoder(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.mkv", "--codec", "ffv1", "--crf", "10"]


def unknown_encoder(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.mkv", "--codec", "mpeg2video"]


def unknown_flag(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.mkv", "--fast"]


def word_for_a_number(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.mkv", "--crf", "low"]


def tile_too_small(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.mkv", "--tile", "24"]


def tile_of_nothing(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.mkv", "--tile", "0"]


def batch_on_the_cpu(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.mkv", "--device", "cpu", "--batch", "4"]


def streams_of_nothing(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.mkv", "--streams", "0"]


def more_streams_than_cores(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.mkv", "--device", "cpu", "--streams", "64"]


def missing_configuration(folder: Path, source: Path) -> list[object]:
    return [source, folder / "out.mkv", "--config", folder / "none.toml"]


REFUSALS = [
    (missing, 10, "there is no file"),
    (folder_as_input, 11, "is a folder"),
    (empty_file, 13, "is empty"),
    (text_file, 14, "is not a media file"),
    (sound_only, 15, "has no video stream"),
    (cut_mp4, 16, "is cut short"),
    (existing_output, 20, "exists already"),
    (missing_folder, 21, "there is no folder"),
    (folder_as_output, 22, "is a folder"),
    (unwritable_place, 22, "/proc"),
    (partial_is_input, 29, "film.partial.mkv, which is the input"),
    (pipe_as_input, 12, "not a regular file"),
    (no_such_container, 24, ".avi"),
    (codec_not_in_container, 25, "h264"),
    (too_small_for_the_encoder, 26, "cannot encode 4x4"),
    (name_too_long, 22, "name too long"),
    (input_name_too_long, 10, "name too long"),
    (dangling_link_as_output, 20, "exists already"),
    (output_is_input, 29, "the input itself"),
    (unknown_model, 30, "animevideo-x9"),
    (text_as_model, 31, "is not an ONNX file"),
    (model_that_does_not_fit, 32, "expected one NCHW input"),
    (model_of_another_scale, 33, "enlarges 4 times"),
    (tile_too_small, 32, "too far for tiles"),
    (gpu_that_is_not_there, 40, "cuda:7"),
    (quality_out_of_range, 2, "CRF 52"),
    (unknown_preset, 2, "'warp'"),
    (quality_for_a_lossless_encoder, 2, "lossless"),
    (unknown_encoder, 2, "mpeg2video"),
    (unknown_flag, 2, "--fast"),
    (word_for_a_number, 2, "low"),
    (scale_five, 2, "5 times"),
    (tile_of_nothing, 2, "tile"),
    (batch_on_the_cpu, 2, "one by one"),
    (streams_of_nothing, 2, "streams cannot be '0'"),
    (more_streams_than_cores, 2, "cannot keep 64 streams busy"),
    (missing_configuration, 2, "none.toml"),
]


@pytest.mark.parametrize(("case", "status", "said"), REFUSALS, ids=[case.__name__ for case, _, _ in REFUSALS])
def test_a_request_that_cannot_be_is_refused_in_one_line(rave, clip, tmp_path, case, status, said):
    arguments = case(tmp_path, clip(frames=40))
    if len(arguments) == 1:
        arguments.append(tmp_path / "out.mkv")
    before = contents(tmp_path)

    plain = rave("upscale", *arguments)
    assert plain.status == status
    assert plain.stdout == ""
    assert plain.stderr.startswith("rave-trio: error")
    assert plain.stderr.count("\n") == 1
    assert said in plain.stderr

    machine = rave("upscale", *arguments, "--json")
    assert machine.status == status
    document = machine.json
    assert (document["schema_version"], document["command"], document["ok"]) == (1, "upscale", False)
    error = document["error"]
    assert said in error["message"]
    assert "\n" not in error["message"]
    assert error["remedy"]
    assert isinstance(error["code"], int)
    assert error["kind"].replace("_", "").isalpha()

    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "command", "said"),
    [
        (["--config", "{file}", "upscale"], "upscale", "--config stands before the command"),
        (["--config", "none.toml", "plan"], "plan", "no configuration file"),
        (["-v", "graph", "show"], "graph", "-v stands before the command"),
        (["--crf", "3"], None, 'Unknown command "--crf"'),
        (["frobnicate"], "frobnicate", 'Unknown command "frobnicate"'),
    ],
)
def test_the_command_is_named_wherever_it_stands(rave, tmp_path, words, command, said):
    file = tmp_path / "some.toml"
    file.write_text("[upscale]\n")
    result = rave(*(word.format(file=file) for word in words), "--json")
    assert (result.status, result.json["command"]) == (2, command)
    assert said in result.json["error"]["message"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_truncated_video_leaves_what_could_be_read_and_fails(rave, bunny, tmp_path, nearest_x2, options):
    cut, target = tmp_path / "cut.mkv", tmp_path / "out.mkv"
    cut.write_bytes(bunny.read_bytes()[:200_000])
    result = rave("upscale", cut, target, "-m", nearest_x2, *options)
    assert result.status == 16
    said = result.json["error"]["message"] if options else result.stderr
    assert "ends at 1.7" in said
    assert "of the 3.86 s that its header promises" in said
    assert not target.exists()
    with av.open(tmp_path / "out.partial.mkv") as partial:
        assert sum(1 for _ in partial.decode(video=0)) == 43
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.mkv", "out.partial.mkv"]


def spoil(clip_path: Path, target: Path, spoiled: range) -> Path:
    """Copy a clip with the content of some packets replaced."""
    with av.open(clip_path) as before, av.open(target, "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        for index, packet in enumerate(p for p in before.demux(video=0) if p.dts is not None):
            copy = av.Packet(b"\xff" * packet.size if index in spoiled else bytes(packet))
            copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
            copy.time_base, copy.is_keyframe, copy.stream = packet.time_base, packet.is_keyframe, stream
            after.mux(copy)
    return target


def test_a_damaged_frame_is_told_with_its_time(rave, clip, tmp_path, nearest_x2, reading):
    whole = clip("whole.mkv", frames=12, codec="mjpeg", pixel_format="yuvj420p")
    source = spoil(whole, tmp_path / "in.mkv", range(6, 7))
    result = rave("upscale", source, tmp_path / "out.mkv", "-m", nearest_x2)
    assert result.status == 0
    assert "1 damaged frames show the picture before them again (at 0.24 s)" in result.stderr
    assert len(reading.frames(tmp_path / "out.mkv")) == 12


def test_a_strict_run_ends_at_a_damaged_frame_with_its_time_and_keeps_what_was_before(
    rave, clip, tmp_path, nearest_x2, reading
):
    whole = clip("whole.mkv", frames=12, codec="mjpeg", pixel_format="yuvj420p")
    source = spoil(whole, tmp_path / "in.mkv", range(6, 7))
    result = rave("upscale", source, tmp_path / "out.mkv", "-m", nearest_x2, "--strict")
    assert result.status == 17
    assert "at 0.24 s: a frame cannot be decoded" in result.stderr
    assert not (tmp_path / "out.mkv").exists()
    assert len(reading.frames(tmp_path / "out.partial.mkv")) == 6


def test_damage_before_the_first_picture_is_left_out_and_said(rave, clip, tmp_path, nearest_x2, reading):
    whole = clip("whole.mkv", frames=12, codec="mjpeg", pixel_format="yuvj420p")
    source = spoil(whole, tmp_path / "in.mkv", range(3))
    result = rave("upscale", source, tmp_path / "out.mkv", "-m", nearest_x2)
    assert result.status == 0
    assert "3 packets before the first whole picture were left out" in result.stderr
    assert len(reading.frames(tmp_path / "out.mkv")) == 9


def test_a_video_of_nothing_but_damage_is_an_error(rave, clip, tmp_path, nearest_x2):
    whole = clip("whole.mkv", frames=4, codec="mjpeg", pixel_format="yuvj420p")
    source = spoil(whole, tmp_path / "in.mkv", range(4))
    result = rave("upscale", source, tmp_path / "out.mkv", "-m", nearest_x2)
    assert result.status == 14
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "whole.mkv"]


FULL_DISK = """
mount -t tmpfs -o size=300k tmpfs "$1" || exit 99
cd "$1"
shift
"$@"
status=$?
find . -type f >&2
exit $status
"""


def can_mount(folder: Path) -> bool:
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", 'mount -t tmpfs tmpfs "$1"', "sh", str(folder)]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


def test_a_full_disk_is_named_and_leaves_nothing(bunny, tmp_path, nearest_x2):
    small = tmp_path / "small"
    small.mkdir()
    if not can_mount(small):
        pytest.skip("this host lets nobody mount a small file system")
    inside = ["unshare", "--mount", "--map-root-user", "sh", "-c", FULL_DISK, "sh", str(small)]
    run = [*RAVE, "upscale", str(bunny), str(small / "out.mkv"), "-m", str(nearest_x2), "--crf", "1"]
    done = subprocess.run([*inside, *run], capture_output=True, text=True, check=False)
    assert done.returncode == 23, done.stderr
    assert "no space left while writing" in done.stderr
    assert done.stderr.count("\n") == 1, "one line, and no file left to list"


def test_a_file_size_limit_counts_as_a_full_disk(bunny, tmp_path, nearest_x2):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    done = subprocess.run(
        [*RAVE, "upscale", str(bunny), str(tmp_path / "out.mkv"), "-m", str(nearest_x2), "--crf", "1"],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    assert done.returncode == 23, done.stderr
    assert "no space left while writing" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_emulated_precision_is_refused_with_the_native_ones(rave, clip, tmp_path, monkeypatch):
    from rave_trio.inference import openvino_runtime

    monkeypatch.setattr(openvino_runtime, "native_precisions", lambda: ("fp32",))
    result = rave("upscale", clip(frames=1), tmp_path / "out.mkv", "--precision", "bf16")
    assert result.status == 41
    assert "--precision fp32" in result.stderr


def test_an_odd_size_that_the_encoder_cannot_take_is_refused_with_what_can(rave, clip, tmp_path):
    source = clip(frames=1, width=33, height=33, codec="ffv1")
    result = rave("upscale", source, tmp_path / "out.mkv", "--scale", "3")
    assert result.status == 26
    assert "99x99" in result.stderr
    assert "--codec ffv1" in result.stderr


def test_every_error_has_its_own_code_kind_and_status():
    from rave_trio import errors

    def families(kind):
        for child in kind.__subclasses__():
            yield child
            yield from families(child)

    concrete = [e for e in families(errors.RaveError) if "code" in vars(e)]
    for attribute in ("code", "kind", "exit_code"):
        values = [getattr(e, attribute) for e in concrete]
        assert len(set(values)) == len(values), attribute
    assert all(0 < e.exit_code < 128 or e is errors.Stopped for e in concrete)
    assert all(e("what happened").remedy for e in concrete)
