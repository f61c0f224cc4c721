"""Where the result goes, and whether it can go there."""

from __future__ import annotations

import os
from pathlib import Path

from rave_trio import errors
from rave_trio.media.containers import CONTAINERS, Container, container_of, images_of
from rave_trio.media.sequence import ImageSequence
from rave_trio.options import UpscaleOptions


def check_output(options: UpscaleOptions) -> Container:
    """What the output will be.  Raises the OutputError that fits if the result could not be put where it should go."""
    container = container_of(options.output)
    if container is None:
        endings = ", ".join([*CONTAINERS, "or name numbered pictures (%05d.png)"])
        raise errors.ContainerUnsupported(f"{options.output} does not end in {endings}")
    try:
        _check_output(options)
        partial_path(options.output).exists()
    except OSError as error:
        raise errors.OutputNotWritable(f"{options.output} cannot be written: {error.strerror}") from error
    return container


def _check_output(options: UpscaleOptions) -> None:
    output = options.output
    folder = output.parent
    if not folder.is_dir():
        raise errors.OutputFolderMissing(f"there is no folder {folder} for {output.name}")
    if output.is_dir():
        raise errors.OutputNotWritable(f"{output} is a folder", remedy="name a file, not a folder")
    if sequence := images_of(output):
        _check_images(options, sequence)
    else:
        _check_file(options)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise errors.OutputNotWritable(f"the folder {folder} may not be written to")


def _check_images(options: UpscaleOptions, sequence: ImageSequence) -> None:
    numbers = sequence.numbers()
    if not numbers:
        return
    source = ImageSequence.of(options.input)
    inputs = [source.path(number) for number in source.numbers()[:1]] if source else [options.input]
    if any(path.exists() and sequence.path(numbers[0]).samefile(path) for path in inputs):
        raise errors.OutputIsInput(f"{options.output} names the input itself")
    if not options.overwrite:
        raise errors.OutputExists(f"{sequence.path(numbers[0])} exists already")


def _check_file(options: UpscaleOptions) -> None:
    output = options.output
    partial = partial_path(output)
    if partial.exists() and options.input.exists() and partial.samefile(options.input):
        raise errors.OutputIsInput(
            f"a stopped run would leave its partial file at {partial}, which is the input itself"
        )
    if os.path.lexists(output):
        if output.exists() and options.input.exists() and output.samefile(options.input):
            raise errors.OutputIsInput(f"{output} is the input itself")
        if not options.overwrite:
            raise errors.OutputExists(f"{output} exists already")
        if output.exists() and not os.access(output, os.W_OK):
            raise errors.OutputNotWritable(f"{output} is write-protected")


def partial_path(output: Path) -> Path:
    """Where a stopped run leaves what it has: ``out.mkv`` -> ``out.partial.mkv``."""
    return output.with_name(f"{output.stem}.partial{output.suffix}")
