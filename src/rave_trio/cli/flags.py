"""Flags that several commands share, and what a command hands back for printing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from rave_trio.options import UpscaleOptions


@dataclass(frozen=True)
class Output:
    """A command's result: ``data`` for ``--json``, ``text`` for people, ``status`` for whoever called."""

    data: dict[str, Any]
    text: str
    status: int = 0


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    json: Annotated[bool, Parameter(negative="")] = False
    """Print exactly one JSON object on stdout, on success and on failure."""

    verbose: Annotated[int, Parameter(name=("--verbose", "-v"), count=True, negative="")] = 0
    """Log more on stderr; -vv for details, -vvv for every call of every stage."""

    debug: Annotated[bool, Parameter(negative="")] = False
    """The same as -vv."""

    trace_log: Annotated[bool, Parameter(negative="")] = False
    """The same as -vvv."""

    log_format: Literal["text", "json"] = "text"
    """A line of the log as key=value, or as a JSON object."""

    log_file: Path | None = None
    """Write the log to this file instead of stderr."""

    config: Path | None = None
    """Read defaults from this TOML file."""

    def start_logging(self) -> None:
        """Show the library's log as the flags say, until :func:`rave_trio.cli.logs.stop_logging`."""
        from rave_trio.cli.logs import start_logging

        verbosity = 3 if self.trace_log else max(self.verbose, 2 if self.debug else 0)
        start_logging(verbosity, self.log_format, self.log_file)


@Parameter(name="*")
@dataclass(frozen=True)
class JobFlags:
    model: Annotated[str | None, Parameter(name=("--model", "-m"))] = None
    """A shipped model's name or the path of an ONNX file; by default the shipped model of the scale."""

    scale: Annotated[int | None, Parameter(name=("--scale", "-s"))] = None
    """Enlarge this many times: 2 (default), 3 or 4, or whatever --model does."""

    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16", "fp8", "fastest"], Parameter(name=("--precision", "-p"))
    ] = "auto"
    """Arithmetic of the network; auto takes fp16 on a GPU, bf16 where the CPU computes it natively, else fp32;
    fastest takes fp8 where that can be computed (our own kernels, compute capability 8.9, 9.0 and 12.x), and auto
    elsewhere."""

    device: Annotated[str, Parameter(name=("--device", "-d"))] = "auto"
    """Where to run: auto, cpu, cuda, or cuda:1 for the second GPU; auto takes a GPU that has all that is needed."""

    backend: Literal["auto", "openvino", "compact", "onnxruntime", "tensorrt", "tensorrt-rtx"] = "auto"
    """What runs the network: openvino on the CPU, the others on a GPU, where auto takes compact for networks of the
    Compact family, else onnxruntime, never TensorRT."""

    codec: str | None = None
    """Video encoder: libx264 (default), libx265 (default for HDR), libsvtav1 (default for .webm) or ffv1 (lossless).
    On a GPU that has NVENC: h264_nvenc, hevc_nvenc and av1_nvenc, which are the defaults there."""

    crf: int | None = None
    """Quality, lower is better; default 17 for libx264, 19 for libx265, 22 for libsvtav1."""

    preset: str | None = None
    """The encoder's effort: ultrafast to placebo, default medium; 0 to 13 for libsvtav1, default 6."""

    size: str | None = None
    """Bring the result to this exact size by Lanczos, as 1920x1080; 1920x or x1080 keep the picture's shape.  Without
    --model and --scale the smallest shipped model that reaches it is used."""

    square_pixels: Annotated[bool, Parameter(negative="")] = False
    """With --size: make pixels square, instead of changing their aspect ratio so that the picture keeps its shape."""

    tile: int | None = None
    """Cut frames into tiles of at most this many pixels a side; by default only where memory asks for it."""

    batch: str = "auto"
    """Frames or tiles that a GPU computes at a time; auto measures once what is fastest and remembers it."""

    streams: str = "auto"
    """Batches that a GPU, or frames that the CPU works on at once; auto goes by the cores, on a GPU by measuring."""

    batch_deadline_ms: float = 0.0
    """Let the first frame of a batch wait this many milliseconds for others to fill it; 0 starts with what is there."""

    vram_limit: str | None = None
    """Use at most this much memory for frames and network, as 2GiB or 800MB; by default half of what is there."""

    stall_timeout: float | None = None
    """Seconds after which a native call that does not return ends the run; default 60, more for very large frames."""

    video_stream: int | None = None
    """Upscale this stream, by its number in rave-trio probe; default the best one.  Others are copied."""

    frame_rate: Annotated[str | None, Parameter()] = None
    """Frames per second of numbered pictures as input, such as 24 or 24000/1001; default 25."""

    effort: Literal["fast", "normal", "high"] | None = None
    """The encoder's effort whatever the encoder: fast and high set --preset, and high lowers the default --crf by 3."""

    pixel_format: str | None = None
    """The output's pixel format, by FFmpeg's name; default the encoder's nearest to the input's."""

    dither: Annotated[bool, Parameter(negative="")] = False
    """Round to 8 bits by an ordered pattern, which keeps slight slopes of colour from showing steps."""

    background: str | None = None
    """Lay transparent pictures on black, white, grey or #rrggbb; without it they are refused."""

    deinterlace: Literal["auto", "off", "bwdif"] = "auto"
    """auto deinterlaces frames that are flagged interlaced, bwdif all; one frame out for one in."""

    strict: Annotated[bool, Parameter(negative="")] = False
    """Fail at the first damaged frame instead of repeating the one before it."""

    drop_unsupported: Annotated[bool, Parameter(negative="")] = False
    """Leave out streams that the output's container cannot hold instead of refusing."""

    graph: Path | None = None
    """Do with the frames what this stage graph (JSON or TOML) says, in place of flags; see rave-trio graph."""

    profile: Literal["dev", "fast", "quality", "production_strict", "benchmark"] | None = None
    """Defaults for a purpose, below flags, variables and files; rave-trio graph show --profile NAME lists them."""

    contract: Path | None = None
    """Keep what this contract (JSON or TOML) asks of the run, or refuse or fail; see docs/graph.md."""

    trace: Path | None = None
    """Write a trace of the run to this file, for Perfetto or chrome://tracing."""

    report: Path | None = None
    """Write a report of the run to this file: a page (.html) or JSON (.json)."""

    metrics_port: int | None = None
    """Serve metrics for Prometheus at this port while the run lasts, and its health at /healthz; 0 takes a free one,
    which -v tells."""

    metrics_host: str = "127.0.0.1"
    """The address to serve metrics at; 0.0.0.0 lets other machines read them."""

    overwrite: Annotated[bool, Parameter(name=("--overwrite", "-y"), negative="")] = False
    """Replace the output, the trace and the report if they exist."""

    def options(self, input: Path, output: Path) -> UpscaleOptions:
        """The job that these flags ask for.  Raises GraphError for a graph or contract that makes no sense."""
        from rave_trio.contract import read_contract
        from rave_trio.graph import read_graph

        graph = None if self.graph is None else read_graph(self.graph)
        contract = None if self.contract is None else read_contract(self.contract)
        return UpscaleOptions(input=input, output=output, **{**vars(self), "graph": graph, "contract": contract})


InputFile = Annotated[Path, Parameter(name=("--input", "-i"))]
OutputFile = Annotated[Path, Parameter(name=("--output", "-o"))]
