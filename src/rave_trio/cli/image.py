"""``rave-trio image``: one picture."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from rave_trio.cli.flags import Common, InputFile, Output, OutputFile

DEFAULT_COMMON = Common()


@Parameter(name="*")
@dataclass(frozen=True)
class ImageFlags:
    model: Annotated[str | None, Parameter(name=("--model", "-m"))] = None
    """A shipped model's name or the path of an ONNX file; by default the shipped model of the scale."""

    scale: Annotated[int | None, Parameter(name=("--scale", "-s"))] = None
    """Enlarge this many times: 2 (default), 3 or 4, or whatever --model does."""

    size: str | None = None
    """Bring the result to this exact size by Lanczos, as 1920x1080, or one side of it, as 1920x or x1080."""

    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16", "fp8", "fastest"], Parameter(name=("--precision", "-p"))
    ] = "auto"
    """Arithmetic of the network; fp32 is exact, fastest takes fp8 where that can be computed."""

    device: Annotated[str, Parameter(name=("--device", "-d"))] = "auto"
    """Where to run: auto, cpu, cuda, or cuda:1 for the second GPU."""

    tile: int | None = None
    """Cut the picture into tiles of at most this many pixels a side; by default only where memory asks for it."""

    vram_limit: str | None = None
    """Use at most this much memory for picture and network, as 2GiB or 800MB."""


DEFAULT_FLAGS = ImageFlags()


def image(
    input: InputFile,
    output: OutputFile,
    *,
    overwrite: Annotated[bool, Parameter(name=("--overwrite", "-y"), negative="")] = False,
    flags: ImageFlags = DEFAULT_FLAGS,
    common: Common = DEFAULT_COMMON,
) -> Output:
    """Upscale one picture into a PNG.

    Grey stays grey, 16 bits stay 16 bits (anything above 8 becomes 16), and transparency is kept: it is brought to the
    new size by Lanczos.  Of a file with several pictures the first is taken.

    Parameters
    ----------
    input
        A picture: PNG, JPEG, WebP, or what else FFmpeg decodes.
    output
        The PNG to make.
    overwrite
        Replace the output if it exists.
    """
    from rave_trio.color.pictures import from_frame, to_frame
    from rave_trio.inference_pipeline import InferencePipeline
    from rave_trio.media.still import check_still, read_still, write_still

    common.start_logging()
    check_still(output, input, overwrite=overwrite)
    picture, described = read_still(input)
    began = time.perf_counter()
    with InferencePipeline(**vars(flags)) as pipeline:
        found = from_frame(picture, described)
        made = to_frame(*pipeline.enhance(found), grey=found.grey, deep=found.deep)
        setting = pipeline.setting
    write_still(made, output)
    seconds = time.perf_counter() - began
    report = {
        "output": str(output),
        "width": made.width,
        "height": made.height,
        "pixel_format": made.format.name,
        "backend": setting.backend,
        "precision": setting.precision,
        "seconds": seconds,
    }
    return Output({"image": report}, f"{output}: {made.width}x{made.height} {made.format.name}, in {seconds:.1f} s")
