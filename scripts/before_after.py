"""A picture of one frame before and after: left enlarged by repeating pixels, right as upscaled.

python scripts/before_after.py IN OUT PICTURE.png [--frame N] [--crop X,Y,W,H]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--frame", type=int, default=40)
    parser.add_argument("--crop", help="X,Y,W,H in input pixels; default the whole frame")
    chosen = parser.parse_args()
    small, large = read_frame(chosen.before, chosen.frame), read_frame(chosen.after, chosen.frame)
    scale = large.shape[0] // small.shape[0]
    if chosen.crop:
        x, y, w, h = (int(value) for value in chosen.crop.split(","))
        small = small[y : y + h, x : x + w]
        large = large[y * scale : (y + h) * scale, x * scale : (x + w) * scale]
    enlarged = small.repeat(scale, axis=0).repeat(scale, axis=1)
    gap = np.full((large.shape[0], 4, 3), 255, np.uint8)
    write_png(chosen.picture, np.concatenate([enlarged, gap, large], axis=1))
    print(f"{chosen.picture}: frame {chosen.frame}, before on the left, after on the right")


def read_frame(path: Path, index: int) -> np.ndarray:
    with av.open(path) as container:
        for at, frame in enumerate(container.decode(video=0)):
            if at == index:
                return frame.to_ndarray(format="rgb24")
    raise SystemExit(f"{path} has no frame {index}")


def write_png(path: Path, pixels: np.ndarray) -> None:
    with av.open(path, "w", format="image2", options={"update": "1"}) as out:
        stream = out.add_stream("png", rate=1)
        stream.height, stream.width, stream.pix_fmt = pixels.shape[0], pixels.shape[1], "rgb24"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")))
        out.mux(stream.encode(None))


if __name__ == "__main__":
    main()
